// SPDX-License-Identifier: MIT
// Split rings seen from the driver (virtio 2.7.13, 2.7.14).

/*
 * Ids are heads of chains. The barriers are the partners of those in virtq_split.c: avail.idx
 * is stored with release (A), used.idx loaded with acquire (B), full fences stand between
 * used_event and used.idx (C) and between avail.idx and avail_event (D).
 *
 * An element is only read once used.idx has passed it by no more than there are buffers.
 */
#include "virtio/driver_ring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

static u16 *avail16(struct virtq_driver *q, unsigned i)
{
    return (u16 *)(void *)q->avail_mem + i;
}

static u16 *used16(struct virtq_driver *q, unsigned i)
{
    return (u16 *)(void *)q->used_mem + i;
}

static u16 *used_event(struct virtq_driver *q)
{
    return avail16(q, 2 + q->config.size);
}

static u16 *avail_event(struct virtq_driver *q)
{
    return used16(q, 2 + 4u * q->config.size);
}

static u16 slot(const struct virtq_driver *q, u16 i)
{
    return i & (q->config.size - 1);
}

static void fill_table(struct virtq_driver *q, struct vring_desc *table, unsigned out,
                       const struct virtq_seg *segs, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        table[i] = (struct vring_desc){
            .addr = segs[i].gpa,
            .len = segs[i].len,
            .flags = (i >= out ? VRING_DESC_F_WRITE : 0) | (i + 1 < nr ? VRING_DESC_F_NEXT : 0),
            .next = i + 1,
        };
    }
}

static u16 split_add(struct virtq_driver *q, const struct virtq_seg *segs, unsigned out,
                     unsigned in, bool indirect)
{
    struct vring_desc *ring = (void *)q->desc_mem, *d;
    unsigned nr = out + in;
    u16 head = q->free_id, at = head;
    gpa_t gpa;

    if (indirect) {
        fill_table(q, virtq_driver_table(q, head, &gpa), out, segs, nr);
        ring[head] = (struct vring_desc){
            .addr = gpa, .len = nr * sizeof(*d), .flags = VRING_DESC_F_INDIRECT};
        at = q->desc_next[head];
    } else {
        for (unsigned i = 0; i < nr; i++) {
            u16 next = q->desc_next[at];

            ring[at] = (struct vring_desc){
                .addr = segs[i].gpa,
                .len = segs[i].len,
                .flags = (i >= out ? VRING_DESC_F_WRITE : 0) | (i + 1 < nr ? VRING_DESC_F_NEXT : 0),
                .next = next,
            };
            at = next;
        }
    }
    q->free_id = at;
    *avail16(q, 2 + slot(q, q->avail_at)) = head;
    return head;
}

static void split_publish(struct virtq_driver *q)
{
    q->avail_at++;
    __atomic_store_n(avail16(q, 1), q->avail_at, __ATOMIC_RELEASE); /* barrier A */
}

static bool split_should_kick(struct virtq_driver *q, u16 fresh)
{
    atomic_thread_fence(memory_order_seq_cst); /* barrier D */
    if (q->config.event_idx) {
        u16 event = __atomic_load_n(avail_event(q), __ATOMIC_RELAXED);

        return vring_need_event(event, q->avail_at, q->avail_at - fresh);
    }
    return !(__atomic_load_n(used16(q, 0), __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

static int split_used(struct virtq_driver *q, u16 *ret_id, u32 *ret_len)
{
    u16 idx = __atomic_load_n(used16(q, 1), __ATOMIC_ACQUIRE); /* barrier B */
    struct vring_used_elem e;

    if (idx == q->used_at)
        return 0;
    if ((u16)(idx - q->used_at) > q->config.size - q->nr_free)
        return -EPROTO;
    memcpy(&e, q->used_mem + 4 + sizeof(e) * slot(q, q->used_at), sizeof(e));
    if (e.id >= q->config.size)
        return -EPROTO;
    *ret_id = e.id;
    *ret_len = e.len;
    return 1;
}

static void split_skip(struct virtq_driver *q, u16 nr)
{
    q->used_at++;
}

static bool split_pending(struct virtq_driver *q)
{
    return __atomic_load_n(used16(q, 1), __ATOMIC_ACQUIRE) != q->used_at;
}

static void split_free(struct virtq_driver *q, u16 id)
{
    u16 last = id;

    for (u16 i = 1; i < q->buf[id].nr; i++)
        last = q->desc_next[last];
    q->desc_next[last] = q->free_id;
    q->free_id = id;
}

static void split_enable_signal(struct virtq_driver *q)
{
    if (q->config.event_idx)
        __atomic_store_n(used_event(q), q->used_at, __ATOMIC_RELEASE);
    else
        __atomic_store_n(avail16(q, 0), 0, __ATOMIC_RELEASE);
    atomic_thread_fence(memory_order_seq_cst); /* barrier C */
}

static void split_disable_signal(struct virtq_driver *q)
{
    if (!q->config.event_idx)
        __atomic_store_n(avail16(q, 0), VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELEASE);
}

const struct virtq_driver_ops virtq_driver_split = {
    .add = split_add,
    .publish = split_publish,
    .should_kick = split_should_kick,
    .used = split_used,
    .skip = split_skip,
    .pending = split_pending,
    .free = split_free,
    .enable_signal = split_enable_signal,
    .disable_signal = split_disable_signal,
};
