// SPDX-License-Identifier: MIT
// Faults that other implementations had in their rings, each by its name, at the virtio-vsock device.
#include "seat.h"

#include <pthread.h>

#define BOTH                                                                                       \
    (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |                                  \
     BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM))
#define GUEST_PORT 9
#define DESCS      15 /* of one chain */
#define WRAPS      70000
#define RACES      200000 /* packets at most, until enough of them were hit */

enum {
    RX,
    TX,
};

static struct seat s;
static sock *l, *k; /* the host's listener, its end of the connection from GUEST_PORT */
static u8 packet[VSOCK_HDR_SIZE + 4096];

/* A packet from GUEST_PORT with (n) bytes behind its header, which says (claim): bytes of it. */
static u32 make_packet(u16 type, u16 op, u32 flags, u32 claim, u32 n)
{
    struct vsock_hdr h = {.src_cid = GUEST_CID,
                          .dst_cid = VMADDR_CID_HOST,
                          .src_port = GUEST_PORT,
                          .dst_port = PORT,
                          .len = claim,
                          .type = type,
                          .op = op,
                          .flags = flags,
                          .buf_alloc = 262144};

    vsock_hdr_encode(packet, &h);
    for (u32 i = 0; i < n; i++)
        packet[VSOCK_HDR_SIZE + i] = (u8)(i * 7 + 1);
    return VSOCK_HDR_SIZE + n;
}

static bool payload_is(const void *data, u32 n)
{
    return !memcmp(data, packet + VSOCK_HDR_SIZE, n);
}

/* Offer (len) bytes at (gpa), in pieces of (piece) bytes, on queue (q). */
static void offer(unsigned q, gpa_t gpa, u32 len, u32 piece)
{
    struct virtq_seg segs[DESCS];
    unsigned n = 0;

    for (; len; n++) {
        segs[n] = (struct virtq_seg){gpa, len < piece || n == DESCS - 1 ? len : piece};
        gpa += segs[n].len;
        len -= segs[n].len;
    }
    driver_add(&s.v, q, segs, q == TX ? n : 0, q == TX ? 0 : n);
    driver_kick(&s.v, q);
}

static bool used(unsigned q, u32 *len)
{
    u32 id;

    return driver_used(&s.v, q, &id, len);
}

/* The device anew, no rx buffers, and a connection of (type) that the guest has opened. */
static void begin(u64 features, u16 type)
{
    u32 len;

    if (k)
        uvirt_vsock_close(k);
    if (l)
        uvirt_vsock_close(l);
    seat_start(&s, features, 1, 1, 3776);
    l = listener(s.host, type == 1 ? SOCK_STREAM : SOCK_SEQPACKET, PORT, 4);
    seat_tx(&s, packet, make_packet(type, VIRTIO_VSOCK_OP_REQUEST, 0, 0, 0), 1);
    k = do_accept(l);
    if (!k || !used(TX, &len) || !used(RX, &len))
        exit(99);
    s.rx_posted = s.rx_next = 0;
    for (unsigned i = 1; i < RX_SLOTS; i++) { /* RST to an unknown type uses up what is posted */
        seat_tx(&s, packet, make_packet(99, VIRTIO_VSOCK_OP_RW, 0, 0, 0), 1);
        if (!used(TX, &len) || !used(RX, &len))
            exit(99);
    }
}

/* Take what came and post its buffers again. */
static void drain(void)
{
    u32 len;

    while (used(RX, &len)) {
        s.rx_next = (s.rx_next + 1) % RX_SLOTS;
        s.rx_posted--;
    }
    seat_post(&s);
}

/* Write (n) bytes at (gpa), page by page: memory of two slots is not contiguous here. */
static void put(gpa_t gpa, const u8 *data, u32 n)
{
    if (mem_write(s.v.mem, gpa, data, n))
        exit(99);
}

static void get(gpa_t gpa, u8 *data, u32 n)
{
    if (mem_read(s.v.mem, gpa, data, n))
        exit(99);
}

