// SPDX-License-Identifier: MIT
// The host's MXCSR around kernels that compute with TMUL's rounding.
#pragma once

#include "base/types.h"

/* DAZ, FTZ, round to nearest, every exception masked. */
#define MXCSR_TMUL 0x9fc0u

/* The same without DAZ. */
#define MXCSR_TMUL_DENORMAL 0x9f80u

/*
 * Set a mode and give back what was there, for mxcsr_leave(); the flags that arithmetic raises in between are
 * dropped by the restore. The arithmetic must be in a function that is not inlined:
 * the compiler does not know that MXCSR matters to it.
 */
static inline u32 mxcsr_swap(u32 mode)
{
    u32 old;

    __asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(old) : "m"(mode) : "memory");
    return old;
}

static inline u32 mxcsr_enter(void)
{
    return mxcsr_swap(MXCSR_TMUL);
}

static inline void mxcsr_leave(u32 old)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(old) : "memory");
}
