// SPDX-License-Identifier: MIT
// Plain vector moves and zeroing idioms, done in C: they are most of what vector code does.

#include "cpu/vec/exec.h"
#include "cpu/vec/lower.h"

#include <Zydis/DecoderTypes.h>
#include <errno.h>

/*
 * (aux): availability; x[0]: destination or stored register; x[1]: source register; x[2]:
 * alignment - 1. The legacy forms stop at bit 127, the others zero what is above the operand.
 */

static int move_lin(struct cpu *c, const struct insn *in, unsigned size, bool write, u64 *lin)
{
    int rc = vec_check(c, in, insn_stub(in));

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, size, write, lin);
    if (rc == OP_NEXT && unlikely(*lin & in->x[2]))
        return cpu_raise_gp(c);
    return rc;
}

/* Load (size) bytes, zero the rest up to (upper). */
#define LOAD(name, size, upper)                                                                    \
    static int name(struct cpu *c, const struct insn *in)                                          \
    {                                                                                              \
        u8 *dst = c->vec.zmm[in->x[0]];                                                            \
        void *p;                                                                                   \
        u64 lin;                                                                                   \
        int rc = move_lin(c, in, size, false, &lin);                                               \
                                                                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        p = mmu_peek(c, lin, size, false);                                                         \
        if (likely(p))                                                                             \
            memcpy(dst, p, size);                                                                  \
        else                                                                                       \
            rc = mmu_load(c, lin, dst, size, insn_acc(in));                                        \
        if (likely(rc == OP_NEXT))                                                                 \
            memset(dst + size, 0, upper - size);                                                   \
        return rc;                                                                                 \
    }

#define STORE(name, size)                                                                          \
    static int name(struct cpu *c, const struct insn *in)                                          \
    {                                                                                              \
        const u8 *src = c->vec.zmm[in->x[0]];                                                      \
        void *p;                                                                                   \
        u64 lin;                                                                                   \
        int rc = move_lin(c, in, size, true, &lin);                                                \
                                                                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        p = mmu_peek(c, lin, size, true);                                                          \
        if (unlikely(!p))                                                                          \
            return mmu_store(c, lin, src, size, insn_acc(in));                                     \
        memcpy(p, src, size);                                                                      \
        return OP_NEXT;                                                                            \
    }

#define COPY(name, size, upper)                                                                    \
    static int name(struct cpu *c, const struct insn *in)                                          \
    {                                                                                              \
        u8 *dst = c->vec.zmm[in->x[0]];                                                            \
        int rc = vec_check(c, in, insn_stub(in));                                                  \
                                                                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        memmove(dst, c->vec.zmm[in->x[1]], size);                                                  \
        memset(dst + size, 0, upper - size);                                                       \
        return OP_NEXT;                                                                            \
    }

#define FROM_GPR(name, size, upper)                                                                \
    static int name(struct cpu *c, const struct insn *in)                                          \
    {                                                                                              \
        u8 *dst = c->vec.zmm[in->x[0]];                                                            \
        int rc = vec_check(c, in, insn_stub(in));                                                  \
                                                                                                   \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        memcpy(dst, insn_reg64(c, in->x[1]), size);                                                \
        memset(dst + size, 0, upper - size);                                                       \
        return OP_NEXT;                                                                            \
    }

#define ZERO(name, upper)                                                                          \
    static int name(struct cpu *c, const struct insn *in)                                          \
    {                                                                                              \
        int rc = vec_check(c, in, insn_stub(in));                                                  \
                                                                                                   \
        if (likely(rc == OP_NEXT))                                                                 \
            memset(c->vec.zmm[in->x[0]], 0, upper);                                                \
        return rc;                                                                                 \
    }

LOAD(op_load4, 4, 16)
LOAD(op_load8, 8, 16)
LOAD(op_load16, 16, 16)
LOAD(op_vload4, 4, 64)
LOAD(op_vload8, 8, 64)
LOAD(op_vload16, 16, 64)
LOAD(op_vload32, 32, 64)
LOAD(op_vload64, 64, 64)
STORE(op_store4, 4)
STORE(op_store8, 8)
STORE(op_store16, 16)
STORE(op_store32, 32)
STORE(op_store64, 64)
COPY(op_copy8, 8, 16)
COPY(op_copy16, 16, 16)
COPY(op_vcopy8, 8, 64)
COPY(op_vcopy16, 16, 64)
COPY(op_vcopy32, 32, 64)
COPY(op_vcopy64, 64, 64)
FROM_GPR(op_from_gpr4, 4, 16)
FROM_GPR(op_from_gpr8, 8, 16)
FROM_GPR(op_vfrom_gpr4, 4, 64)
FROM_GPR(op_vfrom_gpr8, 8, 64)
ZERO(op_zero, 16)
ZERO(op_vzero, 64)

/* MOVD, MOVQ to a general register: 32 bits zero-extend. */
static int op_to_gpr4(struct cpu *c, const struct insn *in)
{
    int rc = vec_check(c, in, insn_stub(in));
    u32 v;

    if (unlikely(rc))
        return rc;
    memcpy(&v, c->vec.zmm[in->x[0]], 4);
    *insn_reg64(c, in->x[1]) = v;
    return OP_NEXT;
}

static int op_to_gpr8(struct cpu *c, const struct insn *in)
{
    int rc = vec_check(c, in, insn_stub(in));

    if (likely(rc == OP_NEXT))
        memcpy(insn_reg64(c, in->x[1]), c->vec.zmm[in->x[0]], 8);
    return rc;
}

