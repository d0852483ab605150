// SPDX-License-Identifier: MIT
// The ops behind ops_control, over their files.
#pragma once

#include "cpu/sys/desc.h"

/* cr.c: SDM 2B MOV (control registers), LMSW, CLTS; in->x[0] is the register, in->rm the GPR. */
op_fn op_mov_to_cr, op_mov_from_cr, op_lmsw, op_clts;

/* The bits of CR4 that the features of the guest's CPUID allow; without a table, all that there are. cr.c. */
u64 cpu_cr4_allowed(const struct cpu *c);

/* dr.c: SDM 2B MOV (debug registers) */
op_fn op_mov_to_dr, op_mov_from_dr;
