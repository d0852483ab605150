// SPDX-License-Identifier: MIT
// A guest whose only program drives the vsock device itself, in a framing of its choice, and echoes records or sends them.

/*
 * It is /init: "echo FRAMING" answers at port 1234, "talk FRAMING" sends records to port 99 of the host and checks what
 * comes back; then it powers off. The driver is uvirt's own seat (src/virtio/vsock_driver.h) on virtio-mmio's registers,
 * reached through /dev/mem. It wants its memory at DRIVER_GPA, 4 GiB: the VM has RAM there, and the kernel was told
 * (mem=) to leave it alone.
 */
#include "uvirt/vsock.h"
#include "virtio/turn.h"
#include "virtio/vsock_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define WINDOWS    0xd0000000ul /* one page a device: src/vmm/board.h */
#define WINDOWS_NR 8
#define ECHO_PORT  1234
#define TALK_PORT  99
#define RECORDS    200
#define RECORD_MAX 70000
#define FEATURES                                                                                   \
    (BIT(VIRTIO_VSOCK_F_SEQPACKET) | BIT(0) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                   \
     BIT(VIRTIO_RING_F_EVENT_IDX))

static void end(void) __attribute__((noreturn));

static void end(void)
{
    fflush(stdout);
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

static void die(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    end();
}

/* --- the bus --- */

static struct bus {
    struct vsock_bus bus;
    int mem;
    volatile u8 *regs;
} the_bus = {.mem = -1};

static u32 get(unsigned reg)
{
    return *(volatile u32 *)(the_bus.regs + reg);
}

static void set(unsigned reg, u32 value)
{
    *(volatile u32 *)(the_bus.regs + reg) = value;
}

static void set_status(u32 more)
{
    set(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | more);
}

static int mmio_open(struct vsock_bus *b, u64 *ret_features)
{
    u64 features;

    set(VIRTIO_MMIO_STATUS, 0);
    set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    features = (u64)get(VIRTIO_MMIO_DEVICE_FEATURES) << 32;
    set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    *ret_features = features | get(VIRTIO_MMIO_DEVICE_FEATURES);
    return 0;
}

static int mmio_setup(struct vsock_bus *b, u64 features, int fd, u8 *hva, gpa_t gpa, u64 size)
{
    /* The driver's memory becomes that at (gpa). */
    if (mmap(hva, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, the_bus.mem, (off_t)gpa) ==
        MAP_FAILED)
        return -errno;
    for (u32 i = 0; i < 2; i++) {
        set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        set(VIRTIO_MMIO_DRIVER_FEATURES, (u32)(features >> 32 * i));
    }
    set_status(VIRTIO_CONFIG_S_FEATURES_OK);
    return get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK ? 0 : -EPROTO;
}

static int mmio_guest_cid(struct vsock_bus *b, u64 *ret_cid)
{
    *ret_cid = get(VIRTIO_MMIO_CONFIG);
    return 0;
}

static void set_address(unsigned low, unsigned high, gpa_t gpa)
{
    set(low, (u32)gpa);
    set(high, (u32)(gpa >> 32));
}

static int mmio_queue(struct vsock_bus *b, unsigned i, const struct virtq_driver *q)
{
    set(VIRTIO_MMIO_QUEUE_SEL, i);
    if (get(VIRTIO_MMIO_QUEUE_NUM_MAX) < q->config.size)
        return -EINVAL;
    set(VIRTIO_MMIO_QUEUE_NUM, q->config.size);
    set_address(VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, q->desc);
    set_address(VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, q->avail);
    set_address(VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH, q->used);
    set(VIRTIO_MMIO_QUEUE_READY, 1);
    return 0;
}

static int mmio_start(struct vsock_bus *b)
{
    set_status(VIRTIO_CONFIG_S_DRIVER_OK);
    return 0;
}

static void mmio_kick(struct vsock_bus *b, unsigned i)
{
    set(VIRTIO_MMIO_QUEUE_NOTIFY, i);
}

static const struct vsock_bus_ops mmio_ops = {.open = mmio_open,
                                              .setup = mmio_setup,
                                              .guest_cid = mmio_guest_cid,
                                              .queue = mmio_queue,
                                              .start = mmio_start,
                                              .kick = mmio_kick};

/* The registers of the vsock device. */
static void find_device(void)
{
    mknod("/mem", S_IFCHR | 0600, makedev(1, 1));
    the_bus.mem = open("/mem", O_RDWR | O_SYNC | O_CLOEXEC);
    if (the_bus.mem < 0)
        die("/dev/mem");
    the_bus.bus.ops = &mmio_ops;
    for (unsigned i = 0; i < WINDOWS_NR; i++) {
        the_bus.regs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, the_bus.mem,
                            (off_t)(WINDOWS + i * 4096));
        if (the_bus.regs == MAP_FAILED)
            die("the device's registers");
        if (get(VIRTIO_MMIO_DEVICE_ID) == VIRTIO_ID_VSOCK)
            return;
    }
    errno = ENODEV;
    die("vsock");
}

