// SPDX-License-Identifier: MIT
// MSR accesses of the guest that are for user space: KVM_X86_SET_MSR_FILTER and KVM_CAP_X86_USER_SPACE_MSR.

/*
 * Theory of operation
 *
 * The CPU asks before each RDMSR and WRMSR, and again before it raises #GP (cpu_bus.msr_trap). An access
 * that the filter denies, or that would fault, and whose reason user space wants to hear of ends KVM_RUN;
 * the instruction waits. The next KVM_RUN takes the answer from kvm_run and steps the instruction, whose
 * question the answer then serves.
 *
 * The filter is replaced while every vCPU is outside guest code; a vCPU looks at it inside, without a lock.
 */

#include "kvm/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSR_IA32_APICBASE 0x1b
#define MSR_PLATFORM_INFO 0xce
#define RANGE_FLAGS       (KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)
#define REASONS                                                                                    \
    (KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

struct msr_range {
    u32 flags, base, count;
    u8 *bitmap; /* a set bit allows */
};

struct msr_filter {
    bool default_deny;
    struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
    unsigned count;
};

/* --- the filter --- */

void msr_filter_free(struct msr_filter *f)
{
    if (!f)
        return;
    for (unsigned i = 0; i < f->count; i++)
        free(f->range[i].bitmap);
    free(f);
}

/* Add what user space described. Empty ranges do not count. 0, -EINVAL, -ENOMEM, -EFAULT. */
static int range_add(struct msr_filter *f, const struct kvm_msr_filter_range *r)
{
    size_t bytes = ((size_t)r->nmsrs + 63) / 64 * 8;
    u8 *bitmap;

    if (!r->nmsrs)
        return 0;
    if (bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE || r->flags & ~(u32)RANGE_FLAGS)
        return -EINVAL;
    bitmap = malloc(bytes);
    if (!bitmap)
        return -ENOMEM;
    if (kvm_copy_in(bitmap, (unsigned long)r->bitmap, bytes)) {
        free(bitmap);
        return -EFAULT;
    }
    f->range[f->count++] =
        (struct msr_range){.flags = r->flags, .base = r->base, .count = r->nmsrs, .bitmap = bitmap};
    return 0;
}

static int filter_make(const struct kvm_msr_filter *in, struct msr_filter **ret)
{
    struct msr_filter *f;
    int rc = 0;

    if (in->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY)
        return -EINVAL;
    f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->default_deny = in->flags & KVM_MSR_FILTER_DEFAULT_DENY;
    for (unsigned i = 0; !rc && i < KVM_MSR_FILTER_MAX_RANGES; i++)
        rc = range_add(f, &in->ranges[i]);
    if (!rc && f->default_deny && !f->count)
        rc = -EINVAL; /* a guest that may touch no MSR at all */
    if (rc) {
        msr_filter_free(f);
        return rc;
    }
    *ret = f;
    return 0;
}

int kvm_vm_set_msr_filter(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct msr_filter *f, *old;
    int rc = filter_make(arg, &f);

    if (rc)
        return rc;
    pthread_mutex_lock(&vm->lock);
    cpu_world_exclusive(vm->world, NULL);
    old = vm->msr_filter;
    vm->msr_filter = f;
    cpu_world_exclusive_end(vm->world, NULL);
    pthread_mutex_unlock(&vm->lock);
    msr_filter_free(old);
    return 0;
}

/* The first range that has the MSR decides. x2APIC registers are beyond the filter, as in KVM. */
static bool allowed(const struct msr_filter *f, u32 index, bool write)
{
    u32 kind = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;

    if (!f || (index >= 0x800 && index <= 0x8ff))
        return true;
    for (unsigned i = 0; i < f->count; i++) {
        const struct msr_range *r = &f->range[i];
        u32 n = index - r->base;

        if (index >= r->base && n < r->count && r->flags & kind)
            return r->bitmap[n / 8] >> (n % 8) & 1;
    }
    return !f->default_deny;
}

int kvm_msr_exit_reasons(struct kvm_vm *vm, u64 reasons)
{
    if (reasons & ~(u64)REASONS)
        return -EINVAL;
    atomic_store(&vm->msr_exit_reasons, (u32)reasons);
    return 0;
}

/* --- one access --- */

/* MSRs that live in this layer: the CPU does not know them, but they are there. */
static bool is_ours(const struct kvm_vcpu *v, u32 index)
{
    return index == MSR_IA32_APICBASE || (v->lapic && index >= 0x800 && index <= 0x8ff);
}

static u32 reason_of(const struct kvm_vcpu *v, enum cpu_msr_trap why, u32 index)
{
    if (why == CPU_MSR_ASK)
        return KVM_MSR_EXIT_REASON_FILTER;
    return why == CPU_MSR_UNKNOWN && !is_ours(v, index) ? KVM_MSR_EXIT_REASON_UNKNOWN
                                                        : KVM_MSR_EXIT_REASON_INVAL;
}

/* User space has answered this very access. */
static int serve(struct kvm_vcpu *v, u64 *val)
{
    v->msr_exit.answered = false;
    if (v->msr_exit.error)
        return cpu_raise_gp(v->cpu);
    *val = v->msr_exit.data;
    return OP_END;
}

int kvm_msr_trap(struct kvm_vcpu *v, enum cpu_msr_trap why, u32 index, bool write, u64 *val)
{
    struct kvm_msr_exit *x = &v->msr_exit;
    u32 reason = reason_of(v, why, index);

    if (x->answered && x->index == index && x->write == write)
        return serve(v, val);
    if (why == CPU_MSR_ASK) {
        if (index == MSR_PLATFORM_INFO && !write && atomic_load(&v->vm->platform_info_hidden))
            return cpu_raise_gp(v->cpu);
        if (allowed(v->vm->msr_filter, index, write))
            return OP_NEXT;
    }
    if (!(atomic_load(&v->vm->msr_exit_reasons) & reason))
        return why == CPU_MSR_ASK ? cpu_raise_gp(v->cpu) : OP_NEXT;
    *x = (struct kvm_msr_exit){.waiting = true,
                               .write = write,
                               .index = index,
                               .reason = reason,
                               .data = write ? *val : 0};
    return OP_EXIT;
}

bool kvm_msr_stopped(struct kvm_vcpu *v)
{
    struct kvm_msr_exit *x = &v->msr_exit;
    struct kvm_run *run = v->run;

    if (!x->waiting)
        return false;
    x->rip = v->cpu->rip;
    run->exit_reason = x->write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
    run->msr.error = 0;
    memset(run->msr.pad, 0, sizeof(run->msr.pad));
    run->msr.reason = x->reason;
    run->msr.index = x->index;
    run->msr.data = x->data;
    return true;
}

bool kvm_msr_complete(struct kvm_vcpu *v)
{
    struct kvm_msr_exit *x = &v->msr_exit;

    if (!x->waiting)
        return false;
    x->waiting = false;
    if (v->cpu->rip != x->rip)
        return false; /* user space moved RIP away from it */
    x->answered = true;
    x->error = v->run->msr.error;
    x->data = v->run->msr.data;
    return true;
}
