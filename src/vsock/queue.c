// SPDX-License-Identifier: MIT
// The receive queue: merging, records, and the accounting that goes with both.
#include "vsock/queue.h"

#include <errno.h>
#include <string.h>

void vsock_queue_init(struct vsock_queue *q)
{
    TAILQ_INIT(&q->pkts);
    q->bytes = q->msgs = 0;
}

/* Put (p)'s bytes and flags into the last packet. False if they do not go together. */
static bool merge(struct vsock_queue *q, struct vsock_pkt *p)
{
    struct vsock_pkt *tail = TAILQ_LAST(&q->pkts, vsock_pkts), *bigger;

    if (!tail || tail->hdr.flags & VIRTIO_VSOCK_SEQ_EOM)
        return false;
    if (p->len && tail->len + p->len > VSOCK_MERGE_MAX)
        return false;
    if (tail->len + p->len > tail->cap) {
        bigger = vsock_pkt_alloc(VSOCK_MERGE_MAX);
        if (!bigger)
            return false;
        bigger->hdr = tail->hdr;
        bigger->merged = tail->merged;
        bigger->off = tail->off;
        bigger->len = tail->len;
        memcpy(bigger->data, tail->data, tail->len);
        TAILQ_REMOVE(&q->pkts, tail, link);
        TAILQ_INSERT_TAIL(&q->pkts, bigger, link);
        vsock_pkt_free(tail);
        tail = bigger;
    }
    memcpy(tail->data + tail->len, p->data, p->len);
    tail->len += p->len;
    tail->merged += 1 + p->merged;
    tail->hdr.flags |= p->hdr.flags;
    return true;
}

int vsock_queue_add(struct vsock_queue *q, struct vsock_credit *c, struct vsock_pkt *p)
{
    bool eom = p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM;

    if (merge(q, p)) {
        q->bytes += p->len;
        vsock_pkt_free(p);
    } else if (!p->len && !eom) {
        vsock_pkt_free(p);
    } else if (vsock_credit_hold(c)) {
        q->bytes += p->len;
        TAILQ_INSERT_TAIL(&q->pkts, p, link);
    } else {
        vsock_pkt_free(p);
        return -ENOBUFS;
    }
    q->msgs += eom;
    return 0;
}

void vsock_queue_splice(struct vsock_queue *q, struct vsock_queue *from)
{
    TAILQ_CONCAT(&q->pkts, &from->pkts, link);
    q->bytes += from->bytes;
    q->msgs += from->msgs;
    from->bytes = from->msgs = 0;
}

void vsock_queue_eat(struct vsock_queue *q, struct vsock_credit *c, u32 n)
{
    struct vsock_pkt *p = TAILQ_FIRST(&q->pkts);

    p->off += n;
    q->bytes -= n;
    vsock_credit_consume(c, n);
    if (p->off == p->len) {
        TAILQ_REMOVE(&q->pkts, p, link);
        vsock_credit_drop(c, p);
        vsock_pkt_free(p);
    }
}

void vsock_queue_take_record(struct vsock_queue *q, struct vsock_credit *c, struct vsock_pkts *to)
{
    struct vsock_pkt *p;

    do {
        p = TAILQ_FIRST(&q->pkts);
        TAILQ_REMOVE(&q->pkts, p, link);
        TAILQ_INSERT_TAIL(to, p, link);
        q->bytes -= p->len - p->off;
        vsock_credit_consume(c, p->len - p->off);
        vsock_credit_drop(c, p);
    } while (!(p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM));
    q->msgs--;
}

void vsock_queue_purge(struct vsock_queue *q, struct vsock_credit *c)
{
    struct vsock_pkt *p;

    while ((p = TAILQ_FIRST(&q->pkts))) {
        TAILQ_REMOVE(&q->pkts, p, link);
        vsock_credit_consume(c, p->len - p->off);
        vsock_credit_drop(c, p);
        vsock_pkt_free(p);
    }
    q->bytes = q->msgs = 0;
}
