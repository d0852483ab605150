// SPDX-License-Identifier: MIT
// The way into a loop: one check of each stream of accesses for all turns that stay in its page, and registers for what that finds.

/*
 * Theory of operation
 *
 * A stream with stride s whose first access ends (left) bytes before the end of its page may go on for left / s more turns.
 * The least of these numbers, times what a turn adds to the counter, is the value at which the counter must not find
 * itself without new checks. One compare a turn is what remains; and since that makes turns few between two ways in,
 * it is also when requests are looked at.
 *
 * What a loop keeps (deltas, the limit) is kept in host registers whose guest registers no insn of the loop uses: these
 * are put into cpu->r before the loop and come back on each way out of it.
 */

#include "cpu/jit/xlat.h"

#include <Zydis/Zydis.h>

/* A check before the loop of the current insn has been refused at (from). */
static void refuse(struct xlat *x, u32 from)
{
    struct xlat_loop *l = xlat_loop_here(x, false);

    l->refused[l->nrefused++] = from;
}

struct xlat_loop *xlat_loop_here(struct xlat *x, bool end)
{
    for (unsigned n = 0; n < x->nloops && !x->careful; n++) {
        if (x->i == (end ? x->loop[n].end : x->loop[n].start))
            return &x->loop[n];
    }
    return NULL;
}

unsigned xlat_loops_of(const struct xlat *x, unsigned i, bool *borrow)
{
    unsigned in = 0;

    *borrow = false;
    for (unsigned n = 0; n < x->nloops; n++) {
        if (i < x->loop[n].start || i > x->loop[n].end)
            continue;
        in |= BIT(n);
        *borrow |= x->loop[n].nborrowed != 0;
    }
    return in;
}

/* Registers that (d) may use without their being operands of it, by bit. */
static u32 hidden_registers(const struct decoded *d)
{
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_MULX:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
    case ZYDIS_MNEMONIC_VPCMPISTRI:
        return BIT(REG_RAX) | BIT(REG_RDX) | BIT(REG_RCX);
    case ZYDIS_MNEMONIC_LEAVE:
        return BIT(REG_RBP);
    default:
        return xlat_is_shift(d->mnemonic) ? BIT(REG_RCX) : 0;
    }
}

static u32 used_registers(const struct decoded *d, const struct insn *in)
{
    u32 used = hidden_registers(d);

    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_GPR)
            used |= BIT(d->op[i].reg);
    }
    if (in->base < 16)
        used |= BIT(in->base);
    if (in->index < 16)
        used |= BIT(in->index);
    return used;
}

static u8 borrow(struct xlat_loop *l, u32 *spare)
{
    u8 r = (u8)__builtin_ctz(*spare);

    *spare &= *spare - 1;
    l->borrowed[l->nborrowed++] = r;
    return r;
}

/* The group of loop (n) that would gain most from a home, or XLAT_NONE. */
static unsigned homeless(const struct xlat *x, unsigned n)
{
    unsigned best = XLAT_NONE;

    for (unsigned g = 0; g < x->ngroups; g++) {
        const struct xlat_group *k = &x->group[g];

        if (k->loop == n && k->home == REG_ZERO && k->last <= x->loop[n].end &&
            (best == XLAT_NONE || k->members > x->group[best].members))
            best = g;
    }
    return best;
}

/* Registers that no insn of (l) uses, and no loop around it has borrowed. */
static u32 spare_registers(const struct xlat *x, const struct xlat_loop *l)
{
    u32 spare = 0xffff & ~BIT(REG_RSP) & ~BIT(REG_R9) & ~BIT(REG_R10) & ~BIT(REG_R11);

    for (unsigned i = l->start; i <= l->end; i++)
        spare &= ~used_registers(&x->d[i], &x->b->insn[i]);
    for (unsigned n = 0; n < x->nloops; n++) {
        const struct xlat_loop *o = &x->loop[n];

        for (unsigned k = 0; k < o->nborrowed && o->start <= l->start && l->end <= o->end; k++)
            spare &= ~BIT(o->borrowed[k]);
    }
    return spare;
}

void xlat_loop_borrow(struct xlat *x)
{
    for (unsigned n = x->nloops; n--;) { /* the outer one first */
        struct xlat_loop *l = &x->loop[n];
        u32 spare = spare_registers(x, l);
        unsigned g;

        if (spare && l->counter != XLAT_NONE)
            l->limit_home = borrow(l, &spare);
        while (spare && (g = homeless(x, n)) != XLAT_NONE)
            x->group[g].home = borrow(l, &spare);
    }
    for (unsigned g = 0; g < x->ngroups; g++)
        x->group[g].based &= x->group[g].home != REG_ZERO;
}

