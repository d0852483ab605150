// SPDX-License-Identifier: MIT
// /dev/vhost-vsock as an object: its ioctls on a vsock device of ours, for VMMs in the same process.
#pragma once

#include "base/types.h"

struct vhost_vsock;

/*
 * What a file of /dev/vhost-vsock is in the kernel. The guest's ports on the host are below
 * (dir), as for `uvirt run --vsock path=DIR`; NULL: it reaches nobody. 0, -ENOMEM or -errno.
 */
int vhost_vsock_create(const char *dir, struct vhost_vsock **ret);
void vhost_vsock_free(struct vhost_vsock *v);

/*
 * An ioctl of <linux/vhost.h>, (arg) as the program passed it. The result, or -errno as the
 * kernel's: -EPERM without owner, -EBUSY, -EINVAL, -EFAULT, -ENOBUFS (no such ring), -EBADF,
 * -EADDRINUSE (CID), -EOPNOTSUPP (features), -ENOTTY. From any thread.
 *
 * Guest memory is the program's own: what it takes away under a device that runs, it feels
 * itself.
 */
long vhost_vsock_ioctl(struct vhost_vsock *v, u32 request, unsigned long arg);
