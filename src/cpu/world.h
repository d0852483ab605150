// SPDX-License-Identifier: MIT
// What the vCPUs of one VM share: the door through which one of them gets guest code to itself.
#pragma once

#include "cpu/cpu.h"

#define CPU_WORLD_MAX 1024 /* as many as Linux gives a VM */

/* Make the shared part of one VM. 0 or -ENOMEM. */
int cpu_world_create(struct cpu_world **ret);
void cpu_world_free(struct cpu_world *w);

/* Register (c) and set c->index. 0, or -ENOSPC past CPU_WORLD_MAX. */
int cpu_world_add(struct cpu_world *w, struct cpu *c);
void cpu_world_remove(struct cpu_world *w, struct cpu *c);

/*
 * A vCPU thread is inside between enter and leave, and only then runs guest code. enter
 * waits while somebody is exclusive. pause is leave + enter, for CPU_REQ_EXCLUSIVE.
 */
void cpu_world_enter(struct cpu *c);
void cpu_world_leave(struct cpu *c);
void cpu_world_pause(struct cpu *c);

/*
 * Have every other vCPU outside guest code until end. (self): the caller's own vCPU if
 * it is inside, else NULL. Nests not. Split LOCKed accesses, first decode of a page that others may write, memslot changes.
 */
void cpu_world_exclusive(struct cpu_world *w, struct cpu *self);
void cpu_world_exclusive_end(struct cpu_world *w, struct cpu *self);

/* Set request bits on all vCPUs but (except, may be NULL). Any thread. */
void cpu_world_request(struct cpu_world *w, u32 bits, struct cpu *except);

/* (writer) has changed code in the page at (gpa): CPU_REQ_CODE for all others. */
void cpu_world_code_written(struct cpu_world *w, gpa_t gpa, struct cpu *writer);

#define CPU_WORLD_CODES 8

/*
 * The pages of (c)'s CPU_REQ_CODE, each once, which are then forgotten: how many, or CPU_WORLD_CODES + 1 if there
 * were too many to be known.
 */
unsigned cpu_world_code_take(struct cpu *c, gpa_t gpa[CPU_WORLD_CODES]);

/* Drop every vCPU's fast write mapping of the page at (gpa). The caller is exclusive. */
void cpu_world_drop_writes(struct cpu_world *w, gpa_t gpa);
