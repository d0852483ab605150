// SPDX-License-Identifier: MIT
// The header codec and packet allocation.
#include "vsock/packet.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct virtio_vsock_hdr) == VSOCK_HDR_SIZE, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, dst_cid) == 8, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, src_port) == 16, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, dst_port) == 20, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, len) == 24, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, type) == 28, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, op) == 30, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, flags) == 32, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, buf_alloc) == 36, "virtio 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr, fwd_cnt) == 40, "virtio 5.10.6");

void vsock_hdr_decode(struct vsock_hdr *h, const u8 wire[VSOCK_HDR_SIZE])
{
    struct virtio_vsock_hdr w;

    memcpy(&w, wire, sizeof(w));
    *h = (struct vsock_hdr){
        .src_cid = le64toh(w.src_cid),
        .dst_cid = le64toh(w.dst_cid),
        .src_port = le32toh(w.src_port),
        .dst_port = le32toh(w.dst_port),
        .len = le32toh(w.len),
        .type = le16toh(w.type),
        .op = le16toh(w.op),
        .flags = le32toh(w.flags),
        .buf_alloc = le32toh(w.buf_alloc),
        .fwd_cnt = le32toh(w.fwd_cnt),
    };
}

void vsock_hdr_encode(u8 wire[VSOCK_HDR_SIZE], const struct vsock_hdr *h)
{
    struct virtio_vsock_hdr w = {
        .src_cid = htole64(h->src_cid),
        .dst_cid = htole64(h->dst_cid),
        .src_port = htole32(h->src_port),
        .dst_port = htole32(h->dst_port),
        .len = htole32(h->len),
        .type = htole16(h->type),
        .op = htole16(h->op),
        .flags = htole32(h->flags),
        .buf_alloc = htole32(h->buf_alloc),
        .fwd_cnt = htole32(h->fwd_cnt),
    };

    memcpy(wire, &w, sizeof(w));
}

struct vsock_pkt *vsock_pkt_alloc(u32 cap)
{
    struct vsock_pkt *p = malloc(sizeof(*p) + cap);

    if (p) {
        memset(p, 0, sizeof(*p));
        p->cap = cap;
    }
    return p;
}

void vsock_pkt_free(struct vsock_pkt *p)
{
    free(p);
}

void vsock_pkts_free(struct vsock_pkts *list)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, p, link);
        vsock_pkt_free(p);
    }
}
