// SPDX-License-Identifier: MIT
// Linux's bzImage: the setup header, and the vmlinux packed inside.
#pragma once

#include "vmm/blob.h"
#include "vmm/error.h"

/* True if (image) has the boot sector of a bzImage. */
bool bzimage_is(const struct blob *image);

/*
 * Unpack the ELF vmlinux of the bzImage (image) into a new blob. 0, -EINVAL (truncated,
 * corrupt, older than boot protocol 2.08), -EOPNOTSUPP or -ENOMEM, with a sentence in (err).
 */
int bzimage_unpack(const struct blob *image, struct blob *ret, struct vmm_error *err);

/* The version text of a bzImage ("6.1.0-56-cloud-amd64 (...) ..."), inside the image and NUL-terminated; or NULL. */
const char *bzimage_version(const struct blob *image);
