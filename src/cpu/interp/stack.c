// SPDX-License-Identifier: MIT
// PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF.

#include "cpu/interp/stack.h"
#include "cpu/interp/operand.h"

/* 64-bit mode, 64-bit operands: the hot ones. PUSH RSP pushes the old value. */
static ALWAYS_INLINE int push64(struct cpu *c, u64 v)
{
    u64 sp = c->r[REG_RSP] - 8;
    int rc = lin_st64(c, sp, v, MMU_SS);

    if (likely(rc >= 0))
        c->r[REG_RSP] = sp;
    return rc;
}

static int push64_r(struct cpu *c, const struct insn *in)
{
    return push64(c, reg_ld64(c, in->rm));
}
static int push64_i(struct cpu *c, const struct insn *in)
{
    return push64(c, in->imm);
}

static int push64_m(struct cpu *c, const struct insn *in)
{
    u64 v;
    int rc = insn_ld64(c, in, &v);

    return rc ? rc : push64(c, v);
}

/* POP RSP keeps what was popped. */
static int pop64_r(struct cpu *c, const struct insn *in)
{
    u64 v;
    int rc = lin_ld64(c, c->r[REG_RSP], &v, MMU_SS);

    if (unlikely(rc))
        return rc;
    c->r[REG_RSP] += 8;
    reg_st64(c, in->rm, v);
    return OP_NEXT;
}

/* Any operand size, any stack width. */
static void reg_st(struct cpu *c, u8 off, unsigned size, u64 v)
{
    if (size == 2)
        reg_st16(c, off, (u16)v);
    else
        c->r[off / 8] = size == 4 ? (u32)v : v;
}

static int push_r(struct cpu *c, const struct insn *in)
{
    return stack_push(c, in->size, c->r[in->rm / 8]);
}
static int push_i(struct cpu *c, const struct insn *in)
{
    return stack_push(c, in->size, in->imm);
}

static int push_m(struct cpu *c, const struct insn *in)
{
    u64 v = 0;
    int rc = insn_load(c, in, &v, in->size);

    return rc ? rc : stack_push(c, in->size, v);
}

static int pop_r(struct cpu *c, const struct insn *in)
{
    u64 v;
    int rc = stack_peek(c, in->size, 0, &v);

    if (rc)
        return rc;
    stack_set(c, c->r[REG_RSP] + in->size);
    reg_st(c, in->rm, in->size, v);
    return OP_NEXT;
}

/* An address based on RSP uses RSP after the pop: SDM 2B POP. */
static int pop_m(struct cpu *c, const struct insn *in)
{
    u64 v, old = c->r[REG_RSP];
    int rc = stack_peek(c, in->size, 0, &v);

    if (rc)
        return rc;
    stack_set(c, old + in->size);
    rc = insn_store(c, in, &v, in->size);
    if (rc < 0)
        c->r[REG_RSP] = old;
    return rc;
}

static int lower_push(const struct decoded *d, struct insn *in, const void *arg)
{
    bool wide = d->mode == MODE_64 && d->opsize == 8;

    in->size = d->opsize;
    switch (d->op[0].kind) {
    case OPND_GPR:
        in->rm = opnd_off(&d->op[0]);
        in->op = wide ? push64_r : push_r;
        return 0;
    case OPND_IMM:
        in->imm = (u64)d->op[0].imm;
        in->op = wide ? push64_i : push_i;
        return 0;
    case OPND_MEM:
        in->op = wide ? push64_m : push_m;
        return 0;
    default:
        return -ENOENT; /* segment registers are another family's */
    }
}

static int lower_pop(const struct decoded *d, struct insn *in, const void *arg)
{
    in->size = d->opsize;
    switch (d->op[0].kind) {
    case OPND_GPR:
        in->rm = opnd_off(&d->op[0]);
        in->op = d->mode == MODE_64 && d->opsize == 8 ? pop64_r : pop_r;
        return 0;
    case OPND_MEM:
        in->op = pop_m;
        return 0;
    default:
        return -ENOENT; /* segment registers are another family's */
    }
}

/* Store (size) bytes at stack offset (sp); rSP stays, an OP_STOP goes to *ret. Zero or negative. */
static int poke(struct cpu *c, u64 sp, unsigned size, u64 v, int *ret)
{
    u64 lin;
    int rc = stack_lin(c, sp, size, true, &lin);

    if (!rc)
        rc = mmu_store(c, lin, &v, size, MMU_SS);
    if (rc > 0)
        *ret = rc;
    return rc < 0 ? rc : 0;
}

