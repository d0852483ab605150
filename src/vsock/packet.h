// SPDX-License-Identifier: MIT
// One virtio-vsock packet: the 44-byte header, its codec, and a header with its payload.
#pragma once

#include "base/types.h"

#include <linux/virtio_vsock.h>
#include <pthread.h>
#include <sys/queue.h>

#define VSOCK_HDR_SIZE    44
#define VSOCK_PAYLOAD_MAX 65536 /* bytes; what Linux accepts in one packet */

/* Operations of marker framing; <linux/virtio_vsock.h> does not have them. */
#define VSOCK_OP_SEQ_BEGIN 8
#define VSOCK_OP_SEQ_END   9
#define VSOCK_RW_EOR       1 /* flag of RW in marker framing */

/* The header in host order (virtio 5.10.6). */
struct vsock_hdr {
    u64 src_cid, dst_cid;
    u32 src_port, dst_port;
    u32 len; /* payload bytes */
    u16 type, op;
    u32 flags;
    u32 buf_alloc, fwd_cnt;
};

struct vsock_sock;
struct vsock_pool;

/*
 * A packet owns its payload, or has it on loan and gives it back through (release). Bytes [off, len) are the ones not consumed yet; there is room
 * for (cap). (owner), if set, is the sending socket, with a reference: the transport gives
 * it back through vsock_pkt_sent().
 */
struct vsock_pkt {
    TAILQ_ENTRY(vsock_pkt) link;
    struct vsock_sock *owner;
    struct vsock_pool *pool; /* where it goes back to; NULL: to malloc */
    struct vsock_hdr hdr;
    u32 off, len, cap;
    u32 merged; /* packets that were, before they were put into this one */
    u8 *data;   /* (own), unless it is on loan */
    void (*release)(struct vsock_pkt *p); /* (data) goes back; any thread, any lock held */
    void *loan;                           /* for release() */
    bool *borrowed;                       /* see vsock_pkt_borrow(); NULL: not */
    bool queued;                          /* in a seat's queue */
    u8 own[];
};

TAILQ_HEAD(vsock_pkts, vsock_pkt);

/*
 * Large packets that are free, for use again: malloc gives their memory back to the kernel
 * and faults it in anew for each, which costs more than all copying. Has its own lock, taken
 * last.
 */
#define VSOCK_POOL_CLASSES 6      /* 2 KiB to 64 KiB, powers of two */
#define VSOCK_POOL_KEEP    524288 /* bytes of each class, at most */

struct vsock_pool {
    pthread_mutex_t lock;
    struct vsock_pkts free[VSOCK_POOL_CLASSES];
    u32 bytes[VSOCK_POOL_CLASSES];
};

void vsock_pool_init(struct vsock_pool *pool);

/* Free what is kept; all packets of the pool must have come back. */
void vsock_pool_fini(struct vsock_pool *pool);

/* As vsock_pkt_alloc(), from the pool if it is large. */
struct vsock_pkt *vsock_pool_alloc(struct vsock_pool *pool, u32 cap);

/* Between the wire's 44 bytes, little endian, and (h). */
void vsock_hdr_decode(struct vsock_hdr *h, const u8 wire[VSOCK_HDR_SIZE]);
void vsock_hdr_encode(u8 wire[VSOCK_HDR_SIZE], const struct vsock_hdr *h);

/* A packet with room for (cap) payload bytes, empty and with a zero header; NULL: no memory. */
struct vsock_pkt *vsock_pkt_alloc(u32 cap);

/*
 * Borrow the payload of a packet that was allocated with room for it: (data) stays where it is, the
 * caller's, for as long as *borrowed, which is set here, does. It ends when the packet is through,
 * or with vsock_pkt_keep(), which copies what is left to send. Context's lock held for both.
 */
void vsock_pkt_borrow(struct vsock_pkt *p, const void *data, bool *borrowed);
void vsock_pkt_keep(struct vsock_pkt *p);

/* Free a packet that has no owner any more. NULL is fine. */
void vsock_pkt_free(struct vsock_pkt *p);

/* Free all packets of a list. */
void vsock_pkts_free(struct vsock_pkts *list);

static inline bool vsock_type_known(u16 type)
{
    return type == VIRTIO_VSOCK_TYPE_STREAM || type == VIRTIO_VSOCK_TYPE_SEQPACKET;
}
