// SPDX-License-Identifier: MIT
// The virtio-vsock device between a host context and a driver: layouts, features, bad rings, resets.
#include "seat.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#define BOTH                                                                                       \
    (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |                                  \
     BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM))

static u8 big[262144], back[262144];

/* A connection made by the guest (from_guest) or by the host: end[0] the guest's, [1] the host's. */
static bool connect_ends(struct seat *s, int type, bool from_guest, sock *end[2])
{
    sock *l = listener(from_guest ? s->host : s->guest, type, PORT, 4);
    sock *c = new_sock(from_guest ? s->guest : s->host, type), *a;
    int rc = do_connect(c, from_guest ? VMADDR_CID_HOST : GUEST_CID, PORT, true);

    seat_run(s);
    a = do_accept(l);
    uvirt_vsock_close(l);
    end[!from_guest] = c;
    end[from_guest] = a;
    return rc == -EINPROGRESS && a && !get_int(c, SO_ERROR);
}

static void close_ends(struct seat *s, sock *end[2])
{
    uvirt_vsock_close(end[0]);
    seat_run(s);
    uvirt_vsock_close(end[1]);
    seat_run(s);
}

/* Send (len) bytes of (big) and read them at the other end; true if they are the same. */
static bool carry(struct seat *s, sock *from, sock *to, size_t len, int flags, int *out)
{
    size_t sent = 0, got = 0;

    memset(back, 0, sizeof(back));
    while (got < len) {
        ssize_t n = sent < len ? do_send(from, big + sent, len - sent, flags | MSG_DONTWAIT) : 0;

        sent += n > 0 ? n : 0;
        seat_run(s);
        n = do_recv(to, back + got, sizeof(back) - got, MSG_DONTWAIT, out);
        if (n <= 0)
            return false;
        got += n;
        seat_run(s);
    }
    return got == len && !memcmp(big, back, len);
}

static void test_layouts(struct seat *s, u64 ring, const char *name)
{
    static const struct {
        unsigned tx, rx;
        u32 size;
    } shapes[] = {{1, 1, 3776}, {2, 2, 4096 + 44}, {5, 3, 100}, {4, 1, 65580}};
    static const u32 sizes[] = {1, 55, 56, 57, 3732, 3733, 32768, 32769, 65536, 65537, 200000};
    sock *end[2];

    for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
        seat_start(s, BOTH | ring, shapes[i].tx, shapes[i].rx, shapes[i].size);
        for (int how = 0; how < 4; how++) {
            int type = how & 1 ? SOCK_SEQPACKET : SOCK_STREAM, out;
            bool good = connect_ends(s, type, how & 2, end);

            for (unsigned k = 0; good && k < ARRAY_SIZE(sizes); k++) {
                int eor = how & 1 && k & 1 ? MSG_EOR : 0;

                good = carry(s, end[0], end[1], sizes[k], eor, &out) &&
                       (type == SOCK_STREAM || out == eor);
                good = good && carry(s, end[1], end[0], sizes[k], eor, &out) &&
                       (type == SOCK_STREAM || out == eor);
            }
            ok(good, "%s: %u tx and %u rx descriptors, %u bytes, %s, from %s", name, shapes[i].tx,
               shapes[i].rx, shapes[i].size, how & 1 ? "SEQPACKET" : "STREAM",
               how & 2 ? "guest" : "host");
            close_ends(s, end);
        }
    }
}

static void test_features(struct seat *s)
{
    u64 cid = 0;
    sock *c, *end[2];

    is_u64(driver_reg(&s->v, VIRTIO_MMIO_DEVICE_ID), 19, "device id");
    cid = driver_reg(&s->v, VIRTIO_MMIO_CONFIG) | (u64)driver_reg(&s->v, VIRTIO_MMIO_CONFIG + 4)
                                                      << 32;
    is_u64(cid, GUEST_CID, "guest_cid in the configuration");
    is_u64(s->dev->features & 7, 7, "all three feature bits are offered");
    seat_start(s, 0, 1, 1, 3776);
    c = new_sock(s->host, SOCK_SEQPACKET);
    is_u64(do_connect(c, GUEST_CID, PORT, true), -ESOCKTNOSUPPORT, "a driver without SEQPACKET");
    uvirt_vsock_close(c);
    ok(connect_ends(s, SOCK_STREAM, true, end), "no feature bit means STREAM");
    close_ends(s, end);
    ok(!connect_ends(s, SOCK_SEQPACKET, true, end), "and SEQPACKET gets RST");
    uvirt_vsock_close(end[0]);
    seat_start(s, BIT(VIRTIO_VSOCK_F_SEQPACKET) | BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM), 1, 1,
               3776);
    c = new_sock(s->host, SOCK_STREAM);
    is_u64(do_connect(c, GUEST_CID, PORT, true), -ENETUNREACH, "NO_IMPLIED_STREAM without STREAM");
    uvirt_vsock_close(c);
    driver_set(&s->v, VIRTIO_MMIO_STATUS, 0);
    c = new_sock(s->host, SOCK_STREAM);
    is_u64(do_connect(c, GUEST_CID, PORT, true), -ENODEV, "no driver, no route");
    uvirt_vsock_close(c);
}

