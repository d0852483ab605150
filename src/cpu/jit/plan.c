// SPDX-License-Identifier: MIT
// Which accesses to guest memory can be checked together, once for a block or once for many turns of a loop.

/*
 * Theory of operation
 *
 * Registers are numbered by value: an id, and a constant distance from it. Two operands whose base and index have the same ids
 * are at a constant distance, so the first of them (the leader) can check the bytes of all. That is no
 * promise to run them: a side exit may come between, and then something was checked for nothing.
 *
 * What jumps back within its block is a loop: up to four innermost ones, or one around them if it starts where the
 * block does. What a turn leaves in a register is its value at the start plus a constant, or unknown.
 * Accesses whose address a turn changes by little (streams) are checked before the loop, for as many turns as stay in
 * their pages. Where the number of turns is a small constant, what an access touches in all of them is one range,
 * which is checked before the loop or, better, with what the loop around it does.
 *
 * A check that fails leads to the careful twin, in which every access is checked by itself. So do slow paths, for
 * they may change the TLB; from there the block runs to its end, or the loop through one turn.
 */

#include "cpu/jit/plan.h"
#include "cpu/vec/native.h"

#include <Zydis/Zydis.h>

#include <string.h>

static void close_all(struct plan *p)
{
    for (unsigned i = 0; i < p->n; i++)
        p->c[i].open = false;
}

/* An access as the plan sees it. */
struct request {
    struct plan_key key;
    s64 off;
    unsigned size, align;
    bool write, window;
    u8 base;    /* register */
    bool swept; /* the bytes of all turns of the loop */
};

/* The access lies (by) bytes further in the last turn than in the first. False: that is too much. */
static bool sweep(const struct plan *p, s64 by, struct request *r)
{
    if (!by)
        return true;
    if (by > SPAN_MAX || by < -SPAN_MAX || by / (s64)(p->turns - 1) & (r->align - 1))
        return false;
    r->swept = true;
    r->off += by < 0 ? by : 0;
    r->size += (unsigned)(by < 0 ? -by : by);
    return true;
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
                .scale = p->reg[in->index].id == ID_NONE ? 0 : in->scale,
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
        return sweep(p, p->sweep[in->base], r);
    }
    return sweep(p, p->sweep[in->base] + (s64)((u64)p->sweep[in->index] << in->scale), r);
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

static bool same_key(const struct plan_key *a, const struct plan_key *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale && a->seg == b->seg &&
           a->ranged == b->ranged;
}

/* What the leader would have to check with (r) in the group; false if that is too much. */
static bool joined(const struct plan_candidate *c, const struct request *r,
                   struct plan_candidate *ret)
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

/* The loop around it that is the block, or XLAT_NONE. */
static u8 outermost(const struct plan *p)
{
    return p->in & (p->in - 1) ? (u8)(31 - __builtin_clz(p->in)) : XLAT_NONE;
}

/* (base), if it holds now what it held at the start of the turn of (loop); else REG_ZERO. */
static u8 same_base(const struct plan *p, u8 loop, u8 base)
{
    const struct plan_value *then, *now = &p->reg[base];

    if (loop == XLAT_NONE || base == REG_ZERO || p->sweep[base])
        return REG_ZERO;
    then = &p->span[loop].reg[base];
    return then->id == now->id && then->off == now->off ? base : REG_ZERO;
}