static void test_regions(void)
{
    gpa_t at = DRIVER_RAM2 - 100;
    u8 back[1000];
    u32 len;

    begin(BOTH, 1);
    put(at, packet, make_packet(1, VIRTIO_VSOCK_OP_RW, 0, 500, 500));
    offer(TX, at, VSOCK_HDR_SIZE + 500, 10000);
    ok(used(TX, &len) && do_recv(k, back, sizeof(back), MSG_DONTWAIT, NULL) == 500 &&
           payload_is(back, 500),
       "CVE-2019-18960: a buffer across two regions, read");
    offer(RX, at, 600, 10000);
    do_send(k, packet + VSOCK_HDR_SIZE, 500, MSG_DONTWAIT);
    virtio_vsock_pump(s.dev);
    get(at + VSOCK_HDR_SIZE, back, 500);
    ok(used(RX, &len) && len == VSOCK_HDR_SIZE + 500 && payload_is(back, 500), "and written");
    offer(TX, DRIVER_RAM2 + PAGE_SIZE - 60, VSOCK_HDR_SIZE + 500, 10000);
    ok(!virtio_device_live(s.dev) && !used(TX, &len),
       "CVE-2018-1059: a buffer that begins in memory and ends in none: NEEDS_RESET");
    begin(BOTH, 1);
    offer(RX, DRIVER_RAM2 + PAGE_SIZE - 60, 600, 10000);
    do_send(k, packet, 500, MSG_DONTWAIT);
    virtio_vsock_pump(s.dev);
    ok(!virtio_device_live(s.dev), "the same for one to be written");
    begin(BOTH, 1);
    offer(RX, DRIVER_ROM, 600, 10000);
    do_send(k, packet, 500, MSG_DONTWAIT);
    virtio_vsock_pump(s.dev);
    ok(!virtio_device_live(s.dev), "and for one in read-only memory");
}

static void test_headers(void)
{
    u8 back[64];
    bool good = true;
    u32 len;

    begin(BOTH, 1);
    put(DRIVER_DATA, packet, make_packet(1, VIRTIO_VSOCK_OP_RW, 0, 1, 1));
    offer(TX, DRIVER_DATA, VSOCK_HDR_SIZE + 1, 3);
    ok(used(TX, &len) && do_recv(k, back, 9, MSG_DONTWAIT, NULL) == 1,
       "CVE-2022-2132: a header over 15 descriptors");
    offer(RX, DRIVER_DATA + 0x1000, VSOCK_HDR_SIZE + 1, 3);
    do_send(k, "z", 1, MSG_DONTWAIT);
    virtio_vsock_pump(s.dev);
    get(DRIVER_DATA + 0x1000 + VSOCK_HDR_SIZE, back, 1);
    ok(used(RX, &len) && len == VSOCK_HDR_SIZE + 1 && back[0] == 'z', "and one to be written");
    for (u32 n = 1; n < VSOCK_HDR_SIZE; n++) {
        for (u32 piece = 1; piece < 60; piece += 13) {
            offer(TX, DRIVER_DATA, n, n < DESCS ? 1 + piece % n : piece + 3);
            good = good && used(TX, &len) && !len;
        }
    }
    ok(good && virtio_device_live(s.dev),
       "CVE-2022-2132: chains too short for a header, in every length and some pieces, come back");
    for (unsigned i = 0; i < 100; i++) {
        offer(TX, DRIVER_DATA, 20, 20);
        good = good && used(TX, &len);
        put(DRIVER_DATA, packet, make_packet(1, VIRTIO_VSOCK_OP_RW, 0, 8, 8));
        offer(TX, DRIVER_DATA, VSOCK_HDR_SIZE + 8, 20);
        good = good && used(TX, &len) && do_recv(k, back, 64, MSG_DONTWAIT, NULL) == 8;
    }
    ok(good, "CVE-2022-26354, vhost-device: bad packets take no descriptor with them: 100 of them, "
             "and as many good ones between");
}

