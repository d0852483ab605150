// SPDX-License-Identifier: MIT
// Segment checks of memory accesses outside 64-bit mode: SDM 3A 5.3 to 5.5.

#include "cpu/decode/insn.h"

/* Data segment types: bit 3 code, bit 2 expand-down (data), bit 1 writable (data) or readable (code). */
#define TYPE_CODE 8
#define TYPE_EXPAND_DOWN 4
#define TYPE_RW 2

static bool rights_allow(const struct cpu *c, const struct cpu_seg *s, bool write)
{
    u32 type = s->ar & SEG_AR_TYPE;

    if (!(c->cr0 & CR0_PE) || c->rflags & RFLAGS_VM)
        return true;
    if (s->ar & SEG_AR_UNUSABLE || !(s->ar & SEG_AR_P))
        return false;
    if (type & TYPE_CODE)
        return !write && type & TYPE_RW;
    return !write || type & TYPE_RW;
}

static bool limit_allows(const struct cpu_seg *s, u64 ea, unsigned size)
{
    u64 last = ea + size - 1;

    if ((s->ar & (SEG_AR_TYPE & (TYPE_CODE | TYPE_EXPAND_DOWN))) == TYPE_EXPAND_DOWN)
        return ea > s->limit && last <= (s->ar & SEG_AR_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

int seg_access(struct cpu *c, unsigned seg, u64 ea, unsigned size, bool write, u64 *lin)
{
    const struct cpu_seg *s = &c->seg[seg];

    if (unlikely(!rights_allow(c, s, write) || !limit_allows(s, ea, size)))
        return cpu_raise_err(c, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    *lin = (u32)(s->base + ea);
    return OP_NEXT;
}