/* A register that held the value (id) and something more, (*off), at the start of the turn; (like) if it can be. */
static bool holder(const struct plan_span *s, u16 id, u8 like, u8 *reg, s64 *off)
{
    u8 r = like;

    if (id == ID_NONE) {
        *reg = REG_ZERO;
        *off = 0;
        return true;
    }
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

/* Can what (r) needs be checked before the loop that it is in? It must be, if it is for all turns. */
static bool can_hoist(const struct plan *p, const struct request *r)
{
    const struct plan_span *s = &p->span[innermost(p)];
    s64 off;
    u8 reg;

    return holder(s, r->key.base, REG_ZERO, &reg, &off) && !(s->loose & BIT(reg)) &&
           off <= OFF_MAX && off >= -OFF_MAX && holder(s, r->key.index, REG_ZERO, &reg, &off) &&
           !(s->loose & BIT(reg)) && off <= OFF_MAX >> 3 && off >= -(OFF_MAX >> 3);
}

static void place(struct plan *p, unsigned i, unsigned which, const struct request *r)
{
    struct xlat_access *a = &p->x->access[i][which];
    struct plan_candidate *c, grown;

    if (r->off > OFF_MAX || r->off < -OFF_MAX || !r->size || (r->swept && !can_hoist(p, r)))
        return;
    for (unsigned k = 0; k < p->n; k++) {
        c = &p->c[k];
        if (c->open && same_key(&c->key, &r->key) && joined(c, r, &grown)) {
            if (c->hoisted)
                grown.g.first += grown.g.lo - c->g.lo;
            *c = grown;
            if (same_base(p, c->loop, r->base) != c->base)
                c->base = REG_ZERO;
            if (same_base(p, c->outer, r->base) != c->outer_base)
                c->outer_base = REG_ZERO;
            c->g.last = (u8)i;
            *a = (struct xlat_access){.how = ACCESS_MEMBER, .group = (u8)k, .off = (s32)r->off};
            return;
        }
    }
    c = &p->c[p->n];
    *c = (struct plan_candidate){.key = r->key,
                                 .anchor = (s32)r->off,
                                 .open = true,
                                 .loop = innermost(p),
                                 .outer = outermost(p),
                                 .g = {.lo = (s32)r->off,
                                       .hi = (s32)r->off + (s32)r->size,
                                       .align = (u8)r->align,
                                       .write = r->write,
                                       .window = r->window,
                                       .leader = (u8)i,
                                       .last = (u8)i,
                                       .loop = XLAT_NONE,
                                       .members = 1}};
    c->base = same_base(p, c->loop, r->base);
    c->outer_base = same_base(p, c->outer, r->base);
    *a = (struct xlat_access){.how = ACCESS_LEAD, .group = (u8)p->n++, .off = (s32)r->off};
}

/* How much a turn, after which registers are as they are now, adds to what (reg) held before it. */
static bool stride_of(const struct plan *p, const struct plan_span *s, u8 reg, s64 *ret)
{
    if (p->reg[reg].id != s->reg[reg].id)
        return false;
    *ret = p->reg[reg].off - s->reg[reg].off;
    return *ret <= OFF_MAX && *ret >= -OFF_MAX;
}

/* Where the first byte of (c) is, off registers as they are at the start of a turn of (s). */
static bool locate(const struct plan_span *s, u8 like, const struct plan_candidate *c,
                   struct xlat_group *g)
{
    s64 base, index, first;

    if (!holder(s, c->key.base, like, &g->base, &base) ||
        !holder(s, c->key.index, REG_ZERO, &g->index, &index))
        return false;
    first = g->lo - base - index * (1 << c->key.scale);
    if (first > 4 * (s64)OFF_MAX || first < -4 * (s64)OFF_MAX)
        return false;
    g->first = (s32)first;
    return true;
}

/* Say what of the checks of (c) can go before the loop. True: it is a stream. */
static bool make_stream(const struct plan *p, unsigned n, struct plan_candidate *c)
{
    u8 like = c->loop == n ? c->base : c->outer == n ? c->outer_base : REG_ZERO;
    struct xlat_group g = c->g;
    s64 base, index, stride;

    if (!locate(&p->span[n], like, c, &g) || !stride_of(p, &p->span[n], g.base, &base) ||
        !stride_of(p, &p->span[n], g.index, &index))
        return false;
    stride = base + index * (1 << c->key.scale);
    if (stride & (g.align - 1))
        return false;
    g.aligned = true;
    g.stream = stride <= STRIDE_MAX && stride >= -STRIDE_MAX;
    if (g.stream) {
        g.stride = (s32)stride;
        g.window &= stride == 0;
        g.based = like != REG_ZERO && like == g.base && base == 0 && !g.window;
    } else if (c->hoisted) {
        return false;
    }
    c->g = g;
    return g.stream;
}

/* A register that tells turns apart. */
static u8 find_counter(const struct plan *p, const struct plan_span *s, s32 *step_ret)
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
    const struct plan_span *s = &p->span[n];
    struct xlat *x = p->x;
    struct xlat_loop l = {.start = s->start, .end = s->end, .limit_home = REG_ZERO};
    bool moving = false, found = false;

    l.counter = find_counter(p, s, &l.counter_step);
    for (unsigned k = s->first; k < p->n; k++) {
        struct plan_candidate *c = &p->c[k];
        struct xlat_group before = c->g;

        if (!c->open || !make_stream(p, n, c))
            continue;
        if (c->g.stride && l.counter == XLAT_NONE) {
            c->g = before;
            continue;
        }
        c->hoisted = false;
        found = true;
        moving |= c->g.stride != 0;
    }
    if (!moving)
        l.counter = XLAT_NONE;
    for (unsigned k = s->first; k < p->n; k++) {
        if (!p->c[k].open || p->c[k].hoisted) {
            p->c[k].open = false;
            continue;
        }
        p->c[k].open &= !found;
        p->c[k].g.loop = found ? x->nloops : XLAT_NONE;
        p->c[k].g.aligned &= found;
    }
    if (found)
        x->loop[x->nloops++] = l;
}

