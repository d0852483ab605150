// SPDX-License-Identifier: MIT
// APIC ids and topology in CPUID (SDM 2A CPUID; AMD APM 3 appendix E).
#include "vmm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define F1_ECX_X2APIC       BIT(21)
#define F1_ECX_TSC_DEADLINE BIT(24)
#define F1_ECX_HYPERVISOR   BIT(31)
#define F1_EDX_HTT          BIT(28)
#define F81_ECX_CMP_LEGACY  BIT(1)

#define LEVEL_SMT  (1u << 8)
#define LEVEL_CORE (2u << 8)

int cpuid_supported(const struct kvm_backend *be, int sys_fd, struct kvm_cpuid2 **ret)
{
    struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + CPUID_ENTRIES_MAX * sizeof(t->entries[0]));
    int e;

    if (!t)
        return -ENOMEM;
    t->nent = CPUID_ENTRIES_MAX;
    if (be->ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, (unsigned long)t) < 0) {
        e = errno;
        free(t);
        return -e;
    }
    *ret = t;
    return 0;
}

struct kvm_cpuid_entry2 *cpuid_row(struct kvm_cpuid2 *t, u32 leaf, u32 index)
{
    for (u32 i = 0; i < t->nent; i++) {
        struct kvm_cpuid_entry2 *e = &t->entries[i];

        if (e->function == leaf &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
            return e;
    }
    return NULL;
}

static void drop_leaf(struct kvm_cpuid2 *t, u32 leaf)
{
    u32 n = 0;

    for (u32 i = 0; i < t->nent; i++)
        if (t->entries[i].function != leaf)
            t->entries[n++] = t->entries[i];
    t->nent = n;
}

static void add(struct kvm_cpuid2 *t, struct kvm_cpuid_entry2 e)
{
    if (t->nent < CPUID_ENTRIES_MAX)
        t->entries[t->nent++] = e;
}

/* Bits of an APIC id that number the cores of a package. */
static u32 core_bits(unsigned cpus)
{
    return cpus > 1 ? 32 - (u32)__builtin_clz(cpus - 1) : 0;
}

static void patch_topology(struct kvm_cpuid2 *t, u32 leaf, unsigned id, unsigned cpus)
{
    struct kvm_cpuid_entry2 e = {
        .function = leaf, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .edx = id};

    drop_leaf(t, leaf);
    e.ebx = 1;
    e.ecx = LEVEL_SMT;
    add(t, e);
    e.index = 1;
    e.eax = core_bits(cpus);
    e.ebx = cpus;
    e.ecx = 1 | LEVEL_CORE;
    add(t, e);
    e.index = 2;
    e.eax = e.ebx = 0;
    e.ecx = 2;
    add(t, e);
}

/* Leaf 4 (Intel): caches above level 2 are shared by the package, the others by nobody. */
static void patch_caches(struct kvm_cpuid2 *t, unsigned cpus)
{
    for (u32 i = 0; i < t->nent; i++) {
        struct kvm_cpuid_entry2 *e = &t->entries[i];
        u32 level = e->eax >> 5 & 7;

        if (e->function != 4 || !(e->eax & 0x1f))
            continue;
        e->eax &= 0x3fff;
        e->eax |= ((1u << core_bits(cpus)) - 1) << 26;
        if (level > 2)
            e->eax |= ((1u << core_bits(cpus)) - 1) << 14;
    }
}

static void patch_amd(struct kvm_cpuid2 *t, unsigned id, unsigned cpus)
{
    struct kvm_cpuid_entry2 *e = cpuid_row(t, 0x80000008, 0);

    if (e)
        e->ecx = core_bits(cpus) << 12 | (cpus - 1);
    e = cpuid_row(t, 0x80000001, 0);
    if (e)
        e->ecx = cpus > 1 ? e->ecx | F81_ECX_CMP_LEGACY : e->ecx & ~(u32)F81_ECX_CMP_LEGACY;
    e = cpuid_row(t, 0x8000001e, 0);
    if (e) {
        e->eax = id;
        e->ebx = id;
        e->ecx = 0;
    }
}

void cpuid_patch(struct kvm_cpuid2 *t, unsigned id, unsigned cpus, bool deadline)
{
    struct kvm_cpuid_entry2 *e0 = cpuid_row(t, 0, 0), *e = cpuid_row(t, 1, 0);
    bool amd = e0 && e0->ebx == 0x68747541; /* "Auth"enticAMD */

    if (e) {
        e->ebx = (e->ebx & 0xffff) | id << 24 | cpus << 16;
        e->ecx |= F1_ECX_X2APIC | F1_ECX_HYPERVISOR;
        e->ecx = deadline ? e->ecx | F1_ECX_TSC_DEADLINE : e->ecx & ~(u32)F1_ECX_TSC_DEADLINE;
        e->edx = cpus > 1 ? e->edx | F1_EDX_HTT : e->edx & ~(u32)F1_EDX_HTT;
    }
    if (e0 && e0->eax >= 0xb)
        patch_topology(t, 0xb, id, cpus);
    drop_leaf(t, 0x1f); /* the guest falls back to 0BH, which says it all */
    if (amd) {
        drop_leaf(t, 0x80000026);
        patch_amd(t, id, cpus);
    } else {
        patch_caches(t, cpus);
    }
}
