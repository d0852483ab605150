// SPDX-License-Identifier: MIT
// MSRs at the ABI: lists, values, the TSC of a VM whose vCPUs keep step.

#include "kvm/handlers.h"

#include <errno.h>
#include <string.h>
#include <x86intrin.h>

#define MSRS_MAX 256 /* entries of one call */
#define MSR_IA32_TSC 0x10
#define MSR_IA32_APICBASE 0x1b
#define MSR_IA32_UCODE_REV 0x8b
#define MSR_IA32_ARCH_CAPABILITIES 0x10a

static const u32 feature_msrs[] = {MSR_IA32_ARCH_CAPABILITIES, MSR_IA32_UCODE_REV};

/* Copy out a list in two parts under struct kvm_msr_list's rules: 0, -E2BIG with nmsrs set, -EFAULT. */
static int list_out(unsigned long raw, const u32 *a, u32 na, const u32 *b, u32 nb)
{
    unsigned long to = raw + offsetof(struct kvm_msr_list, indices);
    u32 room, total = na + nb;

    if (kvm_copy_in(&room, raw, sizeof(room)) || kvm_copy_out(raw, &total, sizeof(total)))
        return -EFAULT;
    if (room < total)
        return -E2BIG;
    if (kvm_copy_out(to, a, na * sizeof(*a)) || kvm_copy_out(to + na * sizeof(*a), b, nb * sizeof(*b)))
        return -EFAULT;
    return 0;
}

int kvm_system_get_msr_index_list(void *arg, unsigned long raw)
{
    unsigned ncpu, nclock;
    const u32 *cpu = cpu_msr_index_list(&ncpu), *clock = vclock_msr_list(&nclock);

    return list_out(raw, cpu, ncpu, clock, nclock);
}

int kvm_system_get_msr_feature_index_list(void *arg, unsigned long raw)
{
    return list_out(raw, feature_msrs, ARRAY_SIZE(feature_msrs), NULL, 0);
}

/* --- one MSR --- */

static int feature_get(u32 index, u64 *val)
{
    switch (index) {
    case MSR_IA32_ARCH_CAPABILITIES:
        *val = cpu_arch_capabilities();
        return 0;
    case MSR_IA32_UCODE_REV:
        *val = BIT(32);
        return 0;
    default:
        return -EINVAL;
    }
}

static int cpu_msr_get(struct kvm_vcpu *v, u32 index, u64 *val)
{
    struct cpu_event exc = v->cpu->exc;
    int rc = cpu_msr_read(v->cpu, index, val, true);

    v->cpu->exc = exc;
    return rc == OP_NEXT ? 0 : -EINVAL;
}

static int msr_get(struct kvm_vcpu *v, u32 index, u64 *val)
{
    int rc = vclock_msr_read(&v->clock, index, val);

    if (rc == -ENOENT && v->lapic)
        rc = lapic_msr_read(v->lapic, index, val, true);
    return rc == -ENOENT ? cpu_msr_get(v, index, val) : rc;
}

/*
 * A host write of the TSC. Whoever restores or resets a VM writes each vCPU's in turn; values that the
 * shared clock would show within a second of now, and 0, mean "in step with the others".
 */
static void tsc_set(struct kvm_vcpu *v, u64 val)
{
    s64 shared = atomic_load(&v->vm->tsc_offset), ahead;
    u64 now = __rdtsc();

    ahead = (s64)(val - (now + (u64)shared));
    if (val != 0 && (ahead > (s64)kvm_tsc_khz() * 1000 || ahead < -(s64)kvm_tsc_khz() * 1000)) {
        shared = (s64)(val - now);
        atomic_store(&v->vm->tsc_offset, shared);
    }
    v->cpu->tsc_offset = shared;
    if (v->lapic)
        lapic_tsc_changed(v->lapic);
}

static int msr_set(struct kvm_vcpu *v, u32 index, u64 val)
{
    struct cpu_event exc = v->cpu->exc;
    int rc;

    if (index == MSR_IA32_TSC) {
        tsc_set(v, val);
        return 0;
    }
    cpu_world_enter(v->cpu); /* kvmclock pages are guest memory */
    rc = vclock_msr_write(&v->clock, index, val);
    if (rc == -ENOENT && v->lapic)
        rc = lapic_msr_write(v->lapic, index, val, true);
    if (rc == -ENOENT)
        rc = cpu_msr_write(v->cpu, index, val, true) == OP_NEXT ? 0 : -EINVAL;
    cpu_world_leave(v->cpu);
    v->cpu->exc = exc;
    return rc;
}

/* --- many --- */

/* Header and entries: the count, or -E2BIG, -EFAULT. */
static int msrs_in(unsigned long raw, struct kvm_msr_entry *e)
{
    struct kvm_msrs head;

    if (kvm_copy_in(&head, raw, sizeof(head)))
        return -EFAULT;
    if (head.nmsrs >= MSRS_MAX)
        return -E2BIG;
    if (kvm_copy_in(e, raw + sizeof(head), head.nmsrs * sizeof(*e)))
        return -EFAULT;
    return (int)head.nmsrs;
}

int kvm_vcpu_get_msrs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_msr_entry e[MSRS_MAX];
    int n = msrs_in(raw, e), i;
    u64 val;

    if (n < 0)
        return n;
    for (i = 0; i < n && !msr_get(v, e[i].index, &val); i++)
        e[i].data = val;
    if (kvm_copy_out(raw + sizeof(struct kvm_msrs), e, (size_t)n * sizeof(*e)))
        return -EFAULT;
    return i;
}

int kvm_vcpu_set_msrs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_msr_entry e[MSRS_MAX];
    int n = msrs_in(raw, e), i;

    if (n < 0)
        return n;
    for (i = 0; i < n && !msr_set(v, e[i].index, e[i].data); i++)
        ;
    return i;
}

int kvm_system_get_msrs(void *arg, unsigned long raw)
{
    struct kvm_msr_entry e[MSRS_MAX];
    int n = msrs_in(raw, e), i;
    u64 val;

    if (n < 0)
        return n;
    for (i = 0; i < n && !feature_get(e[i].index, &val); i++)
        e[i].data = val;
    if (kvm_copy_out(raw + sizeof(struct kvm_msrs), e, (size_t)n * sizeof(*e)))
        return -EFAULT;
    return i;
}
