// SPDX-License-Identifier: MIT
// The header codec and the credit arithmetic: wrap, shrinking buffers, forged counters, limits.
#include "vsock/credit.h"

#include "../tap.h"

static struct vsock_hdr peer(u32 buf_alloc, u32 fwd_cnt)
{
    return (struct vsock_hdr){.buf_alloc = buf_alloc, .fwd_cnt = fwd_cnt};
}

static void hear(struct vsock_credit *c, u32 buf_alloc, u32 fwd_cnt)
{
    struct vsock_hdr h = peer(buf_alloc, fwd_cnt);

    vsock_credit_peer(c, &h);
}

static void test_codec(void)
{
    static const u8 wire[VSOCK_HDR_SIZE] = {
        3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12, 0xd2, 4,
        0, 0, 0, 0, 1, 0, 2, 0, 5, 0, 3, 0, 0, 0, 0, 0, 4,    0,    0xff, 0xff, 0xff, 0xff};
    struct vsock_hdr h;
    u8 back[VSOCK_HDR_SIZE];

    vsock_hdr_decode(&h, wire);
    ok(h.src_cid == 3 && h.dst_cid == 2 && h.src_port == 0x12345678 && h.dst_port == 1234 &&
           h.len == 65536 && h.type == 2 && h.op == 5 && h.flags == 3 && h.buf_alloc == 262144 &&
           h.fwd_cnt == UINT32_MAX,
       "a header decodes");
    vsock_hdr_encode(back, &h);
    ok(!memcmp(back, wire, sizeof(wire)), "and encodes to the same bytes");
}

static void test_send(void)
{
    struct vsock_credit c;

    vsock_credit_init(&c, 262144);
    is_u64(vsock_credit_space(&c), 0, "nothing may be sent before the peer has spoken");
    hear(&c, 1000, 0);
    is_u64(vsock_credit_space(&c), 1000, "the peer's buffer caps the sender");
    hear(&c, UINT32_MAX, 0);
    is_u64(vsock_credit_space(&c), 262144, "CVE-2026-23086: so does our own");
    vsock_credit_take(&c, 1000, 1);
    hear(&c, 10, 0);
    is_u64(vsock_credit_space(&c), 0, "CVE-2026-23069: a shrunken buf_alloc leaves no credit");
    hear(&c, 262144, 5000);
    is_u64(vsock_credit_space(&c), 261144, "a forged fwd_cnt gives none either");
    hear(&c, 262144, 1000);
    is_u64(vsock_credit_space(&c), 262144, "an honest one does");
    hear(&c, 262144, 500);
    is_u64(vsock_credit_space(&c), 262144, "and does not go back");
}

static void test_wrap(void)
{
    struct vsock_credit c;
    u64 sent = 0;
    bool good = true;

    vsock_credit_init(&c, 1 << 20);
    hear(&c, 1 << 20, 0);
    while (sent < 3ull << 32) {
        vsock_credit_take(&c, 1 << 20, 16);
        sent += 1 << 20;
        good = good && !vsock_credit_space(&c) && !vsock_credit_can_send(&c, 1, 1);
        hear(&c, 1 << 20, (u32)sent - 1);
        good = good && vsock_credit_space(&c) == (1 << 20) - 1;
        hear(&c, 1 << 20, sent);
        good = good && vsock_credit_space(&c) == 1 << 20 && !c.tx_pkts;
    }
    ok(good, "u32 counters wrap: sending");
}

static void test_receive(void)
{
    struct vsock_credit c;
    struct vsock_hdr h;
    bool good = true;

    vsock_credit_init(&c, 4096);
    ok(!vsock_credit_receive(&c, 1), "nothing may come before we have spoken");
    vsock_credit_stamp(&c, &h);
    ok(h.buf_alloc == 4096 && h.fwd_cnt == 0, "what we say");
    ok(vsock_credit_receive(&c, 4096) && !vsock_credit_receive(&c, 1), "as much, no more");
    vsock_credit_consume(&c, 100);
    ok(!vsock_credit_receive(&c, 1), "what the peer does not know of it cannot use");
    ok(vsock_credit_update_due(&c, 0), "so it is told");
    vsock_credit_stamp(&c, &h);
    ok(vsock_credit_receive(&c, 100) && !vsock_credit_receive(&c, 1), "and then can");
    vsock_credit_consume(&c, 4096);
    vsock_credit_stamp(&c, &h);
    vsock_credit_resize(&c, 128);
    vsock_credit_stamp(&c, &h);
    ok(h.buf_alloc == 128 && vsock_credit_receive(&c, 4096) && !vsock_credit_receive(&c, 1),
       "a buffer that shrinks takes what was promised before");
    vsock_credit_consume(&c, 4096);
    vsock_credit_stamp(&c, &h);
    ok(!vsock_credit_receive(&c, 129) && vsock_credit_receive(&c, 128), "and then its new size");
    vsock_credit_init(&c, 1 << 20);
    for (u64 sent = 0; sent < 3ull << 32; sent += 1 << 20) {
        vsock_credit_stamp(&c, &h);
        good = good && vsock_credit_receive(&c, 1 << 20) && !vsock_credit_receive(&c, 1);
        vsock_credit_consume(&c, 1 << 20);
    }
    ok(good, "u32 counters wrap: receiving");
}

