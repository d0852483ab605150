// SPDX-License-Identifier: MIT
// Which accesses to guest memory can be checked together, once for a block or once for many turns of a loop.

/*
 * Theory of operation
 *
 * Registers are numbered by value: an id, and a constant distance from it. Two operands whose base and index have the same ids
 * are at a constant distance, so the first of them (the leader) can check the bytes of all. That is no
 * promise to run them: a side exit may come between, and then something was checked for nothing.
 *
 * A block that jumps back to its first instruction is a loop. What a turn leaves in a register is its value at the start plus
 * a constant, or unknown. Accesses whose address a turn changes by little (streams) are checked before the loop,
 * for as many turns as stay in their pages.
 *
 * A check that fails leads to the careful twin, in which every access is checked by itself. So do slow paths, for
 * they may change the TLB; from there the block runs to its end, or the loop through one turn.
 */

#include "cpu/jit/xlat.h"
#include "cpu/vec/native.h"

#include <Zydis/Zydis.h>

#define SPAN_MAX   512       /* bytes of a group; one that straddles two pages fails */
#define STRIDE_MAX 256       /* of a stream: it should stay in a page for some turns */
#define RANGE_MAX  2112      /* bytes of a table whose index is known to be small */
#define OFF_MAX    (1 << 28) /* of displacements that are dealt with */

#define ID_NONE  REG_ZERO
#define ID_FRESH REG_COUNT

/* What a register holds: the value with this id, and so many bytes more. */
struct value {
    u16 id;
    s64 off;
};

/* An address but for its constant part, and for its index if that is (ranged): anything in a small range. */
struct key {
    u16 base, index;
    u8 scale, seg;
    bool ranged;
};

struct candidate {
    struct key key;
    struct xlat_group g;
    s32 anchor; /* an offset at which the address must be aligned */
    bool open;
    bool plain; /* the base registers of all members hold what they held at the start */
};

struct plan {
    struct xlat *x;
    struct value reg[REG_COUNT];
    u32 most[REG_COUNT]; /* what the register's value is at most; 0: not known */
    bool loop;           /* the block may be one */
    u16 fresh;
    struct candidate c[ACCESSES * BLOCK_INSNS];
    unsigned n;
};

static bool is_gpr(unsigned r)
{
    return r < 16;
}

static void forget(struct plan *p, unsigned r)
{
    p->reg[r] = (struct value){.id = p->fresh++};
    p->most[r] = 0;
}

/* MOVZX, AND and SHR say how large their result can be. */
static u32 most_after(const struct plan *p, const struct decoded *d)
{
    const struct opnd *to = &d->op[0], *from = &d->op[1];
    u64 most = 0;

    if (d->nopnd != 2 || to->kind != OPND_GPR || to->size < 4)
        return 0;
    if (d->mnemonic == ZYDIS_MNEMONIC_MOVZX)
        most = from->size == 1 ? 0xff : 0xffff;
    else if (d->mnemonic == ZYDIS_MNEMONIC_MOV && from->kind == OPND_GPR)
        most = p->most[from->reg];
    else if (d->mnemonic == ZYDIS_MNEMONIC_AND && from->kind == OPND_IMM)
        most = (u64)from->imm;
    else if (d->mnemonic == ZYDIS_MNEMONIC_SHR && from->kind == OPND_IMM)
        most = ~0ull >> (64 - 8 * to->size) >> ((u64)from->imm & (8 * to->size - 1u));
    return most <= RANGE_MAX ? (u32)most : 0;
}

static void forget_written(struct plan *p, const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_GPR && d->op[i].write)
            forget(p, d->op[i].reg);
    }
    switch (d->mnemonic) { /* what is written without being an operand */
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        forget(p, REG_RDX);
        forget(p, REG_RAX);
        break;
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_FNSTSW:
        forget(p, REG_RAX);
        break;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPISTRI:
        forget(p, REG_RCX);
        break;
    default:
        break;
    }
}

/* ADD, SUB, INC and DEC of 64 bits by a constant, MOV between registers. */
static bool step_by_constant(struct plan *p, const struct decoded *d)
{
    const struct opnd *to = &d->op[0], *from = &d->op[1];

    if (!d->nopnd || to->kind != OPND_GPR || to->size != 8)
        return false;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_INC:
        p->reg[to->reg].off++;
        break;
    case ZYDIS_MNEMONIC_DEC:
        p->reg[to->reg].off--;
        break;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (from->kind != OPND_IMM)
            return false;
        p->reg[to->reg].off += d->mnemonic == ZYDIS_MNEMONIC_ADD ? from->imm : -from->imm;
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (from->kind != OPND_GPR)
            return false;
        p->reg[to->reg] = p->reg[from->reg];
        p->most[to->reg] = p->most[from->reg];
        return true;
    default:
        return false;
    }
    p->most[to->reg] = 0;
    return true;
}

