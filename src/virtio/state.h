// SPDX-License-Identifier: MIT
// Saved state of virtio devices and their queues.
#pragma once

#include "base/state.h"
#include "virtio/device.h"

/*
 * These save, or load into a device that was created alike and not used yet. Loading calls nobody
 * back and raises no interrupt; what does not fit fails with the field's name. Guest memory must
 * be loaded before. Device lock held.
 */

/* Can this device be saved at all? */
static inline bool virtio_device_saves(const struct virtio_device *d)
{
    return d->ops->state != NULL;
}

/* Everything of (d), with its queues and what its type adds (virtio_device_ops.state). */
void virtio_device_state(struct virtio_device *d, struct state *s);
