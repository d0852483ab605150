// SPDX-License-Identifier: MIT
// The CPUID table of each vCPU: what KVM supports, made particular.
#pragma once

#include "base/types.h"
#include "vmm/backend.h"

#include <linux/kvm.h>

#define CPUID_ENTRIES_MAX 256

/* What KVM_GET_SUPPORTED_CPUID says, in a new table that the caller frees. 0 or -errno. */
int cpuid_supported(const struct kvm_backend *be, int sys_fd, struct kvm_cpuid2 **ret);

/* Row (leaf, index) or NULL. */
struct kvm_cpuid_entry2 *cpuid_row(struct kvm_cpuid2 *t, u32 leaf, u32 index);

/*
 * Make (t), with room for CPUID_ENTRIES_MAX rows, the table of the vCPU with APIC id (id) among
 * (cpus) single-threaded cores of one package. (deadline): its LAPIC timer has TSC-deadline mode.
 */
void cpuid_patch(struct kvm_cpuid2 *t, unsigned id, unsigned cpus, bool deadline);
