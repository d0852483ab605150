// SPDX-License-Identifier: MIT
// Far RET and IRET: SDM 2A IRET, SDM 2B RET.

/*
 * Not done: IRET with NT set outside long mode, the return of a hardware task switch; it raises #GP(0) as in long mode.
 */

#include "cpu/interp/stack.h"
#include "cpu/sys/far.h"

/* Flags that no return changes by popping: they keep their values. */
#define FLAGS_KEPT (RFLAGS_VM | RFLAGS_VIF | RFLAGS_VIP)
#define FLAGS_USER (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT)
#define FLAGS_WIDE (RFLAGS_RF | RFLAGS_AC | RFLAGS_ID) /* by 32-bit and 64-bit pops only */

/* A return in progress: what was popped, and what it leads to. */
struct far_return {
    u64 rip, rsp, rflags;
    u16 cs_sel, ss_sel;
    bool has_stack;     /* SS:RSP were popped */
    struct desc cs, ss;
    unsigned cpl;
};

/* Read (n) values of the operand size from the stack, (skip) bytes above its top. */
static int pop_values(struct cpu *c, const struct insn *in, unsigned skip, unsigned n, u64 *val)
{
    for (unsigned i = 0; i < n; i++) {
        int rc = stack_peek(c, in->size, skip + i * in->size, &val[i]);

        if (rc)
            return rc;
    }
    return OP_NEXT;
}

/* RSP += n in the current stack's width. */
static void stack_release(struct cpu *c, unsigned n)
{
    stack_set(c, c->r[REG_RSP] + n);
}

static int check_code(struct cpu *c, struct far_return *r)
{
    struct desc *cs = &r->cs;
    u32 err = SEL_ERR(r->cs_sel);
    unsigned rpl = r->cs_sel & SEL_RPL, dpl;
    int rc;

    if (SEL_NULL(r->cs_sel))
        return cpu_raise_gp(c);
    rc = desc_fetch(c, r->cs_sel, EXC_GP, err, cs);
    if (rc)
        return rc;
    dpl = desc_dpl(cs);
    if (!desc_is_code(cs) || rpl < c->cpl || (desc_is_conforming(cs) ? dpl > rpl : dpl != rpl))
        return cpu_raise_err(c, EXC_GP, err);
    if (cpu_long(c) && (cs->ar & (SEG_AR_L | SEG_AR_DB)) == (SEG_AR_L | SEG_AR_DB))
        return cpu_raise_err(c, EXC_GP, err);
    if (!desc_present(cs))
        return cpu_raise_err(c, EXC_NP, err);
    r->cpl = rpl;
    return OP_NEXT;
}

/* The rest of the checks, once SS:RSP are known where they are popped. */
static int check_rest(struct cpu *c, struct far_return *r)
{
    bool null_ok = cpu_long(c) && r->cs.ar & SEG_AR_L && r->cpl != 3;
    int rc = OP_NEXT;

    if (r->has_stack && !(SEL_NULL(r->ss_sel) && null_ok))
        rc = seg_check_stack(c, r->ss_sel, r->cpl, EXC_GP, 0, &r->ss);
    if (rc == OP_NEXT)
        rc = seg_check_rip(c, &r->cs, r->rip, 0);
    if (rc == OP_NEXT)
        rc = desc_set_accessed(c, &r->cs);
    return rc;
}

/* RSP of the stack returned to. A 16-bit stack takes SP alone, so the old ESP's upper half shows through. */
static void set_outer_rsp(struct cpu *c, u64 rsp)
{
    if (c->mode == MODE_64)
        c->r[REG_RSP] = rsp;
    else if (c->seg[SEG_SS].ar & SEG_AR_DB)
        c->r[REG_RSP] = (u32)rsp;
    else
        c->r[REG_RSP] = (c->r[REG_RSP] & 0xffff0000) | (u16)rsp;
}

/* Load CS, SS, RSP, RIP and CPL. (release): bytes to free above the popped SS:RSP's stack, or above the frame. */
static int commit(struct cpu *c, const struct far_return *r, unsigned popped, unsigned release)
{
    bool outer = r->cpl > c->cpl;

    if (!r->has_stack)
        stack_release(c, popped + release);
    seg_set(c, SEG_CS, &r->cs, r->cs_sel);
    c->rip = r->rip;
    c->cpl = (u8)r->cpl;
    if (r->has_stack && SEL_NULL(r->ss_sel))
        seg_set_null(c, SEG_SS, r->ss_sel);
    else if (r->has_stack)
        seg_set(c, SEG_SS, &r->ss, r->ss_sel);
    cpu_mode_update(c);
    if (r->has_stack)
        set_outer_rsp(c, r->rsp + release);
    if (outer)
        seg_drop_privileged(c);
    return OP_END;
}

