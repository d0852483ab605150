// SPDX-License-Identifier: MIT
// The XSAVE family's ops, for the one table that names them all (table.c).
#pragma once

#include "cpu/decode/insn.h"

/* in->x[0] of all of them. */
#define XS_WIDE       BIT(0) /* 64-bit instruction and data pointers (REX.W) */
#define XS_OPT        BIT(1) /* XSAVEOPT: leave out what is initial */
#define XS_COMPACT    BIT(2) /* XSAVEC, XSAVES: compacted format, and as XS_OPT */
#define XS_SUPERVISOR BIT(3) /* XSAVES, XRSTORS: CPL 0 only, IA32_XSS counts */
#define XS_VEX        BIT(4) /* VLDMXCSR, VSTMXCSR */

int op_xsave(struct cpu *c, const struct insn *in);
int op_xrstor(struct cpu *c, const struct insn *in);
int op_fxsave(struct cpu *c, const struct insn *in);
int op_fxrstor(struct cpu *c, const struct insn *in);
int op_ldmxcsr(struct cpu *c, const struct insn *in);
int op_stmxcsr(struct cpu *c, const struct insn *in);

/* The host could not give memory for tiles: leave cpu_run() with CPU_EXIT_INTERNAL_ERROR. */
static inline int cpu_no_memory(struct cpu *c)
{
    c->exit = CPU_EXIT_INTERNAL_ERROR;
    return OP_EXIT;
}
