// SPDX-License-Identifier: MIT
// The host's seat of a virtio-vsock device: packets of one guest, without knowing about rings.
#pragma once

#include "uvirt/vsock.h"
#include "vsock/packet.h"

#include <sys/uio.h>

/*
 * Whoever owns the rings (src/virtio/vsock.c, a vhost-user back end) calls
 * vsock_device_input() for packets from the guest, and takes packets for it with
 * vsock_device_next() whenever it has room, after each kick and each input. It must do so
 * from one thread at a time; the context's sockets are used by any.
 */
struct vsock_device;
struct vsock_framing_ops;

struct vsock_device_config {
    u64 guest_cid;
    bool marker;  /* marker framing for records: the guest must use it, too */
    u32 eom_port; /* ... but not for those of this port of the host; 0: for all */

    /*
     * There are packets to take. Called from any thread, with the context's lock held: it
     * may do no more than wake up the owner.
     */
    void (*kick)(void *opaque);

    /*
     * Instead of kick, where any thread may work the rings: called with no lock held by a
     * thread that has sent something and is about to leave the library, or to wait.
     */
    void (*flush)(void *opaque);
    void *opaque;
};

/*
 * A guest that is not there yet. 0, -EINVAL (CID of 2 or less, all ones, or above 32 bits),
 * -EADDRINUSE (another guest of the context has it, or we), -ENOMEM. The context must
 * outlive the device.
 */
int vsock_device_create(struct uvirt_vsock *v, const struct vsock_device_config *config,
                        struct vsock_device **ret);
void vsock_device_free(struct vsock_device *d);

/* The guest's driver is there, and does these types. */
void vsock_device_start(struct vsock_device *d, bool stream, bool seqpacket);

/* It is gone, or starts anew: its connections end with ECONNRESET, packets for it are dropped. */
void vsock_device_stop(struct vsock_device *d);

/* End all connections, as vsock_device_stop(), but go on: for TRANSPORT_RESET. */
void vsock_device_reset(struct vsock_device *d);

/* A packet with room for (len) bytes, for vsock_device_input(); NULL: no memory. */
struct vsock_pkt *vsock_device_alloc(struct vsock_device *d, u32 len);

/*
 * A packet from the guest, hdr.len == len; takes it. One that does not come from the guest's
 * CID is dropped, one for a CID that is not ours, and that no relay speaks for, is answered
 * with RST.
 */
void vsock_device_input(struct vsock_device *d, struct vsock_pkt *p);

/* Each packet of (list), which becomes empty, in order; their readers wake up once. */
void vsock_device_input_all(struct vsock_device *d, struct vsock_pkts *list);

/*
 * As vsock_device_input() for an RW packet with the payload in (iov), if a reader waits for as much
 * with nothing queued: then it is copied once. False: nothing has happened.
 */
bool vsock_device_pass(struct vsock_device *d, const struct vsock_hdr *h, const struct iovec *iov,
                       unsigned nr);

/*
 * True while so many answers wait that no more packets should be read from the guest: one
 * that sends and never receives would fill our memory.
 */
bool vsock_device_congested(struct vsock_device *d);

/*
 * The next packet for the guest, or NULL. It is the caller's until it is (done): through, which
 * the call for the next one may say, or NULL.
 */
struct vsock_pkt *vsock_device_next(struct vsock_device *d, struct vsock_pkt *done);
void vsock_device_done(struct vsock_device *d, struct vsock_pkt *p);

/* (p), which was taken, must wait: its sender does not. */
void vsock_device_keep(struct vsock_device *d, struct vsock_pkt *p);

/*
 * The next piece of (p) for a buffer that holds (room) payload bytes: write its header, and
 * return its length; the caller copies p->data + p->off and adds it to p->off. A packet is
 * finished when p->off == p->len after at least one piece.
 */
u32 vsock_device_piece(struct vsock_device *d, const struct vsock_pkt *p, u32 room,
                       u8 wire[VSOCK_HDR_SIZE]);
