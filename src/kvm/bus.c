// SPDX-License-Identifier: MIT
// What a CPU's I/O, MSR accesses and interrupt questions reach: chips first, user space last.

#include "kvm/kvm.h"

#include <errno.h>
#include <string.h>

#define MSR_IA32_APICBASE 0x1b
#define APICBASE_MASK (BIT(8) | BIT(10) | BIT(11) | GENMASK(51, 12))

static struct kvm_vcpu *vcpu_of(struct cpu *c) { return c->owner; }

/* Does the in-kernel IOAPIC, 8259 or PIT exist for this VM? */
static bool has_board_chips(const struct kvm_vcpu *v)
{
    return v->vm->chip_mode == KVM_CHIP_KERNEL;
}

static int bus_io_in(struct cpu *c, u16 port, unsigned size, u32 *val)
{
    struct kvm_vcpu *v = vcpu_of(c);
    u32 got = 0;
    int rc;

    if (has_board_chips(v) && irqchip_io_read(v->vm->irqchip, port, size, val))
        return OP_NEXT;
    rc = kvm_io_read(v, true, port, &got, size);
    if (rc == OP_NEXT)
        *val = got;
    return rc;
}

static int bus_io_out(struct cpu *c, u16 port, unsigned size, u32 val)
{
    struct kvm_vcpu *v = vcpu_of(c);

    if (has_board_chips(v) && irqchip_io_write(v->vm->irqchip, port, size, val))
        return OP_NEXT;
    if (ioevents_write(v->vm->ioevents, true, port, size, &val) ||
        coalesced_write(v->vm->coalesced, true, port, size, &val))
        return OP_NEXT;
    return kvm_io_write(v, true, port, &val, size);
}

/* With a split irqchip only the LAPIC's page is ours. */
static bool is_chip_mmio(const struct kvm_vcpu *v, gpa_t gpa)
{
    return v->lapic && (has_board_chips(v) || !((gpa ^ lapic_base_get(v->lapic)) & PAGE_MASK));
}

static int bus_mmio_read(struct cpu *c, gpa_t gpa, void *buf, unsigned size)
{
    struct kvm_vcpu *v = vcpu_of(c);

    if (is_chip_mmio(v, gpa) && irqchip_mmio_read(v->vm->irqchip, v->lapic, gpa, buf, size))
        return OP_NEXT;
    return kvm_io_read(v, false, gpa, buf, size);
}

static int bus_mmio_write(struct cpu *c, gpa_t gpa, const void *buf, unsigned size)
{
    struct kvm_vcpu *v = vcpu_of(c);

    if (is_chip_mmio(v, gpa) && irqchip_mmio_write(v->vm->irqchip, v->lapic, gpa, buf, size))
        return OP_NEXT;
    if (ioevents_write(v->vm->ioevents, false, gpa, size, buf) ||
        coalesced_write(v->vm->coalesced, false, gpa, size, buf))
        return OP_NEXT;
    return kvm_io_write(v, false, gpa, buf, size);
}

static int bus_msr_read(struct cpu *c, u32 index, u64 *val)
{
    struct kvm_vcpu *v = vcpu_of(c);
    int rc = kvm_pv_msr_allowed(v, index) ? vclock_msr_read(&v->clock, index, val) : -EINVAL;

    if (rc == -ENOENT && v->lapic)
        rc = lapic_msr_read(v->lapic, index, val, false);
    if (rc == -ENOENT && !v->lapic && index == MSR_IA32_APICBASE) {
        *val = v->apic_base;
        rc = 0;
    }
    return rc ? OP_FAULT : OP_NEXT;
}

static int bus_msr_write(struct cpu *c, u32 index, u64 val)
{
    struct kvm_vcpu *v = vcpu_of(c);
    int rc = kvm_pv_msr_allowed(v, index) ? vclock_msr_write(&v->clock, index, val) : -EINVAL;

    if (rc == -ENOENT && v->lapic)
        rc = lapic_msr_write(v->lapic, index, val, false);
    if (rc == -ENOENT && !v->lapic && index == MSR_IA32_APICBASE && !(val & ~APICBASE_MASK)) {
        v->apic_base = val;
        rc = 0;
    }
    return rc ? OP_FAULT : OP_NEXT;
}

static int bus_msr_trap(struct cpu *c, enum cpu_msr_trap why, u32 index, bool write, u64 *val)
{
    return kvm_msr_trap(vcpu_of(c), why, index, write, val);
}

static bool bus_intr_pending(struct cpu *c)
{
    struct kvm_vcpu *v = vcpu_of(c);

    if (c->guest_debug & KVM_GUESTDBG_BLOCKIRQ)
        return false;
    return v->irq_queued >= 0 || (v->lapic && lapic_intr_pending(v->lapic));
}

/*
 * Called when an interrupt could be taken now. That is also the moment that a user-space irqchip
 * asked for with request_interrupt_window.
 */
static int bus_intr_ack(struct cpu *c)
{
    struct kvm_vcpu *v = vcpu_of(c);
    int vector = v->irq_queued;

    if (c->guest_debug & KVM_GUESTDBG_BLOCKIRQ)
        return -1;
    if (vector >= 0) {
        v->irq_queued = -1;
        return vector;
    }
    if (v->vm->chip_mode != KVM_CHIP_KERNEL && v->run->request_interrupt_window) {
        v->window_open = true;
        cpu_request(c, CPU_REQ_EXIT);
    }
    return v->lapic ? lapic_intr_ack(v->lapic) : -1;
}

static u8 bus_cr8_read(struct cpu *c) { return kvm_vcpu_cr8(vcpu_of(c)); }
static void bus_cr8_write(struct cpu *c, u8 tpr) { kvm_vcpu_set_cr8(vcpu_of(c), tpr); }

static int bus_hypercall(struct cpu *c)
{
    struct kvm_vcpu *v = vcpu_of(c);

    if (!kvm_pv_hypercall_allowed(v, c->mode == MODE_64 ? c->r[REG_RAX] : (u32)c->r[REG_RAX])) {
        c->r[REG_RAX] = (u64)-KVM_ENOSYS & (c->mode == MODE_64 ? ~0ull : UINT32_MAX);
        return OP_NEXT;
    }
    return pv_hypercall(c, v->lapic, &v->clock);
}

static void bus_poll(struct cpu *c)
{
    struct kvm_vcpu *v = vcpu_of(c);

    if (kvm_signals_pending(v)) {
        v->signal_seen = true;
        cpu_request(c, CPU_REQ_EXIT);
    }
}

const struct cpu_bus kvm_bus = {
    .io_in = bus_io_in,
    .io_out = bus_io_out,
    .mmio_read = bus_mmio_read,
    .mmio_write = bus_mmio_write,
    .msr_read = bus_msr_read,
    .msr_write = bus_msr_write,
    .msr_trap = bus_msr_trap,
    .intr_pending = bus_intr_pending,
    .intr_ack = bus_intr_ack,
    .cr8_read = bus_cr8_read,
    .cr8_write = bus_cr8_write,
    .hypercall = bus_hypercall,
    .poll = bus_poll,
};
