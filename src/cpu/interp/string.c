// SPDX-License-Identifier: MIT
// MOVS, STOS, LODS, CMPS and SCAS, alone and repeated.

/*
 * Theory of operation
 *
 * A repeated instruction alternates between two ways of making progress. The bulk way
 * takes a run of elements that the TLB maps for direct access and that is contiguous in the host's memory
 * on each side, be it over many pages, and gives it to the host's own repeated instruction: overlap
 * and the stopping rule of REPE/REPNE are then exact by construction. Long runs matter: the host's
 * fast strings take a while to start, and fill a cache differently when they know that much will follow. Downwards,
 * and where an end may come early, a run stays within a page.
 *
 * The single way does one element through the slow paths; it takes page crossings, MMIO, code
 * pages, whatever the TLB cannot be refilled with without a fault or a change of page tables (after which the bulk way
 * goes on), and every element of the legacy modes.
 *
 * Registers are committed after each step, so a fault leaves them at the failing
 * element. After every BUDGET's worth of work a request is looked for, and taken by OP_AGAIN.
 */

#include "cpu/interp/alu.h"
#include "cpu/mmu/stlb.h"

#define BUDGET      (1 << 20) /* bytes that may be moved before a request is looked for, */
#define SINGLE_COST 2048      /* and what a step counts that moves one element, */
#define BULK_COST   256       /* or, beside its bytes, many */
#define RUN_MAX     (1u << 20)

/* Index registers and the count, by the address size. */
static ALWAYS_INLINE u64 areg(const struct cpu *c, const struct insn *in, unsigned r)
{
    return c->r[r] & (~0ull >> in->ea_shift);
}

static ALWAYS_INLINE void areg_add(struct cpu *c, const struct insn *in, unsigned r, u64 n)
{
    if (likely(in->ea_shift == 0))
        c->r[r] += n;
    else if (in->ea_shift == 32)
        c->r[r] = (u32)(c->r[r] + n);
    else
        *(u16 *)&c->r[r] = (u16)(c->r[r] + n);
}

/* Distance from one element to the next. */
static ALWAYS_INLINE u64 stride(const struct cpu *c, unsigned size)
{
    return c->rflags & RFLAGS_DF ? -(u64)size : size;
}

/* Linear address of the element at rSI (in the source segment) or rDI (in ES). */
static ALWAYS_INLINE int element(struct cpu *c, const struct insn *in, unsigned r, unsigned size,
                                 bool write, u64 *lin)
{
    u64 ea = areg(c, in, r);

    if (unlikely(in->flags & INSN_LEGACY))
        return seg_access(c, r == REG_RSI ? in->seg : SEG_ES, ea, size, write, lin);
    *lin = ea + (r == REG_RSI ? c->seg[in->seg].base : 0);
    return OP_NEXT;
}

