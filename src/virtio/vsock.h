// SPDX-License-Identifier: MIT
// virtio-vsock (virtio 5.10): moves packets between a guest's rings and the AF_VSOCK core.
#pragma once

#include "uvirt/vsock.h"
#include "virtio/device.h"

#ifndef VIRTIO_VSOCK_F_STREAM
#define VIRTIO_VSOCK_F_STREAM 0
#endif
#ifndef VIRTIO_VSOCK_F_NO_IMPLIED_STREAM
#define VIRTIO_VSOCK_F_NO_IMPLIED_STREAM 2
#endif

struct virtio_vsock_options {
    u64 guest_cid;
    bool marker;  /* records in marker framing */
    u32 eom_port; /* ... but for those of this port of the host; 0: all */

    /*
     * Ask for virtio_vsock_pump(): host sockets have something for the guest. Called from
     * any thread with locks held; it may do no more than wake up the device's thread.
     */
    void (*kick)(void *opaque);

    /*
     * The guest's notifications only call (kick), too, and stay off while the device's thread is
     * at it: it calls virtio_vsock_rest() before it waits.
     */
    bool deferred;

    /* Instead of it: take the device lock and do it (vsock/transport/device.h). */
    void (*flush)(void *opaque);
    void *opaque;
};

/*
 * A device for (v), which is the host's end and must outlive it. 0, -EINVAL (CID reserved or
 * above 32 bits), -EADDRINUSE (the CID has a device already), -ENOMEM.
 */
int virtio_vsock_create(struct uvirt_vsock *v, const struct virtio_vsock_options *o,
                        struct virtio_device **ret);

/* Move packets both ways as far as they go. Device lock held. */
void virtio_vsock_pump(struct virtio_device *d);

/*
 * Of a deferred device: nothing is left to do, so ask the guest for notifications. True: there is
 * something after all, and it was not asked; pump again. Device lock held.
 */
bool virtio_vsock_rest(struct virtio_device *d);

/*
 * After a restore, when the connections of before are lost: end them on our side and tell
 * the guest (TRANSPORT_RESET, virtio 5.10.6.7). Device lock held.
 */
void virtio_vsock_transport_reset(struct virtio_device *d);