void xlat_loop_restore(const struct xlat *x, struct asm_buf *a, unsigned which)
{
    for (unsigned n = 0; n < x->nloops; n++) {
        const struct xlat_loop *l = &x->loop[n];

        for (unsigned i = 0; i < l->nborrowed && which & BIT(n); i++)
            asm_gs_load(a, l->borrowed[i], GS_REG(l->borrowed[i]));
    }
}

void xlat_loop_leave(struct xlat *x, struct xlat_loop *l, bool falls)
{
    unsigned bit = BIT(l - x->loop);

    if (falls)
        xlat_loop_restore(x, x->a, bit);
    x->inside &= (u8)~bit;
}

void xlat_loop_emit_refused(struct xlat *x)
{
    struct asm_buf *a = &x->j->cold;
    bool borrow;

    for (unsigned n = 0; n < x->nloops; n++) {
        struct xlat_loop *l = &x->loop[n];

        l->refused_at = a->at;
        xlat_loop_restore(x, a, xlat_loops_of(x, l->start, &borrow));
        asm_jmp_to(a, x->twin[l->start].at);
        for (unsigned i = 0; i < l->nrefused; i++)
            asm_patch(a->rw, l->refused[i], l->refused_at);
    }
}

void xlat_stream_address(struct xlat *x, unsigned group)
{
    const struct xlat_group *g = &x->group[group];
    unsigned base = g->base, index = g->index;

    if (base != REG_ZERO)
        base = xlat_in_host(x, base, HOST_T0);
    if (index != REG_ZERO)
        index = xlat_in_host(x, index, HOST_T1);
    asm_op_mem(x->a, REX_W, 0x8d, HOST_T0, base, index, g->scale, g->first);
    xlat_add_segment(x, HOST_T0, g->seg);
}

/* imul t0, t0, imm32 */
static void multiply_t0(struct asm_buf *a, s32 by)
{
    ASM(a, 0x4d, 0x69, 0xc0 | (HOST_T0 & 7) << 3 | (HOST_T0 & 7));
    asm_u32(a, (u32)by);
}

static void shift_t0_right(struct asm_buf *a, unsigned n)
{
    if (n)
        ASM(a, 0x49, 0xc1, 0xe8 | (HOST_T0 & 7), n);
}

/* T0, an offset in a page, becomes the number of turns that may follow this one. */
static void turns_left(struct xlat *x, const struct xlat_group *g)
{
    struct asm_buf *a = x->a;
    unsigned stride = (unsigned)(g->stride < 0 ? -g->stride : g->stride);

    if (g->stride > 0) {
        ASM(a, 0x49, 0xf7, 0xd8 | (HOST_T0 & 7)); /* neg t0 */
        asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, (s32)PAGE_SIZE - (g->hi - g->lo));
    }
    if (stride & (stride - 1)) {
        /* Exact for 12 bits: the error, below 2^12 * 2^12, is less than one in 2^26. */
        multiply_t0(a, (s32)((BIT(26) + stride - 1) / stride));
        shift_t0_right(a, 26);
    } else {
        shift_t0_right(a, (unsigned)__builtin_ctz(stride));
    }
}

/* T0 = the lesser of T0 and the turns that are left so far, which it becomes. */
static void least_turns(struct xlat *x, const struct xlat_loop *l, bool first)
{
    struct asm_buf *a = x->a;
    unsigned home = l->limit_home;

    if (home != REG_ZERO) {
        if (first) {
            asm_mov(a, home, HOST_T0);
            return;
        }
        ASM(a, rex(REX_W, home, 0, HOST_T0), 0x39,
            0xc0 | (home & 7) << 3 | (HOST_T0 & 7)); /* cmp t0, home */
        ASM(a, rex(REX_W, home, 0, HOST_T0), 0x0f, 0x42,
            0xc0 | (home & 7) << 3 | (HOST_T0 & 7)); /* cmovb home, t0 */
        return;
    }
    if (!first) {
        asm_gs(a, 0x3b, HOST_T0, GS(j.loop_left));
        ASM_GS(a, HOST_T0, GS(j.loop_left), 0, 0x4c, 0x0f, 0x47); /* cmova t0, gs:[loop_left] */
    }
    asm_gs_store(a, HOST_T0, GS(j.loop_left));
}

static void check_stream(struct xlat *x, const struct xlat_loop *l, unsigned group, bool first)
{
    const struct xlat_group *g = &x->group[group];
    struct xlat_miss m = {.place = PLACE_STREAM, .retry = x->a->at, .index = (u8)group};

    xlat_stream_address(x, group);
    xlat_group_check(x, group, g->base, &m, refuse);
    if (!g->stride)
        return;
    turns_left(x, g);
    least_turns(x, l, first);
}

