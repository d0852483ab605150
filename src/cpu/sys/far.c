// SPDX-License-Identifier: MIT
// Far JMP and CALL, through call gates too: SDM 2A CALL, JMP; SDM 3A 5.8.

/*
 * Not done: task gates and TSS selectors as targets (hardware task switches). They raise #GP with the
 * selector, which is what 64-bit CPUs do in long mode.
 */

#include "cpu/sys/far.h"
#include "cpu/interp/stack.h"
#include "cpu/sys/frame.h"
#include "cpu/sys/lower.h"

#include <errno.h>

#define FAR_DIRECT 1 /* in->x[0]: ptr16:16 or ptr16:32, offset in imm, selector in disp */

struct gate {
    u16 sel;
    u64 off;
    unsigned size;   /* of what a CALL pushes */
    unsigned params;
};

static int far_pointer(struct cpu *c, const struct insn *in, u16 *sel, u64 *off)
{
    u8 raw[10] = {0};
    u64 lin;
    int rc;

    *off = 0;
    if (in->x[0] == FAR_DIRECT) {
        *sel = (u16)in->disp;
        *off = in->imm;
        return OP_NEXT;
    }
    rc = insn_lin(c, in, in->size + 2u, false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, raw, in->size + 2u, insn_acc(in));
    if (rc)
        return rc;
    memcpy(off, raw, in->size);
    memcpy(sel, raw + in->size, 2);
    return OP_NEXT;
}

/* Real-address and virtual-8086 mode. */
static int transfer_real(struct cpu *c, const struct insn *in, u16 sel, u64 off, bool call)
{
    struct frame f = {.size = in->size};
    struct frame_stack st;
    int rc;

    if (off > c->seg[SEG_CS].limit)
        return cpu_raise_gp(c);
    if (call) {
        frame_stack_current(c, c->cpl, false, 0, &st);
        st.acc = MMU_SS;
        frame_add(&f, c->seg[SEG_CS].sel);
        frame_add(&f, cpu_rip_trim(c, insn_next(c, in)));
        rc = frame_push(c, &f, &st);
        if (rc)
            return rc;
        frame_stack_commit(c, &st);
    }
    seg_set_real(c, SEG_CS, sel);
    c->rip = off;
    cpu_mode_update(c);
    return OP_END;
}

/* CS:RIP at the same privilege, after every check. */
static int enter_segment(struct cpu *c, const struct desc *cs, u64 rip)
{
    seg_set(c, SEG_CS, cs, (u16)((cs->sel & ~SEL_RPL) | c->cpl));
    c->rip = rip;
    cpu_mode_update(c);
    return OP_END;
}

/* A code segment without privilege change: push (for CALL), then go. */
static int transfer_same(struct cpu *c, const struct insn *in, struct desc *cs, u64 off, unsigned size, bool call)
{
    struct frame f = {.size = (u8)size};
    struct frame_stack st;
    bool flat = c->mode == MODE_64 || (size == 8 && cpu_long(c));
    int rc = seg_check_rip(c, cs, off, 0);

    if (rc == OP_NEXT)
        rc = desc_set_accessed(c, cs);
    if (rc)
        return rc;
    if (call) {
        frame_stack_current(c, c->cpl, flat, 0, &st);
        st.acc = MMU_SS;
        frame_add(&f, c->seg[SEG_CS].sel);
        frame_add(&f, cpu_rip_trim(c, insn_next(c, in)));
        rc = frame_push(c, &f, &st);
        if (rc)
            return rc;
        frame_stack_commit(c, &st);
    }
    return enter_segment(c, cs, off);
}

/* The rules that every code segment target obeys. */
static int code_check(struct cpu *c, const struct desc *cs)
{
    u32 err = SEL_ERR(cs->sel);

    if (cpu_long(c) && (cs->ar & (SEG_AR_L | SEG_AR_DB)) == (SEG_AR_L | SEG_AR_DB))
        return cpu_raise_err(c, EXC_GP, err);
    if (!desc_present(cs))
        return cpu_raise_err(c, EXC_NP, err);
    return OP_NEXT;
}

