// SPDX-License-Identifier: MIT
// Decompression on the host, of kernels and kernel modules.
#pragma once

#include "vmm/blob.h"
#include "vmm/error.h"

/*
 * What (data) is packed with, by its first bytes: "gzip", "xz", "zstd", "lz4" (Linux's
 * legacy frames), "lzma", "bzip2" or "lzo"; NULL if none of them.
 */
const char *unpack_format(const void *data, size_t len);

/*
 * Unpack one stream; bytes after its end are ignored. The result is a new blob of at most
 * (max) bytes. 0, -EINVAL (corrupt, truncated, or more than (max) bytes), -EOPNOTSUPP
 * (bzip2, lzo, unknown) or -ENOMEM, with a sentence in (err).
 */
int unpack(const void *data, size_t len, size_t max, struct blob *ret, struct vmm_error *err);
