// SPDX-License-Identifier: MIT
// The table of model-specific registers that the CPU itself holds.
#pragma once

#include "cpu/cpu.h"

#define MSR_RO BIT(0)        /* WRMSR raises #GP; KVM_SET_MSRS may write it */
#define MSR_WO BIT(1)        /* RDMSR raises #GP */
#define MSR_DROP BIT(2)      /* a good value is accepted and forgotten */
#define MSR_CANONICAL BIT(3) /* holds a linear address */
#define MSR_HOST BIT(4)      /* KVM_{GET,SET}_MSRS alone see it */
#define MSR_AMD BIT(5)       /* AMD's CPUs alone have it */
#define MSR_LIST BIT(6)      /* part of a vCPU's state: in KVM_GET_MSR_INDEX_LIST */

#define MSR_GATES 4
#define MSR_NOWHERE 0xffff

/* A CPUID feature bit. A row with gates needs one of them in the guest's table. */
struct msr_gate {
    u32 leaf;
    u8 index, reg, bit;
    bool used;
};

struct msr_row {
    u32 index, count;  /* registers [index, index + count) */
    const char *name;
    u16 off;           /* of the (first) u64 in struct cpu; MSR_NOWHERE: it reads as (fixed) */
    u16 flags;
    u64 writable;      /* other bits set in a write: #GP */
    u64 fixed;         /* bits that read as 1 */
    /* NULL: plain. OP_NEXT, or OP_FAULT raised or not (the caller raises #GP). */
    int (*read)(struct cpu *c, const struct msr_row *row, u32 n, u64 *val);
    int (*write)(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host);
    bool (*valid)(const struct cpu *c, u32 n, u64 val, bool host);
    struct msr_gate gate[MSR_GATES];
    const char *source; /* where it is described */
};

/* Ascending by index. msr_table.c. */
extern const struct msr_row msr_rows[];
extern const unsigned msr_row_count;

/* The plain field that register (n) of a row lives in. */
static inline u64 *msr_field(struct cpu *c, const struct msr_row *row, u32 n)
{
    return (u64 *)(void *)((u8 *)c + row->off) + n;
}
