// SPDX-License-Identifier: MIT
// Packed virtqueues seen from the device (virtio 2.8): one ring that both sides write to.

/*
 * Theory of operation
 *
 * Positions run from 0 to size - 1 and their wrap bit flips at the end; a descriptor is
 * available when its AVAIL bit is the wrap bit of our position and its USED bit is not.
 * Used descriptors go to our own used position, which moves on by as many descriptors as the
 * chain had, so it never passes one that was not taken yet.
 *
 * q->desc is the ring, q->avail the driver's event suppression area, q->used the device's.
 * Barriers as in virtq_split.c: flags are loaded with acquire (A) and stored with release
 * after id and length (B); full fences stand between a used descriptor and the driver's area
 * (C), and between the device's area and the next look at the ring (D).
 */
#include "virtio/virtq_ring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

#define DESC_AVAIL BIT(VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED  BIT(VRING_PACKED_DESC_F_USED)
#define DESC_FLAGS offsetof(struct vring_packed_desc, flags)
#define EVENT_OFF  0
#define EVENT_FLAG 2
#define EVENT_WRAP BIT(VRING_PACKED_EVENT_F_WRAP_CTR)

/* What virtq_base() says: a position and its wrap bit for each side. */
#define BASE_POS  GENMASK(14, 0)
#define BASE_WRAP BIT(15)

_Static_assert(sizeof(struct vring_packed_desc) == 16, "the standard's layout");

struct position {
    u16 at;
    bool wrap;
};

static void move(const struct virtq *q, struct position *p, u16 nr)
{
    p->at += nr;
    if (p->at >= q->size) {
        p->at -= q->size;
        p->wrap = !p->wrap;
    }
}

static gpa_t desc_at(const struct virtq *q, u16 at)
{
    return q->desc + (gpa_t)at * sizeof(struct vring_packed_desc);
}

static int packed_check(const struct virtq *q)
{
    if (!IS_ALIGNED(q->desc, 16) || !IS_ALIGNED(q->avail, 4) || !IS_ALIGNED(q->used, 4) ||
        !mem_span(q->mem, q->desc, (u64)q->size * sizeof(struct vring_packed_desc), true) ||
        !mem_span(q->mem, q->avail, sizeof(struct vring_packed_desc_event), false) ||
        !mem_span(q->mem, q->used, sizeof(struct vring_packed_desc_event), true))
        return -EINVAL;
    return 0;
}

static int packed_resume(struct virtq *q, u32 base)
{
    u16 avail = base, used = base >> 16;

    if ((avail & BASE_POS) >= q->size || (used & BASE_POS) >= q->size)
        return -EINVAL;
    q->last_avail = avail & BASE_POS;
    q->avail_wrap = avail & BASE_WRAP;
    q->used_idx = used & BASE_POS;
    q->used_wrap = used & BASE_WRAP;
    return 0;
}

static u32 packed_base(const struct virtq *q)
{
    u32 avail = q->last_avail | (q->avail_wrap ? BASE_WRAP : 0);
    u32 used = q->used_idx | (q->used_wrap ? BASE_WRAP : 0);

    return avail | used << 16;
}

static bool available(u16 flags, bool wrap)
{
    return !!(flags & DESC_AVAIL) == wrap && !!(flags & DESC_USED) != wrap;
}

/* Copy the descriptor at (p) if it is available: 1, 0 or -EPROTO. */
static int load_desc(const struct virtq *q, const struct position *p, struct vring_packed_desc *d)
{
    const u8 *at = mem_span(q->mem, desc_at(q, p->at), sizeof(*d), false);
    u16 flags;
    int rc = virtq_load_u16(q, desc_at(q, p->at) + DESC_FLAGS, __ATOMIC_ACQUIRE, &flags);

    if (rc || !at)
        return -EPROTO;
    if (!available(flags, p->wrap))
        return 0;
    memcpy(d, at, sizeof(*d));
    d->flags = flags;
    return 1;
}

/* An indirect table: all of its entries, in order; only WRITE means anything in it. */
static int read_table(struct virtq_chain *c, const struct vring_packed_desc *t)
{
    const u8 *table = mem_span(c->mem, t->addr, t->len, false);
    struct vring_packed_desc d;
    int rc = 0;

    if (!table || !t->len || t->len % sizeof(d) || t->flags & VRING_DESC_F_NEXT)
        return -EPROTO;
    for (u32 i = 0; i < t->len / sizeof(d) && !rc; i++) {
        memcpy(&d, table + i * sizeof(d), sizeof(d));
        rc = d.flags & VRING_DESC_F_INDIRECT
                 ? -EPROTO
                 : virtq_chain_add(c, d.addr, d.len, d.flags & VRING_DESC_F_WRITE);
    }
    return rc;
}

