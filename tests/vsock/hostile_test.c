// SPDX-License-Identifier: MIT
// A guest that sends whatever it likes, packet by packet: each known fault of others has a test.
#include "pair.h"
#include "vsock/sock.h"
#include "vsock/transport/device.h"

#include <endian.h>

#define GUEST 3
#define RW    VIRTIO_VSOCK_OP_RW
#define EOM   VIRTIO_VSOCK_SEQ_EOM
#define EOR   VIRTIO_VSOCK_SEQ_EOR

static struct uvirt_vsock *v;
static struct vsock_device *dev;
static u8 big[262144], back[300000];
static u32 peer_buf = 262144, peer_fwd; /* what the guest claims */

static struct vsock_ctx *ctx(void)
{
    return (struct vsock_ctx *)v;
}

static void inject(u32 port, u16 type, u16 op, u32 flags, const void *data, u32 len)
{
    struct vsock_pkt *p = vsock_pkt_alloc(len);

    p->hdr = (struct vsock_hdr){.src_cid = GUEST,
                                .dst_cid = 2,
                                .src_port = port,
                                .dst_port = PORT,
                                .len = len,
                                .type = type,
                                .op = op,
                                .flags = flags,
                                .buf_alloc = peer_buf,
                                .fwd_cnt = peer_fwd};
    p->len = len;
    memcpy(p->data, data, len);
    vsock_device_input(dev, p);
}

/* The next packet for the guest, payload into (back); op 0: none. */
static struct vsock_hdr next(void)
{
    struct vsock_pkt *p = vsock_device_next(dev, NULL);
    struct vsock_hdr h = {0};

    if (p) {
        h = p->hdr;
        memcpy(back, p->data, p->len);
        vsock_device_done(dev, p);
    }
    return h;
}

static void skip_all(void)
{
    while (next().type)
        ;
}

/* The last packet for the guest has this op. */
static bool ends_in(u16 op)
{
    struct vsock_hdr h, last = {0};

    while ((h = next()).type)
        last = h;
    return last.type && last.op == op;
}

static void open_device(bool marker)
{
    struct vsock_device_config config = {.guest_cid = GUEST, .marker = marker};

    v = context(VMADDR_CID_HOST, true, false);
    if (vsock_device_create(v, &config, &dev))
        exit(99);
    vsock_device_start(dev, true, true);
    peer_buf = 262144;
    peer_fwd = 0;
}

static void close_device(const char *name)
{
    vsock_device_free(dev);
    dev = NULL;
    is_u64(ctx()->nr_socks, 0, "%s: nothing is left", name);
    uvirt_vsock_free(v);
}

/* A connection that the guest opened from (port). */
static sock *connected(u16 type, u32 port)
{
    sock *l = listener(v, type == 1 ? SOCK_STREAM : SOCK_SEQPACKET, PORT, 4), *s;

    inject(port, type, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    s = do_accept(l);
    uvirt_vsock_close(l);
    if (!s || next().op != VIRTIO_VSOCK_OP_RESPONSE)
        exit(99);
    return s;
}

static void test_types(void)
{
    sock *l;

    open_device(false);
    l = listener(v, SOCK_STREAM, PORT, 4);
    inject(9, 2, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "Firecracker #5595: REQUEST of another type: RST");
    inject(9, 7, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "unknown type: RST");
    inject(9, 1, RW, 0, "x", 1);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "data without a connection: RST");
    inject(9, 1, VIRTIO_VSOCK_OP_RST, 0, "", 0);
    ok(!next().type, "Firecracker, Cloud Hypervisor #8692: RST without a connection: nothing");
    vsock_device_start(dev, true, false);
    uvirt_vsock_close(l);
    l = listener(v, SOCK_SEQPACKET, PORT, 4);
    inject(9, 2, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "CVE-2024-43873: SEQPACKET that was not negotiated: RST");
    uvirt_vsock_close(l);
    close_device("types");
}

