// SPDX-License-Identifier: MIT
// Running stubs that work with MXCSR or the x87 unit: what goes in, what comes out, #XM.

/*
 * Theory of operation
 *
 * The instruction never runs with an exception unmasked: the host would turn it into SIGFPE.
 * With all of them masked in the guest as well (nearly always) its MXCSR is simply used.
 * Otherwise it runs masked with clear flags, and the flags that come back say which exceptions
 * it would have raised; destinations are put back when one of them is unmasked. SDM 1 11.5:
 *   - an unmasked pre-computation exception (IE, DE, ZE) keeps the others from being detected;
 *   - unmasked underflow is signalled for a tiny result even when it is exact, where masked
 *     underflow sets no flag; and FTZ has no effect. Running once more with FTZ tells, because
 *     flushing is reported as underflow. (PE, set beside an unmasked OE or UE, then says whether the
 *     masked result is inexact; a CPU says whether the result with an unbounded exponent is.
 *     VCVTPS2PH does not heed FTZ: its exact denormals raise nothing here.)
 *
 * x87 exceptions need none of this: they are recorded in FSW and reported by the next waiting
 * instruction, which is vec_check()'s business.
 */

#include "cpu/vec/exec.h"
#include "cpu/vec/host.h"
#include "cpu/vec/x87.h"

#define MX_PRE 0x07u /* IE, DE, ZE */
#define MX_UE 0x10u

#define FX_X87_SIZE sizeof(struct cpu_x87)
_Static_assert(sizeof(struct cpu_x87) == 160, "FXSAVE layout");

/* Registers that an instruction may write, to be put back when it faults after all. */
struct snapshot {
    u64 r[REG_IPBASE];
    u16 cc;
    u64 k[8];
    u8 zmm[32][64];
};

static void snapshot_take(const struct cpu *c, struct snapshot *p)
{
    memcpy(p->r, c->r, sizeof(p->r));
    p->cc = c->cc;
    memcpy(p->k, c->vec.k, sizeof(p->k));
    memcpy(p->zmm, c->vec.zmm, sizeof(p->zmm));
}

static void snapshot_restore(struct cpu *c, const struct snapshot *p)
{
    memcpy(c->r, p->r, sizeof(p->r));
    c->cc = p->cc;
    memcpy(c->vec.k, p->k, sizeof(p->k));
    memcpy(c->vec.zmm, p->zmm, sizeof(p->zmm));
}

static void fx_in(const struct cpu *c, struct vec_frame *f)
{
    struct cpu_x87 *x = (struct cpu_x87 *)f->fx;

    memcpy(x, &c->vec.x87, FX_X87_SIZE);
    x->mxcsr = MXCSR_MASKS;
    x->rsvd = 0;
}

static void fx_out(struct cpu *c, const struct insn *in, const struct vec_stub *s, const struct vec_frame *f)
{
    const struct cpu_x87 *x = (const struct cpu_x87 *)f->fx;

    c->vec.x87.fcw = x->fcw;
    c->vec.x87.fsw = x->fsw;
    c->vec.x87.ftw = x->ftw;
    memcpy(c->vec.x87.st, x->st, sizeof(x->st));
    if (s->flags & VEC_X87)
        x87_note_pointers(c, in);
}

static void run(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem,
                struct vec_frame *f, u32 mxcsr)
{
    f->mx_host = HOST_MXCSR;
    f->mx_in = mxcsr;
    if (s->flags & VEC_FX)
        fx_in(c, f);
    s->code(c, mem, f, in->x[0]);
}

/* Run with some exception unmasked in the guest. OP_NEXT with (*flags) to be added, or OP_FAULT. */
static int run_unmasked(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem,
                        struct vec_frame *f, u32 *flags)
{
    u32 mx = c->vec.x87.mxcsr, unmasked = ~mx >> 7 & MXCSR_FLAGS;
    u32 base = (mx & 0xffff & ~MXCSR_FLAGS) | MXCSR_MASKS;
    struct snapshot snap;

