// SPDX-License-Identifier: MIT
// Front ends that break vhost-user's rules: each loses its connection, and nothing else is lost or leaked.
#include "pair.h"

#include "vhost/frontend.h"
#include "vhost/user.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MEMORY 0x10000ul

static struct device d;
static char path[] = "/tmp/uvirt-vhost-XXXXXX/device";

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static struct vhost_user_msg msg(u32 request, u32 size)
{
    return (struct vhost_user_msg){
        .hdr = {.request = request, .flags = VHOST_USER_VERSION, .size = size}};
}

static struct vhost_user_msg number(u32 request, u64 n, int fd)
{
    struct vhost_user_msg m = msg(request, 8);

    m.payload.number = n;
    m.nr_fds = fd >= 0;
    m.fds[0] = fd;
    return m;
}

static struct vhost_user_msg state(u32 request, u32 index, u32 num)
{
    struct vhost_user_msg m = msg(request, 8);

    m.payload.state = (struct vhost_user_vring_state){index, num};
    return m;
}

static struct vhost_user_msg table(u64 gpa, u64 size, u64 address, u64 offset, int fd)
{
    struct vhost_user_msg m = msg(VHOST_USER_SET_MEM_TABLE, 8 + 32);

    m.payload.table.nr = 1;
    m.payload.table.regions[0] = (struct vhost_user_region){gpa, size, address, offset};
    m.nr_fds = 1;
    m.fds[0] = fd;
    return m;
}

/* The device has hung up on (fd). */
static bool is_over(int fd)
{
    char c;

    return recv(fd, &c, 1, 0) <= 0;
}

/* True if (m) makes the device hang up with (why) in what it says. */
static bool refused(struct vhost_user_msg m, const char *why)
{
    unsigned ends = d.ends;
    int fd = dial_to(path);
    bool yes = !vhost_user_send(fd, &m) && is_over(fd);

    close(fd);
    while (d.ends == ends)
        usleep(1000);
    return yes && strstr(d.why, why);
}

static void test_messages(void)
{
    int memory = memfd_create("m", MFD_CLOEXEC), pipes[2], null = open("/dev/zero", O_RDWR);
    struct vhost_user_msg m;

    if (ftruncate(memory, MEMORY) || pipe(pipes))
        exit(99);
    ok(refused(msg(0, 0), "request 0"), "request 0");
    ok(refused(msg(99, 0), "request 99"), "a request that there is not");
    ok(refused(msg(VHOST_USER_SET_LOG_BASE, 16), "request 6"),
       "CVE-2020-10722: a log, which was not offered");
    for (u32 request = 31; request <= 32; request++) { /* GET_ and SET_INFLIGHT_FD */
        m = msg(request, 24);
        m.nr_fds = 1;
        m.fds[0] = memory;
        ok(refused(m, request == 31 ? "request 31" : "request 32"),
           "CVE-2020-10726, CVE-2022-0669: inflight memory, which was not offered");
    }
    ok(refused(msg(VHOST_USER_GET_FEATURES, 8), "GET_FEATURES"), "a payload where there is none");
    ok(refused(msg(VHOST_USER_SET_FEATURES, 4), "SET_FEATURES"), "half a payload");
    ok(refused(number(VHOST_USER_SET_FEATURES, BIT(63), -1), "SET_FEATURES"),
       "features that were not offered");
    ok(refused(number(VHOST_USER_SET_FEATURES, 0, null), "descriptors"),
       "a descriptor on a message that takes none (CVE-2019-14818)");
    ok(refused(number(VHOST_USER_SET_PROTOCOL_FEATURES, ~0ull, -1), "PROTOCOL"),
       "protocol features that were not offered");
    ok(refused(state(VHOST_USER_SET_VRING_NUM, 3, 128), "VRING_NUM"),
       "a ring that there is not (rust-vmm/vhost #211)");
    ok(refused(state(VHOST_USER_SET_VRING_NUM, 0, 0), "VRING_NUM"), "a ring without entries");
    ok(refused(state(VHOST_USER_SET_VRING_NUM, 0, 1 << 16), "VRING_NUM"), "a ring too large");
    ok(refused(state(VHOST_USER_SET_VRING_ENABLE, 0, 2), "ENABLE"), "neither on nor off");
    ok(refused(state(VHOST_USER_GET_VRING_BASE, 200, 0), "VRING_BASE"),
       "CVE-2020-10723: the base of no ring");
    ok(refused(number(VHOST_USER_SET_VRING_KICK, 0, -1), "KICK"), "a kick without its descriptor");
    ok(refused(number(VHOST_USER_SET_VRING_KICK, 0x100, null), "KICK"), "a kick with one too many");
    ok(refused(number(VHOST_USER_SET_VRING_KICK, 7, null), "KICK"), "a kick for no ring");
    ok(refused(number(VHOST_USER_SET_VRING_KICK, 0, null), "KICK"),
       "a kick that cannot be waited for");
    ok(refused(number(VHOST_USER_SET_VRING_CALL, 0x1000, -1), "CALL"), "unknown bits");
    ok(refused(table(0, MEMORY, 0, 0, pipes[0]), "MEM_TABLE"), "memory that is a pipe");
    ok(refused(table(0, MEMORY, 0, 0, null), "MEM_TABLE"), "memory that is a device");
    ok(refused(table(0, 2 * MEMORY, 0, 0, memory), "MEM_TABLE"), "memory that is shorter");
    ok(refused(table(0, MEMORY, 0, PAGE_SIZE, memory), "MEM_TABLE"),
       "CVE-2018-1059: memory that ends before");
    ok(refused(table(0, MEMORY, 0, ~0ull & PAGE_MASK, memory), "MEM_TABLE"),
       "CVE-2020-10722: an offset that wraps");
    ok(refused(table(~0ull & PAGE_MASK, MEMORY, 0, 0, memory), "MEM_TABLE"), "a place that wraps");
    ok(refused(table(0, 0, 0, 0, memory), "MEM_TABLE"), "no memory at all");
    ok(refused(table(12, MEMORY, 0, 0, memory), "MEM_TABLE"), "memory in the midst of a page");
    m = table(0, MEMORY, 0, 0, memory);
    m.payload.table.nr = 9;
    ok(refused(m, "MEM_TABLE"), "more regions than a table holds");
    m.payload.table.nr = 2;
    ok(refused(m, "MEM_TABLE"), "more regions than descriptors");
    m = msg(VHOST_USER_ADD_MEM_REG, 40);
    m.payload.one.region = (struct vhost_user_region){0, MEMORY, 0, 0};
    ok(refused(m, "ADD_MEM_REG"), "a region without its descriptor");
    m.hdr.request = VHOST_USER_REM_MEM_REG;
    ok(refused(m, "REM_MEM_REG"), "a region that is not there");
    m = msg(VHOST_USER_SET_CONFIG, 20);
    ok(refused(m, "SET_CONFIG"), "configuration that is not the driver's");
    m = msg(VHOST_USER_GET_FEATURES, 0);
    m.hdr.flags = 2;
    ok(refused(m, "malformed"), "another version");
    m.hdr.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
    ok(refused(m, "GET_FEATURES"), "an answer to nothing");
    close(memory);
    close(pipes[0]);
    close(pipes[1]);
    close(null);
}

