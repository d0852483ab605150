// SPDX-License-Identifier: MIT
// XADD and CMPXCHG*, memory ordering, cache hints, and stores that bypass the caches.

#include "cpu/interp/alu.h"

/* XADD, CMPXCHG: the same asm on guest memory, with and without LOCK. */
#define XADD_ASM(prefix, bits, mod, sfx, place)                                                    \
    __asm__ volatile(prefix "xadd" sfx " %" mod "[s], %[p]" CC_SAVE                                \
                     : [p] "+" place(*p), [s] "+q"(s), "=&a"(cc)                                   \
                     :                                                                             \
                     : "cc", "memory")

/*
 * CMPXCHG needs rAX and the flags need AX: the flags are collected in RDX's place after
 * the accumulator has been moved out. CMPXCHG sets all six, so none is loaded.
 */
#define CMPXCHG_ASM(prefix, mod, sfx, place)                                                       \
    __asm__ volatile(prefix "cmpxchg" sfx " %" mod "[s], %[p]\n\tmovq %%rax, %[acc]" CC_SAVE       \
                     : [p] "+" place(*p), [acc] "=&r"(acc), "+a"(a)                                \
                     : [s] "q"(s)                                                                  \
                     : "cc", "memory")

#define OPS_EXCHANGE(bits, mod, sfx)                                                               \
    static int xadd##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits d = reg_ld##bits(c, in->rm), s = reg_ld##bits(c, in->reg), *p = &d;                \
        u16 cc;                                                                                    \
        XADD_ASM("", bits, mod, sfx, "m");                                                         \
        c->cc = cc;                                                                                \
        reg_st##bits(c, in->reg, s);                                                               \
        reg_st##bits(c, in->rm, d); /* last: it wins when both are the same */                     \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static ALWAYS_INLINE int xadd##bits(struct cpu *c, const struct insn *in, bool lock)           \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        u##bits s = reg_ld##bits(c, in->reg), *p;                                                  \
        u16 cc;                                                                                    \
        int rc = insn_rmw(c, in, &m, bits / 8, lock);                                              \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        p = m.p;                                                                                   \
        if (lock)                                                                                  \
            XADD_ASM("lock ", bits, mod, sfx, "m");                                                \
        else                                                                                       \
            XADD_ASM("", bits, mod, sfx, "m");                                                     \
        c->cc = cc;                                                                                \
        reg_st##bits(c, in->reg, s);                                                               \
        return mmu_rmw_end(c, &m);                                                                 \
    }                                                                                              \
    static int xadd##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return xadd##bits(c, in, false);                                                           \
    }                                                                                              \
    static int xadd##bits##_l(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return xadd##bits(c, in, true);                                                            \
    }                                                                                              \
    static int cmpxchg##bits##_r(struct cpu *c, const struct insn *in)                             \
    {                                                                                              \
        u##bits d = reg_ld##bits(c, in->rm), s = reg_ld##bits(c, in->reg), *p = &d;                \
        u64 a = c->r[REG_RAX], acc;                                                                \
        CMPXCHG_ASM("", mod, sfx, "m");                                                            \
        c->cc = (u16)a;                                                                            \
        cmpxchg_acc##bits(c, (u##bits)acc);                                                        \
        if (c->cc & CC_ZF)                                                                         \
            reg_st##bits(c, in->rm, d);                                                            \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static ALWAYS_INLINE int cmpxchg##bits(struct cpu *c, const struct insn *in, bool lock)        \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        u##bits s = reg_ld##bits(c, in->reg), *p;                                                  \
        u64 a = c->r[REG_RAX], acc;                                                                \
        int rc = insn_rmw(c, in, &m, bits / 8, lock);                                              \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        p = m.p;                                                                                   \
        if (lock)                                                                                  \
            CMPXCHG_ASM("lock ", mod, sfx, "m");                                                   \
        else                                                                                       \
            CMPXCHG_ASM("", mod, sfx, "m");                                                        \
        c->cc = (u16)a;                                                                            \
        cmpxchg_acc##bits(c, (u##bits)acc);                                                        \
        return mmu_rmw_end(c, &m);                                                                 \
    }                                                                                              \
    static int cmpxchg##bits##_m(struct cpu *c, const struct insn *in)                             \
    {                                                                                              \
        return cmpxchg##bits(c, in, false);                                                        \
    }                                                                                              \
    static int cmpxchg##bits##_l(struct cpu *c, const struct insn *in)                             \
    {                                                                                              \
        return cmpxchg##bits(c, in, true);                                                         \
    }

