// SPDX-License-Identifier: MIT
// The ops behind ops_segment, over their three files, and the operand they share.
#pragma once

#include "cpu/sys/desc.h"

/* segment_ops.c */

/* A selector-sized operand: register, or (in->x[1]) memory. OP_NEXT or negative. */
int sel_operand_load(struct cpu *c, const struct insn *in, u16 *val);

/* Write a value: (in->size) bytes of a register, or (in->x[1]) 16 bits of memory. */
int sel_operand_store(struct cpu *c, const struct insn *in, u64 val);

/* dtable_ops.c: SDM 2A LGDT, LLDT, LMSW; SDM 2B LTR, SGDT, SIDT, SLDT, SMSW, STR */
op_fn op_lgdt, op_lidt, op_sgdt, op_sidt, op_lldt, op_ltr, op_sldt, op_str, op_smsw;

/* verify_ops.c: SDM 2A LAR, LSL, ARPL; SDM 2B VERR */
op_fn op_lar, op_lsl, op_verr, op_verw, op_arpl;
