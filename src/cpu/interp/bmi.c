// SPDX-License-Identifier: MIT
// BMI1 and BMI2 on the host's own units.

#include "cpu/interp/bit.h"

/*
 * (m) is the operand in ModRM.rm, (v) that in VEX.vvvv. Those that touch flags get the
 * guest's loaded first, as everywhere. In AT&T order the last operand is the result.
 */
#define EXEC_CC(name, bits, asm_text)                                                              \
    static ALWAYS_INLINE u##bits exec_##name##bits(struct cpu *c, u##bits m, u##bits v, u8 imm)    \
    {                                                                                              \
        u##bits d;                                                                                 \
        u16 cc = c->cc;                                                                            \
        __asm__(CC_LOAD asm_text CC_SAVE                                                           \
                : [d] "=&r"(d), "+a"(cc)                                                           \
                : [m] "r"(m), [v] "r"(v)                                                           \
                : "cc");                                                                           \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }
#define EXEC_PLAIN(name, bits, asm_text)                                                           \
    static ALWAYS_INLINE u##bits exec_##name##bits(struct cpu *c, u##bits m, u##bits v, u8 imm)    \
    {                                                                                              \
        u##bits d;                                                                                 \
        __asm__(asm_text : [d] "=r"(d) : [m] "r"(m), [v] "r"(v));                                  \
        return d;                                                                                  \
    }

#define OPS_BMI(name, bits, dst)                                                                   \
    static int name##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits v = reg_ld##bits(c, in->vvvv);                                                     \
        reg_st##bits(c, in->dst, exec_##name##bits(c, reg_ld##bits(c, in->rm), v, (u8)in->imm));   \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits m;                                                                                 \
        int rc = insn_ld##bits(c, in, &m);                                                         \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        reg_st##bits(c, in->dst, exec_##name##bits(c, m, reg_ld##bits(c, in->vvvv), (u8)in->imm)); \
        return OP_NEXT;                                                                            \
    }

#define BMI(NAME, name, is_bmi2)                                                                   \
    const struct bmi bmi_##NAME = {{{name##32_r, name##64_r}, {name##32_m, name##64_m}}, is_bmi2};

/* The texts come in 32- and 64-bit pairs: MVD() and the like. */
#define DEFINE(EXEC, NAME, name, dst, is_bmi2, text32, text64)                                     \
    EXEC(name, 32, text32)                                                                         \
    EXEC(name, 64, text64)                                                                         \
    OPS_BMI(name, 32, dst)                                                                         \
    OPS_BMI(name, 64, dst)                                                                         \
    BMI(NAME, name, is_bmi2)

#define MVD(mnem)                                      mnem " %k[m], %k[v], %k[d]", mnem " %q[m], %q[v], %q[d]"
#define VMD(mnem)                                      mnem " %k[v], %k[m], %k[d]", mnem " %q[v], %q[m], %q[d]"
#define MD(mnem)                                       mnem " %k[m], %k[d]", mnem " %q[m], %q[d]"
#define DEFINE2(EXEC, NAME, name, dst, is_bmi2, texts) DEFINE(EXEC, NAME, name, dst, is_bmi2, texts)

DEFINE2(EXEC_CC, ANDN, andn, reg, false, MVD("andn"))
DEFINE2(EXEC_CC, BEXTR, bextr, reg, false, VMD("bextr"))
DEFINE2(EXEC_CC, BLSI, blsi, vvvv, false, MD("blsi"))
DEFINE2(EXEC_CC, BLSMSK, blsmsk, vvvv, false, MD("blsmsk"))
DEFINE2(EXEC_CC, BLSR, blsr, vvvv, false, MD("blsr"))
DEFINE2(EXEC_CC, BZHI, bzhi, reg, true, VMD("bzhi"))
DEFINE2(EXEC_PLAIN, PDEP, pdep, reg, true, MVD("pdep"))
DEFINE2(EXEC_PLAIN, PEXT, pext, reg, true, MVD("pext"))
DEFINE2(EXEC_PLAIN, SARX, sarx, reg, true, VMD("sarx"))
DEFINE2(EXEC_PLAIN, SHLX, shlx, reg, true, VMD("shlx"))
DEFINE2(EXEC_PLAIN, SHRX, shrx, reg, true, VMD("shrx"))

/* RORX rotates by an immediate: plain C says the same. */
static ALWAYS_INLINE u32 exec_rorx32(struct cpu *c, u32 m, u32 v, u8 imm)
{
    return m >> (imm & 31) | m << (-imm & 31);
}

static ALWAYS_INLINE u64 exec_rorx64(struct cpu *c, u64 m, u64 v, u8 imm)
{
    return m >> (imm & 63) | m << (-imm & 63);
}
OPS_BMI(rorx, 32, reg)
OPS_BMI(rorx, 64, reg)
BMI(RORX, rorx, true)

/* MULX: rDX times (m), low half to vvvv, high half to reg, which wins when they are the same. */
#define OPS_MULX(bits, twice)                                                                      \
    static ALWAYS_INLINE int mulx##bits(struct cpu *c, const struct insn *in, u##bits m)           \
    {                                                                                              \
        twice p = (twice)reg_ld##bits(c, REG_RDX * 8) * m;                                         \
        reg_st##bits(c, in->vvvv, (u##bits)p);                                                     \
        reg_st##bits(c, in->reg, (u##bits)(p >> bits));                                            \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int mulx##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return mulx##bits(c, in, reg_ld##bits(c, in->rm));                                         \
    }                                                                                              \
    static int mulx##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits m;                                                                                 \
        int rc = insn_ld##bits(c, in, &m);                                                         \
        return rc ? rc : mulx##bits(c, in, m);                                                     \
    }
OPS_MULX(32, u64)
OPS_MULX(64, u128)
BMI(MULX, mulx, true)

int lower_bmi(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct bmi *b = arg;
    bool mem = false;

    if (b->bmi2 ? !__builtin_cpu_supports("bmi2") : !__builtin_cpu_supports("bmi"))
        return -ENOENT;
    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *o = &d->op[i];

        if (o->kind == OPND_MEM)
            mem = true;
        else if (o->kind == OPND_IMM)
            in->imm = (u8)o->imm;
        else if (o->encoding == ENC_REG)
            in->reg = opnd_off(o);
        else if (o->encoding == ENC_VVVV)
            in->vvvv = opnd_off(o);
        else
            in->rm = opnd_off(o);
    }
    in->size = (u8)d->op[0].size;
    in->op = b->op[mem][in->size == 8];
    return 0;
}
