// SPDX-License-Identifier: MIT
// virtio-vsock's rings: chains to packets, packets to buffers, the event queue.

/*
 * Everything runs with the device lock held, which is taken before the AF_VSOCK context's.
 * A packet for the guest that did not fit into the buffers at hand stays in (current), partly
 * sent. A chain from the guest that holds no proper packet is given back and forgotten; rx
 * buffers that can hold nothing, and broken rings, fail the device.
 */
#include "virtio/vsock.h"
#include "virtio/state.h"
#include "vsock/queue.h"
#include "vsock/transport/device.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#define QUEUE_SIZE 256
#define PASS_IOVS  18 /* 64 KiB in pages, not aligned */
#define BATCH      16 /* packets that are read before their sockets get them */

enum {
    QUEUE_RX,
    QUEUE_TX,
    QUEUE_EVENT,
    NR_QUEUES,
};

struct vsock_dev {
    struct virtio_device dev;
    struct vsock_device *host;
    u64 guest_cid;
    struct vsock_pkt *current;
    bool event_due, deferred;
    void (*kick)(void *opaque);
    void *opaque;
    struct virtq_chain chain;
};

static struct vsock_dev *of(struct virtio_device *d)
{
    return container_of(d, struct vsock_dev, dev);
}

static bool carries_payload(u16 op)
{
    return op == VIRTIO_VSOCK_OP_RW || op == VSOCK_OP_SEQ_BEGIN || op == VSOCK_OP_SEQ_END;
}

/* Can the payload of (h) go from the chain to a reader right away? */
static bool pass_on(struct vsock_dev *v, const struct vsock_hdr *h)
{
    struct iovec iov[PASS_IOVS];
    unsigned nr;
    u64 len = 0;

    if (h->op != VIRTIO_VSOCK_OP_RW || h->len <= VSOCK_MERGE_MAX)
        return false;
    nr = virtq_out_iov(&v->chain, h->len, iov, PASS_IOVS);
    for (unsigned i = 0; i < nr; i++)
        len += iov[i].iov_len;
    return len == h->len && vsock_device_pass(v->host, h, iov, nr);
}

/*
 * Turn the chain into a packet; NULL: it is with its reader already, which only the (first) one can
 * be. 0; -EBADMSG: there is none in it; -ENOMEM.
 */
static int read_packet(struct vsock_dev *v, bool first, struct vsock_pkt **ret)
{
    struct virtq_chain *c = &v->chain;
    u8 wire[VSOCK_HDR_SIZE];
    struct vsock_hdr h;
    struct vsock_pkt *p;

    if (c->in.left || virtq_out(c, wire, sizeof(wire)))
        return -EBADMSG;
    vsock_hdr_decode(&h, wire);
    if (h.len > VSOCK_PAYLOAD_MAX || h.len > c->out.left)
        return -EBADMSG;
    if (!carries_payload(h.op))
        h.len = 0;
    *ret = NULL;
    if (first && pass_on(v, &h))
        return 0;
    p = vsock_device_alloc(v->host, h.len);
    if (!p)
        return -ENOMEM;
    if (virtq_out(c, p->data, h.len)) {
        vsock_pkt_free(p);
        return -EBADMSG;
    }
    p->hdr = h;
    p->len = h.len;
    *ret = p;
    return 0;
}

/* Packets from the guest. 1: moved something, 0: nothing to do, -EPROTO. */
static int pump_tx(struct vsock_dev *v)
{
    struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
    struct virtq *q = &v->dev.queues[QUEUE_TX];
    int rc = 0, moved = 0;

    while (moved < BATCH && !vsock_device_congested(v->host) &&
           (rc = virtq_pop(q, &v->chain)) > 0) {
        struct vsock_pkt *p;

        rc = read_packet(v, TAILQ_EMPTY(&list), &p);
        if (rc == -ENOMEM) {
            virtq_unpop(q);
            rc = 0;
            break;
        }
        if (!rc && p)
            TAILQ_INSERT_TAIL(&list, p, link);
        moved++;
        rc = virtq_stage(q, &v->chain);
        if (rc)
            break;
    }
    if (virtq_publish(q))
        rc = -EPROTO;
    if (!TAILQ_EMPTY(&list))
        vsock_device_input_all(v->host, &list);
    return rc < 0 ? rc : moved;
}

