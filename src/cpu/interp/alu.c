// SPDX-License-Identifier: MIT
// Two-operand and one-operand arithmetic and logic: ADD … CMP, TEST, INC, DEC, NEG, NOT.

#include "cpu/interp/alu.h"

/*
 * Each operation is one or two lines of inline asm per width (exec_*); everything else
 * is stamped out around them, one handler for each operand form and width, so that
 * no handler decides anything at run time. Forms, destination first; L*: LOCKed.
 */
enum form { FORM_RR, FORM_RM, FORM_RI, FORM_MR, FORM_MI, FORM_LR, FORM_LI, FORM_COUNT };

EXEC_SIZES(EXEC_BINARY, exec_add, "add")
EXEC_SIZES(EXEC_BINARY, exec_or, "or")
EXEC_SIZES(EXEC_BINARY_CC, exec_adc, "adc", CC_LOAD_CF)
EXEC_SIZES(EXEC_BINARY_CC, exec_sbb, "sbb", CC_LOAD_CF)
EXEC_SIZES(EXEC_BINARY, exec_and, "and")
EXEC_SIZES(EXEC_BINARY, exec_xor, "xor")
EXEC_SIZES(EXEC_UNARY, exec_inc, "inc", CC_LOAD_CF)
EXEC_SIZES(EXEC_UNARY, exec_dec, "dec", CC_LOAD_CF)
EXEC_SIZES(EXEC_UNARY, exec_neg, "neg", "")

/* TEST: like AND, nothing written. */
EXEC_SIZES(EXEC_BINARY, exec_test, "test")

/* The memory destination is MMIO, crosses a page or holds code. */
#define RMW_SLOW(bits)                                                                             \
    static NOINLINE int rmw_binary##bits(struct cpu *c, const struct insn *in, u##bits s,          \
                                         u##bits (*exec)(struct cpu *, u##bits, u##bits))          \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        int rc = insn_rmw(c, in, &m, bits / 8, false);                                             \
                                                                                                   \
        if (rc)                                                                                    \
            return rc;                                                                             \
        host_st##bits(m.p, exec(c, host_ld##bits(m.p), s));                                        \
        return mmu_rmw_end(c, &m);                                                                 \
    }
RMW_SLOW(8)
RMW_SLOW(16)
RMW_SLOW(32)
RMW_SLOW(64)