static void test_credit(void)
{
    sock *s;

    open_device(false);
    s = connected(1, 9);
    peer_buf = UINT32_MAX;
    inject(9, 1, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, "", 0);
    is_u64(do_send(s, big, sizeof(big), MSG_DONTWAIT), 262144, "CVE-2026-23086: our buffer caps");
    is_u64(do_send(s, big, 1, MSG_DONTWAIT), -EAGAIN, "what a huge buf_alloc would allow");
    peer_buf = 100;
    inject(9, 1, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, "", 0);
    is_u64(do_send(s, big, 1, MSG_DONTWAIT), -EAGAIN, "CVE-2026-23069: a shrinking buf_alloc");
    peer_buf = 262144;
    peer_fwd = 0x80000000;
    inject(9, 1, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, "", 0);
    is_u64(do_send(s, big, 1, MSG_DONTWAIT), -EAGAIN, "a forged fwd_cnt");
    skip_all();
    advance_ms(19);
    uvirt_vsock_run_timers(v);
    ok(!next().type, "a sender without credit waits a little");
    advance_ms(2);
    uvirt_vsock_run_timers(v);
    for (int i = 0; i < 1000; i++) {
        advance_ms(21);
        uvirt_vsock_run_timers(v);
    }
    ok(next().op == VIRTIO_VSOCK_OP_CREDIT_REQUEST, "and asks");
    ok(!next().type, "once, as long as the guest does not take it");
    peer_fwd = 262144;
    inject(9, 1, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, "", 0);
    is_u64(do_send(s, big, 10, MSG_DONTWAIT), 10, "an honest answer lets it go on");
    inject(9, 1, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, "", 0);
    ok(ends_in(VIRTIO_VSOCK_OP_CREDIT_UPDATE), "libkrun: a STREAM's CREDIT_REQUEST is answered");
    for (int i = 0; i < 4; i++)
        inject(9, 1, RW, 0, big, 65536);
    ok(!next().type, "as much as was granted is taken");
    inject(9, 1, RW, 0, big, 1);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "a byte more: RST");
    is_u64(get_int(s, SO_ERROR), ENOBUFS, "and ENOBUFS");
    is_u64(do_recv(s, back, 1000, 0, NULL), 1000, "what was granted stays readable");
    uvirt_vsock_close(s);
    close_device("credit");
}

/* A guest caps its window at its own, smaller buffer: updates must come in time for that. */
static void test_updates(void)
{
    u64 sent = 0, known = 0;
    bool stalled = false;
    sock *s;

    open_device(false);
    peer_buf = 65536;
    s = connected(1, 9);
    while (sent < 4 << 20 && !stalled) {
        struct vsock_hdr h;

        while (sent + 4096 - known <= 65536) {
            inject(9, 1, RW, 0, big, 4096);
            sent += 4096;
        }
        if (do_recv(s, back, 20000, MSG_DONTWAIT, NULL) <= 0)
            stalled = true;
        while ((h = next()).type)
            known = h.fwd_cnt;
    }
    ok(!stalled,
       "libkrun #656: one-way transfer on explicit CREDIT_UPDATEs, guest's window below ours");
    uvirt_vsock_close(s);
    close_device("updates");
}

static void test_memory(void)
{
    unsigned n = 0;
    sock *s;

    open_device(false);
    s = connected(2, 9);
    while (n < 1000000 && !next().type) {
        inject(9, 2, RW, EOM, "", 0);
        n++;
    }
    ok(n > 1000 && n < 20000, "CVE-2026-53132: a flood of empty messages ends: %u", n);
    is_u64(get_int(s, SO_ERROR), ENOBUFS, "in ENOBUFS");
    uvirt_vsock_close(s);
    s = connected(2, 9);
    for (n = 0; n < 1000000; n++)
        inject(9, 2, RW, 0, "", 0);
    ok(!next().type && !((struct vsock_sock *)s)->credit.rx_pkts, "empty pieces cost nothing");
    uvirt_vsock_close(s);
    skip_all();
    s = connected(1, 10);
    for (n = 0; n < 262144; n++)
        inject(10, 1, RW, 0, "x", 1);
    ok(!next().type && ((struct vsock_sock *)s)->credit.rx_pkts <= 65,
       "single bytes are merged up to the last one of the window");
    is_u64(do_recv(s, back, sizeof(back), 0, NULL), 262144, "and all arrive");
    uvirt_vsock_close(s);
    close_device("memory");
}

