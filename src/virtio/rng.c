// SPDX-License-Identifier: MIT
// virtio-rng: fills each buffer from getrandom().
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define QUEUE_SIZE 64
#define FILL_MAX   65536 /* bytes a request; a driver that wants more asks again (virtio 5.4.6) */

struct rng {
    struct virtio_device dev;
    struct virtq_chain chain;
};

static void fill(struct virtq_chain *c)
{
    u64 left = FILL_MAX;
    struct iovec v;

    while (left && virtq_in_iov(c, left, &v, 1)) {
        ssize_t n = getrandom(v.iov_base, v.iov_len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        virtq_in_done(c, n);
        left -= n;
    }
}

static void rng_notify(struct virtio_device *d, unsigned q)
{
    struct rng *r = container_of(d, struct rng, dev);
    struct virtq *vq = &d->queues[q];
    int rc;

    do {
        while ((rc = virtq_pop(vq, &r->chain)) > 0) {
            fill(&r->chain);
            if ((rc = virtq_push(vq, &r->chain)))
                break;
        }
        if (rc) {
            virtio_device_fail(d);
            return;
        }
    } while (virtq_enable_notify(vq));
    virtio_device_used(d, vq);
}

/* Nothing but its queue: requests are done when they are asked for. */
static void rng_state(struct virtio_device *d, struct state *s)
{
    (void)d;
    (void)s;
}

static void rng_free(struct virtio_device *d)
{
    virtio_device_fini(d);
    free(container_of(d, struct rng, dev));
}

static const struct virtio_device_ops rng_ops = {
    .id = VIRTIO_ID_RNG,
    .notify = rng_notify,
    .state = rng_state,
    .free = rng_free,
};

int virtio_rng_create(struct virtio_device **ret)
{
    struct rng *r = calloc(1, sizeof(*r));
    int rc;

    if (!r)
        return -ENOMEM;
    rc = virtio_device_init(&r->dev, &rng_ops, 1, QUEUE_SIZE, 0);
    if (rc) {
        free(r);
        return rc;
    }
    *ret = &r->dev;
    return 0;
}