/* The address of (group), which is checked in each turn, must be a multiple of its alignment in all of them. */
static void check_alignment(struct xlat *x, unsigned group)
{
    xlat_stream_address(x, group);
    refuse(x, xlat_misaligned(x, x->group[group].align));
}

/* Where the limit is while it has no home. */
static u32 limit_slot(const struct xlat *x, const struct xlat_loop *l)
{
    return GS(j.loop_limit) + 8 * (u32)(l - x->loop);
}

/* So many turns may follow: the counter's limit. */
static void set_limit(struct xlat *x, const struct xlat_loop *l)
{
    struct asm_buf *a = x->a;
    bool slot = l->limit_home == REG_ZERO;
    unsigned to = slot ? HOST_T0 : l->limit_home;

    if (l->counter_step != 1) { /* imul to, to, imm32 */
        ASM(a, rex(REX_W, to, 0, to), 0x69, 0xc0 | (to & 7) << 3 | (to & 7));
        asm_u32(a, (u32)l->counter_step);
    }
    asm_op_mem(a, REX_W, 0x8d, to, to, l->counter, 0, l->counter_step);
    if (slot)
        asm_gs_store(a, to, limit_slot(x, l));
}

static void want_state(struct xlat *x, const struct xlat_loop *l)
{
    unsigned live = 0;

    for (unsigned i = l->start; i <= l->end; i++) {
        if (x->kind[i] == XLAT_VEC)
            live |= JIT_LIVE_VEC;
        else if (x->kind[i] == XLAT_X87 || x->kind[i] == XLAT_X87_CONTROL)
            live |= JIT_LIVE_X87;
    }
    for (unsigned bit = 1; bit < JIT_LIVE_KINDS; bit <<= 1) {
        if (live & bit)
            xlat_want_live(x, bit);
    }
}

/* In cold code: out of the loop before its next turn, to the run loop. */
static void emit_out(struct xlat *x)
{
    struct asm_buf *cold = &x->j->cold;

    xlat_loop_restore(x, cold, x->inside);
    asm_gs_load(cold, HOST_T0, GS_REG(REG_IPBASE));
    asm_op_mem(cold, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, x->b->insn[x->i].off);
    asm_gs_store(cold, HOST_T0, GS(rip));
    asm_jmp_to(cold, x->j->glue.leave_none);
}

/* The start of each turn: back to (again) when the checks no longer hold, or out if there is a request. */
static void emit_turn(struct xlat *x, struct xlat_loop *l, bool moving, u32 again)
{
    struct asm_buf *a = x->a, *cold = &x->j->cold;
    unsigned limit = l->limit_home, counter = l->counter;
    u32 out, first = 0;

    if (!moving) /* the first turn must be run: who came in here has looked at requests, or must not */
        first = asm_jmp(a);
    l->at = a->at;
    if (!moving)
        asm_gs_test32(a, GS(request));
    else if (limit == REG_ZERO)
        asm_gs(a, 0x3b, counter, limit_slot(x, l));
    else /* cmp counter, limit */
        ASM(a, rex(REX_W, limit, 0, counter), 0x39, 0xc0 | (limit & 7) << 3 | (counter & 7));
    out = asm_jcc(a, moving ? ASM_E : ASM_NE);
    asm_patch(a->rw, out, cold->at);
    if (moving) {
        asm_gs_test32(cold, GS(request));
        asm_patch(cold->rw, asm_jcc(cold, ASM_E), again);
    }
    emit_out(x);
    if (!moving)
        asm_patch(a->rw, first, a->at);
}

void xlat_loop_enter(struct xlat *x, struct xlat_loop *l)
{
    struct asm_buf *a = x->a;
    unsigned n = (unsigned)(l - x->loop);
    bool moving = false;
    u32 again;

    want_state(x, l);
    x->in_reg = x->in_mem = false;
    x->t1_group = XLAT_NONE;
    for (unsigned i = 0; i < l->nborrowed; i++)
        asm_gs_store(a, l->borrowed[i], GS_REG(l->borrowed[i]));
    x->inside |= (u8)BIT(n);
    again = a->at;
    for (unsigned g = 0; g < x->ngroups; g++) {
        const struct xlat_group *k = &x->group[g];

        if (k->loop == n && k->aligned && !k->stream && k->align > 1)
            check_alignment(x, g);
    }
    for (unsigned pass = 0; pass < 2;
         pass++) { /* those that move come last: T0 is then turns left */
        for (unsigned g = 0; g < x->ngroups; g++) {
            const struct xlat_group *k = &x->group[g];

            if (k->loop != n || !k->stream || (k->stride != 0) != pass)
                continue;
            check_stream(x, l, g, pass && !moving);
            moving |= pass;
        }
    }
    if (moving)
        set_limit(x, l);
    if (l->counted)
        l->at = a->at;
    else
        emit_turn(x, l, moving, again);
}
