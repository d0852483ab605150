// SPDX-License-Identifier: MIT
// /dev/vhost-vsock's ioctls: a driver's seat through them to host programs on Unix sockets, and the kernel's errors.
#include "pair.h"

#include "vhost/kernel.h"
#include "virtio/turn.h"
#include "virtio/vsock_driver.h"

#include <endian.h>
#include <linux/vhost.h>
#include <poll.h>
#include <sys/mman.h>

#define CID 42

static struct vhost_vsock *v;
static char dir[] = "/tmp/uvirt-vhost-XXXXXX";

static long call(u32 request, void *arg)
{
    return vhost_vsock_ioctl(v, request, (unsigned long)arg);
}

static long state(u32 request, u32 index, u32 num)
{
    struct vhost_vring_state s = {index, num};
    long rc = call(request, &s);

    return rc || request != VHOST_GET_VRING_BASE ? rc : (long)s.num;
}

static long file(u32 request, u32 index, int fd)
{
    struct vhost_vring_file f = {index, fd};

    return call(request, &f);
}

static long set_cid(u64 cid)
{
    return call(VHOST_VSOCK_SET_GUEST_CID, &cid);
}

static long set_running(int on)
{
    return call(VHOST_VSOCK_SET_RUNNING, &on);
}

static long table(u32 nr, const struct vhost_memory_region *r)
{
    struct {
        struct vhost_memory head;
        struct vhost_memory_region regions[2];
    } t = {.head = {.nregions = nr}};

    memcpy(t.regions, r, nr * sizeof(*r));
    return call(VHOST_SET_MEM_TABLE, &t);
}

static void test_errors(void)
{
    u64 n = 0, features = BIT(63);
    struct vhost_vring_addr a = {.index = 0, .desc_user_addr = 8};
    struct vhost_memory_region r = {.memory_size = PAGE_SIZE, .userspace_addr = 1};

    is_u64(call(0x1234af, NULL), -ENOTTY, "an ioctl that there is not");
    is_u64(call(VHOST_RESET_OWNER, NULL), -ENOTTY, "vsock has no RESET_OWNER");
    is_u64(call(VHOST_GET_FEATURES, NULL), -EFAULT, "no memory for the answer");
    is_u64(call(VHOST_GET_FEATURES, &n), 0, "features");
    ok(n & BIT(VIRTIO_F_VERSION_1) && n & BIT(VIRTIO_VSOCK_F_SEQPACKET), "SEQPACKET is among them");
    is_u64(call(VHOST_SET_FEATURES, &features), -EOPNOTSUPP, "one that was not offered");
    is_u64(set_cid(2), -EINVAL, "CID 2");
    is_u64(set_cid(VMADDR_CID_ANY), -EINVAL, "CID ANY");
    is_u64(set_cid(1ull << 32), -EINVAL, "a CID above 32 bits");
    is_u64(state(VHOST_SET_VRING_NUM, 0, 16), -EPERM, "a ring without owner");
    is_u64(set_running(1), -EPERM, "running without owner");
    is_u64(call(VHOST_SET_OWNER, NULL), 0, "an owner");
    is_u64(call(VHOST_SET_OWNER, NULL), -EBUSY, "another");
    is_u64(state(VHOST_SET_VRING_NUM, 2, 16), -ENOBUFS, "a third ring");
    is_u64(state(VHOST_SET_VRING_NUM, 0, 0), -EINVAL, "no entries");
    is_u64(state(VHOST_SET_VRING_NUM, 0, 100), -EINVAL, "no power of two");
    is_u64(state(VHOST_SET_VRING_BASE, 0, 1 << 16), -EINVAL, "an index above 16 bits");
    is_u64(call(VHOST_SET_VRING_ADDR, &a), -EINVAL, "misaligned");
    is_u64(file(VHOST_SET_VRING_KICK, 0, 12345), -EBADF, "a descriptor that is none");
    is_u64(table(1, &r), -EINVAL, "memory in the midst of a page");
    is_u64(set_running(1), -EFAULT, "running without rings");
}

/* The driver's seat on these ioctls. */
struct seat {
    struct vsock_bus bus;
    struct virtio_turn turn;
    struct virtio_vsock_driver *driver;
    int kick[3], irq[3];
    u8 *hva;
    gpa_t gpa;
    _Atomic bool stop;
};

static struct seat *of(struct vsock_bus *b)
{
    return container_of(b, struct seat, bus);
}

static int bus_open(struct vsock_bus *b, u64 *ret_features)
{
    int rc = set_running(0);

    return rc ? rc : call(VHOST_GET_FEATURES, ret_features);
}

static int bus_setup(struct vsock_bus *b, u64 features, int fd, u8 *hva, gpa_t gpa, u64 size)
{
    struct vhost_memory_region r = {gpa, size, (uintptr_t)hva, 0};
    int rc = call(VHOST_SET_FEATURES, &features);

    of(b)->hva = hva;
    of(b)->gpa = gpa;
    return rc ? rc : table(1, &r);
}

/* The VMM knows this, not the device. */
static int bus_cid(struct vsock_bus *b, u64 *ret)
{
    *ret = CID;
    return 0;
}

static int bus_queue(struct vsock_bus *b, unsigned i, const struct virtq_driver *q)
{
    struct seat *s = of(b);
    u64 at = (uintptr_t)s->hva - s->gpa;
    struct vhost_vring_addr a = {.index = i,
                                 .desc_user_addr = q->desc + at,
                                 .used_user_addr = q->used + at,
                                 .avail_user_addr = q->avail + at};

    if (i == 2)
        return 0; /* the VMM's own */
    return state(VHOST_SET_VRING_NUM, i, q->config.size) || state(VHOST_SET_VRING_BASE, i, 0) ||
                   call(VHOST_SET_VRING_ADDR, &a) || file(VHOST_SET_VRING_KICK, i, s->kick[i]) ||
                   file(VHOST_SET_VRING_CALL, i, s->irq[i])
               ? -EIO
               : 0;
}