/* Every register of a queue that runs, written: it stays where it is. */
static void test_registers(void)
{
    static const u32 regs[] = {VIRTIO_MMIO_QUEUE_NUM,        VIRTIO_MMIO_QUEUE_DESC_LOW,
                               VIRTIO_MMIO_QUEUE_DESC_HIGH,  VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                               VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
                               VIRTIO_MMIO_QUEUE_USED_HIGH,  VIRTIO_MMIO_QUEUE_READY};
    u8 back[64];
    u32 len;

    begin(BOTH, 1);
    for (unsigned q = 0; q < 4; q++) {
        driver_set(&s.v, VIRTIO_MMIO_QUEUE_SEL, q);
        for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
            driver_set(&s.v, regs[i], 0x7fff0001);
    }
    seat_tx(&s, packet, make_packet(1, VIRTIO_VSOCK_OP_RW, 0, 8, 8), 1);
    ok(used(TX, &len) && do_recv(k, back, 64, MSG_DONTWAIT, NULL) == 8,
       "CVE-2026-5747: registers of a queue that runs hold still");
    for (u32 n = 0; n < 3; n++) {
        static const u32 sizes[] = {0, 3, 0x10000};

        driver_set(&s.v, VIRTIO_MMIO_STATUS, 0);
        driver_set(&s.v, VIRTIO_MMIO_STATUS, 3);
        driver_set(&s.v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        driver_set(&s.v, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        driver_set(&s.v, VIRTIO_MMIO_STATUS, 11);
        driver_set(&s.v, VIRTIO_MMIO_QUEUE_SEL, TX);
        driver_set(&s.v, VIRTIO_MMIO_QUEUE_NUM, sizes[n]);
        driver_set(&s.v, VIRTIO_MMIO_QUEUE_READY, 1);
        driver_set(&s.v, VIRTIO_MMIO_STATUS, 15);
        driver_kick(&s.v, TX);
        ok(!virtio_device_live(s.dev), "mvm #1861: a queue of %u entries: NEEDS_RESET", sizes[n]);
    }
}

/* --- memory that changes while it is read --- */

static _Atomic bool stop;
static _Atomic unsigned flips;

/* The header's length, now this and now that. */
static void *flip(void *arg)
{
    static const u32 lens[] = {10, 0xffffffff, 10, 65536, 10, 11, 10, 4096};
    volatile u32 *at = arg;

    for (unsigned i = 0; !stop; flips = ++i)
        *at = htole32(lens[i % ARRAY_SIZE(lens)]);
    return NULL;
}

/* The descriptor's length, now this and now that; (arg): of a few in the ring. */
static void *flip_descriptors(void *arg)
{
    static const u32 lens[] = {VSOCK_HDR_SIZE + 10, 0x8000, 20};
    struct vring_desc *d = arg;

    for (unsigned i = 0; !stop; flips = ++i)
        for (unsigned n = 0; n < DRIVER_QUEUE_SIZE; n++)
            ((volatile struct vring_desc *)d)[n].len = lens[i % ARRAY_SIZE(lens)];
    return NULL;
}

/* (n) packets of ten bytes while (change) is at (arg): how many arrived; each whole, or not at all. */
static void race(void *(*change)(void *), void *arg, const char *what)
{
    u32 len, arrived = 0, n = 0;
    pthread_t thread;
    bool good = true;
    u8 back[64];

    put(DRIVER_DATA, packet, make_packet(2, VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_SEQ_EOM, 10, 10));
    stop = false;
    flips = 0;
    pthread_create(&thread, NULL, change, arg);
    while (!flips)
        sched_yield();
    for (; n < RACES && (arrived < 100 || n - arrived < 100) && virtio_device_live(s.dev); n++) {
        offer(TX, DRIVER_DATA, VSOCK_HDR_SIZE + 10, 100);
        used(TX, &len);
        while ((len = (u32)do_recv(k, back, sizeof(back), MSG_DONTWAIT, NULL)) <= sizeof(back)) {
            good = good && len == 10 && payload_is(back, 10);
            arrived++;
        }
    }
    stop = true;
    pthread_join(thread, NULL);
    ok(good && virtio_device_live(s.dev), "%s (%u of %u packets arrived)", what, arrived, n);
}

static void test_races(void)
{
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
    skip("it is a race by intention", "CVE-2020-14375: memory that changes meanwhile");
    return;
#endif
#endif
    begin(BOTH, 2);
    race(flip, driver_at(&s.v, DRIVER_DATA + 24),
         "CVE-2020-14375, Cloud Hypervisor #7530: a header that changes meanwhile");
    begin(BOTH, 2);
    race(flip_descriptors, driver_at(&s.v, s.v.q[TX].desc),
         "CVE-2020-14375: descriptors that change meanwhile");
}

/* Indices of 16 bits wrap. */
static void test_wrap(void)
{
    u32 len, n = 0, value = 0;

    begin(BOTH, 2);
    for (; n < WRAPS; n++) {
        u32 size = make_packet(2, VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_SEQ_EOM, 4, 0);

        memcpy(packet + size, &n, sizeof(n));
        seat_tx(&s, packet, size + 4, 1 + n % 3);
        if (!used(TX, &len) || do_recv(k, &value, 4, MSG_DONTWAIT, NULL) != 4 || value != n)
            break;
        drain();
    }
    is_u64(n, WRAPS, "vhost-device #838: a ring whose index wraps");
}

/* 32 KiB and a byte more, as Linux since 6.17 sends it: in one piece or in several. */
static void test_large(void)
{
    static const u32 sizes[] = {32768, 32769, 65536};
    static u8 wire[VSOCK_HDR_SIZE + 65536], back[65536];
    bool good = true;
    u32 len;

    begin(BOTH, 1);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (unsigned descs = 1; descs <= 5; descs++) {
            make_packet(1, VIRTIO_VSOCK_OP_RW, 0, sizes[i], 0);
            memcpy(wire, packet, VSOCK_HDR_SIZE);
            for (u32 n = 0; n < sizes[i]; n++)
                wire[VSOCK_HDR_SIZE + n] = (u8)(n * descs >> 3);
            seat_tx(&s, wire, VSOCK_HDR_SIZE + sizes[i], descs);
            good = good && used(TX, &len) &&
                   do_recv(k, back, sizeof(back), MSG_DONTWAIT, NULL) == (ssize_t)sizes[i] &&
                   !memcmp(back, wire + VSOCK_HDR_SIZE, sizes[i]);
        }
    }
    ok(good, "vhost-device #934, #954: 32,768 and 32,769 bytes, over one to five descriptors");
}

/* Requests from as many ports as there are: state for those that were answered, no other. */
static void test_ports(void)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)s.host;
    struct vsock_hdr h;
    u32 len, most = 0;

    begin(BOTH, 1);
    drain();
    for (u32 port = 100; port < 20000; port++) {
        make_packet(1, VIRTIO_VSOCK_OP_REQUEST, 0, 0, 0);
        vsock_hdr_decode(&h, packet);
        h.src_port = port;
        vsock_hdr_encode(packet, &h);
        seat_tx(&s, packet, VSOCK_HDR_SIZE, 1);
        used(TX, &len);
        drain();
        most = ctx->nr_socks > most ? ctx->nr_socks : most;
        if (!virtio_device_live(s.dev))
            break;
    }
    ok(most <= 2 + 5 && virtio_device_live(s.dev),
       "mvm #1861: 19,900 requests from as many ports leave %u sockets", most);
}

int main(void)
{
    seat_open(&s, false, true, BOTH);
    begin(s.dev->features & ~BIT(VIRTIO_F_RING_PACKED), 1); /* this driver has split rings */
    ok(virtio_device_live(s.dev), "propolis: a driver that takes every feature that is offered");
    test_regions();
    test_headers();
    test_registers();
    test_races();
    test_wrap();
    test_large();
    test_ports();
    uvirt_vsock_close(k);
    uvirt_vsock_close(l);
    seat_close(&s);
    return tap_done();
}
