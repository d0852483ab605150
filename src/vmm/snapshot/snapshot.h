// SPDX-License-Identifier: MIT
// A VM into a snapshot file and out of one.
#pragma once

#include "vmm/snapshot/format.h"
#include "vmm/vm.h"

/*
 * Saving writes the sections machine, cpu, device and memory; the caller adds what it needs to build the
 * same VM again (config) and what is between the guest and the outside (session).
 */

struct snapshot_options {
    bool compress; /* memory, by zstd */
};

/*
 * Save a VM that vm_pause() holds still; with the device lock. The guest is not changed by it. 0, or -errno
 * and a sentence; -EOPNOTSUPP if there is a device that cannot be saved.
 */
int snapshot_save_vm(struct vm *vm, const struct snapshot_options *o, struct snapshot_writer *w,
                     struct vmm_error *err);

/* What vm_create() needs to know, out of a file. */
struct snapshot_plan {
    u32 cpus;
    u64 memory;
    u32 tsc_khz;
    struct kvm_cpuid2 *cpuid[VM_CPUS_MAX];
    u32 nr_devices;
    u32 devices[BOARD_VIRTIO_MAX]; /* VIRTIO_ID_*, in order */
};

/* 0, -EBADMSG with a sentence, or -ENOMEM. Free it with snapshot_plan_free(), also after a failure. */
int snapshot_plan(const struct snapshot_file *f, struct snapshot_plan *ret, struct vmm_error *err);
void snapshot_plan_free(struct snapshot_plan *p);

/*
 * Load into a fresh VM that was made by the plan, with the same devices; vm_run() then goes on. 0, -EBADMSG (the file),
 * or what KVM said; always with a sentence.
 */
int snapshot_load_vm(struct vm *vm, const struct snapshot_file *f, struct vmm_error *err);
