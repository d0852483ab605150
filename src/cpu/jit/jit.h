// SPDX-License-Identifier: MIT
// The translator: blocks of 64-bit guest code become host code that keeps guest state in host registers.
#pragma once

#include "cpu/interp/block.h"

/*
 * All belong to the vCPU's thread. A vCPU without a translator (c->jit NULL: no memory for code, or
 * UVIRT_ENGINE=interp) runs everything in the interpreter.
 */

/* What jit_attach() made. */
void jit_free(struct cpu *c);

/* Every block goes: so does their code. Called by block_cache_flush(). */
void jit_flush(struct cpu *c);

/*
 * The code in the guest-physical page at (gpa) has changed: whatever leads into its translations from elsewhere
 * leads to the run loop from now on, which has them compared with memory.
 */
void jit_unlink(struct cpu *c, gpa_t gpa);

/* Before guest code runs on this thread: give (c) its translator, the first time, and have GS point to (c). */
void jit_attach(struct cpu *c);

/*
 * Have (*b), the block at c->rip, ready to be run by jit_run(). False: it is cold, or belongs to the interpreter, or
 * has just gone with all other translations. Links the exit that translated code was left by to it. (*b)
 * may become another block for the same code, or NULL, to be looked up again.
 */
bool jit_ready(struct cpu *c, struct block **b);

/*
 * Run translated code from (b) on until something needs the run loop. Returns an op_result: OP_END
 * with c->rip set, or any other with (*in) the insn that said so.
 */
int jit_run(struct cpu *c, struct block *b, const struct insn **in);

/* The same, whatever the mode. For lock-step mode, which has links made nowhere. */
int jit_enter(struct cpu *c, struct block *b, const struct insn **in);
