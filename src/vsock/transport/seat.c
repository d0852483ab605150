// SPDX-License-Identifier: MIT
// The queue of a seat: packets between a context and the rings of its transport.
#include "vsock/transport/seat.h"

#include <errno.h>

#define ANSWERS_MAX 256 /* packets without payload that may wait before the other end has to */

static struct vsock_seat *of(struct vsock_transport *t)
{
    return container_of(t, struct vsock_seat, t);
}

/* Only ever changed with the lock held. */
static void add(_Atomic unsigned *counter, unsigned n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

bool vsock_seat_stream_allow(struct vsock_transport *t, u32 cid)
{
    return of(t)->stream;
}

bool vsock_seat_seqpacket_allow(struct vsock_transport *t, u32 cid)
{
    return of(t)->seqpacket;
}

static struct vsock_pkt *unlink_pkt(struct vsock_seat *s, struct vsock_pkt *p)
{
    TAILQ_REMOVE(&s->queue, p, link);
    p->queued = false;
    add(&s->waiting, -1u);
    if (!p->len)
        add(&s->answers, -1u);
    return p;
}

void vsock_seat_cancel(struct vsock_transport *t, struct vsock_sock *sk)
{
    struct vsock_pkt *p, *next;

    for (p = TAILQ_FIRST(&of(t)->queue); p; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->owner == sk && p->hdr.op != VIRTIO_VSOCK_OP_RST &&
            p->hdr.op != VIRTIO_VSOCK_OP_SHUTDOWN)
            vsock_pkt_sent(unlink_pkt(of(t), p));
    }
}

void vsock_seat_init(struct vsock_seat *s, const struct vsock_transport_ops *ops, u32 local_cid,
                     bool marker)
{
    s->t.ops = ops;
    s->t.local_cid = local_cid;
    s->t.seqpacket = marker ? &vsock_framing_marker : &vsock_framing_eom;
    TAILQ_INIT(&s->queue);
}

void vsock_seat_start(struct vsock_seat *s, bool stream, bool seqpacket)
{
    s->running = true;
    s->stream = stream;
    s->seqpacket = seqpacket;
}

static void purge(struct vsock_seat *s)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(&s->queue)))
        vsock_pkt_sent(unlink_pkt(s, p));
}

void vsock_seat_reset(struct vsock_seat *s)
{
    purge(s);
    vsock_transport_gone(&s->t, ECONNRESET);
}

void vsock_seat_stop(struct vsock_seat *s)
{
    vsock_lock(s->t.ctx);
    s->running = false;
    vsock_seat_reset(s);
    vsock_unlock(s->t.ctx);
}

void vsock_seat_remove(struct vsock_seat *s)
{
    struct vsock_ctx *ctx = s->t.ctx;

    vsock_lock(ctx);
    s->running = false;
    purge(s);
    vsock_transport_remove(&s->t);
    vsock_unlock(ctx);
}

bool vsock_seat_queue(struct vsock_seat *s, struct vsock_pkt *p)
{
    if (!s->running) {
        vsock_pkt_sent(p);
        return false;
    }
    TAILQ_INSERT_TAIL(&s->queue, p, link);
    p->queued = true;
    add(&s->waiting, 1);
    if (!p->len)
        add(&s->answers, 1);
    return true;
}

bool vsock_seat_congested(const struct vsock_seat *s)
{
    return atomic_load_explicit(&s->answers, memory_order_relaxed) >= ANSWERS_MAX;
}

struct vsock_pkt *vsock_seat_next(struct vsock_seat *s, struct vsock_pkt *done)
{
    struct vsock_pkt *p;

    if (!done && !vsock_seat_waiting(s))
        return NULL;
    vsock_lock(s->t.ctx);
    if (done)
        vsock_pkt_sent(done);
    p = TAILQ_FIRST(&s->queue);
    if (p)
        unlink_pkt(s, p);
    vsock_unlock(s->t.ctx);
    return p;
}

void vsock_seat_done(struct vsock_seat *s, struct vsock_pkt *p)
{
    if (!p)
        return;
    vsock_lock(s->t.ctx);
    vsock_pkt_sent(p);
    vsock_unlock(s->t.ctx);
}
