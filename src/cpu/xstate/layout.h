// SPDX-License-Identifier: MIT
// The layout of XSAVE images: Intel's by default, whatever the host's own is; a guest's CPUID can move areas.
#pragma once

#include "base/types.h"

/*
 * A guest learns the layout from CPUID.0D, which belongs to whoever made the vCPU, and images
 * have to agree with it. What this engine offers are Intel's numbers; but some (QEMU) give the
 * guest those of the host's CPUID instruction, and AMD's offsets of AVX-512 and PKRU differ.
 * So each vCPU has a layout of its own, taken from its CPUID table. SDM 1 13.4, 13.5.
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

/* Where one guest's images have their areas. */
struct xstate_layout {
    u32 offset[XSTATE_IDS]; /* in a standard image */
    u32 align64;            /* components that a compacted image aligns */
};

extern const struct xstate_layout xstate_layout_intel;

/* Every component that this CPU model knows how to keep. */
#define XSTATE_KNOWN (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_AMX)

/* Offset of component (id) in a compacted image of (xcomp), or in a standard one. Intel's layout. */
u32 xstate_offset(u64 xcomp, bool compacted, unsigned id);

/* The same in a guest's layout, and the size of such an image. */
u32 xstate_offset_in(const struct xstate_layout *l, u64 xcomp, bool compacted, unsigned id);
u32 xstate_size_in(const struct xstate_layout *l, u64 xcomp, bool compacted);

struct cpu_cpuid_entry;

/*
 * The layout that a CPUID table asks for, for the components (xcr0) of CPUID.0D.0. A component's
 * offset and alignment are followed when its size is the architecture's and its area lies behind
 * the header and within the image that KVM_GET_XSAVE has room for (4096 bytes, XSTATE_MAX_SIZE
 * for tile data); otherwise it is where Intel has it. When areas would overlap, all of them are.
 * Subleaves of (e) that are not followed are rewritten, and 0D.0:ECX is raised to what the image
 * needs: the guest is never told what its instructions do not do.
 */
void xstate_layout_from(struct xstate_layout *l, u64 xcr0, struct cpu_cpuid_entry *e, unsigned n);