static void test_reset(struct seat *s)
{
    sock *end[2];
    u32 id, len;
    char c;

    seat_start(s, BOTH, 1, 1, 3776);
    connect_ends(s, SOCK_STREAM, true, end);
    driver_set(&s->v, VIRTIO_MMIO_STATUS, 0);
    is_u64(do_recv(end[1], &c, 1, MSG_DONTWAIT, NULL), -ECONNRESET, "a reset ends the connections");
    uvirt_vsock_close(end[1]);
    uvirt_vsock_close(end[0]);
    seat_start(s, BOTH, 1, 1, 3776);
    seat_run(s);
    connect_ends(s, SOCK_STREAM, false, end);
    virtio_vsock_transport_reset(s->dev);
    is_u64(do_recv(end[1], &c, 1, MSG_DONTWAIT, NULL), -ECONNRESET,
           "vhost-device #936: TRANSPORT_RESET, too");
    ok(!driver_used(&s->v, 2, &id, &len), "the event waits for a buffer");
    driver_add(&s->v, 2, &(struct virtq_seg){DRIVER_DATA + 0x7f000, 4}, 0, 1);
    memset(driver_at(&s->v, DRIVER_DATA + 0x7f000), 0xff, 4);
    driver_kick(&s->v, 2);
    ok(driver_used(&s->v, 2, &id, &len) && len == 4 &&
           !*(u32 *)driver_at(&s->v, DRIVER_DATA + 0x7f000),
       "and comes then");
    uvirt_vsock_close(end[1]);
    uvirt_vsock_close(end[0]);
    seat_run(s);
}

/* A raw packet from the guest. */
static void raw(struct seat *s, u64 src_cid, u64 dst_cid, u16 op, u32 claim, u32 bytes)
{
    static u8 wire[VSOCK_HDR_SIZE + 256];
    struct vsock_hdr h = {.src_cid = src_cid,
                          .dst_cid = dst_cid,
                          .src_port = 9,
                          .dst_port = PORT,
                          .type = 1,
                          .op = op,
                          .len = claim,
                          .buf_alloc = 4096};

    vsock_hdr_encode(wire, &h);
    seat_tx(s, wire, bytes, 1);
}

/* The header in the next used rx buffer; op 0 if there is none. */
static struct vsock_hdr answer(struct seat *s)
{
    struct vsock_hdr h = {0};
    u32 id, len;

    if (driver_used(&s->v, 0, &id, &len)) {
        vsock_hdr_decode(&h, driver_at(&s->v, DRIVER_DATA + s->rx_next * SLOT_SIZE));
        s->rx_next = (s->rx_next + 1) % RX_SLOTS;
        s->rx_posted--;
        seat_post(s);
    }
    return h;
}

static void test_bad_packets(struct seat *s)
{
    u32 id, len;
    struct vsock_hdr h;

    seat_start(s, BOTH, 1, 1, 3776);
    raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_REQUEST, 0, 43);
    ok(driver_used(&s->v, 1, &id, &len) && !len, "a chain too short for a header comes back");
    raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_RW, 100, 44 + 99);
    ok(driver_used(&s->v, 1, &id, &len), "CVE-2025-39718: a length beyond the chain comes back");
    raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_RW, UINT32_MAX, 44 + 99);
    ok(driver_used(&s->v, 1, &id, &len), "so does a length that is absurd");
    ok(!answer(s).op, "and nothing is answered");
    raw(s, 77, 2, VIRTIO_VSOCK_OP_REQUEST, 0, 44);
    driver_used(&s->v, 1, &id, &len);
    ok(!answer(s).op, "Firecracker: a foreign source CID is dropped");
    raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_REQUEST, 0, 44);
    driver_used(&s->v, 1, &id, &len);
    h = answer(s);
    ok(h.op == VIRTIO_VSOCK_OP_RST && h.src_cid == 2 && h.dst_cid == GUEST_CID &&
           h.src_port == PORT && h.dst_port == 9 && h.type == 1,
       "vhost-device #943, libkrun: refused: RST at once, swapped");
    raw(s, GUEST_CID, 88, VIRTIO_VSOCK_OP_REQUEST, 0, 44);
    driver_used(&s->v, 1, &id, &len);
    h = answer(s);
    ok(h.op == VIRTIO_VSOCK_OP_RST && h.src_cid == 88,
       "vhost-device: an unknown CID: RST from there");
    raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_RST, 0, 44);
    driver_used(&s->v, 1, &id, &len);
    ok(!answer(s).op, "RST is never answered with RST");
    ok(virtio_device_live(s->dev), "the device survives all that");
}

