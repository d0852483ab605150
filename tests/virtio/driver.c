// SPDX-License-Identifier: MIT
// The driver's seat: what a guest's driver does, written from the standard.
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static u8 *map(size_t size)
{
    u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        exit(99);
    return p;
}

static void on_irq(void *opaque, bool level)
{
    struct driver *v = opaque;

    v->irqs += level && !v->irq;
    v->irq = level;
}

void driver_open(struct driver *v, struct virtio_device *dev)
{
    memset(v, 0, sizeof(*v));
    v->ram = map(DRIVER_RAM_SIZE);
    v->ram2 = map(PAGE_SIZE);
    v->rom = map(PAGE_SIZE);
    if (mem_create(&v->mem) ||
        mem_slot_set(v->mem, 0, DRIVER_RAM, DRIVER_RAM_SIZE, v->ram, MEM_LOG_DIRTY) ||
        mem_slot_set(v->mem, 1, DRIVER_RAM2, PAGE_SIZE, v->ram2, 0) ||
        mem_slot_set(v->mem, 2, DRIVER_ROM, PAGE_SIZE, v->rom, MEM_READONLY))
        exit(99);
    if (dev && virtio_mmio_create(dev, v->mem, on_irq, v, &v->t))
        exit(99);
    driver_rings(v);
}

void driver_close(struct driver *v)
{
    virtio_mmio_free(v->t);
    mem_free(v->mem);
    munmap(v->ram, DRIVER_RAM_SIZE);
    munmap(v->ram2, PAGE_SIZE);
    munmap(v->rom, PAGE_SIZE);
}

u32 driver_reg(struct driver *v, u64 off)
{
    u32 value;

    virtio_mmio_read(v->t, off, &value, sizeof(value));
    return value;
}

void driver_set(struct driver *v, u64 off, u32 value)
{
    virtio_mmio_write(v->t, off, &value, sizeof(value));
}

void *driver_at(struct driver *v, gpa_t gpa)
{
    return v->ram + (gpa - DRIVER_RAM);
}

void driver_rings(struct driver *v)
{
    memset(v->ram, 0, DRIVER_QUEUES * 0x1000);
    for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
        gpa_t base = DRIVER_RAM + i * 0x1000;

        v->q[i] = (struct driver_queue){base, base + 0x400, base + 0x800, 0, 0, 0};
    }
}

u32 driver_start(struct driver *v, u64 features, unsigned nr)
{
    driver_set(v, VIRTIO_MMIO_STATUS, 0);
    driver_rings(v);
    driver_set(v, VIRTIO_MMIO_STATUS, 1);
    driver_set(v, VIRTIO_MMIO_STATUS, 3);
    for (unsigned i = 0; i < 2; i++) {
        driver_set(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        driver_set(v, VIRTIO_MMIO_DRIVER_FEATURES, features >> (32 * i));
    }
    driver_set(v, VIRTIO_MMIO_STATUS, 11);
    for (unsigned i = 0; i < nr; i++) {
        driver_set(v, VIRTIO_MMIO_QUEUE_SEL, i);
        driver_set(v, VIRTIO_MMIO_QUEUE_NUM, DRIVER_QUEUE_SIZE);
        driver_set(v, VIRTIO_MMIO_QUEUE_DESC_LOW, v->q[i].desc);
        driver_set(v, VIRTIO_MMIO_QUEUE_DESC_HIGH, v->q[i].desc >> 32);
        driver_set(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, v->q[i].avail);
        driver_set(v, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, v->q[i].avail >> 32);
        driver_set(v, VIRTIO_MMIO_QUEUE_USED_LOW, v->q[i].used);
        driver_set(v, VIRTIO_MMIO_QUEUE_USED_HIGH, v->q[i].used >> 32);
        driver_set(v, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    driver_set(v, VIRTIO_MMIO_STATUS, 15);
    return driver_reg(v, VIRTIO_MMIO_STATUS);
}

void driver_desc(struct driver *v, gpa_t table, unsigned i, gpa_t addr, u32 len, u16 flags,
                 u16 next)
{
    struct vring_desc d = {.addr = addr, .len = len, .flags = flags, .next = next};

    memcpy((u8 *)driver_at(v, table) + i * sizeof(d), &d, sizeof(d));
}

void driver_offer(struct driver *v, unsigned q, u16 head)
{
    struct driver_queue *k = &v->q[q];
    u16 *avail = driver_at(v, k->avail);

    avail[2 + k->avail_idx % DRIVER_QUEUE_SIZE] = head;
    avail[1] = ++k->avail_idx;
}

u16 driver_add(struct driver *v, unsigned q, const struct virtq_seg *segs, unsigned nr_out,
               unsigned nr_in)
{
    struct driver_queue *k = &v->q[q];
    u16 head = k->next_desc % DRIVER_QUEUE_SIZE;

    for (unsigned i = 0; i < nr_out + nr_in; i++) {
        u16 at = k->next_desc++ % DRIVER_QUEUE_SIZE;
        u16 flags = (i >= nr_out ? VRING_DESC_F_WRITE : 0) |
                    (i + 1 < nr_out + nr_in ? VRING_DESC_F_NEXT : 0);

        driver_desc(v, k->desc, at, segs[i].gpa, segs[i].len, flags,
                    k->next_desc % DRIVER_QUEUE_SIZE);
    }
    driver_offer(v, q, head);
    return head;
}

void driver_kick(struct driver *v, unsigned q)
{
    driver_set(v, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

bool driver_used(struct driver *v, unsigned q, u32 *id, u32 *len)
{
    struct driver_queue *k = &v->q[q];
    u16 *used = driver_at(v, k->used);
    struct vring_used_elem e;

    if (used[1] == k->used_seen)
        return false;
    memcpy(&e, (u8 *)used + 4 + sizeof(e) * (k->used_seen++ % DRIVER_QUEUE_SIZE), sizeof(e));
    *id = e.id;
    *len = e.len;
    return true;
}
