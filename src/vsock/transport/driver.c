// SPDX-License-Identifier: MIT
// The driver transport: a queue of packets towards the host, of a context that is a guest.
#include "vsock/transport/driver.h"
#include "vsock/transport/seat.h"

#include <errno.h>
#include <stdlib.h>

struct vsock_driver {
    struct vsock_seat seat;
    struct vsock_driver_config config;
};

static struct vsock_driver *of(struct vsock_transport *t)
{
    return container_of(t, struct vsock_driver, seat.t);
}

static bool driver_reaches(struct vsock_transport *t, u32 cid)
{
    return of(t)->seat.running && cid != VMADDR_CID_LOCAL && cid != t->ctx->cid &&
           cid != VMADDR_CID_ANY;
}

static void driver_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    if (vsock_seat_queue(&of(t)->seat, p))
        vsock_flush_later(t);
}

static void driver_flush(struct vsock_transport *t)
{
    of(t)->config.flush(of(t)->config.opaque);
}

static struct vsock_pkt *driver_alloc(struct vsock_transport *t, u32 len)
{
    struct vsock_driver *d = of(t);

    return d->seat.running && d->config.alloc ? d->config.alloc(d->config.opaque, len) : NULL;
}

static const struct vsock_transport_ops driver_ops = {
    .name = "driver",
    .reaches = driver_reaches,
    .send = driver_send,
    .stream_allow = vsock_seat_stream_allow,
    .seqpacket_allow = vsock_seat_seqpacket_allow,
    .cancel = vsock_seat_cancel,
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
    vsock_seat_init(&d->seat, &driver_ops, ctx->cid, config->marker);
    vsock_lock(ctx);
    vsock_transport_add(ctx, &d->seat.t);
    vsock_unlock(ctx);
    *ret = d;
    return 0;
}

void vsock_driver_free(struct vsock_driver *d)
{
    if (d)
        vsock_seat_remove(&d->seat);
    free(d);
}

void vsock_driver_start(struct vsock_driver *d, u32 cid, bool stream, bool seqpacket)
{
    vsock_lock(d->seat.t.ctx);
    d->seat.t.ctx->cid = d->seat.t.local_cid = cid;
    vsock_seat_start(&d->seat, stream, seqpacket);
    vsock_unlock(d->seat.t.ctx);
}

void vsock_driver_stop(struct vsock_driver *d)
{
    vsock_seat_stop(&d->seat);
}

struct vsock_pkt *vsock_driver_alloc(struct vsock_driver *d, u32 len)
{
    return vsock_pool_alloc(&d->seat.t.ctx->pool, len);
}

void vsock_driver_input_all(struct vsock_driver *d, struct vsock_pkts *list)
{
    struct vsock_pkt *p;

    vsock_lock(d->seat.t.ctx);
    while ((p = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, p, link);
        if (!d->seat.running || p->hdr.dst_cid != d->seat.t.local_cid)
            vsock_pkt_free(p);
        else
            vsock_receive(&d->seat.t, p);
    }
    vsock_unlock(d->seat.t.ctx);
}

bool vsock_driver_congested(struct vsock_driver *d)
{
    return vsock_seat_congested(&d->seat);
}

bool vsock_driver_waiting(struct vsock_driver *d)
{
    return vsock_seat_waiting(&d->seat);
}

struct vsock_pkt *vsock_driver_next(struct vsock_driver *d, struct vsock_pkt *done)
{
    return vsock_seat_next(&d->seat, done);
}

void vsock_driver_done(struct vsock_driver *d, struct vsock_pkt *p)
{
    vsock_seat_done(&d->seat, p);
}
