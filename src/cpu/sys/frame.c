// SPDX-License-Identifier: MIT
// Frames pushed on a stack that may not be the current one yet, and the stack pointers in the TSS.

#include "cpu/sys/frame.h"

static int tss_read(struct cpu *c, u32 off, unsigned size, u32 ext, void *buf)
{
    const struct cpu_seg *tr = &c->seg[SEG_TR];

    if (tr->ar & SEG_AR_UNUSABLE || off + size - 1 > tr->limit)
        return cpu_raise_err(c, EXC_TS, SEL_ERR(tr->sel) | ext);
    return mmu_load(c, tr->base + off, buf, size, MMU_SYSTEM);
}

int tss_read_rsp(struct cpu *c, unsigned slot, u32 ext, u64 *rsp)
{
    return tss_read(c, 4 + 8 * slot, 8, ext, rsp);
}

void frame_stack_current(const struct cpu *c, unsigned cpl, bool flat, u32 ext, struct frame_stack *st)
{
    const struct cpu_seg *ss = &c->seg[SEG_SS];

    *st = (struct frame_stack){
        .base = flat ? 0 : ss->base, .limit = ss->limit, .ar = ss->ar, .sp = c->r[REG_RSP], .flat = flat,
        .acc = MMU_SS | (cpl < 3 ? MMU_SYSTEM : 0), .err = ext,
    };
}

int frame_stack_inner(struct cpu *c, unsigned cpl, u32 ext, struct frame_stack *st, struct desc *ss, u16 *sel)
{
    bool tss32 = c->seg[SEG_TR].ar & 8;
    u16 raw[4] = {0};
    int rc;

    rc = tss32 ? tss_read(c, 4 + 8 * cpl, 6, ext, raw) : tss_read(c, 2 + 4 * cpl, 4, ext, raw);
    if (rc)
        return rc;
    *sel = tss32 ? raw[2] : raw[1];
    rc = seg_check_stack(c, *sel, cpl, EXC_TS, ext, ss);
    if (rc)
        return rc;
    *st = (struct frame_stack){
        .base = ss->base, .limit = ss->limit, .ar = ss->ar, .acc = MMU_SS | (cpl < 3 ? MMU_SYSTEM : 0),
        .sp = tss32 ? raw[0] | (u32)raw[1] << 16 : raw[0], .err = SEL_ERR(*sel) | ext,
    };
    return OP_NEXT;
}

static u64 sp_mask(const struct frame_stack *st)
{
    return st->flat ? ~0ull : st->ar & SEG_AR_DB ? 0xffffffff : 0xffff;
}

/* Linear address of (size) bytes at offset (sp), or #SS. */
static int frame_lin(struct cpu *c, const struct frame_stack *st, u64 sp, unsigned size, u64 *lin)
{
    u64 last = sp + size - 1;
    bool good;

    if (st->flat)
        good = addr_canonical(sp) && addr_canonical(last);
    else if (cpu_protected(c) && st->ar & SEG_TYPE_EC)
        good = sp > st->limit && last <= sp_mask(st);
    else
        good = last <= st->limit;
    if (!good)
        return cpu_raise_err(c, EXC_SS, st->err);
    *lin = st->flat ? sp : (u32)(st->base + sp);
    return OP_NEXT;
}

/* A frame that ends at (top) faults: as its values are pushed, so that CR2 is the first to fail. */
static int push_fault(struct cpu *c, const struct frame *f, const struct frame_stack *st, u64 top)
{
    int rc = OP_NEXT;

    for (unsigned i = 1; i <= f->n && rc == OP_NEXT; i++)
        rc = mmu_probe(c, top - i * f->size, f->size, st->acc | MMU_WRITE);
    return rc < 0 ? rc : OP_FAULT;
}

/* The usual case, a frame in one piece, is one store. */
static int push_block(struct cpu *c, const struct frame *f, struct frame_stack *st)
{
    u8 buf[sizeof(f->val)];
    unsigned len = f->n * f->size;
    u64 sp = st->sp - len, lin;
    int rc = frame_lin(c, st, sp, len, &lin);

    if (rc)
        return rc;
    for (unsigned i = 0; i < f->n; i++)
        memcpy(buf + len - (i + 1) * f->size, &f->val[i], f->size);
    rc = mmu_store(c, lin, buf, len, st->acc);
    if (rc == OP_FAULT)
        return push_fault(c, f, st, lin + len);
    if (rc < 0)
        return rc;
    st->sp = sp;
    return OP_NEXT;
}

int frame_push(struct cpu *c, const struct frame *f, struct frame_stack *st)
{
    u64 mask = sp_mask(st), sp = st->sp & mask, lin;
    int rc;

    st->sp = sp;
    if (st->flat || sp >= (unsigned)(f->n * f->size))
        return push_block(c, f, st);
    /* A legacy stack pointer wraps within the frame. */
    for (unsigned pass = 0; pass < 2; pass++) {
        sp = st->sp;
        for (unsigned i = 0; i < f->n; i++) {
            sp = (sp - f->size) & mask;
            rc = frame_lin(c, st, sp, f->size, &lin);
            if (rc == OP_NEXT)
                rc = pass ? mmu_store(c, lin, &f->val[i], f->size, st->acc)
                          : mmu_probe(c, lin, f->size, st->acc | MMU_WRITE);
            if (rc < 0)
                return rc;
        }
    }
    st->sp = sp;
    return OP_NEXT;
}

void frame_stack_commit(struct cpu *c, const struct frame_stack *st)
{
    if (st->flat)
        c->r[REG_RSP] = st->sp;
    else if (st->ar & SEG_AR_DB)
        c->r[REG_RSP] = (u32)st->sp;
    else
        *(u16 *)&c->r[REG_RSP] = (u16)st->sp;
}
