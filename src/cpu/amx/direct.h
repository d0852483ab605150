// SPDX-License-Identifier: MIT
// The AMX instructions that are hot, as translated code calls them: what is common, and nothing that can fail.
#pragma once

#include "cpu/amx/kernel.h"
#include "cpu/cpu.h"

/*
 * Each returns 0 when the instruction is done. Else the insn's op is to be called, which finds out what was in the way
 * and goes on where start_row says. None raises anything, reads or changes cpu->r or cpu->vec, or uses x87 registers.
 *
 * (lin): of row 0, (stride): to the next row, both in 64 bits. (copy): amx_rows_kernel(); (kernel): one of
 * amx_dp_kernel().
 */
int amx_direct_load(struct cpu *c, u64 lin, u64 stride, unsigned tile, amx_rows_fn *copy);
int amx_direct_store(struct cpu *c, u64 lin, u64 stride, unsigned tile, amx_rows_fn *copy);
int amx_direct_zero(struct cpu *c, u64 unused, u64 unused_too, unsigned tile, amx_rows_fn *copy);
int amx_direct_dp(struct cpu *c, u64 sources, u64 unused, unsigned tile, amx_dp_fn *kernel);

/* The (sources) of a product: tiles (s1) and (s2), and the enum amx_feature that it needs. */
static inline u64 amx_direct_sources(unsigned s1, unsigned s2, unsigned feature)
{
    return s1 | s2 << 8 | feature << 16;
}
