// SPDX-License-Identifier: MIT
// Saving and loading what all virtio devices have: features, status, queues, chains under way.
#include "virtio/state.h"
#include "virtio/virtq_ring.h"

/* What a queue's driver has set up, and where we stand in it. */
static void queue_fields(struct virtq *q, struct state *s)
{
    STATE(s, q->size);
    STATE_BOOL(s, q->ready);
    STATE(s, q->desc);
    STATE(s, q->avail);
    STATE(s, q->used);
    STATE(s, q->last_avail);
    STATE(s, q->used_idx);
    STATE(s, q->signalled);
    STATE(s, q->last_nr);
    STATE_BOOL(s, q->avail_wrap);
    STATE_BOOL(s, q->used_wrap);
    STATE_CHECK(s, q->size <= q->size_max, q->size);
    if (q->packed) {
        STATE_CHECK(s, !q->ready || q->last_avail < q->size, q->last_avail);
        STATE_CHECK(s, !q->ready || q->used_idx < q->size, q->used_idx);
        STATE_CHECK(s, q->last_nr <= q->size, q->last_nr);
    }
}

static void queue_state(struct virtq *q, struct state *s)
{
    struct virtq loaded = *q;

    queue_fields(&loaded, s);
    if (!s->loading || s->error)
        return;
    *q = loaded;
    if (!loaded.ready)
        return;
    q->ready = false; /* have size and addresses checked as when a driver sets it up */
    STATE_CHECK(s, virtq_start(q) == 0, q->desc);
    if (!s->error)
        *q = loaded;
}

void virtio_device_state(struct virtio_device *d, struct state *s)
{
    u32 id = d->ops->id, nr_queues = d->nr_queues;
    bool agreed;

    STATE(s, id);
    STATE_CHECK(s, id == d->ops->id, id);
    STATE(s, nr_queues);
    STATE_CHECK(s, nr_queues == d->nr_queues, nr_queues);
    STATE(s, d->status);
    STATE(s, d->acked);
    STATE(s, d->config_gen);
    agreed = d->status & VIRTIO_CONFIG_S_FEATURES_OK;
    STATE_CHECK(s, !agreed || !(d->acked & ~d->features), d->acked);
    if (agreed)
        virtio_device_queues_follow(d);
    for (unsigned i = 0; i < d->nr_queues; i++)
        queue_state(&d->queues[i], s);
    if (!s->error)
        d->ops->state(d, s);
}

static u64 total(const struct virtq_chain *c, u16 from, u16 to)
{
    u64 n = 0;

    for (u16 i = from; i < to; i++)
        n += c->segs[i].len;
    return n;
}

/* Load the buffers, checked as those of a driver are. */
static void load_segs(struct virtq_chain *c, u16 nr_out, u16 nr, struct state *s)
{
    for (u16 i = 0; i < nr && !s->error; i++) {
        struct virtq_seg seg = {0};

        STATE(s, seg.gpa);
        STATE(s, seg.len);
        if (!s->error)
            STATE_CHECK(s, virtq_chain_add(c, seg.gpa, seg.len, i >= nr_out) == 0, seg.gpa);
    }
    c->in.seg = c->out.end;
}

void virtq_chain_state(struct virtq_chain *c, const struct virtq *q, struct state *s)
{
    u16 head = c->head, nr_descs = c->nr, nr_out = c->out.end, nr = c->in.end;
    u64 out_done = total(c, 0, nr_out) - c->out.left, in_done = total(c, nr_out, nr) - c->in.left;
    u32 written = c->written;
    bool gap = c->gap;

    STATE(s, head);
    STATE(s, nr_descs);
    STATE(s, written);
    STATE_BOOL(s, gap);
    STATE(s, nr_out);
    STATE(s, nr);
    STATE_CHECK(s, nr <= VIRTQ_SIZE_MAX && nr_out <= nr, nr);
    STATE_CHECK(s, nr_descs <= q->size, nr_descs);
    if (s->loading && !s->error) {
        virtq_chain_begin(q, c);
        load_segs(c, nr_out, nr, s);
    } else if (!s->loading) {
        for (u16 i = 0; i < nr; i++) {
            STATE(s, c->segs[i].gpa);
            STATE(s, c->segs[i].len);
        }
    }
    STATE(s, out_done);
    STATE(s, in_done);
    if (!s->loading || s->error)
        return;
    STATE_CHECK(s, out_done <= c->out.left, out_done);
    STATE_CHECK(s, in_done <= c->in.left, in_done);
    virtq_out_skip(c, out_done);
    virtq_in_skip(c, in_done);
    c->head = head;
    c->nr = nr_descs;
    c->written = written;
    c->gap = gap;
}
