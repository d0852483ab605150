// SPDX-License-Identifier: MIT
// Flow control of one connection (virtio 5.10.6.3): every rule and formula of it stands here once.
#pragma once

#include "vsock/packet.h"

/*
 * Counters are free-running u32 and wrap; only differences mean anything. Invariants,
 * whatever the peer sends:
 *  (1) tx_cnt - peer_fwd_cnt is what the peer holds: a fwd_cnt that would pass tx_cnt or go
 *      back is ignored.
 *  (2) we hold at most what we once advertised: rx_edge is the furthest that (fwd_cnt +
 *      buf_alloc) ever was on the wire, so shrinking our buffer cuts off nobody.
 *  (3) packets cost memory beyond their payload: the receiver has a limit on packets held,
 *      the sender keeps to the strictest limit among known receivers, newest Linux's, which
 *      resets a connection when (packets + 1) * 576 exceeds its buffer. A large packet may
 *      reach a guest in pieces, one for each buffer of its driver, and counts as that many.
 */

#define VSOCK_BUF_MAX     0x40000000u /* bytes; larger sizes count as this */
#define VSOCK_PKT_BUDGET  576         /* bytes that a queued packet costs a Linux receiver */
#define VSOCK_RX_PIECE    3732        /* payload that a buffer posted by Linux's driver holds */
#define VSOCK_CREDIT_ENDS 512

struct vsock_credit {
    /* Receiving. */
    u32 buf_alloc;          /* our buffer's size */
    u32 fwd_cnt;            /* bytes consumed so far */
    u32 last_fwd_cnt;       /* the one that the peer knows */
    u32 rx_edge;            /* rx position up to which the peer was allowed to send */
    u32 rx_held;            /* bytes received and not consumed */
    u32 rx_pkts;            /* packets in memory */
    u32 rx_unreported_pkts; /* as the peer counts them, consumed since it heard from us */
    bool rx_asked;          /* the peer waits for news */

    /* Sending. */
    u32 peer_buf_alloc, peer_fwd_cnt;
    u32 tx_cnt;
    u32 tx_pkts; /* packets that the peer may still hold */
    u32 head, tail;
    struct {
        u32 end, pkts;
    } ends[VSOCK_CREDIT_ENDS]; /* what was sent, until fwd_cnt passes (end) */
};

void vsock_credit_init(struct vsock_credit *c, u64 buf_alloc);

/* Change our buffer's size. */
void vsock_credit_resize(struct vsock_credit *c, u64 buf_alloc);

/* The most that may ever be under way: both buffers cap the sender. */
u32 vsock_credit_window(const struct vsock_credit *c);

/* Bytes that may be sent now. */
u32 vsock_credit_space(const struct vsock_credit *c);

/* True if (bytes) in (pkts) packets may be sent now. */
bool vsock_credit_can_send(const struct vsock_credit *c, u32 bytes, u32 pkts);

/* Packets that (bytes) of payload may become at the receiver. */
u32 vsock_credit_pkts(u32 bytes);

/* The most bytes that one packet may carry now; 0 if none may be sent. */
u32 vsock_credit_fit(const struct vsock_credit *c);

/* Take what vsock_credit_can_send() allowed. */
void vsock_credit_take(struct vsock_credit *c, u32 bytes, u32 pkts);

/* The peer's buf_alloc and fwd_cnt from any packet. True if there is more room to send now. */
bool vsock_credit_peer(struct vsock_credit *c, const struct vsock_hdr *h);

/* Account (len) payload bytes of a packet: false if the peer was not allowed to send it. */
bool vsock_credit_receive(struct vsock_credit *c, u32 len);

/* A packet went into, or (p) out of, memory. hold() is false when the limit is passed. */
bool vsock_credit_hold(struct vsock_credit *c);
void vsock_credit_drop(struct vsock_credit *c, const struct vsock_pkt *p);

/* (bytes) were consumed by the reader, or dropped. */
void vsock_credit_consume(struct vsock_credit *c, u32 bytes);

/* (bytes) of a packet went to the reader at once. */
void vsock_credit_pass(struct vsock_credit *c, u32 bytes);

/* Write our side into a packet about to be sent. */
void vsock_credit_stamp(struct vsock_credit *c, struct vsock_hdr *h);

/* A CREDIT_REQUEST came, and was answered. */
void vsock_credit_asked(struct vsock_credit *c);

/*
 * True if a CREDIT_UPDATE is due: 3/4 of the window was consumed, or a quarter of the packets,
 * since the peer last heard of it; or it has heard of less and the reader waits for (wanted)
 * more bytes, 0 if for none, which the peer does not know that it may send, or asks whether.
 */
bool vsock_credit_update_due(const struct vsock_credit *c, u32 wanted);
