// SPDX-License-Identifier: MIT
// MUL, IMUL, DIV, IDIV, and the decimal adjustments of the legacy modes.

#include "cpu/interp/alu.h"

/*
 * One-operand forms work on AX, or rDX:rAX. The source, a register or memory, is
 * fetched by source##bits(); the flags are loaded first so that those the
 * host leaves alone are the guest's.
 */
#define OP_SOURCE(bits)                                                                            \
    static ALWAYS_INLINE int source##bits(struct cpu *c, const struct insn *in, bool mem,          \
                                          u##bits *v)                                              \
    {                                                                                              \
        if (mem)                                                                                   \
            return insn_ld##bits(c, in, v);                                                        \
        *v = reg_ld##bits(c, in->rm);                                                              \
        return OP_NEXT;                                                                            \
    }
OP_SOURCE(8)
OP_SOURCE(16)
OP_SOURCE(32)
OP_SOURCE(64)

/*
 * SAHF wants AH, the instruction wants rAX: the guest's accumulator waits in (lo) and
 * is exchanged with the flags on either side (MOV and XCHG leave flags alone).
 */
#define RUN_WIDE(mnem, mod, lo, hi, src, cc)                                                       \
    __asm__(CC_LOAD "xchgq %%rax, %q[l]\n\t" mnem " %" mod "[s]\n\txchgq %%rax, %q[l]" CC_SAVE     \
            : "+a"(cc), [l] "+r"(lo), "+d"(hi)                                                     \
            : [s] "r"(src)                                                                         \
            : "cc")

#define OPS_WIDE(name, bits, mod, mnem, check)                                                     \
    static ALWAYS_INLINE int name##bits(struct cpu *c, const struct insn *in, bool mem)            \
    {                                                                                              \
        u64 lo = c->r[REG_RAX], hi = c->r[REG_RDX], cc = c->cc;                                    \
        u##bits s;                                                                                 \
        int rc = source##bits(c, in, mem, &s);                                                     \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        if (unlikely(check))                                                                       \
            return cpu_raise(c, EXC_DE);                                                           \
        RUN_WIDE(mnem, mod, lo, hi, s, cc);                                                        \
        c->cc = (u16)cc;                                                                           \
        c->r[REG_RAX] = lo;                                                                        \
        c->r[REG_RDX] = hi;                                                                        \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return name##bits(c, in, false);                                                           \
    }                                                                                              \
    static int name##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return name##bits(c, in, true);                                                            \
    }

/*
 * Will the quotient not fit? Decided before the host divides, without dividing: the
 * quotient of magnitudes is below (limit) when n < limit * d.
 */
static ALWAYS_INLINE bool div_overflows(u128 n, u64 d, unsigned bits)
{
    return n >> bits >= d;
}

static ALWAYS_INLINE bool idiv_overflows(__int128 n, s64 d, unsigned bits)
{
    u128 un = n < 0 ? -(u128)n : (u128)n;
    u64 ud = d < 0 ? -(u64)d : (u64)d;
    u128 limit = ((u128)1 << (bits - 1)) + ((n < 0) != (d < 0));

    return un >= limit * ud;
}

#define DIV_CHECK8   div_overflows((u16)lo, s, 8)
#define DIV_CHECK16  div_overflows((u32)(hi << 16) | (u16)lo, s, 16)
#define DIV_CHECK32  div_overflows((hi << 32) | (u32)lo, s, 32)
#define DIV_CHECK64  div_overflows((u128)hi << 64 | lo, s, 64)
#define IDIV_CHECK8  idiv_overflows((s16)lo, (s8)s, 8)
#define IDIV_CHECK16 idiv_overflows((s32)((u32)(hi << 16) | (u16)lo), (s16)s, 16)
#define IDIV_CHECK32 idiv_overflows((s64)(hi << 32 | (u32)lo), (s32)s, 32)
#define IDIV_CHECK64 idiv_overflows((__int128)((u128)hi << 64 | lo), (s64)s, 64)

