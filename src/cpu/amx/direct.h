// SPDX-License-Identifier: MIT
// The AMX instructions that are hot, as translated code calls them: what is common, and nothing that can fail.
#pragma once

#include "cpu/amx/kernel.h"
#include "cpu/cpu.h"

/*
 * Each returns 0 when all is done. Else, counted from 1, the number of the instruction whose op is to be called: it
 * finds out what was in the way and goes on where start_row says. None raises anything, reads or changes cpu->r or
 * cpu->vec, or uses x87 registers.
 *
 * (lin): of row 0, (stride): to the next row, both in 64 bits. (copy): amx_rows_kernel().
 */
int amx_direct_load(struct cpu *c, u64 lin, u64 stride, unsigned tile, amx_rows_fn *copy);
int amx_direct_store(struct cpu *c, u64 lin, u64 stride, unsigned tile, amx_rows_fn *copy);
int amx_direct_zero(struct cpu *c, u64 unused, u64 unused_too, unsigned tile, amx_rows_fn *copy);

/* (count) products with the same (kernel), one of amx_dp_kernel(), and enum amx_feature; their tiles are in (list). */
int amx_direct_dp(struct cpu *c, u64 list, u64 feature, unsigned count, amx_dp_fn *kernel);

#define AMX_DIRECT_BITS 9 /* of (list) for one product, the first in the lowest */
#define AMX_DIRECT_MAX  7

static inline u64 amx_direct_tiles(unsigned d, unsigned s1, unsigned s2)
{
    return d | s1 << 3 | s2 << 6;
}
