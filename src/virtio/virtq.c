// SPDX-License-Identifier: MIT
// What is common to split and packed virtqueues: collecting a chain, moving through it, copying.
#include "virtio/virtq_ring.h"

#include <errno.h>
#include <string.h>

static const struct virtq_ring_ops *ring(const struct virtq *q)
{
    return q->packed ? &virtq_packed_ops : &virtq_split_ops;
}

int virtq_load_u16(const struct virtq *q, gpa_t gpa, int order, u16 *ret)
{
    const u16 *p = mem_span(q->mem, gpa, sizeof(*p), false);

    if (!p || !IS_ALIGNED(gpa, 2))
        return -EPROTO;
    *ret = order == __ATOMIC_ACQUIRE ? __atomic_load_n(p, __ATOMIC_ACQUIRE)
                                     : __atomic_load_n(p, __ATOMIC_RELAXED);
    return 0;
}

int virtq_store_u16(const struct virtq *q, gpa_t gpa, u16 value)
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
    u16 n = q->size;

    if (!n || n > q->size_max || (!q->packed && (n & (n - 1))))
        return -EINVAL;
    if (ring(q)->check(q))
        return -EINVAL;
    q->last_avail = q->used_idx = q->signalled = q->last_nr = q->staged = 0;
    q->avail_wrap = q->used_wrap = true;
    q->ready = true;
    return 0;
}

int virtq_resume(struct virtq *q, u32 base)
{
    int rc = virtq_start(q);

    if (!rc && ring(q)->resume(q, base)) {
        q->ready = false;
        rc = -EINVAL;
    }
    return rc;
}

u32 virtq_base(const struct virtq *q)
{
    return ring(q)->base(q);
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
    return q->ready ? ring(q)->pop(q, c) : 0;
}

void virtq_unpop(struct virtq *q)
{
    ring(q)->unpop(q);
}

bool virtq_pending(struct virtq *q)
{
    return q->ready && ring(q)->pending(q);
}

bool virtq_enable_notify(struct virtq *q)
{
    return q->ready && ring(q)->enable_notify(q);
}

void virtq_disable_notify(struct virtq *q)
{
    if (q->ready)
        ring(q)->disable_notify(q);
}

void virtq_return(struct virtq *q, const struct virtq_chain *c)
{
    q->last_nr = c->nr;
    virtq_unpop(q);
}

int virtq_stage(struct virtq *q, const struct virtq_chain *c)
{
    int rc = q->ready ? ring(q)->stage(q, c) : -EPROTO;

    if (!rc)
        q->staged++;
    return rc;
}

int virtq_publish(struct virtq *q)
{
    int rc = q->ready && q->staged ? ring(q)->publish(q) : 0;

    q->staged = 0;
    return rc;
}

int virtq_push(struct virtq *q, const struct virtq_chain *c)
{
    int rc = virtq_stage(q, c);

    return rc ? rc : virtq_publish(q);
}

bool virtq_should_signal(struct virtq *q)
{
    return q->ready && ring(q)->should_signal(q);
}

void virtq_chain_begin(const struct virtq *q, struct virtq_chain *c)
{
    c->mem = q->mem;
    c->nr = 1;
    c->written = 0;
    c->gap = false;
    c->out = c->in = (struct virtq_cursor){0};
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

int virtq_chain_add(struct virtq_chain *c, gpa_t gpa, u32 len, bool write)
{
    struct virtq_seg *s = &c->segs[c->in.end];

    if (c->in.end == VIRTQ_SIZE_MAX || (!write && c->in.end > c->out.end))
        return -EPROTO; /* too long, or readable behind writable */
    *s = (struct virtq_seg){.gpa = gpa, .len = len};
    if (!seg_ok(c->mem, s, write))
        return -EPROTO;
    c->in.end++;
    if (write) {
        c->in.left += len;
    } else {
        c->out.end++;
        c->out.left += len;
    }
    return 0;
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
