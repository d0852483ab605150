// SPDX-License-Identifier: MIT
// The bus between a driver and a device of the same process: calls.

/*
 * The turn's lock is the device lock and the driver's as well. Kicks and interrupts only set
 * flags; work() goes round until there are none.
 */
#include "virtio/vsock_local.h"
#include "virtio/turn.h"
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>

struct virtio_vsock_local {
    struct vsock_bus bus;
    struct virtio_turn turn;
    struct virtio_vsock_driver *driver;
    struct virtio_device *dev;
    struct mem *mem;
    bool kicked, signalled;
};

static struct virtio_vsock_local *of(struct vsock_bus *b)
{
    return container_of(b, struct virtio_vsock_local, bus);
}

static int local_open(struct vsock_bus *b, u64 *ret_features)
{
    struct virtio_device *d = of(b)->dev;

    virtio_device_set_status(d, 0);
    virtio_device_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    *ret_features = d->features;
    return 0;
}

static int local_setup(struct vsock_bus *b, u64 features, int fd, u8 *hva, gpa_t gpa, u64 size)
{
    struct virtio_device *d = of(b)->dev;
    int rc = mem_slot_by_id(of(b)->mem, 0) ? 0 : mem_slot_set(of(b)->mem, 0, gpa, size, hva, 0);

    if (rc)
        return rc;
    d->acked = features;
    virtio_device_set_status(d, d->status | VIRTIO_CONFIG_S_FEATURES_OK);
    return d->status & VIRTIO_CONFIG_S_FEATURES_OK ? 0 : -EPROTO;
}

static int local_guest_cid(struct vsock_bus *b, u64 *ret_cid)
{
    struct virtio_vsock_config c;

    of(b)->dev->ops->config_read(of(b)->dev, 0, &c, sizeof(c));
    *ret_cid = le64toh(c.guest_cid);
    return 0;
}

static int local_queue(struct vsock_bus *b, unsigned i, const struct virtq_driver *q)
{
    struct virtq *dq = &of(b)->dev->queues[i];

    dq->size = q->config.size;
    dq->desc = q->desc;
    dq->avail = q->avail;
    dq->used = q->used;
    return virtq_start(dq);
}

static int local_start(struct vsock_bus *b)
{
    struct virtio_device *d = of(b)->dev;

    virtio_device_set_status(d, d->status | VIRTIO_CONFIG_S_DRIVER_OK);
    return virtio_device_live(d) ? 0 : -EPROTO;
}

static void local_kick(struct vsock_bus *b, unsigned i)
{
    of(b)->kicked = true;
}

static const struct vsock_bus_ops local_ops = {
    .open = local_open,
    .setup = local_setup,
    .guest_cid = local_guest_cid,
    .queue = local_queue,
    .start = local_start,
    .kick = local_kick,
};

static void on_signal(struct virtio_device *d, u32 cause)
{
    ((struct virtio_vsock_local *)d->transport)->signalled = true;
}

static void work(void *opaque)
{
    struct virtio_vsock_local *l = opaque;

    do {
        l->kicked = l->signalled = false;
        if (l->driver)
            virtio_vsock_driver_pump(l->driver);
        virtio_vsock_pump(l->dev);
    } while (l->kicked || l->signalled);
}

static void flush(void *opaque)
{
    virtio_turn_run(&((struct virtio_vsock_local *)opaque)->turn);
}

int virtio_vsock_local_create(struct uvirt_vsock *host, struct uvirt_vsock *guest,
                              const struct vsock_driver_options *options,
                              struct virtio_vsock_local **ret)
{
    struct vsock_driver_options o = *options;
    struct virtio_vsock_options dev = {
        .guest_cid = uvirt_vsock_local_cid(guest), .marker = o.marker, .flush = flush};
    struct virtio_vsock_local *l = calloc(1, sizeof(*l));
    int rc;

    if (!l)
        return -ENOMEM;
    l->bus.ops = &local_ops;
    o.flush = flush;
    o.opaque = dev.opaque = l;
    virtio_turn_init(&l->turn, work, l);
    rc = mem_create(&l->mem);
    if (rc)
        goto err_turn;
    rc = virtio_vsock_create(host, &dev, &l->dev);
    if (rc)
        goto err_mem;
    l->dev->transport = l;
    l->dev->signal = on_signal;
    virtio_device_attach(l->dev, l->mem);
    pthread_mutex_lock(&l->turn.lock);
    rc = virtio_vsock_driver_create(guest, &l->bus, &o, &l->driver);
    pthread_mutex_unlock(&l->turn.lock);
    if (rc)
        goto err_dev;
    virtio_turn_run(&l->turn);
    *ret = l;
    return 0;

err_dev:
    virtio_device_free(l->dev);
err_mem:
    mem_free(l->mem);
err_turn:
    virtio_turn_fini(&l->turn);
    free(l);
    return rc;
}

void virtio_vsock_local_free(struct virtio_vsock_local *l)
{
    if (!l)
        return;
    virtio_vsock_driver_free(l->driver);
    virtio_device_free(l->dev);
    mem_free(l->mem);
    virtio_turn_fini(&l->turn);
    free(l);
}

struct virtio_device *virtio_vsock_local_device(struct virtio_vsock_local *l)
{
    return l->dev;
}

void virtio_vsock_local_reset(struct virtio_vsock_local *l)
{
    pthread_mutex_lock(&l->turn.lock);
    virtio_vsock_transport_reset(l->dev);
    pthread_mutex_unlock(&l->turn.lock);
    virtio_turn_run(&l->turn);
}
