// SPDX-License-Identifier: MIT
// XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS: SDM 1 13.7-13.12, SDM 2.

#include "cpu/mmu/access.h"
#include "cpu/xstate/component.h"
#include "cpu/xstate/ops.h"

#include <string.h>

/*
 * Theory of operation. Both directions go through an image in host memory that has
 * Intel's standard layout, whatever the guest's format and layout: areas move between that image's place
 * and the guest's place. A save first collects the pieces that will be written, probes
 * them all, then stores: a fault leaves guest memory as it was. A restore loads all it
 * needs and checks it before the first register changes.
 */

/* Part of an image: where it lies in the staging buffer and in the guest's image. */
struct piece {
    u32 from, to, len;
};

#define PIECES_MAX 12

struct save {
    struct cpu *c;
    unsigned count;
    struct piece piece[PIECES_MAX];
    u32 extent; /* bytes of the guest's image, for segment limits */
    _Alignas(64) u8 img[XSTATE_MAX_SIZE];
};

static void save_piece(struct save *s, u32 from, u32 to, u32 len)
{
    if (!len)
        return;
    s->piece[s->count++] = (struct piece){from, to, len};
    if (to + len > s->extent)
        s->extent = to + len;
}

/* What all of the family check first: SDM 2 XSAVE "Exceptions". OP_NEXT or OP_FAULT. */
static int check_usable(struct cpu *c, const struct insn *in)
{
    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(c);
    if (c->cr0 & CR0_TS)
        return cpu_raise(c, EXC_NM);
    if (in->x[0] & XS_SUPERVISOR && c->cpl)
        return cpu_raise_gp(c);
    return OP_NEXT;
}

static int image_lin(struct cpu *c, const struct insn *in, u32 size, bool write, u64 *lin)
{
    int rc = insn_lin(c, in, size, write, lin);

    if (rc)
        return rc;
    return IS_ALIGNED(*lin, 64) ? OP_NEXT : cpu_raise_gp(c);
}

/* Components that the instruction is about: RFBM. */
static u64 requested(const struct cpu *c, const struct insn *in)
{
    u64 enabled = c->xcr0 | (in->x[0] & XS_SUPERVISOR ? c->xss : 0);

    return enabled & ((u64)(u32)c->r[REG_RDX] << 32 | (u32)c->r[REG_RAX]);
}

/* The legacy region: what of (save) and MXCSR is written where. */
static void save_legacy(struct save *s, u64 save, bool mxcsr, bool long_mode, bool wide)
{
    if (save & XCR0_X87) {
        xstate_pack_x87(s->c, wide, s->img);
        save_piece(s, 0, 0, XSTATE_MXCSR);
        save_piece(s, 32, 32, XSTATE_X87_END - 32);
    }
    if (mxcsr) {
        xstate_pack_mxcsr(s->c, s->img);
        save_piece(s, XSTATE_MXCSR, XSTATE_MXCSR, 8);
    }
    if (save & XCR0_SSE) {
        xstate_pack_xmm(s->c, long_mode, s->img);
        save_piece(s, XSTATE_XMM, XSTATE_XMM, long_mode ? 256 : 128);
    }
}

static void save_extended(struct save *s, u64 save, u64 inuse, u64 xcomp, bool long_mode)
{
    bool compact = xcomp & XCOMP_COMPACTED;

    for (unsigned id = 2; id < XSTATE_IDS; id++) {
        u32 at = xstate_components[id].offset, len;

        if (!(save & BIT(id)) || !xstate_components[id].size)
            continue;
        len = xstate_live_size(id, long_mode);
        if (inuse & BIT(id))
            xstate_pack(s->c, id, long_mode, s->img + at);
        else
            memset(s->img + at, 0, len);
        save_piece(s, at, xstate_offset_in(&s->c->xlayout, xcomp, compact, id), len);
    }
}

