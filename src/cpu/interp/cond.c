// SPDX-License-Identifier: MIT
// SETcc and CMOVcc, one handler for each condition, width and form.

#include "cpu/interp/mov.h"

#define OPS_SETCC(name, n)                                                                         \
    static int set##name##_r(struct cpu *c, const struct insn *in)                                 \
    {                                                                                              \
        reg_st8(c, in->rm, cc_test(c->cc, n));                                                     \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int set##name##_m(struct cpu *c, const struct insn *in)                                 \
    {                                                                                              \
        return insn_st8(c, in, cc_test(c->cc, n));                                                 \
    }

/* A 32-bit CMOV clears the upper half even when it moves nothing; memory is read either way. */
#define OPS_CMOV_SIZE(name, n, bits)                                                               \
    static int cmov##name##bits##_rr(struct cpu *c, const struct insn *in)                         \
    {                                                                                              \
        u##bits old = reg_ld##bits(c, in->reg), v = reg_ld##bits(c, in->rm);                       \
        reg_st##bits(c, in->reg, cc_test(c->cc, n) ? v : old);                                     \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int cmov##name##bits##_rm(struct cpu *c, const struct insn *in)                         \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            reg_st##bits(c, in->reg, cc_test(c->cc, n) ? v : reg_ld##bits(c, in->reg));            \
        return rc;                                                                                 \
    }
#define OPS_CMOV(name, n)                                                                          \
    OPS_CMOV_SIZE(name, n, 16)                                                                     \
    OPS_CMOV_SIZE(name, n, 32)                                                                     \
    OPS_CMOV_SIZE(name, n, 64)

CONDITIONS(OPS_SETCC)
CONDITIONS(OPS_CMOV)

#define SETCC_OPS(name, n) [n] = {set##name##_r, set##name##_m},
#define CMOV_OPS(name, n)                                                                          \
    [n] = {{NULL},                                                                                 \
           {cmov##name##16_rr, cmov##name##16_rm},                                                 \
           {cmov##name##32_rr, cmov##name##32_rm},                                                 \
           {cmov##name##64_rr, cmov##name##64_rm}},

op_fn *const setcc_ops[16][2] = {CONDITIONS(SETCC_OPS)};
op_fn *const cmov_ops[16][4][2] = {CONDITIONS(CMOV_OPS)};

int lower_setcc(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const *ops = arg;
    bool mem = d->op[0].kind == OPND_MEM;

    if (!mem)
        in->rm = opnd_off(&d->op[0]);
    in->op = ops[mem];
    return 0;
}

int lower_cmov(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[2] = arg;
    bool mem = d->op[1].kind == OPND_MEM;

    in->reg = opnd_off(&d->op[0]);
    if (!mem)
        in->rm = opnd_off(&d->op[1]);
    in->op = ops[size_index(d->op[0].size)][mem];
    return in->op ? 0 : -ENOENT;
}