/* Real-address and virtual-8086 mode. */
static int far_ret_real(struct cpu *c, const struct insn *in)
{
    u64 val[2];
    int rc = pop_values(c, in, 0, 2, val);

    if (rc)
        return rc;
    if (val[0] > c->seg[SEG_CS].limit)
        return cpu_raise_gp(c);
    stack_release(c, 2u * in->size + (unsigned)in->imm);
    seg_set_real(c, SEG_CS, (u16)val[1]);
    c->rip = val[0];
    cpu_mode_update(c);
    return OP_END;
}

int op_far_ret(struct cpu *c, const struct insn *in)
{
    unsigned release = (unsigned)in->imm, popped = 2u * in->size;
    struct far_return r = {0};
    u64 val[2];
    int rc;

    if (!cpu_protected(c))
        return far_ret_real(c, in);
    rc = pop_values(c, in, 0, 2, val);
    if (rc)
        return rc;
    r.rip = val[0];
    r.cs_sel = (u16)val[1];
    rc = check_code(c, &r);
    if (rc)
        return rc;
    if (r.cpl > c->cpl) {
        rc = pop_values(c, in, popped + release, 2, val);
        if (rc)
            return rc;
        r.has_stack = true;
        r.rsp = val[0];
        r.ss_sel = (u16)val[1];
    }
    rc = check_rest(c, &r);
    return rc ? rc : commit(c, &r, popped, release);
}

static void set_flags(struct cpu *c, u64 image, u64 mask)
{
    cpu_rflags_set(c, (cpu_rflags_get(c) & ~mask) | (image & mask));
}

static int iret_real(struct cpu *c, const struct insn *in)
{
    u64 val[3], mask = FLAGS_USER | RFLAGS_IF;
    bool vm = c->rflags & RFLAGS_VM;
    int rc;

    if (vm && (c->rflags & RFLAGS_IOPL) != RFLAGS_IOPL)
        return cpu_raise_gp(c);
    rc = pop_values(c, in, 0, 3, val);
    if (rc)
        return rc;
    if (val[0] > c->seg[SEG_CS].limit)
        return cpu_raise_gp(c);
    if (in->size > 2)
        mask |= FLAGS_WIDE;
    if (!vm)
        mask |= RFLAGS_IOPL;
    stack_release(c, 3u * in->size);
    seg_set_real(c, SEG_CS, (u16)val[1]);
    c->rip = val[0];
    set_flags(c, val[2], mask);
    cpu_mode_update(c);
    return OP_END;
}

/* From protected mode at CPL 0 to virtual-8086 mode: SDM 3A 20.2.5. */
static int iret_to_vm86(struct cpu *c, const struct insn *in)
{
    static const u8 order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u64 val[9];
    int rc = pop_values(c, in, 0, 9, val);

    if (rc)
        return rc;
    if (val[0] > 0xffff)
        return cpu_raise_gp(c);
    set_flags(c, val[2], FLAGS_USER | FLAGS_WIDE | FLAGS_KEPT | RFLAGS_IF | RFLAGS_IOPL);
    seg_set_vm86(c, SEG_CS, (u16)val[1]);
    seg_set_vm86(c, SEG_SS, (u16)val[4]);
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        seg_set_vm86(c, order[i], (u16)val[5 + i]);
    c->r[REG_RSP] = (u32)val[3];
    c->rip = val[0];
    cpu_set_cpl(c, 3);
    return OP_END;
}

static int iret_protected(struct cpu *c, const struct insn *in)
{
    u64 val[5], mask = FLAGS_USER;
    struct far_return r = {0};
    int rc;

    if (c->rflags & RFLAGS_NT)
        return cpu_raise_gp(c);
    rc = pop_values(c, in, 0, 3, val);
    if (rc)
        return rc;
    if (!cpu_long(c) && in->size == 4 && val[2] & RFLAGS_VM && c->cpl == 0)
        return iret_to_vm86(c, in);
    r.rip = val[0];
    r.cs_sel = (u16)val[1];
    r.rflags = val[2];
    rc = check_code(c, &r);
    if (rc)
        return rc;
    if (r.cpl > c->cpl || c->mode == MODE_64) {
        rc = pop_values(c, in, 3u * in->size, 2, val + 3);
        if (rc)
            return rc;
        r.has_stack = true;
        r.rsp = val[3];
        r.ss_sel = (u16)val[4];
    }
    rc = check_rest(c, &r);
    if (rc)
        return rc;

    if (in->size > 2)
        mask |= FLAGS_WIDE;
    if (c->cpl == 0)
        mask |= RFLAGS_IOPL | (in->size > 2 ? RFLAGS_VIF | RFLAGS_VIP : 0);
    if (c->cpl <= (c->rflags & RFLAGS_IOPL) >> 12)
        mask |= RFLAGS_IF;
    set_flags(c, r.rflags, mask);
    return commit(c, &r, 3u * in->size, 0);
}

int op_iret(struct cpu *c, const struct insn *in)
{
    int rc = cpu_protected(c) ? iret_protected(c, in) : iret_real(c, in);

    if (rc >= 0)
        c->nmi_blocked = false;
    return rc;
}