static void save_header(struct save *s, u64 bv, u64 xcomp)
{
    memcpy(s->img + XSTATE_BV_OFFSET, &bv, 8);
    memcpy(s->img + XSTATE_XCOMP_OFFSET, &xcomp, 8);
    save_piece(s, XSTATE_BV_OFFSET, XSTATE_BV_OFFSET, xcomp ? 16 : 8);
}

static int save_commit(struct save *s, const struct insn *in)
{
    unsigned acc = insn_acc(in);
    int rc, ret = OP_NEXT;
    u64 lin;

    rc = image_lin(s->c, in, s->extent, true, &lin);
    for (unsigned i = 0; i < s->count && rc == OP_NEXT; i++)
        rc = mmu_probe(s->c, lin + s->piece[i].to, s->piece[i].len, acc | MMU_WRITE);
    if (rc)
        return rc;
    for (unsigned i = 0; i < s->count; i++) {
        const struct piece *p = &s->piece[i];

        rc = mmu_store(s->c, lin + p->to, s->img + p->from, p->len, acc);
        if (rc < 0)
            return rc;
        if (rc > ret)
            ret = rc;
    }
    return ret;
}

int op_xsave(struct cpu *c, const struct insn *in)
{
    bool long_mode = c->mode == MODE_64, compact = in->x[0] & XS_COMPACT;
    struct save s; /* not cleared: (img) is large, and only its pieces are used */
    u64 rfbm = requested(c, in), inuse, save, old_bv = 0, lin;
    int rc = check_usable(c, in);

    if (rc)
        return rc;
    rc = image_lin(c, in, XSTATE_EXT_OFFSET, true, &lin);
    if (rc == OP_NEXT && !compact)
        rc = mmu_ld64(c, lin + XSTATE_BV_OFFSET, &old_bv, insn_acc(in));
    if (rc)
        return rc;

    s.c = c;
    s.count = 0;
    s.extent = XSTATE_EXT_OFFSET;
    inuse = xstate_inuse_mode(c, long_mode) & ~c->xfd; /* SDM 1 13.14: XFD saves as initial */
    save = rfbm;
    if (compact) {
        if (c->vec.x87.mxcsr != MXCSR_INIT)
            inuse |= XCR0_SSE; /* here MXCSR counts as SSE state */
        save &= inuse;
        save_legacy(&s, save, save & XCR0_SSE, long_mode, in->x[0] & XS_WIDE);
        save_extended(&s, save, inuse, rfbm | XCOMP_COMPACTED, long_mode);
        save_header(&s, save, rfbm | XCOMP_COMPACTED);
        return save_commit(&s, in);
    }
    if (in->x[0] & XS_OPT)
        save &= inuse;
    save_legacy(&s, save, rfbm & (XCR0_SSE | XCR0_AVX), long_mode, in->x[0] & XS_WIDE);
    save_extended(&s, save, inuse, 0, long_mode);
    save_header(&s, (old_bv & ~rfbm) | (inuse & rfbm), 0);
    return save_commit(&s, in);
}

struct restore {
    u64 bv, xcomp;
    u64 load, init;
    bool compact, load_mxcsr;
    u32 mxcsr;
    _Alignas(64) u8 img[XSTATE_MAX_SIZE];
};

/* The header's rules: SDM 1 13.8, 13.12. True when it can be restored. */
static bool header_valid(const struct cpu *c, const struct restore *r, bool supervisor)
{
    u64 enabled = c->xcr0 | (supervisor ? c->xss : 0), held = r->xcomp & ~XCOMP_COMPACTED;

    if (r->compact)
        return !(held & ~enabled) && !(r->bv & ~held) &&
               !xstate_nonzero(r->img + XSTATE_RESERVED_OFFSET, 48);
    return !supervisor && !(r->bv & ~enabled) && !xstate_nonzero(r->img + XSTATE_XCOMP_OFFSET, 16);
}