/* PUSHA stores rAX, rCX, rDX, rBX, the old rSP, rBP, rSI, rDI; rSP moves when all are stored. */
static int pusha(struct cpu *c, const struct insn *in)
{
    u64 sp = c->r[REG_RSP];
    int ret = OP_NEXT;

    for (unsigned i = 0; i < 8; i++) {
        int rc = poke(c, sp - (i + 1) * in->size, in->size, c->r[i], &ret);

        if (rc)
            return rc;
    }
    stack_set(c, sp - 8 * in->size);
    return ret;
}

static int popa(struct cpu *c, const struct insn *in)
{
    u64 v[8];

    for (unsigned i = 0; i < 8; i++) {
        int rc = stack_peek(c, in->size, (7 - i) * in->size, &v[i]);

        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != REG_RSP)
            reg_st(c, (u8)(i * 8), in->size, v[i]);
    }
    stack_set(c, c->r[REG_RSP] + 8 * in->size);
    return OP_NEXT;
}

/* Stack offset (off) below (base), cut to the stack width. */
static u64 stack_below(const struct cpu *c, u64 base, unsigned off)
{
    unsigned width = stack_width(c);
    u64 sp = base - off;

    return width == 8 ? sp : width == 4 ? (u32)sp : (u16)sp;
}

/* Copy the (level - 1) outer frame pointers below (sp) and add this frame's own: SDM 2A ENTER. */
static int enter_display(struct cpu *c, const struct insn *in, unsigned level, u64 sp, int *ret)
{
    u64 frame = sp;

    for (unsigned i = 1; i < level; i++) {
        u64 v = 0, lin;
        int rc = stack_lin(c, stack_below(c, c->r[REG_RBP], i * in->size), in->size, false, &lin);

        if (!rc)
            rc = mmu_load(c, lin, &v, in->size, MMU_SS);
        sp -= in->size;
        if (!rc)
            rc = poke(c, stack_below(c, sp, 0), in->size, v, ret);
        if (rc)
            return rc;
    }
    return poke(c, stack_below(c, sp, in->size), in->size, frame, ret);
}

/* in->imm: bytes to reserve; x[0]: nesting level. Nothing changes until every access has worked. */
static int enter(struct cpu *c, const struct insn *in)
{
    unsigned level = in->x[0] & 31;
    u64 frame = stack_below(c, c->r[REG_RSP], in->size), sp, lin;
    int ret = OP_NEXT, rc = poke(c, frame, in->size, c->r[REG_RBP], &ret);

    if (!rc && level)
        rc = enter_display(c, in, level, frame, &ret);
    if (rc)
        return rc;
    sp = stack_below(c, frame, level * in->size + (unsigned)in->imm);
    rc = stack_lin(c, sp, in->size, true, &lin);
    if (!rc)
        rc = mmu_probe(c, lin, in->size, MMU_WRITE | MMU_SS);
    if (rc)
        return rc;
    reg_st(c, REG_RBP * 8, in->size == 2 ? 2 : stack_width(c), frame);
    stack_set(c, sp);
    return ret;
}

static int lower_enter(const struct decoded *d, struct insn *in, const void *arg)
{
    in->size = d->opsize;
    in->imm = (u16)d->op[0].imm;
    in->x[0] = (u8)d->op[1].imm;
    in->op = enter;
    return 0;
}

static int leave64(struct cpu *c, const struct insn *in)
{
    u64 v, sp = c->r[REG_RBP];
    int rc = lin_ld64(c, sp, &v, MMU_SS);

    if (unlikely(rc))
        return rc;
    c->r[REG_RSP] = sp + 8;
    c->r[REG_RBP] = v;
    return OP_NEXT;
}

static int leave(struct cpu *c, const struct insn *in)
{
    u64 v = 0, lin, sp = stack_below(c, c->r[REG_RBP], 0);
    int rc = stack_lin(c, sp, in->size, false, &lin);

    if (!rc)
        rc = mmu_load(c, lin, &v, in->size, MMU_SS);
    if (rc)
        return rc;
    stack_set(c, sp + in->size);
    reg_st(c, REG_RBP * 8, in->size, v);
    return OP_NEXT;
}

static int lower_leave(const struct decoded *d, struct insn *in, const void *arg)
{
    in->size = d->opsize;
    in->op = d->mode == MODE_64 && d->opsize == 8 ? leave64 : leave;
    return 0;
}

/* In virtual-8086 mode below IOPL 3, VME gives 16-bit PUSHF and POPF VIF for IF: SDM 3B 21.3. */
enum vm86_flags { FLAGS_NORMAL, FLAGS_VME, FLAGS_GP };

