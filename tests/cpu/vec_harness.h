// SPDX-License-Identifier: MIT
// Run one instruction natively on a given register state; the oracle of the vector tests.
#pragma once

#include "base/types.h"

struct native_state {
    _Alignas(64) u8 fx[512]; /* FXSAVE image: its XMM part is overridden by (zmm) */
    u8 zmm[32][64];
    u64 k[8];
    u64 r[16]; /* RSP is neither set nor saved */
    u64 rflags;
    u32 mxcsr;
};

enum { LEVEL_SSE, LEVEL_AVX, LEVEL_AVX512 };

/* Install signal handlers and make the executable page. Returns LEVEL_*, or -1. */
int native_init(void);

/*
 * Execute (len) bytes on (*s), which becomes the state after. Returns 0, or the number of the signal
 * that it raised: then (*s) is as it was but for mxcsr, and (*addr) is the fault's si_addr.
 */
int native_run(struct native_state *s, const u8 *bytes, unsigned len, u64 *addr);