/* A host's socket with more sent to the guest than its buffers hold: end[1]. */
static int held(struct seat *s, sock *end[2])
{
    int unsent = -1;

    seat_start(s, BOTH, 1, 1, 3776);
    if (!connect_ends(s, SOCK_STREAM, true, end))
        return -1;
    s->rx_slots = 0; /* no more buffers after those that are posted */
    if (do_send(end[1], big, 60000, MSG_DONTWAIT) != 60000 ||
        uvirt_vsock_ioctl(end[1], TIOCOUTQ, &unsent))
        return -1;
    return unsent;
}

static void linger(sock *s, int seconds)
{
    struct linger l = {1, seconds};

    uvirt_vsock_setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

static u64 monotonic_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* The guest takes what comes, until told to stop. */
static atomic_bool taken;

static void *take(void *opaque)
{
    struct seat *s = opaque;

    s->rx_slots = RX_SLOTS;
    while (!atomic_load(&taken)) {
        seat_post(s);
        seat_run(s);
    }
    return NULL;
}

static void test_linger(struct seat *s)
{
    pthread_t thread;
    sock *end[2];
    int unsent = held(s, end), left = -1;
    u64 start;

    ok(unsent > 0 && unsent <= 60000, "SIOCOUTQ: %d bytes wait for the guest's buffers", unsent);
    linger(end[1], 1);
    start = monotonic_ns();
    uvirt_vsock_close(end[1]);
    ok(monotonic_ns() - start >= 1000000000,
       "close() with SO_LINGER waits a second for them in vain");
    uvirt_vsock_close(end[0]);
    s->rx_slots = RX_SLOTS;
    seat_run(s);

    if (!ok(held(s, end) > 0, "once more"))
        return;
    linger(end[1], 3600);
    pthread_create(&thread, NULL, take, s);
    uvirt_vsock_close(end[1]);
    atomic_store(&taken, true);
    pthread_join(thread, NULL);
    seat_run(s);
    uvirt_vsock_ioctl(end[0], FIONREAD, &left);
    is_u64(left, 60000, "close() with SO_LINGER comes back when the guest has them");
    uvirt_vsock_close(end[0]);
    seat_run(s);
}

static void test_bad_rings(struct seat *s)
{
    u32 id, len;
    unsigned n = 0;
    sock *end[2];
    char c;

    seat_start(s, BOTH, 1, 1, 3776);
    s->rx_slots = 0; /* no more buffers after the four that are posted */
    while (n < 1000) {
        raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_REQUEST, 0, 44);
        if (!driver_used(&s->v, 1, &id, &len))
            break;
        n++;
    }
    ok(n >= 256 && n < 270, "a guest that never receives is not read for ever: %u", n);
    seat_start(s, BOTH, 1, 1, 43);
    raw(s, GUEST_CID, 2, VIRTIO_VSOCK_OP_REQUEST, 0, 44);
    ok(!virtio_device_live(s->dev), "an rx buffer below a header: NEEDS_RESET");
    seat_start(s, BOTH, 1, 1, 44);
    connect_ends(s, SOCK_STREAM, true, end);
    ok(virtio_device_live(s->dev), "headers alone may have small buffers");
    do_send(end[1], "x", 1, MSG_DONTWAIT);
    virtio_vsock_pump(s->dev);
    ok(!virtio_device_live(s->dev), "but payload that never fits: NEEDS_RESET");
    is_u64(do_recv(end[1], &c, 1, MSG_DONTWAIT, NULL), -ECONNRESET, "and the connection is over");
    uvirt_vsock_close(end[0]);
    uvirt_vsock_close(end[1]);
}

static unsigned kicks;

static void count_kick(void *opaque)
{
    kicks++;
}

/* Where the device wants to be notified, with EVENT_IDX. */
static u16 avail_event(struct driver *v, unsigned q)
{
    return ((u16 *)driver_at(v, v->q[q].used))[2 + 4 * DRIVER_QUEUE_SIZE];
}

