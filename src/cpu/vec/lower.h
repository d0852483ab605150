// SPDX-License-Identifier: MIT
// Pieces of the lowering of vector instructions; vec_lower() itself is in cpu/decode/decode.h.
#pragma once

#include "cpu/decode/decode.h"

/* By the stub for (d)'s form, with the op that suits its memory operand. 0 or -ENOENT. lower.c. */
int lower_stub(const struct decoded *d, struct insn *in);

/* Plain moves, without a stub. 0, or -ENOENT when (d) is none of them. move.c. */
int move_lower(const struct decoded *d, struct insn *in);

/* Gathers and scatters: VSIB addressing. 0 or -ENOENT. gather.c. */
int gather_lower(const struct decoded *d, struct insn *in);

/* MASKMOVQ, MASKMOVDQU, VMASKMOVDQU. maskmov.c. */
int maskmov_lower(const struct decoded *d, struct insn *in);
