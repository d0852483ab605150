// SPDX-License-Identifier: MIT
// What XCR0 may hold: SDM 1 13.3.

#include "cpu/cpu.h"

/* True when all of (group) or none of it is in (val). */
static bool whole(u64 val, u64 group)
{
    return !(val & group) || (val & group) == group;
}

int cpu_xcr0_set(struct cpu *c, u64 val)
{
    bool ok = val & XCR0_X87 && !(val & ~(c->cpuid_xcr0 | XCR0_X87)) && whole(val, XCR0_AVX512) &&
              whole(val, XCR0_AMX);

    if (val & XCR0_AVX && !(val & XCR0_SSE))
        ok = false;
    if (val & XCR0_AVX512 && !(val & XCR0_AVX))
        ok = false;
    if (!ok)
        return cpu_raise_gp(c);
    c->xcr0 = val;
    return OP_NEXT;
}
