// SPDX-License-Identifier: MIT
// Shifts and rotates: ROL … SAR, SHLD, SHRD.

#include "cpu/interp/alu.h"

/*
 * The host gets the guest's count as it is: it masks, leaves the flags alone for a
 * count of 0, and decides the undefined ones. That needs the guest's flags loaded
 * first, which RCL and RCR read anyway.
 */
#define EXEC_SHIFT(name, bits, mod, mnem)                                                          \
    static ALWAYS_INLINE u##bits exec_##name##bits(struct cpu *c, u##bits d, u8 n)                 \
    {                                                                                              \
        u16 cc = c->cc;                                                                            \
        __asm__(CC_LOAD mnem " %%cl, %" mod "[d]" CC_SAVE                                          \
                : [d] "+q"(d), "+a"(cc)                                                            \
                : "c"(n)                                                                           \
                : "cc");                                                                           \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }

#define OP_SHIFT_REG(name, bits, form, count)                                                      \
    static int name##bits##_##form(struct cpu *c, const struct insn *in)                           \
    {                                                                                              \
        reg_st##bits(c, in->rm, exec_##name##bits(c, reg_ld##bits(c, in->rm), count));             \
        return OP_NEXT;                                                                            \
    }
#define OP_SHIFT_MEM(name, bits, form, count)                                                      \
    static int name##bits##_##form(struct cpu *c, const struct insn *in)                           \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        int rc = insn_rmw(c, in, &m, bits / 8, false);                                             \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        host_st##bits(m.p, exec_##name##bits(c, host_ld##bits(m.p), count));                       \
        return mmu_rmw_end(c, &m);                                                                 \
    }

enum shift_form { SHIFT_RI, SHIFT_RC, SHIFT_MI, SHIFT_MC, SHIFT_COUNT };

#define OPS_SHIFT(name, bits, mod, mnem)                                                           \
    EXEC_SHIFT(name, bits, mod, mnem)                                                              \
    OP_SHIFT_REG(name, bits, ri, (u8)in->imm)                                                      \
    OP_SHIFT_REG(name, bits, rc, (u8)c->r[REG_RCX])                                                \
    OP_SHIFT_MEM(name, bits, mi, (u8)in->imm)                                                      \
    OP_SHIFT_MEM(name, bits, mc, (u8)c->r[REG_RCX])

#define SIZES(name, form)                                                                          \
    {                                                                                              \
        name##8_##form, name##16_##form, name##32_##form, name##64_##form                          \
    }

#define SHIFT(name, mnem)                                                                          \
    OPS_SHIFT(name, 8, "b", mnem)                                                                  \
    OPS_SHIFT(name, 16, "w", mnem)                                                                 \
    OPS_SHIFT(name, 32, "k", mnem)                                                                 \
    OPS_SHIFT(name, 64, "q", mnem)                                                                 \
    static op_fn *const name##_ops[SHIFT_COUNT][4] = {SIZES(name, ri), SIZES(name, rc),            \
                                                      SIZES(name, mi), SIZES(name, mc)};

SHIFT(rol, "rol")
SHIFT(ror, "ror")
SHIFT(rcl, "rcl")
SHIFT(rcr, "rcr")
SHIFT(shl, "shl")
SHIFT(shr, "shr")
SHIFT(sar, "sar")

/* The count is the last operand: an immediate, the 1 of the short form, or CL. */
static int lower_shift(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    const struct opnd *dst = &d->op[0], *count = &d->op[1];
    bool by_cl = count->kind == OPND_GPR, mem = dst->kind == OPND_MEM;

    if (d->nopnd < 2 || (!mem && dst->kind != OPND_GPR))
        return -ENOENT;
    if (!mem)
        in->rm = opnd_off(dst);
    if (!by_cl)
        in->imm = (u8)count->imm;
    in->size = (u8)dst->size;
    in->op = ops[mem * SHIFT_MI + by_cl][size_index(dst->size)];
    return 0;
}

