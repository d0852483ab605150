// SPDX-License-Identifier: MIT
// The device transport: a queue of packets towards one guest.
#include "vsock/transport/device.h"
#include "vsock/capture.h"
#include "vsock/relay.h"
#include "vsock/transport/seat.h"

#include <errno.h>
#include <stdlib.h>

struct vsock_device {
    struct vsock_seat seat;
    struct vsock_device_config config;
};

static struct vsock_device *of(struct vsock_transport *t)
{
    return container_of(t, struct vsock_device, seat.t);
}

static bool device_reaches(struct vsock_transport *t, u32 cid)
{
    return of(t)->seat.running && cid == of(t)->config.guest_cid;
}

static void device_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    struct vsock_device *d = of(t);
    bool first = TAILQ_EMPTY(&d->seat.queue);

    if (d->seat.running)
        vsock_capture_packet(t->ctx->capture, p);
    if (!vsock_seat_queue(&d->seat, p))
        return;
    if (d->config.flush)
        vsock_flush_later(t);
    else if (first && d->config.kick)
        d->config.kick(d->config.opaque);
}

static void device_flush(struct vsock_transport *t)
{
    of(t)->config.flush(of(t)->config.opaque);
}

static const struct vsock_transport_ops device_ops = {
    .name = "device",
    .reaches = device_reaches,
    .send = device_send,
    .stream_allow = vsock_seat_stream_allow,
    .seqpacket_allow = vsock_seat_seqpacket_allow,
    .cancel = vsock_seat_cancel,
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
    vsock_seat_init(&d->seat, &device_ops, ctx->cid, config->marker);
    d->seat.t.eom_port = config->eom_port;
    d->seat.t.eager = config->flush;
    vsock_lock(ctx);
    taken = cid_taken(ctx, config->guest_cid);
    if (!taken)
        vsock_transport_add(ctx, &d->seat.t);
    vsock_unlock(ctx);
    if (taken) {
        free(d);
        return -EADDRINUSE;
    }
    *ret = d;
    return 0;
}

void vsock_device_free(struct vsock_device *d)
{
    if (d)
        vsock_seat_remove(&d->seat);
    free(d);
}

void vsock_device_start(struct vsock_device *d, bool stream, bool seqpacket)
{
    vsock_lock(d->seat.t.ctx);
    vsock_seat_start(&d->seat, stream, seqpacket);
    vsock_unlock(d->seat.t.ctx);
}

void vsock_device_stop(struct vsock_device *d)
{
    vsock_seat_stop(&d->seat);
}

void vsock_device_reset(struct vsock_device *d)
{
    vsock_lock(d->seat.t.ctx);
    vsock_seat_reset(&d->seat);
    vsock_unlock(d->seat.t.ctx);
}

struct vsock_pkt *vsock_device_alloc(struct vsock_device *d, u32 len)
{
    return vsock_pool_alloc(&d->seat.t.ctx->pool, len);
}

/* Lock held. */
static void input(struct vsock_device *d, struct vsock_pkt *p)
{
    struct vsock_ctx *ctx = d->seat.t.ctx;
    bool type_ok = p->hdr.type == VIRTIO_VSOCK_TYPE_SEQPACKET ? d->seat.seqpacket : d->seat.stream;

    if (d->seat.running)
        vsock_capture_packet(ctx->capture, p);
    if (!d->seat.running || p->hdr.src_cid != d->config.guest_cid) {
        vsock_pkt_free(p);
    } else if ((p->hdr.dst_cid != ctx->cid && !vsock_relay_speaks_for(ctx, &p->hdr)) || !type_ok) {
        vsock_reset_reply(&d->seat.t, &p->hdr);
        vsock_pkt_free(p);
    } else {
        vsock_receive(&d->seat.t, p);
    }
}

void vsock_device_input(struct vsock_device *d, struct vsock_pkt *p)
{
    vsock_lock(d->seat.t.ctx);
    input(d, p);
    vsock_unlock(d->seat.t.ctx);
}

void vsock_device_input_all(struct vsock_device *d, struct vsock_pkts *list)
{
    struct vsock_pkt *p;

    vsock_lock(d->seat.t.ctx);
    while ((p = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, p, link);
        input(d, p);
    }
    vsock_unlock(d->seat.t.ctx);
}

bool vsock_device_pass(struct vsock_device *d, const struct vsock_hdr *h, const struct iovec *iov,
                       unsigned nr)
{
    struct vsock_ctx *ctx = d->seat.t.ctx;
    bool ok;

    vsock_lock(ctx);
    ok = d->seat.running && !ctx->capture && h->src_cid == d->config.guest_cid &&
         h->dst_cid == ctx->cid && vsock_receive_direct(&d->seat.t, h, iov, nr);
    vsock_unlock(ctx);
    return ok;
}

bool vsock_device_congested(struct vsock_device *d)
{
    return vsock_seat_congested(&d->seat);
}

struct vsock_pkt *vsock_device_next(struct vsock_device *d, struct vsock_pkt *done)
{
    return vsock_seat_next(&d->seat, done);
}

void vsock_device_done(struct vsock_device *d, struct vsock_pkt *p)
{
    vsock_seat_done(&d->seat, p);
}

void vsock_device_keep(struct vsock_device *d, struct vsock_pkt *p)
{
    vsock_lock(d->seat.t.ctx);
    if (p->borrowed) {
        vsock_pkt_keep(p);
        vsock_wake_waiters(p->owner, &p->owner->tx_wait);
    }
    vsock_unlock(d->seat.t.ctx);
}

u32 vsock_device_piece(struct vsock_device *d, const struct vsock_pkt *p, u32 room,
                       u8 wire[VSOCK_HDR_SIZE])
{
    struct vsock_hdr h = p->hdr;
    u32 left = p->len - p->off;

    h.len = left < room ? left : room;
    /* The message ends with the last piece only; marker framing flags all of a record. */
    if (h.len < left && h.op == VIRTIO_VSOCK_OP_RW &&
        vsock_framing_at(&d->seat.t, h.src_port) == &vsock_framing_eom)
        h.flags = 0;
    vsock_hdr_encode(wire, &h);
    return h.len;
}