/* One element, without the count. Results as of a store; registers move on success. */
#define SINGLE(bits)                                                                               \
    static ALWAYS_INLINE int load##bits(struct cpu *c, const struct insn *in, unsigned r,          \
                                        u##bits *v)                                                \
    {                                                                                              \
        u64 lin;                                                                                   \
        int rc = element(c, in, r, bits / 8, false, &lin);                                         \
        return rc ? rc : lin_ld##bits(c, lin, v, r == REG_RSI ? insn_acc(in) : 0);                 \
    }                                                                                              \
    static ALWAYS_INLINE int store##bits(struct cpu *c, const struct insn *in, u##bits v)          \
    {                                                                                              \
        u64 lin;                                                                                   \
        int rc = element(c, in, REG_RDI, bits / 8, true, &lin);                                    \
        return rc ? rc : lin_st##bits(c, lin, v, 0);                                               \
    }                                                                                              \
    static int movs##bits(struct cpu *c, const struct insn *in)                                    \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = load##bits(c, in, REG_RSI, &v);                                                   \
        if (!rc)                                                                                   \
            rc = store##bits(c, in, v);                                                            \
        if (unlikely(rc < 0))                                                                      \
            return rc;                                                                             \
        areg_add(c, in, REG_RSI, stride(c, bits / 8));                                             \
        areg_add(c, in, REG_RDI, stride(c, bits / 8));                                             \
        return rc;                                                                                 \
    }                                                                                              \
    static int stos##bits(struct cpu *c, const struct insn *in)                                    \
    {                                                                                              \
        int rc = store##bits(c, in, (u##bits)c->r[REG_RAX]);                                       \
        if (likely(rc >= 0))                                                                       \
            areg_add(c, in, REG_RDI, stride(c, bits / 8));                                         \
        return rc;                                                                                 \
    }                                                                                              \
    static int lods##bits(struct cpu *c, const struct insn *in)                                    \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = load##bits(c, in, REG_RSI, &v);                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        reg_st##bits(c, REG_RAX * 8, v);                                                           \
        areg_add(c, in, REG_RSI, stride(c, bits / 8));                                             \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int cmps##bits(struct cpu *c, const struct insn *in)                                    \
    {                                                                                              \
        u##bits a, b;                                                                              \
        int rc = load##bits(c, in, REG_RSI, &a);                                                   \
        if (!rc)                                                                                   \
            rc = load##bits(c, in, REG_RDI, &b);                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        exec_cmp##bits(c, a, b);                                                                   \
        areg_add(c, in, REG_RSI, stride(c, bits / 8));                                             \
        areg_add(c, in, REG_RDI, stride(c, bits / 8));                                             \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int scas##bits(struct cpu *c, const struct insn *in)                                    \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = load##bits(c, in, REG_RDI, &v);                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        exec_cmp##bits(c, (u##bits)c->r[REG_RAX], v);                                              \
        areg_add(c, in, REG_RDI, stride(c, bits / 8));                                             \
        return OP_NEXT;                                                                            \
    }
SINGLE(8)
SINGLE(16)
SINGLE(32)
SINGLE(64)

/* A run in bulk: host addresses of its first elements, how many, and what REP CMPS/SCAS left. */
struct run {
    u8 *src, *dst;
    u64 n;
    u64 acc;
    bool down;
    u16 cc;
};

/*
 * The host's own instruction does the run. The ABI wants DF clear, so it is set for the one
 * instruction only.
 */
#define HOST_REP(text, run, n)                                                                     \
    do {                                                                                           \
        void *si_ = (run)->src, *di_ = (run)->dst;                                                 \
        if ((run)->down)                                                                           \
            __asm__ volatile("std\n\t" text "\n\tcld"                                              \
                             : "+S"(si_), "+D"(di_), "+c"(n)                                       \
                             : "a"((run)->acc)                                                     \
                             : "memory", "cc");                                                    \
        else                                                                                       \
            __asm__ volatile(text                                                                  \
                             : "+S"(si_), "+D"(di_), "+c"(n)                                       \
                             : "a"((run)->acc)                                                     \
                             : "memory", "cc");                                                    \
    } while (0)

/* CMPS and SCAS give flags; CLD changes none of those that are taken. */
#define HOST_REP_CC(text, run, n)                                                                  \
    do {                                                                                           \
        void *si_ = (run)->src, *di_ = (run)->dst;                                                 \
        u64 a_ = (run)->acc;                                                                       \
        if ((run)->down)                                                                           \
            __asm__ volatile("std\n\t" text "\n\tcld" CC_SAVE                                      \
                             : "+S"(si_), "+D"(di_), "+c"(n), "+a"(a_)                             \
                             :                                                                     \
                             : "memory", "cc");                                                    \
        else                                                                                       \
            __asm__ volatile(text CC_SAVE                                                          \
                             : "+S"(si_), "+D"(di_), "+c"(n), "+a"(a_)                             \
                             :                                                                     \
                             : "memory", "cc");                                                    \
        (run)->cc = (u16)a_;                                                                       \
    } while (0)

/* Each returns the number of elements not done. */
typedef u64 bulk_fn(struct run *run, bool repne);

