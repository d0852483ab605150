// SPDX-License-Identifier: MIT
// Split virtqueues seen from the device (virtio 2.7): take chains, copy, push used elements.

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
#include "virtio/virtq.h"

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

/* Load a u16 of the driver's; relaxed unless the caller adds a barrier. */
static int load_u16(const struct virtq *q, gpa_t gpa, int order, u16 *ret)
{
    const u16 *p = mem_span(q->mem, gpa, sizeof(*p), false);

    if (!p || !IS_ALIGNED(gpa, 2))
        return -EPROTO;
    *ret = order == __ATOMIC_ACQUIRE ? __atomic_load_n(p, __ATOMIC_ACQUIRE)
                                     : __atomic_load_n(p, __ATOMIC_RELAXED);
    return 0;
}

/* Store a u16 of ours, with release. */
static int store_u16(const struct virtq *q, gpa_t gpa, u16 value)
{
    u16 *p = mem_span(q->mem, gpa, sizeof(*p), true);

    if (!p || !IS_ALIGNED(gpa, 2))
        return -EPROTO;
    __atomic_store_n(p, value, __ATOMIC_RELEASE);
    mem_written(q->mem, gpa, sizeof(*p));
    return 0;
}

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){.mem = q->mem, .size_max = q->size_max, .size = q->size_max};
}

int virtq_start(struct virtq *q)
{
    u64 n = q->size;

    if (!n || n > q->size_max || (n & (n - 1)))
        return -EINVAL;
    if (!IS_ALIGNED(q->desc, 16) || !IS_ALIGNED(q->avail, 2) || !IS_ALIGNED(q->used, 4))
        return -EINVAL;
    if (!mem_span(q->mem, q->desc, n * sizeof(struct vring_desc), false) ||
        !mem_span(q->mem, q->avail, AVAIL_RING + 2 * n + 2, false) ||
        !mem_span(q->mem, q->used, USED_RING + sizeof(struct vring_used_elem) * n + 2, true))
        return -EINVAL;
    q->last_avail = 0;
    q->used_idx = 0;
    q->signalled = 0;
    q->ready = true;
    return 0;
}

/* Every byte of the segment is guest memory that may be used that way. */
static bool seg_ok(struct mem *m, const struct virtq_seg *s, bool write)
{
    gpa_t gpa = s->gpa;
    u64 left = s->len;

    if (gpa + left < gpa)
        return false;
    while (left) {
        const struct mem_slot *slot = mem_slot_find(m, gpa);
        u64 room;

        if (!slot || (write && (slot->flags & MEM_READONLY)))
            return false;
        room = slot->size - (gpa - slot->gpa);
        if (room > left)
            room = left;
        gpa += room;
        left -= room;
    }
    return true;
}

