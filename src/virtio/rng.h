// SPDX-License-Identifier: MIT
// virtio-rng (virtio 5.4): the host's random numbers for the guest.
#pragma once

#include "virtio/device.h"

/* 0 or -ENOMEM. */
int virtio_rng_create(struct virtio_device **ret);
