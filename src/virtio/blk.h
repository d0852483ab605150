// SPDX-License-Identifier: MIT
// virtio-blk (virtio 5.2): a disk in a file or block device of the host.
#pragma once

#include "virtio/device.h"

struct virtio_blk_backend {
    int fd;             /* regular file or block device, open for the access wanted */
    bool readonly;      /* offer VIRTIO_BLK_F_RO and refuse writes */
    const char *serial; /* VIRTIO_BLK_T_GET_ID, at most 20 bytes; NULL for none */
};

/*
 * Make a disk of as many whole 512-byte sectors as the file holds now. The device owns
 * (fd) on success. Requests are done inline, in the caller of virtio_mmio_write(). 0,
 * -ENOMEM, or what fstat() or BLKGETSIZE64 say; -EINVAL if (fd) is neither kind.
 */
int virtio_blk_create(const struct virtio_blk_backend *cfg, struct virtio_device **ret);