static int transfer_code(struct cpu *c, const struct insn *in, struct desc *cs, u64 off, bool call)
{
    unsigned dpl = desc_dpl(cs);
    bool allowed = desc_is_conforming(cs) ? dpl <= c->cpl : (cs->sel & SEL_RPL) <= c->cpl && dpl == c->cpl;
    int rc;

    if (!allowed)
        return cpu_raise_err(c, EXC_GP, SEL_ERR(cs->sel));
    rc = code_check(c, cs);
    return rc ? rc : transfer_same(c, in, cs, off, in->size, call);
}

/* Check the gate (d) and read what it says. */
static int gate_fetch(struct cpu *c, struct desc *d, struct gate *g)
{
    u32 err = SEL_ERR(d->sel);
    u64 upper = 0;
    int rc;

    if (desc_dpl(d) < c->cpl || desc_dpl(d) < (d->sel & SEL_RPL))
        return cpu_raise_err(c, EXC_GP, err);
    if (cpu_long(c)) {
        rc = desc_read_upper(c, d, &upper);
        if (rc)
            return rc;
        if (upper >> 40 & 0x1f)
            return cpu_raise_err(c, EXC_GP, err);
    }
    if (!desc_present(d))
        return cpu_raise_err(c, EXC_NP, err);
    *g = (struct gate){
        .sel = (u16)(d->lo >> 16),
        .off = (d->lo & 0xffff) | (d->hi & 0xffff0000) | upper << 32,
        .size = cpu_long(c) ? 8 : desc_type(d) == DESC_CALL32 ? 4 : 2,
        .params = cpu_long(c) ? 0 : d->hi & 0x1f,
    };
    if (g->size == 2)
        g->off &= 0xffff;
    return OP_NEXT;
}

/* The parameters that a legacy call gate copies, the last pushed first. */
static int copy_params(struct cpu *c, const struct gate *g, struct frame *f)
{
    u64 val;
    int rc;

    for (unsigned i = g->params; i-- > 0;) {
        rc = stack_peek(c, g->size, i * g->size, &val);
        if (rc)
            return rc;
        frame_add(f, val);
    }
    return OP_NEXT;
}

/* CALL through a gate to an inner level: a new stack from the TSS. */
static int call_inner(struct cpu *c, const struct insn *in, const struct gate *g, struct desc *cs)
{
    struct frame f = {.size = (u8)g->size};
    unsigned cpl = desc_dpl(cs);
    struct frame_stack st;
    struct desc ss;
    u16 ss_sel = (u16)cpl;
    int rc;

    if (cpu_long(c)) {
        frame_stack_current(c, cpl, true, 0, &st);
        rc = tss_read_rsp(c, cpl, 0, &st.sp);
    } else {
        rc = frame_stack_inner(c, cpl, 0, &st, &ss, &ss_sel);
    }
    if (rc == OP_NEXT)
        rc = seg_check_rip(c, cs, g->off, 0);
    if (rc == OP_NEXT)
        rc = desc_set_accessed(c, cs);
    if (rc)
        return rc;
    frame_add(&f, c->seg[SEG_SS].sel);
    frame_add(&f, c->r[REG_RSP]);
    rc = copy_params(c, g, &f);
    if (rc)
        return rc;
    frame_add(&f, c->seg[SEG_CS].sel);
    frame_add(&f, cpu_rip_trim(c, insn_next(c, in)));
    rc = frame_push(c, &f, &st);
    if (rc)
        return rc;

    c->cpl = (u8)cpl;
    if (cpu_long(c))
        seg_set_null(c, SEG_SS, ss_sel);
    else
        seg_set(c, SEG_SS, &ss, ss_sel);
    frame_stack_commit(c, &st);
    return enter_segment(c, cs, g->off);
}

static int transfer_gate(struct cpu *c, const struct insn *in, struct desc *d, bool call)
{
    struct desc cs;
    struct gate g = {0};
    unsigned dpl;
    u32 err;
    int rc = gate_fetch(c, d, &g);

    if (rc)
        return rc;
    err = SEL_ERR(g.sel);
    if (SEL_NULL(g.sel))
        return cpu_raise_gp(c);
    rc = desc_fetch(c, g.sel, EXC_GP, err, &cs);
    if (rc)
        return rc;
    dpl = desc_dpl(&cs);
    if (!desc_is_code(&cs) || dpl > c->cpl || (!call && !desc_is_conforming(&cs) && dpl != c->cpl))
        return cpu_raise_err(c, EXC_GP, err);
    if (cpu_long(c) && (cs.ar & (SEG_AR_L | SEG_AR_DB)) != SEG_AR_L)
        return cpu_raise_err(c, EXC_GP, err);
    rc = code_check(c, &cs);
    if (rc)
        return rc;
    if (call && !desc_is_conforming(&cs) && dpl < c->cpl)
        return call_inner(c, in, &g, &cs);
    return transfer_same(c, in, &cs, g.off, g.size, call);
}