/*
 * The accumulator is loaded with the destination only when they differ: a successful
 * 32-bit CMPXCHG keeps the upper half of RAX.
 */
#define CMPXCHG_ACC(bits)                                                                          \
    static ALWAYS_INLINE void cmpxchg_acc##bits(struct cpu *c, u##bits v)                          \
    {                                                                                              \
        if (!(c->cc & CC_ZF))                                                                      \
            reg_st##bits(c, REG_RAX * 8, v);                                                       \
    }
CMPXCHG_ACC(8)
CMPXCHG_ACC(16)
CMPXCHG_ACC(32)
CMPXCHG_ACC(64)

OPS_EXCHANGE(8, "b", "b")
OPS_EXCHANGE(16, "w", "w")
OPS_EXCHANGE(32, "k", "l")
OPS_EXCHANGE(64, "q", "q")

#define SIZES(name, form)                                                                          \
    {                                                                                              \
        name##8_##form, name##16_##form, name##32_##form, name##64_##form                          \
    }
static op_fn *const xadd_ops[3][4] = {SIZES(xadd, r), SIZES(xadd, m), SIZES(xadd, l)};
static op_fn *const cmpxchg_ops[3][4] = {SIZES(cmpxchg, r), SIZES(cmpxchg, m), SIZES(cmpxchg, l)};

static int lower_exchange(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    bool mem = d->op[0].kind == OPND_MEM;

    if (!mem)
        in->rm = opnd_off(&d->op[0]);
    in->reg = opnd_off(&d->op[1]);
    in->size = (u8)d->op[0].size;
    in->op = ops[mem + (mem && d->lock)][size_index(in->size)];
    return 0;
}

/* CMPXCHG8B and 16B touch ZF alone. LOCKed always: a single vCPU cannot tell. */
static int cmpxchg8b(struct cpu *c, const struct insn *in)
{
    struct mmu_rmw m;
    u64 old = c->r[REG_RDX] << 32 | (u32)c->r[REG_RAX];
    u64 new = c->r[REG_RCX] << 32 | (u32)c->r[REG_RBX];
    int rc = insn_rmw(c, in, &m, 8, true);

    if (rc)
        return rc;
    if (__atomic_compare_exchange_n((u64 *)m.p, &old, new, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST)) {
        c->cc |= CC_ZF;
    } else {
        c->cc &= (u16)~CC_ZF;
        c->r[REG_RAX] = (u32)old;
        c->r[REG_RDX] = old >> 32;
    }
    return mmu_rmw_end(c, &m);
}

static int cmpxchg16b(struct cpu *c, const struct insn *in)
{
    struct mmu_rmw m;
    u64 lo = c->r[REG_RAX], hi = c->r[REG_RDX], lin;
    bool equal;
    int rc = insn_lin(c, in, 16, true, &lin);

    if (rc)
        return rc;
    if (lin & 15)
        return cpu_raise_gp(c);
    rc = mmu_rmw_begin(c, &m, lin, 16, true, insn_acc(in));
    if (rc)
        return rc;
    __asm__ volatile("lock cmpxchg16b %[p]"
                     : [p] "+m"(*(u128 *)m.p), "+a"(lo), "+d"(hi), "=@ccz"(equal)
                     : "b"(c->r[REG_RBX]), "c"(c->r[REG_RCX])
                     : "memory");
    if (equal) {
        c->cc |= CC_ZF;
    } else {
        c->cc &= (u16)~CC_ZF;
        c->r[REG_RAX] = lo;
        c->r[REG_RDX] = hi;
    }
    return mmu_rmw_end(c, &m);
}

/* Guest memory order is the host's, so ordering instructions are too. */
static int mfence(struct cpu *c, const struct insn *in)
{
    __asm__ volatile("mfence" ::: "memory");
    return OP_NEXT;
}

