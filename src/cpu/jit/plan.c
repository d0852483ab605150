// SPDX-License-Identifier: MIT
// Which accesses to guest memory can be checked together, once for a block or once for many turns of a loop.

/*
 * Theory of operation
 *
 * Registers are numbered by value: an id, and a constant distance from it. Two operands whose base and index have the same ids
 * are at a constant distance, so the first of them (the leader) can check the bytes of all. That is no
 * promise to run them: a side exit may come between, and then something was checked for nothing.
 *
 * What jumps back within its block is a loop: up to four innermost ones, and one around them if it starts where the block does. What a
 * turn leaves in a register is its value at the start plus a constant, or unknown. Accesses whose address a turn changes by little (streams) are checked before the loop,
 * for as many turns as stay in their pages.
 *
 * A check that fails leads to the careful twin, in which every access is checked by itself. So do slow paths, for
 * they may change the TLB; from there the block runs to its end, or the loop through one turn.
 */

#include "cpu/jit/xlat.h"
#include "cpu/vec/native.h"

#include <Zydis/Zydis.h>

#include <string.h>

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
    u8 loop; /* the innermost that its leader is in, or XLAT_NONE */
    u8 base; /* the base register of all members, which holds there what it held at the loop's start; or REG_ZERO */
};

/* A loop while it is looked at. */
struct span {
    u8 start, end;
    bool dead;                   /* something in it calls C code */
    unsigned first;              /* candidates before this one are older */
    struct value reg[REG_COUNT]; /* at the start of a turn */
};

struct plan {
    struct xlat *x;
    struct value reg[REG_COUNT];
    u32 most[REG_COUNT];          /* what the register's value is at most; 0: not known */
    struct span span[XLAT_LOOPS]; /* in the order of their ends */
    unsigned nspans;
    unsigned in; /* those that this insn is in, by bit */
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
    u8 base; /* register */
};

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
        .base = in->base,
    };
    if (r->align == 0)
        r->align = 1;
    if (p->in && p->most[in->index] && r->align == 1 &&
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
        .base = REG_ZERO,
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
    return true;
}

/* The innermost loop that this insn is in, or XLAT_NONE. They are in the order of their ends, so that is the first. */
static u8 innermost(const struct plan *p)
{
    return p->in ? (u8)__builtin_ctz(p->in) : XLAT_NONE;
}

/* (base), if it holds now what it held at the start of the turn of (loop); else REG_ZERO. */
static u8 same_base(const struct plan *p, u8 loop, u8 base)
{
    const struct value *then, *now = &p->reg[base];

    if (loop == XLAT_NONE || base == REG_ZERO)
        return REG_ZERO;
    then = &p->span[loop].reg[base];
    return then->id == now->id && then->off == now->off ? base : REG_ZERO;
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
            if (same_base(p, c->loop, r->base) != c->base)
                c->base = REG_ZERO;
            *a = (struct xlat_access){.how = ACCESS_MEMBER, .group = (u8)k, .off = (s32)r->off};
            return;
        }
    }
    c = &p->c[p->n];
    *c = (struct candidate){.key = r->key,
                            .anchor = (s32)r->off,
                            .open = true,
                            .loop = innermost(p),
                            .g = {.lo = (s32)r->off,
                                  .hi = (s32)r->off + (s32)r->size,
                                  .align = (u8)r->align,
                                  .write = r->write,
                                  .window = r->window,
                                  .leader = (u8)i,
                                  .loop = XLAT_NONE,
                                  .members = 1}};
    c->base = same_base(p, c->loop, r->base);
    *a = (struct xlat_access){.how = ACCESS_LEAD, .group = (u8)p->n++, .off = (s32)r->off};
}

/* A register that held the value (id) and something more, (*off), at the start of the turn; (like) if it can be. */
static bool holder(const struct span *s, u16 id, u8 like, u8 *reg, s64 *off)
{
    u8 r = like;

    if (like == REG_ZERO || s->reg[like].id != id) {
        for (r = 0; r < REG_COUNT && s->reg[r].id != id;)
            r++;
    }
    if (r == REG_COUNT)
        return false;
    *reg = r;
    *off = s->reg[r].off;
    return true;
}

/* How much a turn, after which registers are as they are now, adds to what (reg) held before it. */
static bool stride_of(const struct plan *p, const struct span *s, u8 reg, s64 *ret)
{
    if (p->reg[reg].id != s->reg[reg].id)
        return false;
    *ret = p->reg[reg].off - s->reg[reg].off;
    return *ret <= OFF_MAX && *ret >= -OFF_MAX;
}

/* Say what of the checks of (c) can go before the loop. True: it is a stream. */
static bool make_stream(const struct plan *p, unsigned n, struct candidate *c)
{
    const struct span *s = &p->span[n];
    s64 base, index, stride, base_off, index_off, first;
    struct xlat_group *g = &c->g;

    if (!holder(s, c->key.base, c->base, &g->base, &base_off) ||
        !holder(s, c->key.index, REG_ZERO, &g->index, &index_off) ||
        !stride_of(p, s, g->base, &base) || !stride_of(p, s, g->index, &index))
        return false;
    stride = base + index * (1 << c->key.scale);
    first = g->lo - base_off - index_off * (1 << c->key.scale);
    if (stride & (g->align - 1) || first > OFF_MAX || first < -OFF_MAX)
        return false;
    g->first = (s32)first;
    g->aligned = true;
    if (stride > STRIDE_MAX || stride < -STRIDE_MAX)
        return false;
    g->stream = true;
    g->stride = (s32)stride;
    g->window &= stride == 0;
    g->based = c->loop == n && c->base != REG_ZERO && c->base == g->base && base == 0 && !g->window;
    return true;
}

