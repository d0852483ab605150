// SPDX-License-Identifier: MIT
// Fetching, checking and loading of segment descriptors: SDM 3A 3.4, 3.5, 5.

#include "cpu/sys/desc.h"
#include "cpu/sys/guest_cpuid.h"

#define AR_REAL_DATA (SEG_AR_P | SEG_AR_S | 0x3)
#define AR_REAL_CODE (SEG_AR_P | SEG_AR_S | 0xb)
#define AR_VM86 (SEG_AR_P | SEG_AR_S | SEG_AR_DPL | 0x3)

/*
 * A descriptor's two words; the access rights word is bits 23:8 of the second one.
 *
 *   hi  31..24  23 22 21 20  19..16  15 14..13 12 11..8  7..0
 *       base    G  DB L  AVL limit   P  DPL    S  type   base
 *   lo  31..16  15..0
 *       base    limit
 */
static void desc_parse(struct desc *d)
{
    d->ar = (d->hi >> 8) & 0xf0ff;
    d->base = d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000);
    d->limit = (d->lo & 0xffff) | (d->hi & 0xf0000);
    if (d->ar & SEG_AR_G)
        d->limit = d->limit << 12 | 0xfff;
}

int desc_read(struct cpu *c, u16 sel, struct desc *d)
{
    u32 limit = c->gdt.limit;
    u64 base = c->gdt.base, raw;
    int rc;

    if (sel & SEL_TI) {
        if (c->seg[SEG_LDTR].ar & SEG_AR_UNUSABLE)
            return 1;
        base = c->seg[SEG_LDTR].base;
        limit = c->seg[SEG_LDTR].limit;
    }
    if ((sel | 7u) > limit)
        return 1;
    d->sel = sel;
    d->lin = base + (sel & ~7u);
    rc = mmu_load(c, d->lin, &raw, 8, MMU_SYSTEM);
    if (rc)
        return rc;
    d->lo = (u32)raw;
    d->hi = (u32)(raw >> 32);
    desc_parse(d);
    return OP_NEXT;
}

int desc_fetch(struct cpu *c, u16 sel, u8 vector, u32 err, struct desc *d)
{
    int rc = desc_read(c, sel, d);

    return rc > 0 ? cpu_raise_err(c, vector, err) : rc;
}

int desc_read_upper(struct cpu *c, struct desc *d, u64 *upper)
{
    u32 limit = d->sel & SEL_TI ? c->seg[SEG_LDTR].limit : c->gdt.limit;
    int rc;

    if ((d->sel & ~7u) + 15 > limit)
        return cpu_raise_err(c, EXC_GP, SEL_ERR(d->sel));
    rc = mmu_load(c, d->lin + 8, upper, 8, MMU_SYSTEM);
    if (rc)
        return rc;
    d->base |= *upper << 32;
    return OP_NEXT;
}

int desc_set_type_bits(struct cpu *c, struct desc *d, u8 bits)
{
    struct mmu_rmw m = {.lin = d->lin + 5, .size = 1, .acc = MMU_SYSTEM};
    int rc = mmu_rmw_slow(c, &m, true);

    if (rc)
        return rc;
    __atomic_fetch_or((u8 *)m.p, bits, __ATOMIC_SEQ_CST);
    mmu_rmw_end(c, &m);
    d->hi |= (u32)bits << 8;
    d->ar |= bits;
    return OP_NEXT;
}

int desc_set_accessed(struct cpu *c, struct desc *d)
{
    if (d->ar & SEG_TYPE_A)
        return OP_NEXT;
    return desc_set_type_bits(c, d, SEG_TYPE_A);
}

void seg_set(struct cpu *c, unsigned seg, const struct desc *d, u16 sel)
{
    c->seg[seg] = (struct cpu_seg){.base = d->base, .limit = d->limit, .ar = d->ar, .sel = sel};
}

/* AMD's CPUs keep the base unless CPUID.80000021H:EAX[6] (NullSelectorClearsBase) says otherwise. */
static bool null_keeps_base(const struct cpu *c)
{
    return cpu_vendor_amd(c) && !guest_cpuid_bit(c, 0x80000021, 0, CPUID_EAX, 6);
}

void seg_set_null(struct cpu *c, unsigned seg, u16 sel)
{
    struct cpu_seg *s = &c->seg[seg];

    s->sel = sel;
    if (seg == SEG_SS) {
        /* B set: the width is 64 bits by mode, and stays sane if CS ever says otherwise. */
        *s = (struct cpu_seg){.sel = sel, .ar = SEG_AR_UNUSABLE | SEG_AR_DB | (u32)c->cpl << SEG_AR_DPL_SHIFT};
        return;
    }
    s->ar = SEG_AR_UNUSABLE;
    if ((seg == SEG_FS || seg == SEG_GS) && cpu_long(c) && null_keeps_base(c))
        return;
    s->base = 0;
    s->limit = 0;
}