static void step_native(struct plan *p, const struct decoded *d)
{
    u32 most = most_after(p, d);

    if (step_by_constant(p, d))
        return;
    forget_written(p, d);
    if (most)
        p->most[d->op[0].reg] = most;
}

static void step_lea(struct plan *p, const struct decoded *d, const struct insn *in)
{
    struct value v;

    if (d->op[0].size != 8 || in->ea_shift || in->index != REG_ZERO || !is_gpr(in->base)) {
        forget(p, d->op[0].reg);
        return;
    }
    v = p->reg[in->base];
    v.off += in->disp;
    p->reg[d->op[0].reg] = v;
    p->most[d->op[0].reg] = 0;
}

static void close_all(struct plan *p)
{
    for (unsigned i = 0; i < p->n; i++)
        p->c[i].open = false;
}

/* What insn (i) does to registers. False: it calls C code, after which nothing is known. */
static bool step(struct plan *p, unsigned i)
{
    const struct decoded *d = &p->x->d[i];

    switch ((enum xlat_kind)p->x->kind[i]) {
    case XLAT_NATIVE:
        step_native(p, d);
        return true;
    case XLAT_DIVIDE:
    case XLAT_VEC:
    case XLAT_X87:
    case XLAT_X87_CONTROL:
        forget_written(p, d);
        return true;
    case XLAT_LEA:
        step_lea(p, d, &p->x->b->insn[i]);
        return true;
    case XLAT_PUSH:
    case XLAT_CALL_REL:
        p->reg[REG_RSP].off -= 8;
        return true;
    case XLAT_POP:
        p->reg[REG_RSP].off += 8;
        forget(p, d->op[0].reg);
        return true;
    case XLAT_LEAVE_FRAME:
        p->reg[REG_RSP] = p->reg[REG_RBP];
        p->reg[REG_RSP].off += 8;
        forget(p, REG_RBP);
        return true;
    case XLAT_NOTHING:
    case XLAT_JCC:
    case XLAT_JMP:
    case XLAT_CLI:
    case XLAT_STI:
        return true;
    default:
        for (unsigned r = 0; r < 16; r++)
            forget(p, r);
        return false;
    }
}

/* An access as the plan sees it. */
struct request {
    struct key key;
    s64 off;
    unsigned size, align;
    bool write, window;
    bool plain; /* its base register holds what it held at the block's start */
};

static bool is_plain_base(const struct plan *p, unsigned base)
{
    return base == REG_IPBASE || (is_gpr(base) && p->reg[base].id == base && !p->reg[base].off);
}

static bool operand_request(const struct plan *p, unsigned i, struct request *r)
{
    const struct decoded *d = &p->x->d[i];
    const struct insn *in = &p->x->b->insn[i];
    enum xlat_kind kind = p->x->kind[i];
    const struct opnd *mem = NULL;

    if (kind != XLAT_NATIVE && kind != XLAT_VEC && kind != XLAT_X87 && kind != XLAT_X87_CONTROL &&
        kind != XLAT_JMP_INDIRECT && kind != XLAT_CALL_INDIRECT)
        return false;
    for (unsigned k = 0; k < d->nopnd && d->has_mem && d->modrm_mod != 3; k++) {
        if (d->op[k].kind == OPND_MEM)
            mem = &d->op[k];
    }
    if (!mem || in->ea_shift || in->disp > OFF_MAX || in->disp < -OFF_MAX)
        return false;
    *r = (struct request){
        .key = {.base = p->reg[in->base].id,
                .index = p->reg[in->index].id,
                .scale = in->index == REG_ZERO ? 0 : in->scale,
                .seg = in->seg == SEG_FS || in->seg == SEG_GS ? in->seg : SEG_NONE},
        .off = in->disp + p->reg[in->base].off + (s64)((u64)p->reg[in->index].off << in->scale),
        .size = mem->size,
        .align = kind == XLAT_VEC ? vec_native_align(d) : 1,
        .write = mem->write || d->mnemonic == ZYDIS_MNEMONIC_CMPXCHG,
        .window = in->base == REG_RSP && in->index == REG_ZERO,
        .plain = is_plain_base(p, in->base),
    };
    if (r->align == 0)
        r->align = 1;
    if (p->loop && p->most[in->index] && r->align == 1 &&
        (p->most[in->index] << in->scale) + r->size <= RANGE_MAX) {
        r->key.index = ID_NONE;
        r->key.scale = 0;
        r->key.ranged = true;
        r->off = in->disp + p->reg[in->base].off;
        r->size += p->most[in->index] << in->scale;
    }
    return true;
}

