// SPDX-License-Identifier: MIT
// Pieces of the lowering of vector instructions; vec_lower() itself is in cpu/decode/decode.h.
#pragma once

#include "cpu/vec/stub.h"

/* By the stub for (d)'s form, with the op that suits its memory operand. 0 or -ENOENT. lower.c. */
int lower_stub(const struct decoded *d, struct insn *in);

/* The op that runs (s), made for (d). lower.c. */
op_fn *lower_stub_op(const struct decoded *d, const struct vec_stub *s);

/* For insns that found no room for a stub: decodes again each time, into a stub of the thread's own. uncached.c. */
op_fn op_vec_uncached;

/* Plain moves, without a stub. 0, or -ENOENT when (d) is none of them. move.c. */
int move_lower(const struct decoded *d, struct insn *in);

/* Gathers and scatters: VSIB addressing. 0 or -ENOENT. gather.c. */
int gather_lower(const struct decoded *d, struct insn *in);

/* MASKMOVQ, MASKMOVDQU, VMASKMOVDQU. maskmov.c. */
int maskmov_lower(const struct decoded *d, struct insn *in);

/* Does any operand tell that (d) is a vector, MMX or mask instruction? lower.c. */
bool vec_uses_registers(const struct decoded *d);