/* Index of a size in the tables below. */
static unsigned size_index(unsigned size)
{
    return (unsigned)__builtin_ctz(size) - 2; /* 4, 8, 16, 32, 64 */
}

static op_fn *const load_ops[2][5] = {
    {op_load4, op_load8, op_load16},
    {op_vload4, op_vload8, op_vload16, op_vload32, op_vload64},
};
static op_fn *const store_ops[5] = {op_store4, op_store8, op_store16, op_store32, op_store64};
static op_fn *const copy_ops[2][5] = {
    {NULL, op_copy8, op_copy16},
    {NULL, op_vcopy8, op_vcopy16, op_vcopy32, op_vcopy64},
};
static op_fn *const from_gpr_ops[2][2] = {{op_from_gpr4, op_from_gpr8}, {op_vfrom_gpr4, op_vfrom_gpr8}};
static op_fn *const to_gpr_ops[2] = {op_to_gpr4, op_to_gpr8};

enum kind {
    NOT_A_MOVE,
    WHOLE,         /* moves of a whole register */
    WHOLE_ALIGNED, /* the same, and memory must be aligned */
    LOW,           /* MOVD, MOVQ: the low element; loads and copies zero the rest */
    LOW_MEM,       /* MOVSS, MOVSD: the same from and to memory only */
    XOR            /* zeroes when its sources are one register */
};

static enum kind kind_of(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS: case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD: case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU: case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VMOVDQU8: case ZYDIS_MNEMONIC_VMOVDQU16:
    case ZYDIS_MNEMONIC_VMOVDQU32: case ZYDIS_MNEMONIC_VMOVDQU64:
    case ZYDIS_MNEMONIC_LDDQU: case ZYDIS_MNEMONIC_VLDDQU:
        return WHOLE;
    case ZYDIS_MNEMONIC_MOVAPS: case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD: case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA: case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQA32: case ZYDIS_MNEMONIC_VMOVDQA64:
    case ZYDIS_MNEMONIC_MOVNTPS: case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD: case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ: case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA: case ZYDIS_MNEMONIC_VMOVNTDQA:
        return WHOLE_ALIGNED;
    case ZYDIS_MNEMONIC_MOVD: case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_MOVQ: case ZYDIS_MNEMONIC_VMOVQ:
        return LOW;
    case ZYDIS_MNEMONIC_MOVSS: case ZYDIS_MNEMONIC_VMOVSS:
    case ZYDIS_MNEMONIC_MOVSD: case ZYDIS_MNEMONIC_VMOVSD:
        return LOW_MEM;
    case ZYDIS_MNEMONIC_PXOR: case ZYDIS_MNEMONIC_VPXOR:
    case ZYDIS_MNEMONIC_XORPS: case ZYDIS_MNEMONIC_VXORPS:
    case ZYDIS_MNEMONIC_XORPD: case ZYDIS_MNEMONIC_VXORPD:
    case ZYDIS_MNEMONIC_VPXORD: case ZYDIS_MNEMONIC_VPXORQ:
        return XOR;
    default:
        return NOT_A_MOVE;
    }
}

static int lower_zero(const struct decoded *d, struct insn *in, bool vex)
{
    const struct opnd *a = &d->op[d->nopnd - 2], *b = &d->op[d->nopnd - 1];

    if (a->kind != OPND_VEC || b->kind != OPND_VEC || a->reg != b->reg)
        return -ENOENT;
    in->x[0] = d->op[0].reg;
    in->op = vex ? op_vzero : op_zero;
    return 0;
}

static int lower_move(const struct decoded *d, struct insn *in, enum kind kind, bool vex)
{
    /* An EVEX form has its (unused) mask operand between the two. */
    const struct opnd *dst = &d->op[0], *src = &d->op[d->nopnd - 1];
    const struct opnd *mem = dst->kind == OPND_MEM ? dst : src->kind == OPND_MEM ? src : NULL;
    unsigned size = kind == LOW && !mem ? dst->kind == OPND_GPR   ? dst->size
                                          : src->kind == OPND_GPR ? src->size
                                                                  : 8
                    : mem               ? mem->size
                                        : dst->size;

    if (size < 4 || size > 64 || (kind == LOW_MEM && !mem))
        return -ENOENT;
    if (mem) {
        in->x[0] = mem == dst ? src->reg : dst->reg;
        in->x[2] = kind == WHOLE_ALIGNED ? (u8)(size - 1) : 0;
        in->op = mem == dst ? store_ops[size_index(size)] : load_ops[vex][size_index(size)];
    } else if (src->kind == OPND_GPR) {
        in->x[0] = dst->reg;
        in->x[1] = opnd_off(src);
        in->op = from_gpr_ops[vex][size_index(size)];
    } else if (dst->kind == OPND_GPR) {
        in->x[0] = src->reg;
        in->x[1] = opnd_off(dst);
        in->op = to_gpr_ops[size_index(size)];
    } else {
        in->x[0] = dst->reg;
        in->x[1] = src->reg;
        in->op = copy_ops[vex][size_index(size)];
    }
    return in->op ? 0 : -ENOENT;
}

int move_lower(const struct decoded *d, struct insn *in)
{
    enum kind kind = kind_of(d->mnemonic);
    bool vex = d->enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY;

    if (kind == NOT_A_MOVE || d->evex_aaa || d->nopnd < 2)
        return -ENOENT;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_MMX)
            return -ENOENT;
    }
    in->aux = (void *)(!vex                                          ? &vec_avail_sse
                       : d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX ? &vec_avail_avx512
                                                                     : &vec_avail_avx);
    return kind == XOR ? lower_zero(d, in, vex) : lower_move(d, in, kind, vex);
}
