// SPDX-License-Identifier: MIT
// A virtio device apart from its transport: features, status, queues, configuration space.
#pragma once

#include "base/types.h"
#include "virtio/virtq.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

/*
 * A device file (rng.c, blk.c, net.c) embeds struct virtio_device and fills (ops). A
 * transport (mmio.c) owns the register interface and drives the device through the
 * functions below. One lock, the VMM's, protects a device and its transport: call
 * everything with the device lock held.
 */

struct virtio_device;
struct state;

struct virtio_device_ops {
    u32 id; /* VIRTIO_ID_* */

    /* The driver has accepted features (FEATURES_OK); may be NULL. */
    void (*start)(struct virtio_device *d);
    /* Back to power-on; queues are reset by the caller; may be NULL. */
    void (*reset)(struct virtio_device *d);
    /* Queue (q), ready and DRIVER_OK, was kicked. */
    void (*notify)(struct virtio_device *d, unsigned q);
    /* Configuration space, both bounds-checked by the callee; NULL: empty, reads zero. */
    void (*config_read)(struct virtio_device *d, u32 off, void *buf, u32 len);
    void (*config_write)(struct virtio_device *d, u32 off, const void *buf, u32 len);
    /* Save or load what this type has beside features, status and queues; NULL: it cannot be saved (state.h). */
    void (*state)(struct virtio_device *d, struct state *s);
    /* Frees the whole device. */
    void (*free)(struct virtio_device *d);
};

struct virtio_device {
    const struct virtio_device_ops *ops;
    u64 features; /* offered */
    u64 acked;    /* what the driver wrote; final once FEATURES_OK is set */
    u8 status;
    unsigned nr_queues;
    struct virtq *queues;

    /* Set by the transport: raise an interrupt for (VIRTIO_MMIO_INT_VRING or _CONFIG). */
    void (*signal)(struct virtio_device *d, u32 cause);
    /* Where each queue has its own: instead of signal() for VIRTIO_MMIO_INT_VRING. May be NULL. */
    void (*signal_queue)(struct virtio_device *d, unsigned q);
    void *transport;
};

/*
 * Fill in (d): (nr_queues) queues of at most (size_max) entries each. (features) are the
 * bits of the device type; those of the ring and the version are added. 0, -EINVAL or -ENOMEM. virtio_device_fini() undoes it.
 */
int virtio_device_init(struct virtio_device *d, const struct virtio_device_ops *ops,
                       unsigned nr_queues, u16 size_max, u64 features);
void virtio_device_fini(struct virtio_device *d);

/* Free a device of any type, through its ops. NULL is fine. */
void virtio_device_free(struct virtio_device *d);

/* For transports: guest memory, status writes with their rules (virtio 2.1), queue kicks. */
void virtio_device_attach(struct virtio_device *d, struct mem *m);
void virtio_device_set_status(struct virtio_device *d, u8 status);
void virtio_device_notify(struct virtio_device *d, unsigned q);

/* Have the queues obey the features that were agreed on. */
void virtio_device_queues_follow(struct virtio_device *d);

/* The driver broke the rules: DEVICE_NEEDS_RESET, and silence until it resets (virtio 2.1.2). */
void virtio_device_fail(struct virtio_device *d);

/* The device is set up by its driver and not failed. */
bool virtio_device_live(const struct virtio_device *d);

/* Interrupt for queue (q) if the driver wants one for what was pushed. */
void virtio_device_used(struct virtio_device *d, struct virtq *q);

/* True if the driver accepted feature bit (bit). */
static inline bool virtio_device_has(const struct virtio_device *d, unsigned bit)
{
    return d->acked & BIT(bit);
}

/* For config_read: copy [off, off+len) of a structure, zero beyond its end. */
void virtio_config_copy(void *buf, u32 off, u32 len, const void *config, size_t size);
