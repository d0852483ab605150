// SPDX-License-Identifier: MIT
// What registers hold, as far as a walk over a block can tell: the plan's numbering of values.

#include "cpu/jit/plan.h"

#include <Zydis/Zydis.h>

static bool is_gpr(unsigned r)
{
    return r < 16;
}

void plan_forget(struct plan *p, unsigned r)
{
    p->reg[r] = (struct plan_value){.id = p->fresh++};
    p->most[r] = 0;
}

/* MOVZX, AND and SHR say how large their result can be. */
static u32 most_after(const struct plan *p, const struct decoded *d)
{
    const struct opnd *to = &d->op[0], *from = &d->op[1];
    u64 most = 0;

    if (d->nopnd != 2 || to->kind != OPND_GPR || to->size < 4)
        return 0;
    if (d->mnemonic == ZYDIS_MNEMONIC_MOVZX)
        most = from->size == 1 ? 0xff : 0xffff;
    else if (d->mnemonic == ZYDIS_MNEMONIC_MOV && from->kind == OPND_GPR)
        most = p->most[from->reg];
    else if (d->mnemonic == ZYDIS_MNEMONIC_AND && from->kind == OPND_IMM)
        most = (u64)from->imm;
    else if (d->mnemonic == ZYDIS_MNEMONIC_SHR && from->kind == OPND_IMM)
        most = ~0ull >> (64 - 8 * to->size) >> ((u64)from->imm & (8 * to->size - 1u));
    return most <= RANGE_MAX ? (u32)most : 0;
}

static void forget_written(struct plan *p, const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_GPR && d->op[i].write)
            plan_forget(p, d->op[i].reg);
    }
    switch (d->mnemonic) { /* what is written without being an operand */
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        plan_forget(p, REG_RDX);
        plan_forget(p, REG_RAX);
        break;
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_FNSTSW:
        plan_forget(p, REG_RAX);
        break;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPISTRI:
        plan_forget(p, REG_RCX);
        break;
    default:
        break;
    }
}

/* ADD, SUB, INC and DEC of 64 bits by a constant, MOV between registers. */
static bool step_by_constant(struct plan *p, const struct decoded *d)
{
    const struct opnd *to = &d->op[0], *from = &d->op[1];

    if (!d->nopnd || to->kind != OPND_GPR || to->size != 8)
        return false;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_INC:
        p->reg[to->reg].off++;
        break;
    case ZYDIS_MNEMONIC_DEC:
        p->reg[to->reg].off--;
        break;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (from->kind != OPND_IMM)
            return false;
        p->reg[to->reg].off += d->mnemonic == ZYDIS_MNEMONIC_ADD ? from->imm : -from->imm;
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (from->kind != OPND_GPR)
            return false;
        p->reg[to->reg] = p->reg[from->reg];
        p->most[to->reg] = p->most[from->reg];
        return true;
    default:
        return false;
    }
    p->most[to->reg] = 0;
    return true;
}

/* XOR and SUB of a register and itself, MOV of a constant; ADD, SUB, INC and DEC of 32 bits where a constant remains one. */
static bool step_constant(struct plan *p, const struct decoded *d)
{
    const struct opnd *to = &d->op[0], *from = &d->op[1];
    struct plan_value v = {.id = ID_NONE};

    if (!d->nopnd || to->kind != OPND_GPR || to->size < 4)
        return false;
    v.off = p->reg[to->reg].off;
    if ((d->mnemonic == ZYDIS_MNEMONIC_XOR || d->mnemonic == ZYDIS_MNEMONIC_SUB) &&
        from->kind == OPND_GPR && from->reg == to->reg)
        v.off = 0;
    else if (d->mnemonic == ZYDIS_MNEMONIC_MOV && from->kind == OPND_IMM)
        v.off = from->imm;
    else if (to->size != 4 || p->reg[to->reg].id != ID_NONE || !plan_is_constant(v.off))
        return false;
    else if (d->mnemonic == ZYDIS_MNEMONIC_INC || d->mnemonic == ZYDIS_MNEMONIC_DEC)
        v.off += d->mnemonic == ZYDIS_MNEMONIC_INC ? 1 : -1;
    else if ((d->mnemonic == ZYDIS_MNEMONIC_ADD || d->mnemonic == ZYDIS_MNEMONIC_SUB) &&
             from->kind == OPND_IMM)
        v.off += d->mnemonic == ZYDIS_MNEMONIC_ADD ? from->imm : -from->imm;
    else
        return false;
    if (!plan_is_constant(v.off))
        return false;
    p->reg[to->reg] = v;
    p->most[to->reg] = 0;
    return true;
}

static void step_native(struct plan *p, const struct decoded *d)
{
    u32 most = most_after(p, d);

    if (step_constant(p, d) || step_by_constant(p, d))
        return;
    forget_written(p, d);
    if (most)
        p->most[d->op[0].reg] = most;
}

static void step_lea(struct plan *p, const struct decoded *d, const struct insn *in)
{
    struct plan_value v;

    if (d->op[0].size != 8 || in->ea_shift || in->index != REG_ZERO || !is_gpr(in->base)) {
        plan_forget(p, d->op[0].reg);
        return;
    }
    v = p->reg[in->base];
    v.off += in->disp;
    p->reg[d->op[0].reg] = v;
    p->most[d->op[0].reg] = 0;
}

bool plan_step(struct plan *p, unsigned i)
{
    const struct decoded *d = &p->x->d[i];

    switch ((enum xlat_kind)p->x->kind[i]) {
    case XLAT_NATIVE:
        step_native(p, d);
        return true;
    case XLAT_DIVIDE:
    case XLAT_VEC:
    case XLAT_X87:
    case XLAT_X87_CONTROL:
        forget_written(p, d);
        return true;
    case XLAT_LEA:
        step_lea(p, d, &p->x->b->insn[i]);
        return true;
    case XLAT_PUSH:
    case XLAT_CALL_REL:
        p->reg[REG_RSP].off -= 8;
        return true;
    case XLAT_POP:
        p->reg[REG_RSP].off += 8;
        plan_forget(p, d->op[0].reg);
        return true;
    case XLAT_LEAVE_FRAME:
        p->reg[REG_RSP] = p->reg[REG_RBP];
        p->reg[REG_RSP].off += 8;
        plan_forget(p, REG_RBP);
        return true;
    case XLAT_NOTHING:
    case XLAT_JCC:
    case XLAT_JMP:
    case XLAT_CLI:
    case XLAT_STI:
        return true;
    default:
        for (unsigned r = 0; r < 16; r++)
            plan_forget(p, r);
        return false;
    }
}
