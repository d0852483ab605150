// SPDX-License-Identifier: MIT
// Fuzzes virtio devices from the guest: registers, rings and buffers are the input's to write.

/*
 * The input is a device choice and a list of operations (see enum op). Memory and devices
 * outlive an input, but for a reset and cleared rings: making them anew would cost more
 * than most inputs. Invariants: no sanitizer report, read-only memory stays as it is, and
 * a device comes back after a reset whatever happened before.
 */
#include "driver.h"
#include "fuzz.h"
#include "virtio/blk.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"

#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define V1        BIT(VIRTIO_F_VERSION_1)
#define POKE_SPAN 0x20000 /* guest memory that inputs write to */
#define OPS_MAX   200
#define DISK_SIZE 65536

enum op {
    OP_REG_WRITE,  /* register, value */
    OP_REG_READ,   /* register */
    OP_CONFIG,     /* offset, length: read and write */
    OP_POKE,       /* address, bytes */
    OP_DESC,       /* queue, index, descriptor in short form */
    OP_OFFER_KICK, /* queue, head */
    OP_START,      /* features, queues */
    OP_PACKED,     /* vsock: a descriptor of a packed ring */
    OP_COUNT,
};

static struct driver drivers[3];
static bool ready;

static void set_up(void)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    struct uvirt_vsock_config host = {.size = sizeof(host), .cid = VMADDR_CID_HOST};
    struct virtio_vsock_options guest = {.guest_cid = 3};
    struct virtio_device *rng, *blk, *vsock;
    struct uvirt_vsock *context;

    if (fd < 0 || ftruncate(fd, DISK_SIZE) || virtio_rng_create(&rng) ||
        virtio_blk_create(&(struct virtio_blk_backend){.fd = fd, .serial = "fuzz"}, &blk) ||
        uvirt_vsock_create(&host, &context) || virtio_vsock_create(context, &guest, &vsock))
        abort();
    driver_open(&drivers[0], rng);
    driver_open(&drivers[1], blk);
    driver_open(&drivers[2], vsock);
    ready = true;
}

/* A descriptor whose address is in the driver's memory more often than not. */
static void desc_op(struct driver *v, struct fuzz_input *in)
{
    unsigned q = fuzz_u8(in) % DRIVER_QUEUES, i = fuzz_u8(in) % DRIVER_QUEUE_SIZE;
    u8 shape = fuzz_u8(in);
    gpa_t addr = shape & 0x80   ? fuzz_u64(in)
                 : shape & 0x40 ? DRIVER_RAM2 + fuzz_u16(in) % (2 * PAGE_SIZE)
                 : shape & 0x20 ? DRIVER_ROM + fuzz_u16(in) % PAGE_SIZE
                                : DRIVER_RAM + fuzz_u16(in);
    u32 len = shape & 0x10 ? fuzz_u32(in) : fuzz_u8(in) * 4u;

    driver_desc(v, v->q[q].desc, i, addr, len, shape & 7, fuzz_u8(in) % (DRIVER_QUEUE_SIZE + 1));
}

/* Write a descriptor of a packed ring, which needs its flags last, and kick. */
static void packed_op(struct driver *v, struct fuzz_input *in)
{
    unsigned q = fuzz_u8(in) % 3, i = fuzz_u8(in) % DRIVER_QUEUE_SIZE;
    u8 shape = fuzz_u8(in);
    struct vring_packed_desc d = {.addr = DRIVER_RAM + fuzz_u16(in), .len = fuzz_u16(in)};

    d.id = fuzz_u8(in);
    d.flags = (shape & 7) | (shape & 8 ? BIT(VRING_PACKED_DESC_F_USED) : 0) |
              (shape & 16 ? BIT(VRING_PACKED_DESC_F_AVAIL) : 0);
    memcpy((u8 *)driver_at(v, v->q[q].desc) + i * sizeof(d), &d, sizeof(d));
    driver_kick(v, q);
}

static void step(struct driver *v, struct fuzz_input *in)
{
    u8 buf[16];
    u32 at;
    unsigned q;

    switch (fuzz_u8(in) % OP_COUNT) {
    case OP_REG_WRITE:
        at = fuzz_u8(in) & ~3u;
        driver_set(v, at, fuzz_u32(in));
        break;
    case OP_REG_READ:
        driver_reg(v, fuzz_u8(in) & ~3u);
        break;
    case OP_CONFIG:
        at = VIRTIO_MMIO_CONFIG + fuzz_u8(in) % 0x100;
        q = fuzz_u8(in) % (sizeof(buf) + 1);
        virtio_mmio_read(v->t, at, buf, q);
        virtio_mmio_write(v->t, at, buf, q);
        break;
    case OP_POKE:
        at = fuzz_u32(in) % (POKE_SPAN - 256);
        fuzz_bytes(in, v->ram + at, fuzz_u8(in));
        break;
    case OP_DESC:
        desc_op(v, in);
        break;
    case OP_OFFER_KICK:
        q = fuzz_u8(in) % DRIVER_QUEUES;
        driver_offer(v, q, fuzz_u8(in) % (DRIVER_QUEUE_SIZE + 1));
        driver_kick(v, q);
        break;
    case OP_START:
        at = fuzz_u8(in);
        if (v == &drivers[2])
            driver_start(v,
                         V1 | (u64)(at & 7) | (u64)(at >> 6) << 28 |
                             (u64)(at >> 3 & 3) << VIRTIO_F_RING_PACKED,
                         3);
        else
            driver_start(v, V1 | (u64)(at & 0x3f) | (u64)(at >> 6) << 28,
                         fuzz_u8(in) % (DRIVER_QUEUES + 1));
        break;
    default:
        if (v == &drivers[2])
            packed_op(v, in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct driver *v;

    if (!ready)
        set_up();
    v = &drivers[fuzz_u8(&in) % ARRAY_SIZE(drivers)];
    virtio_mmio_reset(v->t);
    memset(v->ram, 0, POKE_SPAN);
    driver_rings(v);
    for (unsigned i = 0; i < OPS_MAX && in.size; i++)
        step(v, &in);
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        if (v->rom[i])
            abort(); /* a device wrote to read-only memory */
    }
    if (driver_start(v, V1, 1) != 15)
        abort(); /* a reset did not heal the device */
    return 0;
}
