// SPDX-License-Identifier: MIT
// The driver's seat facing the device's: every layout of rings and descriptors, threads on both sides, resets.
#include "transfer.h"

#include "virtio/vsock.h"
#include "virtio/vsock_local.h"
#include "vsock/sock.h"

#define GUEST_CID 3
#define BYTES     (3u << 20)
#define TYPES                                                                                      \
    (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |                                  \
     BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM))
#define PACKED BIT(VIRTIO_F_RING_PACKED)
#define EVENT  BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIR  BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define ORDER  BIT(VIRTIO_F_IN_ORDER)

struct layout {
    const char *name;
    u64 features;
    u16 queue_size;
    unsigned tx_descs, rx_descs;
    u32 rx_size;
    bool marker;
};

static const struct layout layouts[] = {
    {"split", TYPES, 128, 1, 1, 0, false},
    {"split, all features", TYPES | EVENT | INDIR | ORDER, 128, 2, 2, 0, false},
    {"split, many descriptors", TYPES | EVENT, 256, 7, 5, 65580, false},
    {"split, one buffer", TYPES | EVENT, 1, 1, 1, 100, false},
    {"packed", TYPES | PACKED, 128, 1, 1, 0, false},
    {"packed, all features", TYPES | PACKED | EVENT | INDIR | ORDER, 128, 2, 2, 0, false},
    {"packed, many descriptors", TYPES | PACKED | EVENT, 99, 7, 5, 65580, false},
    {"packed, tiny buffers", TYPES | PACKED | EVENT, 4, 2, 1, 45 + 500, false},
    {"packed, marker", TYPES | PACKED | EVENT | INDIR, 64, 3, 1, 0, true},
};

struct seats {
    struct uvirt_vsock *host, *guest;
    struct virtio_vsock_local *local;
};

static void open_seats(struct seats *s, const struct layout *l)
{
    struct vsock_driver_options o = {.features = l->features,
                                     .queue_size = l->queue_size,
                                     .rx_size = l->rx_size,
                                     .rx_descs = l->rx_descs,
                                     .tx_descs = l->tx_descs,
                                     .marker = l->marker};

    s->host = context(VMADDR_CID_HOST, false, l->marker);
    s->guest = context(GUEST_CID, false, l->marker);
    if (virtio_vsock_local_create(s->host, s->guest, &o, &s->local))
        exit(99);
}

static unsigned left(struct uvirt_vsock *v)
{
    return ((struct vsock_ctx *)v)->nr_socks;
}

static void close_seats(struct seats *s, const char *name)
{
    is_u64(left(s->host) + left(s->guest), 0, "%s: no socket is left", name);
    virtio_vsock_local_free(s->local);
    uvirt_vsock_free(s->guest);
    uvirt_vsock_free(s->host);
}

/* (p)[0] in the guest, (p)[1] on the host. */
static void join(struct seats *s, int type, bool from_guest, sock *p[2])
{
    sock *l = listener(from_guest ? s->host : s->guest, type, PORT, 4);
    int rc;

    p[!from_guest] = new_sock(from_guest ? s->guest : s->host, type);
    rc = do_connect(p[!from_guest], from_guest ? VMADDR_CID_HOST : GUEST_CID, PORT, false);
    if (rc || uvirt_vsock_accept(l, false, &p[from_guest])) {
        ok(false, "connect: %d", rc);
        exit(1);
    }
    uvirt_vsock_close(l);
}

static void test_layout(const struct layout *l)
{
    struct seats s;
    sock *p[2];

    open_seats(&s, l);
    if (!l->marker) {
        join(&s, SOCK_STREAM, true, p);
        transfer(p, BYTES, l->name);
        close_pair(p);
    }
    join(&s, SOCK_SEQPACKET, false, p);
    transfer(p, BYTES, l->name);
    close_pair(p);
    close_seats(&s, l->name);
}

struct waiting {
    sock *s;
    u8 buf[30000];
    ssize_t n;
    int flags;
};

static void *wait_for_data(void *arg)
{
    struct waiting *w = arg;

    w->n = do_recv(w->s, w->buf, sizeof(w->buf), 0, &w->flags);
    return NULL;
}

