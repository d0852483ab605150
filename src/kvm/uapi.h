// SPDX-License-Identifier: MIT
// <linux/kvm.h>, and the names that the headers of Debian 12 are too old to have.
#pragma once

#include <linux/kvm.h>
#include <linux/kvm_para.h>

#ifndef KVM_CAP_COUNTER_OFFSET
#define KVM_CAP_PMU_EVENT_MASKED_EVENTS 226
#define KVM_CAP_COUNTER_OFFSET 227
#endif

#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2 231
#define KVM_CAP_MEMORY_FAULT_INFO 232
#define KVM_CAP_MEMORY_ATTRIBUTES 233
#define KVM_CAP_GUEST_MEMFD 234
#define KVM_CAP_VM_TYPES 235
#define KVM_MEM_GUEST_MEMFD (1UL << 2)

struct kvm_userspace_memory_region2 {
    __u32 slot;
    __u32 flags;
    __u64 guest_phys_addr;
    __u64 memory_size;
    __u64 userspace_addr;
    __u64 guest_memfd_offset;
    __u32 guest_memfd;
    __u32 pad1;
    __u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif

#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS 237

struct kvm_pre_fault_memory {
    __u64 gpa;
    __u64 size;
    __u64 flags;
    __u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

/*
 * The forms in which guest AMX was first proposed (RFC of February 2021). Linux took KVM_GET_XSAVE2 instead and gave the
 * capability's number to Hyper-V's CPUID on the system descriptor, which this KVM does not have.
 */
#define KVM_CAP_X86_XSAVE_EXTENSION 191
struct kvm_xsave_extension {
    __u32 region[3072];
};
#define KVM_GET_XSAVE_EXTENSION _IOW(KVMIO, 0xa4, struct kvm_xsave_extension)
#define KVM_SET_XSAVE_EXTENSION _IOW(KVMIO, 0xa5, struct kvm_xsave_extension)

#ifndef KVM_X86_GRP_SYSTEM
#define KVM_X86_GRP_SYSTEM 0
#endif
#ifndef KVM_X86_XCOMP_GUEST_SUPP
#define KVM_X86_XCOMP_GUEST_SUPP 0
#endif
#ifndef KVM_X86_DEFAULT_VM
#define KVM_X86_DEFAULT_VM 0
#endif
#ifndef KVM_CLOCK_VALID_FLAGS
#define KVM_CLOCK_VALID_FLAGS (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)
#endif

/* The layouts that the ioctl numbers promise: they hold whatever header they came from. */
_Static_assert(sizeof(struct kvm_userspace_memory_region2) == 160, "KVM_SET_USER_MEMORY_REGION2");
_Static_assert(sizeof(struct kvm_pre_fault_memory) == 64, "KVM_PRE_FAULT_MEMORY");
_Static_assert(KVM_GET_XSAVE2 == 0x9000aecf, "KVM_GET_XSAVE2");
_Static_assert(KVM_GET_XSAVE_EXTENSION == 0x7000aea4, "KVM_GET_XSAVE_EXTENSION");
_Static_assert(KVM_SET_XSAVE_EXTENSION == 0x7000aea5, "KVM_SET_XSAVE_EXTENSION");
_Static_assert(sizeof(struct kvm_lapic_state) == 1024, "KVM_GET_LAPIC");
