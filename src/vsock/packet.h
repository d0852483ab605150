// SPDX-License-Identifier: MIT
// One virtio-vsock packet: the 44-byte header, its codec, and a header with its payload.
#pragma once

#include "base/types.h"

#include <linux/virtio_vsock.h>
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

/*
 * A packet owns its payload. Bytes [off, len) are the ones not consumed yet; there is room
 * for (cap). (owner), if set, is the sending socket, with a reference: the transport gives
 * it back through vsock_pkt_sent().
 */
struct vsock_pkt {
    TAILQ_ENTRY(vsock_pkt) link;
    struct vsock_sock *owner;
    struct vsock_hdr hdr;
    u32 off, len, cap;
    u8 data[];
};

TAILQ_HEAD(vsock_pkts, vsock_pkt);

/* Between the wire's 44 bytes, little endian, and (h). */
void vsock_hdr_decode(struct vsock_hdr *h, const u8 wire[VSOCK_HDR_SIZE]);
void vsock_hdr_encode(u8 wire[VSOCK_HDR_SIZE], const struct vsock_hdr *h);

/* A packet with room for (cap) payload bytes, empty and with a zero header; NULL: no memory. */
struct vsock_pkt *vsock_pkt_alloc(u32 cap);

/* Free a packet that has no owner any more. NULL is fine. */
void vsock_pkt_free(struct vsock_pkt *p);

/* Free all packets of a list. */
void vsock_pkts_free(struct vsock_pkts *list);

static inline bool vsock_type_known(u16 type)
{
    return type == VIRTIO_VSOCK_TYPE_STREAM || type == VIRTIO_VSOCK_TYPE_SEQPACKET;
}
