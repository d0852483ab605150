// SPDX-License-Identifier: MIT
// x87 and MMX instructions without FXRSTOR and FXSAVE, for the usual case of masked exceptions.

/*
 * Theory of operation
 *
 * FXRSTOR and FXSAVE cost hundreds of nanoseconds. With every exception masked and no stack
 * fault in sight an x87 instruction depends on nothing but FCW and the registers it names. So
 * its stub pushes ST(0) … ST(n) as 80-bit numbers, which neither changes nor judges them, runs
 * the instruction, reads FSW, and pops what was written back into c->vec.x87.st. TOP, tags and
 * the flags in FSW are kept in C. c->vec.x87.st is numbered from TOP, so that a push or pop moves
 * all of it: before a push's stub, and after a pop's.
 *
 * (scratch), in RDX, is where an x87 stub keeps the host's FCW, and for an MMX stub the offset of the
 * general register operand. The host's x87 stack is empty and its FSW flags are clear before and after.
 *
 * MMX instructions enter MMX state in C (TOP is 0, all tags valid) and then work on
 * c->vec.x87.st, whose numbers are then those of the MMX registers.
 */

#include "cpu/vec/x87_fast.h"

#include "cpu/vec/emit.h"
#include "cpu/vec/x87.h"

#include <Zydis/DecoderTypes.h>

#define FSW_TOP (7u << 11)
#define FSW_C1 BIT(9)
#define FSW_COND (BIT(8) | BIT(10) | BIT(14))
#define OFF_ST(n) ((u32)(offsetof(struct cpu, vec.x87.st) + 16 * (n)))
#define OFF_FCW ((u32)offsetof(struct cpu, vec.x87.fcw))
#define OFF_CC ((u32)offsetof(struct cpu, cc))

/* --- shapes --- */

/* D8, DA, DC, DE with memory: ST(0) op memory; /2 and /3 compare. */
static bool shape_arith_mem(unsigned op, struct x87_shape *s)
{
    bool compare = op == 2 || op == 3;

    *s = (struct x87_shape){.need = 1, .load = 1, .write = !compare, .cond = compare, .pop = op == 3};
    return true;
}

/* D9, DB, DD, DF with memory: loads and stores. Control instructions never come here. */
static bool shape_move_mem(unsigned opcode, unsigned op, struct x87_shape *s)
{
    bool load = op == 0 || (opcode == 0xdb && op == 5) || (opcode == 0xdf && (op == 4 || op == 5));

    if (load)
        *s = (struct x87_shape){.push = 1};
    else
        *s = (struct x87_shape){.need = 1, .load = 1, .pop = op != 2};
    return true;
}

static bool shape_d9(unsigned modrm, struct x87_shape *s)
{
    unsigned i = modrm & 7;

    switch (modrm) {
    case 0xc0 ... 0xc7: /* FLD ST(i) */
        *s = (struct x87_shape){.need = (u8)(1u << i), .load = (u8)(i + 1), .push = 1};
        return true;
    case 0xc8 ... 0xcf: /* FXCH */
        *s = (struct x87_shape){.need = (u8)(1u << i | 1), .load = (u8)(i + 1), .write = (u8)(1u << i | 1)};
        return true;
    case 0xe0: case 0xe1: /* FCHS, FABS */
    case 0xf0: case 0xfa: case 0xfc: /* F2XM1, FSQRT, FRNDINT */
        *s = (struct x87_shape){.need = 1, .load = 1, .write = 1};
        return true;
    case 0xe4: case 0xe5: /* FTST, FXAM */
        *s = (struct x87_shape){.need = 1, .load = 1, .cond = true};
        return true;
    case 0xe8 ... 0xee: /* constants */
        *s = (struct x87_shape){.push = 1};
        return true;
    case 0xf1: case 0xf3: case 0xf9: /* FYL2X, FPATAN, FYL2XP1 */
        *s = (struct x87_shape){.need = 3, .load = 2, .write = 2, .pop = 1};
        return true;
    case 0xfd: /* FSCALE */
        *s = (struct x87_shape){.need = 3, .load = 2, .write = 1};
        return true;
    default: /* what may not push after all (FPTAN), or may leave C0, C2 and C3 (FPREM), too */
        return false;
    }
}

