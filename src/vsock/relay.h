// SPDX-License-Identifier: MIT
// Core sockets whose other side is a relay: answers to any port's REQUEST, packets in and out without copies.
#pragma once

#include "vsock/sock.h"

/*
 * A relay speaks for peers that are not in this process: to a guest they look like sockets of
 * the context, or of other CIDs. It does not wait and does not copy: packets go from a
 * socket's queue to the relay as they are, and their credit goes back once the relay is
 * through with them; what it has read from elsewhere is in packets already.
 *
 * All functions want the context's lock held, but for vsock_relay_add() and _remove(), which
 * take it. A socket belongs to its relay, which ends it with vsock_close().
 */
struct vsock_relay {
    u32 guest_cid;
    bool foreign; /* also REQUESTs to CIDs that are not ours */

    /*
     * The guest wants a connection that no socket here takes. It is answered by accept or
     * refuse, at any later time. Called with the lock held: it may only take note.
     */
    void (*request)(struct vsock_relay *r, const struct vsock_hdr *h);

    LIST_ENTRY(vsock_relay) link; /* in the context */
};

void vsock_relay_add(struct vsock_ctx *ctx, struct vsock_relay *r);
void vsock_relay_remove(struct vsock_ctx *ctx, struct vsock_relay *r);

/* Called by the core: does the relay of (h)'s sender take packets for (h)'s CID? For its REQUEST? */
bool vsock_relay_speaks_for(struct vsock_ctx *ctx, const struct vsock_hdr *h);
bool vsock_relay_request(struct vsock_transport *t, const struct vsock_hdr *h);

/*
 * Make the connection that (h) asked for, with a receive buffer of (buffer) bytes; 0: the
 * usual. NULL: the guest is gone, it has such a connection already, or no memory; it was
 * refused then.
 */
struct vsock_sock *vsock_relay_accept(struct vsock_ctx *ctx, const struct vsock_hdr *h, u64 buffer);
void vsock_relay_refuse(struct vsock_ctx *ctx, const struct vsock_hdr *h);

/*
 * Connect to (to), without waiting, from (from); a port of ANY stands for a free one, as does
 * one of our own CID that is in use towards (to). 0, -ENODEV (no such guest), -ESOCKTNOSUPPORT,
 * -EADDRINUSE, -ENOMEM, ...
 */
int vsock_relay_connect(struct vsock_ctx *ctx, u16 type, struct vsock_addr from,
                        struct vsock_addr to, u64 buffer, struct vsock_sock **ret);

/*
 * Move packets that may be sent on to (list), up to (max) bytes but at least one, or one
 * record; (whole): only complete records. They still count as received.
 */
void vsock_relay_take(struct vsock_sock *sk, bool whole, u32 max, struct vsock_pkts *list);

/* (bytes) of packets taken are through, and those of (list) whole. Reports to the peer when due. */
void vsock_relay_done(struct vsock_sock *sk, u32 bytes, struct vsock_pkts *list);

/* A packet for vsock_relay_send(), with room for (cap) bytes and none in it. No lock needed. */
struct vsock_pkt *vsock_relay_alloc(struct vsock_ctx *ctx, u32 cap);

/*
 * Send p->len bytes with RW flags (flags); takes (p). vsock_wait_space(), not waiting, has
 * allowed it. On a connection that is over, (p) is dropped.
 */
void vsock_relay_send(struct vsock_sock *sk, struct vsock_pkt *p, u32 flags);

/* Mark a record whose packets come from the framing's enqueue with MSG_EOR. */
void vsock_relay_set_eor(struct vsock_sock *sk, struct vsock_pkts *list);

/* Send a record whose packets come from the framing's enqueue, payloads filled in. */
void vsock_relay_send_record(struct vsock_sock *sk, u32 len, struct vsock_pkts *list);
