// SPDX-License-Identifier: MIT
// A guest driver's seat and a device's seat in one process: two AF_VSOCK contexts joined by rings.
#pragma once

#include "virtio/vsock_driver.h"

/*
 * Nothing but the rings is between the two, and no thread is needed: whoever sends moves the
 * packets on, through both seats. So every state of the wire can be tested, and every byte
 * measured, without a VM.
 */
struct virtio_vsock_local;
struct virtio_device;

/*
 * Join (host) and (guest), whose CID the device offers. Of (options), flush and opaque are
 * set here. 0 or as virtio_vsock_create() and virtio_vsock_driver_create(). Free it before the
 * contexts, with no thread in a call on them.
 */
int virtio_vsock_local_create(struct uvirt_vsock *host, struct uvirt_vsock *guest,
                              const struct vsock_driver_options *options,
                              struct virtio_vsock_local **ret);
void virtio_vsock_local_free(struct virtio_vsock_local *l);

/* For tests: the device, and its TRANSPORT_RESET as after a restore. */
struct virtio_device *virtio_vsock_local_device(struct virtio_vsock_local *l);
void virtio_vsock_local_reset(struct virtio_vsock_local *l);