    snapshot_take(c, &snap);
    if (unmasked & MX_UE) {
        run(c, in, s, mem, f, base | MXCSR_FTZ);
        *flags = f->mx_out & MX_UE;
        snapshot_restore(c, &snap);
        base &= ~(u32)MXCSR_FTZ;
    } else {
        *flags = 0;
    }
    run(c, in, s, mem, f, base);
    *flags |= f->mx_out & MXCSR_FLAGS;
    if (*flags & unmasked & MX_PRE)
        *flags &= MX_PRE;
    if (!(*flags & unmasked))
        return OP_NEXT;
    snapshot_restore(c, &snap);
    c->vec.x87.mxcsr |= *flags;
    return cpu_raise(c, c->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/* Run; everything but FX state and MXCSR is then in (c). */
static int run_frame(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem,
                     struct vec_frame *f, u32 *flags)
{
    u32 mx = c->vec.x87.mxcsr;

    *flags = 0;
    if (!(s->flags & VEC_MXCSR)) {
        run(c, in, s, mem, f, MXCSR_MASKS);
        return OP_NEXT;
    }
    if (s->flags & VEC_QUIET)
        mx |= MXCSR_MASKS;
    if (unlikely((mx & MXCSR_MASKS) != MXCSR_MASKS))
        return run_unmasked(c, in, s, mem, f, flags);
    run(c, in, s, mem, f, mx & 0xffff);
    *flags = f->mx_out & MXCSR_FLAGS;
    return OP_NEXT;
}

int vec_run(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem)
{
    struct vec_frame f;
    u32 flags;
    int rc;

    if (!(s->flags & (VEC_MXCSR | VEC_FX))) {
        s->code(c, mem, NULL, in->x[0]);
        return OP_NEXT;
    }
    rc = run_frame(c, in, s, mem, &f, &flags);
    if (rc)
        return rc;
    if (s->flags & VEC_FX)
        fx_out(c, in, s, &f);
    c->vec.x87.mxcsr |= flags;
    return OP_NEXT;
}

/*
 * An x87 store that left an exception pending may not have stored at all. Whether it did shows
 * by running it on two different patterns. True: it stored, and (mem) is what.
 */
static bool x87_stored(struct cpu *c, const struct insn *in, const struct vec_stub *s, u8 *mem,
                       struct vec_frame *f)
{
    u8 first[64];

    memset(mem, 0x00, s->mem_size);
    run(c, in, s, mem, f, MXCSR_MASKS);
    memcpy(first, mem, s->mem_size);
    memset(mem, 0xff, s->mem_size);
    run(c, in, s, mem, f, MXCSR_MASKS);
    return memcmp(first, mem, s->mem_size) == 0;
}

int vec_run_store(struct cpu *c, const struct insn *in, const struct vec_stub *s, u64 lin, void *mem,
                  vec_store_fn *store)
{
    const struct cpu_x87 *x;
    struct vec_frame f;
    u32 flags;
    int rc;

    if (!(s->flags & (VEC_MXCSR | VEC_FX))) {
        s->code(c, mem, NULL, in->x[0]);
        return store(c, in, lin, mem);
    }
    rc = run_frame(c, in, s, mem, &f, &flags);
    if (rc)
        return rc;
    x = (const struct cpu_x87 *)f.fx;
    if (s->flags & VEC_X87 && unlikely(x->fsw & ~x->fcw & 0x3f) && !x87_stored(c, in, s, mem, &f))
        rc = mmu_probe(c, lin, s->mem_size, insn_acc(in) | MMU_WRITE);
    else
        rc = store(c, in, lin, mem);
    if (rc < 0)
        return rc;
    if (s->flags & VEC_FX)
        fx_out(c, in, s, &f);
    c->vec.x87.mxcsr |= flags;
    return rc;
}
