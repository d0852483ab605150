// SPDX-License-Identifier: MIT
// What the engines can be asked to write down while they run guest code.
#pragma once

#include "cpu/cpu.h"

struct block;
struct jit_code;

enum cpu_trace_kind {
    TRACE_DECODE,    /* blocks as they are decoded */
    TRACE_TRANSLATE, /* and as they are translated, with the host's code */
    TRACE_EXIT,      /* why translated code was left */
    TRACE_CODE,      /* changes of code, and what was dropped for them */
    TRACE_EVENT,     /* exceptions and interrupts that are delivered */
    TRACE_KINDS
};

/* Bits by kind; written before the first vCPU runs. */
extern u32 cpu_trace_bits;

/* Have translations count how often they are run, and look into the TLB: stats.code_blocks, tlb_lookup, tlb_lookup_miss. Set before the first vCPU runs. */
extern bool cpu_counts_code;

static inline bool cpu_traces(enum cpu_trace_kind kind)
{
    return unlikely(cpu_trace_bits & BIT(kind));
}

/*
 * Trace what the letters in (spec) stand for, to stderr, or after a comma to a file. 0, -EINVAL (an unknown
 * letter, or none) or open()'s errors. The environment's UVIRT_TRACE asks for the same, wrong letters being ignored.
 */
int cpu_trace_open(const char *spec);

/* What UVIRT_TRACE asks for, once. */
void cpu_trace_from_environment(void);

/* One record each; called when cpu_traces() says so. */
void cpu_trace_decode(const struct cpu *c, const struct block *b);
void cpu_trace_translate(const struct cpu *c, const struct jit_code *k);
void cpu_trace_exit(const struct cpu *c, u64 from, u64 to, const char *why);
void cpu_trace_code(const struct cpu *c, gpa_t gpa, const char *what);
void cpu_trace_event(const struct cpu *c, const char *what, u8 vector, u32 error);
