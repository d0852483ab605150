// SPDX-License-Identifier: MIT
// AMX instructions and permission for the tests' guest programs; compilers of Debian 12 may lack them.
#pragma once

#include <cpuid.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILECFG            17
#define XTILEDATA           18

typedef uint8_t tile_t[16][64] __attribute__((aligned(64)));

/* (t): a tile's number, a literal. (p): its first row; rows are 64 bytes apart. */
#define TILE_LOAD(t, p)                                                                            \
    __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x4b,4|(" #t "<<3),0x10" : : "a"(p), "d"(64l) : "memor" \
                                                                                           "y")
#define TILE_STORE(t, p)                                                                           \
    __asm__ volatile(".byte 0xc4,0xe2,0x7a,0x4b,4|(" #t "<<3),0x10" : : "a"(p), "d"(64l) : "memor" \
                                                                                           "y")
#define TILE_ZERO(t)    __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x49,0xc0|(" #t "<<3)")
#define TILE_RELEASE()  __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0xc0")
#define TDPBSSD_0_1_2() __asm__ volatile(".byte 0xc4,0xe2,0x6b,0x5e,0xc1") /* tmm0 += tmm1 x tmm2 */

/* All eight tiles 16 x 64, zero. */
static inline void tile_configure(void)
{
    uint8_t cfg[64] __attribute__((aligned(64))) = {1};

    for (int i = 0; i < 8; i++) {
        cfg[16 + i * 2] = 64;
        cfg[48 + i] = 16;
    }
    __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x00" : : "a"(cfg), "m"(cfg));
}

/* 0, or -1: no AMX here. */
static inline int tile_permission(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) ? -1 : 0;
}

/* Where component (i) is in an XSAVE image. CPUID.0D. */
static inline unsigned xstate_offset(unsigned i)
{
    unsigned a, b, c, d;

    __cpuid_count(0xd, i, a, b, c, d);
    return b;
}
