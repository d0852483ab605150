// SPDX-License-Identifier: MIT
// The host's own XSAVE as an oracle: images translated between its layout and Intel's.
#pragma once

#include "cpu/xstate/layout.h"
#include "cpu/cpu.h"

#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define HOST_SET (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512)

static sigjmp_buf host_fault;
static _Alignas(64) u8 host_saved[16384];

static void host_on_fault(int sig)
{
    siglongjmp(host_fault, sig);
}

/* Of HOST_SET, what the host has enabled; 0 without XSAVE. (compact): and has XSAVEC. */
static inline u64 host_components(bool compact)
{
    u32 a, b, cx, d, lo, hi;

    __cpuid(1, a, b, cx, d);
    if (!(cx & bit_OSXSAVE))
        return 0;
    __cpuid_count(0xd, 1, a, b, cx, d);
    if (compact && !(a & 2))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo & HOST_SET;
}

/* Where the host's standard format has component (id). */
static inline u32 host_offset(unsigned id)
{
    u32 a, b, cx, d;

    __cpuid_count(0xd, id, a, b, cx, d);
    return b;
}

/* Move the extended areas of (mask) between layouts; the first 576 bytes are the same in both. */
static inline void host_translate(u8 *dst, const u8 *src, u64 mask, bool to_host)
{
    memcpy(dst, src, XSTATE_EXT_OFFSET);
    for (unsigned id = 2; id < 8; id++) {
        u32 ours = xstate_components[id].offset, theirs;

        if (!(mask & BIT(id)))
            continue;
        theirs = host_offset(id);
        memcpy(dst + (to_host ? theirs : ours), src + (to_host ? ours : theirs),
               xstate_components[id].size);
    }
}

/*
 * On the host: XRSTOR (rfbm_in) from (in), then XSAVE or XSAVEC (rfbm_out) to (out); the test's own
 * state is kept around it. Returns 0, or the signal that XRSTOR raised. (out) may be NULL.
 */
static inline int host_roundtrip(const u8 *in, u64 rfbm_in, u8 *out, u64 rfbm_out, bool compact)
{
    struct sigaction sa = {.sa_handler = host_on_fault, .sa_flags = SA_NODEFER}, old;
    u32 lo = (u32)rfbm_in, hi = (u32)(rfbm_in >> 32);
    int sig;

    sigaction(SIGSEGV, &sa, &old);
    sig = sigsetjmp(host_fault, 1) ? SIGSEGV : 0;
    if (!sig) {
        __asm__ volatile("xsave64 %0" : "+m"(host_saved) : "a"(-1), "d"(-1) : "memory");
        __asm__ volatile("xrstor64 (%[in])\n\t"
                         "mov %[rout], %%eax\n\t"
                         "xor %%edx, %%edx\n\t"
                         "test %[out], %[out]\n\t"
                         "jz 2f\n\t"
                         "test %[compact], %[compact]\n\t"
                         "jnz 1f\n\t"
                         "xsave64 (%[out])\n\t"
                         "jmp 2f\n"
                         "1:\txsavec64 (%[out])\n"
                         "2:\tmov $-1, %%eax\n\t"
                         "mov $-1, %%edx\n\t"
                         "xrstor64 %[saved]"
                         : "+a"(lo), "+d"(hi)
                         : [in] "r"(in), [out] "r"(out), [rout] "r"((u32)rfbm_out),
                           [compact] "r"((u32)compact), [saved] "m"(host_saved)
                         : "memory", "cc");
    }
    sigaction(SIGSEGV, &old, NULL);
    return sig;
}
