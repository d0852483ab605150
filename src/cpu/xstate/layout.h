// SPDX-License-Identifier: MIT
// The layout of XSAVE images that guests see: Intel's, whatever the host's own is.
#pragma once

#include "base/types.h"

/*
 * CPUID.0D tells a guest these numbers, so images never depend on the host (AMD's
 * offsets of AVX-512 and PKRU differ). SDM 1 13.4, 13.5.
 *
 *   0     x87, MXCSR, XMM0-15     legacy region, as FXSAVE
 *   512   header: XSTATE_BV, XCOMP_BV, 48 reserved bytes
 *   576   extended region: one area a component
 */
#define XSTATE_LEGACY_SIZE 512u
#define XSTATE_HEADER_SIZE 64u
#define XSTATE_EXT_OFFSET  (XSTATE_LEGACY_SIZE + XSTATE_HEADER_SIZE)
#define XSTATE_MAX_SIZE    11008u /* standard image with everything up to XTILEDATA */

/* Places in the legacy region. */
#define XSTATE_X87_END 160u
#define XSTATE_MXCSR   24u
#define XSTATE_XMM     160u
#define XSTATE_XMM_END 416u

#define XSTATE_BV_OFFSET       512u
#define XSTATE_XCOMP_OFFSET    520u
#define XSTATE_RESERVED_OFFSET 528u
#define XCOMP_COMPACTED        BIT(63)

#define MXCSR_INIT  0x1f80u
#define MXCSR_VALID 0xffffu /* MXCSR_MASK that guests see */

enum xstate_id {
    XSTATE_X87 = 0,
    XSTATE_SSE = 1,
    XSTATE_AVX = 2,
    XSTATE_OPMASK = 5,
    XSTATE_ZMM_HI256 = 6,
    XSTATE_HI16_ZMM = 7,
    XSTATE_PKRU = 9,
    XSTATE_XTILECFG = 17,
    XSTATE_XTILEDATA = 18,
    XSTATE_IDS = 19
};

/* CPUID.0D.n of one component; size 0: no such component. */
struct xstate_component {
    u32 size, offset; /* EAX, EBX */
    u32 flags;        /* ECX */
};
#define XSTATE_ALIGN64 BIT(1)
#define XSTATE_XFD     BIT(2)

extern const struct xstate_component xstate_components[XSTATE_IDS];

/* Every component that this CPU model knows how to keep. */
#define XSTATE_KNOWN (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_AMX)

/* Offset of component (id) in a compacted image of (xcomp), or in a standard one. */
u32 xstate_offset(u64 xcomp, bool compacted, unsigned id);
