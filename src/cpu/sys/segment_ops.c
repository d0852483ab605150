// SPDX-License-Identifier: MIT
// Instructions that load and store segment registers, and the table of all that deal with segments.

#include "cpu/sys/segment_ops.h"
#include "cpu/interp/stack.h"
#include "cpu/sys/lower.h"

#include <errno.h>

int sel_operand_load(struct cpu *c, const struct insn *in, u16 *val)
{
    u64 lin;
    int rc;

    if (!in->x[1]) {
        *val = *insn_reg16(c, in->rm);
        return OP_NEXT;
    }
    rc = insn_lin(c, in, 2, false, &lin);
    return rc ? rc : mmu_ld16(c, lin, val, insn_acc(in));
}

int sel_operand_store(struct cpu *c, const struct insn *in, u64 val)
{
    u64 lin;
    int rc;

    if (!in->x[1]) {
        reg_write(c, in->rm, in->size, val);
        return OP_NEXT;
    }
    rc = insn_lin(c, in, 2, true, &lin);
    return rc ? rc : mmu_st16(c, lin, (u16)val, insn_acc(in));
}

/* What a load of SS does besides: interrupts wait for one instruction, and the stack's width may be another. */
static int after_load(struct cpu *c, unsigned seg)
{
    if (seg != SEG_SS)
        return OP_NEXT;
    c->inhibit |= CPU_INHIBIT_MOV_SS;
    cpu_mode_update(c);
    return OP_STOP;
}

/* MOV Sreg, r/m16: SDM 2B MOV. */
static int op_mov_to_seg(struct cpu *c, const struct insn *in)
{
    u16 sel;
    int rc = sel_operand_load(c, in, &sel);

    if (rc == OP_NEXT)
        rc = seg_load(c, in->x[0], sel);
    return rc ? rc : after_load(c, in->x[0]);
}

static int op_mov_from_seg(struct cpu *c, const struct insn *in)
{
    return sel_operand_store(c, in, c->seg[in->x[0]].sel);
}

static int op_push_seg(struct cpu *c, const struct insn *in)
{
    return stack_push(c, in->size, c->seg[in->x[0]].sel);
}

/* POP Sreg: RSP moves in the width of the stack popped from, even when it is SS that changes. */
static int op_pop_seg(struct cpu *c, const struct insn *in)
{
    unsigned width = stack_width(c);
    u64 val, sp = c->r[REG_RSP] + in->size;
    int rc = stack_peek(c, in->size, 0, &val);

    if (rc == OP_NEXT)
        rc = seg_load(c, in->x[0], (u16)val);
    if (rc)
        return rc;
    reg_write(c, REG_RSP * 8, width, sp);
    return after_load(c, in->x[0]);
}

/* LDS, LES, LFS, LGS, LSS: SDM 2A. */
static int op_load_far_pointer(struct cpu *c, const struct insn *in)
{
    u8 raw[10];
    u64 lin, off = 0;
    u16 sel;
    int rc = insn_lin(c, in, in->size + 2u, false, &lin);

    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, raw, in->size + 2u, insn_acc(in));
    if (rc)
        return rc;
    memcpy(&off, raw, in->size);
    memcpy(&sel, raw + in->size, 2);
    rc = seg_load(c, in->x[0], sel);
    if (rc)
        return rc;
    reg_write(c, in->reg, in->size, off);
    /* Unlike MOV SS, LSS needs no shadow: it loads the pointer as well. */
    if (in->x[0] == SEG_SS)
        cpu_mode_update(c);
    return in->x[0] == SEG_SS ? OP_STOP : OP_NEXT;
}

static int lower_mov_seg(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct opnd *dst = &d->op[0], *src = &d->op[1];

    if (dst->kind == OPND_SEG) {
        in->op = op_mov_to_seg;
        in->x[0] = dst->reg;
        in->x[1] = src->kind == OPND_MEM;
        if (dst->reg == SEG_SS)
            in->flags |= INSN_ENDS;
    } else if (src->kind == OPND_SEG) {
        in->op = op_mov_from_seg;
        in->x[0] = src->reg;
        in->x[1] = dst->kind == OPND_MEM;
        in->size = (u8)dst->size;
    } else {
        return -ENOENT;
    }
    return 0;
}

