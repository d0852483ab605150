// SPDX-License-Identifier: MIT
// What every virtio device has in common: status and feature rules, queues, failing.
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#define RING_FEATURES                                                                              \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))

int virtio_device_init(struct virtio_device *d, const struct virtio_device_ops *ops,
                       unsigned nr_queues, u16 size_max, u64 features)
{
    struct virtq *queues;

    if (!nr_queues || !size_max || size_max > VIRTQ_SIZE_MAX || (size_max & (size_max - 1)))
        return -EINVAL;
    queues = calloc(nr_queues, sizeof(*queues));
    if (!queues)
        return -ENOMEM;
    *d = (struct virtio_device){
        .ops = ops,
        .features = features | RING_FEATURES,
        .nr_queues = nr_queues,
        .queues = queues,
    };
    for (unsigned i = 0; i < nr_queues; i++) {
        queues[i].size_max = size_max;
        virtq_reset(&queues[i]);
    }
    return 0;
}

void virtio_device_fini(struct virtio_device *d)
{
    free(d->queues);
    d->queues = NULL;
    d->nr_queues = 0;
}

void virtio_device_free(struct virtio_device *d)
{
    if (d)
        d->ops->free(d);
}

void virtio_device_attach(struct virtio_device *d, struct mem *m)
{
    for (unsigned i = 0; i < d->nr_queues; i++)
        d->queues[i].mem = m;
}

static void device_reset(struct virtio_device *d)
{
    if (d->ops->reset)
        d->ops->reset(d);
    d->status = 0;
    d->acked = 0;
    for (unsigned i = 0; i < d->nr_queues; i++)
        virtq_reset(&d->queues[i]);
}

void virtio_device_queues_follow(struct virtio_device *d)
{
    for (unsigned i = 0; i < d->nr_queues; i++) {
        d->queues[i].indirect = virtio_device_has(d, VIRTIO_RING_F_INDIRECT_DESC);
        d->queues[i].event_idx = virtio_device_has(d, VIRTIO_RING_F_EVENT_IDX);
        d->queues[i].packed = virtio_device_has(d, VIRTIO_F_RING_PACKED);
    }
}

/* FEATURES_OK: take the driver's choice, or refuse by leaving the bit clear (virtio 3.1.1). */
static void features_ok(struct virtio_device *d)
{
    if ((d->acked & ~d->features) || !virtio_device_has(d, VIRTIO_F_VERSION_1))
        return;
    d->status |= VIRTIO_CONFIG_S_FEATURES_OK;
    virtio_device_queues_follow(d);
    if (d->ops->start)
        d->ops->start(d);
}

void virtio_device_set_status(struct virtio_device *d, u8 status)
{
    u8 fresh = status & ~d->status;

    if (!status) {
        device_reset(d);
        return;
    }
    /* Bits are only ever added; NEEDS_RESET is ours. */
    d->status |= fresh & ~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
    if (fresh & VIRTIO_CONFIG_S_FEATURES_OK)
        features_ok(d);
}

bool virtio_device_live(const struct virtio_device *d)
{
    const u8 want = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
    const u8 down = VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;

    return (d->status & want) == want && !(d->status & down);
}

void virtio_device_notify(struct virtio_device *d, unsigned q)
{
    if (virtio_device_live(d) && q < d->nr_queues && d->queues[q].ready)
        d->ops->notify(d, q);
}

void virtio_device_fail(struct virtio_device *d)
{
    if (d->status & VIRTIO_CONFIG_S_NEEDS_RESET)
        return;
    d->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if ((d->status & VIRTIO_CONFIG_S_DRIVER_OK) && d->signal)
        d->signal(d, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_device_used(struct virtio_device *d, struct virtq *q)
{
    if (!virtio_device_live(d) || !virtq_should_signal(q))
        return;
    if (d->signal_queue)
        d->signal_queue(d, q - d->queues);
    else if (d->signal)
        d->signal(d, VIRTIO_MMIO_INT_VRING);
}

void virtio_config_copy(void *buf, u32 off, u32 len, const void *config, size_t size)
{
    size_t n = off < size ? size - off : 0;

    if (n > len)
        n = len;
    if (n)
        memcpy(buf, (const u8 *)config + off, n);
    memset((u8 *)buf + n, 0, len - n);
}