static void test_records(void)
{
    sock *s;
    int f;

    open_device(false);
    s = connected(2, 9);
    inject(9, 2, RW, EOR, "ab", 2);
    ok(!(uvirt_vsock_poll(s) & POLLIN), "a piece of a message is nothing to read");
    is_u64(do_recv(s, back, 9, MSG_DONTWAIT, &f), -EAGAIN, "yet");
    inject(9, 2, RW, 0, big, 5000);
    inject(9, 2, RW, EOM, "cd", 2);
    inject(9, 2, RW, EOM | EOR, "next", 4);
    inject(9, 2, RW, EOM, "", 0);
    ok(do_recv(s, back, sizeof(back), 0, &f) == 5004 && !f && !memcmp(back, "ab", 2) &&
           !memcmp(back + 5002, "cd", 2),
       "Firecracker #5595: pieces up to EOM make a message; EOR is not invented");
    ok(do_recv(s, back, sizeof(back), 0, &f) == 4 && f == MSG_EOR, "EOR with EOM");
    ok(uvirt_vsock_poll(s) & POLLIN, "an empty message is there to read");
    ok(do_recv(s, back, 9, MSG_DONTWAIT, &f) == 0, "Firecracker #5595: and is read as such");
    is_u64(do_recv(s, back, 9, MSG_DONTWAIT, &f), -EAGAIN, "it is not the end");
    inject(9, 2, VSOCK_OP_SEQ_BEGIN, 0, "\0\0\0\0\5\0\0\0", 8);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "markers on an eom connection: RST");
    is_u64(get_int(s, SO_ERROR), EPROTO, "and EPROTO");
    uvirt_vsock_close(s);
    close_device("records");
}

static void mark(u16 op, u32 cnt, u32 len)
{
    u32 m[2] = {htole32(cnt), htole32(len)};

    inject(9, 2, op, 0, m, 8);
}

static void test_markers(void)
{
    sock *s;
    int f;

    open_device(true);
    s = connected(2, 9);
    inject(9, 2, RW, EOM, "x", 1);
    ok(ends_in(VIRTIO_VSOCK_OP_RST) && get_int(s, SO_ERROR) == EPROTO,
       "a message without a marker on a marker connection: RST");
    uvirt_vsock_close(s);
    s = connected(2, 9);
    mark(VSOCK_OP_SEQ_BEGIN, 7, 4);
    inject(9, 2, RW, 0, "ab", 2);
    inject(9, 2, RW, VSOCK_RW_EOR, "cd", 2);
    mark(VSOCK_OP_SEQ_END, 8, 0);
    ok(do_recv(s, back, 9, 0, &f) == 4 && f == MSG_EOR && !memcmp(back, "abcd", 4), "a record");
    mark(VSOCK_OP_SEQ_BEGIN, 3, 5004);
    inject(9, 2, RW, VSOCK_RW_EOR, "abcd", 4);
    inject(9, 2, RW, 0, big, 5000);
    mark(VSOCK_OP_SEQ_END, 4, 0);
    ok(do_recv(s, back, sizeof(back), 0, &f) == 5004 && f == MSG_EOR,
       "EOR on any packet of a record is its");
    mark(VSOCK_OP_SEQ_BEGIN, 9, 4);
    inject(9, 2, RW, 0, "ab", 2);
    mark(VSOCK_OP_SEQ_END, 10, 0);
    mark(VSOCK_OP_SEQ_BEGIN, 11, 2);
    inject(9, 2, RW, 0, "abc", 3);
    mark(VSOCK_OP_SEQ_END, 12, 0);
    mark(VSOCK_OP_SEQ_BEGIN, 13, 2);
    inject(9, 2, RW, 0, "ab", 2);
    mark(VSOCK_OP_SEQ_END, 99, 0);
    mark(VSOCK_OP_SEQ_BEGIN, 15, 9);
    inject(9, 2, RW, 0, "ab", 2);
    mark(VSOCK_OP_SEQ_BEGIN, UINT32_MAX, 3);
    inject(9, 2, RW, 0, "new", 3);
    mark(VSOCK_OP_SEQ_END, 0, 0);
    ok(do_recv(s, back, 9, MSG_DONTWAIT, &f) == 3 && !f && !memcmp(back, "new", 3),
       "short, long, misnumbered and abandoned records are skipped; numbers wrap");
    mark(VSOCK_OP_SEQ_BEGIN, 1, 0);
    mark(VSOCK_OP_SEQ_END, 2, 0);
    ok(uvirt_vsock_poll(s) & POLLIN && !do_recv(s, back, 9, MSG_DONTWAIT, &f), "an empty record");
    skip_all();
    is_u64(do_send(s, "data", 4, MSG_EOR), 4, "send");
    ok(next().op == VSOCK_OP_SEQ_BEGIN && !memcmp(back, "\0\0\0\0\4\0\0\0", 8),
       "BEGIN, little endian");
    ok(next().flags == VSOCK_RW_EOR && !memcmp(back, "data", 4), "RW with EOR");
    ok(next().op == VSOCK_OP_SEQ_END && !memcmp(back, "\1\0\0\0\0\0\0\0", 8), "END, one more");
    mark(VSOCK_OP_SEQ_BEGIN, 3, 100);
    inject(9, 2, RW, 0, "ab", 2);
    inject(9, 2, VSOCK_OP_SEQ_END, 0, "short", 5);
    ok(ends_in(VIRTIO_VSOCK_OP_RST), "a marker that is none: RST");
    uvirt_vsock_close(s);
    for (int i = 0, dead = 0; i < 100000 && !dead; i++) {
        if (!i)
            s = connected(2, 9);
        mark(VSOCK_OP_SEQ_BEGIN, i, 1000);
        inject(9, 2, RW, 0, big, 500);
        while (next().op == VIRTIO_VSOCK_OP_RST)
            dead = 1;
    }
    ok(!get_int(s, SO_ERROR), "abandoned records give their credit back");
    uvirt_vsock_close(s);
    close_device("markers");
}

