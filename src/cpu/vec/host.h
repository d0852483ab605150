// SPDX-License-Identifier: MIT
// Which vector instructions this host can run.
#pragma once

#include "base/types.h"

/*
 * Stubs leave MXCSR at this value, which is cheaper than reading what it was. Whoever runs guest
 * code takes the caller's away first and gives it back afterwards.
 */
#define HOST_MXCSR 0x1f80u

static inline u32 host_mxcsr_take(void)
{
    u32 mxcsr = __builtin_ia32_stmxcsr();

    __builtin_ia32_ldmxcsr(HOST_MXCSR);
    return mxcsr;
}

static inline void host_mxcsr_give(u32 mxcsr)
{
    __builtin_ia32_ldmxcsr(mxcsr);
}

/* May an instruction of (isa_set), a ZydisISASet, be run on this host? False for every set that src/cpu/vec does not do. */
bool host_runs(u16 isa_set);

bool host_has_avx(void);
bool host_has_avx512(void); /* F and BW: 64-byte registers and 64-bit masks can be moved */
