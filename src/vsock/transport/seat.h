// SPDX-License-Identifier: MIT
// What both ends of a virtio-vsock device have in common: a transport whose packets wait for whoever works its rings.
#pragma once

#include "vsock/sock.h"

#include <stdatomic.h>

/*
 * The first member of struct vsock_device and struct vsock_driver. Protected by the context's
 * lock; the counters may be read without it, by the owner of the rings, who hears of every
 * packet that was queued after he looked.
 */
struct vsock_seat {
    struct vsock_transport t;
    bool running, stream, seqpacket;
    struct vsock_pkts queue;
    _Atomic unsigned waiting; /* packets on (queue) */
    _Atomic unsigned answers; /* those without payload */
};

/* An operation of struct vsock_transport_ops each. */
bool vsock_seat_stream_allow(struct vsock_transport *t, u32 cid);
bool vsock_seat_seqpacket_allow(struct vsock_transport *t, u32 cid);
void vsock_seat_cancel(struct vsock_transport *t, struct vsock_sock *sk);

/* A seat that nobody sits on yet, of a transport that is to be added to its context. */
void vsock_seat_init(struct vsock_seat *s, const struct vsock_transport_ops *ops, u32 local_cid,
                     bool marker);

/* The other end is there, and does these types. Lock held. */
void vsock_seat_start(struct vsock_seat *s, bool stream, bool seqpacket);

/* It has lost all connections, which end with ECONNRESET; what waits is dropped. Lock held. */
void vsock_seat_reset(struct vsock_seat *s);

/* It is gone; or the seat itself goes. Lock not held. */
void vsock_seat_stop(struct vsock_seat *s);
void vsock_seat_remove(struct vsock_seat *s);

/* Queue (p), which is dropped if nobody is there: false then. Lock held. */
bool vsock_seat_queue(struct vsock_seat *s, struct vsock_pkt *p);

/* The rest is for the owner of the rings, and takes the lock where it must. */

/* Is there a packet to take? */
static inline bool vsock_seat_waiting(const struct vsock_seat *s)
{
    return atomic_load_explicit(&s->waiting, memory_order_relaxed);
}

/* So many answers wait that the other end has to. */
bool vsock_seat_congested(const struct vsock_seat *s);

/* The next packet, or NULL; (done), unless NULL, is through. */
struct vsock_pkt *vsock_seat_next(struct vsock_seat *s, struct vsock_pkt *done);

/* (p) is through; NULL is fine. */
void vsock_seat_done(struct vsock_seat *s, struct vsock_pkt *p);
