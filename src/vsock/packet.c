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
        p->data = p->own;
    }
    return p;
}

void vsock_pkt_borrow(struct vsock_pkt *p, const void *data, bool *borrowed)
{
    p->data = (u8 *)data; /* it is only read */
    p->borrowed = borrowed;
    *borrowed = true;
}

void vsock_pkt_keep(struct vsock_pkt *p)
{
    if (!p->borrowed)
        return;
    memcpy(p->own + p->off, p->data + p->off, p->len - p->off);
    p->data = p->own;
    *p->borrowed = false;
    p->borrowed = NULL;
}

#define CLASS_MIN 2048u

/* The class whose packets have at least (cap) bytes; none for small and for odd ones. */
static int class_of(u32 cap)
{
    if (cap <= CLASS_MIN / 2 || cap > CLASS_MIN << (VSOCK_POOL_CLASSES - 1))
        return -1;
    for (int i = 0;; i++) {
        if (cap <= CLASS_MIN << i)
            return i;
    }
}

void vsock_pool_init(struct vsock_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    for (unsigned i = 0; i < VSOCK_POOL_CLASSES; i++) {
        TAILQ_INIT(&pool->free[i]);
        pool->bytes[i] = 0;
    }
}

void vsock_pool_fini(struct vsock_pool *pool)
{
    struct vsock_pkt *p;

    for (unsigned i = 0; i < VSOCK_POOL_CLASSES; i++) {
        while ((p = TAILQ_FIRST(&pool->free[i]))) {
            TAILQ_REMOVE(&pool->free[i], p, link);
            free(p);
        }
    }
    pthread_mutex_destroy(&pool->lock);
}

struct vsock_pkt *vsock_pool_alloc(struct vsock_pool *pool, u32 cap)
{
    int class = class_of(cap);
    struct vsock_pkt *p;

    if (class < 0)
        return vsock_pkt_alloc(cap);
    pthread_mutex_lock(&pool->lock);
    p = TAILQ_FIRST(&pool->free[class]);
    if (p) {
        TAILQ_REMOVE(&pool->free[class], p, link);
        pool->bytes[class] -= p->cap;
    }
    pthread_mutex_unlock(&pool->lock);
    if (p) {
        cap = p->cap;
        memset(p, 0, sizeof(*p));
        p->cap = cap;
        p->data = p->own;
    } else {
        p = vsock_pkt_alloc(CLASS_MIN << class);
    }
    if (p)
        p->pool = pool;
    return p;
}

void vsock_pkt_free(struct vsock_pkt *p)
{
    struct vsock_pool *pool = p ? p->pool : NULL;
    int class;

    if (p && p->release)
        p->release(p);
    if (p && p->borrowed)
        *p->borrowed = false;
    if (!pool) {
        free(p);
        return;
    }
    class = class_of(p->cap);
    pthread_mutex_lock(&pool->lock);
    if (pool->bytes[class] + p->cap <= VSOCK_POOL_KEEP) {
        pool->bytes[class] += p->cap;
        TAILQ_INSERT_HEAD(&pool->free[class], p, link);
        p = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
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
