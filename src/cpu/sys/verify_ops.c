// SPDX-License-Identifier: MIT
// Questions about selectors: LAR, LSL, VERR, VERW, ARPL. They answer in ZF and do not fault on a bad selector.

#include "cpu/sys/lower.h"
#include "cpu/sys/segment_ops.h"

static void set_zf(struct cpu *c, bool zf)
{
    c->cc = (u16)(zf ? c->cc | CC_ZF : c->cc & ~CC_ZF);
}

/* Types of system descriptors that LAR and LSL know, a bit each: SDM 2A tables 3-54, 3-57. */
#define T(type) (1u << (type))
#define LSL_LONG (T(DESC_LDT) | T(DESC_TSS32) | T(DESC_TSS32_BUSY))
#define LSL_LEGACY (LSL_LONG | T(DESC_TSS16) | T(DESC_TSS16_BUSY))
#define LAR_LONG (LSL_LONG | T(DESC_CALL32))
#define LAR_LEGACY (LSL_LEGACY | T(DESC_CALL16) | T(DESC_TASK_GATE) | T(DESC_CALL32))

/* May code at this privilege see the descriptor through this selector? */
static bool visible(const struct cpu *c, const struct desc *d)
{
    if (desc_is_conforming(d))
        return true;
    return c->cpl <= desc_dpl(d) && (d->sel & SEL_RPL) <= desc_dpl(d);
}

/* Load the operand and its descriptor. OP_NEXT; 1: there is none; or negative. */
static int operand_desc(struct cpu *c, const struct insn *in, struct desc *d)
{
    u16 sel;
    int rc;

    if (!cpu_protected(c))
        return cpu_raise_ud(c);
    rc = sel_operand_load(c, in, &sel);
    if (rc)
        return rc;
    return SEL_NULL(sel) ? 1 : desc_read(c, sel, d);
}

/* For LAR and LSL: (types) are the system types that count. Negative, 0 and (*ok). */
static int query(struct cpu *c, const struct insn *in, u32 types, struct desc *d, bool *ok)
{
    int rc = operand_desc(c, in, d);

    if (rc < 0)
        return rc;
    *ok = !rc && (desc_is_segment(d) || types & T(desc_type(d))) && visible(c, d);
    set_zf(c, *ok);
    return OP_NEXT;
}

int op_lar(struct cpu *c, const struct insn *in)
{
    struct desc d;
    bool ok;
    int rc = query(c, in, cpu_long(c) ? LAR_LONG : LAR_LEGACY, &d, &ok);

    if (rc == OP_NEXT && ok)
        reg_write(c, in->reg, in->size, d.hi & 0x00ffff00);
    return rc;
}

int op_lsl(struct cpu *c, const struct insn *in)
{
    struct desc d;
    bool ok;
    int rc = query(c, in, cpu_long(c) ? LSL_LONG : LSL_LEGACY, &d, &ok);

    if (rc == OP_NEXT && ok)
        reg_write(c, in->reg, in->size, d.limit);
    return rc;
}

static int verify(struct cpu *c, const struct insn *in, bool write)
{
    struct desc d;
    bool ok = false;
    int rc = operand_desc(c, in, &d);

    if (rc < 0)
        return rc;
    if (!rc && desc_is_segment(&d) && visible(c, &d))
        ok = write ? desc_is_writable_data(&d) : !desc_is_code(&d) || d.ar & SEG_TYPE_RW;
    set_zf(c, ok);
    return OP_NEXT;
}

int op_verr(struct cpu *c, const struct insn *in) { return verify(c, in, false); }
int op_verw(struct cpu *c, const struct insn *in) { return verify(c, in, true); }

int op_arpl(struct cpu *c, const struct insn *in)
{
    u16 src = *insn_reg16(c, in->reg) & SEL_RPL, dst;
    int rc;

    if (!cpu_protected(c))
        return cpu_raise_ud(c);
    rc = sel_operand_load(c, in, &dst);
    if (rc)
        return rc;
    if ((dst & SEL_RPL) < src) {
        rc = sel_operand_store(c, in, (dst & ~SEL_RPL) | src);
        if (rc < 0)
            return rc;
        set_zf(c, true);
        return rc;
    }
    set_zf(c, false);
    return OP_NEXT;
}
