// SPDX-License-Identifier: MIT
// The virtio-mmio transport, version 2 (virtio 4.2): registers in front of a virtio device.
#pragma once

#include "base/types.h"
#include "virtio/device.h"

#define VIRTIO_MMIO_WINDOW 0x200 /* bytes of address space a device takes */

struct virtio_mmio;

/*
 * Put registers in front of (d), which the transport owns from now on. (m) is the guest's
 * memory. (irq) is called with the level of a level-triggered line whenever it changes.
 * 0 or -ENOMEM (then (d) stays the caller's).
 */
int virtio_mmio_create(struct virtio_device *d, struct mem *m,
                       void (*irq)(void *opaque, bool level), void *opaque,
                       struct virtio_mmio **ret);

/* Frees the device too. NULL is fine. */
void virtio_mmio_free(struct virtio_mmio *t);

/*
 * A guest access of (len) bytes at (off) in the window. Any length and offset is fine:
 * what the standard does not define reads as zero and ignores writes. Call with the
 * device lock held.
 */
void virtio_mmio_read(struct virtio_mmio *t, u64 off, void *data, unsigned len);
void virtio_mmio_write(struct virtio_mmio *t, u64 off, const void *data, unsigned len);

/*
 * Same as a write of (q) to QueueNotify (offset 0x50): for a VMM that catches it with an
 * ioeventfd. Call with the device lock held.
 */
void virtio_mmio_notify(struct virtio_mmio *t, u32 q);

/*
 * Save the registers and the device, or load them into fresh ones (state.h). The line is not touched:
 * virtio_mmio_redrive() raises it again where the interrupt chips have been loaded, and looks at all queues:
 * a driver that saw the device take its last notification sends no other. Device lock held.
 */
struct state;
void virtio_mmio_state(struct virtio_mmio *t, struct state *s);
void virtio_mmio_redrive(struct virtio_mmio *t);

/* The device behind the registers. */
struct virtio_device *virtio_mmio_device(struct virtio_mmio *t);

/* Back to power-on, as at a reset of the machine. Call with the device lock held. */
void virtio_mmio_reset(struct virtio_mmio *t);
