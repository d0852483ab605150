// SPDX-License-Identifier: MIT
// Which kernel to boot when none is named, and where its modules are.
#pragma once

#include "vmm/blob.h"

#include <limits.h>

/*
 * The newest boot/vmlinuz-VERSION below one of these, the first that has any:
 * $UVIRT_KERNELS/VERSION, kernels/VERSION in a directory above this program (where
 * ./dev setup unpacks Debian's), the machine's own /boot. 0 or -ENOENT.
 */
int kernels_newest(char ret[PATH_MAX]);

/*
 * The directory lib/modules/VERSION for the kernel (image) at (path), by the version inside the
 * image: beside the kernel, in one of the places above, or the machine's own. 0 or -ENOENT.
 */
int kernels_modules(const char *path, const struct blob *image, char ret[PATH_MAX]);