#define OPS_READ(name, bits, write_rr, write_rm, write_ri)                                         \
    static int name##bits##_rr(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v = exec_##name##bits(c, reg_ld##bits(c, in->rm), reg_ld##bits(c, in->reg));       \
        write_rr;                                                                                  \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_rm(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        v = exec_##name##bits(c, reg_ld##bits(c, in->reg), v);                                     \
        write_rm;                                                                                  \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_ri(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v = exec_##name##bits(c, reg_ld##bits(c, in->rm), (u##bits)in->imm);               \
        write_ri;                                                                                  \
        return OP_NEXT;                                                                            \
    }

#define OP_MEM(name, bits, form, src)                                                              \
    static int name##bits##_##form(struct cpu *c, const struct insn *in)                           \
    {                                                                                              \
        void *p = insn_peek(c, in, bits / 8, true);                                                \
        if (likely(p)) {                                                                           \
            host_st##bits(p, exec_##name##bits(c, host_ld##bits(p), src));                         \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        return rmw_binary##bits(c, in, src, exec_##name##bits);                                    \
    }

#define OP_LOCK(name, bits, form, src, mod, sfx, mnem, load)                                       \
    static int name##bits##_##form(struct cpu *c, const struct insn *in)                           \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        u16 cc = c->cc;                                                                            \
        u##bits s = src;                                                                           \
        int rc = insn_rmw(c, in, &m, bits / 8, true);                                              \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        __asm__ volatile(load "lock " mnem sfx " %" mod "[s], %[p]" CC_SAVE                        \
                         : [p] "+m"(*(u##bits *)m.p), "+a"(cc)                                     \
                         : [s] "q"(s)                                                              \
                         : "cc", "memory");                                                        \
        c->cc = cc;                                                                                \
        return mmu_rmw_end(c, &m);                                                                 \
    }

#define OPS_BINARY(name, bits, mod, sfx, mnem, load)                                               \
    OPS_READ(name, bits, reg_st##bits(c, in->rm, v), reg_st##bits(c, in->reg, v),                  \
             reg_st##bits(c, in->rm, v))                                                           \
    OP_MEM(name, bits, mr, reg_ld##bits(c, in->reg))                                               \
    OP_MEM(name, bits, mi, (u##bits)in->imm)                                                       \
    OP_LOCK(name, bits, lr, reg_ld##bits(c, in->reg), mod, sfx, mnem, load)                        \
    OP_LOCK(name, bits, li, (u##bits)in->imm, mod, sfx, mnem, load)

#define SIZES(name, form)                                                                          \
    {                                                                                              \
        name##8_##form, name##16_##form, name##32_##form, name##64_##form                          \
    }

#define BINARY(name, mnem, load)                                                                   \
    OPS_BINARY(name, 8, "b", "b", mnem, load)                                                      \
    OPS_BINARY(name, 16, "w", "w", mnem, load)                                                     \
    OPS_BINARY(name, 32, "k", "l", mnem, load)                                                     \
    OPS_BINARY(name, 64, "q", "q", mnem, load)                                                     \
    static op_fn *const name##_ops[FORM_COUNT][4] = {                                              \
        [FORM_RR] = SIZES(name, rr), [FORM_RM] = SIZES(name, rm), [FORM_RI] = SIZES(name, ri),     \
        [FORM_MR] = SIZES(name, mr), [FORM_MI] = SIZES(name, mi), [FORM_LR] = SIZES(name, lr),     \
        [FORM_LI] = SIZES(name, li),                                                               \
    };

BINARY(add, "add", "")
BINARY(or, "or", "")
BINARY(adc, "adc", CC_LOAD_CF)
BINARY(sbb, "sbb", CC_LOAD_CF)
BINARY(and, "and", "")
BINARY(sub, "sub", "")
BINARY(xor, "xor", "")

/* CMP and TEST only read; (flip) puts memory first as the destination is. */
#define OP_COMPARE(name, bits, form, src)                                                          \
    static int name##bits##_##form(struct cpu *c, const struct insn *in)                           \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        exec_##name##bits(c, v, src);                                                              \
        return OP_NEXT;                                                                            \
    }

#define OPS_COMPARE_RR(name, bits)                                                                 \
    static int name##bits##_rr(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        exec_##name##bits(c, reg_ld##bits(c, in->rm), reg_ld##bits(c, in->reg));                   \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_ri(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        exec_##name##bits(c, reg_ld##bits(c, in->rm), (u##bits)in->imm);                           \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_rm(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        exec_##name##bits(c, reg_ld##bits(c, in->reg), v);                                         \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    OP_COMPARE(name, bits, mr, reg_ld##bits(c, in->reg))                                           \
    OP_COMPARE(name, bits, mi, (u##bits)in->imm)

#define COMPARE(name)                                                                              \
    OPS_COMPARE_RR(name, 8)                                                                        \
    OPS_COMPARE_RR(name, 16)                                                                       \
    OPS_COMPARE_RR(name, 32)                                                                       \
    OPS_COMPARE_RR(name, 64)                                                                       \
    static op_fn *const name##_ops[FORM_COUNT][4] = {                                              \
        [FORM_RR] = SIZES(name, rr), [FORM_RM] = SIZES(name, rm), [FORM_RI] = SIZES(name, ri),     \
        [FORM_MR] = SIZES(name, mr), [FORM_MI] = SIZES(name, mi),                                  \
    };

COMPARE(cmp)
COMPARE(test)

/* NOT leaves the flags alone. */
#define EXEC_NOT(bits)                                                                             \
    static ALWAYS_INLINE u##bits exec_not##bits(struct cpu *c, u##bits d)                          \
    {                                                                                              \
        return (u##bits) ~d;                                                                       \
    }
EXEC_NOT(8)
EXEC_NOT(16)
EXEC_NOT(32)
EXEC_NOT(64)

enum unary_form { UNARY_R, UNARY_M, UNARY_L, UNARY_COUNT };

#define OPS_UNARY(name, bits, sfx, mnem)                                                           \
    static int name##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        reg_st##bits(c, in->rm, exec_##name##bits(c, reg_ld##bits(c, in->rm)));                    \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        int rc = insn_rmw(c, in, &m, bits / 8, false);                                             \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        host_st##bits(m.p, exec_##name##bits(c, host_ld##bits(m.p)));                              \
        return mmu_rmw_end(c, &m);                                                                 \
    }                                                                                              \
    static int name##bits##_l(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        u16 cc = c->cc;                                                                            \
        int rc = insn_rmw(c, in, &m, bits / 8, true);                                              \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        __asm__ volatile(CC_LOAD "lock " mnem sfx " %[p]" CC_SAVE                                  \
                         : [p] "+m"(*(u##bits *)m.p), "+a"(cc)                                     \
                         :                                                                         \
                         : "cc", "memory");                                                        \
        c->cc = cc;                                                                                \
        return mmu_rmw_end(c, &m);                                                                 \
    }

#define UNARY(name, mnem)                                                                          \
    OPS_UNARY(name, 8, "b", mnem)                                                                  \
    OPS_UNARY(name, 16, "w", mnem)                                                                 \
    OPS_UNARY(name, 32, "l", mnem)                                                                 \
    OPS_UNARY(name, 64, "q", mnem)                                                                 \
    static op_fn *const name##_ops[UNARY_COUNT][4] = {SIZES(name, r), SIZES(name, m),              \
                                                      SIZES(name, l)};

UNARY(inc, "inc")
UNARY(dec, "dec")
UNARY(neg, "neg")
UNARY(not, "not")

static int lower_binary(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    const struct opnd *dst = &d->op[0], *src = &d->op[1];
    enum form form;

    if (dst->kind == OPND_GPR && src->kind == OPND_GPR) {
        form = FORM_RR;
        in->rm = opnd_off(dst);
        in->reg = opnd_off(src);
    } else if (dst->kind == OPND_GPR && src->kind == OPND_MEM) {
        form = FORM_RM;
        in->reg = opnd_off(dst);
    } else if (dst->kind == OPND_GPR && src->kind == OPND_IMM) {
        form = FORM_RI;
        in->rm = opnd_off(dst);
    } else if (dst->kind == OPND_MEM && src->kind == OPND_GPR) {
        form = d->lock ? FORM_LR : FORM_MR;
        in->reg = opnd_off(src);
    } else if (dst->kind == OPND_MEM && src->kind == OPND_IMM) {
        form = d->lock ? FORM_LI : FORM_MI;
    } else {
        return -ENOENT;
    }
    if (src->kind == OPND_IMM)
        in->imm = (u64)src->imm;
    in->size = (u8)dst->size;
    in->op = ops[form][size_index(dst->size)];
    return in->op ? 0 : -ENOENT;
}

static int lower_unary(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    const struct opnd *dst = &d->op[0];
    enum unary_form form;

    if (dst->kind == OPND_GPR) {
        form = UNARY_R;
        in->rm = opnd_off(dst);
    } else if (dst->kind == OPND_MEM) {
        form = d->lock ? UNARY_L : UNARY_M;
    } else {
        return -ENOENT;
    }
    in->size = (u8)dst->size;
    in->op = ops[form][size_index(dst->size)];
    return 0;
}

const struct op_row ops_alu[] = {
    {ZYDIS_MNEMONIC_ADD, lower_binary, add_ops},   {ZYDIS_MNEMONIC_OR, lower_binary, or_ops},
    {ZYDIS_MNEMONIC_ADC, lower_binary, adc_ops},   {ZYDIS_MNEMONIC_SBB, lower_binary, sbb_ops},
    {ZYDIS_MNEMONIC_AND, lower_binary, and_ops},   {ZYDIS_MNEMONIC_SUB, lower_binary, sub_ops},
    {ZYDIS_MNEMONIC_XOR, lower_binary, xor_ops},   {ZYDIS_MNEMONIC_CMP, lower_binary, cmp_ops},
    {ZYDIS_MNEMONIC_TEST, lower_binary, test_ops}, {ZYDIS_MNEMONIC_INC, lower_unary, inc_ops},
    {ZYDIS_MNEMONIC_DEC, lower_unary, dec_ops},    {ZYDIS_MNEMONIC_NEG, lower_unary, neg_ops},
    {ZYDIS_MNEMONIC_NOT, lower_unary, not_ops},    {0},
};
