// SPDX-License-Identifier: MIT
// The plainest lowering, which most system instructions need: one op, and flags.
#pragma once

#include "cpu/decode/decode.h"

struct sys_form {
    op_fn *op;
    u8 flags; /* INSN_* */
};

/* An (arg) for lower_form(). */
#define SYS_FORM(fn, fl) &(const struct sys_form){fn, fl}

static inline int lower_form(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct sys_form *f = arg;

    in->op = f->op;
    in->flags |= f->flags;
    return 0;
}

/* Write (val) to the GPR at (off) as an operand of (size) bytes: 16 bits merge, 32 zero-extend. */
static inline void reg_write(struct cpu *c, u8 off, unsigned size, u64 val)
{
    if (size == 8)
        *insn_reg64(c, off) = val;
    else if (size == 4)
        *insn_reg64(c, off) = (u32)val;
    else if (size == 2)
        *insn_reg16(c, off) = (u16)val;
    else
        *insn_reg8(c, off) = (u8)val;
}
