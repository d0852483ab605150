// SPDX-License-Identifier: MIT
// What AMX instructions check before they do anything, in the order of SDM 2A 2.10.
#pragma once

#include "cpu/amx/amx.h"
#include "cpu/amx/form.h"

/* #UD that every AMX instruction has. The encoding and 64-bit mode are the lowerer's to check. */
static inline int amx_check_enabled(struct cpu *c, const struct insn *in)
{
    if (unlikely(c->amx_missing >> in->x[1] & 1))
        return cpu_raise_ud(c);
    if (unlikely(!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & XCR0_AMX) != XCR0_AMX))
        return cpu_raise_ud(c);
    return OP_NEXT;
}

/* #NM if XFD keeps tile data away. SDM 1 13.14. */
static inline int amx_check_xfd(struct cpu *c)
{
    if (likely(!(c->xfd & XCR0_XTILEDATA)))
        return OP_NEXT;
    c->xfd_err |= XCR0_XTILEDATA;
    return cpu_raise(c, EXC_NM);
}

/* Both, for instructions that touch tile data. */
static inline int amx_check_data(struct cpu *c, const struct insn *in)
{
    int rc = amx_check_enabled(c, in);

    return unlikely(rc) ? rc : amx_check_xfd(c);
}

static inline bool amx_tile_valid(const struct cpu_amx *a, unsigned t)
{
    return a->palette && a->rows[t];
}

/* A tile whose columns are whole dwords, as all but TILEZERO need it. */
static inline bool amx_tile_dwords(const struct cpu_amx *a, unsigned t)
{
    return amx_tile_valid(a, t) && !(a->colsb[t] & 3);
}

/* Memory for tiles, about to be written. OP_NEXT, or OP_EXIT when the host has none. */
static inline int amx_tiles_touch(struct cpu *c)
{
    if (unlikely(amx_tiles_alloc(&c->amx))) {
        c->exit = CPU_EXIT_INTERNAL_ERROR;
        return OP_EXIT;
    }
    c->amx.tile_inuse = true;
    return OP_NEXT;
}
