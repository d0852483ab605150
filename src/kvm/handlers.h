// SPDX-License-Identifier: MIT
// The handlers that ioctl_table.h names: 0 or a result, or -errno. (arg) is the copied argument, (raw) what the caller gave.
#pragma once

#include "kvm/kvm.h"

#define KVM_ROW_SYSTEM(request, arg, type, fn, cap, doc) int fn(void *arg_, unsigned long raw);
#define KVM_ROW_VM(request, arg, type, fn, cap, doc) int fn(struct kvm_vm *vm, void *arg_, unsigned long raw);
#define KVM_ROW_VCPU(request, arg, type, fn, cap, doc) int fn(struct kvm_vcpu *v, void *arg_, unsigned long raw);
#include "kvm/ioctl_table.h"
#undef KVM_ROW_SYSTEM
#undef KVM_ROW_VM
#undef KVM_ROW_VCPU
