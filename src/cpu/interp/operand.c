// SPDX-License-Identifier: MIT
// The out-of-line half of memory operands.

#include "cpu/interp/operand.h"

int insn_load(struct cpu *c, const struct insn *in, void *val, unsigned size)
{
    u64 lin;
    int rc = insn_lin(c, in, size, false, &lin);

    return rc ? rc : mmu_load(c, lin, val, size, insn_acc(in));
}

int insn_store(struct cpu *c, const struct insn *in, const void *val, unsigned size)
{
    u64 lin;
    int rc = insn_lin(c, in, size, true, &lin);

    return rc ? rc : mmu_store(c, lin, val, size, insn_acc(in));
}

int lower_fixed(const struct decoded *d, struct insn *in, const void *arg)
{
    in->op = ((const struct fixed_op *)arg)->op;
    return 0;
}