static enum vm86_flags vm86_flags(const struct cpu *c, const struct insn *in)
{
    if (!(c->rflags & RFLAGS_VM) || (c->rflags & RFLAGS_IOPL) == RFLAGS_IOPL)
        return FLAGS_NORMAL;
    return c->cr4 & CR4_VME && in->size == 2 ? FLAGS_VME : FLAGS_GP;
}

static int pushf(struct cpu *c, const struct insn *in)
{
    u64 f = cpu_rflags_get(c) & ~(RFLAGS_VM | RFLAGS_RF);

    switch (vm86_flags(c, in)) {
    case FLAGS_GP:
        return cpu_raise_gp(c);
    case FLAGS_VME:
        f = (f & ~RFLAGS_IF) | RFLAGS_IOPL | (f & RFLAGS_VIF ? RFLAGS_IF : 0);
        break;
    case FLAGS_NORMAL:
        break;
    }
    return stack_push(c, in->size, f);
}

/* What POPF may change: SDM 2B POPF/POPFD/POPFQ. RF is cleared; VM, VIF and VIP stay. */
static u64 popf_mask(const struct cpu *c, const struct insn *in)
{
    u64 mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_RF;

    if (in->size != 2)
        mask |= RFLAGS_AC | RFLAGS_ID;
    else
        mask &= ~RFLAGS_RF;
    if (c->cpl == 0)
        mask |= RFLAGS_IOPL;
    if (c->cpl <= (c->rflags & RFLAGS_IOPL) >> 12)
        mask |= RFLAGS_IF;
    return mask;
}

static int popf(struct cpu *c, const struct insn *in)
{
    u64 old = cpu_rflags_get(c), v, mask, f;
    enum vm86_flags how = vm86_flags(c, in);
    int rc;

    if (how == FLAGS_GP)
        return cpu_raise_gp(c);
    rc = stack_peek(c, in->size, 0, &v);
    if (rc)
        return rc;
    v &= ~RFLAGS_RF;
    mask = popf_mask(c, in);
    if (how == FLAGS_VME) {
        if (v & RFLAGS_TF || (v & RFLAGS_IF && old & RFLAGS_VIP))
            return cpu_raise_gp(c);
        mask = (mask & ~(RFLAGS_IF | RFLAGS_IOPL)) | RFLAGS_VIF;
        v = (v & ~RFLAGS_VIF) | (v & RFLAGS_IF ? RFLAGS_VIF : 0);
    }
    f = (old & ~mask) | (v & mask);
    stack_set(c, c->r[REG_RSP] + in->size);
    cpu_rflags_set(c, f);
    if ((old ^ f) & RFLAGS_AC)
        cpu_mode_update(c);
    return (old ^ f) & (RFLAGS_AC | RFLAGS_TF | RFLAGS_IF) ? OP_STOP : OP_NEXT;
}

/* The boxed handler and the operand size. */
static int lower_sized(const struct decoded *d, struct insn *in, const void *arg)
{
    in->size = d->opsize;
    return lower_fixed(d, in, arg);
}

static int lower_popf(const struct decoded *d, struct insn *in, const void *arg)
{
    in->flags |= INSN_ENDS;
    return lower_sized(d, in, arg);
}

const struct op_row ops_stack[] = {
    {ZYDIS_MNEMONIC_PUSH, lower_push, NULL},
    {ZYDIS_MNEMONIC_POP, lower_pop, NULL},
    {ZYDIS_MNEMONIC_PUSHA, lower_sized, &FIXED(pusha)},
    {ZYDIS_MNEMONIC_PUSHAD, lower_sized, &FIXED(pusha)},
    {ZYDIS_MNEMONIC_POPA, lower_sized, &FIXED(popa)},
    {ZYDIS_MNEMONIC_POPAD, lower_sized, &FIXED(popa)},
    {ZYDIS_MNEMONIC_ENTER, lower_enter, NULL},
    {ZYDIS_MNEMONIC_LEAVE, lower_leave, NULL},
    {ZYDIS_MNEMONIC_PUSHF, lower_sized, &FIXED(pushf)},
    {ZYDIS_MNEMONIC_PUSHFD, lower_sized, &FIXED(pushf)},
    {ZYDIS_MNEMONIC_PUSHFQ, lower_sized, &FIXED(pushf)},
    {ZYDIS_MNEMONIC_POPF, lower_popf, &FIXED(popf)},
    {ZYDIS_MNEMONIC_POPFD, lower_popf, &FIXED(popf)},
    {ZYDIS_MNEMONIC_POPFQ, lower_popf, &FIXED(popf)},
    {0},
};
