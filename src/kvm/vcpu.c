// SPDX-License-Identifier: MIT
// Life of a vCPU, and the ioctls on it that are about neither registers nor running.

#include "kvm/handlers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define APIC_BASE_RESET (0xfee00000ull | BIT(11))
#define APIC_BASE_BSP BIT(8)

/* --- life --- */

/* The descriptors are gone; the vCPU stays until its VM goes, as in KVM. */
static void vcpu_closed(struct kvm_object *o)
{
    kvm_object_put(&kvm_vcpu_of(o)->vm->o);
}

void kvm_vcpu_free(struct kvm_vcpu *v)
{
    if (!v)
        return;
    if (v->cpu) {
        vclock_fini(&v->clock);
        lapic_free(v->lapic);
        cpu_free(v->cpu);
    }
    if (v->wake_fd >= 0)
        close(v->wake_fd);
    if (v->run)
        munmap(v->run, KVM_MMAP_SIZE);
    kvm_stats_free(v->stats_fd);
    pthread_mutex_destroy(&v->mutex);
    free(v);
}

/* Everything but the descriptor. 0 or -errno; the caller frees in both cases. */
static int vcpu_build(struct kvm_vcpu *v, int fd)
{
    struct kvm_vm *vm = v->vm;
    bool bsp = v->id == vm->boot_cpu_id;
    void *run;
    int rc;

    run = mmap(NULL, KVM_MMAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (run == MAP_FAILED)
        return -errno;
    v->run = run;
    rc = cpu_create(&v->cpu, vm->world, vm->mem, &kvm_bus, v);
    if (rc)
        return rc;
    v->cpu->stop_flag = &v->run->immediate_exit;
    v->cpu->tsc_offset = atomic_load(&vm->tsc_offset);
    vclock_init(&v->clock, vm->clock, v->cpu);
    v->apic_base = APIC_BASE_RESET | (bsp ? APIC_BASE_BSP : 0);
    v->mp_state = KVM_MP_STATE_RUNNABLE;
    if (!vm->irqchip)
        return 0;
    if (!bsp)
        v->mp_state = KVM_MP_STATE_UNINITIALIZED;
    return lapic_create(&v->lapic, vm->irqchip, v->cpu, v->id, bsp, kvm_vcpu_kick, v);
}

int kvm_vcpu_create(struct kvm_vm *vm, u32 id)
{
    struct kvm_vcpu *v = calloc(1, sizeof(*v));
    char name[32];
    int fd, rc;

    if (!v)
        return -ENOMEM;
    kvm_xcomp_freeze();
    kvm_object_init(&v->o, KVM_CLASS_VCPU, vcpu_closed);
    pthread_mutex_init(&v->mutex, NULL);
    v->vm = vm;
    v->id = id;
    v->irq_queued = -1;
    v->wake_fd = -1;
    snprintf(name, sizeof(name), "kvm-vcpu:%u", id);
    fd = kvm_fd_make(name, KVM_MMAP_SIZE);
    rc = fd < 0 ? fd : vcpu_build(v, fd);
    if (rc < 0)
        goto free_vcpu;
    kvm_object_get(&vm->o);
    rc = kvm_fd_bind(fd, &v->o);
    if (rc) {
        kvm_object_put(&vm->o);
        goto free_vcpu;
    }
    if (!vm->vcpu_count)
        coalesced_ring_set(vm->coalesced, (void *)((u8 *)v->run + KVM_RING_OFFSET));
    vm->vcpu[vm->vcpu_count++] = v;
    return fd;

free_vcpu:
    if (fd >= 0)
        close(fd);
    kvm_vcpu_free(v);
    return rc;
}

/* --- what the APIC keeps when it is in user space --- */

u64 kvm_vcpu_apic_base(const struct kvm_vcpu *v)
{
    return v->lapic ? lapic_base_get(v->lapic) : v->apic_base;
}

u8 kvm_vcpu_cr8(struct kvm_vcpu *v)
{
    return v->lapic ? lapic_cr8_read(v->lapic) : (u8)v->cr8;
}

void kvm_vcpu_set_cr8(struct kvm_vcpu *v, u8 tpr)
{
    if (v->lapic)
        lapic_cr8_write(v->lapic, tpr);
    else
        v->cr8 = tpr;
}

int kvm_vcpu_get_lapic(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    if (!v->lapic)
        return -EINVAL;
    lapic_state_get(v->lapic, arg);
    return 0;
}

int kvm_vcpu_set_lapic(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return v->lapic ? lapic_state_set(v->lapic, arg) : -EINVAL;
}

int kvm_vcpu_tpr_access_reporting(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_tpr_access_ctl *t = arg;

    if (!v->lapic || t->flags)
        return -EINVAL;
    v->tpr_reporting = t->enabled;
    return 0;
}

int kvm_vcpu_set_vapic_addr(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return v->lapic ? 0 : -EINVAL;
}

/* --- MP state --- */

int kvm_vcpu_get_mp_state(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_mp_state *s = arg;

    kvm_vcpu_accept_events(v);
    if (v->lapic && v->mp_state == KVM_MP_STATE_HALTED && lapic_unhalt_take(v->lapic))
        v->mp_state = KVM_MP_STATE_RUNNABLE; /* a kick that no other state would remember */
    s->mp_state = v->mp_state;
    return 0;
}

int kvm_vcpu_set_mp_state(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_mp_state *s = arg;

    switch (s->mp_state) {
    case KVM_MP_STATE_RUNNABLE:
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_HALTED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        if (v->lapic)
            break;
        return -EINVAL;
    default:
        return -EINVAL;
    }
    v->sipi_latched = s->mp_state == KVM_MP_STATE_SIPI_RECEIVED;
    v->mp_state = v->sipi_latched ? KVM_MP_STATE_INIT_RECEIVED : s->mp_state;
    v->cpu->halted = false; /* sleep is this layer's: the CPU is only entered when it can go on */
    return 0;
}

/* --- settings --- */

int kvm_vcpu_set_signal_mask(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_signal_mask head;
    u64 mask;

    if (!raw) {
        v->sigmask_active = false;
        return 0;
    }
    if (kvm_copy_in(&head, raw, sizeof(head)))
        return -EFAULT;
    if (head.len != sizeof(mask))
        return -EINVAL;
    if (kvm_copy_in(&mask, raw + sizeof(head), sizeof(mask)))
        return -EFAULT;
    v->sigmask = mask;
    v->sigmask_active = true;
    return 0;
}

int kvm_vcpu_kvmclock_ctrl(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return vclock_guest_stopped(&v->clock);
}

int kvm_vcpu_enable_cap(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_enable_cap *c = arg;

    if (c->flags || c->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
        return -EINVAL;
    v->pv_enforced = c->args[0];
    return 0;
}

int kvm_vcpu_get_stats_fd(struct kvm_vcpu *v, void *arg, unsigned long raw) { return kvm_stats_vcpu_fd(v); }

/* --- TSC --- */

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    u64 host = kvm_tsc_khz(), slack = host / 4000; /* 250 ppm */

    if (raw && (raw > host + slack || raw < host - slack))
        return -EINVAL;
    return 0;
}

int kvm_vcpu_get_tsc_khz(struct kvm_vcpu *v, void *arg, unsigned long raw) { return (int)kvm_tsc_khz(); }

int kvm_vcpu_has_device_attr(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_device_attr *a = arg;

    return a->group == KVM_VCPU_TSC_CTRL && a->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

int kvm_vcpu_get_device_attr(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_device_attr *a = arg;
    int rc = kvm_vcpu_has_device_attr(v, arg, raw);

    return rc ? rc : kvm_copy_out(a->addr, &v->cpu->tsc_offset, sizeof(v->cpu->tsc_offset));
}

int kvm_vcpu_set_device_attr(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_device_attr *a = arg;
    int rc = kvm_vcpu_has_device_attr(v, arg, raw);
    s64 offset;

    if (rc)
        return rc;
    if (kvm_copy_in(&offset, a->addr, sizeof(offset)))
        return -EFAULT;
    v->cpu->tsc_offset = offset;
    atomic_store(&v->vm->tsc_offset, offset);
    if (v->lapic)
        lapic_tsc_changed(v->lapic);
    return 0;
}

/* --- memory --- */

int kvm_vcpu_pre_fault_memory(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_pre_fault_memory *m = arg;
    u64 chunk = 256 * 1024, step;
    struct mem_slot *s;
    bool any = false;

    if (m->flags || m->gpa & ~PAGE_MASK || m->size & ~PAGE_MASK || m->gpa + m->size <= m->gpa)
        return -EINVAL;
    while (m->size && !v->run->immediate_exit) {
        cpu_world_enter(v->cpu);
        s = mem_slot_find(v->vm->mem, m->gpa);
        step = chunk - (m->gpa & (chunk - 1));
        if (s) {
            step = step < s->gpa + s->size - m->gpa ? step : s->gpa + s->size - m->gpa;
            mem_populate(s, m->gpa);
        }
        cpu_world_leave(v->cpu);
        if (!s)
            return any ? 0 : -ENOENT;
        step = step < m->size ? step : m->size;
        m->gpa += step;
        m->size -= step;
        any = true;
    }
    return any ? 0 : -EINTR;
}