/* The other register forms. */
static bool shape_reg(unsigned opcode, unsigned modrm, struct x87_shape *s)
{
    unsigned i = modrm & 7, op = modrm >> 3 & 7;
    u8 both = (u8)(1u << i | 1), load = (u8)(i + 1);

    switch (opcode << 4 | op) {
    case 0xd80: case 0xd81: case 0xd84: case 0xd85: case 0xd86: case 0xd87: /* ST(0) op= ST(i) */
        *s = (struct x87_shape){.need = both, .load = load, .write = 1};
        return true;
    case 0xda0: case 0xda1: case 0xda2: case 0xda3: case 0xdb0: case 0xdb1: case 0xdb2: case 0xdb3: /* FCMOVcc */
        *s = (struct x87_shape){.need = both, .load = load, .write = 1, .keep_c1 = true};
        return true;
    case 0xdc0: case 0xdc1: case 0xdc4: case 0xdc5: case 0xdc6: case 0xdc7: /* ST(i) op= ST(0) */
        *s = (struct x87_shape){.need = both, .load = load, .write = (u8)(1u << i)};
        return true;
    case 0xde0: case 0xde1: case 0xde4: case 0xde5: case 0xde6: case 0xde7: /* the same and pop */
        *s = (struct x87_shape){.need = both, .load = load, .write = (u8)(1u << i), .pop = 1};
        return i != 0; /* else what is popped has changed too */
    case 0xd82: case 0xdd4: /* FCOM, FUCOM */
        *s = (struct x87_shape){.need = both, .load = load, .cond = true};
        return true;
    case 0xd83: case 0xdd5: /* FCOMP, FUCOMP */
        *s = (struct x87_shape){.need = both, .load = load, .cond = true, .pop = 1};
        return true;
    case 0xda5: case 0xde3: /* FUCOMPP, FCOMPP */
        *s = (struct x87_shape){.need = 3, .load = 2, .cond = true, .pop = 2};
        return i == 1;
    case 0xdb5: case 0xdb6: /* FUCOMI, FCOMI */
        *s = (struct x87_shape){.need = both, .load = load, .keep_c1 = true};
        return true;
    case 0xdf5: case 0xdf6: /* FUCOMIP, FCOMIP */
        *s = (struct x87_shape){.need = both, .load = load, .pop = 1, .keep_c1 = true};
        return true;
    case 0xdd2: case 0xdd3: /* FST, FSTP ST(i) */
        *s = (struct x87_shape){.need = 1, .load = load, .write = (u8)(i ? 1u << i : 0), .pop = op == 3};
        return true;
    default:
        return false;
    }
}

static bool shape_of(const struct decoded *d, struct x87_shape *s)
{
    unsigned modrm = d->bytes[d->modrm_off], op = modrm >> 3 & 7;

    if (d->modrm_mod != 3)
        return d->opcode & 1 ? (d->opcode == 0xde ? false : shape_move_mem(d->opcode, op, s))
                             : shape_arith_mem(op, s);
    return d->opcode == 0xd9 ? shape_d9(modrm, s) : shape_reg(d->opcode, modrm, s);
}

/* --- code --- */

static void emit_st(struct emit *e, bool store, unsigned n)
{
    emit_u8(e, 0xdb); /* fld, fstp tbyte [rdi + …] */
    emit_rdi(e, store ? 7 : 5, OFF_ST(n));
}

