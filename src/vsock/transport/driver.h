// SPDX-License-Identifier: MIT
// The guest's seat: packets between a guest's sockets and its host, without knowing about rings.
#pragma once

#include "uvirt/vsock.h"
#include "vsock/packet.h"

/*
 * The mirror image of device.h: whoever drives the rings (src/virtio/vsock_driver.c) calls
 * vsock_driver_input_all() for packets from the device, and takes packets for it with
 * vsock_driver_next(), from one thread at a time. All CIDs but the guest's own and loopback's
 * are reached through it.
 */
struct vsock_driver;

struct vsock_driver_config {
    bool marker; /* marker framing for records: the device must use it, too */

    /*
     * There are packets to take: a thread that is about to leave the library, or to wait,
     * calls this with no lock held. It may take them itself.
     */
    void (*flush)(void *opaque);

    /*
     * A packet with room for (len) bytes where the device can read them, or NULL: then it is
     * copied. Context's lock held. May be NULL.
     */
    struct vsock_pkt *(*alloc)(void *opaque, u32 len);
    void *opaque;
};

/* A driver that is not up yet. 0 or -ENOMEM. The context must outlive it. */
int vsock_driver_create(struct uvirt_vsock *v, const struct vsock_driver_config *config,
                        struct vsock_driver **ret);

/* Not from within flush(); waits for other threads that are. NULL is fine. */
void vsock_driver_free(struct vsock_driver *d);

/* The device is up: our address is (cid), which the context's becomes, and it does these types. */
void vsock_driver_start(struct vsock_driver *d, u32 cid, bool stream, bool seqpacket);

/* The device is gone, or has lost all connections: they end with ECONNRESET. */
void vsock_driver_stop(struct vsock_driver *d);

/* A packet with room for (len) bytes, for vsock_driver_input_all(); NULL: no memory. */
struct vsock_pkt *vsock_driver_alloc(struct vsock_driver *d, u32 len);

/* Packets from the device, hdr.len == len; takes them. */
void vsock_driver_input_all(struct vsock_driver *d, struct vsock_pkts *list);

/* So many answers wait that no more packets should be taken from the device. */
bool vsock_driver_congested(struct vsock_driver *d);

/* Is there a packet for the device? */
bool vsock_driver_waiting(struct vsock_driver *d);

/*
 * The next packet, or NULL. It is the caller's until it is (done): through, which the call for the
 * next one may say, or NULL.
 */
struct vsock_pkt *vsock_driver_next(struct vsock_driver *d, struct vsock_pkt *done);
void vsock_driver_done(struct vsock_driver *d, struct vsock_pkt *p);
