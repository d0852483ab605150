// SPDX-License-Identifier: MIT
// Gathers and scatters: VSIB addressing, one element at a time, restartable at a fault.

/*
 * Elements are done from the lowest up. Each clears its mask bit, so that after a fault the
 * instruction, run again, goes on with the one that faulted: SDM 2C VGATHERDPS, VPSCATTERDD.
 */

#include "cpu/vec/exec.h"
#include "cpu/vec/lower.h"

#include <Zydis/DecoderTypes.h>
#include <errno.h>

/* What (imm) of such an insn holds. */
struct form {
    u8 data, index; /* vector registers */
    u8 mask;        /* VEX: vector register; EVEX: mask register */
    u8 esize, isize; /* bytes of an element and of an index: 4 or 8 */
    u8 count;
    u8 scale;
    bool evex;
};
_Static_assert(sizeof(struct form) == sizeof(u64), "kept in insn.imm");

static bool active(const struct cpu *c, const struct form *f, unsigned i)
{
    if (f->evex)
        return c->vec.k[f->mask] >> i & 1;
    return c->vec.zmm[f->mask][(i + 1) * f->esize - 1] >> 7;
}

static void done(struct cpu *c, const struct form *f, unsigned i)
{
    if (f->evex)
        c->vec.k[f->mask] &= ~BIT(i);
    else
        memset(&c->vec.zmm[f->mask][i * f->esize], 0, f->esize);
}

/* Mask elements that a fault leaves pending are all ones: the SDM widens the sign bit first. */
static void widen_mask(struct cpu *c, const struct form *f)
{
    for (unsigned i = 0; i < f->count; i++)
        memset(&c->vec.zmm[f->mask][i * f->esize], active(c, f, i) ? 0xff : 0, f->esize);
}

static int element_lin(struct cpu *c, const struct insn *in, const struct form *f, unsigned i, bool write,
                       u64 *lin)
{
    const u8 *p = &c->vec.zmm[f->index][i * f->isize];
    u64 ea, index;
    s32 i32;

    if (f->isize == 4) {
        memcpy(&i32, p, 4);
        index = (u64)(s64)i32;
    } else {
        memcpy(&index, p, 8);
    }
    ea = (c->r[in->base] + (index << f->scale) + (u64)in->disp) & (~0ull >> in->ea_shift);
    if (in->flags & INSN_LEGACY)
        return seg_access(c, in->seg, ea, f->esize, write, lin);
    *lin = ea + c->seg[in->seg].base;
    return OP_NEXT;
}

static const struct vec_stub *availability(const struct form *f)
{
    return f->evex ? &vec_avail_avx512 : &vec_avail_avx;
}

static int op_gather(struct cpu *c, const struct insn *in)
{
    struct form f;
    u64 lin;
    int rc;

    memcpy(&f, &in->imm, sizeof(f));
    rc = vec_check(c, in, availability(&f));
    if (rc)
        return rc;
    if (!f.evex)
        widen_mask(c, &f);
    for (unsigned i = 0; i < f.count; i++) {
        if (!active(c, &f, i))
            continue;
        rc = element_lin(c, in, &f, i, false, &lin);
        if (rc == OP_NEXT)
            rc = mmu_load(c, lin, &c->vec.zmm[f.data][i * f.esize], f.esize, insn_acc(in));
        if (rc)
            return rc;
        done(c, &f, i);
    }
    memset(&c->vec.zmm[f.data][f.count * f.esize], 0, 64 - f.count * f.esize);
    if (f.evex)
        c->vec.k[f.mask] = 0;
    else
        memset(c->vec.zmm[f.mask], 0, 64);
    return OP_NEXT;
}

static int op_scatter(struct cpu *c, const struct insn *in)
{
    int rc, ret = OP_NEXT;
    struct form f;
    u64 lin;

    memcpy(&f, &in->imm, sizeof(f));
    rc = vec_check(c, in, availability(&f));
    if (rc)
        return rc;
    for (unsigned i = 0; i < f.count; i++) {
        if (!active(c, &f, i))
            continue;
        rc = element_lin(c, in, &f, i, true, &lin);
        if (rc == OP_NEXT)
            rc = mmu_store(c, lin, &c->vec.zmm[f.data][i * f.esize], f.esize, insn_acc(in));
        if (rc < 0)
            return rc;
        if (rc > ret)
            ret = rc;
        done(c, &f, i);
    }
    c->vec.k[f.mask] = 0;
    return ret;
}

/* Sizes by mnemonic. */
static bool form_sizes(u16 mnemonic, struct form *f, bool *scatter)
{
    static const struct {
        u16 mnemonic;
        u8 isize, esize;
        bool scatter;
    } rows[] = {
        {ZYDIS_MNEMONIC_VGATHERDPS, 4, 4, false},   {ZYDIS_MNEMONIC_VGATHERDPD, 4, 8, false},
        {ZYDIS_MNEMONIC_VGATHERQPS, 8, 4, false},   {ZYDIS_MNEMONIC_VGATHERQPD, 8, 8, false},
        {ZYDIS_MNEMONIC_VPGATHERDD, 4, 4, false},   {ZYDIS_MNEMONIC_VPGATHERDQ, 4, 8, false},
        {ZYDIS_MNEMONIC_VPGATHERQD, 8, 4, false},   {ZYDIS_MNEMONIC_VPGATHERQQ, 8, 8, false},
        {ZYDIS_MNEMONIC_VSCATTERDPS, 4, 4, true},   {ZYDIS_MNEMONIC_VSCATTERDPD, 4, 8, true},
        {ZYDIS_MNEMONIC_VSCATTERQPS, 8, 4, true},   {ZYDIS_MNEMONIC_VSCATTERQPD, 8, 8, true},
        {ZYDIS_MNEMONIC_VPSCATTERDD, 4, 4, true},   {ZYDIS_MNEMONIC_VPSCATTERDQ, 4, 8, true},
        {ZYDIS_MNEMONIC_VPSCATTERQD, 8, 4, true},   {ZYDIS_MNEMONIC_VPSCATTERQQ, 8, 8, true},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].mnemonic != mnemonic)
            continue;
        f->isize = rows[i].isize;
        f->esize = rows[i].esize;
        *scatter = rows[i].scatter;
        return true;
    }
    return false;
}

int gather_lower(const struct decoded *d, struct insn *in)
{
    struct form f = {.index = d->mem_index, .scale = d->mem_scale, .mask = d->evex_aaa,
                     .evex = d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX};
    bool scatter;

    if (!form_sizes(d->mnemonic, &f, &scatter))
        return -ENOENT;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_VEC && d->op[i].encoding == ENC_REG)
            f.data = d->op[i].reg;
        else if (d->op[i].kind == OPND_VEC && d->op[i].encoding == ENC_VVVV)
            f.mask = d->op[i].reg;
    }
    f.count = d->vl / (f.isize > f.esize ? f.isize : f.esize);
    if (f.evex ? !f.mask || (!scatter && f.data == f.index)
               : f.data == f.index || f.data == f.mask || f.index == f.mask)
        return -ENOENT;
    memcpy(&in->imm, &f, sizeof(f));
    in->op = scatter ? op_scatter : op_gather;
    return 0;
}
