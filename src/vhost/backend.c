// SPDX-License-Identifier: MIT
// The back end's life: one front end at a time, its messages and kicks in one loop.

/*
 * Theory of operation
 *
 * The serving thread waits for the listener, the front end's socket and the kick descriptors.
 * Messages change rings and memory with the device lock held. Kicks only set bits; work(),
 * which any thread may come to do (virtio_turn_run), notifies the device of them.
 *
 * Whatever a front end does wrong ends its connection, and with it everything that it set up.
 */
#include "vhost/backend_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 16

enum {
    EVENT_LISTENER = 100,
    EVENT_FRONT_END,
    EVENT_STOP,
};

static void write_event(int fd)
{
    if (fd >= 0)
        (void)eventfd_write(fd, 1); /* a full counter is as good; the rest is its own fault */
}

static void signal_queue(struct virtio_device *d, unsigned q)
{
    write_event(((struct vhost_backend *)d->transport)->vrings[q].call);
}

/* The device needs a reset; the protocol's word for that is the error descriptor. */
static void signal_config(struct virtio_device *d, u32 cause)
{
    struct vhost_backend *b = d->transport;

    for (unsigned i = 0; i < b->nr_vrings; i++)
        write_event(b->vrings[i].err);
}

static void work(void *opaque)
{
    struct vhost_backend *b = opaque;
    u32 kicks = atomic_exchange(&b->kicks, 0);

    for (unsigned i = 0; i < b->nr_vrings; i++) {
        if (kicks & (1u << i))
            virtio_device_notify(b->config.dev, i);
    }
    if (b->config.pump)
        b->config.pump(b->config.dev);
}

int vhost_backend_create(const struct vhost_backend_config *config, struct vhost_backend **ret)
{
    struct vhost_backend *b;
    int rc;

    if (config->dev->nr_queues > VHOST_VRINGS_MAX)
        return -EINVAL;
    b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->config = *config;
    b->fd = -1;
    b->nr_vrings = config->dev->nr_queues;
    for (unsigned i = 0; i < b->nr_vrings; i++)
        b->vrings[i] = (struct vhost_vring){.kick = -1, .call = -1, .err = -1};
    b->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll < 0) {
        rc = -errno;
        goto err_free;
    }
    rc = vhost_memory_init(&b->memory);
    if (rc)
        goto err_epoll;
    virtio_turn_init(&b->turn, work, b);
    config->dev->transport = b;
    config->dev->signal = signal_config;
    config->dev->signal_queue = signal_queue;
    virtio_device_attach(config->dev, b->memory.mem);
    *ret = b;
    return 0;

err_epoll:
    close(b->epoll);
err_free:
    free(b);
    return rc;
}

void vhost_backend_free(struct vhost_backend *b)
{
    if (!b)
        return;
    vhost_backend_reset(b);
    virtio_device_free(b->config.dev);
    vhost_memory_fini(&b->memory);
    virtio_turn_fini(&b->turn);
    close(b->epoll);
    free(b);
}

void vhost_backend_run(struct vhost_backend *b)
{
    virtio_turn_run(&b->turn);
}

static int watch(struct vhost_backend *b, int fd, u32 what)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = what};

    return epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

static void unwatch(struct vhost_backend *b, int fd)
{
    (void)epoll_ctl(b->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static int accept_front_end(struct vhost_backend *b, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), rc;

    if (fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == EBADF ? -errno : 0;
    rc = watch(b, fd, EVENT_FRONT_END);
    if (rc) {
        close(fd);
        return rc;
    }
    b->fd = fd;
    b->why[0] = 0;
    if (b->config.connected)
        b->config.connected(b->config.opaque);
    return 0;
}

static void hang_up(struct vhost_backend *b)
{
    unwatch(b, b->fd);
    close(b->fd);
    b->fd = -1;
    vhost_user_done(&b->rx);
    b->features = b->protocol_features = 0;
    pthread_mutex_lock(&b->turn.lock);
    vhost_backend_reset(b);
    pthread_mutex_unlock(&b->turn.lock);
    virtio_turn_run(&b->turn);
    if (b->config.gone)
        b->config.gone(b->config.opaque, b->why[0] ? b->why : NULL);
}

/* All messages that are there. False: the front end has gone, or has to. */
static bool messages(struct vhost_backend *b)
{
    int rc;

    while ((rc = vhost_user_recv(b->fd, &b->rx)) > 0) {
        rc = vhost_backend_message(b);
        vhost_user_done(&b->rx);
        if (rc)
            return false;
    }
    if (rc == -EPROTO)
        strcpy(b->why, "a malformed message");
    return !rc;
}

int vhost_backend_round(struct vhost_backend *b, int listener, int timeout)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(b->epoll, events, EVENTS, timeout), rc = 0;
    bool gone = false;

    if (n < 0)
        return errno == EINTR ? 1 : -errno;
    for (int i = 0; i < n && !rc; i++) {
        switch (events[i].data.u32) {
        case EVENT_STOP:
            return 0;
        case EVENT_LISTENER:
            rc = b->fd < 0 ? accept_front_end(b, listener) : 0;
            break;
        case EVENT_FRONT_END:
            gone = !messages(b);
            break;
        default:
            pthread_mutex_lock(&b->turn.lock);
            vhost_vring_kicked(b, events[i].data.u32);
            pthread_mutex_unlock(&b->turn.lock);
            break;
        }
    }
    if (gone)
        hang_up(b);
    virtio_turn_run(&b->turn);
    return rc ? rc : 1;
}

int vhost_backend_serve(struct vhost_backend *b, int listener, int stop)
{
    int rc = watch(b, stop, EVENT_STOP);

    while (!rc) {
        /* While one is there, others wait in the listener's queue. */
        rc = watch(b, listener, EVENT_LISTENER);
        while (!rc && b->fd < 0) {
            rc = vhost_backend_round(b, listener, -1);
            if (rc <= 0)
                goto out;
            rc = 0;
        }
        unwatch(b, listener);
        while (!rc && b->fd >= 0) {
            rc = vhost_backend_round(b, listener, -1);
            if (rc <= 0)
                goto out;
            rc = 0;
        }
    }
out:
    unwatch(b, listener);
    unwatch(b, stop);
    if (b->fd >= 0)
        hang_up(b);
    return rc;
}

int vhost_backend_adopt(struct vhost_backend *b, int fd)
{
    int rc = watch(b, fd, EVENT_FRONT_END);

    if (!rc)
        b->fd = fd;
    b->why[0] = 0;
    return rc;
}