OPS_WIDE(mul, 8, "b", "mulb", false)
OPS_WIDE(mul, 16, "w", "mulw", false)
OPS_WIDE(mul, 32, "k", "mull", false)
OPS_WIDE(mul, 64, "q", "mulq", false)
OPS_WIDE(imul, 8, "b", "imulb", false)
OPS_WIDE(imul, 16, "w", "imulw", false)
OPS_WIDE(imul, 32, "k", "imull", false)
OPS_WIDE(imul, 64, "q", "imulq", false)
OPS_WIDE(div, 8, "b", "divb", DIV_CHECK8)
OPS_WIDE(div, 16, "w", "divw", DIV_CHECK16)
OPS_WIDE(div, 32, "k", "divl", DIV_CHECK32)
OPS_WIDE(div, 64, "q", "divq", DIV_CHECK64)
OPS_WIDE(idiv, 8, "b", "idivb", IDIV_CHECK8)
OPS_WIDE(idiv, 16, "w", "idivw", IDIV_CHECK16)
OPS_WIDE(idiv, 32, "k", "idivl", IDIV_CHECK32)
OPS_WIDE(idiv, 64, "q", "idivq", IDIV_CHECK64)

/* IMUL with two and three operands. */
#define OPS_IMUL(bits, mod)                                                                        \
    EXEC_BINARY_CC(exec_imul, bits, mod, "imul", CC_LOAD)                                          \
    static int imul##bits##_rr(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        reg_st##bits(c, in->reg,                                                                   \
                     exec_imul##bits(c, reg_ld##bits(c, in->reg), reg_ld##bits(c, in->rm)));       \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int imul##bits##_rm(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            reg_st##bits(c, in->reg, exec_imul##bits(c, reg_ld##bits(c, in->reg), v));             \
        return rc;                                                                                 \
    }                                                                                              \
    static int imul##bits##_rri(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        reg_st##bits(c, in->reg, exec_imul##bits(c, reg_ld##bits(c, in->rm), (u##bits)in->imm));   \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int imul##bits##_rmi(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            reg_st##bits(c, in->reg, exec_imul##bits(c, v, (u##bits)in->imm));                     \
        return rc;                                                                                 \
    }
OPS_IMUL(16, "w")
OPS_IMUL(32, "k")
OPS_IMUL(64, "q")

#define SIZES(name, form)                                                                          \
    {                                                                                              \
        name##8_##form, name##16_##form, name##32_##form, name##64_##form                          \
    }
#define SIZES_WIDE(name, form)                                                                     \
    {                                                                                              \
        NULL, name##16_##form, name##32_##form, name##64_##form                                    \
    }
static op_fn *const mul_ops[2][4] = {SIZES(mul, r), SIZES(mul, m)};
static op_fn *const imul_ops[2][4] = {SIZES(imul, r), SIZES(imul, m)};
static op_fn *const div_ops[2][4] = {SIZES(div, r), SIZES(div, m)};
static op_fn *const idiv_ops[2][4] = {SIZES(idiv, r), SIZES(idiv, m)};
static op_fn *const imul_long_ops[2][2][4] = {{SIZES_WIDE(imul, rr), SIZES_WIDE(imul, rm)},
                                              {SIZES_WIDE(imul, rri), SIZES_WIDE(imul, rmi)}};

static int lower_wide(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    bool mem = d->op[0].kind == OPND_MEM;

    if (!mem)
        in->rm = opnd_off(&d->op[0]);
    in->size = (u8)d->op[0].size;
    in->op = ops[mem][size_index(in->size)];
    return 0;
}

/* F6/F7 /5 has one operand; 0F AF two; 69 and 6B three. */
static int lower_imul(const struct decoded *d, struct insn *in, const void *arg)
{
    bool three = d->nopnd == 3, mem = d->op[1].kind == OPND_MEM;

    if (d->map == 0 && (d->opcode & 0xfe) == 0xf6)
        return lower_wide(d, in, arg);
    in->reg = opnd_off(&d->op[0]);
    if (!mem)
        in->rm = opnd_off(&d->op[1]);
    if (three)
        in->imm = (u64)d->op[2].imm;
    in->size = (u8)d->op[0].size;
    in->op = imul_long_ops[three][mem][size_index(in->size)];
    return in->op ? 0 : -ENOENT;
}

