// SPDX-License-Identifier: MIT
// What vm.c (building) and vcpu.c (running) share.
#pragma once

#include "vmm/boot.h"
#include "vmm/vm.h"

#include <pthread.h>
#include <stdatomic.h>

struct vcpu {
    struct vm *vm;
    unsigned index;
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    bool started;
    struct vm_stats stats; /* written by its thread alone */
};

struct vm {
    const struct kvm_backend *be;
    int sys_fd, fd, end_fd;
    struct mem *mem; /* the devices' view */
    struct blob ram; /* low, then high RAM */
    u64 ram_low, ram_high;
    struct board board;
    bool board_ready;
    size_t run_size;
    struct vcpu vcpus[VM_CPUS_MAX];
    unsigned nr_vcpus;
    struct elf_kernel kernel;
    gpa_t initrd;
    u64 initrd_size;

    _Atomic bool stopping; /* pairs with the vCPU threads' look before KVM_RUN */

    _Atomic bool pausing; /* pause.c */
    pthread_mutex_t pause_lock;
    pthread_cond_t pause_cond;
    unsigned parked; /* protected by pause_lock */

    pthread_mutex_t end_lock;
    /* protected by end_lock */
    enum vm_end end;
    struct vmm_error why;
};

/* An ioctl on its descriptor: 0, or -errno and a sentence with the ioctl's (name). */
int vcpu_ioctl(struct vcpu *v, unsigned long request, void *arg, const char *name,
               struct vmm_error *err);

/* The same for the VM's descriptor. */
int vm_ioctl(struct vm *vm, unsigned long request, unsigned long arg, const char *name,
             struct vmm_error *err);

/* Create vCPU (v->index) with (cpuid) and its start-up state. 0, or -errno and a sentence. */
int vcpu_create(struct vcpu *v, const struct kvm_cpuid2 *cpuid, struct vmm_error *err);

/* Registers of the boot protocol, for vCPU 0. */
int vcpu_set_boot_state(struct vcpu *v, const struct boot_config *cfg, struct vmm_error *err);

/* On its thread, between two instructions: wait out a vm_pause(). */
void vcpu_park(struct vcpu *v);

/* Start its thread; make it leave and wait for it; free it. */
int vcpu_start(struct vcpu *v, struct vmm_error *err);
void vcpu_kick(struct vcpu *v);
void vcpu_join(struct vcpu *v);
void vcpu_free(struct vcpu *v);

/* The guest is over: the first caller's word counts. Any thread. */
void vm_finish(struct vm *vm, enum vm_end how, const char *why);
