// SPDX-License-Identifier: MIT
// Paravirtual features that the guest's CPUID does not name: KVM_CAP_ENFORCE_PV_FEATURE_CPUID.

#include "kvm/kvm.h"

/* Documentation/virt/kvm/x86/cpuid.rst: the bit of CPUID.40000001H:EAX that stands for each. */
static const struct {
    u32 index;
    u8 feature;
} msrs[] = {
    {MSR_KVM_WALL_CLOCK, KVM_FEATURE_CLOCKSOURCE},
    {MSR_KVM_SYSTEM_TIME, KVM_FEATURE_CLOCKSOURCE},
    {MSR_KVM_WALL_CLOCK_NEW, KVM_FEATURE_CLOCKSOURCE2},
    {MSR_KVM_SYSTEM_TIME_NEW, KVM_FEATURE_CLOCKSOURCE2},
    {MSR_KVM_POLL_CONTROL, KVM_FEATURE_POLL_CONTROL},
};

static const struct {
    u32 nr;
    u8 feature;
} hypercalls[] = {
    {KVM_HC_KICK_CPU, KVM_FEATURE_PV_UNHALT},
    {KVM_HC_SEND_IPI, KVM_FEATURE_PV_SEND_IPI},
    {KVM_HC_SCHED_YIELD, KVM_FEATURE_PV_SCHED_YIELD},
};

/* A guest without the leaf has no feature. */
static bool has_feature(const struct kvm_vcpu *v, unsigned feature)
{
    const struct cpu *c = v->cpu;

    for (unsigned i = 0; i < c->cpuid_count; i++) {
        if (c->cpuid[i].leaf == KVM_CPUID_FEATURES)
            return c->cpuid[i].eax & BIT(feature);
    }
    return false;
}

bool kvm_pv_msr_allowed(const struct kvm_vcpu *v, u32 index)
{
    for (unsigned i = 0; v->pv_enforced && i < ARRAY_SIZE(msrs); i++) {
        if (msrs[i].index == index)
            return has_feature(v, msrs[i].feature);
    }
    return true;
}

bool kvm_pv_hypercall_allowed(const struct kvm_vcpu *v, u64 nr)
{
    for (unsigned i = 0; v->pv_enforced && i < ARRAY_SIZE(hypercalls); i++) {
        if (hypercalls[i].nr == nr)
            return has_feature(v, hypercalls[i].feature);
    }
    return true;
}
