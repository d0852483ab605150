// SPDX-License-Identifier: MIT
// The device transport: a queue of packets towards one guest.
#include "vsock/transport/device.h"
#include "vsock/capture.h"
#include "vsock/relay.h"

#include <errno.h>
#include <stdlib.h>

#define ANSWERS_MAX 256 /* packets without payload that may wait before the guest has to */

struct vsock_device {
    struct vsock_transport t;
    struct vsock_device_config config;

    /* Protected by the context's lock. */
    bool running, stream, seqpacket;
    struct vsock_pkts queue;
    unsigned answers; /* packets without payload on (queue) */
};

static struct vsock_device *of(struct vsock_transport *t)
{
    return container_of(t, struct vsock_device, t);
}

static bool device_reaches(struct vsock_transport *t, u32 cid)
{
    return of(t)->running && cid == of(t)->config.guest_cid;
}

static void device_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    struct vsock_device *d = of(t);
    bool first = TAILQ_EMPTY(&d->queue);

    if (!d->running) {
        vsock_pkt_sent(p);
        return;
    }
    vsock_capture_packet(t->ctx->capture, p);
    TAILQ_INSERT_TAIL(&d->queue, p, link);
    d->answers += !p->len;
    if (d->config.flush)
        vsock_flush_later(t);
    else if (first && d->config.kick)
        d->config.kick(d->config.opaque);
}

static bool device_stream_allow(struct vsock_transport *t, u32 cid)
{
    return of(t)->stream;
}

static bool device_seqpacket_allow(struct vsock_transport *t, u32 cid)
{
    return of(t)->seqpacket;
}

static struct vsock_pkt *unlink_pkt(struct vsock_device *d, struct vsock_pkt *p)
{
    TAILQ_REMOVE(&d->queue, p, link);
    d->answers -= !p->len;
    return p;
}

static void device_cancel(struct vsock_transport *t, struct vsock_sock *sk)
{
    struct vsock_device *d = of(t);
    struct vsock_pkt *p, *next;

    for (p = TAILQ_FIRST(&d->queue); p; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->owner == sk && p->hdr.op != VIRTIO_VSOCK_OP_RST &&
            p->hdr.op != VIRTIO_VSOCK_OP_SHUTDOWN)
            vsock_pkt_sent(unlink_pkt(d, p));
    }
}

static void device_flush(struct vsock_transport *t)
{
    of(t)->config.flush(of(t)->config.opaque);
}

static const struct vsock_transport_ops device_ops = {
    .name = "device",
    .reaches = device_reaches,
    .send = device_send,
    .stream_allow = device_stream_allow,
    .seqpacket_allow = device_seqpacket_allow,
    .cancel = device_cancel,
    .flush = device_flush,
};

/* Another device of (ctx) with this CID. */
static bool cid_taken(struct vsock_ctx *ctx, u64 cid)
{
    struct vsock_transport *t;

    LIST_FOREACH(t, &ctx->transports, link)
    {
        if (t->ops == &device_ops && of(t)->config.guest_cid == cid)
            return true;
    }
    return cid == ctx->cid;
}

int vsock_device_create(struct uvirt_vsock *v, const struct vsock_device_config *config,
                        struct vsock_device **ret)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    struct vsock_device *d;
    bool taken;

    if (config->guest_cid <= VMADDR_CID_HOST || config->guest_cid >= VMADDR_CID_ANY)
        return -EINVAL;
    d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->config = *config;
    d->t.ops = &device_ops;
    d->t.local_cid = ctx->cid;
    d->t.seqpacket = config->marker ? &vsock_framing_marker : &vsock_framing_eom;
    d->t.eom_port = config->eom_port;
    TAILQ_INIT(&d->queue);
    vsock_lock(ctx);
    taken = cid_taken(ctx, config->guest_cid);
    if (!taken)
        vsock_transport_add(ctx, &d->t);
    vsock_unlock(ctx);
    if (taken) {
        free(d);
        return -EADDRINUSE;
    }
    *ret = d;
    return 0;
}

/* Drop what waits for the guest. */
static void purge(struct vsock_device *d)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(&d->queue)))
        vsock_pkt_sent(unlink_pkt(d, p));
}

void vsock_device_free(struct vsock_device *d)
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

void vsock_device_start(struct vsock_device *d, bool stream, bool seqpacket)
{
    vsock_lock(d->t.ctx);
    d->running = true;
    d->stream = stream;
    d->seqpacket = seqpacket;
    vsock_unlock(d->t.ctx);
}

void vsock_device_stop(struct vsock_device *d)
{
    vsock_lock(d->t.ctx);
    d->running = false;
    purge(d);
    vsock_transport_gone(&d->t, ECONNRESET);
    vsock_unlock(d->t.ctx);
}

void vsock_device_reset(struct vsock_device *d)
{
    vsock_lock(d->t.ctx);
    purge(d);
    vsock_transport_gone(&d->t, ECONNRESET);
    vsock_unlock(d->t.ctx);
}

struct vsock_pkt *vsock_device_alloc(struct vsock_device *d, u32 len)
{
    return vsock_pool_alloc(&d->t.ctx->pool, len);
}

void vsock_device_input(struct vsock_device *d, struct vsock_pkt *p)
{
    struct vsock_ctx *ctx = d->t.ctx;
    bool type_ok;

    vsock_lock(ctx);
    if (d->running)
        vsock_capture_packet(ctx->capture, p);
    type_ok = p->hdr.type == VIRTIO_VSOCK_TYPE_SEQPACKET ? d->seqpacket : d->stream;
    if (!d->running || p->hdr.src_cid != d->config.guest_cid) {
        vsock_pkt_free(p);
    } else if ((p->hdr.dst_cid != ctx->cid && !vsock_relay_speaks_for(ctx, &p->hdr)) || !type_ok) {
        vsock_reset_reply(&d->t, &p->hdr);
        vsock_pkt_free(p);
    } else {
        vsock_receive(&d->t, p);
    }
    vsock_unlock(ctx);
}

bool vsock_device_congested(struct vsock_device *d)
{
    bool yes;

    vsock_lock(d->t.ctx);
    yes = d->answers >= ANSWERS_MAX;
    vsock_unlock(d->t.ctx);
    return yes;
}

struct vsock_pkt *vsock_device_take(struct vsock_device *d)
{
    struct vsock_pkt *p;

    vsock_lock(d->t.ctx);
    p = TAILQ_FIRST(&d->queue);
    if (p)
        unlink_pkt(d, p);
    vsock_unlock(d->t.ctx);
    return p;
}

void vsock_device_done(struct vsock_device *d, struct vsock_pkt *p)
{
    if (!p)
        return;
    vsock_lock(d->t.ctx);
    vsock_pkt_sent(p);
    vsock_unlock(d->t.ctx);
}

u32 vsock_device_piece(struct vsock_device *d, const struct vsock_pkt *p, u32 room,
                       u8 wire[VSOCK_HDR_SIZE])
{
    struct vsock_hdr h = p->hdr;
    u32 left = p->len - p->off;

    h.len = left < room ? left : room;
    /* The message ends with the last piece only; marker framing flags all of a record. */
    if (h.len < left && h.op == VIRTIO_VSOCK_OP_RW &&
        vsock_framing_at(&d->t, h.src_port) == &vsock_framing_eom)
        h.flags = 0;
    vsock_hdr_encode(wire, &h);
    return h.len;
}
