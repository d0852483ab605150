// SPDX-License-Identifier: MIT
// The mmio registers as a driver walks them, with virtio-rng behind; then every kind of nonsense.
#include "driver.h"
#include "virtio/rng.h"

#include "../tap.h"

#include <linux/virtio_config.h>

#define V1 BIT(VIRTIO_F_VERSION_1)

static struct driver v;

static void test_identity(void)
{
    is_u64(driver_reg(&v, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976, "magic");
    is_u64(driver_reg(&v, VIRTIO_MMIO_VERSION), 2, "version");
    is_u64(driver_reg(&v, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG, "device id");
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 0, "status at power-on");
    driver_set(&v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    is_u64(driver_reg(&v, VIRTIO_MMIO_DEVICE_FEATURES) & 1, 1, "VERSION_1 is offered");
    driver_set(&v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 7);
    is_u64(driver_reg(&v, VIRTIO_MMIO_DEVICE_FEATURES), 0, "no features far up");
    is_u64(driver_reg(&v, VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff, "no shared memory region");
}

static void test_negotiation(void)
{
    driver_set(&v, VIRTIO_MMIO_STATUS, 3);
    driver_set(&v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    driver_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    driver_set(&v, VIRTIO_MMIO_STATUS, 11);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 3, "no FEATURES_OK without VERSION_1");
    driver_set(&v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    driver_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, 1 | 0x80000000);
    driver_set(&v, VIRTIO_MMIO_STATUS, 11);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 3, "none with a feature that was not offered");
    driver_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    driver_set(&v, VIRTIO_MMIO_STATUS, 11);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 11, "FEATURES_OK with VERSION_1");
    driver_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, 0x80000000);
    driver_set(&v, VIRTIO_MMIO_STATUS, 15);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 15, "features are final then");
    driver_set(&v, VIRTIO_MMIO_STATUS, 1);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 15, "status bits do not go away");
    driver_set(&v, VIRTIO_MMIO_STATUS, 0);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 0, "but by reset");
    driver_set(&v, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_NEEDS_RESET);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 0, "NEEDS_RESET is not the driver's to set");
}

