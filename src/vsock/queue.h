// SPDX-License-Identifier: MIT
// What a socket has received and nobody has read: a list of packets, in records for SEQPACKET.
#pragma once

#include "vsock/credit.h"

/*
 * A record is the packets up to and with one that has EOM in hdr.flags; STREAM never has
 * EOM. Small neighbours within one record are merged, so memory stays within twice the
 * payload plus what the credit's packet limit allows. Packets of more than
 * VSOCK_MERGE_MAX bytes are never written again once queued: a reader may copy out of
 * them without the context's lock.
 */

#define VSOCK_MERGE_MAX 4096

struct vsock_queue {
    struct vsock_pkts pkts;
    u32 bytes; /* unread payload */
    u32 msgs;  /* complete records */
};

void vsock_queue_init(struct vsock_queue *q);

/* Append a packet; takes it. 0, or -ENOBUFS when (c)'s packet limit is passed. */
int vsock_queue_add(struct vsock_queue *q, struct vsock_credit *c, struct vsock_pkt *p);

/* Append all of (from), complete records, which becomes empty. */
void vsock_queue_splice(struct vsock_queue *q, struct vsock_queue *from);

/* Consume (n) bytes of the first packet, which goes once it is read to its end. */
void vsock_queue_eat(struct vsock_queue *q, struct vsock_credit *c, u32 n);

/* Move the first record into (to) and consume its bytes. There must be one. */
void vsock_queue_take_record(struct vsock_queue *q, struct vsock_credit *c, struct vsock_pkts *to);

/* Drop everything, and consume it. */
void vsock_queue_purge(struct vsock_queue *q, struct vsock_credit *c);
