// SPDX-License-Identifier: MIT
// What may be a loop in a block, what a turn does to registers, and how many turns there are.

#include "cpu/jit/plan.h"

#include <Zydis/Zydis.h>

#include <string.h>

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
    p->span[p->nspans++] = (struct plan_span){.start = start, .end = i};
}

void plan_find_spans(struct plan *p)
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

/* The insn that last touches the flags that span (s) ends with a look at, or XLAT_NONE. */
static u8 last_flags(const struct xlat *x, const struct plan_span *s)
{
    for (u8 i = s->end; i-- > s->start;) {
        if (x->flags[i].touch)
            return i;
    }
    return XLAT_NONE;
}

/*
 * How often span (s) is run if it ends with a JNE after insn (i), which has compared a register with a constant, or set
 * it: in the first turn it then was (then), and a turn adds (by). 0: not known.
 */
static unsigned count_turns(const struct xlat *x, const struct plan_span *s, u8 i,
                            const struct plan_value *then, s64 by)
{
    const struct decoded *d = &x->d[i];
    s64 left = -then->off;

    if (x->kind[s->end] != XLAT_JCC || (x->d[s->end].opcode & 15) != 5 ||
        x->kind[i] != XLAT_NATIVE || !by || by > STEP_MAX || by < -STEP_MAX || then->id != ID_NONE)
        return 0;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_CMP:
        if (d->op[1].kind != OPND_IMM || !plan_is_constant(d->op[1].imm))
            return 0;
        left += d->op[1].imm;
        break;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
        break;
    default:
        return 0;
    }
    return left % by || left / by < 0 || left / by >= TURNS_MAX ? 0 : (unsigned)(left / by) + 1;
}

/*
 * Run through span (n) once and see what a turn does to registers: what it adds to them is (add), or INT64_MAX. p->reg is as it was. 0,
 * or how many turns there are.
 */
static unsigned try_span(struct plan *p, unsigned n, s64 add[REG_COUNT])
{
    const struct plan_span *s = &p->span[n];
    struct plan_value before[REG_COUNT], then = {.id = ID_FRESH};
    u8 flags = last_flags(p->x, s), reg = REG_ZERO;
    unsigned turns = 0;
    bool calls = false;

    memcpy(before, p->reg, sizeof(before));
    if (flags != XLAT_NONE && p->x->d[flags].nopnd && p->x->d[flags].op[0].kind == OPND_GPR &&
        p->x->d[flags].op[0].size >= 4)
        reg = p->x->d[flags].op[0].reg;
    for (u8 i = s->start; i <= s->end; i++) {
        calls |= !plan_step(p, i);
        if (i == flags)
            then = p->reg[reg];
    }
    for (u8 r = 0; r < REG_COUNT; r++)
        add[r] = p->reg[r].id == before[r].id ? p->reg[r].off - before[r].off : INT64_MAX;
    if (reg != REG_ZERO && !calls && add[REG_RSP] == 0 && add[reg] != INT64_MAX)
        turns = count_turns(p->x, s, flags, &then, add[reg]);
    memcpy(p->reg, before, sizeof(before));
    return turns;
}

void plan_begin_span(struct plan *p, unsigned n)
{
    struct plan_span *s = &p->span[n];
    s64 add[REG_COUNT] = {0};
    u32 loose = 0;

    if (s->start) /* at the block's, nothing is known anyway */
        s->turns = try_span(p, n, add);
    for (u8 r = 0; r < REG_COUNT; r++) {
        s64 by = s->turns && add[r] <= OFF_MAX && add[r] >= -OFF_MAX ? add[r] * s->turns : 0;

        if (!add[r])
            continue;
        if (!by || (p->reg[r].id == ID_NONE && !plan_is_constant(p->reg[r].off + by)))
            loose |= BIT(r);
        else
            p->sweep[r] = by - add[r];
    }
    for (u8 r = 0; r < REG_COUNT; r++) {
        if (loose & BIT(r))
            plan_forget(p, r);
    }
    s->loose = loose;
    p->turns = s->turns;
    memcpy(s->reg, p->reg, sizeof(s->reg));
    s->first = p->n;
    p->in |= BIT(n);
}