static void answer_connect(sock *c, u16 op)
{
    struct sockaddr_vm a;
    struct vsock_pkt *p = vsock_pkt_alloc(0);

    uvirt_vsock_getsockname(c, &a);
    p->hdr = (struct vsock_hdr){.src_cid = GUEST,
                                .dst_cid = 2,
                                .src_port = 50,
                                .type = 1,
                                .op = op,
                                .dst_port = a.svm_port,
                                .buf_alloc = 262144};
    vsock_device_input(dev, p);
}

static void test_connect(void)
{
    sock *c, *l;

    open_device(false);
    c = new_sock(v, SOCK_STREAM);
    is_u64(do_connect(c, GUEST, 50, true), -EINPROGRESS, "connect");
    is_u64(do_connect(c, GUEST, 50, true), -EALREADY, "EALREADY");
    ok(next().op == VIRTIO_VSOCK_OP_REQUEST && !next().type, "REQUEST and nothing before RESPONSE");
    advance_ms(1999);
    is_u64(uvirt_vsock_run_timers(v), 1, "2 seconds");
    advance_ms(1);
    uvirt_vsock_run_timers(v);
    is_u64(get_int(c, SO_ERROR), ETIMEDOUT, "ETIMEDOUT");
    answer_connect(c, VIRTIO_VSOCK_OP_RESPONSE);
    ok(next().op == VIRTIO_VSOCK_OP_RST,
       "CVE-2022-48786: it has left the table: a late RESPONSE gets RST");
    is_u64(do_connect(c, GUEST, 50, true), -EINPROGRESS, "retry");
    skip_all();
    answer_connect(c, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    ok(next().op == VIRTIO_VSOCK_OP_RST && get_int(c, SO_ERROR) == EPROTO,
       "libkrun #267: CREDIT_REQUEST before RESPONSE: EPROTO");
    do_connect(c, GUEST, 50, true);
    answer_connect(c, VIRTIO_VSOCK_OP_RST);
    is_u64(get_int(c, SO_ERROR), ECONNRESET, "RST: ECONNRESET");
    l = listener(v, SOCK_STREAM, PORT, 1);
    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, false), 0,
           "CVE-2024-50264, CVE-2025-21756: then over another transport");
    uvirt_vsock_close(l);
    uvirt_vsock_close(c);
    set_ms(c = new_sock(v, SOCK_STREAM), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, 100);
    do_connect(c, GUEST, 50, true);
    advance_ms(101);
    is_u64(get_int(c, SO_ERROR), ETIMEDOUT, "a timeout of one's own");
    do_connect(c, GUEST, 50, true);
    uvirt_vsock_close(c);
    ok(!next().type, "closing while connecting takes the REQUEST back");
    close_device("connect");
}

