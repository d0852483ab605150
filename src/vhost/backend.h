// SPDX-License-Identifier: MIT
// A virtio device behind a vhost-user socket: the back end's half of the protocol.
#pragma once

#include "virtio/device.h"

struct vhost_backend;

#define VHOST_BACKEND_WHY 160

struct vhost_backend_config {
    struct virtio_device *dev; /* taken; its transport is the back end from here on */

    /*
     * Offer memory in up to VHOST_USER_SLOTS_MAX regions, one by one. QEMU sends each of them
     * once, whoever listens: a back end that is started again under a QEMU that runs gets its
     * memory only without this, as a table.
     */
    bool mem_slots;

    /*
     * Called with the device lock held in vhost_backend_run() and after every kick: move what
     * did not come with a kick. May be NULL.
     */
    void (*pump)(struct virtio_device *d);

    /*
     * A front end has come, or gone, with what it did wrong (NULL: nothing). On the thread of
     * vhost_backend_serve(), no lock held. May be NULL.
     */
    void (*connected)(void *opaque);
    void (*gone)(void *opaque, const char *why);
    void *opaque;
};

/* 0, -ENOMEM or -errno; (dev) stays the caller's on failure. */
int vhost_backend_create(const struct vhost_backend_config *config, struct vhost_backend **ret);
void vhost_backend_free(struct vhost_backend *b);

/*
 * Serve front ends that connect to (listener), one after the other, until (stop) is readable.
 * Each begins with a device as after power-on. 0 or -errno; what front ends do is never an
 * error of this call.
 */
int vhost_backend_serve(struct vhost_backend *b, int listener, int stop);

/* Have pump() called, here or by the thread that is at it. From any thread. */
void vhost_backend_run(struct vhost_backend *b);