/*
 * Decimal adjustments: 64-bit hosts do not run them, so these are SDM 2A's pseudocode.
 * SF, ZF and PF of the result come from TEST; flags the SDM leaves undefined are 0.
 */
static u16 cc_of_al(u8 al, bool af, bool cf)
{
    u16 cc;

    __asm__("testb %[v], %[v]" CC_SAVE : "=a"(cc) : [v] "q"(al) : "cc");
    return (u16)((cc & ~(CC_AF | CC_CF | CC_OF)) | (af ? CC_AF : 0) | (cf ? CC_CF : 0));
}

static int daa(struct cpu *c, const struct insn *in)
{
    u8 *al = insn_reg8(c, 0), old = *al;
    bool af = (old & 15) > 9 || c->cc & CC_AF, cf = old > 0x99 || c->cc & CC_CF;

    *al = (u8)(old + (af ? 6 : 0) + (cf ? 0x60 : 0));
    c->cc = cc_of_al(*al, af, cf);
    return OP_NEXT;
}

static int das(struct cpu *c, const struct insn *in)
{
    u8 *al = insn_reg8(c, 0), old = *al;
    bool af = (old & 15) > 9 || c->cc & CC_AF, cf = old > 0x99 || c->cc & CC_CF;
    bool borrow = af && (c->cc & CC_CF || old < 6);

    *al = (u8)(old - (af ? 6 : 0) - (cf ? 0x60 : 0));
    c->cc = cc_of_al(*al, af, cf || borrow);
    return OP_NEXT;
}

/* AAA and AAS: (step) is the adjustment of AX. */
static int adjust_ascii(struct cpu *c, u16 step)
{
    u16 *ax = insn_reg16(c, 0);
    bool adjust = (*ax & 15) > 9 || c->cc & CC_AF;

    if (adjust)
        *ax = (u16)(*ax + step);
    *ax &= 0xff0f;
    c->cc = cc_of_al((u8)*ax, adjust, adjust);
    return OP_NEXT;
}

static int aaa(struct cpu *c, const struct insn *in)
{
    return adjust_ascii(c, 0x106);
}
static int aas(struct cpu *c, const struct insn *in)
{
    return adjust_ascii(c, (u16)-0x106);
}

static int aam(struct cpu *c, const struct insn *in)
{
    u16 *ax = insn_reg16(c, 0);
    u8 al = (u8)*ax, base = (u8)in->imm;

    if (!base)
        return cpu_raise(c, EXC_DE);
    *ax = (u16)(al / base << 8 | al % base);
    c->cc = cc_of_al((u8)*ax, false, false);
    return OP_NEXT;
}

static int aad(struct cpu *c, const struct insn *in)
{
    u16 *ax = insn_reg16(c, 0);

    *ax = (u8)((*ax & 0xff) + (*ax >> 8) * (u8)in->imm);
    c->cc = cc_of_al((u8)*ax, false, false);
    return OP_NEXT;
}

static int lower_bcd(const struct decoded *d, struct insn *in, const void *arg)
{
    if (d->nopnd && d->op[0].kind == OPND_IMM)
        in->imm = (u8)d->op[0].imm;
    in->op = ((const struct fixed_op *)arg)->op;
    return 0;
}

const struct op_row ops_muldiv[] = {
    {ZYDIS_MNEMONIC_MUL, lower_wide, mul_ops},
    {ZYDIS_MNEMONIC_IMUL, lower_imul, imul_ops},
    {ZYDIS_MNEMONIC_DIV, lower_wide, div_ops},
    {ZYDIS_MNEMONIC_IDIV, lower_wide, idiv_ops},
    {ZYDIS_MNEMONIC_DAA, lower_bcd, &FIXED(daa)},
    {ZYDIS_MNEMONIC_DAS, lower_bcd, &FIXED(das)},
    {ZYDIS_MNEMONIC_AAA, lower_bcd, &FIXED(aaa)},
    {ZYDIS_MNEMONIC_AAS, lower_bcd, &FIXED(aas)},
    {ZYDIS_MNEMONIC_AAM, lower_bcd, &FIXED(aam)},
    {ZYDIS_MNEMONIC_AAD, lower_bcd, &FIXED(aad)},
    {0},
};
