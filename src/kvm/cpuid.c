// SPDX-License-Identifier: MIT
// CPUID at the ABI: what can be offered, what a guest has, and KVM's paravirtual leaves.

#include "kvm/handlers.h"

#include <errno.h>
#include <string.h>

#define LEAF_KVM_SIGNATURE 0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u

#define F1C_X2APIC BIT(21)
#define F1C_TSC_DEADLINE BIT(24)
#define F1C_HYPERVISOR BIT(31)

_Static_assert(LEAF_KVM_SIGNATURE == KVM_CPUID_SIGNATURE, "paravirtual leaves");

static struct kvm_cpuid_entry2 to_abi(const struct cpu_cpuid_entry *e)
{
    return (struct kvm_cpuid_entry2){
        .function = e->leaf, .index = e->index, .flags = e->flags,
        .eax = e->eax, .ebx = e->ebx, .ecx = e->ecx, .edx = e->edx};
}

static struct cpu_cpuid_entry from_abi(const struct kvm_cpuid_entry2 *e)
{
    return (struct cpu_cpuid_entry){
        .leaf = e->function, .index = e->index, .flags = e->flags,
        .eax = e->eax, .ebx = e->ebx, .ecx = e->ecx, .edx = e->edx};
}

/* What this layer adds to what the CPU offers. */
static void add_platform_bits(struct cpu_cpuid_entry *e, int n)
{
    for (int i = 0; i < n; i++) {
        if (e[i].leaf == 1)
            e[i].ecx |= F1C_X2APIC | F1C_TSC_DEADLINE | F1C_HYPERVISOR;
    }
}

/* Components that the process may not give to guests vanish; returns how many entries stay. */
static int drop_forbidden(struct cpu_cpuid_entry *e, int n)
{
    u64 xcr0 = kvm_xcomp_guest_perm();
    int kept = 0;

    for (int i = 0; i < n; i++) {
        struct cpu_cpuid_entry *d = &e[i];

        if (d->leaf == 0xd && d->index >= 2 && d->index < 64 && !(xcr0 & BIT(d->index)))
            continue;
        if (d->leaf == 0xd && d->index == 0) {
            d->eax &= (u32)xcr0;
            d->edx &= (u32)(xcr0 >> 32);
            d->ebx = d->ecx = xstate_size(xcr0, false);
        } else if (d->leaf == 0xd && d->index == 1) {
            d->ebx = xstate_size(xcr0, true);
        }
        e[kept++] = *d;
    }
    return kept;
}

static int add_pv_leaves(struct cpu_cpuid_entry *e, int n)
{
    e[n++] = (struct cpu_cpuid_entry){
        .leaf = LEAF_KVM_SIGNATURE, .eax = LEAF_KVM_FEATURES,
        .ebx = 0x4b4d564b /* KVMK */, .ecx = 0x564b4d56 /* VMKV */, .edx = 0x4d /* M */};
    e[n++] = (struct cpu_cpuid_entry){.leaf = LEAF_KVM_FEATURES, .eax = (u32)PV_FEATURES};
    return n;
}

static int supported(struct cpu_cpuid_entry *e)
{
    int n = cpu_cpuid_supported(e, CPU_CPUID_MAX - 2);

    if (n < 0)
        return n;
    n = drop_forbidden(e, n);
    add_platform_bits(e, n);
    return add_pv_leaves(e, n);
}

/* Copy out (n) entries and the count: 0, or -E2BIG when there is no room. */
static int table_out(unsigned long raw, const struct kvm_cpuid_entry2 *e, u32 n)
{
    u32 room;

    if (kvm_copy_in(&room, raw, sizeof(room)))
        return -EFAULT;
    if (room < n)
        return -E2BIG;
    if (kvm_copy_out(raw, &n, sizeof(n)) ||
        kvm_copy_out(raw + sizeof(struct kvm_cpuid2), e, n * sizeof(*e)))
        return -EFAULT;
    return 0;
}

int kvm_system_get_supported_cpuid(void *arg, unsigned long raw)
{
    struct cpu_cpuid_entry e[CPU_CPUID_MAX];
    struct kvm_cpuid_entry2 out[CPU_CPUID_MAX];
    int n = supported(e);

    if (n < 0)
        return n;
    for (int i = 0; i < n; i++)
        out[i] = to_abi(&e[i]);
    return table_out(raw, out, (u32)n);
}