/* SHLD, SHRD: bits of (s) follow those shifted out of (d). */
#define EXEC_DOUBLE(name, bits, mod, mnem)                                                         \
    static ALWAYS_INLINE u##bits exec_##name##bits(struct cpu *c, u##bits d, u##bits s, u8 n)      \
    {                                                                                              \
        u16 cc = c->cc;                                                                            \
        __asm__(CC_LOAD mnem " %%cl, %" mod "[s], %" mod "[d]" CC_SAVE                             \
                : [d] "+r"(d), "+a"(cc)                                                            \
                : [s] "r"(s), "c"(n)                                                               \
                : "cc");                                                                           \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }
#define OPS_DOUBLE_COUNT(name, bits, form, count)                                                  \
    static int name##bits##_r##form(struct cpu *c, const struct insn *in)                          \
    {                                                                                              \
        u##bits s = reg_ld##bits(c, in->reg);                                                      \
        reg_st##bits(c, in->rm, exec_##name##bits(c, reg_ld##bits(c, in->rm), s, count));          \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_m##form(struct cpu *c, const struct insn *in)                          \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        int rc = insn_rmw(c, in, &m, bits / 8, false);                                             \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        host_st##bits(m.p,                                                                         \
                      exec_##name##bits(c, host_ld##bits(m.p), reg_ld##bits(c, in->reg), count));  \
        return mmu_rmw_end(c, &m);                                                                 \
    }
#define OPS_DOUBLE(name, bits, mod, mnem)                                                          \
    EXEC_DOUBLE(name, bits, mod, mnem)                                                             \
    OPS_DOUBLE_COUNT(name, bits, i, (u8)in->imm)                                                   \
    OPS_DOUBLE_COUNT(name, bits, c, (u8)c->r[REG_RCX])
#define SIZES_DOUBLE(name, form)                                                                   \
    {                                                                                              \
        NULL, name##16_##form, name##32_##form, name##64_##form                                    \
    }
#define DOUBLE(name, mnem)                                                                         \
    OPS_DOUBLE(name, 16, "w", mnem)                                                                \
    OPS_DOUBLE(name, 32, "k", mnem)                                                                \
    OPS_DOUBLE(name, 64, "q", mnem)                                                                \
    static op_fn *const name##_ops[SHIFT_COUNT][4] = {                                             \
        SIZES_DOUBLE(name, ri), SIZES_DOUBLE(name, rc), SIZES_DOUBLE(name, mi),                    \
        SIZES_DOUBLE(name, mc)};

DOUBLE(shld, "shld")
DOUBLE(shrd, "shrd")

static int lower_double(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    const struct opnd *dst = &d->op[0], *count = &d->op[2];
    bool by_cl = count->kind == OPND_GPR, mem = dst->kind == OPND_MEM;

    if (d->nopnd < 3 || d->op[1].kind != OPND_GPR)
        return -ENOENT;
    if (!mem)
        in->rm = opnd_off(dst);
    if (!by_cl)
        in->imm = (u8)count->imm;
    in->reg = opnd_off(&d->op[1]);
    in->size = (u8)dst->size;
    in->op = ops[mem * SHIFT_MI + by_cl][size_index(dst->size)];
    return in->op ? 0 : -ENOENT;
}

const struct op_row ops_shift[] = {
    {ZYDIS_MNEMONIC_ROL, lower_shift, rol_ops},    {ZYDIS_MNEMONIC_ROR, lower_shift, ror_ops},
    {ZYDIS_MNEMONIC_RCL, lower_shift, rcl_ops},    {ZYDIS_MNEMONIC_RCR, lower_shift, rcr_ops},
    {ZYDIS_MNEMONIC_SHL, lower_shift, shl_ops},    {ZYDIS_MNEMONIC_SHR, lower_shift, shr_ops},
    {ZYDIS_MNEMONIC_SAR, lower_shift, sar_ops},    {ZYDIS_MNEMONIC_SHLD, lower_double, shld_ops},
    {ZYDIS_MNEMONIC_SHRD, lower_double, shrd_ops}, {0},
};