/* --- the driver, which is asked to work every millisecond: no interrupt comes here --- */

static struct virtio_vsock_driver *driver;
static struct virtio_turn turn;

static void work(void *opaque)
{
    if (driver)
        virtio_vsock_driver_pump(driver);
}

static void flush(void *opaque)
{
    virtio_turn_run(&turn);
}

static void *poll_device(void *opaque)
{
    const struct timespec ms = {0, 1000000};

    for (;;) {
        virtio_turn_run(&turn);
        nanosleep(&ms, NULL);
    }
}

static struct uvirt_vsock *bring_up(bool marker)
{
    struct vsock_driver_options o = {.features = FEATURES, .marker = marker, .flush = flush};
    struct uvirt_vsock_config config = {.size = sizeof(config), .cid = 3, .marker = marker};
    struct uvirt_vsock *v;
    pthread_t thread;
    int rc;

    find_device();
    virtio_turn_init(&turn, work, NULL);
    if (uvirt_vsock_create(&config, &v))
        die("context");
    pthread_mutex_lock(&turn.lock);
    rc = virtio_vsock_driver_create(v, &the_bus.bus, &o, &driver);
    pthread_mutex_unlock(&turn.lock);
    errno = -rc;
    if (rc || pthread_create(&thread, NULL, poll_device, NULL))
        die("driver");
    return v;
}

/* --- what is said: the records of vsock_user.c --- */

static u8 buf[RECORD_MAX + 1];

static size_t record_len(unsigned i)
{
    return 1 + i * 7919u % (i % 10 == 0 ? RECORD_MAX : 600);
}

static u8 byte_at(size_t i)
{
    return (u8)(i * 2654435761u >> 13);
}

static void echo(struct uvirt_vsock *v)
{
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = ECHO_PORT};
    struct uvirt_vsock_socket *l, *s;
    struct iovec all = {buf, sizeof(buf)};
    unsigned records = 0;
    ssize_t n;

    if (uvirt_vsock_socket(v, SOCK_SEQPACKET, &l) || uvirt_vsock_bind(l, &a, sizeof(a)) ||
        uvirt_vsock_listen(l, 4))
        die("listen");
    printf("ready\n");
    fflush(stdout);
    if (uvirt_vsock_accept(l, false, &s))
        die("accept");
    for (;; records++) {
        int flags = 0;
        struct iovec one = {buf, 0};

        n = uvirt_vsock_recv(s, &all, 1, &flags);
        if (n <= 0)
            break;
        one.iov_len = (size_t)n;
        if (uvirt_vsock_send(s, &one, 1, flags & MSG_EOR) != n)
            die("send");
    }
    if (n < 0)
        die("recv");
    printf("echoed %u records\n", records);
    uvirt_vsock_close(s);
    sleep(1); /* for the other end to hear of it */
}

/* One at a time, there and back. */
static void talk(struct uvirt_vsock *v)
{
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = TALK_PORT};
    struct uvirt_vsock_socket *s;
    unsigned r;

    if (uvirt_vsock_socket(v, SOCK_SEQPACKET, &s) || uvirt_vsock_connect(s, &a, sizeof(a), false))
        die("connect");
    for (r = 0; r < RECORDS; r++) {
        struct iovec one = {buf, record_len(r)}, all = {buf, sizeof(buf)};
        int flags = 0, eor = r % 3 ? 0 : MSG_EOR;
        ssize_t n;

        for (size_t i = 0; i < one.iov_len; i++)
            buf[i] = byte_at(r + i);
        if (uvirt_vsock_send(s, &one, 1, eor) < 0)
            die("send");
        memset(buf, 0, sizeof(buf));
        n = uvirt_vsock_recv(s, &all, 1, &flags);
        if (n < 0)
            die("recv");
        if ((size_t)n != one.iov_len || (flags & MSG_EOR) != eor)
            break;
        for (size_t i = 0; i < one.iov_len; i++)
            if (buf[i] != byte_at(r + i))
                n = -1;
        if (n < 0)
            break;
    }
    printf("%u records came back\n", r);
    uvirt_vsock_close(s);
    sleep(1);
}

int main(int argc, char **argv)
{
    struct uvirt_vsock *v;

    if (argc != 3)
        end();
    v = bring_up(!strcmp(argv[2], "marker"));
    if (!strcmp(argv[1], "echo"))
        echo(v);
    else
        talk(v);
    end();
}