static bool stack_request(const struct plan *p, unsigned i, struct request *r)
{
    enum xlat_kind kind = p->x->kind[i];
    bool push = kind == XLAT_PUSH || kind == XLAT_CALL_REL;

    if (!push && kind != XLAT_POP && kind != XLAT_RET)
        return false;
    *r = (struct request){
        .key = {.base = p->reg[REG_RSP].id, .index = ID_NONE, .seg = SEG_NONE},
        .off = p->reg[REG_RSP].off - (push ? 8 : 0),
        .size = 8,
        .align = 1,
        .write = push,
        .window = true,
    };
    return true;
}

static bool same_key(const struct key *a, const struct key *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale && a->seg == b->seg &&
           a->ranged == b->ranged;
}

/* What the leader would have to check with (r) in the group; false if that is too much. */
static bool joined(const struct candidate *c, const struct request *r, struct candidate *ret)
{
    s64 lo = r->off < c->g.lo ? r->off : c->g.lo;
    s64 hi = r->off + r->size > c->g.hi ? r->off + r->size : c->g.hi;

    *ret = *c;
    if (r->align > 1) {
        unsigned smaller = r->align < c->g.align ? r->align : c->g.align;

        if (c->g.align > 1 && (r->off - c->anchor) & (smaller - 1))
            return false;
        if (r->align >= c->g.align) {
            ret->anchor = (s32)r->off;
            ret->g.align = (u8)r->align;
        }
    }
    lo -= (lo - ret->anchor) & (ret->g.align - 1);
    if (hi - lo > (c->key.ranged ? RANGE_MAX : SPAN_MAX))
        return false;
    ret->g.lo = (s32)lo;
    ret->g.hi = (s32)hi;
    ret->g.write |= r->write;
    ret->g.members++;
    ret->plain &= r->plain;
    return true;
}

static void place(struct plan *p, unsigned i, unsigned which, const struct request *r)
{
    struct xlat_access *a = &p->x->access[i][which];
    struct candidate *c, grown;

    if (r->off > OFF_MAX || r->off < -OFF_MAX || !r->size)
        return;
    for (unsigned k = 0; k < p->n; k++) {
        c = &p->c[k];
        if (c->open && same_key(&c->key, &r->key) && joined(c, r, &grown)) {
            *c = grown;
            *a = (struct xlat_access){.how = ACCESS_MEMBER, .group = (u8)k, .off = (s32)r->off};
            return;
        }
    }
    c = &p->c[p->n];
    *c = (struct candidate){.key = r->key,
                            .anchor = (s32)r->off,
                            .open = true,
                            .plain = r->plain,
                            .g = {.lo = (s32)r->off,
                                  .hi = (s32)r->off + (s32)r->size,
                                  .align = (u8)r->align,
                                  .write = r->write,
                                  .window = r->window,
                                  .leader = (u8)i,
                                  .members = 1}};
    *a = (struct xlat_access){.how = ACCESS_LEAD, .group = (u8)p->n++, .off = (s32)r->off};
}

/* How much a turn, after which registers are as they are now, adds to what the register (id) held before it. */
static bool stride_of(const struct plan *p, u16 id, s64 *ret)
{
    if (id == REG_ZERO || id == REG_IPBASE)
        *ret = 0;
    else if (is_gpr(id) && p->reg[id].id == id)
        *ret = p->reg[id].off;
    else
        return false;
    return true;
}

/* Say what of the checks of (c) can go before the loop. True: it is a stream. */
static bool make_stream(const struct plan *p, struct candidate *c)
{
    s64 base, index, stride;

    if (!stride_of(p, c->key.base, &base) || !stride_of(p, c->key.index, &index))
        return false;
    if (index > OFF_MAX || index < -OFF_MAX || base > OFF_MAX || base < -OFF_MAX)
        return false;
    stride = base + index * (1 << c->key.scale);
    if (stride & (c->g.align - 1))
        return false;
    c->g.aligned = true;
    if (stride > STRIDE_MAX || stride < -STRIDE_MAX)
        return false;
    c->g.stream = true;
    c->g.stride = (s32)stride;
    c->g.window &= stride == 0;
    c->g.based = c->plain && base == 0 && !c->g.window;
    return true;
}

