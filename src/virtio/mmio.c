// SPDX-License-Identifier: MIT
// The registers of virtio-mmio version 2, and its one interrupt line.
#include "virtio/mmio.h"
#include "virtio/state.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC   0x74726976 /* "virt" */
#define VERSION 2
#define VENDOR  0x52495655 /* "UVIR" */

struct virtio_mmio {
    struct virtio_device *dev;
    void (*irq)(void *opaque, bool level);
    void *opaque;
    u32 isr;
    u32 features_sel, acked_sel, queue_sel;
};

static void set_isr(struct virtio_mmio *t, u32 isr)
{
    bool before = t->isr, after = isr;

    t->isr = isr;
    if (before != after)
        t->irq(t->opaque, after);
}

static void mmio_signal(struct virtio_device *d, u32 cause)
{
    struct virtio_mmio *t = d->transport;

    set_isr(t, t->isr | cause);
}

int virtio_mmio_create(struct virtio_device *d, struct mem *m,
                       void (*irq)(void *opaque, bool level), void *opaque,
                       struct virtio_mmio **ret)
{
    struct virtio_mmio *t = calloc(1, sizeof(*t));

    if (!t)
        return -ENOMEM;
    t->dev = d;
    t->irq = irq;
    t->opaque = opaque;
    d->transport = t;
    d->signal = mmio_signal;
    virtio_device_attach(d, m);
    *ret = t;
    return 0;
}

void virtio_mmio_free(struct virtio_mmio *t)
{
    if (!t)
        return;
    virtio_device_free(t->dev);
    free(t);
}

void virtio_mmio_reset(struct virtio_mmio *t)
{
    virtio_device_set_status(t->dev, 0);
    t->features_sel = t->acked_sel = t->queue_sel = 0;
    set_isr(t, 0);
}

void virtio_mmio_notify(struct virtio_mmio *t, u32 q)
{
    virtio_device_notify(t->dev, q);
}

/* The selected queue, or NULL. */
static struct virtq *selected(struct virtio_mmio *t)
{
    return t->queue_sel < t->dev->nr_queues ? &t->dev->queues[t->queue_sel] : NULL;
}

/* The selected queue while its driver may set it up: not ready, features agreed. */
static struct virtq *adjustable(struct virtio_mmio *t)
{
    struct virtq *q = selected(t);

    return q && !q->ready && !(t->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) ? q : NULL;
}

/* The (sel)-th 32 bits of a 64-bit feature set; zero beyond. */
static u32 feature_word(u64 features, u32 sel)
{
    return sel < 2 ? (u32)(features >> (32 * sel)) : 0;
}

static u32 reg_read(struct virtio_mmio *t, u64 off)
{
    struct virtio_device *d = t->dev;
    struct virtq *q = selected(t);

    switch (off) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VERSION;
    case VIRTIO_MMIO_DEVICE_ID:
        return d->ops->id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return feature_word(d->features, t->features_sel);
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return q ? q->size_max : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return q && q->ready;
    case VIRTIO_MMIO_INTERRUPT_STATUS:
        return t->isr;
    case VIRTIO_MMIO_STATUS:
        return d->status;
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return ~0u; /* no such region (virtio 4.2.2) */
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return 0; /* no device here changes its configuration */
    default:
        return 0;
    }
}

static void set_low(gpa_t *at, u32 value)
{
    *at = (*at & ~0xffffffffull) | value;
}

static void set_high(gpa_t *at, u32 value)
{
    *at = (*at & 0xffffffffull) | (u64)value << 32;
}

static void queue_ready(struct virtio_mmio *t, u32 value)
{
    struct virtq *q = selected(t);

    if (q && !value)
        q->ready = false;
    q = adjustable(t);
    if (q && value && virtq_start(q))
        virtio_device_fail(t->dev);
}

/* Registers that describe the selected queue; they hold still while it is ready. */
static void queue_write(struct virtio_mmio *t, u64 off, u32 value)
{
    struct virtq *q = adjustable(t);

    if (!q)
        return;
    switch (off) {
    case VIRTIO_MMIO_QUEUE_NUM:
        q->size = value <= q->size_max ? value : 0; /* 0 is refused at QueueReady */
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
        set_low(&q->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_high(&q->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        set_low(&q->avail, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_high(&q->avail, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
        set_low(&q->used, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_high(&q->used, value);
        break;
    default:
        break;
    }
}

static void driver_features(struct virtio_mmio *t, u32 value)
{
    struct virtio_device *d = t->dev;

    if (d->status & VIRTIO_CONFIG_S_FEATURES_OK)
        return;
    if (t->acked_sel == 0)
        set_low(&d->acked, value);
    else if (t->acked_sel == 1)
        set_high(&d->acked, value);
}

static void reg_write(struct virtio_mmio *t, u64 off, u32 value)
{
    switch (off) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        t->features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        driver_features(t, value);
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        t->acked_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        t->queue_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_READY:
        queue_ready(t, value);
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        virtio_mmio_notify(t, value);
        break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        set_isr(t, t->isr & ~value);
        break;
    case VIRTIO_MMIO_STATUS:
        if (value)
            virtio_device_set_status(t->dev, value);
        else
            virtio_mmio_reset(t);
        break;
    default:
        queue_write(t, off, value);
        break;
    }
}

void virtio_mmio_read(struct virtio_mmio *t, u64 off, void *data, unsigned len)
{
    struct virtio_device *d = t->dev;

    memset(data, 0, len);
    if (off >= VIRTIO_MMIO_CONFIG && off < VIRTIO_MMIO_WINDOW) {
        if (d->ops->config_read)
            d->ops->config_read(d, off - VIRTIO_MMIO_CONFIG, data, len);
    } else if (len == 4 && IS_ALIGNED(off, 4)) {
        u32 value = reg_read(t, off);

        memcpy(data, &value, sizeof(value));
    }
}

void virtio_mmio_write(struct virtio_mmio *t, u64 off, const void *data, unsigned len)
{
    struct virtio_device *d = t->dev;

    if (off >= VIRTIO_MMIO_CONFIG && off < VIRTIO_MMIO_WINDOW) {
        if (d->ops->config_write)
            d->ops->config_write(d, off - VIRTIO_MMIO_CONFIG, data, len);
    } else if (len == 4 && IS_ALIGNED(off, 4)) {
        u32 value;

        memcpy(&value, data, sizeof(value));
        reg_write(t, off, value);
    }
}

void virtio_mmio_state(struct virtio_mmio *t, struct state *s)
{
    STATE(s, t->isr);
    STATE(s, t->features_sel);
    STATE(s, t->acked_sel);
    STATE(s, t->queue_sel);
    virtio_device_state(t->dev, s);
}

void virtio_mmio_redrive(struct virtio_mmio *t)
{
    if (t->isr)
        t->irq(t->opaque, true);
    for (unsigned q = 0; q < t->dev->nr_queues; q++)
        virtio_device_notify(t->dev, q);
}

struct virtio_device *virtio_mmio_device(struct virtio_mmio *t)
{
    return t->dev;
}