static int bus_start(struct vsock_bus *b)
{
    return set_running(1);
}

static void bus_kick(struct vsock_bus *b, unsigned i)
{
    (void)eventfd_write(of(b)->kick[i], 1);
}

static const struct vsock_bus_ops ops = {bus_open,  bus_setup, bus_cid,
                                         bus_queue, bus_start, bus_kick};

static void work(void *opaque)
{
    struct seat *s = opaque;

    if (s->driver)
        virtio_vsock_driver_pump(s->driver);
}

static void flush(void *opaque)
{
    virtio_turn_run(&((struct seat *)opaque)->turn);
}

static void *irqs(void *opaque)
{
    struct seat *s = opaque;
    eventfd_t n;

    while (!s->stop) {
        struct pollfd p[2] = {{s->irq[0], POLLIN, 0}, {s->irq[1], POLLIN, 0}};

        poll(p, 2, 100);
        for (int i = 0; i < 2; i++)
            (void)eventfd_read(s->irq[i], &n);
        virtio_turn_run(&s->turn);
    }
    return NULL;
}

/* What the host's program does: echo until the end. */
static void *echo(void *opaque)
{
    int l = *(int *)opaque, fd = accept(l, NULL, NULL);
    static u8 buf[70000];
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
        if (send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    close(fd);
    return NULL;
}

static void test_program(struct uvirt_vsock *guest, int type, u32 port)
{
    static u8 out[50000], in[50000];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int l = socket(AF_UNIX, type, 0);
    sock *k = new_sock(guest, type);
    pthread_t thread;
    bool good = true;

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/%d_%u", dir, CID, port);
    if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 1))
        exit(99);
    pthread_create(&thread, NULL, echo, &l);
    if (!is_u64(do_connect(k, VMADDR_CID_HOST, port, false), 0, "connect to a host program"))
        exit(1);
    for (int i = 0; i < 100 && good; i++) {
        size_t len = 1 + (size_t)i * 499, got = 0;

        memset(out, i, len);
        good = do_send(k, out, len, 0) == (ssize_t)len;
        while (good && got < len) {
            ssize_t n = do_recv(k, in + got, sizeof(in) - got, 0, NULL);

            good = n > 0 && (type == SOCK_STREAM || n == (ssize_t)len);
            got += good ? (size_t)n : 0;
        }
        good = good && got == len && !memcmp(in, out, len);
    }
    ok(good, "%s through the ioctls and back", type == SOCK_STREAM ? "bytes" : "records");
    uvirt_vsock_close(k);
    pthread_join(thread, NULL);
    close(l);
    unlink(a.sun_path);
}

static void test_seat(void)
{
    struct vsock_driver_options o = {.features = BIT(VIRTIO_VSOCK_F_SEQPACKET) |
                                                 BIT(VIRTIO_RING_F_EVENT_IDX) |
                                                 BIT(VIRTIO_RING_F_INDIRECT_DESC),
                                     .tx_descs = 2,
                                     .flush = flush};
    struct uvirt_vsock *guest = context(CID, false, false);
    struct seat s = {.bus.ops = &ops};
    pthread_t thread;
    u32 base;

    o.opaque = &s;
    for (int i = 0; i < 3; i++) {
        s.kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        s.irq[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    virtio_turn_init(&s.turn, work, &s);
    is_u64(set_cid(CID), 0, "a CID");
    if (!is_u64(virtio_vsock_driver_create(guest, &s.bus, &o, &s.driver), 0, "a driver"))
        exit(1);
    pthread_create(&thread, NULL, irqs, &s);
    is_u64(set_cid(CID + 1), -EBUSY, "the CID of a device that runs");
    is_u64(state(VHOST_SET_VRING_NUM, 0, 16), -EBUSY, "a ring that runs");
    test_program(guest, SOCK_STREAM, 7000);
    test_program(guest, SOCK_SEQPACKET, 7001);
    base = state(VHOST_GET_VRING_BASE, 1, 0);
    is_u64(set_running(0), 0, "stopped");
    is_u64(state(VHOST_GET_VRING_BASE, 1, 0), base, "it stands where it stood");
    is_u64(set_running(1), 0, "and goes on");
    test_program(guest, SOCK_STREAM, 7002);
    s.stop = true;
    pthread_join(thread, NULL);
    set_running(0);
    virtio_vsock_driver_free(s.driver);
    uvirt_vsock_free(guest);
    for (int i = 0; i < 3; i++) {
        close(s.kick[i]);
        close(s.irq[i]);
    }
}

int main(void)
{
    struct vhost_vsock *other;
    u64 cid = CID;

    if (!mkdtemp(dir) || vhost_vsock_create(dir, &v) || vhost_vsock_create(dir, &other))
        return 99;
    test_errors();
    test_seat();
    is_u64(vhost_vsock_ioctl(other, VHOST_VSOCK_SET_GUEST_CID, (unsigned long)&cid), -EADDRINUSE,
           "a CID that another device of the directory has");
    vhost_vsock_free(v);
    is_u64(vhost_vsock_ioctl(other, VHOST_VSOCK_SET_GUEST_CID, (unsigned long)&cid), 0,
           "it is free when that has gone");
    vhost_vsock_free(other);
    is_u64(rmdir(dir), 0, "no socket is left behind");
    return tap_done();
}
