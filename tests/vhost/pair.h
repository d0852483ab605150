// SPDX-License-Identifier: MIT
// A vsock device behind a vhost-user socket in a thread of the test, and the host's context.
#pragma once

#include "../vsock/transfer.h"

#include "vhost/backend.h"
#include "virtio/vsock.h"
#include "vsock/sock.h"

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GUEST_CID 3

struct device {
    struct uvirt_vsock *host;
    struct vhost_backend *b;
    char path[108], why[VHOST_BACKEND_WHY];
    int listener, stop;
    _Atomic unsigned fronts, ends;
    pthread_t thread;
};

static inline void on_flush(void *opaque)
{
    vhost_backend_run(((struct device *)opaque)->b);
}

static inline void on_connected(void *opaque)
{
    ((struct device *)opaque)->fronts++;
}

static inline void on_gone(void *opaque, const char *why)
{
    struct device *d = opaque;

    snprintf(d->why, sizeof(d->why), "%s", why ? why : "");
    d->ends++;
}

static inline void *serve(void *opaque)
{
    struct device *d = opaque;

    return (void *)(intptr_t)vhost_backend_serve(d->b, d->listener, d->stop);
}

static inline int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    unlink(path);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 4))
        exit(99);
    return fd;
}

static inline int dial_to(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
        exit(99);
    return fd;
}

/* A device at (path) with its own host context, unless (d)->host is there already. */
static inline void device_open(struct device *d, const char *path)
{
    struct virtio_vsock_options o = {.guest_cid = GUEST_CID, .flush = on_flush, .opaque = d};
    struct vhost_backend_config c = {
        .pump = virtio_vsock_pump, .connected = on_connected, .gone = on_gone, .opaque = d};

    snprintf(d->path, sizeof(d->path), "%s", path);
    if (!d->host)
        d->host = context(VMADDR_CID_HOST, false, false);
    d->listener = listen_at(path);
    d->stop = eventfd(0, EFD_CLOEXEC);
    if (virtio_vsock_create(d->host, &o, &c.dev) || vhost_backend_create(&c, &d->b) ||
        pthread_create(&d->thread, NULL, serve, d))
        exit(99);
}

/* The device is gone, as if its process was; the host's context stays. */
static inline void device_close(struct device *d)
{
    void *rc;

    (void)eventfd_write(d->stop, 1);
    pthread_join(d->thread, &rc);
    if (rc)
        ok(false, "vhost_backend_serve: %ld", (long)(intptr_t)rc);
    vhost_backend_free(d->b);
    close(d->listener);
    close(d->stop);
    unlink(d->path);
}