static void test_update(void)
{
    struct vsock_pkt some = {.merged = 39};
    struct vsock_credit c;
    struct vsock_hdr h;

    vsock_credit_init(&c, 262144);
    hear(&c, 262144, 0);
    vsock_credit_stamp(&c, &h);
    vsock_credit_receive(&c, 262000);
    ok(!vsock_credit_update_due(&c, 1000), "no update without news");
    vsock_credit_consume(&c, 131071);
    ok(!vsock_credit_update_due(&c, 144), "none while the reader gets what it wants");
    ok(vsock_credit_update_due(&c, 145), "one if it wants more than the peer may send");
    vsock_credit_asked(&c);
    ok(vsock_credit_update_due(&c, 1) && !vsock_credit_update_due(&c, 0),
       "one to a peer that asked, once there is nothing to read");
    vsock_credit_stamp(&c, &h);
    vsock_credit_consume(&c, 1);
    ok(!vsock_credit_update_due(&c, 1), "which is an answer");
    vsock_credit_consume(&c, 130928);
    vsock_credit_receive(&c, 65679);
    vsock_credit_consume(&c, 65678);
    ok(!vsock_credit_update_due(&c, 0), "none below three quarters of the window");
    vsock_credit_consume(&c, 1);
    ok(vsock_credit_update_due(&c, 0), "one from there on");
    vsock_credit_stamp(&c, &h);
    vsock_credit_consume(&c, 1);
    for (unsigned i = 0; i < 2; i++)
        vsock_credit_drop(&c, &some);
    ok(!vsock_credit_update_due(&c, 0), "nor for 80 packets");
    vsock_credit_drop(&c, &some);
    ok(vsock_credit_update_due(&c, 0), "but for 120, merged or not");
}

static void test_packets(void)
{
    struct vsock_credit c;
    unsigned n = 0;

    vsock_credit_init(&c, 262144);
    hear(&c, 262144, 0);
    while (n < 100000 && vsock_credit_can_send(&c, 1, 1)) {
        vsock_credit_take(&c, 1, 1);
        n++;
    }
    is_u64(
        n, 262144 / 576,
        "libkrun #795, gominimal #885, #926: packets under way stay within newest Linux's limit");
    hear(&c, 262144, 5);
    n = 0;
    while (n < 100000 && vsock_credit_can_send(&c, 1, 1)) {
        vsock_credit_take(&c, 1, 1);
        n++;
    }
    is_u64(n, 5, "and fwd_cnt retires them");
    vsock_credit_init(&c, 262144);
    hear(&c, 262144, 0);
    for (n = 0; n < 450; n++)
        vsock_credit_take(&c, 1, 1);
    is_u64(vsock_credit_fit(&c), 5 * 3732 - 1, "a large packet counts as its pieces");
    vsock_credit_take(&c, 5 * 3732 - 1, vsock_credit_pkts(5 * 3732 - 1));
    is_u64(vsock_credit_fit(&c), 0, "which may use up the packets before the bytes");
    vsock_credit_init(&c, 128);
    hear(&c, 128, 0);
    ok(vsock_credit_can_send(&c, 128, 1), "one packet may always be under way");
    n = 0;
    while (n < 1000000 && vsock_credit_hold(&c))
        n++;
    ok(n > 50 && n < 500, "packets held are limited: %u in the smallest buffer", n);
}

int main(void)
{
    test_codec();
    test_send();
    test_wrap();
    test_receive();
    test_update();
    test_packets();
    return tap_done();
}
