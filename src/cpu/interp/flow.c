// SPDX-License-Identifier: MIT
// Near control flow: JMP, Jcc, CALL, RET, LOOP, JCXZ; NOP in its many forms, and UD.

#include "cpu/interp/alu.h"
#include "cpu/interp/stack.h"

/*
 * in->imm of a relative branch is the target's offset from REG_IPBASE. 64-bit mode has
 * handlers of its own: operand size 64 whatever the prefixes say (Intel's rule; AMD lets
 * 66h through), canonical check instead of segment limit. The legacy ones take the operand size
 * from in->size: 2 cuts the target to IP, 4 to EIP.
 */
static ALWAYS_INLINE bool canonical(u64 a)
{
    return (u64)((s64)(a << 16) >> 16) == a;
}

static ALWAYS_INLINE int jump64(struct cpu *c, u64 to)
{
    if (unlikely(!canonical(to)))
        return cpu_raise_gp(c);
    c->rip = to;
    return OP_END;
}

static u64 legacy_target(const struct insn *in, u64 to)
{
    return in->size == 2 ? (u16)to : (u32)to;
}

/* (to) is cut already. */
static int legacy_check(struct cpu *c, u64 to)
{
    return to > c->seg[SEG_CS].limit ? cpu_raise_gp(c) : OP_NEXT;
}

static int legacy_jump(struct cpu *c, const struct insn *in, u64 to)
{
    to = legacy_target(in, to);
    if (legacy_check(c, to))
        return OP_FAULT;
    c->rip = to;
    return OP_END;
}

static ALWAYS_INLINE u64 relative(const struct cpu *c, const struct insn *in)
{
    return c->r[REG_IPBASE] + in->imm;
}

#define OPS_JCC(name, n)                                                                           \
    static int j##name##_64(struct cpu *c, const struct insn *in)                                  \
    {                                                                                              \
        return cc_test(c->cc, n) ? jump64(c, relative(c, in)) : OP_NEXT;                           \
    }                                                                                              \
    static int j##name##_legacy(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        return cc_test(c->cc, n) ? legacy_jump(c, in, relative(c, in)) : OP_NEXT;                  \
    }
CONDITIONS(OPS_JCC)

/* A pair of handlers: 64-bit mode, legacy modes. */
struct flow {
    op_fn *op64, *legacy;
};
#define JCC_FLOW(name, n) [n] = {j##name##_64, j##name##_legacy},
static const struct flow jcc_flow[16] = {CONDITIONS(JCC_FLOW)};

static int lower_relative(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct flow *f = arg;

    in->size = d->opsize;
    in->imm = (u64)(in->off + d->len + d->op[0].imm);
    in->op = d->mode == MODE_64 ? f->op64 : f->legacy;
    return d->op[0].kind == OPND_IMM ? 0 : -ENOENT;
}

/* rCX by the address size: 16, 32 or 64 bits. */
static u64 loop_count(const struct cpu *c, const struct insn *in)
{
    return c->r[REG_RCX] & (~0ull >> in->ea_shift);
}

static int branch(struct cpu *c, const struct insn *in)
{
    return in->flags & INSN_LEGACY ? legacy_jump(c, in, relative(c, in))
                                   : jump64(c, relative(c, in));
}

static int jrcxz(struct cpu *c, const struct insn *in)
{
    return loop_count(c, in) ? OP_NEXT : branch(c, in);
}

/* LOOP, LOOPE, LOOPNE: no flag changes; a faulting branch leaves rCX as it was. */
static ALWAYS_INLINE int loop_if(struct cpu *c, const struct insn *in, bool more)
{
    u64 n = (loop_count(c, in) - 1) & (~0ull >> in->ea_shift);
    int rc = n && more ? branch(c, in) : OP_NEXT;

    if (rc < 0)
        return rc;
    if (in->ea_shift == 48)
        *(u16 *)&c->r[REG_RCX] = (u16)n;
    else
        c->r[REG_RCX] = n;
    return rc;
}

static int loop(struct cpu *c, const struct insn *in)
{
    return loop_if(c, in, true);
}
static int loope(struct cpu *c, const struct insn *in)
{
    return loop_if(c, in, c->cc & CC_ZF);
}
static int loopne(struct cpu *c, const struct insn *in)
{
    return loop_if(c, in, !(c->cc & CC_ZF));
}

