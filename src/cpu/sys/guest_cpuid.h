// SPDX-License-Identifier: MIT
// What the guest's CPUID table says, as the ops that depend on a feature ask it.
#pragma once

#include "cpu/cpu.h"

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* The entry for (leaf, index), or NULL. */
static inline const struct cpu_cpuid_entry *guest_cpuid_find(const struct cpu *c, u32 leaf, u32 index)
{
    for (unsigned i = 0; i < c->cpuid_count; i++) {
        const struct cpu_cpuid_entry *e = &c->cpuid[i];

        if (e->leaf == leaf && e->index == index)
            return e;
    }
    return NULL;
}

/* Does the guest have this feature bit? A CPU without any table has them all. */
static inline bool guest_cpuid_bit(const struct cpu *c, u32 leaf, u32 index, enum cpuid_reg reg, unsigned bit)
{
    const struct cpu_cpuid_entry *e = guest_cpuid_find(c, leaf, index);

    if (!c->cpuid_count)
        return true;
    return e && ((&e->eax)[reg] >> bit & 1);
}

/* AMD's rules rather than Intel's, by the vendor string: "AuthenticAMD", "HygonGenuine". */
static inline bool cpu_vendor_amd(const struct cpu *c)
{
    const struct cpu_cpuid_entry *e = guest_cpuid_find(c, 0, 0);

    return e && (e->ebx == 0x68747541 || e->ebx == 0x6f677948);
}