static int lfence(struct cpu *c, const struct insn *in)
{
    __asm__ volatile("lfence" ::: "memory");
    return OP_NEXT;
}

static int sfence(struct cpu *c, const struct insn *in)
{
    __asm__ volatile("sfence" ::: "memory");
    return OP_NEXT;
}

static int hint(struct cpu *c, const struct insn *in)
{
    return OP_NEXT;
}

/* CLFLUSH, CLFLUSHOPT, CLWB: no cache of ours to flush, but they fault like a load. */
static int clflush(struct cpu *c, const struct insn *in)
{
    u64 lin;
    int rc = insn_lin(c, in, 1, false, &lin);

    return rc ? rc : mmu_probe(c, lin, 1, insn_acc(in));
}

/* MOVNTI, MOVDIRI: plain stores to us; the guest's fences order them. */
static int store32(struct cpu *c, const struct insn *in)
{
    return insn_st32(c, in, reg_ld32(c, in->reg));
}
static int store64(struct cpu *c, const struct insn *in)
{
    return insn_st64(c, in, reg_ld64(c, in->reg));
}

static int lower_store(const struct decoded *d, struct insn *in, const void *arg)
{
    if (d->op[0].kind != OPND_MEM || d->op[1].kind != OPND_GPR)
        return -ENOENT;
    in->reg = opnd_off(&d->op[1]);
    in->op = d->op[1].size == 8 ? store64 : store32;
    return 0;
}

/* MOVDIR64B: 64 bytes from memory to ES:reg, which must be aligned: SDM 2B. */
static int movdir64b(struct cpu *c, const struct insn *in)
{
    _Alignas(64) u8 buf[64];
    u64 ea = *insn_reg64(c, in->reg) & (~0ull >> in->ea_shift), lin = ea;
    int rc;

    if (in->flags & INSN_LEGACY && seg_access(c, SEG_ES, ea, 64, true, &lin))
        return OP_FAULT;
    if (lin & 63)
        return cpu_raise_gp(c);
    rc = insn_load(c, in, buf, 64);
    return rc ? rc : mmu_store(c, lin, buf, 64, 0);
}

static int lower_movdir64b(const struct decoded *d, struct insn *in, const void *arg)
{
    in->reg = opnd_off(&d->op[0]);
    in->op = movdir64b;
    return 0;
}

const struct op_row ops_atomic[] = {
    {ZYDIS_MNEMONIC_XADD, lower_exchange, xadd_ops},
    {ZYDIS_MNEMONIC_CMPXCHG, lower_exchange, cmpxchg_ops},
    {ZYDIS_MNEMONIC_CMPXCHG8B, lower_fixed, &FIXED(cmpxchg8b)},
    {ZYDIS_MNEMONIC_CMPXCHG16B, lower_fixed, &FIXED(cmpxchg16b)},
    {ZYDIS_MNEMONIC_MFENCE, lower_fixed, &FIXED(mfence)},
    {ZYDIS_MNEMONIC_LFENCE, lower_fixed, &FIXED(lfence)},
    {ZYDIS_MNEMONIC_SFENCE, lower_fixed, &FIXED(sfence)},
    {ZYDIS_MNEMONIC_SERIALIZE, lower_fixed, &FIXED(mfence)},
    {ZYDIS_MNEMONIC_CLFLUSH, lower_fixed, &FIXED(clflush)},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, lower_fixed, &FIXED(clflush)},
    {ZYDIS_MNEMONIC_CLWB, lower_fixed, &FIXED(clflush)},
    {ZYDIS_MNEMONIC_CLDEMOTE, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCH, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCHNTA, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCHT0, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCHT1, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCHT2, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCHW, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_PREFETCHWT1, lower_fixed, &FIXED(hint)},
    {ZYDIS_MNEMONIC_MOVNTI, lower_store, NULL},
    {ZYDIS_MNEMONIC_MOVDIRI, lower_store, NULL},
    {ZYDIS_MNEMONIC_MOVDIR64B, lower_movdir64b, NULL},
    {0},
};
