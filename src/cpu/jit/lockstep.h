// SPDX-License-Identifier: MIT
// Lock-step mode: every translated block is run by both engines, and they must agree.
#pragma once

#include "cpu/jit/jit.h"

/*
 * UVIRT_ENGINE=lockstep. For one vCPU; another that writes what this one reads would look like a
 * difference. Slow, and for tests: a difference is reported on standard error, with both states, the
 * block and its translation, and ends cpu_run() with CPU_EXIT_INTERNAL_ERROR.
 */

/* What a vCPU in lock-step mode has beside its translator. 0 or -ENOMEM. */
int lockstep_create(struct cpu *c);
void lockstep_free(struct cpu *c);

/* As jit_run(), for one block and with the interpreter beside it. */
int lockstep_run(struct cpu *c, struct block *b, const struct insn **in);

/* Has there been a difference? */
bool lockstep_failed(const struct cpu *c);

/* May a block with (d) be run twice? */
struct decoded;
bool lockstep_repeats(const struct decoded *d);

/* Called before (len) bytes of guest memory at (host), linear address (lin), are written, while c->undo is set. */
void lockstep_note_store(struct cpu *c, u64 lin, u8 *host, unsigned len);