static const struct flow jrcxz_flow = {jrcxz, jrcxz}, loop_flow = {loop, loop},
                         loope_flow = {loope, loope}, loopne_flow = {loopne, loopne};

/* Unconditional branches and calls: where the target comes from. */
enum source { FROM_REL, FROM_REG, FROM_MEM, FROM_COUNT };

static ALWAYS_INLINE int target64(struct cpu *c, const struct insn *in, enum source from, u64 *to)
{
    int rc = OP_NEXT;

    if (from == FROM_MEM)
        rc = insn_ld64(c, in, to);
    else
        *to = from == FROM_REG ? reg_ld64(c, in->rm) : relative(c, in);
    if (likely(!rc) && unlikely(!canonical(*to)))
        rc = cpu_raise_gp(c);
    return rc;
}

static int target_legacy(struct cpu *c, const struct insn *in, enum source from, u64 *to)
{
    u32 v = 0;
    int rc;

    if (from == FROM_MEM) {
        rc = insn_load(c, in, &v, in->size);
        if (rc)
            return rc;
        *to = v;
    } else {
        *to = legacy_target(in, from == FROM_REG ? c->r[in->rm / 8] : relative(c, in));
    }
    return legacy_check(c, *to);
}

#define OPS_FLOW(from, FROM)                                                                       \
    static int jmp64_##from(struct cpu *c, const struct insn *in)                                  \
    {                                                                                              \
        u64 to = 0;                                                                                \
        int rc = target64(c, in, FROM, &to);                                                       \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        c->rip = to;                                                                               \
        return OP_END;                                                                             \
    }                                                                                              \
    static int call64_##from(struct cpu *c, const struct insn *in)                                 \
    {                                                                                              \
        u64 to, sp = c->r[REG_RSP] - 8;                                                            \
        int rc = target64(c, in, FROM, &to);                                                       \
        if (likely(!rc))                                                                           \
            rc = lin_st64(c, sp, insn_next(c, in), MMU_SS);                                        \
        if (unlikely(rc < 0))                                                                      \
            return rc;                                                                             \
        c->r[REG_RSP] = sp;                                                                        \
        c->rip = to;                                                                               \
        return OP_END;                                                                             \
    }                                                                                              \
    static int jmp_legacy_##from(struct cpu *c, const struct insn *in)                             \
    {                                                                                              \
        u64 to = 0;                                                                                \
        int rc = target_legacy(c, in, FROM, &to);                                                  \
        if (rc)                                                                                    \
            return rc;                                                                             \
        c->rip = to;                                                                               \
        return OP_END;                                                                             \
    }                                                                                              \
    static int call_legacy_##from(struct cpu *c, const struct insn *in)                            \
    {                                                                                              \
        u64 to = 0;                                                                                \
        int rc = target_legacy(c, in, FROM, &to);                                                  \
        if (!rc)                                                                                   \
            rc = stack_push(c, in->size, insn_next(c, in));                                        \
        if (rc < 0)                                                                                \
            return rc;                                                                             \
        c->rip = to;                                                                               \
        return OP_END;                                                                             \
    }
OPS_FLOW(rel, FROM_REL)
OPS_FLOW(reg, FROM_REG)
OPS_FLOW(mem, FROM_MEM)

static const struct flow jmp_flow[FROM_COUNT] = {
    {jmp64_rel, jmp_legacy_rel}, {jmp64_reg, jmp_legacy_reg}, {jmp64_mem, jmp_legacy_mem}};
static const struct flow call_flow[FROM_COUNT] = {
    {call64_rel, call_legacy_rel}, {call64_reg, call_legacy_reg}, {call64_mem, call_legacy_mem}};

/* FF /3 and /5 with memory, and the pointer forms, are far. */
static bool is_far(const struct decoded *d)
{
    return d->op[0].kind == OPND_FAR ||
           (d->opcode == 0xff && (d->modrm_reg == 3 || d->modrm_reg == 5));
}