/* Write the next piece of the current packet into the chain. */
static int write_piece(struct vsock_dev *v)
{
    struct vsock_pkt *p = v->current;
    u8 wire[VSOCK_HDR_SIZE];
    u64 room;
    u32 n;

    if (v->chain.out.left || v->chain.in.left < sizeof(wire))
        return -EPROTO;
    room = v->chain.in.left - sizeof(wire);
    n = vsock_device_piece(v->host, p, room < VSOCK_PAYLOAD_MAX ? room : VSOCK_PAYLOAD_MAX, wire);
    if (n < p->len - p->off && (!n || p->hdr.op != VIRTIO_VSOCK_OP_RW))
        return -EPROTO; /* not one byte fits, so this would never end; or a marker, which has no pieces */
    if (virtq_in(&v->chain, wire, sizeof(wire)) || virtq_in(&v->chain, p->data + p->off, n))
        return -EPROTO;
    p->off += n;
    return 0;
}

/* Packets for the guest; as pump_tx(). */
static int pump_rx(struct vsock_dev *v)
{
    struct virtq *q = &v->dev.queues[QUEUE_RX];
    int rc = 0, moved = 0;

    if (!v->current)
        v->current = vsock_device_next(v->host, NULL);
    while (v->current && (rc = virtq_pop(q, &v->chain)) > 0) {
        rc = write_piece(v) || virtq_stage(q, &v->chain) ? -EPROTO : 0;
        if (rc)
            break;
        moved = 1;
        if (v->current->off == v->current->len)
            v->current = vsock_device_next(v->host, v->current);
    }
    if (virtq_publish(q))
        rc = -EPROTO;
    if (v->current && !moved)
        vsock_device_keep(v->host, v->current);
    return rc < 0 ? rc : moved;
}

