// SPDX-License-Identifier: MIT
// One virtual machine: its KVM descriptors, its memory, its board and its vCPU threads.
#pragma once

#include "vmm/backend.h"
#include "vmm/blob.h"
#include "vmm/board.h"
#include "vmm/error.h"

#include <linux/kvm.h>

/*
 * Life of a VM, all from one thread:
 *
 *     vm_create -> vm_add_virtio ... -> vm_load_kernel -> vm_load_initrd -> vm_start
 *              -> (vm_end_fd becomes readable) -> vm_stop -> vm_free
 *
 * A snapshot of one that runs: vm_pause -> snapshot_save_vm -> vm_resume. From a snapshot:
 * vm_create -> vm_add_virtio ... -> snapshot_load_vm -> vm_run (snapshot/snapshot.h).
 */

#define VM_CPUS_MAX   64
#define VM_MEMORY_MIN (32ull << 20)
#define VM_MEMORY_MAX (1ull << 40)

struct vm_config {
    const struct kvm_backend *backend;
    unsigned cpus;
    u64 memory;                     /* bytes, a multiple of 2 MiB */
    const struct kvm_cpuid2 *cpuid; /* NULL: everything that KVM supports; copied */
    const struct kvm_cpuid2 *const *cpu_cpuid; /* one per CPU, to be taken as they are; or NULL */
    void (*serial_output)(void *opaque, const void *data, size_t len); /* NULL: dropped */
    void *serial_opaque;
};

/* How a VM ended. */
enum vm_end {
    VM_RUNNING,
    VM_POWERED_OFF,
    VM_RESET,
    VM_TRIPLE_FAULT,
    VM_STOPPED, /* by vm_stop() */
    VM_FAILED,  /* KVM gave up on it */
};

struct vm_stats {
    u64 exits;
    u64 by_reason[64]; /* by KVM_EXIT_*; the last counts what is beyond */
};

struct vm;

/* 0, or -errno with a sentence in (err). */
int vm_create(const struct vm_config *cfg, struct vm **ret, struct vmm_error *err);

/* See board_add_virtio(). */
int vm_add_virtio(struct vm *vm, struct virtio_device *d);

/* Put the kernel (image), a bzImage or ELF vmlinux, into memory. 0, or -errno and a sentence. */
int vm_load_kernel(struct vm *vm, const struct blob *image, struct vmm_error *err);

/*
 * Put (n) archives, one behind the other, where the kernel will look for its initrd.
 * After vm_load_kernel(). 0, or -ENOSPC with a sentence: memory is too small.
 */
int vm_load_initrd(struct vm *vm, const struct blob *parts, unsigned n, struct vmm_error *err);

/*
 * Start the vCPUs. Blocks all signals in them but one that the VM takes for itself. 0, or
 * -errno and a sentence: -EINVAL if (cmdline) has more than BOARD_CMDLINE_SIZE - 1 bytes.
 */
int vm_start(struct vm *vm, const char *cmdline, struct vmm_error *err);

/* Start the vCPUs from the state that they have. As vm_start(). */
int vm_run(struct vm *vm, struct vmm_error *err);

/*
 * Have all vCPUs stand still, each between two instructions, until vm_resume(). 0, or -errno and
 * a sentence, and they go on: -ESHUTDOWN (the guest has ended), -ETIMEDOUT. Without the device lock.
 */
int vm_pause(struct vm *vm, struct vmm_error *err);
void vm_resume(struct vm *vm);

/* Becomes readable when the guest has ended. Stays the VM's. */
int vm_end_fd(const struct vm *vm);

/* How it ended, with a sentence in (why) for VM_FAILED; any thread. */
enum vm_end vm_ended(struct vm *vm, struct vmm_error *why);

/* Make all vCPUs leave the guest, and wait for their threads. */
void vm_stop(struct vm *vm);

/* Stops it, and frees it with all its devices. NULL and half-built ones are fine. */
void vm_free(struct vm *vm);

/* The devices; hold (board->lock) for calls into them. */
struct board *vm_board(struct vm *vm);

/* Counters so far; exact after vm_stop(). */
void vm_get_stats(struct vm *vm, struct vm_stats *ret);

/* The descriptor of a vCPU, or of the VM (index < 0), for KVM_GET_STATS_FD and the like. */
int vm_kvm_fd(const struct vm *vm, int index);
