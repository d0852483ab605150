// SPDX-License-Identifier: MIT
// MOV, MOVZX, MOVSX, LEA, XCHG, BSWAP, MOVBE, CBW …, XLAT; and the rows of cond.c and flag.c.

#include "cpu/interp/mov.h"

enum mov_form { MOV_RR, MOV_RM, MOV_MR, MOV_RI, MOV_MI, MOV_COUNT };

#define OPS_MOV(bits)                                                                              \
    static int mov##bits##_rr(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        reg_st##bits(c, in->rm, reg_ld##bits(c, in->reg));                                         \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int mov##bits##_rm(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            reg_st##bits(c, in->reg, v);                                                           \
        return rc;                                                                                 \
    }                                                                                              \
    static int mov##bits##_mr(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return insn_st##bits(c, in, reg_ld##bits(c, in->reg));                                     \
    }                                                                                              \
    static int mov##bits##_ri(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        reg_st##bits(c, in->rm, (u##bits)in->imm);                                                 \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int mov##bits##_mi(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        return insn_st##bits(c, in, (u##bits)in->imm);                                             \
    }

OPS_MOV(8)
OPS_MOV(16)
OPS_MOV(32)
OPS_MOV(64)

#define SIZES(name, form)                                                                          \
    {                                                                                              \
        name##8_##form, name##16_##form, name##32_##form, name##64_##form                          \
    }

static op_fn *const mov_ops[MOV_COUNT][4] = {SIZES(mov, rr), SIZES(mov, rm), SIZES(mov, mr),
                                             SIZES(mov, ri), SIZES(mov, mi)};

static int lower_mov(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct opnd *dst = &d->op[0], *src = &d->op[1];
    enum mov_form form;

    if (dst->kind == OPND_GPR && src->kind == OPND_GPR) {
        form = MOV_RR;
        in->rm = opnd_off(dst);
        in->reg = opnd_off(src);
    } else if (dst->kind == OPND_GPR && src->kind == OPND_MEM) {
        form = MOV_RM;
        in->reg = opnd_off(dst);
    } else if (dst->kind == OPND_MEM && src->kind == OPND_GPR) {
        form = MOV_MR;
        in->reg = opnd_off(src);
    } else if (dst->kind == OPND_GPR && src->kind == OPND_IMM) {
        form = MOV_RI;
        in->rm = opnd_off(dst);
    } else if (dst->kind == OPND_MEM && src->kind == OPND_IMM) {
        form = MOV_MI;
    } else {
        return -ENOENT; /* segment, control and debug registers are other families' */
    }
    if (src->kind == OPND_IMM)
        in->imm = (u64)src->imm;
    in->size = (u8)dst->size;
    in->op = mov_ops[form][size_index(dst->size)];
    return 0;
}