static void test_reuse(void)
{
    sock *l, *a, *b;

    open_device(false);
    l = listener(v, SOCK_STREAM, PORT, 4);
    inject(9, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    a = do_accept(l);
    uvirt_vsock_close(a);
    inject(9, 1, VIRTIO_VSOCK_OP_RST, 0, "", 0);
    inject(9, 1, VIRTIO_VSOCK_OP_RST, 0, "", 0);
    skip_all();
    inject(9, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    b = do_accept(l);
    ok(b && next().op == VIRTIO_VSOCK_OP_RESPONSE && !next().type,
       "Cloud Hypervisor #8692: RST crossing RST, then the ports again: no stale RST");
    inject(9, 1, RW, 0, "data", 4);
    inject(9, 1, VIRTIO_VSOCK_OP_SHUTDOWN, 3, "", 0);
    inject(9, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    a = do_accept(l);
    ok(a && do_recv(b, back, 9, 0, NULL) == 4 && !do_recv(b, back, 9, 0, NULL),
       "unread data of a finished connection does not hold the ports");
    skip_all();
    uvirt_vsock_close(b);
    inject(9, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    ok(ends_in(VIRTIO_VSOCK_OP_RST) && get_int(a, SO_ERROR) == ECONNRESET,
       "REQUEST on a live connection: both ends start over");
    uvirt_vsock_close(a);
    for (int i = 0; i < 40; i++) {
        inject(100 + i, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
        inject(100 + i, 1, VIRTIO_VSOCK_OP_RST, 0, "", 0);
        if ((a = do_accept(l)))
            uvirt_vsock_close(a);
    }
    skip_all();
    inject(99, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    a = do_accept(l);
    ok(a != NULL, "CVE-2026-46214: the backlog's count survives connections that die in it");
    uvirt_vsock_close(a);
    uvirt_vsock_close(l);
    close_device("reuse");
}

/* The transport goes away under its sockets. */
static void test_gone(void)
{
    sock *s, *t, *c;
    char x;

    open_device(false);
    s = connected(1, 9);
    t = connected(2, 10);
    c = new_sock(v, SOCK_STREAM);
    do_connect(c, GUEST, 50, true);
    inject(9, 1, RW, 0, "data", 4);
    inject(10, 2, RW, 0, "part", 4);
    do_send(s, big, 1000, 0);
    vsock_device_free(dev);
    dev = NULL;
    is_u64(do_recv(s, back, 9, 0, NULL), 4,
           "CVE-2018-14625, CVE-2021-26708, CVE-2025-38461: the device is gone: data stays");
    is_u64(do_recv(s, &x, 1, 0, NULL), -ECONNRESET, "then ECONNRESET");
    is_u64(do_send(s, &x, 1, 0), -EPIPE, "EPIPE");
    is_u64(do_recv(t, &x, 1, 0, NULL), -ECONNRESET, "a record cut off is none");
    is_u64(get_int(c, SO_ERROR), ECONNRESET, "connecting ends, too");
    is_u64(do_connect(c, GUEST, 50, true), -ENODEV, "no route any more");
    uvirt_vsock_shutdown(s, SHUT_RDWR);
    set_int(s, SO_RCVLOWAT, 5);
    set_size(s, SO_VM_SOCKETS_BUFFER_SIZE, 1000);
    uvirt_vsock_close(s);
    uvirt_vsock_close(t);
    uvirt_vsock_close(c);
    close_device("gone");
}

static void test_lots(void)
{
    static sock *s[1000];
    sock *l;
    unsigned seed = 1;

    open_device(false);
    l = listener(v, SOCK_STREAM, PORT, 4);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned k = rand_r(&seed) % 1000;

        if (!s[k]) {
            inject(5000 + k, 1, VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
            s[k] = do_accept(l);
        } else if (rand_r(&seed) % 3) {
            do_send(s[k], big, rand_r(&seed) % 5000, MSG_DONTWAIT);
            inject(5000 + k, 1, RW, 0, big, rand_r(&seed) % 5000);
        } else {
            if (rand_r(&seed) % 2)
                inject(5000 + k, 1, VIRTIO_VSOCK_OP_RST, 0, "", 0);
            uvirt_vsock_close(s[k]);
            inject(5000 + k, 1, VIRTIO_VSOCK_OP_RST, 0, "", 0);
            s[k] = NULL;
        }
        if (i % 16 == 0)
            skip_all();
    }
    for (unsigned k = 0; k < 1000; k++) {
        if (s[k])
            uvirt_vsock_close(s[k]);
    }
    uvirt_vsock_close(l);
    close_device("1000 connections at random");
}

int main(void)
{
    test_types();
    test_credit();
    test_updates();
    test_memory();
    test_records();
    test_markers();
    test_connect();
    test_reuse();
    test_gone();
    test_lots();
    return tap_done();
}