/* Span (n) has a known number of turns: what it accesses in all of them is checked before it, or before the loop around it. */
static void hoist_counted(struct plan *p, unsigned n)
{
    const struct plan_span *s = &p->span[n];
    struct xlat *x = p->x;

    for (unsigned k = s->first; k < p->n; k++) {
        struct plan_candidate *c = &p->c[k];
        struct xlat_group *g = &c->g;

        if (!c->open)
            continue;
        g->loop = x->nloops;
        c->hoisted = locate(s, c->base, c, g) && !(s->loose & (BIT(g->base) | BIT(g->index)));
        c->open = c->hoisted && c->outer != XLAT_NONE;
        if (!c->hoisted)
            continue;
        g->stream = g->aligned = true;
        g->based = c->base != REG_ZERO && c->base == g->base && !g->window;
    }
    x->loop[x->nloops++] = (struct xlat_loop){.start = s->start,
                                              .end = s->end,
                                              .counter = XLAT_NONE,
                                              .counted = true,
                                              .limit_home = REG_ZERO};
    for (u8 r = 0; r < REG_COUNT; r++)
        p->reg[r].off += p->sweep[r];
    memset(p->sweep, 0, sizeof(p->sweep));
    p->turns = 0;
}

/* Number what is worth it; the rest is checked access by access. */
static void number(struct plan *p)
{
    struct xlat *x = p->x;
    u8 to[ARRAY_SIZE(p->c)];
    bool windowed = false;

    for (unsigned k = 0; k < p->n; k++) {
        const struct plan_candidate *c = &p->c[k];

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

static void end_span(struct plan *p, unsigned n)
{
    p->in &= ~BIT(n);
    if (p->span[n].turns)
        hoist_counted(p, n);
    else if (!p->span[n].dead)
        find_streams(p, n);
}

static void plan_insn(struct plan *p, unsigned i)
{
    struct request r;

    for (unsigned n = p->nspans; n--;) {
        if (p->span[n].start == i)
            plan_begin_span(p, n);
    }
    if (operand_request(p, i, &r))
        place(p, i, ACCESS_OPERAND, &r);
    if (stack_request(p, i, &r))
        place(p, i, ACCESS_STACK, &r);
    if (!plan_step(p, i)) {
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
    plan_find_spans(&p);
    for (unsigned i = 0; i < x->b->count; i++)
        plan_insn(&p, i);
    number(&p);
    xlat_loop_borrow(x);
}
