// SPDX-License-Identifier: MIT
// Exceptions, interrupts and NMIs at the ABI: KVM_GET/SET_VCPU_EVENTS, KVM_INTERRUPT, KVM_NMI, guest debugging.

/*
 * The CPU holds an exception that waits for delivery in (exc) and an event whose delivery an exit cut
 * short in (reinject). KVM's "pending" is the first, its "injected" the second; without
 * KVM_CAP_EXCEPTION_PAYLOAD a pending exception is reported as injected as well.
 */

#include "kvm/handlers.h"
#include "kvm/regs.h"

#include <errno.h>
#include <string.h>

#define EVENT_FLAGS                                                                                \
    (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW | \
     KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static void exception_get(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{
    const struct cpu *c = v->cpu;
    const struct cpu_event *ev = c->exc.pending ? &c->exc : &c->reinject;
    bool is_exception = ev->pending && (ev == &c->exc || ev->type == EVENT_EXCEPTION);

    if (!is_exception || ev->vector == EXC_BP || ev->vector == EXC_OF)
        return; /* INT3 and INTO happen again by themselves */
    e->exception.pending = ev == &c->exc;
    e->exception.injected = ev == &c->reinject || !v->vm->exception_payload;
    e->exception.nr = ev->vector;
    e->exception.has_error_code = ev->has_error;
    e->exception.error_code = ev->error;
    e->exception_has_payload = ev->has_payload;
    e->exception_payload = ev->has_payload ? ev->payload : 0;
}

void kvm_events_get(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{
    const struct cpu *c = v->cpu;

    kvm_vcpu_accept_events(v);
    memset(e, 0, sizeof(*e));
    exception_get(v, e);
    if (c->reinject.pending && c->reinject.type == EVENT_INTR) {
        e->interrupt.injected = 1;
        e->interrupt.nr = c->reinject.vector;
    } else if (v->irq_queued >= 0) {
        e->interrupt.injected = 1;
        e->interrupt.nr = (u8)v->irq_queued;
    }
    e->interrupt.shadow = (c->inhibit & CPU_INHIBIT_STI ? KVM_X86_SHADOW_INT_STI : 0) |
                          (c->inhibit & CPU_INHIBIT_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
    e->nmi.injected = c->reinject.pending && c->reinject.type == EVENT_NMI;
    e->nmi.pending = c->nmi_pending;
    e->nmi.masked = c->nmi_blocked;
    e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
    if (v->vm->exception_payload)
        e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
    if (v->vm->triple_fault_event) {
        e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
        e->triple_fault.pending = v->triple_fault;
    }
}

static bool has_error_code(u8 vector)
{
    return BIT(vector) & (BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) |
                          BIT(EXC_PF) | BIT(EXC_AC) | BIT(EXC_CP));
}

/* (e) with the rules of KVM_VCPUEVENT_VALID_PAYLOAD applied: 0 or -EINVAL. */
static int events_check(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{
    if (e->flags & ~(u32)EVENT_FLAGS)
        return -EINVAL;
    if (e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
        if (!v->vm->exception_payload)
            return -EINVAL;
        if (e->exception.pending)
            e->exception.injected = 0;
        else
            e->exception_has_payload = 0;
    } else {
        e->exception.pending = 0;
        e->exception_has_payload = 0;
    }
    if ((e->exception.injected || e->exception.pending) &&
        (e->exception.nr > 31 || e->exception.nr == EXC_NMI))
        return -EINVAL;
    if (e->flags & KVM_VCPUEVENT_VALID_SMM && (e->smi.smm || e->smi.pending || e->smi.smm_inside_nmi))
        return -EINVAL; /* KVM_CAP_X86_SMM is not offered */
    if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && !v->vm->triple_fault_event)
        return -EINVAL;
    return 0;
}

static void exception_set(struct cpu *c, const struct kvm_vcpu_events *e)
{
    struct cpu_event ev = {
        .pending = true,
        .vector = e->exception.nr,
        .type = EVENT_EXCEPTION,
        .has_error = e->exception.has_error_code && has_error_code(e->exception.nr),
        .error = e->exception.error_code,
        .has_payload = e->exception_has_payload,
        .payload = e->exception_payload,
    };

    if (e->exception.pending)
        c->exc = ev;
    else if (e->exception.injected)
        c->reinject = ev;
}

int kvm_events_set(struct kvm_vcpu *v, const struct kvm_vcpu_events *in)
{
    struct kvm_vcpu_events e = *in;
    struct cpu *c = v->cpu;
    int rc = events_check(v, &e);

    if (rc)
        return rc;
    kvm_vcpu_accept_events(v);
    c->exc.pending = c->reinject.pending = false;
    exception_set(c, &e);
    if (v->lapic && e.interrupt.injected)
        c->reinject = (struct cpu_event){
            .pending = true, .vector = e.interrupt.nr, .type = e.interrupt.soft ? EVENT_SOFT_INT : EVENT_INTR};
    else if (!v->lapic)
        v->irq_queued = e.interrupt.injected ? e.interrupt.nr : -1;
    if (e.nmi.injected)
        c->reinject = (struct cpu_event){.pending = true, .vector = EXC_NMI, .type = EVENT_NMI};
    if (e.flags & KVM_VCPUEVENT_VALID_SHADOW)
        c->inhibit = (e.interrupt.shadow & KVM_X86_SHADOW_INT_STI ? CPU_INHIBIT_STI : 0) |
                     (e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? CPU_INHIBIT_MOV_SS : 0);
    if (e.flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
        c->nmi_pending = e.nmi.pending < 2 ? e.nmi.pending : 2;
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_NMI);
    }
    c->nmi_blocked = e.nmi.masked;
    if (e.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && v->lapic)
        lapic_sipi_vector_set(v->lapic, (u8)e.sipi_vector);
    if (e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
        v->triple_fault = e.triple_fault.pending;
    return 0;
}

/* --- ioctls --- */

int kvm_vcpu_get_events(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    kvm_events_get(v, arg);
    return 0;
}

int kvm_vcpu_set_events(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return kvm_events_set(v, arg);
}

int kvm_vcpu_interrupt(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_interrupt *irq = arg;

    if (irq->irq >= KVM_NR_INTERRUPTS)
        return -EINVAL;
    if (v->vm->chip_mode == KVM_CHIP_KERNEL)
        return -ENXIO;
    if (v->vm->chip_mode == KVM_CHIP_SPLIT && v->irq_queued >= 0)
        return -EEXIST;
    v->irq_queued = (int)irq->irq;
    return 0;
}

int kvm_vcpu_nmi(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    cpu_nmi(v->cpu, 1);
    return 0;
}

int kvm_vcpu_set_guest_debug(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_guest_debug *d = arg;
    struct cpu *c = v->cpu;
    u32 inject = d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP);

    if (inject) {
        if (c->exc.pending || c->reinject.pending)
            return -EBUSY;
        c->exc = (struct cpu_event){.pending = true, .type = EVENT_EXCEPTION};
        c->exc.vector = d->control & KVM_GUESTDBG_INJECT_DB ? EXC_DB : EXC_BP;
    }
    c->guest_debug = d->control & KVM_GUESTDBG_ENABLE ? d->control & ~inject : 0;
    memcpy(c->guest_debug_dr, d->arch.debugreg, sizeof(c->guest_debug_dr));
    if (!(c->guest_debug & KVM_GUESTDBG_USE_HW_BP))
        memset(c->guest_debug_dr, 0, sizeof(c->guest_debug_dr));
    cpu_mmu_changed(c); /* data breakpoints are watched for where the TLB has no entry */
    return 0;
}

int kvm_vcpu_get_debugregs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_debugregs *d = arg;

    memcpy(d->db, v->cpu->dr, sizeof(d->db));
    d->dr6 = v->cpu->dr6;
    d->dr7 = v->cpu->dr7;
    return 0;
}

int kvm_vcpu_set_debugregs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_debugregs *d = arg;

    if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
        return -EINVAL;
    memcpy(v->cpu->dr, d->db, sizeof(d->db));
    v->cpu->dr6 = (d->dr6 & 0xe00full) | 0xffff0ff0;
    v->cpu->dr7 = (d->dr7 & 0xffff2bff) | 0x400;
    cpu_mmu_changed(v->cpu);
    return 0;
}