void seg_set_vm86(struct cpu *c, unsigned seg, u16 sel)
{
    c->seg[seg] = (struct cpu_seg){.sel = sel, .base = (u64)sel << 4, .limit = 0xffff, .ar = AR_VM86};
}

void seg_set_real(struct cpu *c, unsigned seg, u16 sel)
{
    struct cpu_seg *s = &c->seg[seg];

    if (c->rflags & RFLAGS_VM) {
        seg_set_vm86(c, seg, sel);
        return;
    }
    /* Real mode leaves limit and size as protected mode set them ("unreal mode"). */
    if (s->ar & SEG_AR_UNUSABLE || !(s->ar & SEG_AR_P))
        s->limit = 0xffff;
    s->ar = (s->ar & (SEG_AR_DB | SEG_AR_G)) | (seg == SEG_CS ? AR_REAL_CODE : AR_REAL_DATA);
    s->sel = sel;
    s->base = (u64)sel << 4;
}

int seg_check_stack(struct cpu *c, u16 sel, unsigned cpl, u8 vector, u32 ext, struct desc *d)
{
    u32 err = SEL_ERR(sel) | ext;
    int rc;

    if (SEL_NULL(sel))
        return cpu_raise_err(c, vector, ext);
    rc = desc_fetch(c, sel, vector, err, d);
    if (rc)
        return rc;
    if ((sel & SEL_RPL) != cpl || desc_dpl(d) != cpl || !desc_is_writable_data(d))
        return cpu_raise_err(c, vector, err);
    if (!desc_present(d))
        return cpu_raise_err(c, EXC_SS, err);
    return desc_set_accessed(c, d);
}

static int load_stack(struct cpu *c, u16 sel)
{
    struct desc d;
    int rc;

    if (SEL_NULL(sel) && c->mode == MODE_64 && c->cpl < 3 && (sel & SEL_RPL) == c->cpl) {
        seg_set_null(c, SEG_SS, sel);
        return OP_NEXT;
    }
    rc = seg_check_stack(c, sel, c->cpl, EXC_GP, 0, &d);
    if (rc)
        return rc;
    seg_set(c, SEG_SS, &d, sel);
    return OP_NEXT;
}

static int load_data(struct cpu *c, unsigned seg, u16 sel)
{
    struct desc d;
    u32 err = SEL_ERR(sel);
    int rc;

    if (SEL_NULL(sel)) {
        seg_set_null(c, seg, sel);
        return OP_NEXT;
    }
    rc = desc_fetch(c, sel, EXC_GP, err, &d);
    if (rc)
        return rc;
    if (!desc_is_segment(&d) || (desc_is_code(&d) && !(d.ar & SEG_TYPE_RW)))
        return cpu_raise_err(c, EXC_GP, err);
    if (!desc_is_conforming(&d) && ((sel & SEL_RPL) > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
        return cpu_raise_err(c, EXC_GP, err);
    if (!desc_present(&d))
        return cpu_raise_err(c, EXC_NP, err);
    rc = desc_set_accessed(c, &d);
    if (rc)
        return rc;
    seg_set(c, seg, &d, sel);
    return OP_NEXT;
}

int seg_load(struct cpu *c, unsigned seg, u16 sel)
{
    if (!cpu_protected(c)) {
        seg_set_real(c, seg, sel);
        return OP_NEXT;
    }
    return seg == SEG_SS ? load_stack(c, sel) : load_data(c, seg, sel);
}

void seg_drop_privileged(struct cpu *c)
{
    static const u8 data[] = {SEG_ES, SEG_FS, SEG_GS, SEG_DS};

    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct cpu_seg *s = &c->seg[data[i]];
        bool conforming = (s->ar & (SEG_TYPE_CODE | SEG_TYPE_EC)) == (SEG_TYPE_CODE | SEG_TYPE_EC);

        if (s->ar & SEG_AR_UNUSABLE || conforming)
            continue;
        if (((s->ar >> SEG_AR_DPL_SHIFT) & 3) < c->cpl)
            seg_set_null(c, data[i], 0);
    }
}

void cpu_set_cpl(struct cpu *c, unsigned cpl)
{
    c->cpl = (u8)cpl;
    c->seg[SEG_SS].ar = (c->seg[SEG_SS].ar & ~SEG_AR_DPL) | (u32)cpl << SEG_AR_DPL_SHIFT;
    cpu_mode_update(c);
}

int seg_check_rip(struct cpu *c, const struct desc *d, u64 rip, u32 ext)
{
    bool good = cpu_long(c) && d->ar & SEG_AR_L ? addr_canonical(rip) : rip <= d->limit;

    return good ? OP_NEXT : cpu_raise_err(c, EXC_GP, ext);
}