static int transfer(struct cpu *c, const struct insn *in, bool call)
{
    struct desc d;
    u16 sel;
    u64 off;
    int rc = far_pointer(c, in, &sel, &off);

    if (rc)
        return rc;
    if (!cpu_protected(c))
        return transfer_real(c, in, sel, off, call);
    if (SEL_NULL(sel))
        return cpu_raise_gp(c);
    rc = desc_fetch(c, sel, EXC_GP, SEL_ERR(sel), &d);
    if (rc)
        return rc;
    if (desc_is_code(&d))
        return transfer_code(c, in, &d, off, call);
    if (!desc_is_segment(&d) && (desc_type(&d) == DESC_CALL32 || (desc_type(&d) == DESC_CALL16 && !cpu_long(c))))
        return transfer_gate(c, in, &d, call);
    return cpu_raise_err(c, EXC_GP, SEL_ERR(sel));
}

int op_far_jmp(struct cpu *c, const struct insn *in) { return transfer(c, in, false); }
int op_far_call(struct cpu *c, const struct insn *in) { return transfer(c, in, true); }

/* The far forms of JMP and CALL: EA, 9A, FF /5, FF /3. */
static int lower_far(const struct decoded *d, struct insn *in, const void *arg)
{
    if (d->op[0].kind == OPND_FAR) {
        in->x[0] = FAR_DIRECT;
        in->imm = d->opsize == 2 ? (u16)d->op[0].imm : (u32)d->op[0].imm;
        in->disp = d->op[0].far_sel;
    } else if (d->opcode != 0xff || (d->modrm_reg != 3 && d->modrm_reg != 5)) {
        return -ENOENT;
    }
    return lower_form(d, in, arg);
}

static int lower_far_ret(const struct decoded *d, struct insn *in, const void *arg)
{
    if (d->opcode != 0xca && d->opcode != 0xcb)
        return -ENOENT;
    in->imm = d->opcode == 0xca ? (u16)d->op[0].imm : 0;
    return lower_form(d, in, arg);
}

static int lower_int(const struct decoded *d, struct insn *in, const void *arg)
{
    in->imm = (u8)d->op[0].imm;
    return lower_form(d, in, arg);
}

const struct op_row ops_far[] = {
    {ZYDIS_MNEMONIC_JMP, lower_far, SYS_FORM(op_far_jmp, INSN_ENDS)},
    {ZYDIS_MNEMONIC_CALL, lower_far, SYS_FORM(op_far_call, INSN_ENDS)},
    {ZYDIS_MNEMONIC_RET, lower_far_ret, SYS_FORM(op_far_ret, INSN_ENDS)},
    {ZYDIS_MNEMONIC_IRET, lower_form, SYS_FORM(op_iret, INSN_ENDS)},
    {ZYDIS_MNEMONIC_IRETD, lower_form, SYS_FORM(op_iret, INSN_ENDS)},
    {ZYDIS_MNEMONIC_IRETQ, lower_form, SYS_FORM(op_iret, INSN_ENDS)},
    {ZYDIS_MNEMONIC_INT, lower_int, SYS_FORM(op_int, INSN_ENDS)},
    {ZYDIS_MNEMONIC_INT1, lower_form, SYS_FORM(op_int1, INSN_ENDS)},
    {ZYDIS_MNEMONIC_INT3, lower_form, SYS_FORM(op_int3, INSN_ENDS)},
    {ZYDIS_MNEMONIC_INTO, lower_form, SYS_FORM(op_into, 0)},
    {ZYDIS_MNEMONIC_BOUND, lower_form, SYS_FORM(op_bound, 0)},
    {0, NULL, NULL},
};