/* A packet that gets RST, not announced. */
static void add_stray(struct driver *v)
{
    struct vsock_hdr h = {.src_cid = 5, .dst_cid = 2, .type = 1, .op = VIRTIO_VSOCK_OP_RW};

    vsock_hdr_encode(driver_at(v, DRIVER_DATA), &h);
    driver_add(v, 1, &(struct virtq_seg){DRIVER_DATA, VSOCK_HDR_SIZE}, 1, 0);
}

/* A device that leaves its work to a thread asks for notifications when that rests, and for no more than it needs. */
static void test_deferred(struct seat *s)
{
    struct virtio_vsock_options o = {.guest_cid = 5, .kick = count_kick, .deferred = true};
    struct virtq_seg rx = {DRIVER_DATA + 0x1000, 100};
    struct virtio_device *d;
    struct driver v;
    u32 id, len;

    if (virtio_vsock_create(s->host, &o, &d))
        exit(99);
    driver_open(&v, d);
    driver_start(&v, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX), 3);
    kicks = 0;
    add_stray(&v);
    driver_kick(&v, 1);
    ok(kicks && !driver_used(&v, 1, &id, &len), "deferred: a notification is passed on");
    virtio_vsock_pump(d);
    ok(driver_used(&v, 1, &id, &len) && !avail_event(&v, 1), "work is done; no other is asked for");
    add_stray(&v);
    ok(virtio_vsock_rest(d) && !avail_event(&v, 1), "nor while there is more to do");
    virtio_vsock_pump(d);
    ok(driver_used(&v, 1, &id, &len), "which is done");
    ok(!virtio_vsock_rest(d) && avail_event(&v, 1) == 2, "but by who rests");
    for (unsigned i = 0; i < 3; i++)
        driver_add(&v, 0, &rx, 0, 1);
    driver_kick(&v, 0);
    virtio_vsock_pump(d);
    ok(driver_used(&v, 0, &id, &len) && driver_used(&v, 0, &id, &len), "both get RST");
    ok(!virtio_vsock_rest(d) && !avail_event(&v, 0), "for buffers none is asked for");
    for (unsigned i = 0; i < 2; i++)
        add_stray(&v);
    virtio_vsock_pump(d);
    ok(!virtio_vsock_rest(d) && avail_event(&v, 0) == 3, "but if something waits for one");
    driver_close(&v);
}

/* Markers have eight bytes, which are never apart. */
static void test_marker_room(struct seat *s)
{
    sock *end[2];

    for (u32 room = 7; room <= 8; room++) {
        seat_start(s, BOTH, 1, 1, VSOCK_HDR_SIZE + room);
        connect_ends(s, SOCK_SEQPACKET, true, end);
        do_send(end[1], "x", 1, MSG_DONTWAIT);
        virtio_vsock_pump(s->dev);
        is_u64(virtio_device_live(s->dev), room == 8, "marker: buffers with room for %u bytes",
               room);
        uvirt_vsock_close(end[0]);
        uvirt_vsock_close(end[1]);
    }
}

static void test_create(struct seat *s)
{
    static const u64 bad[] = {0, 1, 2, UINT32_MAX, 1ull << 32, UINT64_MAX};
    struct virtio_device *d;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        is_u64(
            virtio_vsock_create(s->host, &(struct virtio_vsock_options){.guest_cid = bad[i]}, &d),
            -EINVAL, "CID 0x%llx is reserved", (unsigned long long)bad[i]);
    is_u64(virtio_vsock_create(s->host, &(struct virtio_vsock_options){.guest_cid = GUEST_CID}, &d),
           -EADDRINUSE, "a CID that another device has");
    ok(!virtio_vsock_create(s->host, &(struct virtio_vsock_options){.guest_cid = 4}, &d),
       "a second guest");
    virtio_device_free(d);
}

int main(void)
{
    struct seat s;

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = i * 2654435761u >> 11;
    seat_open(&s, false, true, BOTH);
    test_create(&s);
    test_layouts(&s, 0, "split");
    test_layouts(&s, BIT(VIRTIO_RING_F_EVENT_IDX), "event_idx");
    test_features(&s);
    test_reset(&s);
    test_bad_packets(&s);
    test_bad_rings(&s);
    test_deferred(&s);
    seat_close(&s);
    seat_open(&s, true, true, BOTH);
    test_layouts(&s, 0, "marker");
    test_marker_room(&s);
    seat_close(&s);
    seat_open(&s, false, false, BOTH);
    test_linger(&s);
    seat_close(&s);
    return tap_done();
}
