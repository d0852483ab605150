// SPDX-License-Identifier: MIT
// Loads and stores of GDTR, IDTR, LDTR, TR and the machine status word.

#include "cpu/sys/segment_ops.h"

/* CR4.UMIP keeps user code from these: SDM 3A 2.5. */
static bool umip_forbids(const struct cpu *c)
{
    return c->cr4 & CR4_UMIP && cpu_protected(c) && c->cpl > 0;
}

static int load_dtable(struct cpu *c, const struct insn *in, struct cpu_dtable *t)
{
    unsigned len = c->mode == MODE_64 ? 10 : 6;
    u8 raw[10];
    u64 lin, base = 0;
    u16 limit;
    int rc;

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = insn_lin(c, in, len, false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, raw, len, insn_acc(in));
    if (rc)
        return rc;
    memcpy(&limit, raw, 2);
    memcpy(&base, raw + 2, len - 2);
    if (in->size == 2)
        base &= 0xffffff;
    if (c->mode == MODE_64 && !addr_canonical(base))
        return cpu_raise_gp(c);
    t->limit = limit;
    t->base = base;
    return OP_NEXT;
}

static int store_dtable(struct cpu *c, const struct insn *in, const struct cpu_dtable *t)
{
    unsigned len = c->mode == MODE_64 ? 10 : 6;
    u8 raw[10];
    u64 lin;
    int rc;

    if (umip_forbids(c))
        return cpu_raise_gp(c);
    rc = insn_lin(c, in, len, true, &lin);
    if (rc)
        return rc;
    memcpy(raw, &t->limit, 2);
    memcpy(raw + 2, &t->base, 8);
    return mmu_store(c, lin, raw, len, insn_acc(in));
}

int op_lgdt(struct cpu *c, const struct insn *in) { return load_dtable(c, in, &c->gdt); }
int op_lidt(struct cpu *c, const struct insn *in) { return load_dtable(c, in, &c->idt); }
int op_sgdt(struct cpu *c, const struct insn *in) { return store_dtable(c, in, &c->gdt); }
int op_sidt(struct cpu *c, const struct insn *in) { return store_dtable(c, in, &c->idt); }

/* Fetch a system descriptor out of the GDT for LLDT or LTR; 16 bytes of it in long mode. */
static int fetch_system(struct cpu *c, u16 sel, struct desc *d)
{
    u32 err = SEL_ERR(sel);
    u64 upper;
    int rc;

    if (sel & SEL_TI)
        return cpu_raise_err(c, EXC_GP, err);
    rc = desc_fetch(c, sel, EXC_GP, err, d);
    if (rc)
        return rc;
    if (desc_is_segment(d))
        return cpu_raise_err(c, EXC_GP, err);
    if (!cpu_long(c))
        return OP_NEXT;
    rc = desc_read_upper(c, d, &upper);
    if (rc)
        return rc;
    if (upper >> 40 & 0x1f || !addr_canonical(d->base))
        return cpu_raise_err(c, EXC_GP, err);
    return OP_NEXT;
}

int op_lldt(struct cpu *c, const struct insn *in)
{
    struct desc d;
    u16 sel;
    int rc;

    if (!cpu_protected(c))
        return cpu_raise_ud(c);
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = sel_operand_load(c, in, &sel);
    if (rc)
        return rc;
    if (SEL_NULL(sel)) {
        c->seg[SEG_LDTR].sel = sel;
        c->seg[SEG_LDTR].ar = SEG_AR_UNUSABLE;
        return OP_NEXT;
    }
    rc = fetch_system(c, sel, &d);
    if (rc)
        return rc;
    if (desc_type(&d) != DESC_LDT)
        return cpu_raise_err(c, EXC_GP, SEL_ERR(sel));
    if (!desc_present(&d))
        return cpu_raise_err(c, EXC_NP, SEL_ERR(sel));
    seg_set(c, SEG_LDTR, &d, sel);
    return OP_NEXT;
}

int op_ltr(struct cpu *c, const struct insn *in)
{
    struct desc d;
    u16 sel;
    int rc;

    if (!cpu_protected(c))
        return cpu_raise_ud(c);
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = sel_operand_load(c, in, &sel);
    if (rc)
        return rc;
    if (SEL_NULL(sel))
        return cpu_raise_gp(c);
    rc = fetch_system(c, sel, &d);
    if (rc)
        return rc;
    if (desc_type(&d) != DESC_TSS32 && (cpu_long(c) || desc_type(&d) != DESC_TSS16))
        return cpu_raise_err(c, EXC_GP, SEL_ERR(sel));
    if (!desc_present(&d))
        return cpu_raise_err(c, EXC_NP, SEL_ERR(sel));
    rc = desc_set_type_bits(c, &d, 2); /* busy */
    if (rc)
        return rc;
    seg_set(c, SEG_TR, &d, sel);
    return OP_NEXT;
}

static int store_selector(struct cpu *c, const struct insn *in, unsigned seg)
{
    if (!cpu_protected(c))
        return cpu_raise_ud(c);
    if (umip_forbids(c))
        return cpu_raise_gp(c);
    return sel_operand_store(c, in, c->seg[seg].sel);
}

int op_sldt(struct cpu *c, const struct insn *in) { return store_selector(c, in, SEG_LDTR); }
int op_str(struct cpu *c, const struct insn *in) { return store_selector(c, in, SEG_TR); }

int op_smsw(struct cpu *c, const struct insn *in)
{
    if (umip_forbids(c))
        return cpu_raise_gp(c);
    return sel_operand_store(c, in, c->cr0);
}
