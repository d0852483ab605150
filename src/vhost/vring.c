// SPDX-License-Identifier: MIT
// A back end's rings: starting and stopping them, kicks in and calls out.

/*
 * A ring runs once it has addresses, a kick and, with protocol features, was enabled ("Ring
 * states"). The protocol has no word for "the guest's driver has begun anew"; but only a new
 * driver's rings begin at the beginning, so rings that start there after all had stopped
 * reset the device, and its connections end. A VM that was only paused goes on where it was.
 */
#include "vhost/backend_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PACKED_BEGIN 0x80008000u /* both positions 0, both wrap bits set */

void vhost_vring_set_fd(int *at, int fd)
{
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

    /* A front end must not be able to have us wait. */
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    if (*at >= 0)
        close(*at);
    *at = fd;
}

int vhost_vring_set_kick(struct vhost_backend *b, unsigned i, int fd)
{
    struct vhost_vring *v = &b->vrings[i];
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};

    if (v->kick >= 0)
        (void)epoll_ctl(b->epoll, EPOLL_CTL_DEL, v->kick, NULL);
    vhost_vring_set_fd(&v->kick, -1);
    v->kick_set = true;
    if (fd < 0)
        return 0;
    if (epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &e)) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    vhost_vring_set_fd(&v->kick, fd);
    return 0;
}

static void bring_up(struct vhost_backend *b, u32 base)
{
    struct virtio_device *d = b->config.dev;
    u32 begin = b->features & BIT(VIRTIO_F_RING_PACKED) ? PACKED_BEGIN : 0;

    if (b->up && base != begin)
        return;
    for (unsigned i = 0; i < b->nr_vrings; i++) {
        if (d->queues[i].ready)
            return; /* a second ring of the same driver */
    }
    virtio_device_set_status(d, 0);
    virtio_device_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    /* The layout that VERSION_1 stands for is all that this protocol ever has. */
    d->acked = (b->features & d->features) | BIT(VIRTIO_F_VERSION_1);
    virtio_device_set_status(d, d->status | VIRTIO_CONFIG_S_FEATURES_OK);
    virtio_device_set_status(d, d->status | VIRTIO_CONFIG_S_DRIVER_OK);
    b->up = true;
}

int vhost_vring_start(struct vhost_backend *b, unsigned i)
{
    struct vhost_vring *v = &b->vrings[i];
    struct virtq *q = &b->config.dev->queues[i];
    bool enabled = v->enabled || !(b->features & BIT(VHOST_USER_F_PROTOCOL_FEATURES));
    int rc;

    if (q->ready || !enabled || !v->kick_set || !v->addr_set || !v->num)
        return 0;
    bring_up(b, v->base);
    q->size = v->num;
    rc = vhost_memory_gpa(&b->memory, v->addr.desc, &q->desc);
    if (!rc)
        rc = vhost_memory_gpa(&b->memory, v->addr.avail, &q->avail);
    if (!rc)
        rc = vhost_memory_gpa(&b->memory, v->addr.used, &q->used);
    if (rc || virtq_resume(q, v->base))
        return -EINVAL;
    b->kicks |= 1u << i; /* there may be something on it already */
    return 0;
}

u32 vhost_vring_stop(struct vhost_backend *b, unsigned i)
{
    struct virtq *q = &b->config.dev->queues[i];

    if (q->ready)
        b->vrings[i].base = virtq_base(q);
    q->ready = false;
    return b->vrings[i].base;
}

void vhost_vring_kicked(struct vhost_backend *b, unsigned i)
{
    struct vhost_vring *v = &b->vrings[i];
    u64 count;
    ssize_t n;

    if (v->kick < 0)
        return;
    n = read(v->kick, &count, sizeof(count));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != sizeof(count)) {
        /* No eventfd: it would be readable for ever. */
        vhost_vring_set_kick(b, i, -1);
        return;
    }
    b->kicks |= 1u << i;
}

void vhost_backend_reset(struct vhost_backend *b)
{
    virtio_device_set_status(b->config.dev, 0);
    b->up = false;
    for (unsigned i = 0; i < b->nr_vrings; i++) {
        struct vhost_vring *v = &b->vrings[i];

        vhost_vring_set_kick(b, i, -1);
        vhost_vring_set_fd(&v->call, -1);
        vhost_vring_set_fd(&v->err, -1);
        *v = (struct vhost_vring){.kick = -1, .call = -1, .err = -1};
    }
    vhost_memory_clear(&b->memory);
    b->kicks = 0;
}
