// SPDX-License-Identifier: MIT
// Saving and loading what all virtio devices have: features, status, queues.
#include "virtio/state.h"

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
    agreed = d->status & VIRTIO_CONFIG_S_FEATURES_OK;
    STATE_CHECK(s, !agreed || !(d->acked & ~d->features), d->acked);
    if (agreed)
        virtio_device_queues_follow(d);
    for (unsigned i = 0; i < d->nr_queues; i++)
        queue_state(&d->queues[i], s);
    if (!s->error)
        d->ops->state(d, s);
}
