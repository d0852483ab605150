// SPDX-License-Identifier: MIT
// The guest's seat over vhost-user: a driver whose device is in another process.
#pragma once

#include "virtio/vsock_driver.h"

struct vhost_frontend;

/*
 * Connect to the back end that listens at (path), a Unix socket, and make its device the
 * transport of (guest). Of (options), flush and opaque are set here. A thread waits for
 * interrupts; senders move their own packets. When the back end goes, connections end with
 * ECONNRESET, and the thread tries to reach it again, ten times a second.
 *
 * 0, -ENAMETOOLONG, -errno of connect(), -ETIMEDOUT (no answer), -EPROTO, or as
 * virtio_vsock_driver_create(). Free it before the context, with no thread in a call on that.
 */
int vhost_frontend_create(struct uvirt_vsock *guest, const char *path,
                          const struct vsock_driver_options *options, struct vhost_frontend **ret);
void vhost_frontend_free(struct vhost_frontend *f);

/* How often the device was brought up: 1, and one more for each time that it came back. */
unsigned vhost_frontend_generation(struct vhost_frontend *f);
