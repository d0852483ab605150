// SPDX-License-Identifier: MIT
// Can this host take a guest that was started elsewhere?
#pragma once

#include "vmm/backend.h"
#include "vmm/error.h"

#include <linux/kvm.h>

/*
 * What a guest that was shown the table (guest) may be using and (be) cannot give it on this host: 0 if nothing; else
 * -EOPNOTSUPP with the names of what is missing, or what KVM said.
 */
int engine_check(const struct kvm_backend *be, const struct kvm_cpuid2 *guest,
                 struct vmm_error *err);
