// SPDX-License-Identifier: MIT
// Split virtqueues seen from the device (virtio 2.7): three tables, one of them the device's.

/*
 * Theory of operation
 *
 * The three parts of a ring are guest memory, looked up through mem_span() at each use.
 * Barriers and their partners in the driver:
 *   A. avail.idx is loaded with acquire; pairs with the driver's barrier between filling
 *      the ring slot and descriptors and advancing avail.idx.
 *   B. used.idx is stored with release after the used element and the buffers' contents;
 *      pairs with the driver's barrier after it has seen used.idx move.
 *   C. Between storing used.idx and loading used_event or avail.flags stands a full fence;
 *      pairs with the driver's between enabling interrupts and looking at used.idx again.
 *   D. Between storing avail_event (or used.flags) and loading avail.idx stands a full
 *      fence; pairs with the driver's between storing avail.idx and loading avail_event.
 */
#include "virtio/virtq_ring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

#define AVAIL_FLAGS 0
#define AVAIL_IDX   2
#define AVAIL_RING  4
#define USED_FLAGS  0
#define USED_IDX    2
#define USED_RING   4

_Static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_used_elem) == 8,
               "ring layouts are the standard's");

static gpa_t used_event_at(const struct virtq *q)
{
    return q->avail + AVAIL_RING + 2ull * q->size;
}

static gpa_t avail_event_at(const struct virtq *q)
{
    return q->used + USED_RING + sizeof(struct vring_used_elem) * q->size;
}

static int split_check(const struct virtq *q)
{
    u64 n = q->size;

    if (!IS_ALIGNED(q->desc, 16) || !IS_ALIGNED(q->avail, 2) || !IS_ALIGNED(q->used, 4) ||
        !mem_span(q->mem, q->desc, n * sizeof(struct vring_desc), false) ||
        !mem_span(q->mem, q->avail, AVAIL_RING + 2 * n + 2, false) ||
        !mem_span(q->mem, q->used, USED_RING + sizeof(struct vring_used_elem) * n + 2, true))
        return -EINVAL;
    return 0;
}

/* Everything taken was given back, so the used ring says where that stands. */
static int split_resume(struct virtq *q, u32 base)
{
    q->last_avail = base;
    if (base > UINT16_MAX || virtq_load_u16(q, q->used + USED_IDX, __ATOMIC_RELAXED, &q->used_idx))
        return -EINVAL;
    q->signalled = q->used_idx;
    return 0;
}

static u32 split_base(const struct virtq *q)
{
    return q->last_avail;
}

/*
 * Walk a descriptor table of (n) entries from (at). Ends with the chain, or with an
 * indirect descriptor, which is copied to (indirect) (its len 0 if there was none).
 */
static int walk(struct virtq_chain *c, gpa_t table, u32 n, u32 at, struct vring_desc *indirect)
{
    const u8 *descs = mem_span(c->mem, table, (u64)n * sizeof(struct vring_desc), false);

    indirect->len = 0;
    if (!descs)
        return -EPROTO;
    for (u32 seen = 0; seen < n; seen++) { /* a longer chain has a loop */
        struct vring_desc d;
        int rc;

        if (at >= n)
            return -EPROTO;
        memcpy(&d, descs + at * sizeof(d), sizeof(d));
        if (d.flags & VRING_DESC_F_INDIRECT) {
            if ((d.flags & VRING_DESC_F_NEXT) || !d.len || d.len % sizeof(d))
                return -EPROTO;
            *indirect = d;
            return 0;
        }
        rc = virtq_chain_add(c, d.addr, d.len, d.flags & VRING_DESC_F_WRITE);
        if (rc)
            return rc;
        if (!(d.flags & VRING_DESC_F_NEXT))
            return 0;
        at = d.next;
    }
    return -EPROTO;
}

static int chain_read(struct virtq *q, struct virtq_chain *c, u16 head)
{
    struct vring_desc indirect;
    int rc;

    virtq_chain_begin(q, c);
    c->head = head;
    rc = walk(c, q->desc, q->size, head, &indirect);
    if (rc)
        return rc;
    if (indirect.len) {
        if (!q->indirect)
            return -EPROTO;
        rc = walk(c, indirect.addr, indirect.len / sizeof(indirect), 0, &indirect);
        if (rc)
            return rc;
        if (indirect.len)
            return -EPROTO; /* a table within a table */
    }
    c->in.seg = c->out.end;
    return 0;
}

static int split_pop(struct virtq *q, struct virtq_chain *c)
{
    u16 idx, head;
    int rc;

    rc = virtq_load_u16(q, q->avail + AVAIL_IDX, __ATOMIC_ACQUIRE, &idx); /* barrier A */
    if (rc)
        return rc;
    if (idx == q->last_avail)
        return 0;
    if ((u16)(idx - q->last_avail) > q->size)
        return -EPROTO;
    rc = virtq_load_u16(q, q->avail + AVAIL_RING + 2ull * (q->last_avail & (q->size - 1)),
                        __ATOMIC_RELAXED, &head);
    if (rc)
        return rc;
    if (head >= q->size)
        return -EPROTO;
    rc = chain_read(q, c, head);
    if (rc)
        return rc;
    q->last_avail++;
    return 1;
}

static void split_unpop(struct virtq *q)
{
    q->last_avail--;
}

static bool split_pending(struct virtq *q)
{
    u16 idx;

    return !virtq_load_u16(q, q->avail + AVAIL_IDX, __ATOMIC_ACQUIRE, &idx) && idx != q->last_avail;
}

static bool split_enable_notify(struct virtq *q)
{
    if (q->event_idx)
        virtq_store_u16(q, avail_event_at(q), q->last_avail);
    else
        virtq_store_u16(q, q->used + USED_FLAGS, 0);
    atomic_thread_fence(memory_order_seq_cst); /* barrier D */
    return split_pending(q);
}

static void split_disable_notify(struct virtq *q)
{
    if (!q->event_idx)
        virtq_store_u16(q, q->used + USED_FLAGS, VRING_USED_F_NO_NOTIFY);
}

static int split_stage(struct virtq *q, const struct virtq_chain *c)
{
    struct vring_used_elem e = {.id = c->head, .len = c->written};
    gpa_t at = q->used + USED_RING + sizeof(e) * ((u16)(q->used_idx + q->staged) & (q->size - 1));

    return mem_write(q->mem, at, &e, sizeof(e)) ? -EPROTO : 0;
}

static int split_publish(struct virtq *q)
{
    q->used_idx += q->staged;
    return virtq_store_u16(q, q->used + USED_IDX, q->used_idx); /* barrier B */
}

static bool split_should_signal(struct virtq *q)
{
    u16 last = q->signalled, event, flags;

    if (last == q->used_idx)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* barrier C */
    q->signalled = q->used_idx;
    if (q->event_idx) {
        return virtq_load_u16(q, used_event_at(q), __ATOMIC_RELAXED, &event) ||
               vring_need_event(event, q->used_idx, last);
    }
    return virtq_load_u16(q, q->avail + AVAIL_FLAGS, __ATOMIC_RELAXED, &flags) ||
           !(flags & VRING_AVAIL_F_NO_INTERRUPT);
}

const struct virtq_ring_ops virtq_split_ops = {
    .check = split_check,
    .resume = split_resume,
    .base = split_base,
    .pop = split_pop,
    .unpop = split_unpop,
    .pending = split_pending,
    .enable_notify = split_enable_notify,
    .disable_notify = split_disable_notify,
    .stage = split_stage,
    .publish = split_publish,
    .should_signal = split_should_signal,
};