/* What is sent to a reader that waits, its buffers known: it need not be queued. */
static void test_waiting_reader(int type, size_t len, ssize_t n, int flags, const char *what)
{
    static u8 data[60000];
    struct vsock_sock *sk;
    struct waiting w = {0};
    struct seats s;
    pthread_t thread;
    bool waits = false;
    sock *p[2];

    open_seats(&s, &layouts[1]);
    join(&s, type, true, p);
    sk = (struct vsock_sock *)p[1];
    w.s = p[1];
    for (size_t i = 0; i < len; i++)
        data[i] = (u8)(i * 7 + i / 256);
    pthread_create(&thread, NULL, wait_for_data, &w);
    while (!waits) {
        vsock_lock(sk->ctx);
        waits = sk->direct;
        vsock_unlock(sk->ctx);
    }
    do_send(p[0], data, len, MSG_EOR);
    pthread_join(thread, NULL);
    ok(w.n == n && w.flags == flags && !memcmp(w.buf, data, (size_t)n), "%s", what);
    vsock_lock(sk->ctx);
    ok(!sk->direct && sk->credit.fwd_cnt == (u32)(type == SOCK_STREAM ? n : (ssize_t)len),
       "... and its credit goes back");
    vsock_unlock(sk->ctx);
    close_pair(p);
    close_seats(&s, "a waiting reader");
}

static void test_waiting_readers(void)
{
    test_waiting_reader(SOCK_STREAM, 20000, 20000, 0, "a waiting reader, STREAM");
    test_waiting_reader(SOCK_STREAM, 60000, 30000, 0, "more than it has room for");
    test_waiting_reader(SOCK_SEQPACKET, 30000, 30000, MSG_EOR, "a waiting reader, SEQPACKET");
    test_waiting_reader(SOCK_SEQPACKET, 30001, 30000, MSG_EOR | MSG_TRUNC, "a record too long");
}

static void test_reset(void)
{
    struct seats s;
    sock *p[2], *l;
    char c;

    open_seats(&s, &layouts[5]);
    l = listener(s.guest, SOCK_STREAM, PORT + 1, 4);
    join(&s, SOCK_STREAM, true, p);
    virtio_vsock_local_reset(s.local);
    is_u64(do_send(p[0], "x", 1, MSG_DONTWAIT), -ECONNRESET, "TRANSPORT_RESET: the guest's end");
    is_u64(do_recv(p[1], &c, 1, MSG_DONTWAIT, NULL), -ECONNRESET, "... and the host's");
    close_pair(p);
    p[1] = new_sock(s.host, SOCK_STREAM);
    is_u64(do_connect(p[1], GUEST_CID, PORT + 1, false), 0, "listeners survive it");
    uvirt_vsock_accept(l, false, &p[0]);
    close_pair(p);
    uvirt_vsock_close(l);
    close_seats(&s, "reset");
}

static void test_types(void)
{
    static const struct {
        u64 features;
        int stream, seqpacket;
        const char *name;
    } cases[] = {
        {0, 0, -ESOCKTNOSUPPORT, "no type bits: streams"},
        {BIT(VIRTIO_VSOCK_F_STREAM), 0, -ESOCKTNOSUPPORT, "F_STREAM"},
        {BIT(VIRTIO_VSOCK_F_SEQPACKET), 0, 0, "F_SEQPACKET implies streams"},
        {BIT(VIRTIO_VSOCK_F_SEQPACKET) | BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM), -ENETUNREACH, 0,
         "F_SEQPACKET alone"},
        {TYPES, 0, 0, "both"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct layout l = {cases[i].name, cases[i].features, 16, 1, 1, 0, false};
        sock *listen[2], *a;
        struct seats s;

        open_seats(&s, &l);
        listen[0] = listener(s.host, SOCK_STREAM, PORT, 4);
        listen[1] = listener(s.host, SOCK_SEQPACKET, PORT + 1, 4);
        a = new_sock(s.guest, SOCK_STREAM);
        is_u64(do_connect(a, 2, PORT, false), cases[i].stream, "%s: STREAM", l.name);
        uvirt_vsock_close(a);
        a = new_sock(s.guest, SOCK_SEQPACKET);
        is_u64(do_connect(a, 2, PORT + 1, false), cases[i].seqpacket, "%s: SEQPACKET", l.name);
        uvirt_vsock_close(a);
        uvirt_vsock_close(listen[0]);
        uvirt_vsock_close(listen[1]);
        close_seats(&s, l.name);
    }
}

int main(void)
{
    test_types();
    test_waiting_readers();
    test_reset();
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
        test_layout(&layouts[i]);
    return tap_done();
}
