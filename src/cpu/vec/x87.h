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

/* Entering MMX state: TOP becomes 0, which renames ST(i), and every register is valid. SDM 1 9.6.2. */
void x87_enter_mmx(struct cpu_x87 *x);

/*
 * Set FOP, FIP and, with a memory operand, FDP, as a non-control instruction does; the host's
 * would be addresses of ours. SDM 1 8.1.8. x[1] is ModRM, x[2] the opcode's low bits and 0x80 for memory.
 */
void x87_note_pointers(struct cpu *c, const struct insn *in);

/* Unmasked exceptions pending in FSW: ES and B follow from flags and masks. Call after changing either. */
void x87_update_summary(struct cpu *c);
