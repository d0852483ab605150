// SPDX-License-Identifier: MIT
// virtio-net (virtio 5.1): one Ethernet port, its wire in the hands of whoever creates it.
#pragma once

#include "virtio/device.h"

#define VIRTIO_NET_FRAME_MAX                                                                       \
    65550 /* bytes: an Ethernet header and the largest IP packet, rounded up */

struct virtio_net_options {
    u8 mac[6];
    u16 mtu; /* the largest IP packet, for the driver to know (VIRTIO_NET_F_MTU); 0: not said */
    /*
     * The driver has sent frames, or given buffers that frames wait for: have
     * virtio_net_pump() called, from here or soon.
     */
    void (*kick)(void *opaque);
    /* A frame from the guest, as it goes onto the wire; called by virtio_net_pump(). */
    void (*transmit)(void *opaque, const void *frame, size_t len);
    void *opaque;
};

/* The link is up from the start. 0 or -ENOMEM. Callbacks come with the device lock held. */
int virtio_net_create(const struct virtio_net_options *o, struct virtio_device **ret);

/*
 * A frame for the guest, with all checksums right. It is copied; without a buffer to put it
 * into it waits, up to a limit. False: it is lost, as on a wire: no driver, or the limit.
 * The driver hears of it at the end of the next virtio_net_pump(). May be called from (transmit).
 */
bool virtio_net_receive(struct virtio_device *d, const void *frame, size_t len);

/* Move what can be moved, both ways, and tell the driver. */
void virtio_net_pump(struct virtio_device *d);
