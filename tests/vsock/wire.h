// SPDX-License-Identifier: MIT
// A guest without rings: its context's packets go to a device and come from there by function calls.
#pragma once

#include "pair.h"
#include "vsock/sock.h"
#include "vsock/transport/device.h"
#include "vsock/transport/unix.h"

#define WIRE_PIECE 3732 /* payload of a buffer that Linux's driver posts */

struct wire {
    struct vsock_transport t; /* in (guest) */
    struct vsock_pkts queue;  /* from the guest; protected by its context's lock */
    struct uvirt_vsock *host, *guest;
    struct vsock_device *dev;
    struct vsock_unix *u;
    pthread_mutex_t lock; /* one pump at a time */
};

static inline struct wire *wire_of(struct vsock_transport *t)
{
    return container_of(t, struct wire, t);
}

static bool wire_reaches(struct vsock_transport *t, u32 cid)
{
    return cid != VMADDR_CID_LOCAL && cid != t->ctx->cid;
}

static void wire_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    TAILQ_INSERT_TAIL(&wire_of(t)->queue, p, link);
    if (wire_of(t)->u)
        vsock_unix_kick(wire_of(t)->u);
}

static bool wire_allow(struct vsock_transport *t, u32 cid)
{
    return true;
}

static void wire_cancel(struct vsock_transport *t, struct vsock_sock *sk)
{
    /* What is queued here is as good as delivered. */
}

static const struct vsock_transport_ops wire_ops = {
    .name = "wire",
    .reaches = wire_reaches,
    .send = wire_send,
    .stream_allow = wire_allow,
    .seqpacket_allow = wire_allow,
    .cancel = wire_cancel,
};

static inline struct vsock_pkt *wire_from_guest(struct wire *w)
{
    struct vsock_pkt *p;

    vsock_lock(w->t.ctx);
    p = TAILQ_FIRST(&w->queue);
    if (p) {
        TAILQ_REMOVE(&w->queue, p, link);
        vsock_pkt_disown(p);
    }
    vsock_unlock(w->t.ctx);
    return p;
}

static inline void wire_to_guest(struct wire *w, struct vsock_pkt *p)
{
    do {
        struct vsock_pkt *q = vsock_pkt_alloc(WIRE_PIECE);
        u8 wire[VSOCK_HDR_SIZE];
        u32 n = vsock_device_piece(w->dev, p, WIRE_PIECE, wire);

        vsock_hdr_decode(&q->hdr, wire);
        q->len = n;
        memcpy(q->data, p->data + p->off, n);
        p->off += n;
        vsock_lock(w->t.ctx);
        vsock_receive(&w->t, q);
        vsock_unlock(w->t.ctx);
    } while (p->off < p->len);
    vsock_device_done(w->dev, p);
}

/* Move packets both ways until nothing moves. struct vsock_unix_config's pump. */
static inline void wire_pump(void *opaque)
{
    struct wire *w = opaque;
    bool moved = true;

    pthread_mutex_lock(&w->lock);
    while (moved) {
        struct vsock_pkt *p;

        moved = false;
        while ((p = wire_from_guest(w))) {
            vsock_device_input(w->dev, p);
            moved = true;
        }
        while ((p = vsock_device_next(w->dev, NULL))) {
            wire_to_guest(w, p);
            moved = true;
        }
    }
    pthread_mutex_unlock(&w->lock);
}

/* A guest with (cid) behind a bridge at (path). 0, or what vsock_unix_create() said. */
static inline int wire_open(struct wire *w, u32 cid, const char *path, u32 handshake_ms, char *why)
{
    struct vsock_unix_config config = {.guest_cid = cid,
                                       .path = path,
                                       .pump = wire_pump,
                                       .opaque = w,
                                       .handshake_ms = handshake_ms};
    struct vsock_device_config device = {.guest_cid = cid, .kick = vsock_unix_kick};
    int rc;

    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    TAILQ_INIT(&w->queue);
    w->t.ops = &wire_ops;
    w->t.local_cid = cid;
    w->t.seqpacket = &vsock_framing_eom;
    w->host = context(VMADDR_CID_HOST, false, false);
    w->guest = context(cid, false, false);
    rc = vsock_unix_create(w->host, &config, why, &w->u);
    if (rc) {
        uvirt_vsock_free(w->host);
        uvirt_vsock_free(w->guest);
        return rc;
    }
    device.opaque = w->u;
    if (vsock_device_create(w->host, &device, &w->dev))
        exit(99);
    vsock_lock((struct vsock_ctx *)w->guest);
    vsock_transport_add((struct vsock_ctx *)w->guest, &w->t);
    vsock_unlock((struct vsock_ctx *)w->guest);
    vsock_device_start(w->dev, true, true);
    return 0;
}

static inline void wire_close(struct wire *w)
{
    struct vsock_pkt *p;

    vsock_unix_stop(w->u);
    wire_pump(w);
    vsock_device_free(w->dev);
    while ((p = wire_from_guest(w)))
        vsock_pkt_free(p);
    vsock_unix_free(w->u);
    uvirt_vsock_free(w->host);
    uvirt_vsock_free(w->guest);
    pthread_mutex_destroy(&w->lock);
}
