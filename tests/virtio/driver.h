// SPDX-License-Identifier: MIT
// A driver's seat for tests: guest memory with rings in it, and a device behind mmio registers.
#pragma once

#include "mem/mem.h"
#include "virtio/mmio.h"

#include <linux/virtio_mmio.h>

#define DRIVER_QUEUES     12
#define DRIVER_QUEUE_SIZE 16
#define DRIVER_RAM        0x100000ul /* guest address of (ram), 1 MiB */
#define DRIVER_RAM_SIZE   0x100000
#define DRIVER_ROM        0x800000ul             /* one read-only page */
#define DRIVER_RAM2       0x200000ul             /* a second slot right behind the first */
#define DRIVER_DATA       (DRIVER_RAM + 0x80000) /* free for buffers */

struct driver_queue {
    gpa_t desc, avail, used;
    u16 next_desc, avail_idx, used_seen;
};

struct driver {
    struct mem *mem;
    u8 *ram, *ram2, *rom;
    struct virtio_mmio *t;
    bool irq;
    unsigned irqs; /* rising edges */
    struct driver_queue q[DRIVER_QUEUES];
};

/* A driver with memory and (dev) behind registers; (dev) may be NULL. Exits on failure. */
void driver_open(struct driver *v, struct virtio_device *dev);
void driver_close(struct driver *v);

u32 driver_reg(struct driver *v, u64 off);
void driver_set(struct driver *v, u64 off, u32 value);

/* The start-up sequence of virtio 3.1.1 with (nr) queues; returns the final status. */
u32 driver_start(struct driver *v, u64 features, unsigned nr);

/* Forget all rings and write empty ones. */
void driver_rings(struct driver *v);

/* Write descriptor (i) of a table at (table). */
void driver_desc(struct driver *v, gpa_t table, unsigned i, gpa_t addr, u32 len, u16 flags,
                 u16 next);

/* Append (head) to the available ring of queue (q). */
void driver_offer(struct driver *v, unsigned q, u16 head);

/*
 * Make one chain of (nr_out) readable and (nr_in) writable buffers and offer it; returns its
 * head. Buffers are {gpa, len} in (segs), readable ones first.
 */
u16 driver_add(struct driver *v, unsigned q, const struct virtq_seg *segs, unsigned nr_out,
               unsigned nr_in);
void driver_kick(struct driver *v, unsigned q);

/* The next used element of queue (q), or false. */
bool driver_used(struct driver *v, unsigned q, u32 *id, u32 *len);

/* Host address of (gpa) in (ram). */
void *driver_at(struct driver *v, gpa_t gpa);
