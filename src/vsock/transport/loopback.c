// SPDX-License-Identifier: MIT
// Loopback: sockets of one context with each other.
#include "vsock/sock.h"

static struct vsock_loopback *of(struct vsock_transport *t)
{
    return container_of(t, struct vsock_loopback, t);
}

static bool loopback_reaches(struct vsock_transport *t, u32 cid)
{
    return cid == VMADDR_CID_LOCAL || cid == t->ctx->cid;
}

static void loopback_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    TAILQ_INSERT_TAIL(&of(t)->queue, p, link);
}

static bool loopback_allow(struct vsock_transport *t, u32 cid)
{
    return true;
}

static void loopback_cancel(struct vsock_transport *t, struct vsock_sock *sk)
{
    /* What is queued here is as good as delivered. */
}

static const struct vsock_transport_ops loopback_ops = {
    .name = "loopback",
    .reaches = loopback_reaches,
    .send = loopback_send,
    .stream_allow = loopback_allow,
    .seqpacket_allow = loopback_allow,
    .cancel = loopback_cancel,
};

void vsock_loopback_init(struct vsock_loopback *l, struct vsock_ctx *ctx)
{
    l->t.ops = &loopback_ops;
    l->t.local_cid = VMADDR_CID_LOCAL;
    l->t.seqpacket = &vsock_framing_eom;
    TAILQ_INIT(&l->queue);
    vsock_transport_add(ctx, &l->t);
}

void vsock_loopback_run(struct vsock_loopback *l)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(&l->queue))) {
        TAILQ_REMOVE(&l->queue, p, link);
        vsock_pkt_disown(p);
        vsock_receive(&l->t, p);
    }
}

void vsock_loopback_purge(struct vsock_loopback *l)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(&l->queue))) {
        TAILQ_REMOVE(&l->queue, p, link);
        vsock_pkt_sent(p);
    }
}
