// SPDX-License-Identifier: MIT
// The way into a loop: one check of each stream of accesses for all turns that stay in its page.

/*
 * Theory of operation
 *
 * A stream with stride s whose first access ends (left) bytes before the end of its page may go on for left / s more turns.
 * The least of these numbers, times what a turn adds to the counter, is the value at which the counter must not find
 * itself without new checks. One compare a turn is what remains; and since that makes turns few between two ways in,
 * it is also when requests are looked at.
 */

#include "cpu/jit/xlat.h"

static void refuse(struct xlat *x, u32 from)
{
    x->refused[x->nrefused++] = from;
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

static void check_stream(struct xlat *x, unsigned group, bool first)
{
    const struct xlat_group *g = &x->group[group];
    struct asm_buf *a = x->a;
    struct xlat_miss m = {.place = PLACE_STREAM, .retry = a->at, .index = (u8)group};

    xlat_stream_address(x, group);
    xlat_group_check(x, group, g->base, &m, refuse);
    if (!g->stride)
        return;
    turns_left(x, g);
    if (!first) {
        asm_gs(a, 0x3b, HOST_T0, GS(j.loop_left));
        ASM(a, 0x65, 0x4c, 0x0f, 0x47); /* cmova t0, gs:[loop_left] */
        asm_abs(a, HOST_T0, GS(j.loop_left));
    }
    asm_gs_store(a, HOST_T0, GS(j.loop_left));
}

/* T0 turns may follow: the counter's limit. */
static void set_limit(struct xlat *x)
{
    struct asm_buf *a = x->a;

    multiply_t0(a, x->counter_step);
    asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_T0, x->counter, 0, x->counter_step);
    asm_gs_store(a, HOST_T0, GS(j.loop_limit));
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

void xlat_loop_enter(struct xlat *x)
{
    struct asm_buf *a = x->a;
    bool moving = false;
    u32 body;

    want_state(x);
    for (unsigned pass = 0; pass < 2;
         pass++) { /* those that move come last: T0 is then turns left */
        for (unsigned g = 0; g < x->ngroups; g++) {
            if (!x->group[g].stream || (x->group[g].stride != 0) != pass)
                continue;
            check_stream(x, g, pass && !moving);
            moving |= pass;
        }
    }
    if (moving)
        set_limit(x);
    body = asm_jmp(a);
    x->loop_at = a->at;
    if (moving)
        asm_gs(a, 0x3b, x->counter, GS(j.loop_limit));
    else
        asm_gs_cmp32(a, GS(request), 0);
    asm_patch(a->rw, asm_jcc(a, moving ? ASM_E : ASM_NE), x->code->entry[JIT_POLL]);
    asm_patch(a->rw, body, a->at);
}
