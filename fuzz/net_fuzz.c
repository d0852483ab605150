// SPDX-License-Identifier: MIT
// Fuzzes virtio-net from both sides: rings, buffers and headers are the input's, and so are frames for the guest.

/*
 * The input is a list of operations (see enum op). Invariants: no sanitizer report; read-only
 * memory stays as it is; a frame on the wire has a possible length and readable bytes; a
 * frame that the device takes while buffers are well-formed arrives whole (OP_ROUND); a reset
 * heals everything.
 */
#include "driver.h"
#include "fuzz.h"
#include "virtio/net.h"

#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#define V1       BIT(VIRTIO_F_VERSION_1)
#define HDR      sizeof(struct virtio_net_hdr_v1)
#define SPAN     0x40000 /* guest memory that inputs write to */
#define ROUND    (DRIVER_RAM + 0x60000)
#define ROUND_IN (DRIVER_RAM + 0x70000)
#define OPS_MAX  200

enum op {
    OP_START,  /* features */
    OP_POKE,   /* address, bytes */
    OP_DESC,   /* queue, index, descriptor in short form */
    OP_OFFER,  /* queue, head; kick */
    OP_HEADER, /* where, a net header */
    OP_PUMP,
    OP_RECEIVE, /* length */
    OP_ROUND,   /* a frame out and in again, on a fresh start: lengths of it and of its buffers */
    OP_COUNT,
};

static struct driver v;
static struct virtio_device *dev;
static volatile u8 sum; /* what is sent must be readable */
static bool answer;     /* the wire answers at once */
static u8 last[VIRTIO_NET_FRAME_MAX];
static size_t last_len;

static void kick(void *opaque)
{
}

static void transmit(void *opaque, const void *frame, size_t len)
{
    if (len < 14 || len > VIRTIO_NET_FRAME_MAX)
        abort();
    for (size_t i = 0; i < len; i++)
        sum += ((const u8 *)frame)[i];
    memcpy(last, frame, len);
    last_len = len;
    if (answer)
        virtio_net_receive(dev, frame, len);
}

static u64 features(u8 bits)
{
    return V1 | (bits & 1 ? BIT(VIRTIO_NET_F_MRG_RXBUF) : 0) |
           (bits & 2 ? BIT(VIRTIO_NET_F_CSUM) : 0) | (bits & 4 ? BIT(VIRTIO_NET_F_GUEST_CSUM) : 0) |
           (u64)(bits >> 3 & 3) << VIRTIO_RING_F_INDIRECT_DESC;
}

/* A frame through the device and back, over buffers of any size that can hold a header. */
static void round_trip(struct fuzz_input *in)
{
    size_t len = 14 + fuzz_u16(in) % 4000, got = 0;
    u32 each = HDR + fuzz_u16(in) % 2048, id, used, n = 0;
    struct virtq_seg out = {ROUND, (u32)(HDR + len)};
    u8 *at = driver_at(&v, ROUND), copy[4096];

    driver_start(&v, features(1), 2);
    memset(at, 0, HDR);
    for (size_t i = 0; i < len; i++)
        at[HDR + i] = (u8)(i * 7 + len);
    for (u32 i = 0; i < DRIVER_QUEUE_SIZE; i++)
        driver_add(&v, 0, &(struct virtq_seg){ROUND_IN + 0x1000 * i, each}, 0, 1);
    driver_add(&v, 1, &out, 1, 0);
    answer = true;
    driver_kick(&v, 1);
    virtio_net_pump(dev);
    answer = false;
    if (last_len != len || memcmp(last, at + HDR, len))
        abort();
    for (; driver_used(&v, 0, &id, &used); n++) {
        if (got + used > sizeof(copy))
            abort();
        memcpy(copy + got, driver_at(&v, ROUND_IN + 0x1000 * n), used);
        got += used;
    }
    if ((u64)each * DRIVER_QUEUE_SIZE >= HDR + len
            ? got != HDR + len || copy[10] + (copy[11] << 8) != (int)n ||
                  memcmp(copy + HDR, at + HDR, len)
            : got)
        abort();
}

static void desc_op(struct fuzz_input *in)
{
    unsigned q = fuzz_u8(in) % 2, i = fuzz_u8(in) % DRIVER_QUEUE_SIZE;
    u8 shape = fuzz_u8(in);
    gpa_t addr = shape & 0x80   ? fuzz_u64(in)
                 : shape & 0x40 ? DRIVER_RAM2 + fuzz_u16(in) % (2 * PAGE_SIZE)
                 : shape & 0x20 ? DRIVER_ROM + fuzz_u16(in) % PAGE_SIZE
                                : DRIVER_RAM + fuzz_u16(in);
    u32 len = shape & 0x10 ? fuzz_u32(in) : fuzz_u16(in);

    driver_desc(&v, v.q[q].desc, i, addr, len, shape & 7, fuzz_u8(in) % (DRIVER_QUEUE_SIZE + 1));
}

static void step(struct fuzz_input *in)
{
    static const u8 frame[VIRTIO_NET_FRAME_MAX + 1];
    struct virtio_net_hdr_v1 h;
    unsigned q;
    u32 at;

    switch (fuzz_u8(in) % OP_COUNT) {
    case OP_START:
        q = fuzz_u8(in);
        driver_start(&v, features((u8)q), 2);
        answer = q & 0x80;
        break;
    case OP_POKE:
        at = fuzz_u32(in) % (SPAN - 256);
        fuzz_bytes(in, v.ram + at, fuzz_u8(in));
        break;
    case OP_DESC:
        desc_op(in);
        break;
    case OP_OFFER:
        q = fuzz_u8(in) % 2;
        driver_offer(&v, q, fuzz_u8(in) % (DRIVER_QUEUE_SIZE + 1));
        driver_kick(&v, q);
        break;
    case OP_HEADER:
        at = fuzz_u16(in);
        fuzz_bytes(in, &h, sizeof(h));
        memcpy(v.ram + at, &h, sizeof(h));
        break;
    case OP_PUMP:
        virtio_net_pump(dev);
        break;
    case OP_RECEIVE:
        at = fuzz_u16(in);
        virtio_net_receive(dev, frame, at);
        break;
    default:
        round_trip(in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    const struct virtio_net_options o = {.kick = kick, .transmit = transmit};
    struct fuzz_input in = {data, size};

    if (!dev) {
        if (virtio_net_create(&o, &dev))
            abort();
        driver_open(&v, dev);
    }
    virtio_mmio_reset(v.t);
    memset(v.ram, 0, SPAN);
    driver_rings(&v);
    answer = false;
    driver_start(&v, features(1), 2);
    for (unsigned i = 0; i < OPS_MAX && in.size; i++)
        step(&in);
    virtio_net_pump(dev);
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        if (v.rom[i])
            abort(); /* the device wrote to read-only memory */
    }
    if (driver_start(&v, V1, 2) != 15)
        abort(); /* a reset did not heal the device */
    return 0;
}
