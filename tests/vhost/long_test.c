// SPDX-License-Identifier: MIT
// Gigabytes of mixed traffic with checksums over loopback, seats and vhost-user; a minute of connections that come and go.

/*
 * usage: vhost_long_test [GIGABYTES [SECONDS]]; 10 and 60 if not said. Streams and records run
 * both ways at once, in sizes from one byte to above a packet's, and every byte, boundary and
 * MSG_EOR is compared with what it has to be (../vsock/lane.h).
 */
#include "../vsock/lane.h"
#include "pair.h"

#include "vhost/frontend.h"
#include "virtio/vsock_local.h"

#include <dirent.h>

#define TYPES                                                                                      \
    (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |                                  \
     BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define PAIRS   4
#define SLOTS   1000
#define LONGEST 150000

static ssize_t lane_do_send(void *end, const void *buf, size_t len, int flags)
{
    return do_send(end, buf, len, flags);
}

static ssize_t lane_do_recv(void *end, void *buf, size_t len, int *flags)
{
    return do_recv(end, buf, len, 0, flags);
}

static void lane_do_shut(void *end)
{
    uvirt_vsock_shutdown(end, SHUT_WR);
}

static void test_traffic(struct uvirt_vsock *guest, u32 guest_cid, struct uvirt_vsock *host,
                         u32 host_cid, u64 bytes, const char *name)
{
    struct lane_end ends[PAIRS][2];
    sock *p[PAIRS][2];
    u64 total = 0, done[2];
    bool good = true;

    for (unsigned i = 0; i < PAIRS; i++) {
        int type = i & 1 ? SOCK_SEQPACKET : SOCK_STREAM;
        bool out = i & 2;
        sock *l = listener(out ? host : guest, type, PORT + i, 4);

        p[i][0] = new_sock(out ? guest : host, type);
        if (do_connect(p[i][0], out ? host_cid : guest_cid, PORT + i, false) ||
            uvirt_vsock_accept(l, false, &p[i][1]))
            exit(1);
        uvirt_vsock_close(l);
    }
    for (unsigned i = 0; i < PAIRS * 2; i++) {
        struct lane l = {.send = lane_do_send,
                         .recv = lane_do_recv,
                         .shut = lane_do_shut,
                         .end = p[i / 2][i & 1],
                         .records = i & 2,
                         .eor = true,
                         .longest = LONGEST,
                         .most = bytes / (PAIRS * 2)};

        lane_start(&ends[i / 2][i & 1], &l, i / 2, i & 1);
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        for (unsigned k = 0; k < 2; k++)
            done[k] = lane_join(&ends[i][k]);
        good &= done[0] && done[0] == done[1];
        total += done[0];
        close_pair(p[i]);
    }
    ok(good && total >= bytes, "%s: %.2f GB of streams and records both ways", name,
       (double)total / 1e9);
}

static unsigned left(struct uvirt_vsock *v)
{
    return ((struct vsock_ctx *)v)->nr_socks;
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* One random thing with one of the connections. True if it was opened. */
static bool churn(struct uvirt_vsock *guest, struct uvirt_vsock *host, sock *l[4], sock *p[2],
                  unsigned *seed)
{
    static u8 buf[70000];
    unsigned kind = (unsigned)rand_r(seed) % 4, what = (unsigned)rand_r(seed) % 16;
    int type = kind & 1 ? SOCK_SEQPACKET : SOCK_STREAM;
    sock **end = &p[rand_r(seed) & 1];

    if (!p[0]) {
        p[0] = new_sock(kind & 2 ? guest : host, type);
        if (do_connect(p[0], kind & 2 ? VMADDR_CID_HOST : GUEST_CID, PORT + kind, false) ||
            uvirt_vsock_accept(l[kind], false, &p[1]))
            exit(1);
        return true;
    }
    if (what == 0) {
        close_pair(p);
        p[0] = p[1] = NULL;
    } else if (what == 1) {
        uvirt_vsock_shutdown(*end, rand_r(seed) % 3);
    } else if (what < 9) {
        do_send(*end, buf, 1 + (size_t)rand_r(seed) % sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        do_recv(*end, buf, sizeof(buf), MSG_DONTWAIT, NULL);
    }
    return false;
}

static void test_churn(struct uvirt_vsock *guest, struct uvirt_vsock *host, int seconds)
{
    static sock *p[SLOTS][2];
    time_t until = time(NULL) + seconds;
    unsigned seed = 5, fds = open_fds();
    sock *l[4];
    u64 opened = 0, ops = 0;

    for (u32 i = 0; i < 4; i++)
        l[i] = listener(i & 2 ? host : guest, i & 1 ? SOCK_SEQPACKET : SOCK_STREAM, PORT + i, 8);
    while (time(NULL) < until) {
        for (int i = 0; i < 1000; i++, ops++)
            opened += churn(guest, host, l, p[rand_r(&seed) % SLOTS], &seed);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (p[i][0])
            close_pair(p[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        uvirt_vsock_close(l[i]);
    ok(opened > SLOTS, "%llu connections opened in %llu random operations",
       (unsigned long long)opened, (unsigned long long)ops);
    is_u64(left(guest), 0, "no socket is left in the guest");
    is_u64(left(host), 0, "nor on the host");
    is_u64(open_fds(), fds, "nor a descriptor");
}

static void test_seats(u64 bytes, int seconds)
{
    struct vsock_driver_options o = {.features = TYPES | BIT(VIRTIO_F_RING_PACKED),
                                     .rx_size = 44 + 65536};
    struct uvirt_vsock *host = context(VMADDR_CID_HOST, false, false);
    struct uvirt_vsock *guest = context(GUEST_CID, false, false);
    struct virtio_vsock_local *local;

    if (virtio_vsock_local_create(host, guest, &o, &local))
        exit(99);
    test_traffic(guest, GUEST_CID, host, VMADDR_CID_HOST, bytes, "seats in one process");
    test_churn(guest, host, seconds);
    virtio_vsock_local_free(local);
    uvirt_vsock_free(guest);
    uvirt_vsock_free(host);
}

static void test_loopback(u64 bytes)
{
    struct uvirt_vsock *v = context(GUEST_CID, false, false);

    test_traffic(v, VMADDR_CID_LOCAL, v, VMADDR_CID_LOCAL, bytes, "loopback");
    uvirt_vsock_free(v);
}

static void test_vhost(u64 bytes)
{
    char path[] = "/tmp/uvirt-vhost-XXXXXX/device";
    struct vsock_driver_options o = {.features = TYPES, .rx_size = 44 + 65536, .tx_descs = 2};
    struct uvirt_vsock *guest = context(77, false, false);
    struct vhost_frontend *f;
    struct device d = {0};

    *strrchr(path, '/') = 0;
    if (!mkdtemp(path))
        exit(99);
    path[strlen(path)] = '/';
    device_open(&d, path);
    if (vhost_frontend_create(guest, path, &o, &f))
        exit(1);
    test_traffic(guest, GUEST_CID, d.host, VMADDR_CID_HOST, bytes, "vhost-user");
    vhost_frontend_free(f);
    uvirt_vsock_free(guest);
    device_close(&d);
    uvirt_vsock_free(d.host);
    *strrchr(path, '/') = 0;
    rmdir(path);
}

int main(int argc, char **argv)
{
    double gigabytes = argc > 1 ? strtod(argv[1], NULL) : 10;
    int seconds = argc > 2 ? atoi(argv[2]) : 60;

    lane_begin();
    test_loopback((u64)(gigabytes * 1e9 / 3));
    test_seats((u64)(gigabytes * 1e9 / 3), seconds);
    test_vhost((u64)(gigabytes * 1e9 / 3));
    return tap_done();
}
