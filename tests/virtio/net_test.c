// SPDX-License-Identifier: MIT
// virtio-net: frames both ways, merged buffers, checksums, what is dropped and what fails the device.
#include "driver.h"
#include "virtio/net.h"

#include "../tap.h"

#include <linux/virtio_net.h>

#define V1    BIT(VIRTIO_F_VERSION_1)
#define MRG   BIT(VIRTIO_NET_F_MRG_RXBUF)
#define HDR   sizeof(struct virtio_net_hdr_v1)
#define RX    0
#define TX    1
#define OUT   DRIVER_DATA
#define IN    (DRIVER_DATA + 0x20000)
#define FRAME 1514

static struct driver v;
static struct virtio_device *dev;
static u8 wire[VIRTIO_NET_FRAME_MAX];
static size_t wire_len;
static unsigned wire_frames, kicks;
static bool echo; /* the wire answers at once */

static void transmit(void *opaque, const void *frame, size_t len)
{
    memcpy(wire, frame, len);
    wire_len = len;
    wire_frames++;
    if (echo)
        virtio_net_receive(dev, frame, len);
}

static void kick(void *opaque)
{
    kicks++;
}

static void start(u64 features)
{
    driver_start(&v, V1 | features, 2);
    wire_frames = kicks = 0;
    wire_len = 0;
}

/* Whether the device has failed; starts it again. */
static bool failed(u64 features)
{
    bool yes = driver_reg(&v, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;

    start(features);
    return yes;
}

static void pump(void)
{
    virtio_net_pump(dev);
}

static u8 pattern(size_t i)
{
    return (u8)(i * 31 + i / 256);
}

static void fill(u8 *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = pattern(i);
}

static bool same(const u8 *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != pattern(i))
            return false;
    return true;
}

/* Send a frame of (len) bytes behind (h), in two buffers; true if it arrived on the wire. */
static bool send_frame(const struct virtio_net_hdr_v1 *h, size_t len)
{
    struct virtq_seg segs[] = {{OUT, HDR}, {OUT + HDR, (u32)len}};
    unsigned before = wire_frames;
    u32 id, used;

    memcpy(driver_at(&v, OUT), h, HDR);
    driver_add(&v, TX, segs, 2, 0);
    driver_kick(&v, TX);
    pump();
    if (!driver_used(&v, TX, &id, &used) || used)
        return false;
    return wire_frames == before + 1;
}

static void offer(u32 at, u32 len)
{
    struct virtq_seg seg = {IN + at, len};

    memset(driver_at(&v, IN + at), 0xee, len);
    driver_add(&v, RX, &seg, 0, 1);
}

static void test_config(void)
{
    static const u8 mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    struct virtio_net_config c;

    virtio_mmio_read(v.t, VIRTIO_MMIO_CONFIG, &c, sizeof(c));
    ok(!memcmp(c.mac, mac, sizeof(mac)), "the MAC address");
    is_u64(c.status, VIRTIO_NET_S_LINK_UP, "the link is up");
    is_u64(c.mtu, 9000, "the MTU");
    ok(dev->features & BIT(VIRTIO_NET_F_MTU), "is for the driver to take");
    is_u64(driver_reg(&v, VIRTIO_MMIO_DEVICE_ID), 1, "device 1");
}

static void test_send(void)
{
    const struct virtio_net_hdr_v1 plain = {0};
    struct virtio_net_hdr_v1 h = {0};
    struct virtq_seg seg = {OUT, HDR + 60};

    start(0);
    fill(driver_at(&v, OUT + HDR), VIRTIO_NET_FRAME_MAX + 1);
    ok(send_frame(&plain, FRAME) && wire_len == FRAME && same(wire, FRAME), "a frame goes out");
    is_u64(kicks, 1, "after one kick");
    ok(send_frame(&plain, 14), "the shortest frame");
    ok(send_frame(&plain, VIRTIO_NET_FRAME_MAX) && same(wire, wire_len), "the longest");
    ok(!send_frame(&plain, VIRTIO_NET_FRAME_MAX + 1), "a longer one is dropped");
    ok(!send_frame(&plain, 13), "one without an Ethernet header is dropped");
    h.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    ok(!send_frame(&h, FRAME), "segmentation was not agreed on: dropped");
    h = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34};
    ok(!send_frame(&h, FRAME), "nor was a checksum: dropped");
    ok(!failed(0), "none of which fails the device");
    memset(driver_at(&v, OUT), 0, HDR);
    for (unsigned i = 0; i < 3; i++)
        driver_add(&v, TX, &seg, 1, 0);
    pump();
    is_u64(wire_frames, 3, "several at once, header and frame in one buffer");
}

