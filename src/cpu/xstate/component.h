// SPDX-License-Identifier: MIT
// State components of struct cpu, moved to and from their areas of an XSAVE image.
#pragma once

#include "cpu/cpu.h"
#include "cpu/xstate/layout.h"

/*
 * (img) below points to an image in host memory with standard legacy region; (area)
 * to the component's area. (long_mode): 64-bit mode; outside it only registers 0-7
 * take part and Hi16_ZMM is neither read nor written (SDM 1 13.5.2-13.5.4, 13.6).
 */

/* Bytes that a component's area takes part with: less than its size outside 64-bit mode. */
u32 xstate_live_size(unsigned id, bool long_mode);

/* XINUSE for the components of XSTATE_KNOWN; MXCSR is not looked at. SDM 1 13.6. */
u64 xstate_inuse_mode(const struct cpu *c, bool long_mode);

/* Put component (id) >= 2 into (area). A component in its initial state gives zeros. */
void xstate_pack(const struct cpu *c, unsigned id, bool long_mode, u8 *area);

/*
 * Take component (id) >= 2 from (area), or (area == NULL) make it initial. An invalid
 * TILECFG gives the initial one. 0, or -ENOMEM when tiles cannot be allocated; then
 * nothing has changed.
 */
int xstate_unpack(struct cpu *c, unsigned id, bool long_mode, const u8 *area);

/*
 * Allocate what loading (mask) needs, so that xstate_unpack() of those cannot fail. 0 or -ENOMEM.
 */
int xstate_reserve(struct cpu *c, u64 mask);

/*
 * x87 to the legacy region and back; NULL: initial. (wide): the 64-bit pointer form
 * (REX.W). MXCSR bytes are not touched. Loading normalises as the FPU does: FCW bit 6,
 * FSW.ES and B, FOP, canonical pointers; CS and DS selectors read as zero (CPUID.7.0:EBX[13]).
 */
void xstate_pack_x87(const struct cpu *c, bool wide, u8 *img);
void xstate_unpack_x87(struct cpu *c, bool wide, const u8 *img);

/* XMM0-15 (0-7) to the legacy region and back; NULL: initial. */
void xstate_pack_xmm(const struct cpu *c, bool long_mode, u8 *img);
void xstate_unpack_xmm(struct cpu *c, bool long_mode, const u8 *img);

/* MXCSR and MXCSR_MASK to the legacy region. */
void xstate_pack_mxcsr(const struct cpu *c, u8 *img);

/* Is any of (len) bytes, a multiple of 8, not zero? */
bool xstate_nonzero(const void *p, unsigned len);
