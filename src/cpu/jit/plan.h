// SPDX-License-Identifier: MIT
// What the parts of the plan of checks (plan.c) share while it is made.
#pragma once

#include "cpu/jit/xlat.h"

#define SPAN_MAX   512       /* bytes of a group; one that straddles two pages fails */
#define STRIDE_MAX 256       /* of a stream: it should stay in a page for some turns */
#define RANGE_MAX  2112      /* bytes of a table whose index is known to be small */
#define OFF_MAX    (1 << 28) /* of displacements that are dealt with */
#define TURNS_MAX  64        /* of a loop whose number of turns is known, */
#define STEP_MAX   4096      /* and what is added to its counter */

#define ID_NONE  REG_ZERO
#define ID_FRESH REG_COUNT

/* What a register holds: the value with this id, and so many bytes more. ID_NONE: a constant. */
struct plan_value {
    u16 id;
    s64 off;
};

/* An address but for its constant part, and for its index if that is (ranged): anything in a small range. */
struct plan_key {
    u16 base, index;
    u8 scale, seg;
    bool ranged;
};

struct plan_candidate {
    struct plan_key key;
    struct xlat_group g;
    s32 anchor; /* an offset at which the address must be aligned */
    bool open;
    bool hoisted;   /* it is checked before (loop), unless (outer) can do that */
    u8 loop, outer; /* the innermost that its leader is in, and the one around that; or XLAT_NONE */
    u8 base; /* the base register of all members, which holds there what it held at the loop's start; or REG_ZERO */
    u8 outer_base; /* the same of (outer) */
};

/* A loop while it is looked at. */
struct plan_span {
    u8 start, end;
    unsigned turns;                   /* there are always so many; 0: not known */
    u32 loose;                        /* registers, by bit, of which nothing else is known */
    bool dead;                        /* something in it calls C code */
    unsigned first;                   /* candidates before this one are older */
    struct plan_value reg[REG_COUNT]; /* at the start of a turn */
};

struct plan {
    struct xlat *x;
    struct plan_value reg[REG_COUNT];
    u32 most[REG_COUNT];               /* what the register's value is at most; 0: not known */
    struct plan_span span[XLAT_LOOPS]; /* in the order of their ends */
    unsigned nspans;
    unsigned in;          /* those that this insn is in, by bit */
    s64 sweep[REG_COUNT]; /* what the last of (turns) turns has more in a register than the first */
    unsigned turns;       /* of the loop that this insn is in; 0: not known */
    u16 fresh;
    struct plan_candidate c[ACCESSES * BLOCK_INSNS];
    unsigned n;
};

/* --- value.c --- */

/* Nothing is known of register (r). */
void plan_forget(struct plan *p, unsigned r);

/* What insn (i) does to registers. False: it calls C code, after which nothing is known. */
bool plan_step(struct plan *p, unsigned i);

static inline bool plan_is_constant(s64 v)
{
    return v >= 0 && v <= INT32_MAX;
}

/* --- span.c --- */

/* Find what may be loops. */
void plan_find_spans(struct plan *p);

/*
 * The first turn of span (n) begins. What registers hold that any turn writes is not known; or how they move is, for as many turns as
 * there are.
 */
void plan_begin_span(struct plan *p, unsigned n);
