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

static void refuse(struct xlat *x, u32 from)
{
    x->refused[x->nrefused++] = from;
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

static u8 borrow(struct xlat *x, u32 *spare)
{
    u8 r = (u8)__builtin_ctz(*spare);

    *spare &= *spare - 1;
    x->borrowed[x->nborrowed++] = r;
    return r;
}

/* The group in the loop that would gain most from a home, or XLAT_NONE. */
static unsigned homeless(const struct xlat *x)
{
    unsigned best = XLAT_NONE;

    for (unsigned g = 0; g < x->ngroups; g++) {
        const struct xlat_group *k = &x->group[g];

        if (k->home != REG_ZERO || (!k->stream && k->leader > x->loop_end))
            continue;
        if (best == XLAT_NONE || k->members > x->group[best].members)
            best = g;
    }
    return best;
}

void xlat_loop_borrow(struct xlat *x)
{
    u32 spare = 0xffff & ~BIT(REG_RSP) & ~BIT(REG_R9) & ~BIT(REG_R10) & ~BIT(REG_R11);
    unsigned g;

    for (unsigned i = 0; i <= x->loop_end; i++)
        spare &= ~used_registers(&x->d[i], &x->b->insn[i]);
    if (spare && x->counter != XLAT_NONE)
        x->limit_home = borrow(x, &spare);
    while (spare && (g = homeless(x)) != XLAT_NONE)
        x->group[g].home = borrow(x, &spare);
    for (g = 0; g < x->ngroups; g++)
        x->group[g].based &= x->group[g].home != REG_ZERO;
}

void xlat_loop_restore(const struct xlat *x, struct asm_buf *a)
{
    for (unsigned i = 0; i < x->nborrowed; i++)
        asm_gs_load(a, x->borrowed[i], GS_REG(x->borrowed[i]));
}

void xlat_loop_leave(struct xlat *x, bool falls)
{
    if (x->borrowing && falls)
        xlat_loop_restore(x, x->a);
    x->borrowing = false;
}

void xlat_stream_address(struct xlat *x, unsigned group)
{
    const struct xlat_group *g = &x->group[group];
    unsigned base = g->base, index = g->index;

    if (base != REG_ZERO)
        base = xlat_in_host(x, base, HOST_T0);
    if (index != REG_ZERO)
        index = xlat_in_host(x, index, HOST_T1);
    asm_op_mem(x->a, REX_W, 0x8d, HOST_T0, base, index, g->scale, g->lo);
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
static void least_turns(struct xlat *x, bool first)
{
    struct asm_buf *a = x->a;
    unsigned home = x->limit_home;

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

static void check_stream(struct xlat *x, unsigned group, bool first)
{
    const struct xlat_group *g = &x->group[group];
    struct xlat_miss m = {.place = PLACE_STREAM, .retry = x->a->at, .index = (u8)group};

    xlat_stream_address(x, group);
    xlat_group_check(x, group, g->base, &m, refuse);
    if (!g->stride)
        return;
    turns_left(x, g);
    least_turns(x, first);
}

/* The address of (group), which is checked in each turn, must be a multiple of its alignment in all of them. */
static void check_alignment(struct xlat *x, unsigned group)
{
    xlat_stream_address(x, group);
    refuse(x, xlat_misaligned(x, x->group[group].align));
}

/* So many turns may follow: the counter's limit. */
static void set_limit(struct xlat *x)
{
    struct asm_buf *a = x->a;
    unsigned to = x->limit_home;
    bool slot = to == REG_ZERO;

    if (slot)
        to = HOST_T0;
    if (x->counter_step != 1) { /* imul to, to, imm32 */
        ASM(a, rex(REX_W, to, 0, to), 0x69, 0xc0 | (to & 7) << 3 | (to & 7));
        asm_u32(a, (u32)x->counter_step);
    }
    asm_op_mem(a, REX_W, 0x8d, to, to, x->counter, 0, x->counter_step);
    if (slot)
        asm_gs_store(a, to, GS(j.loop_limit));
}

static void want_state(struct xlat *x)
{
    unsigned live = 0;

    for (unsigned i = 0; i <= x->loop_end; i++) {
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

/* The start of each turn: back to (again) when the checks no longer hold, or out if there is a request. */
static void emit_turn(struct xlat *x, bool moving, u32 again)
{
    struct asm_buf *a = x->a, *cold = &x->j->cold;
    unsigned limit = x->limit_home;
    u32 out, first = 0;

    if (!moving) /* the first turn must be run: who came in here has looked at requests, or must not */
        first = asm_jmp(a);
    x->loop_at = a->at;
    if (!moving)
        asm_gs_test32(a, GS(request));
    else if (limit == REG_ZERO)
        asm_gs(a, 0x3b, x->counter, GS(j.loop_limit));
    else /* cmp counter, limit */
        ASM(a, rex(REX_W, limit, 0, x->counter), 0x39, 0xc0 | (limit & 7) << 3 | (x->counter & 7));
    out = asm_jcc(a, moving ? ASM_E : ASM_NE);
    asm_patch(a->rw, out, cold->at);
    if (moving) {
        asm_gs_test32(cold, GS(request));
        asm_patch(cold->rw, asm_jcc(cold, ASM_E), again);
    }
    xlat_loop_restore(x, cold);
    asm_jmp_to(cold, x->code->entry[JIT_POLL]);
    if (!moving)
        asm_patch(a->rw, first, a->at);
}

void xlat_loop_enter(struct xlat *x)
{
    struct asm_buf *a = x->a;
    bool moving = false;
    u32 again;

    want_state(x);
    for (unsigned i = 0; i < x->nborrowed; i++)
        asm_gs_store(a, x->borrowed[i], GS_REG(x->borrowed[i]));
    x->borrowing = true;
    again = a->at;
    for (unsigned g = 0; g < x->ngroups; g++) {
        if (x->group[g].aligned && !x->group[g].stream && x->group[g].align > 1)
            check_alignment(x, g);
    }
    /* Those that move come last: T0 is then turns left. */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned g = 0; g < x->ngroups; g++) {
            if (!x->group[g].stream || (x->group[g].stride != 0) != pass)
                continue;
            check_stream(x, g, pass && !moving);
            moving |= pass;
        }
    }
    if (moving)
        set_limit(x);
    emit_turn(x, moving, again);
}