/* Read and judge the header and MXCSR; decides what is loaded and what made initial. */
static int restore_plan(struct cpu *c, const struct insn *in, u64 lin, struct restore *r)
{
    u64 rfbm = requested(c, in);
    int rc = mmu_load(c, lin, r->img, XSTATE_EXT_OFFSET, insn_acc(in));

    if (rc)
        return rc;
    memcpy(&r->bv, r->img + XSTATE_BV_OFFSET, 8);
    memcpy(&r->xcomp, r->img + XSTATE_XCOMP_OFFSET, 8);
    memcpy(&r->mxcsr, r->img + XSTATE_MXCSR, 4);
    r->compact = r->xcomp & XCOMP_COMPACTED;
    if (!header_valid(c, r, in->x[0] & XS_SUPERVISOR))
        return cpu_raise_gp(c);
    r->load = rfbm & r->bv;
    r->init = rfbm & ~r->bv;
    /* The standard form loads MXCSR even when it makes XMM initial: SDM 1 13.8.1. */
    r->load_mxcsr = r->compact ? r->load & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);
    if (r->load_mxcsr && r->mxcsr & ~MXCSR_VALID)
        return cpu_raise_gp(c);
    if (r->load & c->xfd) {
        c->xfd_err |= r->load & c->xfd;
        return cpu_raise(c, EXC_NM);
    }
    return OP_NEXT;
}

/* Bring the extended areas that will be loaded to their standard places in r->img. */
static int restore_fetch(struct cpu *c, const struct insn *in, struct restore *r)
{
    bool long_mode = c->mode == MODE_64;
    u32 extent = XSTATE_EXT_OFFSET, at[XSTATE_IDS], len[XSTATE_IDS];
    u64 lin;
    int rc;

    for (unsigned id = 2; id < XSTATE_IDS; id++) {
        if (!(r->load & BIT(id)))
            continue;
        at[id] = xstate_offset_in(&c->xlayout, r->xcomp, r->compact, id);
        len[id] = xstate_live_size(id, long_mode);
        if (at[id] + len[id] > extent)
            extent = at[id] + len[id];
    }
    rc = image_lin(c, in, extent, false, &lin);
    for (unsigned id = 2; id < XSTATE_IDS && rc == OP_NEXT; id++) {
        if (r->load & BIT(id) && len[id])
            rc = mmu_load(c, lin + at[id], r->img + xstate_components[id].offset, len[id],
                          insn_acc(in));
    }
    return rc;
}

static void restore_legacy(struct cpu *c, const struct restore *r, bool long_mode, bool wide)
{
    if (r->load & XCR0_X87)
        xstate_unpack_x87(c, wide, r->img);
    else if (r->init & XCR0_X87)
        xstate_unpack_x87(c, wide, NULL);
    if (r->load & XCR0_SSE)
        xstate_unpack_xmm(c, long_mode, r->img);
    else if (r->init & XCR0_SSE)
        xstate_unpack_xmm(c, long_mode, NULL);
    if (r->load_mxcsr)
        c->vec.x87.mxcsr = r->mxcsr;
    else if (r->compact && r->init & XCR0_SSE)
        c->vec.x87.mxcsr = MXCSR_INIT;
}

int op_xrstor(struct cpu *c, const struct insn *in)
{
    bool long_mode = c->mode == MODE_64;
    struct restore r;
    u64 lin;
    int rc = check_usable(c, in);

    if (rc == OP_NEXT)
        rc = image_lin(c, in, XSTATE_EXT_OFFSET, false, &lin);
    if (rc == OP_NEXT)
        rc = restore_plan(c, in, lin, &r);
    if (rc == OP_NEXT)
        rc = restore_fetch(c, in, &r);
    if (rc)
        return rc;
    if (xstate_reserve(c, r.load))
        return cpu_no_memory(c);

    restore_legacy(c, &r, long_mode, in->x[0] & XS_WIDE);
    for (unsigned id = 2; id < XSTATE_IDS; id++) {
        if (r.load & BIT(id))
            xstate_unpack(c, id, long_mode, r.img + xstate_components[id].offset);
        else if (r.init & BIT(id))
            xstate_unpack(c, id, long_mode, NULL);
    }
    return OP_NEXT;
}