/* Add one checked descriptor to (c). */
static int add_seg(struct virtq_chain *c, const struct vring_desc *d)
{
    bool write = d->flags & VRING_DESC_F_WRITE;
    struct virtq_seg *s = &c->segs[c->in.end];

    if (c->in.end == VIRTQ_SIZE_MAX || (!write && c->in.end > c->out.end))
        return -EPROTO; /* too long, or readable behind writable */
    *s = (struct virtq_seg){.gpa = d->addr, .len = d->len};
    if (!seg_ok(c->mem, s, write))
        return -EPROTO;
    c->in.end++;
    if (write) {
        c->in.left += d->len;
    } else {
        c->out.end++;
        c->out.left += d->len;
    }
    return 0;
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
        rc = add_seg(c, &d);
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

    c->mem = q->mem;
    c->head = head;
    c->written = 0;
    c->gap = false;
    c->out = c->in = (struct virtq_cursor){0};
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

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
    u16 idx, head;
    int rc;

    if (!q->ready)
        return 0;
    rc = load_u16(q, q->avail + AVAIL_IDX, __ATOMIC_ACQUIRE, &idx); /* barrier A */
    if (rc)
        return rc;
    if (idx == q->last_avail)
        return 0;
    if ((u16)(idx - q->last_avail) > q->size)
        return -EPROTO;
    rc = load_u16(q, q->avail + AVAIL_RING + 2ull * (q->last_avail & (q->size - 1)),
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

void virtq_unpop(struct virtq *q)
{
    q->last_avail--;
}

bool virtq_pending(struct virtq *q)
{
    u16 idx;

    return q->ready && !load_u16(q, q->avail + AVAIL_IDX, __ATOMIC_ACQUIRE, &idx) &&
           idx != q->last_avail;
}

bool virtq_enable_notify(struct virtq *q)
{
    if (!q->ready)
        return false;
    if (q->event_idx)
        store_u16(q, avail_event_at(q), q->last_avail);
    else
        store_u16(q, q->used + USED_FLAGS, 0);
    atomic_thread_fence(memory_order_seq_cst); /* barrier D */
    return virtq_pending(q);
}

void virtq_disable_notify(struct virtq *q)
{
    if (q->ready && !q->event_idx)
        store_u16(q, q->used + USED_FLAGS, VRING_USED_F_NO_NOTIFY);
}

int virtq_push(struct virtq *q, const struct virtq_chain *c)
{
    struct vring_used_elem e = {.id = c->head, .len = c->written};
    gpa_t at = q->used + USED_RING + sizeof(e) * (q->used_idx & (q->size - 1));

    if (!q->ready || mem_write(q->mem, at, &e, sizeof(e)))
        return -EPROTO;
    q->used_idx++;
    return store_u16(q, q->used + USED_IDX, q->used_idx); /* barrier B */
}

bool virtq_should_signal(struct virtq *q)
{
    u16 last = q->signalled, event, flags;

    if (!q->ready || last == q->used_idx)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* barrier C */
    q->signalled = q->used_idx;
    if (q->event_idx) {
        return load_u16(q, used_event_at(q), __ATOMIC_RELAXED, &event) ||
               vring_need_event(event, q->used_idx, last);
    }
    return load_u16(q, q->avail + AVAIL_FLAGS, __ATOMIC_RELAXED, &flags) ||
           !(flags & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Move (k) on by (len) bytes, at most to its end. */
static void advance(const struct virtq_chain *c, struct virtq_cursor *k, u64 len)
{
    while (k->seg < k->end) {
        u64 room = c->segs[k->seg].len - k->off;

        if (len < room) {
            k->off += len;
            k->left -= len;
            return;
        }
        len -= room;
        k->left -= room;
        k->off = 0;
        k->seg++;
    }
}

/* The piece at (k) that is contiguous in host memory; NULL at the end. */
static u8 *piece(const struct virtq_chain *c, const struct virtq_cursor *k, u64 max, bool write,
                 gpa_t *ret_gpa, u64 *ret_len)
{
    const struct virtq_seg *s = &c->segs[k->seg];
    gpa_t gpa = s->gpa + k->off;
    const struct mem_slot *slot;
    u64 len = s->len - k->off;

    if (k->seg >= k->end || !max)
        return NULL;
    slot = mem_slot_find(c->mem, gpa);
    if (!slot)
        return NULL;
    if (len > max)
        len = max;
    if (len > slot->size - (gpa - slot->gpa))
        len = slot->size - (gpa - slot->gpa);
    *ret_gpa = gpa;
    *ret_len = len;
    return mem_span(c->mem, gpa, len, write);
}

/* Skip empty segments, so that a piece is never empty. */
static void settle(const struct virtq_chain *c, struct virtq_cursor *k)
{
    while (k->seg < k->end && k->off == c->segs[k->seg].len) {
        k->off = 0;
        k->seg++;
    }
}

static unsigned gather(const struct virtq_chain *c, struct virtq_cursor k, u64 max, bool write,
                       struct iovec *iov, unsigned nr)
{
    unsigned i = 0;

    for (; i < nr; i++) {
        gpa_t gpa;
        u64 len;
        u8 *p;

        settle(c, &k);
        p = piece(c, &k, max, write, &gpa, &len);
        if (!p)
            break;
        iov[i] = (struct iovec){.iov_base = p, .iov_len = len};
        advance(c, &k, len);
        max -= len;
    }
    return i;
}

unsigned virtq_out_iov(const struct virtq_chain *c, u64 max, struct iovec *iov, unsigned nr)
{
    return gather(c, c->out, max, false, iov, nr);
}

unsigned virtq_in_iov(const struct virtq_chain *c, u64 max, struct iovec *iov, unsigned nr)
{
    return gather(c, c->in, max, true, iov, nr);
}

void virtq_out_skip(struct virtq_chain *c, u64 len)
{
    advance(c, &c->out, len);
}

static void count_written(struct virtq_chain *c, u64 len)
{
    if (!c->gap)
        c->written = len > UINT32_MAX - c->written ? UINT32_MAX : c->written + len;
}

void virtq_in_done(struct virtq_chain *c, u64 len)
{
    while (len) {
        gpa_t gpa;
        u64 n;

        settle(c, &c->in);
        if (!piece(c, &c->in, len, true, &gpa, &n))
            return;
        mem_written(c->mem, gpa, n);
        advance(c, &c->in, n);
        count_written(c, n);
        len -= n;
    }
}

void virtq_in_skip(struct virtq_chain *c, u64 len)
{
    c->gap |= len != 0;
    advance(c, &c->in, len);
}

int virtq_out(struct virtq_chain *c, void *buf, u64 len)
{
    u8 *to = buf;
    struct iovec v;

    if (len > c->out.left)
        return -EPROTO;
    while (len) {
        if (!virtq_out_iov(c, len, &v, 1))
            return -EPROTO;
        memcpy(to, v.iov_base, v.iov_len);
        virtq_out_skip(c, v.iov_len);
        to += v.iov_len;
        len -= v.iov_len;
    }
    return 0;
}

int virtq_in(struct virtq_chain *c, const void *buf, u64 len)
{
    const u8 *from = buf;
    struct iovec v;

    if (len > c->in.left)
        return -EPROTO;
    while (len) {
        if (!virtq_in_iov(c, len, &v, 1))
            return -EPROTO;
        memcpy(v.iov_base, from, v.iov_len);
        virtq_in_done(c, v.iov_len);
        from += v.iov_len;
        len -= v.iov_len;
    }
    return 0;
}
