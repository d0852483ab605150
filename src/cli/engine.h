// SPDX-License-Identifier: MIT
// Which engine, and which CPU it shows to the guest: --engine and --cpu.
#pragma once

#include "vmm/backend.h"
#include "vmm/error.h"

#include <linux/kvm.h>

/*
 * The backend for (name): "soft", "kvm" or "auto", which is kvm where /dev/kvm can be opened
 * and gives guests AMX, and soft everywhere else. NULL for any other name.
 */
const struct kvm_backend *engine_find(const char *name);

/*
 * The CPUID table for (model) = "MODEL[,+FEATURE,-FEATURE...]" on (be), for the caller to free;
 * MODEL is host (NULL means that, too), sapphirerapids, graniterapids or diamondrapids, never with
 * more than the engine offers. 0, or -errno with a sentence.
 */
int engine_cpuid(const struct kvm_backend *be, const char *model, struct kvm_cpuid2 **ret,
                 struct vmm_error *err);

/* Is feature (name), as /proc/cpuinfo calls it, in the table? */
bool engine_cpuid_has(const struct kvm_cpuid2 *t, const char *name);
