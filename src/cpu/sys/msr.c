// SPDX-License-Identifier: MIT
// RDMSR and WRMSR over the table of MSRs, and the time stamp counter.

#include "cpu/sys/msr.h"
#include "cpu/sys/desc.h"
#include "cpu/sys/guest_cpuid.h"

#include <pthread.h>
#include <x86intrin.h>

static const struct msr_row *row_find(u32 index)
{
    unsigned lo = 0, hi = msr_row_count;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct msr_row *row = &msr_rows[mid];

        if (index < row->index)
            hi = mid;
        else if (index - row->index >= row->count)
            lo = mid + 1;
        else
            return row;
    }
    return NULL;
}

static bool gate_open(const struct cpu *c, const struct msr_row *row)
{
    if (row->flags & MSR_AMD && !cpu_vendor_amd(c))
        return false;
    for (unsigned i = 0; i < MSR_GATES && row->gate[i].used; i++) {
        const struct msr_gate *g = &row->gate[i];

        if (guest_cpuid_bit(c, g->leaf, g->index, g->reg, g->bit))
            return true;
    }
    return !row->gate[0].used;
}

/* The row, if the guest (or its host) has this register. */
static const struct msr_row *row_for(const struct cpu *c, u32 index, bool host)
{
    const struct msr_row *row = row_find(index);

    if (!row || host)
        return row;
    return row->flags & MSR_HOST || !gate_open(c, row) ? NULL : row;
}

bool cpu_msr_known(const struct cpu *c, u32 index) { return row_for(c, index, false) != NULL; }

static int unknown(struct cpu *c, int rc)
{
    return rc == OP_FAULT ? cpu_raise_gp(c) : rc;
}

int cpu_msr_read(struct cpu *c, u32 index, u64 *val, bool host)
{
    const struct msr_row *row = row_for(c, index, host);
    u64 v;

    if (!row)
        return unknown(c, c->bus->msr_read ? c->bus->msr_read(c, index, val) : OP_FAULT);
    if (row->flags & MSR_WO && !host)
        return cpu_raise_gp(c);
    if (row->read)
        return unknown(c, row->read(c, row, index - row->index, val));
    v = row->fixed;
    if (row->off != MSR_NOWHERE)
        v |= *msr_field(c, row, index - row->index);
    *val = v;
    return OP_NEXT;
}

int cpu_msr_write(struct cpu *c, u32 index, u64 val, bool host)
{
    const struct msr_row *row = row_for(c, index, host);
    u32 n;

    if (!row)
        return unknown(c, c->bus->msr_write ? c->bus->msr_write(c, index, val) : OP_FAULT);
    n = index - row->index;
    if (row->flags & MSR_RO) {
        if (!host)
            return cpu_raise_gp(c);
    } else if (val & ~(row->writable | row->fixed)) {
        return cpu_raise_gp(c);
    }
    if (row->flags & MSR_CANONICAL && !addr_canonical(val))
        return cpu_raise_gp(c);
    if (row->valid && !row->valid(c, n, val, host))
        return cpu_raise_gp(c);
    if (row->write)
        return unknown(c, row->write(c, row, n, val, host));
    if (row->off != MSR_NOWHERE && !(row->flags & MSR_DROP))
        *msr_field(c, row, n) = val;
    return OP_NEXT;
}

static u32 list[128];
static unsigned list_count;
static pthread_once_t list_once = PTHREAD_ONCE_INIT;

static void list_init(void)
{
    for (unsigned i = 0; i < msr_row_count; i++) {
        if (msr_rows[i].flags & MSR_LIST && list_count < ARRAY_SIZE(list))
            list[list_count++] = msr_rows[i].index;
    }
}

const u32 *cpu_msr_index_list(unsigned *count)
{
    pthread_once(&list_once, list_init);
    *count = list_count;
    return list;
}

u64 cpu_tsc(const struct cpu *c)
{
    return __rdtsc() + (u64)c->tsc_offset;
}