/* Send the event that is due, if there is a buffer for it. 0 or -EPROTO. */
static int pump_event(struct vsock_dev *v)
{
    struct virtio_vsock_event e = {.id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
    struct virtq *q = &v->dev.queues[QUEUE_EVENT];
    int rc;

    if (!v->event_due)
        return 0;
    rc = virtq_pop(q, &v->chain);
    if (rc <= 0)
        return rc;
    if (virtq_in(&v->chain, &e, sizeof(e)) || virtq_push(q, &v->chain))
        return -EPROTO;
    v->event_due = false;
    virtio_device_used(&v->dev, q);
    return 0;
}

/* The guest's driver is gone, or not to be spoken to any more. */
static void drop_all(struct vsock_dev *v)
{
    vsock_device_stop(v->host);
    vsock_device_done(v->host, v->current);
    v->current = NULL;
    v->event_due = false;
}

/* Is there something to move? */
static bool pending(struct vsock_dev *v)
{
    return (!vsock_device_congested(v->host) && virtq_pending(&v->dev.queues[QUEUE_TX])) ||
           (v->current && virtq_pending(&v->dev.queues[QUEUE_RX]));
}

/*
 * Nothing has moved: ask for notifications, of buffers only if something waits for them, and
 * take a last look. True: there is something.
 */
static bool last_look(struct vsock_dev *v)
{
    bool tx = virtq_enable_notify(&v->dev.queues[QUEUE_TX]), rx = false;

    if (v->current)
        rx = virtq_enable_notify(&v->dev.queues[QUEUE_RX]);
    else
        virtq_disable_notify(&v->dev.queues[QUEUE_RX]);
    return (tx && !vsock_device_congested(v->host)) || rx;
}

void virtio_vsock_pump(struct virtio_device *d)
{
    struct vsock_dev *v = of(d);
    int tx, rx;

    if (!virtio_device_live(d))
        return;
    do {
        tx = pump_tx(v);
        rx = tx < 0 ? tx : pump_rx(v);
        if (rx < 0 || pump_event(v)) {
            drop_all(v);
            virtio_device_fail(d);
            return;
        }
    } while (tx || rx || (!v->deferred && last_look(v)));
    virtio_device_used(d, &d->queues[QUEUE_TX]);
    virtio_device_used(d, &d->queues[QUEUE_RX]);
}

bool virtio_vsock_rest(struct virtio_device *d)
{
    struct vsock_dev *v = of(d);

    return virtio_device_live(d) && (pending(v) || last_look(v));
}

void virtio_vsock_transport_reset(struct virtio_device *d)
{
    struct vsock_dev *v = of(d);

    vsock_device_reset(v->host);
    vsock_device_done(v->host, v->current);
    v->current = NULL;
    v->event_due = true;
    virtio_vsock_pump(d);
}

static void notify(struct virtio_device *d, unsigned q)
{
    struct vsock_dev *v = of(d);

    if (!v->deferred) {
        virtio_vsock_pump(d);
        return;
    }
    virtq_disable_notify(&d->queues[q]);
    v->kick(v->opaque);
}

static void start(struct virtio_device *d)
{
    bool stream = virtio_device_has(d, VIRTIO_VSOCK_F_STREAM) ||
                  !virtio_device_has(d, VIRTIO_VSOCK_F_NO_IMPLIED_STREAM);

    vsock_device_start(of(d)->host, stream, virtio_device_has(d, VIRTIO_VSOCK_F_SEQPACKET));
}

static void reset(struct virtio_device *d)
{
    drop_all(of(d));
}

static void config_read(struct virtio_device *d, u32 off, void *buf, u32 len)
{
    struct virtio_vsock_config config = {.guest_cid = htole64(of(d)->guest_cid)};

    virtio_config_copy(buf, off, len, &config, sizeof(config));
}

/*
 * Connections end where they are: the host's ends of them are not in the saved state. The guest hears of it
 * with the first thing that is moved (TRANSPORT_RESET, virtio 5.10.6.7).
 */
static void vsock_state(struct virtio_device *d, struct state *s)
{
    struct vsock_dev *v = of(d);
    u64 guest_cid = v->guest_cid;

    STATE(s, guest_cid);
    STATE_CHECK(s, guest_cid == v->guest_cid, guest_cid);
    if (!s->loading || s->error || !(d->status & VIRTIO_CONFIG_S_FEATURES_OK))
        return;
    start(d);
    v->event_due = true;
}

static void dev_free(struct virtio_device *d)
{
    struct vsock_dev *v = of(d);

    vsock_device_done(v->host, v->current);
    vsock_device_free(v->host);
    virtio_device_fini(d);
    free(v);
}

static const struct virtio_device_ops vsock_ops = {
    .id = VIRTIO_ID_VSOCK,
    .start = start,
    .reset = reset,
    .notify = notify,
    .config_read = config_read,
    .state = vsock_state,
    .free = dev_free,
};

int virtio_vsock_create(struct uvirt_vsock *v, const struct virtio_vsock_options *o,
                        struct virtio_device **ret)
{
    struct vsock_device_config config = {.guest_cid = o->guest_cid,
                                         .marker = o->marker,
                                         .eom_port = o->eom_port,
                                         .kick = o->kick,
                                         .flush = o->flush,
                                         .opaque = o->opaque};
    struct vsock_dev *d = calloc(1, sizeof(*d));
    int rc;

    if (!d)
        return -ENOMEM;
    d->guest_cid = o->guest_cid;
    d->deferred = o->deferred;
    d->kick = o->kick;
    d->opaque = o->opaque;
    rc = vsock_device_create(v, &config, &d->host);
    if (rc)
        goto err_free;
    rc = virtio_device_init(&d->dev, &vsock_ops, NR_QUEUES, QUEUE_SIZE,
                            BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |
                                BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM) | BIT(VIRTIO_F_RING_PACKED) |
                                BIT(VIRTIO_F_IN_ORDER));
    if (rc)
        goto err_host;
    *ret = &d->dev;
    return 0;

err_host:
    vsock_device_free(d->host);
err_free:
    free(d);
    return rc;
}