/* Rings whose addresses are no memory, or whose ends are not. */
static void test_translation(void)
{
    static const struct {
        const char *name;
        u64 desc, avail, used;
    } rows[] = {
        {"CVE-2020-10725: descriptors outside of all memory", 1ull << 40, 0x1000, 0x2000},
        {"CVE-2020-10725: an address that wraps", ~15ull, 0x1000, 0x2000},
        {"CVE-2018-1059: descriptors that begin in memory and end in none", MEMORY - 64, 0, 0x2000},
        {"CVE-2018-1059: a used ring that does", 0, 0x1000, MEMORY - 64},
    };
    int memory = memfd_create("m", MFD_CLOEXEC), kick = eventfd(0, EFD_CLOEXEC);

    if (ftruncate(memory, MEMORY))
        exit(99);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        unsigned ends = d.ends;
        int fd = dial_to(path);
        struct vhost_user_msg m[] = {
            number(VHOST_USER_SET_FEATURES, BIT(VIRTIO_F_VERSION_1), -1),
            table(0, MEMORY, 0, 0, memory),
            state(VHOST_USER_SET_VRING_NUM, 0, 64),
            number(VHOST_USER_SET_VRING_KICK, 0, kick),
            msg(VHOST_USER_SET_VRING_ADDR, sizeof(struct vhost_user_vring_addr)),
        };

        m[4].payload.addr = (struct vhost_user_vring_addr){
            .index = 0, .desc = rows[i].desc, .avail = rows[i].avail, .used = rows[i].used};
        for (size_t k = 0; k < ARRAY_SIZE(m); k++)
            vhost_user_send(fd, &m[k]);
        ok(is_over(fd), "%s", rows[i].name);
        close(fd);
        while (d.ends == ends)
            usleep(1000);
    }
    close(memory);
    close(kick);
}

