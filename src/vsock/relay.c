// SPDX-License-Identifier: MIT
// What a relay does with sockets; the rules for both ends of a connection stay where they are.
#include "vsock/relay.h"

#include <errno.h>

void vsock_relay_add(struct vsock_ctx *ctx, struct vsock_relay *r)
{
    vsock_lock(ctx);
    LIST_INSERT_HEAD(&ctx->relays, r, link);
    vsock_unlock(ctx);
}

void vsock_relay_remove(struct vsock_ctx *ctx, struct vsock_relay *r)
{
    vsock_lock(ctx);
    LIST_REMOVE(r, link);
    vsock_unlock(ctx);
}

static struct vsock_relay *find(struct vsock_ctx *ctx, const struct vsock_hdr *h)
{
    struct vsock_relay *r;

    if (h->dst_cid >> 32)
        return NULL;
    LIST_FOREACH(r, &ctx->relays, link)
    {
        if (r->guest_cid == h->src_cid)
            return r;
    }
    return NULL;
}

bool vsock_relay_speaks_for(struct vsock_ctx *ctx, const struct vsock_hdr *h)
{
    struct vsock_relay *r = find(ctx, h);

    return r && r->foreign;
}

bool vsock_relay_request(struct vsock_transport *t, const struct vsock_hdr *h)
{
    struct vsock_relay *r = find(t->ctx, h);

    if (!r || vsock_route(t->ctx, r->guest_cid, 0) != t)
        return false;
    r->request(r, h);
    return true;
}

static void set_buffer(struct vsock_sock *sk, u64 buffer)
{
    if (!buffer)
        return;
    sk->buffer_size = sk->buffer_max = buffer;
    vsock_credit_resize(&sk->credit, buffer);
}

struct vsock_sock *vsock_relay_accept(struct vsock_ctx *ctx, const struct vsock_hdr *h, u64 buffer)
{
    struct vsock_transport *t = vsock_route(ctx, h->src_cid, 0);
    struct vsock_sock *sk = NULL;

    if (!t)
        return NULL;
    if (!vsock_find_connected(ctx, h->src_cid, h->src_port, h->dst_cid, h->dst_port) &&
        vsock_transport_allows(t, h->type, h->src_cid))
        sk = vsock_sock_new(ctx, h->type, NULL);
    if (!sk) {
        vsock_reset_reply(t, h);
        return NULL;
    }
    set_buffer(sk, buffer);
    vsock_sock_answer(sk, t, h);
    return sk;
}

void vsock_relay_refuse(struct vsock_ctx *ctx, const struct vsock_hdr *h)
{
    struct vsock_transport *t = vsock_route(ctx, h->src_cid, 0);

    if (t)
        vsock_reset_reply(t, h);
}

int vsock_relay_connect(struct vsock_ctx *ctx, u16 type, struct vsock_addr from,
                        struct vsock_addr to, u64 buffer, struct vsock_sock **ret)
{
    struct vsock_sock *sk = vsock_sock_new(ctx, type, NULL);
    int rc;

    if (!sk)
        return -ENOMEM;
    set_buffer(sk, buffer);
    sk->local = from;
    rc = vsock_connect(sk, to.cid, to.port, 0, true);
    if (rc == -EADDRINUSE && from.cid == ctx->cid) {
        sk->local.port = VMADDR_PORT_ANY;
        rc = vsock_connect(sk, to.cid, to.port, 0, true);
    }
    if (rc != -EINPROGRESS) {
        vsock_close(sk, false);
        return rc;
    }
    *ret = sk;
    return 0;
}

void vsock_relay_take(struct vsock_sock *sk, bool whole, u32 max, struct vsock_pkts *list)
{
    struct vsock_queue *q = &sk->rx;
    struct vsock_pkt *p;
    u32 taken = 0;
    bool inside = false; /* of a record */

    while ((p = TAILQ_FIRST(&q->pkts)) && (taken < max || (whole && inside))) {
        if (whole && !inside && !q->msgs)
            return;
        TAILQ_REMOVE(&q->pkts, p, link);
        TAILQ_INSERT_TAIL(list, p, link);
        taken += p->len - p->off;
        q->bytes -= p->len - p->off;
        inside = !(p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM);
        q->msgs -= !inside;
    }
}

void vsock_relay_done(struct vsock_sock *sk, u32 bytes, struct vsock_pkts *list)
{
    struct vsock_pkt *p;

    vsock_credit_consume(&sk->credit, bytes);
    TAILQ_FOREACH(p, list, link)
    {
        vsock_credit_drop(&sk->credit, p);
    }
    vsock_sock_report(sk);
}

struct vsock_pkt *vsock_relay_alloc(struct vsock_ctx *ctx, u32 cap)
{
    return vsock_pool_alloc(&ctx->pool, cap);
}

void vsock_relay_send(struct vsock_sock *sk, struct vsock_pkt *p, u32 flags)
{
    if (sk->state != VSOCK_ESTABLISHED || sk->done) {
        vsock_pkt_free(p);
        return;
    }
    vsock_sock_head(sk, p, VIRTIO_VSOCK_OP_RW);
    p->hdr.flags = flags;
    vsock_credit_take(&sk->credit, p->len, vsock_credit_pkts(p->len));
    vsock_sock_send(sk, p);
}

void vsock_relay_set_eor(struct vsock_sock *sk, struct vsock_pkts *list)
{
    bool marker = sk->transport && vsock_sock_framing(sk) == &vsock_framing_marker;
    struct vsock_pkt *p;

    TAILQ_FOREACH(p, list, link)
    {
        if (p->hdr.op != VIRTIO_VSOCK_OP_RW)
            continue;
        if (marker)
            p->hdr.flags |= VSOCK_RW_EOR;
        else if (p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM)
            p->hdr.flags |= VIRTIO_VSOCK_SEQ_EOR;
    }
}

void vsock_relay_send_record(struct vsock_sock *sk, u32 len, struct vsock_pkts *list)
{
    const struct vsock_framing_ops *framing = sk->transport ? vsock_sock_framing(sk) : NULL;
    struct vsock_pkt *p;

    if (!framing || sk->state != VSOCK_ESTABLISHED || sk->done) {
        vsock_pkts_free(list);
        return;
    }
    vsock_credit_take(&sk->credit, len + framing->overhead, framing->pkts(len));
    while ((p = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, p, link);
        vsock_sock_send(sk, p);
    }
}
