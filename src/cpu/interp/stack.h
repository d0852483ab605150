// SPDX-License-Identifier: MIT
// The guest's stack: pushes and pops as instructions and event delivery make them.
#pragma once

#include "cpu/mmu/access.h"

/* Stack width in bytes: 8 in 64-bit mode, else by SS.B. */
static inline unsigned stack_width(const struct cpu *c)
{
    return c->mode == MODE_64 ? 8 : c->seg[SEG_SS].ar & SEG_AR_DB ? 4 : 2;
}

/* Set RSP, ESP or SP to (v), by the stack width; upper parts of a 16-bit SP stay, ESP zero-extends. */
static inline void stack_set(struct cpu *c, u64 v)
{
    if (c->mode == MODE_64)
        c->r[REG_RSP] = v;
    else if (c->seg[SEG_SS].ar & SEG_AR_DB)
        c->r[REG_RSP] = (u32)v;
    else
        *(u16 *)&c->r[REG_RSP] = (u16)v;
}

/* Linear address of (size) bytes at stack offset (sp), cut to the stack width. OP_NEXT or #SS raised. */
static inline int stack_lin(struct cpu *c, u64 sp, unsigned size, bool write, u64 *lin)
{
    if (likely(c->mode == MODE_64)) {
        *lin = sp;
        return OP_NEXT;
    }
    if (!(c->seg[SEG_SS].ar & SEG_AR_DB))
        sp = (u16)sp;
    return seg_access(c, SEG_SS, (u32)sp, size, write, lin);
}

/* Push the low (size) bytes of (val): 2, 4 or 8. OP_NEXT, OP_STOP, or negative with nothing changed. */
static inline int stack_push(struct cpu *c, unsigned size, u64 val)
{
    u64 sp = c->r[REG_RSP] - size, lin;
    int rc = stack_lin(c, sp, size, true, &lin);

    if (unlikely(rc))
        return rc;
    rc = size == 8   ? mmu_st64(c, lin, val, MMU_SS)
         : size == 4 ? mmu_st32(c, lin, (u32)val, MMU_SS)
                     : mmu_st16(c, lin, (u16)val, MMU_SS);
    if (likely(rc >= 0))
        stack_set(c, sp);
    return rc;
}

/* Read (size) bytes at stack offset RSP + (skip) without moving RSP. OP_NEXT or negative. */
static inline int stack_peek(struct cpu *c, unsigned size, unsigned skip, u64 *val)
{
    u64 lin;
    u32 v32;
    u16 v16;
    int rc = stack_lin(c, c->r[REG_RSP] + skip, size, false, &lin);

    if (unlikely(rc))
        return rc;
    if (likely(size == 8))
        return mmu_ld64(c, lin, val, MMU_SS);
    if (size == 4) {
        rc = mmu_ld32(c, lin, &v32, MMU_SS);
        if (!rc)
            *val = v32;
        return rc;
    }
    rc = mmu_ld16(c, lin, &v16, MMU_SS);
    if (!rc)
        *val = v16;
    return rc;
}