/* Bytes that are no whole message. */
static void test_pieces(void)
{
    struct vhost_user_msg m = msg(VHOST_USER_GET_FEATURES, 0);
    u8 *bytes = (u8 *)&m.hdr;
    unsigned ends = d.ends;
    int fd = dial_to(path);
    bool good = true;

    for (size_t i = 0; i < sizeof(m.hdr); i++) {
        good = good && send(fd, bytes + i, 1, MSG_NOSIGNAL) == 1;
        usleep(1000);
    }
    ok(good && recv(fd, &m, 20, MSG_WAITALL) == 20 && m.hdr.size == 8, "a message byte by byte");
    m = msg(VHOST_USER_SET_FEATURES, 0xffffffff);
    ok(send(fd, &m.hdr, sizeof(m.hdr), MSG_NOSIGNAL) == 12 && is_over(fd), "a payload of 4 GiB");
    close(fd);
    fd = dial_to(path);
    ok(send(fd, &m.hdr, 5, MSG_NOSIGNAL) == 5, "half a header");
    close(fd);
    while (d.ends < ends + 2)
        usleep(1000);
}

/* More descriptors than any message has: none may stay open. */
static void test_many_fds(void)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(20 * sizeof(int))] = {0};
    struct vhost_user_hdr h = {VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 8};
    struct iovec v = {&h, sizeof(h)};
    struct msghdr mh = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    unsigned ends = d.ends;
    int fd = dial_to(path);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(20 * sizeof(int));
    for (int i = 0; i < 20; i++)
        ((int *)(void *)CMSG_DATA(c))[i] = 0;
    ok(sendmsg(fd, &mh, MSG_NOSIGNAL) == 12 && is_over(fd), "20 descriptors on one message");
    close(fd);
    while (d.ends == ends)
        usleep(1000);
}

/* Repeated SET_VRING_* with descriptors replace what was there (CVE-2019-14818). */
static void test_replaced_fds(void)
{
    unsigned before = open_fds(), ends = d.ends;
    int fd = dial_to(path), e = eventfd(0, 0), memory = memfd_create("m", 0);
    struct vhost_user_msg m;
    bool good = !ftruncate(memory, MEMORY);

    for (int i = 0; i < 50 && good; i++) {
        m = number(VHOST_USER_SET_VRING_KICK, 0, e);
        good = !vhost_user_send(fd, &m);
        m = number(VHOST_USER_SET_VRING_CALL, 1, e);
        good = good && !vhost_user_send(fd, &m);
        m = table(0, MEMORY, 0, 0, memory);
        good = good && !vhost_user_send(fd, &m);
        m = msg(VHOST_USER_GET_FEATURES, 0);
        good = good && !vhost_user_send(fd, &m) && recv(fd, &m, 20, MSG_WAITALL) == 20;
    }
    ok(good && open_fds() < before + 10, "descriptors that are set again and again");
    close(fd);
    close(e);
    close(memory);
    while (d.ends == ends)
        usleep(1000);
    is_u64(open_fds(), before, "none is left when the front end has gone");
}

/* A front end that never reads its answers loses the connection, not the device. */
static void test_deaf(void)
{
    struct vhost_user_msg m = msg(VHOST_USER_GET_FEATURES, 0);
    unsigned ends = d.ends;
    int fd = dial_to(path);

    while (!vhost_user_send(fd, &m) || errno == EAGAIN) {
        if (d.ends != ends)
            break;
    }
    while (d.ends == ends)
        usleep(1000);
    ok(strstr(d.why, "not read") || strstr(d.why, "GET_FEATURES"), "answers that are not read");
    close(fd);
}

/* After all that, the device is as good as new. */
static void test_alive(void)
{
    struct vsock_driver_options o = {.features = BIT(VIRTIO_VSOCK_F_SEQPACKET)};
    struct uvirt_vsock *guest = context(77, false, false);
    struct vhost_frontend *f;
    sock *p[2], *l;

    if (!is_u64(vhost_frontend_create(guest, path, &o, &f), 0, "a proper front end is served"))
        exit(1);
    l = listener(d.host, SOCK_SEQPACKET, PORT, 4);
    p[0] = new_sock(guest, SOCK_SEQPACKET);
    is_u64(do_connect(p[0], VMADDR_CID_HOST, PORT, false), 0, "connect");
    uvirt_vsock_accept(l, false, &p[1]);
    transfer(p, 300000, "records");
    close_pair(p);
    uvirt_vsock_close(l);
    vhost_frontend_free(f);
    uvirt_vsock_free(guest);
}

int main(void)
{
    unsigned fds;

    *strrchr(path, '/') = 0;
    if (!mkdtemp(path))
        return 99;
    path[strlen(path)] = '/';
    device_open(&d, path);
    fds = open_fds();
    test_messages();
    test_translation();
    is_u64(open_fds(), fds, "descriptors of messages that were refused are closed");
    test_pieces();
    test_many_fds();
    test_replaced_fds();
    test_deaf();
    test_alive();
    device_close(&d);
    uvirt_vsock_free(d.host);
    *strrchr(path, '/') = 0;
    rmdir(path);
    return tap_done();
}