/* A register that tells turns apart. */
static u8 find_counter(const struct plan *p, s32 *step_ret)
{
    for (unsigned r = 0; r < 16; r++) {
        s64 off = p->reg[r].off;

        if (p->reg[r].id != r || !off || off > STRIDE_MAX || off < -STRIDE_MAX || r == REG_RSP ||
            xlat_in_slot(r))
            continue;
        *step_ret = (s32)off;
        return (u8)r;
    }
    return XLAT_NONE;
}

/* Insn (i) jumps back to the block's start, and nothing before it has called C code: a loop, if it has streams. */
static void find_streams(struct plan *p, unsigned i)
{
    struct xlat *x = p->x;
    bool moving = false, found = false;

    x->counter = find_counter(p, &x->counter_step);
    for (unsigned k = 0; k < p->n; k++) {
        struct xlat_group *g = &p->c[k].g;

        if (!p->c[k].open || !make_stream(p, &p->c[k]))
            continue;
        if (g->stride && x->counter == XLAT_NONE)
            g->stream = g->based = false;
        found |= g->stream;
        moving |= g->stride != 0;
    }
    if (!moving)
        x->counter = XLAT_NONE;
    if (found)
        x->loop_end = (u8)i;
}

/* Number what is worth it; the rest is checked access by access. */
static void number(struct plan *p)
{
    struct xlat *x = p->x;
    u8 to[ARRAY_SIZE(p->c)];
    bool windowed = false;

    for (unsigned k = 0; k < p->n; k++) {
        const struct candidate *c = &p->c[k];

        to[k] = XLAT_NONE;
        if (((c->g.members < 2 || c->key.ranged) && !c->g.stream) || x->ngroups == XLAT_GROUPS)
            continue;
        to[k] = x->ngroups;
        x->group[x->ngroups] = c->g;
        x->group[x->ngroups].home = REG_ZERO;
        x->group[x->ngroups].window &= !windowed; /* there is one, and it must not move */
        windowed |= c->g.window;
        x->group[x->ngroups].base = (u8)c->key.base;
        x->group[x->ngroups].index = (u8)c->key.index;
        x->group[x->ngroups].scale = c->key.scale;
        x->group[x->ngroups++].seg = c->key.seg;
    }
    for (unsigned i = 0; i < x->b->count; i++) {
        for (unsigned w = 0; w < ACCESSES; w++) {
            struct xlat_access *a = &x->access[i][w];

            if (a->how == ACCESS_OWN)
                continue;
            a->group = to[a->group];
            if (a->group == XLAT_NONE)
                a->how = ACCESS_OWN;
            else if (x->group[a->group].stream)
                a->how = ACCESS_MEMBER;
        }
    }
}

static bool jumps_to_start(const struct xlat *x, unsigned i)
{
    return (x->kind[i] == XLAT_JCC || x->kind[i] == XLAT_JMP) &&
           (s64)x->b->insn[i].imm == x->b->off;
}

void xlat_plan(struct xlat *x)
{
    struct plan p = {.x = x, .fresh = ID_FRESH};

    x->loop_end = x->counter = XLAT_NONE;
    x->limit_home = REG_ZERO;
    for (unsigned r = 0; r < REG_COUNT; r++)
        p.reg[r].id = (u16)r;
    for (unsigned i = 0; i < x->b->count; i++)
        p.loop |= jumps_to_start(x, i) && !x->flags[0].before;
    for (unsigned i = 0; i < x->b->count; i++) {
        struct request r;

        if (operand_request(&p, i, &r))
            place(&p, i, ACCESS_OPERAND, &r);
        if (stack_request(&p, i, &r))
            place(&p, i, ACCESS_STACK, &r);
        if (!step(&p, i)) {
            close_all(&p);
            p.loop = false;
        }
        if (p.loop && jumps_to_start(x, i)) {
            find_streams(&p, i);
            close_all(&p);
            p.loop = false;
        }
    }
    number(&p);
    if (x->loop_end != XLAT_NONE)
        xlat_loop_borrow(x);
}
