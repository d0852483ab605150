// SPDX-License-Identifier: MIT
// Life of a VM, and its settings.

#include "kvm/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <x86intrin.h>

#define IDENTITY_MAP_DEFAULT 0xfffbc000ull
#define QUIRKS_KNOWN                                                                               \
    (KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE | \
     KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)

/* --- life --- */

static void vm_free(struct kvm_vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        kvm_vcpu_free(vm->vcpu[i]);
    irqchip_free(vm->irqchip);
    if (vm->clock)
        kvmclock_free(vm->clock);
    if (vm->ioevents)
        ioevents_free(vm->ioevents);
    coalesced_free(vm->coalesced);
    msr_filter_free(vm->msr_filter);
    cpu_world_free(vm->world);
    if (vm->mem)
        mem_free(vm->mem);
    kvm_stats_free(vm->stats);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

static void vm_destroy(struct kvm_object *o) { vm_free(kvm_vm_of(o)); }

static int vm_build(struct kvm_vm *vm)
{
    int rc = mem_create(&vm->mem);

    if (!rc)
        rc = cpu_world_create(&vm->world);
    if (!rc)
        rc = kvmclock_create(&vm->clock, NULL);
    if (!rc)
        rc = ioevents_create(&vm->ioevents);
    if (!rc)
        rc = coalesced_create(&vm->coalesced);
    return rc;
}

int kvm_vm_create(unsigned long type)
{
    struct kvm_vm *vm;
    int fd = -1, rc;

    if (type != KVM_X86_DEFAULT_VM)
        return -EINVAL;
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return -ENOMEM;
    kvm_object_init(&vm->o, KVM_CLASS_VM, vm_destroy);
    pthread_mutex_init(&vm->lock, NULL);
    vm->max_vcpu_id = KVM_VCPU_IDS_MAX;
    vm->identity_map_addr = IDENTITY_MAP_DEFAULT;
    atomic_store(&vm->tsc_offset, -(s64)__rdtsc());
    rc = vm_build(vm);
    if (rc)
        goto free_vm;
    rc = fd = kvm_fd_make("kvm-vm", 0);
    if (fd < 0)
        goto free_vm;
    rc = kvm_fd_bind(fd, &vm->o);
    if (rc)
        goto close_fd;
    return fd;

close_fd:
    close(fd);
free_vm:
    vm_free(vm);
    return rc;
}

int kvm_vm_create_vcpu(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    int rc = 0;

    pthread_mutex_lock(&vm->lock);
    if (raw >= vm->max_vcpu_id || vm->vcpu_count == KVM_VCPUS_MAX)
        rc = -EINVAL;
    for (unsigned i = 0; !rc && i < vm->vcpu_count; i++) {
        if (vm->vcpu[i]->id == raw)
            rc = -EEXIST;
    }
    if (!rc)
        rc = kvm_vcpu_create(vm, (u32)raw);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

/* --- settings --- */

int kvm_vm_check_extension(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return kvm_cap_check(vm, raw);
}

int kvm_vm_set_boot_cpu_id(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    int rc = -EBUSY;

    pthread_mutex_lock(&vm->lock);
    if (!vm->vcpu_count)
        rc = raw > vm->max_vcpu_id ? -EINVAL : 0;
    if (!rc)
        vm->boot_cpu_id = (u32)raw;
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

int kvm_vm_set_nr_mmu_pages(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    if (raw < 64)
        return -EINVAL;
    pthread_mutex_lock(&vm->lock);
    vm->mmu_pages = raw;
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

int kvm_vm_get_nr_mmu_pages(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    int pages;

    pthread_mutex_lock(&vm->lock);
    pages = (int)vm->mmu_pages;
    pthread_mutex_unlock(&vm->lock);
    return pages;
}

int kvm_vm_set_tss_addr(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    if (raw > (u32)(-3 * 4096))
        return -EINVAL; /* three pages below 4 GiB */
    pthread_mutex_lock(&vm->lock);
    vm->tss_addr = raw;
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

int kvm_vm_set_identity_map_addr(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    u64 addr = *(const u64 *)arg;
    int rc = -EINVAL;

    pthread_mutex_lock(&vm->lock);
    if (!vm->vcpu_count) {
        vm->identity_map_addr = addr ? addr : IDENTITY_MAP_DEFAULT;
        rc = 0;
    }
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

int kvm_vm_get_clock(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    kvmclock_get(vm->clock, arg);
    return 0;
}

int kvm_vm_set_clock(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return kvmclock_set(vm->clock, arg);
}

int kvm_vm_set_tsc_khz(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return kvm_vcpu_set_tsc_khz(NULL, arg, raw);
}

int kvm_vm_get_tsc_khz(struct kvm_vm *vm, void *arg, unsigned long raw) { return (int)kvm_tsc_khz(); }
int kvm_vm_get_stats_fd(struct kvm_vm *vm, void *arg, unsigned long raw) { return kvm_stats_vm_fd(vm); }

int kvm_vm_register_coalesced(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return coalesced_register(vm->coalesced, arg);
}

int kvm_vm_unregister_coalesced(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return coalesced_unregister(vm->coalesced, arg);
}

/* --- capabilities that are turned on --- */

/* Once, before the first vCPU, and not below the bootstrap processor's. */
static int limit_vcpu_ids(struct kvm_vm *vm, u64 limit)
{
    if (!limit || limit > KVM_VCPU_IDS_MAX || limit < vm->boot_cpu_id)
        return -EINVAL;
    if (vm->vcpu_count || vm->max_vcpu_id != KVM_VCPU_IDS_MAX)
        return -EINVAL;
    vm->max_vcpu_id = (u32)limit;
    return 0;
}

static int enable_locked(struct kvm_vm *vm, const struct kvm_enable_cap *c)
{
    u64 arg = c->args[0];

    switch (c->cap) {
    case KVM_CAP_DISABLE_QUIRKS:
        vm->disabled_quirks = arg & QUIRKS_KNOWN;
        return 0;
    case KVM_CAP_EXCEPTION_PAYLOAD:
        vm->exception_payload = arg;
        return 0;
    case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
        vm->triple_fault_event = arg;
        return 0;
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
        if (arg & ~(u64)(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET) ||
            arg == KVM_DIRTY_LOG_INITIALLY_SET)
            return -EINVAL;
        vm->manual_dirty_log = arg;
        return 0;
    case KVM_CAP_MSR_PLATFORM_INFO:
        atomic_store(&vm->platform_info_hidden, !arg);
        return 0;
    case KVM_CAP_X86_USER_SPACE_MSR:
        return kvm_msr_exit_reasons(vm, arg);
    case KVM_CAP_X86_DISABLE_EXITS:
        if (arg & ~(u64)KVM_EXITS_AVOIDABLE)
            return -EINVAL;
        vm->hlt_in_guest |= arg & KVM_X86_DISABLE_EXITS_HLT;
        return 0;
    case KVM_CAP_MAX_VCPU_ID:
        return limit_vcpu_ids(vm, arg);
    case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
        return vm->irqchip ? irqchip_bus_cycle_ns(vm->irqchip, arg) : -ENXIO;
    case KVM_CAP_X2APIC_API:
        return vm->irqchip ? irqchip_x2apic_api(vm->irqchip, arg) : -EINVAL;
    case KVM_CAP_SPLIT_IRQCHIP:
        return kvm_vm_split_irqchip(vm, arg);
    default:
        return -EINVAL;
    }
}

int kvm_vm_enable_cap(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    const struct kvm_enable_cap *c = arg;
    int rc;

    if (c->flags)
        return -EINVAL;
    pthread_mutex_lock(&vm->lock);
    rc = enable_locked(vm, c);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}
