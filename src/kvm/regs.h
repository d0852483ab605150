// SPDX-License-Identifier: MIT
// A vCPU's registers at the ABI.
#pragma once

#include "kvm/kvm.h"

void kvm_regs_get(struct kvm_vcpu *v, struct kvm_regs *r);
void kvm_regs_set(struct kvm_vcpu *v, const struct kvm_regs *r);
void kvm_sregs_get(struct kvm_vcpu *v, struct kvm_sregs *s);
/* 0, or -EINVAL for a combination that no CPU can be in; then nothing changed. */
int kvm_sregs_set(struct kvm_vcpu *v, const struct kvm_sregs *s);
void kvm_events_get(struct kvm_vcpu *v, struct kvm_vcpu_events *e);
int kvm_events_set(struct kvm_vcpu *v, const struct kvm_vcpu_events *e);

#define KVM_SYNC_VALID (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

/* KVM_CAP_SYNC_REGS: take kvm_dirty_regs, give kvm_valid_regs. in: 0 or -EINVAL. */
int kvm_sync_regs_in(struct kvm_vcpu *v);
void kvm_sync_regs_out(struct kvm_vcpu *v);
