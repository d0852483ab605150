// SPDX-License-Identifier: MIT
// What the files that make up a snapshot of a VM share.
#pragma once

#include "vmm/snapshot/snapshot.h"
#include "vmm/vm_internal.h"

/* --- vcpu.c --- */

/* All of a vCPU that KVM lets one read. */
struct vcpu_image {
    struct kvm_cpuid2 *cpuid;
    u32 tsc_khz;
    struct kvm_mp_state mp_state;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic;
    u32 xsave_size;
    u8 *xsave;
    bool has_tsc_offset;
    s64 tsc_offset;
    u64 tsc; /* without offsets to go by */
    u64 tsc_deadline;
    u32 nr_msrs;
    struct kvm_msr_entry *msrs;
};

/* Free what it points to. */
void vcpu_image_free(struct vcpu_image *i);

/* Save or load it as bytes. (cpuid_only): stop after (cpuid) and (tsc_khz), which come first. */
void vcpu_image_state(struct vcpu_image *i, bool cpuid_only, struct state *s);

/* Out of KVM. */
int vcpu_image_get(struct vcpu *v, struct vcpu_image *i, struct vmm_error *err);

/* Into KVM: all that has nothing to do with time. Guest memory is written by some KVMs here. */
int vcpu_image_set(struct vcpu *v, const struct vcpu_image *i, struct vmm_error *err);

/* Then the rest: the TSC is (tsc_delta) on from what (i) says of the host's; LAPIC, timers, events. */
int vcpu_image_set_time(struct vcpu *v, const struct vcpu_image *i, s64 tsc_delta,
                        struct vmm_error *err);

/* --- memory.c --- */

int memory_save(struct vm *vm, bool compress, struct snapshot_writer *w, struct vmm_error *err);

/* Into memory that is zero. */
int memory_load(struct vm *vm, const struct snapshot_file *f, struct vmm_error *err);
