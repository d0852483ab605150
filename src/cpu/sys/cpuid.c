// SPDX-License-Identifier: MIT
// The guest's CPUID table and the CPUID instruction's view of it.

#include "cpu/sys/cpuid.h"

#include "cpu/amx/form.h"
#include "cpu/xstate/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAXPHYADDR_DEFAULT 36 /* of a CPU without leaf 80000008H: SDM 3A 4.1.4 */

const struct cpu_cpuid_entry *cpuid_find(const struct cpu_cpuid_entry *e, unsigned n, u32 leaf,
                                         u32 index)
{
    for (unsigned i = 0; i < n; i++) {
        if (e[i].leaf == leaf && (!(e[i].flags & CPUID_FLAG_INDEX) || e[i].index == index))
            return &e[i];
    }
    return NULL;
}

static const struct cpu_cpuid_entry *find(const struct cpu *c, u32 leaf, u32 index)
{
    return cpuid_find(c->cpuid, c->cpuid_count, leaf, index);
}

static unsigned answer_place(u32 leaf)
{
    return leaf * CPU_ANSWER_HASH >> (32 - CPU_ANSWER_BITS);
}

/* Leaf 0's place gets a key of leaf 1, the others one of leaf 0. */
static void forget_answers(struct cpu *c)
{
    for (unsigned i = 0; i < ARRAY_SIZE(c->j.answer); i++)
        c->j.answer[i].key = answer_place(0) == i;
}
_Static_assert((CPU_ANSWER_HASH >> (32 - CPU_ANSWER_BITS)) != 0, "leaf 1 belongs elsewhere than 0");

int cpu_cpuid_set(struct cpu *c, const struct cpu_cpuid_entry *e, unsigned n)
{
    struct cpu_cpuid_entry *copy = NULL;
    const struct cpu_cpuid_entry *x;

    if (n > CPU_CPUID_MAX)
        return -E2BIG;
    if (n) {
        copy = malloc(n * sizeof(*copy));
        if (!copy)
            return -ENOMEM;
        memcpy(copy, e, n * sizeof(*copy));
    }
    free(c->cpuid);
    c->cpuid = copy;
    c->cpuid_count = n;
    forget_answers(c);

    x = find(c, 0xd, 0);
    c->cpuid_xcr0 = x ? ((u64)x->edx << 32 | x->eax) & cpu_xcr0_supported() : 0;
    xstate_layout_from(&c->xlayout, c->cpuid_xcr0, copy, n);
    x = find(c, 0xd, 1);
    c->cpuid_has_xfd = x && x->eax & BIT(4);
    c->amx_missing = amx_features_missing(c);
    x = find(c, 0x80000008, 0);
    c->maxphyaddr = x ? (u8)x->eax : MAXPHYADDR_DEFAULT;
    if (c->maxphyaddr < 32 || c->maxphyaddr > 52)
        c->maxphyaddr = c->maxphyaddr < 32 ? 32 : 52;
    return 0;
}

/* AMD's CPUs, and Hygon's, answer leaves that do not exist with zeros. */
static bool vendor_is_amd(const struct cpu_cpuid_entry *leaf0)
{
    char name[12];

    memcpy(name, &leaf0->ebx, 4);
    memcpy(name + 4, &leaf0->edx, 4);
    memcpy(name + 8, &leaf0->ecx, 4);
    return !memcmp(name, "AuthenticAMD", 12) || !memcmp(name, "HygonGenuine", 12);
}

/*
 * What a leaf past the end of its range reads: on Intel the highest basic leaf's data (SDM 2A
 * CPUID "Input EAX"). Sets *leaf to that leaf. NULL: zeros.
 */
static const struct cpu_cpuid_entry *find_beyond(const struct cpu *c, u32 *leaf, u32 index)
{
    const struct cpu_cpuid_entry *basic = find(c, 0, 0), *range;

    if (!basic || vendor_is_amd(basic))
        return NULL;
    if (*leaf >= 0x40000000 && *leaf <= 0x4fffffff)
        range = find(c, *leaf & 0xffffff00, 0);
    else if (*leaf >= 0xc0000000)
        range = find(c, 0xc0000000, 0);
    else
        range = find(c, *leaf & 0x80000000, 0);
    if (range && *leaf <= range->eax)
        return NULL;
    *leaf = basic->eax;
    return find(c, basic->eax, index);
}

