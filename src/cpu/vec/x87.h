// SPDX-License-Identifier: MIT
// x87 instructions: those that move control state are done here in C, the rest by stubs.
#pragma once

#include "cpu/decode/decode.h"

/* Is (d) an x87 instruction or FWAIT? */
bool x87_is(const struct decoded *d);

/* As vec_lower(), for those. */
int x87_lower(const struct decoded *d, struct insn *in);

/*
 * Make (fsw) the status word. FXSAVE's order of registers is relative to TOP, so they move with
 * it: each physical register keeps its contents.
 */
void x87_set_fsw(struct cpu_x87 *x, u16 fsw);

/* Unmasked exceptions pending in FSW: ES and B follow from flags and masks. Call after changing either. */
void x87_update_summary(struct cpu *c);