static void emit_x87(struct emit *e, const struct decoded *d, const struct vec_stub *s)
{
    const struct x87_shape *x = &s->shape;

    EMIT(e, 0xdf, 0xe0, 0xa8, 0x3f, 0x74, 0x02, 0xdb, 0xe2); /* fnstsw ax; test al, 0x3f; jz +2; fnclex */
    EMIT(e, 0xd9, 0x3a, 0xd9);                               /* fnstcw [rdx]; fldcw [rdi + …] */
    emit_rdi(e, 5, OFF_FCW);
    for (unsigned n = x->load; n-- > 0;)
        emit_st(e, false, n + x->push);
    if (d->flags_read) {
        EMIT(e, 0x0f, 0xb7); /* movzx eax, word [rdi + …]; add al, 0x7f; sahf */
        emit_rdi(e, REG_RAX, OFF_CC);
        EMIT(e, 0x04, 0x7f, 0x9e);
    }
    emit_bytes(e, s->key, s->key_len);
    if (d->flags_written) {
        EMIT(e, 0x9f, 0x0f, 0x90, 0xc0, 0x66, 0x89); /* lahf; seto al; mov [rdi + …], ax */
        emit_rdi(e, REG_RAX, OFF_CC);
    }
    EMIT(e, 0xdf, 0xe0); /* fnstsw ax */
    for (unsigned n = 0; n + x->pop < (unsigned)x->load + x->push; n++) {
        bool written = n < x->push || x->write >> (n + x->pop - x->push) & 1;

        if (written)
            emit_st(e, true, n + x->pop);
        else
            EMIT(e, 0xdd, 0xd8); /* fstp st(0) */
    }
    EMIT(e, 0xa8, 0x3f, 0x74, 0x02, 0xdb, 0xe2); /* test al, 0x3f; jz +2; fnclex */
    EMIT(e, 0xd9, 0x2a, 0xc3);                   /* fldcw [rdx]; ret */
}

static void emit_mm(struct emit *e, bool store, unsigned n)
{
    EMIT(e, 0x0f, store ? 0x7f : 0x6f); /* movq */
    emit_rdi(e, n, OFF_ST(n));
}

/* MMX registers that (d) names and writes, as bit masks. */
static void mmx_operands(const struct decoded *d, u8 *all, u8 *written)
{
    *all = *written = 0;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind != OPND_MMX)
            continue;
        *all |= (u8)(1u << (d->op[i].reg & 7));
        *written |= (u8)(d->op[i].write ? 1u << (d->op[i].reg & 7) : 0);
    }
}

static void emit_mmx(struct emit *e, const struct decoded *d, const struct vec_regs *r, struct vec_stub *s)
{
    u8 all;

    mmx_operands(d, &all, &s->shape.write);
    for (unsigned n = 0; n < 8; n++) {
        if (all >> n & 1)
            emit_mm(e, false, n);
    }
    for (unsigned n = 0; n < 16; n++) {
        if (r->vec_load >> n & 1)
            emit_vec_move(e, n, 16, false, (u32)(offsetof(struct cpu, vec.zmm) + 64 * n));
    }
    if (r->gpr_load)
        EMIT(e, 0x4c, 0x8b, 0x04, 0x17); /* mov r8, [rdi + rdx] */
    emit_bytes(e, s->key, s->key_len);
    if (r->gpr_store)
        EMIT(e, 0x4c, 0x89, 0x04, 0x17); /* mov [rdi + rdx], r8 */
    for (unsigned n = 0; n < 8; n++) {
        if (s->shape.write >> n & 1)
            emit_mm(e, true, n);
    }
    for (unsigned n = 0; n < 16; n++) {
        if (r->vec_store >> n & 1)
            emit_vec_move(e, n, 16, true, (u32)(offsetof(struct cpu, vec.zmm) + 64 * n));
    }
    EMIT(e, 0x0f, 0x77, 0xc3); /* emms; ret */
}

unsigned x87_fast_build(const struct decoded *d, const struct vec_regs *r, struct vec_stub *s, u8 *buf)
{
    struct emit e = {.p = buf};

    if (!(s->flags & VEC_FX) || s->flags & VEC_MXCSR)
        return 0;
    if (!(s->flags & VEC_X87)) {
        emit_mmx(&e, d, r, s);
        return e.n;
    }
    if (!shape_of(d, &s->shape) || s->shape.load + s->shape.push > 8)
        return 0;
    emit_x87(&e, d, s);
    return e.n;
}

