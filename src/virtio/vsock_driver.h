// SPDX-License-Identifier: MIT
// A virtio-vsock driver in user space: a guest's AF_VSOCK context on the rings of any device.
#pragma once

#include "uvirt/vsock.h"
#include "virtio/driver_queue.h"

#define VSOCK_DRIVER_QUEUES 3 /* rx, tx, event (virtio 5.10.2) */

/*
 * How a driver reaches its device: directly in the same process (vsock_local.h), or over
 * vhost-user (src/vhost/frontend.h). All return 0 or -errno.
 */
struct vsock_bus;
struct vsock_bus_ops {
    /* Back to the beginning, then: what the device offers. */
    int (*open)(struct vsock_bus *b, u64 *ret_features);
    /* The driver's choice, and the memory that all addresses are in: a memfd, mapped at (hva). */
    int (*setup)(struct vsock_bus *b, u64 features, int fd, u8 *hva, gpa_t gpa, u64 size);
    int (*guest_cid)(struct vsock_bus *b, u64 *ret_cid);
    int (*queue)(struct vsock_bus *b, unsigned i, const struct virtq_driver *q);
    /* DRIVER_OK: from here on the device may use the queues. */
    int (*start)(struct vsock_bus *b);
    void (*kick)(struct vsock_bus *b, unsigned i);
};

struct vsock_bus {
    const struct vsock_bus_ops *ops;
};

struct vsock_driver_options {
    u64 features;                /* to accept of what is offered; VERSION_1 is understood */
    u16 queue_size;              /* 0: 128 */
    u32 rx_size;                 /* bytes of a receive buffer, 44 .. 65580; 0: what Linux posts */
    unsigned rx_descs, tx_descs; /* descriptors of one buffer; 0: one */
    bool marker;

    /* As vsock_driver_config's; calls virtio_vsock_driver_pump() in its turn. */
    void (*flush)(void *opaque);
    void *opaque;
};

struct virtio_vsock_driver;

/*
 * Bring up (bus)'s device as the transport of (v), whose CID becomes what the device says. 0,
 * -ENOMEM, -EINVAL (options), -EPROTO (the device breaks the rules), or what the bus says.
 */
int virtio_vsock_driver_create(struct uvirt_vsock *v, struct vsock_bus *bus,
                               const struct vsock_driver_options *o,
                               struct virtio_vsock_driver **ret);
void virtio_vsock_driver_free(struct virtio_vsock_driver *d);

/*
 * Move packets both ways as far as they go; to be called after each interrupt and flush, by
 * one thread at a time. True if anything moved. -EPROTO ends all connections, once: the
 * device is not to be trusted any more.
 */
int virtio_vsock_driver_pump(struct virtio_vsock_driver *d);

/* The device has lost its state: begin again, connections end with ECONNRESET. As create(). */
int virtio_vsock_driver_restart(struct virtio_vsock_driver *d);
