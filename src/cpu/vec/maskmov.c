// SPDX-License-Identifier: MIT
// MASKMOVDQU, VMASKMOVDQU and MASKMOVQ: stores of selected bytes to [rDI].

#include "cpu/vec/exec.h"
#include "cpu/vec/lower.h"
#include "cpu/vec/x87.h"

#include <Zydis/DecoderTypes.h>
#include <errno.h>

/* Store the bytes of (data) whose (mask) byte has its top bit set; all or none. */
static int store_bytes(struct cpu *c, const struct insn *in, const u8 *data, const u8 *mask, unsigned len)
{
    int rc, ret = OP_NEXT;
    u64 lin[16];

    for (unsigned i = 0; i < len; i++) {
        u64 ea = (insn_ea(c, in) + i) & (~0ull >> in->ea_shift);

        if (!(mask[i] >> 7))
            continue;
        lin[i] = ea + c->seg[in->seg].base;
        rc = in->flags & INSN_LEGACY ? seg_access(c, in->seg, ea, 1, true, &lin[i]) : OP_NEXT;
        if (rc == OP_NEXT)
            rc = mmu_probe(c, lin[i], 1, insn_acc(in) | MMU_WRITE);
        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < len; i++) {
        if (!(mask[i] >> 7))
            continue;
        rc = mmu_st8(c, lin[i], data[i], insn_acc(in));
        if (rc < 0)
            return rc;
        if (rc > ret)
            ret = rc;
    }
    return ret;
}

static int op_maskmov_xmm(struct cpu *c, const struct insn *in)
{
    int rc = vec_check(c, in, insn_stub(in));

    return rc ? rc : store_bytes(c, in, c->vec.zmm[in->x[0]], c->vec.zmm[in->x[1]], 16);
}

static int op_maskmov_mmx(struct cpu *c, const struct insn *in)
{
    struct cpu_x87 *x = &c->vec.x87;
    unsigned top = x->fsw >> 11 & 7;
    int rc = vec_check(c, in, insn_stub(in));

    if (rc == OP_NEXT)
        rc = store_bytes(c, in, x->st[(in->x[0] - top) & 7], x->st[(in->x[1] - top) & 7], 8);
    if (rc >= 0)
        x87_enter_mmx(x);
    return rc;
}

/* Segment of the operand, which decoding leaves out because it is implied: DS, or the last override. */
static u8 segment(const struct decoded *d)
{
    u8 seg = SEG_DS;

    for (unsigned i = 0; i < d->prefix_len; i++) {
        switch (d->bytes[i]) {
        case 0x26: seg = SEG_ES; break;
        case 0x2e: seg = SEG_CS; break;
        case 0x36: seg = SEG_SS; break;
        case 0x3e: seg = SEG_DS; break;
        case 0x64: seg = SEG_FS; break;
        case 0x65: seg = SEG_GS; break;
        default: break;
        }
        if (d->mode == MODE_64 && seg != SEG_FS && seg != SEG_GS)
            seg = SEG_DS;
    }
    return seg;
}

int maskmov_lower(const struct decoded *d, struct insn *in)
{
    u8 seg = segment(d);

    in->base = REG_RDI;
    in->index = REG_ZERO;
    in->scale = 0;
    in->disp = 0;
    in->seg = d->mode == MODE_64 && seg == SEG_DS ? SEG_NONE : seg;
    in->flags &= (u8)~INSN_SS;
    in->flags |= seg == SEG_SS ? INSN_SS : 0;
    in->x[0] = d->op[0].reg;
    in->x[1] = d->op[1].reg;
    in->op = d->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ? op_maskmov_mmx : op_maskmov_xmm;
    in->aux = (void *)(d->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ      ? &vec_avail_mmx
                       : d->mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU ? &vec_avail_avx
                                                                   : &vec_avail_sse);
    return 0;
}
