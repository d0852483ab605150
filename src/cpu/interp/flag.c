// SPDX-License-Identifier: MIT
// Instructions on single flags, and LAHF and SAHF.

#include "cpu/interp/mov.h"

#define CC_AH (CC_SF | CC_ZF | CC_AF | CC_PF | CC_CF)

/* AH has the flags where cc's upper byte has them. */
int flag_lahf(struct cpu *c, const struct insn *in)
{
    *insn_reg8(c, 1) = (u8)((c->cc & CC_AH) >> 8 | 2);
    return OP_NEXT;
}

int flag_sahf(struct cpu *c, const struct insn *in)
{
    u16 ah = (u16)(*insn_reg8(c, 1) << 8);

    c->cc = (u16)((c->cc & ~CC_AH) | (ah & CC_AH));
    return OP_NEXT;
}

int flag_salc(struct cpu *c, const struct insn *in)
{
    *insn_reg8(c, 0) = c->cc & CC_CF ? 0xff : 0;
    return OP_NEXT;
}

int flag_cmc(struct cpu *c, const struct insn *in)
{
    c->cc ^= CC_CF;
    return OP_NEXT;
}

int flag_clc(struct cpu *c, const struct insn *in)
{
    c->cc &= (u16)~CC_CF;
    return OP_NEXT;
}

int flag_stc(struct cpu *c, const struct insn *in)
{
    c->cc |= CC_CF;
    return OP_NEXT;
}

int flag_cld(struct cpu *c, const struct insn *in)
{
    c->rflags &= ~RFLAGS_DF;
    return OP_NEXT;
}

int flag_std(struct cpu *c, const struct insn *in)
{
    c->rflags |= RFLAGS_DF;
    return OP_NEXT;
}
