// SPDX-License-Identifier: MIT
// The driver transport: a queue of packets towards the host, of a context that is a guest.
#include "vsock/transport/driver.h"
#include "vsock/sock.h"

#include <errno.h>
#include <stdlib.h>

#define ANSWERS_MAX 256 /* packets without payload that may wait before the device has to */

struct vsock_driver {
    struct vsock_transport t;
    struct vsock_driver_config config;

    /* Protected by the context's lock. */
    bool running, stream, seqpacket;
    struct vsock_pkts queue;
    unsigned answers; /* packets without payload on (queue) */
};

static struct vsock_driver *of(struct vsock_transport *t)
{
    return container_of(t, struct vsock_driver, t);
}

static bool driver_reaches(struct vsock_transport *t, u32 cid)
{
    return of(t)->running && cid != VMADDR_CID_LOCAL && cid != t->ctx->cid && cid != VMADDR_CID_ANY;
}

static void driver_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    struct vsock_driver *d = of(t);

    if (!d->running) {
        vsock_pkt_sent(p);
        return;
    }
    TAILQ_INSERT_TAIL(&d->queue, p, link);
    d->answers += !p->len;
    vsock_flush_later(t);
}

static bool driver_stream_allow(struct vsock_transport *t, u32 cid)
{
    return of(t)->stream;
}

static bool driver_seqpacket_allow(struct vsock_transport *t, u32 cid)
{
    return of(t)->seqpacket;
}

static struct vsock_pkt *unlink_pkt(struct vsock_driver *d, struct vsock_pkt *p)
{
    TAILQ_REMOVE(&d->queue, p, link);
    d->answers -= !p->len;
    return p;
}

static void driver_cancel(struct vsock_transport *t, struct vsock_sock *sk)
{
    struct vsock_driver *d = of(t);
    struct vsock_pkt *p, *next;

    for (p = TAILQ_FIRST(&d->queue); p; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->owner == sk && p->hdr.op != VIRTIO_VSOCK_OP_RST &&
            p->hdr.op != VIRTIO_VSOCK_OP_SHUTDOWN)
            vsock_pkt_sent(unlink_pkt(d, p));
    }
}

static void driver_flush(struct vsock_transport *t)
{
    of(t)->config.flush(of(t)->config.opaque);
}

static struct vsock_pkt *driver_alloc(struct vsock_transport *t, u32 len)
{
    struct vsock_driver *d = of(t);

    return d->running && d->config.alloc ? d->config.alloc(d->config.opaque, len) : NULL;
}

static const struct vsock_transport_ops driver_ops = {
    .name = "driver",
    .reaches = driver_reaches,
    .send = driver_send,
    .stream_allow = driver_stream_allow,
    .seqpacket_allow = driver_seqpacket_allow,
    .cancel = driver_cancel,
    .alloc = driver_alloc,
    .flush = driver_flush,
};

int vsock_driver_create(struct uvirt_vsock *v, const struct vsock_driver_config *config,
                        struct vsock_driver **ret)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    struct vsock_driver *d = calloc(1, sizeof(*d));

    if (!d)
        return -ENOMEM;
    d->config = *config;
    d->t.ops = &driver_ops;
    d->t.local_cid = ctx->cid;
    d->t.seqpacket = config->marker ? &vsock_framing_marker : &vsock_framing_eom;
    TAILQ_INIT(&d->queue);
    vsock_lock(ctx);
    vsock_transport_add(ctx, &d->t);
    vsock_unlock(ctx);
    *ret = d;
    return 0;
}

static void purge(struct vsock_driver *d)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(&d->queue)))
        vsock_pkt_sent(unlink_pkt(d, p));
}

void vsock_driver_free(struct vsock_driver *d)
{
    struct vsock_ctx *ctx;

    if (!d)
        return;
    ctx = d->t.ctx;
    vsock_lock(ctx);
    d->running = false;
    purge(d);
    vsock_transport_remove(&d->t);
    vsock_unlock(ctx);
    free(d);
}

void vsock_driver_start(struct vsock_driver *d, u32 cid, bool stream, bool seqpacket)
{
    vsock_lock(d->t.ctx);
    d->t.ctx->cid = d->t.local_cid = cid;
    d->running = true;
    d->stream = stream;
    d->seqpacket = seqpacket;
    vsock_unlock(d->t.ctx);
}

void vsock_driver_stop(struct vsock_driver *d)
{
    vsock_lock(d->t.ctx);
    d->running = false;
    purge(d);
    vsock_transport_gone(&d->t, ECONNRESET);
    vsock_unlock(d->t.ctx);
}

struct vsock_pkt *vsock_driver_alloc(struct vsock_driver *d, u32 len)
{
    return vsock_pool_alloc(&d->t.ctx->pool, len);
}

void vsock_driver_input(struct vsock_driver *d, struct vsock_pkt *p)
{
    struct vsock_ctx *ctx = d->t.ctx;

    vsock_lock(ctx);
    if (!d->running || p->hdr.dst_cid != d->t.local_cid)
        vsock_pkt_free(p);
    else
        vsock_receive(&d->t, p);
    vsock_unlock(ctx);
}

bool vsock_driver_congested(struct vsock_driver *d)
{
    bool yes;

    vsock_lock(d->t.ctx);
    yes = d->answers >= ANSWERS_MAX;
    vsock_unlock(d->t.ctx);
    return yes;
}

struct vsock_pkt *vsock_driver_take(struct vsock_driver *d)
{
    struct vsock_pkt *p;

    vsock_lock(d->t.ctx);
    p = TAILQ_FIRST(&d->queue);
    if (p)
        unlink_pkt(d, p);
    vsock_unlock(d->t.ctx);
    return p;
}

void vsock_driver_done(struct vsock_driver *d, struct vsock_pkt *p)
{
    vsock_lock(d->t.ctx);
    vsock_pkt_sent(p);
    vsock_unlock(d->t.ctx);
}