/* --- running --- */

static unsigned top(const struct cpu_x87 *x)
{
    return x->fsw >> 11 & 7;
}

/* Tags numbered as ST(i) are: bit i set, ST(i) not empty; and back. */
static unsigned tags_relative(const struct cpu_x87 *x)
{
    return (x->ftw >> top(x) | (unsigned)x->ftw << (8 - top(x))) & 0xff;
}

static u8 tags_physical(unsigned rel, unsigned t)
{
    return (u8)(rel << t | rel >> (8 - t));
}

/* Can nothing unusual happen? */
static bool x87_is_plain(const struct cpu *c, const struct x87_shape *s)
{
    unsigned rel = tags_relative(&c->vec.x87);

    return (c->vec.x87.fcw & 0x3f) == 0x3f && (rel & s->need) == s->need && !(s->push && rel & 0x80);
}

static void rotate_push(struct cpu_x87 *x)
{
    u8 last[16];

    memcpy(last, x->st[7], 16);
    memmove(x->st[1], x->st[0], 7 * 16);
    memcpy(x->st[0], last, 16);
}

static void rotate_pop(struct cpu_x87 *x)
{
    u8 first[16];

    memcpy(first, x->st[0], 16);
    memmove(x->st[0], x->st[1], 7 * 16);
    memcpy(x->st[7], first, 16);
}

static void run_x87(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem)
{
    struct cpu_x87 *x = &c->vec.x87;
    const struct x87_shape *shape = &s->shape;
    unsigned rel = tags_relative(x), t = (top(x) - shape->push + shape->pop) & 7;
    unsigned mask = (shape->keep_c1 ? 0 : FSW_C1) | (shape->cond ? FSW_COND : 0);
    u64 fsw;
    u16 cw;

    if (shape->push)
        rotate_push(x);
    fsw = s->fast(c, mem, (u64)(uintptr_t)&cw);
    for (unsigned i = 0; i < shape->pop; i++)
        rotate_pop(x);
    rel |= shape->write;
    rel = ((rel << shape->push | shape->push) >> shape->pop) & 0xff;
    x->fsw = (u16)((x->fsw & ~(FSW_TOP | mask)) | (fsw & (mask | 0x3f)) | t << 11);
    x->ftw = tags_physical(rel, t);
    x87_note_pointers(c, in);
}

static void run_mmx(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem)
{
    x87_enter_mmx(&c->vec.x87);
    s->fast(c, mem, in->x[0]);
    for (unsigned n = 0; n < 8; n++) {
        if (s->shape.write >> n & 1)
            memset(&c->vec.x87.st[n][8], 0xff, 2);
    }
}

static inline bool is_plain(const struct cpu *c, const struct vec_stub *s)
{
    return !(s->flags & VEC_X87) || x87_is_plain(c, &s->shape);
}

static inline int run_fast(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem)
{
    if (s->flags & VEC_X87)
        run_x87(c, in, s, mem);
    else
        run_mmx(c, in, s, mem);
    return OP_NEXT;
}

int op_fast_reg(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    if (unlikely(!is_plain(c, s)))
        return vec_run(c, in, s, NULL);
    return run_fast(c, in, s, NULL);
}

int op_fast_load(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    void *mem;
    int rc = vec_operand_load(c, in, s, buf, &mem);

    if (unlikely(rc))
        return rc;
    return likely(is_plain(c, s)) ? run_fast(c, in, s, mem) : vec_run(c, in, s, mem);
}

/* Stores are fast only where they cannot fail. */
int op_fast_store(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    void *mem = NULL;
    u64 lin;
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    if (likely(is_plain(c, s))) {
        rc = vec_lin(c, in, s, s->mem_size, true, &lin);
        if (unlikely(rc))
            return rc;
        mem = mmu_peek(c, lin, s->mem_size, true);
    }
    return likely(mem) ? run_fast(c, in, s, mem) : op_vec_frame_store(c, in);
}