/* MOVZX, MOVSX, MOVSXD: (to) bits from (from) bits, (t) the signed or unsigned source type. */
#define OPS_EXTEND(name, to, from, t)                                                              \
    static int name##to##_##from##_rr(struct cpu *c, const struct insn *in)                        \
    {                                                                                              \
        reg_st##to(c, in->reg, (u##to)(t)reg_ld##from(c, in->rm));                                 \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##to##_##from##_rm(struct cpu *c, const struct insn *in)                        \
    {                                                                                              \
        u##from v;                                                                                 \
        int rc = insn_ld##from(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            reg_st##to(c, in->reg, (u##to)(t)v);                                                   \
        return rc;                                                                                 \
    }

OPS_EXTEND(zx, 16, 8, u8)
OPS_EXTEND(zx, 16, 16, u16)
OPS_EXTEND(zx, 32, 8, u8)
OPS_EXTEND(zx, 32, 16, u16)
OPS_EXTEND(sx, 16, 8, s8)
OPS_EXTEND(sx, 32, 8, s8)
OPS_EXTEND(sx, 32, 16, s16)
OPS_EXTEND(sx, 64, 8, s8)
OPS_EXTEND(sx, 64, 16, s16)
OPS_EXTEND(sx, 64, 32, s32)

struct extend {
    op_fn *op[4][3][2]; /* [destination size][source size][memory] */
};
#define EXTEND(name, to, from)                                                                     \
    {                                                                                              \
        name##to##_##from##_rr, name##to##_##from##_rm                                             \
    }
#define EXTEND_ZX_WIDE                                                                             \
    {                                                                                              \
        EXTEND(zx, 32, 8), EXTEND(zx, 32, 16)                                                      \
    }

static const struct extend zx_ops = {.op = {
                                         [1] = {EXTEND(zx, 16, 8), EXTEND(zx, 16, 16)},
                                         [2] = EXTEND_ZX_WIDE,
                                         [3] = EXTEND_ZX_WIDE,
                                     }};
/* MOVSXD without REX.W is a plain move of its size. */
static const struct extend sx_ops = {
    .op = {
        [1] = {EXTEND(sx, 16, 8), EXTEND(zx, 16, 16), EXTEND(zx, 16, 16)},
        [2] = {EXTEND(sx, 32, 8), EXTEND(sx, 32, 16), {mov32_rr, mov32_rm}},
        [3] = {EXTEND(sx, 64, 8), EXTEND(sx, 64, 16), EXTEND(sx, 64, 32)},
    }};

static int lower_extend(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct extend *x = arg;
    const struct opnd *dst = &d->op[0], *src = &d->op[1];
    bool mem = src->kind == OPND_MEM;
    unsigned from = size_index(src->size);

    if (dst->kind != OPND_GPR || from > 2)
        return -ENOENT;
    in->reg = opnd_off(dst);
    if (!mem)
        in->rm = opnd_off(src);
    in->size = (u8)dst->size;
    in->op = x->op[size_index(dst->size)][from][mem];
    if (in->op == mov32_rr) { /* MOV's register form has its destination in (rm) */
        in->rm = opnd_off(dst);
        in->reg = opnd_off(src);
    }
    return in->op ? 0 : -ENOENT;
}

#define OP_LEA(bits)                                                                               \
    static int lea##bits(struct cpu *c, const struct insn *in)                                     \
    {                                                                                              \
        reg_st##bits(c, in->reg, (u##bits)insn_ea(c, in));                                         \
        return OP_NEXT;                                                                            \
    }
OP_LEA(16)
OP_LEA(32)
OP_LEA(64)

/* LEA with 64-bit addresses and no index. */
static int lea64_base(struct cpu *c, const struct insn *in)
{
    reg_st64(c, in->reg, c->r[in->base] + (u64)in->disp);
    return OP_NEXT;
}

static int lower_lea(const struct decoded *d, struct insn *in, const void *arg)
{
    static op_fn *const ops[4] = {NULL, lea16, lea32, lea64};

    if (d->op[0].kind != OPND_GPR || d->op[1].kind != OPND_MEM)
        return -ENOENT;
    in->reg = opnd_off(&d->op[0]);
    in->size = (u8)d->op[0].size;
    in->op = ops[size_index(d->op[0].size)];
    if (in->op == lea64 && !in->ea_shift && in->index == REG_ZERO)
        in->op = lea64_base;
    return in->op ? 0 : -ENOENT;
}

/* XCHG with memory is LOCKed whatever the prefix says: SDM 3A 9.1.2.1. */
#define OPS_XCHG(bits)                                                                             \
    static int xchg##bits##_rr(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits a = reg_ld##bits(c, in->rm), b = reg_ld##bits(c, in->reg);                         \
        reg_st##bits(c, in->rm, b);                                                                \
        reg_st##bits(c, in->reg, a);                                                               \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int xchg##bits##_mr(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        int rc = insn_rmw(c, in, &m, bits / 8, true);                                              \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        reg_st##bits(                                                                              \
            c, in->reg,                                                                            \
            __atomic_exchange_n((u##bits *)m.p, reg_ld##bits(c, in->reg), __ATOMIC_SEQ_CST));      \
        return mmu_rmw_end(c, &m);                                                                 \
    }
OPS_XCHG(8)
OPS_XCHG(16)
OPS_XCHG(32)
OPS_XCHG(64)

static int lower_xchg(const struct decoded *d, struct insn *in, const void *arg)
{
    static op_fn *const rr[4] = SIZES(xchg, rr), *const mr[4] = SIZES(xchg, mr);
    unsigned i = size_index(d->op[0].size), mem = d->op[1].kind == OPND_MEM;
    const struct opnd *a = &d->op[mem], *b = &d->op[!mem];

    if (b->kind != OPND_GPR)
        return -ENOENT;
    in->reg = opnd_off(b);
    in->size = (u8)b->size;
    if (a->kind == OPND_MEM) {
        in->op = mr[i];
        return 0;
    }
    in->rm = opnd_off(a);
    in->op = rr[i];
    return a->kind == OPND_GPR ? 0 : -ENOENT;
}

/* BSWAP of 16 bits is undefined (SDM 2A); real CPUs clear the register's low word. */
static int bswap16(struct cpu *c, const struct insn *in)
{
    reg_st16(c, in->rm, 0);
    return OP_NEXT;
}

static int bswap32(struct cpu *c, const struct insn *in)
{
    reg_st32(c, in->rm, __builtin_bswap32(reg_ld32(c, in->rm)));
    return OP_NEXT;
}

static int bswap64(struct cpu *c, const struct insn *in)
{
    reg_st64(c, in->rm, __builtin_bswap64(reg_ld64(c, in->rm)));
    return OP_NEXT;
}

static int lower_bswap(const struct decoded *d, struct insn *in, const void *arg)
{
    static op_fn *const ops[4] = {NULL, bswap16, bswap32, bswap64};

    in->rm = opnd_off(&d->op[0]);
    in->op = ops[size_index(d->op[0].size)];
    return in->op ? 0 : -ENOENT;
}

#define OPS_MOVBE(bits)                                                                            \
    static int movbe##bits##_rm(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            reg_st##bits(c, in->reg, __builtin_bswap##bits(v));                                    \
        return rc;                                                                                 \
    }                                                                                              \
    static int movbe##bits##_mr(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        return insn_st##bits(c, in, __builtin_bswap##bits(reg_ld##bits(c, in->reg)));              \
    }