#define BULK(bits, sfx)                                                                            \
    static u64 bulk_movs##bits(struct run *run, bool repne)                                        \
    {                                                                                              \
        u64 n = run->n;                                                                            \
        HOST_REP("rep movs" sfx, run, n);                                                          \
        return n;                                                                                  \
    }                                                                                              \
    static u64 bulk_stos##bits(struct run *run, bool repne)                                        \
    {                                                                                              \
        u64 n = run->n;                                                                            \
        HOST_REP("rep stos" sfx, run, n);                                                          \
        return n;                                                                                  \
    }                                                                                              \
    static u64 bulk_cmps##bits(struct run *run, bool repne)                                        \
    {                                                                                              \
        u64 n = run->n;                                                                            \
        if (repne)                                                                                 \
            HOST_REP_CC("repne cmps" sfx, run, n);                                                 \
        else                                                                                       \
            HOST_REP_CC("repe cmps" sfx, run, n);                                                  \
        return n;                                                                                  \
    }                                                                                              \
    static u64 bulk_scas##bits(struct run *run, bool repne)                                        \
    {                                                                                              \
        u64 n = run->n;                                                                            \
        if (repne)                                                                                 \
            HOST_REP_CC("repne scas" sfx, run, n);                                                 \
        else                                                                                       \
            HOST_REP_CC("repe scas" sfx, run, n);                                                  \
        return n;                                                                                  \
    }
BULK(8, "b")
BULK(16, "w")
BULK(32, "l")
BULK(64, "q")

/* A string instruction. insn.x: [0] index into this table. */
struct string_op {
    op_fn *single[4];
    bulk_fn *bulk[4]; /* by size; NULL: none */
    bool src, dst, dst_written, compares;
};

#define SIZES(name)                                                                                \
    {                                                                                              \
        name##8, name##16, name##32, name##64                                                      \
    }
static const struct string_op string_ops[] = {
    {SIZES(movs), SIZES(bulk_movs), .src = true, .dst = true, .dst_written = true},
    {SIZES(stos), SIZES(bulk_stos), .dst = true, .dst_written = true},
    {SIZES(lods), {NULL}, .src = true},
    {SIZES(cmps), SIZES(bulk_cmps), .src = true, .dst = true, .compares = true},
    {SIZES(scas), SIZES(bulk_scas), .dst = true, .compares = true},
};

/*
 * How many of (n) elements from the one at rSI or rDI on, in the direction of DF, come before the address
 * wraps and, downwards, lie in its page. 0 when the first already crosses. 64-bit mode only.
 */
static u64 run_length(const struct cpu *c, const struct insn *in, unsigned r, u64 n, unsigned size,
                      u64 *lin)
{
    u64 ea = areg(c, in, r), max = ~0ull >> in->ea_shift, at, room, wrap;

    *lin = at = ea + (r == REG_RSI ? c->seg[in->seg].base : 0);
    at &= ~PAGE_MASK;
    if (ea > max - (size - 1))
        return 0;
    if (c->rflags & RFLAGS_DF) {
        room = at + size > PAGE_SIZE ? 0 : at / size + 1;
        wrap = ea / size + 1;
    } else {
        room = RUN_MAX / size;
        wrap = (max - ea - (size - 1)) / size + 1;
    }
    if (wrap < room)
        room = wrap;
    return room < n ? room : n;
}

/*
 * Cut (*n) down to the elements that are contiguous from the one at (lin) on, in the direction of DF. Within its page they
 * are where an end may come early, and downwards, where run_length() has seen to it.
 */
static void run_find(struct cpu *c, const struct string_op *s, u64 lin, u64 *n, unsigned size,
                     bool write, u8 **host)
{
    bool down = c->rflags & RFLAGS_DF;
    u64 bytes = down ? size : *n * size, room = PAGE_SIZE - (lin & ~PAGE_MASK), len;

    if (!*n)
        return;
    if (s->compares && bytes > room)
        bytes = room;
    len = mmu_run(c, lin, bytes, write, host);
    if (!down)
        *n = len / size;
    else if (len < size)
        *n = 0;
}