/* Does an answer of (leaf) follow the CPU's state? */
static bool is_dynamic(u32 leaf)
{
    return leaf == 1 || leaf == 7 || leaf == 0xd;
}

/* The parts that do. */
static void dynamic_bits(const struct cpu *c, u32 leaf, u32 index, u32 out[4])
{
    switch (leaf) {
    case 1:
        out[CPUID_ECX] &= ~(u32)BIT(27);
        if (c->cr4 & CR4_OSXSAVE)
            out[CPUID_ECX] |= BIT(27);
        break;
    case 7:
        if (index == 0)
            out[CPUID_ECX] &= ~(u32)BIT(4); /* OSPKE: there are no protection keys */
        break;
    case 0xd:
        if (index == 0)
            out[CPUID_EBX] = xstate_size_in(&c->xlayout, c->xcr0, false);
        else if (index == 1 && out[CPUID_EAX] & (BIT(1) | BIT(3)))
            out[CPUID_EBX] = xstate_size_in(&c->xlayout, c->xcr0 | c->xss, true);
        break;
    default:
        break;
    }
}

/* True: the answer is always the same. */
static bool answer(const struct cpu *c, u32 leaf, u32 index, u32 out[4])
{
    const struct cpu_cpuid_entry *e = find(c, leaf, index);
    u32 asked = leaf;

    if (!e)
        e = find_beyond(c, &leaf, index);
    if (e) {
        out[CPUID_EAX] = e->eax;
        out[CPUID_EBX] = e->ebx;
        out[CPUID_ECX] = e->ecx;
        out[CPUID_EDX] = e->edx;
        dynamic_bits(c, leaf, index, out);
        return !is_dynamic(leaf);
    }
    memset(out, 0, 16);
    /* Levels that do not exist in a topology leaf still echo the level and tell the APIC id. */
    if (asked == 0xb || asked == 0x1f) {
        e = find(c, asked, 1);
        if (e) {
            out[CPUID_ECX] = index & 0xff;
            out[CPUID_EDX] = e->edx;
        }
    }
    return true;
}

void cpu_cpuid(const struct cpu *c, u32 leaf, u32 index, u32 out[4])
{
    answer(c, leaf, index, out);
}

void cpu_cpuid_answer(struct cpu *c, u32 leaf, u32 index, u32 out[4])
{
    struct cpu_answer *a = &c->j.answer[answer_place(leaf)];

    if (!answer(c, leaf, index, out))
        return;
    a->key = (u64)index << 32 | leaf;
    memcpy(a->reg, out, sizeof(a->reg));
}

/* SDM 4 table 2-2, IA32_ARCH_CAPABILITIES. */
u64 cpu_arch_capabilities(void)
{
    enum {
        RDCL_NO = 0,
        SKIP_L1DFL_VMENTRY = 3,
        SSB_NO = 4,
        MDS_NO = 5,
        PSCHANGE_MC_NO = 6,
        TAA_NO = 8,
        SBDR_SSDP_NO = 13,
        FBSDP_NO = 14,
        PSDP_NO = 15,
        BHI_NO = 20,
        PBRSB_NO = 24,
        GDS_NO = 26,
        RFDS_NO = 27
    };
    const u64 its_no = BIT(62);

    return BIT(RDCL_NO) | BIT(SKIP_L1DFL_VMENTRY) | BIT(SSB_NO) | BIT(MDS_NO) |
           BIT(PSCHANGE_MC_NO) | BIT(TAA_NO) | BIT(SBDR_SSDP_NO) | BIT(FBSDP_NO) | BIT(PSDP_NO) |
           BIT(BHI_NO) | BIT(PBRSB_NO) | BIT(GDS_NO) | BIT(RFDS_NO) | its_no;
}