static int lower_stack_seg(const struct decoded *d, struct insn *in, const void *arg)
{
    if (d->op[0].kind != OPND_SEG)
        return -ENOENT;
    in->x[0] = d->op[0].reg;
    if (d->op[0].write && d->op[0].reg == SEG_SS)
        in->flags |= INSN_ENDS;
    return lower_form(d, in, arg);
}

static int lower_far_pointer(const struct decoded *d, struct insn *in, const void *arg)
{
    in->op = op_load_far_pointer;
    in->x[0] = *(const u8 *)arg;
    if (in->x[0] == SEG_SS)
        in->flags |= INSN_ENDS;
    return 0;
}

/* Instructions with one selector-sized operand, register or memory, besides (for LAR, LSL) a destination register. */
static int lower_sel(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct opnd *o = &d->op[0];

    in->x[1] = o->kind == OPND_MEM || (d->nopnd > 1 && d->op[1].kind == OPND_MEM);
    in->size = (u8)o->size;
    return lower_form(d, in, arg);
}

#define SEG_NUMBER(n) &(const u8){n}

const struct op_row ops_segment[] = {
    {ZYDIS_MNEMONIC_MOV, lower_mov_seg, NULL},
    {ZYDIS_MNEMONIC_PUSH, lower_stack_seg, SYS_FORM(op_push_seg, 0)},
    {ZYDIS_MNEMONIC_POP, lower_stack_seg, SYS_FORM(op_pop_seg, 0)},
    {ZYDIS_MNEMONIC_LES, lower_far_pointer, SEG_NUMBER(SEG_ES)},
    {ZYDIS_MNEMONIC_LSS, lower_far_pointer, SEG_NUMBER(SEG_SS)},
    {ZYDIS_MNEMONIC_LDS, lower_far_pointer, SEG_NUMBER(SEG_DS)},
    {ZYDIS_MNEMONIC_LFS, lower_far_pointer, SEG_NUMBER(SEG_FS)},
    {ZYDIS_MNEMONIC_LGS, lower_far_pointer, SEG_NUMBER(SEG_GS)},
    {ZYDIS_MNEMONIC_LGDT, lower_form, SYS_FORM(op_lgdt, 0)},
    {ZYDIS_MNEMONIC_LIDT, lower_form, SYS_FORM(op_lidt, 0)},
    {ZYDIS_MNEMONIC_SGDT, lower_form, SYS_FORM(op_sgdt, 0)},
    {ZYDIS_MNEMONIC_SIDT, lower_form, SYS_FORM(op_sidt, 0)},
    {ZYDIS_MNEMONIC_LLDT, lower_sel, SYS_FORM(op_lldt, 0)},
    {ZYDIS_MNEMONIC_LTR, lower_sel, SYS_FORM(op_ltr, 0)},
    {ZYDIS_MNEMONIC_SLDT, lower_sel, SYS_FORM(op_sldt, 0)},
    {ZYDIS_MNEMONIC_STR, lower_sel, SYS_FORM(op_str, 0)},
    {ZYDIS_MNEMONIC_SMSW, lower_sel, SYS_FORM(op_smsw, 0)},
    {ZYDIS_MNEMONIC_LAR, lower_sel, SYS_FORM(op_lar, 0)},
    {ZYDIS_MNEMONIC_LSL, lower_sel, SYS_FORM(op_lsl, 0)},
    {ZYDIS_MNEMONIC_VERR, lower_sel, SYS_FORM(op_verr, 0)},
    {ZYDIS_MNEMONIC_VERW, lower_sel, SYS_FORM(op_verw, 0)},
    {ZYDIS_MNEMONIC_ARPL, lower_sel, SYS_FORM(op_arpl, 0)},
    {0, NULL, NULL},
};