static int packed_pop(struct virtq *q, struct virtq_chain *c)
{
    struct position p = {q->last_avail, q->avail_wrap};
    struct vring_packed_desc d;
    int rc = load_desc(q, &p, &d);

    if (rc <= 0)
        return rc;
    virtq_chain_begin(q, c);
    if (d.flags & VRING_DESC_F_INDIRECT) {
        if (!q->indirect || read_table(c, &d))
            return -EPROTO;
        move(q, &p, 1);
    } else {
        for (c->nr = 1;; c->nr++) {
            if (virtq_chain_add(c, d.addr, d.len, d.flags & VRING_DESC_F_WRITE))
                return -EPROTO;
            move(q, &p, 1);
            if (!(d.flags & VRING_DESC_F_NEXT))
                break;
            /* The head was made available last, so all of the chain is there. */
            if (c->nr == q->size || load_desc(q, &p, &d) <= 0 || d.flags & VRING_DESC_F_INDIRECT)
                return -EPROTO;
        }
    }
    c->head = d.id;
    c->in.seg = c->out.end;
    q->last_avail = p.at;
    q->avail_wrap = p.wrap;
    q->last_nr = c->nr;
    return 1;
}

static void packed_unpop(struct virtq *q)
{
    if (q->last_avail < q->last_nr) {
        q->last_avail += q->size;
        q->avail_wrap = !q->avail_wrap;
    }
    q->last_avail -= q->last_nr;
}

static bool packed_pending(struct virtq *q)
{
    struct position p = {q->last_avail, q->avail_wrap};
    struct vring_packed_desc d;

    return load_desc(q, &p, &d) > 0;
}

static bool packed_enable_notify(struct virtq *q)
{
    if (q->event_idx)
        virtq_store_u16(q, q->used + EVENT_OFF, q->last_avail | (q->avail_wrap ? EVENT_WRAP : 0));
    virtq_store_u16(q, q->used + EVENT_FLAG,
                    q->event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE);
    atomic_thread_fence(memory_order_seq_cst); /* barrier D */
    return packed_pending(q);
}

static void packed_disable_notify(struct virtq *q)
{
    virtq_store_u16(q, q->used + EVENT_FLAG, VRING_PACKED_EVENT_FLAG_DISABLE);
}

/* The driver looks at one descriptor after the other, so it is enough to hold back the first. */
static int packed_stage(struct virtq *q, const struct virtq_chain *c)
{
    struct position p = {q->used_idx, q->used_wrap};
    gpa_t at = desc_at(q, p.at);
    u8 *d = mem_span(q->mem, at, sizeof(struct vring_packed_desc), true);
    u16 flags = p.wrap ? DESC_AVAIL | DESC_USED : 0;

    if (!d)
        return -EPROTO;
    if (c->written)
        flags |= VRING_DESC_F_WRITE;
    memcpy(d + offsetof(struct vring_packed_desc, len), &c->written, sizeof(c->written));
    memcpy(d + offsetof(struct vring_packed_desc, id), &c->head, sizeof(c->head));
    mem_written(q->mem, at, sizeof(struct vring_packed_desc));
    if (!q->staged) {
        q->held = at + DESC_FLAGS;
        q->held_flags = flags;
    } else if (virtq_store_u16(q, at + DESC_FLAGS, flags)) {
        return -EPROTO;
    }
    move(q, &p, c->nr);
    q->used_idx = p.at;
    q->used_wrap = p.wrap;
    q->signalled = (u32)q->signalled + c->nr < UINT16_MAX ? q->signalled + c->nr : UINT16_MAX;
    return 0;
}

static int packed_publish(struct virtq *q)
{
    return virtq_store_u16(q, q->held, q->held_flags); /* barrier B */
}

/* Here (signalled) counts descriptors used since the last decision. */
static bool packed_should_signal(struct virtq *q)
{
    u16 fresh = q->signalled, off, flags, event;

    if (!fresh)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* barrier C */
    q->signalled = 0;
    if (virtq_load_u16(q, q->avail + EVENT_FLAG, __ATOMIC_RELAXED, &flags) ||
        virtq_load_u16(q, q->avail + EVENT_OFF, __ATOMIC_RELAXED, &off))
        return true;
    if (flags != VRING_PACKED_EVENT_FLAG_DESC || !q->event_idx)
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    event = off & ~EVENT_WRAP;
    if (!!(off & EVENT_WRAP) != q->used_wrap)
        event -= q->size;
    return fresh >= q->size || vring_need_event(event, q->used_idx, q->used_idx - fresh);
}

const struct virtq_ring_ops virtq_packed_ops = {
    .check = packed_check,
    .resume = packed_resume,
    .base = packed_base,
    .pop = packed_pop,
    .unpop = packed_unpop,
    .pending = packed_pending,
    .enable_notify = packed_enable_notify,
    .disable_notify = packed_disable_notify,
    .stage = packed_stage,
    .publish = packed_publish,
    .should_signal = packed_should_signal,
};
