// SPDX-License-Identifier: MIT
// A transport: how packets leave for the CIDs that it reaches, and which socket types go there.
#pragma once

#include "vsock/packet.h"

struct vsock_ctx;
struct vsock_transport;

/*
 * Called with the context's lock held. A transport hands packets that arrive to
 * vsock_receive(), and gives every packet that it was given back through vsock_pkt_sent().
 */
struct vsock_transport_ops {
    const char *name;

    /* True if (cid) is reached through this transport. */
    bool (*reaches)(struct vsock_transport *t, u32 cid);

    /*
     * Take (p) for delivery, in order. Never fails and never calls back into sockets: what
     * it does there happens after the caller has finished.
     */
    void (*send)(struct vsock_transport *t, struct vsock_pkt *p);

    /* May sockets of the type be connected to (cid)? */
    bool (*stream_allow)(struct vsock_transport *t, u32 cid);
    bool (*seqpacket_allow)(struct vsock_transport *t, u32 cid);

    /* Drop packets of (sk) that have not left yet; its RST or SHUTDOWN are not among them. */
    void (*cancel)(struct vsock_transport *t, struct vsock_sock *sk);

    /*
     * A packet with room for (len) bytes that is cheaper to send than others; NULL: there is
     * none now. May be NULL.
     */
    struct vsock_pkt *(*alloc)(struct vsock_transport *t, u32 len);

    /*
     * Called without the lock by a thread that is leaving the library, or about to wait in
     * it, after vsock_flush_later(): it may move packets on there and then. May be NULL.
     */
    void (*flush)(struct vsock_transport *t);
};

struct vsock_transport {
    const struct vsock_transport_ops *ops;
    struct vsock_ctx *ctx;
    u32 local_cid;                             /* our address when a socket has none */
    const struct vsock_framing_ops *seqpacket; /* framing of records; see vsock_framing_at() */
    u32 eom_port; /* a port of ours whose records are in eom framing nonetheless; 0: none */
    bool eager;   /* flush() moves packets on as far as they go */
    bool flush_due;
    unsigned flushing;             /* threads in flush() */
    LIST_HEAD(, vsock_sock) socks; /* on this transport */
    LIST_ENTRY(vsock_transport) link;
};

/* Loopback: CID 1, the context's own CID, and nothing else. One in each context. */
struct vsock_loopback {
    struct vsock_transport t;
    struct vsock_pkts queue;
};

void vsock_loopback_init(struct vsock_loopback *l, struct vsock_ctx *ctx);

/* Deliver all that is queued, and what that gives rise to; drop it all. Lock held. */
void vsock_loopback_run(struct vsock_loopback *l);
void vsock_loopback_purge(struct vsock_loopback *l);