/* A register that tells turns apart. */
static u8 find_counter(const struct plan *p, const struct span *s, s32 *step_ret)
{
    for (u8 r = 0; r < 16; r++) {
        s64 off;

        if (!stride_of(p, s, r, &off) || !off || off > STRIDE_MAX || off < -STRIDE_MAX ||
            r == REG_RSP || xlat_in_slot(r))
            continue;
        *step_ret = (s32)off;
        return r;
    }
    return XLAT_NONE;
}

/* The insn that jumps back to the start of span (n), and nothing in it has called C code: a loop, if it has streams. */
static void find_streams(struct plan *p, unsigned n)
{
    const struct span *s = &p->span[n];
    struct xlat *x = p->x;
    struct xlat_loop l = {.start = s->start, .end = s->end, .limit_home = REG_ZERO};
    bool moving = false, found = false;

    l.counter = find_counter(p, s, &l.counter_step);
    for (unsigned k = s->first; k < p->n; k++) {
        struct xlat_group *g = &p->c[k].g;

        if (!p->c[k].open || !make_stream(p, n, &p->c[k]))
            continue;
        if (g->stride && l.counter == XLAT_NONE)
            g->stream = g->based = false;
        found |= g->stream;
        moving |= g->stride != 0;
    }
    if (!moving)
        l.counter = XLAT_NONE;
    for (unsigned k = s->first; k < p->n; k++) {
        if (!p->c[k].open)
            continue;
        p->c[k].open &= !found;
        p->c[k].g.loop = found ? x->nloops : XLAT_NONE;
        p->c[k].g.aligned &= found;
    }
    if (found)
        x->loop[x->nloops++] = l;
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

/* The insn at page offset (off), or XLAT_NONE. */
static u8 insn_at(const struct xlat *x, s64 off)
{
    for (unsigned i = 0; i < x->b->count; i++) {
        if (x->b->insn[i].off == off)
            return (u8)i;
    }
    return XLAT_NONE;
}

/* Insn (i) jumps back to (start): may that be a loop? Loops without others in them, and one that is the block. */
static void add_span(struct plan *p, u8 start, u8 i)
{
    if (p->nspans == XLAT_LOOPS || p->x->flags[start].before)
        return;
    for (unsigned k = 0; k < p->nspans; k++) {
        if (start <= p->span[k].end && (start || !p->span[k].start))
            return;
    }
    p->span[p->nspans++] = (struct span){.start = start, .end = i};
}

static void find_spans(struct plan *p)
{
    const struct xlat *x = p->x;

    for (unsigned i = 0; i < x->b->count; i++) {
        u8 start;

        if (x->kind[i] != XLAT_JCC && x->kind[i] != XLAT_JMP)
            continue;
        start = insn_at(x, (s64)x->b->insn[i].imm);
        if (start <= i)
            add_span(p, start, (u8)i);
    }
}

/* The first turn of span (n) begins. What registers hold that any turn writes is not known. */
static void begin_span(struct plan *p, unsigned n)
{
    struct span *s = &p->span[n];
    struct value before[REG_COUNT];

    memcpy(before, p->reg, sizeof(before));
    for (unsigned i = s->start; i <= s->end && s->start; i++)
        step(p, i);
    for (u8 r = 0; r < REG_COUNT; r++) {
        if (p->reg[r].id != before[r].id || p->reg[r].off != before[r].off)
            forget(p, r);
    }
    memcpy(s->reg, p->reg, sizeof(s->reg));
    s->first = p->n;
    p->in |= BIT(n);
}

static void end_span(struct plan *p, unsigned n)
{
    p->in &= ~BIT(n);
    if (!p->span[n].dead)
        find_streams(p, n);
}

static void plan_insn(struct plan *p, unsigned i)
{
    struct request r;

    for (unsigned n = p->nspans; n--;) {
        if (p->span[n].start == i)
            begin_span(p, n);
    }
    if (operand_request(p, i, &r))
        place(p, i, ACCESS_OPERAND, &r);
    if (stack_request(p, i, &r))
        place(p, i, ACCESS_STACK, &r);
    if (!step(p, i)) {
        close_all(p);
        for (unsigned n = 0; n < p->nspans; n++)
            p->span[n].dead |= (p->in & BIT(n)) != 0;
    }
    for (unsigned n = 0; n < p->nspans; n++) {
        if (p->span[n].end == i)
            end_span(p, n);
    }
}

void xlat_plan(struct xlat *x)
{
    struct plan p = {.x = x, .fresh = ID_FRESH};

    for (unsigned r = 0; r < REG_COUNT; r++)
        p.reg[r].id = (u16)r;
    find_spans(&p);
    for (unsigned i = 0; i < x->b->count; i++)
        plan_insn(&p, i);
    number(&p);
    xlat_loop_borrow(x);
}