/* RFC 1071 by the book: big-endian words, one at a time. */
static u16 rfc1071(const u8 *p, size_t len)
{
    u32 sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? p[i] : (u32)p[i] << 8;
        if (sum > 0xffff)
            sum -= 0xffff;
    }
    return (u16)sum;
}

static void test_checksum(void)
{
    struct virtio_net_hdr_v1 h = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
    u8 *frame;

    start(BIT(VIRTIO_NET_F_CSUM));
    frame = driver_at(&v, OUT + HDR);
    for (size_t len = 60; len < 64; len++) {
        fill(frame, len);
        frame[40] = 0x12; /* the pseudo-header's sum */
        frame[41] = 0x34;
        ok(send_frame(&h, len) && rfc1071(wire + 34, len - 34) == 0xffff - 0x1234,
           "a checksum over %zu bytes adds up", len - 34);
    }
    memset(frame, 0, 60);
    frame[40] = frame[41] = 0xff;
    ok(send_frame(&h, 60) && wire[40] == 0xff && wire[41] == 0xff, "it is never zero");
    h.csum_offset = 60 - 34 - 2;
    ok(send_frame(&h, 60), "the last two bytes can be it");
    h.csum_offset++;
    ok(!send_frame(&h, 60), "but not less: dropped");
    h.csum_offset = 0xffff;
    h.csum_start = 0xffff;
    ok(!send_frame(&h, 60), "the largest offsets: dropped");
    ok(!failed(0), "none of which fails the device");
}

static void test_receive(void)
{
    struct virtio_net_hdr_v1 h;
    u8 frame[FRAME];
    u32 id, used;

    fill(frame, sizeof(frame));
    start(BIT(VIRTIO_NET_F_GUEST_CSUM));
    offer(0, HDR + FRAME);
    ok(virtio_net_receive(dev, frame, FRAME), "a frame for the guest");
    ok(!v.irq, "no interrupt before the pump");
    pump();
    ok(v.irq, "one after it");
    ok(driver_used(&v, RX, &id, &used) && used == HDR + FRAME, "is in its buffer");
    memcpy(&h, driver_at(&v, IN), HDR);
    ok(same(driver_at(&v, IN + HDR), FRAME), "byte by byte");
    ok(h.num_buffers == 1 && h.flags == VIRTIO_NET_HDR_F_DATA_VALID && !h.gso_type,
       "its header vouches for the checksum");

    start(0);
    kicks = 0;
    ok(virtio_net_receive(dev, frame, FRAME), "without a buffer it waits");
    pump();
    ok(!driver_used(&v, RX, &id, &used), "and waits");
    offer(0, HDR + FRAME);
    driver_kick(&v, RX);
    is_u64(kicks, 1, "a buffer is news");
    pump();
    ok(driver_used(&v, RX, &id, &used) && used == HDR + FRAME, "and takes it");
    memcpy(&h, driver_at(&v, IN), HDR);
    is_u64(h.flags, 0, "no word of checksums to a driver that does not ask");
    offer(0, HDR + FRAME);
    driver_kick(&v, RX);
    is_u64(kicks, 1, "a buffer that nobody waits for is none");
    offer(0x1000, HDR + 60);
    ok(virtio_net_receive(dev, frame, 60) && virtio_net_receive(dev, frame, FRAME) &&
           virtio_net_receive(dev, frame, 60),
       "without merging, a frame that does not fit");
    pump();
    ok(driver_used(&v, RX, &id, &used) && used == HDR + 60 && driver_used(&v, RX, &id, &used) &&
           used == HDR + 60,
       "is lost, and its buffer is not");
    ok(!virtio_net_receive(dev, frame, 13), "half a header is no frame");
}

static void test_limit(void)
{
    u8 frame[FRAME];
    unsigned n = 0, in_order = 0;
    u32 id, used;

    start(0);
    memset(frame, 0, sizeof(frame));
    for (; n < 10000; n++) {
        memcpy(frame + 20, &n, sizeof(n));
        if (!virtio_net_receive(dev, frame, FRAME))
            break;
    }
    ok(n >= 100 && n * FRAME <= 1u << 20, "%u frames wait, and no more", n);
    for (unsigned i = 0; i < n; i++) {
        unsigned got;

        offer(0, HDR + FRAME);
        driver_kick(&v, RX);
        pump();
        if (!driver_used(&v, RX, &id, &used))
            break;
        memcpy(&got, driver_at(&v, IN + HDR + 20), sizeof(got));
        in_order += got == i;
    }
    is_u64(in_order, n, "they come in order");
    virtio_net_receive(dev, frame, FRAME);
    driver_set(&v, VIRTIO_MMIO_STATUS, 0);
    ok(!virtio_net_receive(dev, frame, FRAME), "without a driver, frames are lost");
    start(0);
    offer(0, HDR + FRAME);
    pump();
    ok(!driver_used(&v, RX, &id, &used), "and a reset forgets those that waited");
}

