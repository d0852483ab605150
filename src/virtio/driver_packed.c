// SPDX-License-Identifier: MIT
// Packed rings seen from the driver (virtio 2.8.21, 2.8.22).

/*
 * Ids are free numbers; descriptors follow each other in the ring. The head's flags are
 * stored last, with release, which makes the whole buffer available. Barriers as in
 * driver_split.c.
 */
#include "virtio/driver_ring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

#define DESC_AVAIL BIT(VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED  BIT(VRING_PACKED_DESC_F_USED)
#define EVENT_WRAP BIT(VRING_PACKED_EVENT_F_WRAP_CTR)

static struct vring_packed_desc *desc(struct virtq_driver *q, u16 i)
{
    return (struct vring_packed_desc *)(void *)q->desc_mem + i;
}

static struct vring_packed_desc_event *driver_event(struct virtq_driver *q)
{
    return (void *)q->avail_mem;
}

static struct vring_packed_desc_event *device_event(struct virtq_driver *q)
{
    return (void *)q->used_mem;
}

static u16 avail_flags(bool wrap)
{
    return wrap ? DESC_AVAIL : DESC_USED;
}

static void write_desc(struct vring_packed_desc *d, const struct virtq_seg *s, u16 id, u16 flags)
{
    d->addr = s->gpa;
    d->len = s->len;
    d->id = id;
    d->flags = flags;
}

/* The head is written whole but for its flags, which wait in (head_flags) for publish(). */
static u16 packed_add(struct virtq_driver *q, const struct virtq_seg *segs, unsigned out,
                      unsigned in, bool indirect)
{
    u16 id = q->free_id, at = q->avail_at, head_flags = 0;
    bool wrap = q->avail_wrap;
    struct virtq_seg table;
    unsigned nr = out + in;

    if (indirect) {
        struct vring_packed_desc *t = virtq_driver_table(q, id, &table.gpa);

        for (unsigned i = 0; i < nr; i++)
            write_desc(&t[i], &segs[i], 0, i >= out ? VRING_DESC_F_WRITE : 0);
        table.len = nr * sizeof(*t);
        segs = &table;
        nr = 1;
    }
    for (unsigned i = 0; i < nr; i++) {
        u16 flags = avail_flags(wrap) | (i + 1 < nr ? VRING_DESC_F_NEXT : 0);

        if (indirect)
            flags |= VRING_DESC_F_INDIRECT;
        else if (i >= out)
            flags |= VRING_DESC_F_WRITE;
        if (i == 0)
            head_flags = flags;
        write_desc(desc(q, at), &segs[i], id, i ? flags : desc(q, at)->flags);
        if (++at == q->config.size) {
            at = 0;
            wrap = !wrap;
        }
    }
    q->free_id = q->buf[id].next;
    q->head_at = q->avail_at;
    q->head_flags = head_flags;
    q->avail_at = at;
    q->avail_wrap = wrap;
    return id;
}

static void packed_publish(struct virtq_driver *q)
{
    __atomic_store_n(&desc(q, q->head_at)->flags, q->head_flags, __ATOMIC_RELEASE); /* barrier A */
}

static bool packed_should_kick(struct virtq_driver *q, u16 fresh)
{
    u16 flags, off, event;

    atomic_thread_fence(memory_order_seq_cst); /* barrier D */
    flags = __atomic_load_n(&device_event(q)->flags, __ATOMIC_RELAXED);
    off = __atomic_load_n(&device_event(q)->off_wrap, __ATOMIC_RELAXED);
    if (flags != VRING_PACKED_EVENT_FLAG_DESC || !q->config.event_idx)
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    event = off & ~EVENT_WRAP;
    if (!!(off & EVENT_WRAP) != q->avail_wrap)
        event -= q->config.size;
    return fresh >= q->config.size || vring_need_event(event, q->avail_at, q->avail_at - fresh);
}

static bool packed_pending(struct virtq_driver *q)
{
    u16 flags = __atomic_load_n(&desc(q, q->used_at)->flags, __ATOMIC_ACQUIRE); /* barrier B */

    return !!(flags & DESC_AVAIL) == q->used_wrap && !!(flags & DESC_USED) == q->used_wrap;
}

static int packed_used(struct virtq_driver *q, u16 *ret_id, u32 *ret_len)
{
    const struct vring_packed_desc *d = desc(q, q->used_at);
    u16 flags;

    if (!packed_pending(q))
        return 0;
    flags = __atomic_load_n(&d->flags, __ATOMIC_RELAXED);
    *ret_id = __atomic_load_n(&d->id, __ATOMIC_RELAXED);
    *ret_len = flags & VRING_DESC_F_WRITE ? __atomic_load_n(&d->len, __ATOMIC_RELAXED) : 0;
    return 1;
}

static void packed_skip(struct virtq_driver *q, u16 nr)
{
    q->used_at += nr;
    if (q->used_at >= q->config.size) {
        q->used_at -= q->config.size;
        q->used_wrap = !q->used_wrap;
    }
}

static void packed_free(struct virtq_driver *q, u16 id)
{
    q->buf[id].next = q->free_id;
    q->free_id = id;
}

static void packed_enable_signal(struct virtq_driver *q)
{
    u16 flags = VRING_PACKED_EVENT_FLAG_ENABLE;

    if (q->config.event_idx) {
        __atomic_store_n(&driver_event(q)->off_wrap, q->used_at | (q->used_wrap ? EVENT_WRAP : 0),
                         __ATOMIC_RELAXED);
        flags = VRING_PACKED_EVENT_FLAG_DESC;
    }
    __atomic_store_n(&driver_event(q)->flags, flags, __ATOMIC_RELEASE);
    atomic_thread_fence(memory_order_seq_cst); /* barrier C */
}

static void packed_disable_signal(struct virtq_driver *q)
{
    __atomic_store_n(&driver_event(q)->flags, VRING_PACKED_EVENT_FLAG_DISABLE, __ATOMIC_RELEASE);
}

const struct virtq_driver_ops virtq_driver_packed = {
    .add = packed_add,
    .publish = packed_publish,
    .should_kick = packed_should_kick,
    .used = packed_used,
    .skip = packed_skip,
    .pending = packed_pending,
    .free = packed_free,
    .enable_signal = packed_enable_signal,
    .disable_signal = packed_disable_signal,
};
