// SPDX-License-Identifier: MIT
// What fuzz targets share: the entry point, and reading values off the front of an input.
#pragma once

#include "base/types.h"

#include <string.h>

/* Run one input; libFuzzer calls it, or replay.c for each seed. Returns 0. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct fuzz_input {
    const u8 *data;
    size_t size;
};

/* Take (len) bytes off the input; zeros once it has run out. */
static inline void fuzz_bytes(struct fuzz_input *in, void *buf, size_t len)
{
    size_t n = len < in->size ? len : in->size;

    if (n)
        memcpy(buf, in->data, n);
    if (len > n)
        memset((u8 *)buf + n, 0, len - n);
    in->data += n;
    in->size -= n;
}

#define FUZZ_TAKE(type)                                                                            \
    static inline type fuzz_##type(struct fuzz_input *in)                                          \
    {                                                                                              \
        type value;                                                                                \
                                                                                                   \
        fuzz_bytes(in, &value, sizeof(value));                                                     \
        return value;                                                                              \
    }

FUZZ_TAKE(u8)
FUZZ_TAKE(u16)
FUZZ_TAKE(u32)
FUZZ_TAKE(u64)