int kvm_vcpu_get_cpuid2(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_cpuid_entry2 out[CPU_CPUID_MAX];
    const struct cpu *c = v->cpu;
    u32 r[4];

    for (unsigned i = 0; i < c->cpuid_count; i++) {
        out[i] = to_abi(&c->cpuid[i]);
        cpu_cpuid(c, out[i].function, out[i].index, r);
        out[i].eax = r[0];
        out[i].ebx = r[1];
        out[i].ecx = r[2];
        out[i].edx = r[3];
    }
    return table_out(raw, out, c->cpuid_count);
}

/* Bits that change with CR4, XCR0 and XSS: no difference, whoever wrote them. */
static struct cpu_cpuid_entry without_dynamic(struct cpu_cpuid_entry e)
{
    if (e.leaf == 1)
        e.ecx &= ~(u32)BIT(27); /* OSXSAVE */
    if (e.leaf == 7 && e.index == 0)
        e.ecx &= ~(u32)BIT(4); /* OSPKE */
    if (e.leaf == 0xd && e.index < 2)
        e.ebx = 0;
    return e;
}

/* Is (e) what the vCPU has? It is rewritten as cpu_cpuid_set() rewrites what it keeps. */
static bool same_table(const struct cpu *c, struct cpu_cpuid_entry *e, unsigned n)
{
    struct cpu_cpuid_entry a, b;
    struct xstate_layout layout;

    if (n != c->cpuid_count)
        return false;
    xstate_layout_from(&layout, c->cpuid_xcr0, e, n);
    for (unsigned i = 0; i < n; i++) {
        a = without_dynamic(c->cpuid[i]);
        b = without_dynamic(e[i]);
        if (memcmp(&a, &b, sizeof(a)))
            return false;
    }
    return true;
}

/* XCR0 bits that the table offers. */
static u64 xcr0_of(const struct cpu_cpuid_entry *e, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (e[i].leaf == 0xd && e[i].index == 0)
            return (u64)e[i].edx << 32 | e[i].eax;
    }
    return 0;
}

static int table_set(struct kvm_vcpu *v, struct cpu_cpuid_entry *e, unsigned n)
{
    u64 tiles = xcr0_of(e, n) & XCR0_XTILEDATA & cpu_xcr0_supported();

    for (unsigned i = 0; v->vm->hlt_in_guest && i < n; i++) {
        if (e[i].leaf == LEAF_KVM_FEATURES)
            e[i].eax &= ~(u32)BIT(KVM_FEATURE_PV_UNHALT);
    }
    if (v->has_run)
        return same_table(v->cpu, e, n) ? 0 : -EINVAL;
    if (tiles & ~kvm_xcomp_guest_perm())
        return -EPERM;
    return cpu_cpuid_set(v->cpu, e, n);
}

int kvm_vcpu_set_cpuid2(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_cpuid_entry2 in[CPU_CPUID_MAX];
    struct cpu_cpuid_entry e[CPU_CPUID_MAX];
    struct kvm_cpuid2 head;

    if (kvm_copy_in(&head, raw, sizeof(head)))
        return -EFAULT;
    if (head.nent > CPU_CPUID_MAX)
        return -E2BIG;
    if (kvm_copy_in(in, raw + sizeof(head), head.nent * sizeof(*in)))
        return -EFAULT;
    for (u32 i = 0; i < head.nent; i++)
        e[i] = from_abi(&in[i]);
    return table_set(v, e, head.nent);
}

int kvm_vcpu_set_cpuid(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_cpuid_entry in[CPU_CPUID_MAX];
    struct cpu_cpuid_entry e[CPU_CPUID_MAX];
    struct kvm_cpuid head;

    if (kvm_copy_in(&head, raw, sizeof(head)))
        return -EFAULT;
    if (head.nent > CPU_CPUID_MAX)
        return -E2BIG;
    if (kvm_copy_in(in, raw + sizeof(head), head.nent * sizeof(*in)))
        return -EFAULT;
    for (u32 i = 0; i < head.nent; i++)
        e[i] = (struct cpu_cpuid_entry){.leaf = in[i].function, .eax = in[i].eax, .ebx = in[i].ebx,
                                        .ecx = in[i].ecx, .edx = in[i].edx};
    return table_set(v, e, head.nent);
}
