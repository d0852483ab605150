// SPDX-License-Identifier: MIT
// Capabilities: what KVM_CHECK_EXTENSION answers.

#include "kvm/kvm.h"
#include "kvm/regs.h"

#include <unistd.h>

/* Capabilities with a fixed answer. */
static const struct {
    u16 cap;
    u32 value;
} fixed[] = {
    {KVM_CAP_IRQCHIP, 1},
    {KVM_CAP_HLT, 1},
    {KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1},
    {KVM_CAP_USER_MEMORY, 1},
    {KVM_CAP_SET_TSS_ADDR, 1},
    {KVM_CAP_EXT_CPUID, 1},
    {KVM_CAP_CLOCKSOURCE, 1},
    {KVM_CAP_MAX_VCPUS, KVM_VCPUS_MAX},
    {KVM_CAP_MAX_VCPU_ID, KVM_VCPU_IDS_MAX},
    {KVM_CAP_NR_MEMSLOTS, KVM_SLOTS_MAX},
    {KVM_CAP_PIT, 1},
    {KVM_CAP_NOP_IO_DELAY, 1},
    {KVM_CAP_MP_STATE, 1},
    {KVM_CAP_COALESCED_MMIO, KVM_RING_OFFSET / PAGE_SIZE},
    {KVM_CAP_COALESCED_PIO, 1},
    {KVM_CAP_SYNC_MMU, 1},
    {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1},
    {KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1},
    {KVM_CAP_USER_NMI, 1},
    {KVM_CAP_REINJECT_CONTROL, 1},
    {KVM_CAP_IRQ_ROUTING, IRQCHIP_MAX_GSI},
    {KVM_CAP_IRQ_INJECT_STATUS, 1},
    {KVM_CAP_SIGNAL_MSI, 1},
    {KVM_CAP_IRQFD, 1},
    {KVM_CAP_IRQFD_RESAMPLE, 1},
    {KVM_CAP_IOEVENTFD, 1},
    {KVM_CAP_IOEVENTFD_NO_LENGTH, 1},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, 1},
    {KVM_CAP_INTERNAL_ERROR_DATA, 1},
    {KVM_CAP_PIT2, 1},
    {KVM_CAP_PIT_STATE2, 1},
    {KVM_CAP_SET_BOOT_CPU_ID, 1},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, 1},
    {KVM_CAP_MCE, 32},
    {KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_VALID_FLAGS},
    {KVM_CAP_KVMCLOCK_CTRL, 1},
    {KVM_CAP_VCPU_EVENTS, 1},
    {KVM_CAP_DEBUGREGS, 1},
    {KVM_CAP_X86_ROBUST_SINGLESTEP, 1},
    {KVM_CAP_SET_GUEST_DEBUG, 1},
    {KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |
                                   KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |
                                   KVM_GUESTDBG_BLOCKIRQ},
    {KVM_CAP_ENABLE_CAP, 1},
    {KVM_CAP_ENABLE_CAP_VM, 1},
    {KVM_CAP_XSAVE, 1},
    {KVM_CAP_XCRS, 1},
    {KVM_CAP_GET_TSC_KHZ, 1},
    {KVM_CAP_TSC_DEADLINE_TIMER, 1},
    {KVM_CAP_READONLY_MEM, 1},
    {KVM_CAP_CHECK_EXTENSION_VM, 1},
    {KVM_CAP_DISABLE_QUIRKS, 1},
    {KVM_CAP_SPLIT_IRQCHIP, 1},
    {KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1},
    {KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
    {KVM_CAP_X86_DISABLE_EXITS, KVM_EXITS_AVOIDABLE},
    {KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1},
    {KVM_CAP_IMMEDIATE_EXIT, 1},
    {KVM_CAP_SYNC_REGS, KVM_SYNC_VALID},
    {KVM_CAP_GET_MSR_FEATURES, 1},
    {KVM_CAP_MSR_PLATFORM_INFO, 1},
    {KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER},
    {KVM_CAP_X86_MSR_FILTER, 1},
    {KVM_CAP_EXCEPTION_PAYLOAD, 1},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET},
    {KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1},
    {KVM_CAP_BINARY_STATS_FD, 1},
    {KVM_CAP_SREGS2, 1},
    {KVM_CAP_VCPU_ATTRIBUTES, 1},
    {KVM_CAP_SYS_ATTRIBUTES, 1},
    {KVM_CAP_USER_MEMORY2, 1},
    {KVM_CAP_VM_TYPES, BIT(KVM_X86_DEFAULT_VM)},
    {KVM_CAP_PRE_FAULT_MEMORY, 1},
    {KVM_CAP_IOAPIC_POLARITY_IGNORED, 1},
};

/* max(4096, the standard image of what a guest may have): the size that KVM_GET_XSAVE2 needs at most. */
static int xsave2_size(void)
{
    u32 size = xstate_size(kvm_xcomp_guest_perm(), false);

    return size > sizeof(struct kvm_xsave) ? (int)size : (int)sizeof(struct kvm_xsave);
}

int kvm_cap_check(const struct kvm_vm *vm, unsigned long cap)
{
    long cpus;

    switch (cap) {
    case KVM_CAP_NR_VCPUS:
        cpus = sysconf(_SC_NPROCESSORS_ONLN);
        return cpus < 1 ? 1 : cpus > KVM_VCPUS_MAX ? KVM_VCPUS_MAX : (int)cpus;
    case KVM_CAP_XSAVE2:
        return xsave2_size();
    case KVM_CAP_X86_XSAVE_EXTENSION:
        return !!(cpu_xcr0_supported() & XCR0_XTILEDATA); /* then there is XFD */
    default:
        break;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++) {
        if (fixed[i].cap == cap)
            return (int)fixed[i].value;
    }
    return 0;
}
