// SPDX-License-Identifier: MIT
// Vector instructions that a translator may run on the host's registers as they are.
#pragma once

#include "cpu/decode/decode.h"

/*
 * May the host run (d) with the guest's vector, mask and MXCSR state in its registers, and with all of its memory
 * operand (if any) accessible? All exceptions must be masked. Not so: x87 and MMX, gathers and scatters,
 * implied memory operands.
 */
bool vec_native(const struct decoded *d);

/* Alignment that (d)'s memory operand must have, 1 for none. */
unsigned vec_native_align(const struct decoded *d);

/*
 * The same of x87 and MMX instructions, but for those that change the control word or have to do with XMM registers or
 * MXCSR as well. (*control): FOP, FIP and FDP stay.
 */
bool x87_native(const struct decoded *d, bool *control);