OPS_MOVBE(16)
OPS_MOVBE(32)
OPS_MOVBE(64)

static int lower_movbe(const struct decoded *d, struct insn *in, const void *arg)
{
    static op_fn *const ops[4][2] = {
        {NULL}, {movbe16_rm, movbe16_mr}, {movbe32_rm, movbe32_mr}, {movbe64_rm, movbe64_mr}};
    bool store = d->op[0].kind == OPND_MEM;
    const struct opnd *r = &d->op[store];

    if (r->kind != OPND_GPR)
        return -ENOENT;
    in->reg = opnd_off(r);
    in->op = ops[size_index(r->size)][store];
    return in->op ? 0 : -ENOENT;
}

/* CBW, CWDE, CDQE: extend within RAX. CWD, CDQ, CQO: into RDX. */
static int cbw(struct cpu *c, const struct insn *in)
{
    reg_st16(c, REG_RAX * 8, (u16)(s8)c->r[REG_RAX]);
    return OP_NEXT;
}

static int cwde(struct cpu *c, const struct insn *in)
{
    c->r[REG_RAX] = (u32)(s16)c->r[REG_RAX];
    return OP_NEXT;
}

static int cdqe(struct cpu *c, const struct insn *in)
{
    c->r[REG_RAX] = (u64)(s32)c->r[REG_RAX];
    return OP_NEXT;
}

static int cwd(struct cpu *c, const struct insn *in)
{
    reg_st16(c, REG_RDX * 8, (u16)((s16)c->r[REG_RAX] >> 15));
    return OP_NEXT;
}