/* Elements done in bulk; 0: the single way must have the next one. Commits all but rCX. */
static u64 bulk_step(struct cpu *c, const struct insn *in, const struct string_op *s, u64 count)
{
    bulk_fn *bulk = s->bulk[size_index(in->size)];
    struct run run = {.n = count, .acc = c->r[REG_RAX], .down = c->rflags & RFLAGS_DF};
    u64 src = 0, dst = 0, done;

    if (in->flags & INSN_LEGACY || !bulk)
        return 0;
    if (s->src)
        run.n = run_length(c, in, REG_RSI, run.n, in->size, &src);
    if (s->dst && run.n)
        run.n = run_length(c, in, REG_RDI, run.n, in->size, &dst);
    if (s->src)
        run_find(c, s, src, &run.n, in->size, false, &run.src);
    if (s->dst)
        run_find(c, s, dst, &run.n, in->size, s->dst_written, &run.dst);
    if (!run.n)
        return 0;
    done = run.n - bulk(&run, in->flags & INSN_REPNE);
    if (s->compares)
        c->cc = run.cc;
    if (s->src)
        areg_add(c, in, REG_RSI, done * stride(c, in->size));
    if (s->dst)
        areg_add(c, in, REG_RDI, done * stride(c, in->size));
    return done;
}

/* REPE goes on while ZF, REPNE while not: SDM 2B REP. */
static bool goes_on(const struct cpu *c, const struct insn *in, const struct string_op *s)
{
    return !s->compares || !(c->cc & CC_ZF) == !!(in->flags & INSN_REPNE);
}

static int rep(struct cpu *c, const struct insn *in)
{
    const struct string_op *s = &string_ops[in->x[0]];
    int budget = BUDGET;

    for (;;) {
        u64 left = areg(c, in, REG_RCX), done;
        int rc = OP_NEXT;

        if (!left)
            return OP_NEXT;
        done = c->rflags & RFLAGS_TF ? 0 : bulk_step(c, in, s, left);
        budget -= done ? BULK_COST + (int)(done * in->size) : SINGLE_COST;
        if (!done) {
            rc = s->single[size_index(in->size)](c, in);
            if (rc < 0)
                return rc;
            done = 1;
        }
        areg_add(c, in, REG_RCX, -done);
        if (done == left || !goes_on(c, in, s))
            return rc;
        if (rc == OP_STOP || c->rflags & RFLAGS_TF)
            return OP_AGAIN;
        if (budget > 0)
            continue;
        if (atomic_load_explicit(&c->request, memory_order_relaxed))
            return OP_AGAIN;
        budget = BUDGET;
    }
}

/* (arg): the mnemonic's place in string_ops, as a pointer into it. */
static int lower_string(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct string_op *s = arg;

    if (d->map != 0 || d->enc != 0)
        return -ENOENT; /* the SSE2 instructions MOVSD and CMPSD */
    in->seg = decoded_source_seg(d);
    in->flags |= in->seg == SEG_SS ? INSN_SS : 0;
    in->size = d->opsize;
    in->x[0] = (u8)(s - string_ops);
    in->op = in->flags & (INSN_REP | INSN_REPNE) ? rep : s->single[size_index(d->opsize)];
    return 0;
}

#define ROWS(NAME, n)                                                                              \
    {ZYDIS_MNEMONIC_##NAME##B, lower_string, &string_ops[n]},                                      \
        {ZYDIS_MNEMONIC_##NAME##W, lower_string, &string_ops[n]},                                  \
        {ZYDIS_MNEMONIC_##NAME##D, lower_string, &string_ops[n]},                                  \
        {ZYDIS_MNEMONIC_##NAME##Q, lower_string, &string_ops[n]},

const struct op_row ops_string[] = {
    ROWS(MOVS, 0) ROWS(STOS, 1) ROWS(LODS, 2) ROWS(CMPS, 3) ROWS(SCAS, 4){0},
};