static void test_merge(void)
{
    static u8 frame[VIRTIO_NET_FRAME_MAX];
    struct virtio_net_hdr_v1 h;
    u32 id, used, total = 0, n = 0;
    u8 *at = driver_at(&v, IN);

    fill(frame, sizeof(frame));
    start(MRG);
    for (u32 i = 0; i < 3; i++)
        offer(0x1000 * i, 500);
    ok(virtio_net_receive(dev, frame, 1800), "a frame for four buffers, and there are three");
    pump();
    ok(!driver_used(&v, RX, &id, &used), "uses none");
    offer(0x3000, 500);
    offer(0x4000, 500);
    driver_kick(&v, RX);
    pump();
    memcpy(&h, at, HDR);
    is_u64(h.num_buffers, 4, "with the fourth it comes");
    for (; driver_used(&v, RX, &id, &used); n++)
        total += used;
    ok(n == 4 && total == HDR + 1800, "in four used buffers");
    memmove(at + 500, at + 0x1000, 500);
    memmove(at + 1000, at + 0x2000, 500);
    memmove(at + 1500, at + 0x3000, 500);
    ok(same(at + HDR, 1800), "byte by byte");
    ok(*(u8 *)driver_at(&v, IN + 0x4000) == 0xee, "the fifth is left");

    start(MRG);
    offer(0, HDR);
    offer(0x1000, FRAME);
    virtio_net_receive(dev, frame, FRAME);
    pump();
    ok(driver_used(&v, RX, &id, &used) && used == HDR && driver_used(&v, RX, &id, &used) &&
           used == FRAME && same(driver_at(&v, IN + 0x1000), FRAME),
       "a buffer for the header alone");
    ok(!failed(MRG), "none of which fails the device");
}

static void test_echo(void)
{
    const struct virtio_net_hdr_v1 plain = {0};
    u32 id, used;

    start(MRG);
    fill(driver_at(&v, OUT + HDR), FRAME);
    offer(0, HDR + FRAME);
    echo = true;
    ok(send_frame(&plain, FRAME), "a wire that answers at once");
    echo = false;
    ok(driver_used(&v, RX, &id, &used) && same(driver_at(&v, IN + HDR), FRAME), "is heard");
}

static void malformed(const char *what, unsigned q, struct virtq_seg *segs, unsigned out,
                      unsigned in)
{
    static const u8 frame[60];

    driver_add(&v, q, segs, out, in);
    driver_kick(&v, q);
    if (q == RX)
        virtio_net_receive(dev, frame, sizeof(frame));
    pump();
    ok(failed(MRG), "%s fails the device", what);
}

static void test_malformed(void)
{
    struct virtq_seg segs[] = {{OUT, HDR + 60}, {IN, 2000}}, head = {OUT, HDR - 1};

    memset(driver_at(&v, OUT), 0, HDR + 60);
    start(MRG);
    malformed("a frame to send with room to write", TX, segs, 1, 1);
    malformed("less than a header", TX, &head, 1, 0);
    malformed("a buffer for frames with bytes to read", RX, segs, 1, 1);
    malformed("one that does not hold a header", RX, &head, 0, 1);
    segs[0].gpa = 0x10;
    malformed("a buffer that is no memory", TX, segs, 1, 0);
    echo = true;
    driver_add(&v, RX, &head, 0, 1);
    malformed("a bad buffer for the answer of a good frame", TX, &(struct virtq_seg){OUT, HDR + 60},
              1, 0);
    echo = false;
    test_send();
}

int main(void)
{
    struct virtio_net_options o = {
        .mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56}, .mtu = 9000, .kick = kick, .transmit = transmit};

    if (virtio_net_create(&o, &dev))
        return 99;
    driver_open(&v, dev);
    test_config();
    test_send();
    test_checksum();
    test_receive();
    test_limit();
    test_merge();
    test_echo();
    test_malformed();
    driver_close(&v);
    return tap_done();
}
