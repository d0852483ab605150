// SPDX-License-Identifier: MIT
// Frames pushed on a stack that may not be the current one yet: events and far calls to inner levels.
#pragma once

#include "cpu/sys/desc.h"

/* Values in push order, all of (size) bytes. */
struct frame {
    u64 val[40]; /* the longest: a call gate's 31 parameters and 4 more */
    u8 n;
    u8 size;
};

static inline void frame_add(struct frame *f, u64 val) { f->val[f->n++] = val; }

/* Where they go. */
struct frame_stack {
    u64 base;
    u32 limit;
    u32 ar;
    u64 sp;
    bool flat;    /* 64-bit stack: no segment checks */
    u8 acc;       /* MMU_* of the level that owns the stack */
    u32 err;      /* error code of #SS for lack of room */
};

/* The current stack, as code of privilege (cpl) pushes on it; (flat): from 64-bit code. */
void frame_stack_current(const struct cpu *c, unsigned cpl, bool flat, u32 ext, struct frame_stack *st);

/*
 * The stack that the TSS names for level (cpl), checked: SDM 3A 5.8.5. (ss) and (*sel) are what to load
 * into SS. Legacy modes. OP_NEXT; #TS, #SS with (ext) in the error code; or what the access says.
 */
int frame_stack_inner(struct cpu *c, unsigned cpl, u32 ext, struct frame_stack *st, struct desc *ss, u16 *sel);

/* RSP0..2 (slot 0..2) or IST1..7 (slot 4..10) of a 64-bit TSS: SDM 3A 7.7. */
int tss_read_rsp(struct cpu *c, unsigned slot, u32 ext, u64 *rsp);

/* Push the frame: all or nothing. Moves st->sp. OP_NEXT or negative. */
int frame_push(struct cpu *c, const struct frame *f, struct frame_stack *st);

/* Put st->sp into RSP as that stack's width has it; SS must have been loaded. */
void frame_stack_commit(struct cpu *c, const struct frame_stack *st);