static int lower_jump(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct flow *f = arg;

    if (is_far(d))
        return -ENOENT;
    in->flags |= INSN_ENDS;
    if (d->op[0].kind == OPND_IMM)
        return lower_relative(d, in, &f[FROM_REL]);
    f += d->op[0].kind == OPND_MEM ? FROM_MEM : FROM_REG;
    if (d->op[0].kind == OPND_GPR)
        in->rm = opnd_off(&d->op[0]);
    in->size = d->opsize;
    in->op = d->mode == MODE_64 ? f->op64 : f->legacy;
    return 0;
}

/* RET: in->imm more bytes of stack are dropped. The target is checked before RSP moves. */
static int ret64(struct cpu *c, const struct insn *in)
{
    u64 to;
    int rc = lin_ld64(c, c->r[REG_RSP], &to, MMU_SS);

    if (unlikely(rc))
        return rc;
    if (unlikely(!canonical(to)))
        return cpu_raise_gp(c);
    c->r[REG_RSP] += 8 + in->imm;
    c->rip = to;
    return OP_END;
}

static int ret_legacy(struct cpu *c, const struct insn *in)
{
    u64 to;
    int rc = stack_peek(c, in->size, 0, &to);

    if (!rc)
        rc = legacy_check(c, to);
    if (rc)
        return rc;
    stack_set(c, c->r[REG_RSP] + in->size + in->imm);
    c->rip = to;
    return OP_END;
}

static int lower_ret(const struct decoded *d, struct insn *in, const void *arg)
{
    if (d->opcode == 0xca || d->opcode == 0xcb)
        return -ENOENT;
    in->flags |= INSN_ENDS;
    in->size = d->opsize;
    in->imm = d->nopnd ? (u16)d->op[0].imm : 0;
    in->op = d->mode == MODE_64 ? ret64 : ret_legacy;
    return 0;
}

static int nop(struct cpu *c, const struct insn *in)
{
    return OP_NEXT;
}

static int spin_hint(struct cpu *c, const struct insn *in)
{
    __builtin_ia32_pause();
    return OP_NEXT;
}

static int ud(struct cpu *c, const struct insn *in)
{
    return cpu_raise_ud(c);
}

static int lower_ud(const struct decoded *d, struct insn *in, const void *arg)
{
    in->flags |= INSN_ENDS;
    in->op = ud;
    return 0;
}

#define JCC_ROW(name, n) {ZYDIS_MNEMONIC_J##name, lower_relative, &jcc_flow[n]},

const struct op_row ops_flow[] = {
    CONDITIONS(JCC_ROW){ZYDIS_MNEMONIC_JCXZ, lower_relative, &jrcxz_flow},
    {ZYDIS_MNEMONIC_JECXZ, lower_relative, &jrcxz_flow},
    {ZYDIS_MNEMONIC_JRCXZ, lower_relative, &jrcxz_flow},
    {ZYDIS_MNEMONIC_LOOP, lower_relative, &loop_flow},
    {ZYDIS_MNEMONIC_LOOPE, lower_relative, &loope_flow},
    {ZYDIS_MNEMONIC_LOOPNE, lower_relative, &loopne_flow},
    {ZYDIS_MNEMONIC_JMP, lower_jump, jmp_flow},
    {ZYDIS_MNEMONIC_CALL, lower_jump, call_flow},
    {ZYDIS_MNEMONIC_RET, lower_ret, NULL},
    {ZYDIS_MNEMONIC_NOP, lower_fixed, &FIXED(nop)},
    {ZYDIS_MNEMONIC_ENDBR32, lower_fixed, &FIXED(nop)},
    {ZYDIS_MNEMONIC_ENDBR64, lower_fixed, &FIXED(nop)},
    {ZYDIS_MNEMONIC_RDSSPD, lower_fixed, &FIXED(nop)},
    {ZYDIS_MNEMONIC_RDSSPQ, lower_fixed, &FIXED(nop)},
    {ZYDIS_MNEMONIC_PAUSE, lower_fixed, &FIXED(spin_hint)},
    {ZYDIS_MNEMONIC_UD0, lower_ud, NULL},
    {ZYDIS_MNEMONIC_UD1, lower_ud, NULL},
    {ZYDIS_MNEMONIC_UD2, lower_ud, NULL},
    {0},
};