static int cdq(struct cpu *c, const struct insn *in)
{
    c->r[REG_RDX] = (u32)((s32)c->r[REG_RAX] >> 31);
    return OP_NEXT;
}

static int cqo(struct cpu *c, const struct insn *in)
{
    c->r[REG_RDX] = (u64)((s64)c->r[REG_RAX] >> 63);
    return OP_NEXT;
}

/* AL = [rBX + AL]: the address fields hold the base, the segment is not ModRM's. */
static int xlat(struct cpu *c, const struct insn *in)
{
    u64 ea = (c->r[REG_RBX] + (u8)c->r[REG_RAX]) & (~0ull >> in->ea_shift);
    u64 lin = ea + c->seg[in->seg].base;
    u8 v;
    int rc;

    if (in->flags & INSN_LEGACY && seg_access(c, in->seg, ea, 1, false, &lin))
        return OP_FAULT;
    rc = lin_ld8(c, lin, &v, insn_acc(in));
    if (!rc)
        *(u8 *)&c->r[REG_RAX] = v;
    return rc;
}

static int lower_xlat(const struct decoded *d, struct insn *in, const void *arg)
{
    in->seg = decoded_source_seg(d);
    in->flags |= in->seg == SEG_SS ? INSN_SS : 0;
    in->op = xlat;
    return 0;
}

#define SETCC_ROW(name, n) {ZYDIS_MNEMONIC_SET##name, lower_setcc, setcc_ops[n]},
#define CMOV_ROW(name, n)  {ZYDIS_MNEMONIC_CMOV##name, lower_cmov, cmov_ops[n]},

const struct op_row ops_mov[] = {
    {ZYDIS_MNEMONIC_MOV, lower_mov, NULL},
    {ZYDIS_MNEMONIC_MOVZX, lower_extend, &zx_ops},
    {ZYDIS_MNEMONIC_MOVSX, lower_extend, &sx_ops},
    {ZYDIS_MNEMONIC_MOVSXD, lower_extend, &sx_ops},
    {ZYDIS_MNEMONIC_LEA, lower_lea, NULL},
    {ZYDIS_MNEMONIC_XCHG, lower_xchg, NULL},
    {ZYDIS_MNEMONIC_BSWAP, lower_bswap, NULL},
    {ZYDIS_MNEMONIC_MOVBE, lower_movbe, NULL},
    {ZYDIS_MNEMONIC_CBW, lower_fixed, &FIXED(cbw)},
    {ZYDIS_MNEMONIC_CWDE, lower_fixed, &FIXED(cwde)},
    {ZYDIS_MNEMONIC_CDQE, lower_fixed, &FIXED(cdqe)},
    {ZYDIS_MNEMONIC_CWD, lower_fixed, &FIXED(cwd)},
    {ZYDIS_MNEMONIC_CDQ, lower_fixed, &FIXED(cdq)},
    {ZYDIS_MNEMONIC_CQO, lower_fixed, &FIXED(cqo)},
    {ZYDIS_MNEMONIC_XLAT, lower_xlat, NULL},
    {ZYDIS_MNEMONIC_LAHF, lower_fixed, &FIXED(flag_lahf)},
    {ZYDIS_MNEMONIC_SAHF, lower_fixed, &FIXED(flag_sahf)},
    {ZYDIS_MNEMONIC_SALC, lower_fixed, &FIXED(flag_salc)},
    {ZYDIS_MNEMONIC_CMC, lower_fixed, &FIXED(flag_cmc)},
    {ZYDIS_MNEMONIC_CLC, lower_fixed, &FIXED(flag_clc)},
    {ZYDIS_MNEMONIC_STC, lower_fixed, &FIXED(flag_stc)},
    {ZYDIS_MNEMONIC_CLD, lower_fixed, &FIXED(flag_cld)},
    {ZYDIS_MNEMONIC_STD, lower_fixed, &FIXED(flag_std)},
    CONDITIONS(SETCC_ROW) CONDITIONS(CMOV_ROW){0},
};
