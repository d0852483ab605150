// SPDX-License-Identifier: MIT
// A run of bytes in memory with an owner: a mapped file, or an anonymous mapping.
#pragma once

#include "base/types.h"

struct blob {
    u8 *data; /* NULL when empty */
    size_t size;
    size_t mapped; /* bytes to unmap; 0: the bytes are somebody else's */
};

/* Map a regular file for reading. 0, -EISDIR, -EINVAL (neither file nor directory) or open()'s errors. */
int blob_map(const char *path, struct blob *ret);

/* Zeroed memory of (size) bytes that costs nothing until it is touched. 0 or -ENOMEM. */
int blob_alloc(size_t size, struct blob *ret);

/* Keep the first (size) bytes and give the pages behind them back. */
void blob_shrink(struct blob *b, size_t size);

/* Make at least (size) bytes available, keeping the first (b->size). 0 or -ENOMEM. */
int blob_reserve(struct blob *b, size_t size);

/* Append (len) bytes, or zeroes if (data) is NULL. 0 or -ENOMEM. */
int blob_append(struct blob *b, const void *data, size_t len);

/* Release; the empty blob is fine. */
void blob_free(struct blob *b);