static void test_queue_registers(void)
{
    driver_set(&v, VIRTIO_MMIO_STATUS, 0);
    driver_set(&v, VIRTIO_MMIO_QUEUE_SEL, 1);
    is_u64(driver_reg(&v, VIRTIO_MMIO_QUEUE_NUM_MAX), 0, "no second queue");
    driver_set(&v, VIRTIO_MMIO_QUEUE_READY, 1);
    is_u64(driver_reg(&v, VIRTIO_MMIO_QUEUE_READY), 0, "it does not get ready");
    driver_set(&v, VIRTIO_MMIO_QUEUE_SEL, 0xffffffff);
    is_u64(driver_reg(&v, VIRTIO_MMIO_QUEUE_NUM_MAX), 0, "nor a last one");
    is_u64(driver_start(&v, V1, 1), 15, "the start-up sequence");
    is_u64(driver_reg(&v, VIRTIO_MMIO_QUEUE_READY), 1, "the queue is ready");
    driver_set(&v, VIRTIO_MMIO_QUEUE_NUM, 0);
    driver_set(&v, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    driver_set(&v, VIRTIO_MMIO_QUEUE_READY, 1);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 15, "CVE-2026-5747: a ready queue holds still");
    driver_set(&v, VIRTIO_MMIO_QUEUE_READY, 0);
    is_u64(driver_reg(&v, VIRTIO_MMIO_QUEUE_READY), 0, "a queue can be stopped");
    driver_set(&v, VIRTIO_MMIO_QUEUE_NUM, 3);
    driver_set(&v, VIRTIO_MMIO_QUEUE_READY, 1);
    is_u64(driver_reg(&v, VIRTIO_MMIO_STATUS), 15 | VIRTIO_CONFIG_S_NEEDS_RESET,
           "a bad size fails the device");
    is_u64(driver_reg(&v, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG,
           "which says so by a configuration interrupt");
    is_u64(driver_start(&v, V1, 1), 15, "a reset heals it");
    ok(!v.irq, "and lowers the line");
}

static void test_rng(void)
{
    struct virtq_seg segs[] = {{DRIVER_DATA, 40}, {DRIVER_DATA + 0x100, 24}};
    static const u8 zero[64];
    u32 id, len;
    u16 head;

    driver_start(&v, V1, 1);
    memset(driver_at(&v, DRIVER_DATA), 0, 0x200);
    head = driver_add(&v, 0, segs, 0, 2);
    v.irqs = 0;
    driver_kick(&v, 0);
    ok(driver_used(&v, 0, &id, &len) && id == head && len == 64, "64 random bytes");
    ok(memcmp(driver_at(&v, DRIVER_DATA + 20), zero, 20) &&
           memcmp(driver_at(&v, DRIVER_DATA + 0x100), zero, 24),
       "in both buffers");
    ok(!memcmp(driver_at(&v, DRIVER_DATA + 40), zero, 64), "and not between them");
    is_u64(v.irqs, 1, "one interrupt");
    is_u64(driver_reg(&v, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING, "its cause");
    driver_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    ok(v.irq, "acknowledging another cause keeps the line up");
    driver_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    ok(!v.irq, "acknowledging this one lowers it");

    segs[0].len = DRIVER_RAM_SIZE / 4;
    driver_add(&v, 0, segs, 0, 1);
    driver_kick(&v, 0);
    ok(driver_used(&v, 0, &id, &len) && len == 65536, "a huge request is cut");
    segs[0].len = 8;
    driver_add(&v, 0, segs, 1, 0);
    driver_kick(&v, 0);
    ok(driver_used(&v, 0, &id, &len) && len == 0, "a request without room gets nothing");

    driver_offer(&v, 0, 999);
    driver_kick(&v, 0);
    ok(driver_reg(&v, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET,
       "a malformed ring fails the device");
    driver_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, 3);
    v.irqs = 0;
    driver_add(&v, 0, segs, 0, 1);
    driver_kick(&v, 0);
    ok(!driver_used(&v, 0, &id, &len) && !v.irqs, "which is silent from then on");
    driver_start(&v, V1, 1);
    driver_add(&v, 0, segs, 0, 1);
    driver_kick(&v, 0);
    ok(driver_used(&v, 0, &id, &len) && len == 8, "and works again after a reset");
    driver_set(&v, VIRTIO_MMIO_STATUS, 15 | VIRTIO_CONFIG_S_FAILED);
    driver_add(&v, 0, segs, 0, 1);
    driver_kick(&v, 0);
    ok(!driver_used(&v, 0, &id, &len), "a driver that gave up gets nothing");
}

static void test_kick_early(void)
{
    struct virtq_seg seg = {DRIVER_DATA, 8};
    u32 id, len;

    driver_set(&v, VIRTIO_MMIO_STATUS, 0);
    driver_rings(&v);
    driver_add(&v, 0, &seg, 0, 1);
    driver_kick(&v, 0);
    driver_kick(&v, 1);
    driver_kick(&v, 0xffffffff);
    ok(!driver_used(&v, 0, &id, &len) && driver_reg(&v, VIRTIO_MMIO_STATUS) == 0,
       "kicks before set-up do nothing");
}

/* Every offset and length, and 200000 random accesses: values are free, survival is not. */
static void test_nonsense(void)
{
    u8 buf[64];
    u64 seed = 1;

    for (u64 off = 0; off < 0x400; off++) {
        for (unsigned len = 1; len <= 8; len++) {
            memset(buf, 0xff, sizeof(buf));
            virtio_mmio_read(v.t, off, buf, len);
            if (buf[len] != 0xff)
                break;
            if (off != VIRTIO_MMIO_STATUS)
                virtio_mmio_write(v.t, off, buf, len);
        }
    }
    ok(buf[8] == 0xff, "every offset and length");
    virtio_mmio_read(v.t, VIRTIO_MMIO_MAGIC_VALUE, buf, 2);
    ok(buf[0] == 0, "registers answer 32-bit accesses alone");
    memset(buf, 0xff, sizeof(buf));
    virtio_mmio_read(v.t, ~0ull, buf, 4);
    ok(buf[0] == 0, "an offset far out reads as zero");
    for (unsigned i = 0; i < 200000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        u64 off = (seed >> 40) % 0x208;
        u32 value = seed >> 20 & 1 ? seed >> 32 & 0xff : seed >> 32;

        if (seed >> 22 & 1)
            off &= ~3ull;
        if (seed >> 21 & 1)
            virtio_mmio_read(v.t, off, buf, 4);
        else
            virtio_mmio_write(v.t, off, &value, 4);
    }
    is_u64(driver_start(&v, V1, 1), 15, "after random accesses a reset still heals");
}

int main(void)
{
    struct virtio_device *dev;

    if (virtio_rng_create(&dev))
        return 1;
    driver_open(&v, dev);
    test_identity();
    test_negotiation();
    test_queue_registers();
    test_rng();
    test_kick_early();
    test_nonsense();
    driver_close(&v);
    return tap_done();
}
