// SPDX-License-Identifier: MIT
// The interrupt chips, timers and paravirtual clock of a VM, as the rest of the KVM layer sees them.
#pragma once

#include "base/types.h"
#include "cpu/cpu.h"

#include <linux/kvm.h>
#include <stdatomic.h>

/*
 * Objects
 *
 *   struct irqchip   per VM, made by KVM_CREATE_IRQCHIP: two 8259s, IOAPIC, PIT (after
 *                    KVM_CREATE_PIT2), GSI routing, irqfds, and the one service thread
 *                    that fires timers and reads irqfds
 *   struct lapic     per vCPU of a VM with an irqchip
 *   struct ioevents  per VM, irqchip or not: the ioeventfds
 *   struct kvmclock  per VM, irqchip or not: the time base of kvmclock
 *   struct vclock    per vCPU, irqchip or not: kvmclock MSRs and pages
 *
 * (The names struct kvm_irqchip, kvm_irqfd, kvm_ioeventfd, ... belong to <linux/kvm.h>.)
 *
 * How an interrupt reaches guest code. An injector, on any thread, sets state in the target's
 * LAPIC and then calls lapic_notify(): cpu_request(CPU_REQ_INTR [| RECHECK]) and (kick)().
 * cpu_run() sees the request and asks bus->intr_pending() and intr_ack(), which are
 * lapic_intr_pending() and lapic_intr_ack().
 *
 * (kick)(arg) must wake the vCPU's thread if it sleeps (HLT, wait-for-SIPI); it need do nothing
 * when the thread is in guest code. It runs under chip locks: it must not call back into this
 * file and must not block. Sleep without losing a wake:
 *
 *     set "sleeping" flag (seq_cst)
 *     deadline = lapic_sleep_begin(l);
 *     while (!wake condition: lapic_events_pending(l), lapic_unhalt_take(l),
 *            (IF set && lapic_intr_pending(l)), CPU_REQ_EXIT, CPU_REQ_NMI ...)
 *         wait for kick or until (deadline), CLOCK_MONOTONIC ns;
 *         on timeout: deadline = lapic_timer_check(l);
 *     lapic_sleep_end(l);
 *
 * The wait should be on an absolute CLOCK_MONOTONIC time; prctl(PR_SET_TIMERSLACK, 1) on the
 * vCPU's thread makes it precise.
 */

struct irqchip;
struct lapic;
struct ioevents;
struct kvmclock;

#define IRQ_DEADLINE_NONE UINT64_MAX

/*
 * Where an interrupt comes from. Userspace may have written guest memory before:
 * CPU_REQ_RECHECK.
 */
enum irq_source {
    IRQ_SOURCE_USER,     /* KVM_IRQ_LINE, KVM_SIGNAL_MSI, irqfd */
    IRQ_SOURCE_RESAMPLE, /* irqfd with a resamplefd: a separate holder of the line */
    IRQ_SOURCE_PIT,      /* timers of ours: no recheck */
    IRQ_SOURCE_COUNT
};

/* --- time (timer.c) --- */

/* Time as the chips see it; tests put their own here. NULL members mean the host's. */
struct irq_time {
    u64 (*now_ns)(void *arg); /* CLOCK_MONOTONIC */
    u64 (*tsc)(void *arg);    /* the host's TSC */
    void *arg;
    u32 tsc_khz;    /* 0: kvm_tsc_khz() */
    bool no_thread; /* no service thread: the test calls irqchip_service() */
};

/* Frequency of the host's TSC in kHz, measured once (some 20 ms at the first call). Never 0. */
u32 kvm_tsc_khz(void);

/* CLOCK_MONOTONIC in ns. */
u64 kvm_now_ns(void);

/* --- irqchip (irqchip.c) --- */

/*
 * Make the chips in reset state and start the service thread. (time) may be NULL. 0, -ENOMEM,
 * -errno.
 */
int irqchip_create(struct irqchip **ret, const struct irq_time *time);

/* Stops the thread. All lapics must be freed before. NULL is fine. */
void irqchip_free(struct irqchip *chip);

/*
 * KVM_CREATE_PIT(2); flags as struct kvm_pit_config (KVM_PIT_SPEAKER_DUMMY: port 0x61 too). 0,
 * -EEXIST, -EINVAL.
 */
int irqchip_pit_create(struct irqchip *chip, u32 flags);
bool irqchip_has_pit(const struct irqchip *chip);

/*
 * KVM_CAP_SPLIT_IRQCHIP, before any vCPU: LAPICs and messages only. The routing table is empty
 * then, and the EOI of a level-triggered vector is for user space: lapic_eoi_exit_take(). 0 or
 * -ENOMEM.
 */
int irqchip_split(struct irqchip *chip);

/* KVM_ENABLE_CAP(KVM_CAP_X2APIC_API): (flags) = KVM_X2APIC_API_*. 0 or -EINVAL. */
int irqchip_x2apic_api(struct irqchip *chip, u64 flags);

/*
 * KVM_CAP_X86_APIC_BUS_CYCLES_NS, before any vCPU: ns per tick of the undivided LAPIC timer, 1
 * at first. 0 or -EINVAL.
 */
int irqchip_bus_cycle_ns(struct irqchip *chip, u64 ns);

/*
 * KVM_IRQ_LINE: drive (gsi) to (level) through the routing table. Returns as
 * KVM_IRQ_LINE_STATUS reports: < 0 ignored (masked or no route), 0 coalesced with one still
 * pending, > 0 delivered to that many.
 */
int irqchip_set_irq(struct irqchip *chip, u32 gsi, int level, enum irq_source source);

/* KVM_SIGNAL_MSI: > 0 delivered, 0 nobody took it, -EINVAL bad flags. */
int irqchip_signal_msi(struct irqchip *chip, const struct kvm_msi *msi);

/* KVM_GET/SET_IRQCHIP: (c->chip_id) selects. 0 or -EINVAL. */
int irqchip_state_get(struct irqchip *chip, struct kvm_irqchip *c);
int irqchip_state_set(struct irqchip *chip, const struct kvm_irqchip *c);

/*
 * KVM_GET/SET_PIT2 (and PIT: the first part of the struct, flags 0), KVM_REINJECT_CONTROL. 0,
 * or -ENXIO without PIT.
 */
int irqchip_pit_get(struct irqchip *chip, struct kvm_pit_state2 *s);
int irqchip_pit_set(struct irqchip *chip, const struct kvm_pit_state2 *s);
int irqchip_pit_reinject(struct irqchip *chip, bool reinject);

/* Port I/O: true when the port is a chip's (PIC 20 21 a0 a1 4d0 4d1, PIT 40-43, 61). */
bool irqchip_io_read(struct irqchip *chip, u16 port, unsigned size, u32 *val);
bool irqchip_io_write(struct irqchip *chip, u16 port, unsigned size, u32 val);

/* MMIO: true when [gpa, gpa + size) is the IOAPIC's or, with (l), that vCPU's LAPIC's page. */
bool irqchip_mmio_read(struct irqchip *chip, struct lapic *l, gpa_t gpa, void *buf, unsigned size);
bool irqchip_mmio_write(struct irqchip *chip, struct lapic *l, gpa_t gpa, const void *buf,
                        unsigned size);

/*
 * Fire what is due and read irqfds once, without blocking. The service thread's body; tests
 * call it.
 */
void irqchip_service(struct irqchip *chip);

/* --- routing (routing.c) --- */

#define IRQCHIP_MAX_GSI 4096 /* KVM_CAP_IRQ_ROUTING */

/*
 * KVM_SET_GSI_ROUTING: replace the table ((e) copied). 0, -EINVAL, -E2BIG, -ENOMEM. The default
 * table is KVM's.
 */
int irqchip_routing_set(struct irqchip *chip, const struct kvm_irq_routing_entry *e, u32 n,
                        u32 flags);

/* --- eventfds (eventfd.c) --- */

/* KVM_IRQFD, assign and deassign. 0, -EINVAL, -EBADF, -EBUSY, -ENOMEM. The descriptor is dup'ed. */
int irqchip_irqfd(struct irqchip *chip, const struct kvm_irqfd *args);

int ioevents_create(struct ioevents **ret);
void ioevents_free(struct ioevents *e);

/* KVM_IOEVENTFD, assign and deassign. 0, -EINVAL, -EBADF, -EEXIST, -ENOENT, -ENOSPC, -ENOMEM. */
int ioevents_ioctl(struct ioevents *e, const struct kvm_ioeventfd *args);

/* A guest write: true if an ioeventfd took it (then it is complete, no exit). Any thread. */
bool ioevents_write(struct ioevents *e, bool pio, u64 addr, unsigned len, const void *data);

/* --- LAPIC (lapic.c, lapic_timer.c, ipi.c) --- */

/*
 * The LAPIC of vCPU (c) with APIC ID (id), in reset state. (bsp): bootstrap processor
 * (APIC_BASE.BSP, LINT0 = ExtINT). 0, -EEXIST (ID taken), -ENOSPC, -ENOMEM.
 */
int lapic_create(struct lapic **ret, struct irqchip *chip, struct cpu *c, u32 id, bool bsp,
                 void (*kick)(void *arg), void *arg);

/* The vCPU's thread must be gone and nobody may inject any more. NULL is fine. */
void lapic_free(struct lapic *l);

/* Power-up reset, or INIT (keeps APIC_BASE and the ID). On the vCPU's thread. */
void lapic_reset(struct lapic *l, bool init);

/* struct cpu_bus: is there an interrupt above TPR/PPR (or from the PIC); take its vector, or -1. */
bool lapic_intr_pending(struct lapic *l);
int lapic_intr_ack(struct lapic *l);

u8 lapic_cr8_read(struct lapic *l);
void lapic_cr8_write(struct lapic *l, u8 tpr);

/*
 * Events that are not vectors. Setting one does cpu_request(CPU_REQ_EXIT) and kick. NMI:
 * cpu_nmi(). INIT: cpu_reset(init), lapic_reset(init), mp_state = INIT_RECEIVED (BSP:
 * RUNNABLE). SIPI: if INIT_RECEIVED, cpu_sipi(vector), RUNNABLE; else drop it. Handle in this
 * order: INIT, SIPI, NMI, SMI.
 */
#define LAPIC_EVENT_INIT BIT(0)
#define LAPIC_EVENT_SIPI BIT(1)
#define LAPIC_EVENT_NMI  BIT(2)
#define LAPIC_EVENT_SMI  BIT(3)
#define LAPIC_EVENT_NMI2 BIT(4) /* beside NMI: two have come */

bool lapic_events_pending(struct lapic *l);
/* Take all events; (sipi_vector) is written when SIPI is among them. vCPU's thread. */
u32 lapic_events_take(struct lapic *l, u8 *sipi_vector);
/* KVM_GET/SET_VCPU_EVENTS' sipi_vector. */
u8 lapic_sipi_vector(struct lapic *l);
void lapic_sipi_vector_set(struct lapic *l, u8 vector);

/*
 * Split irqchip: a level-triggered vector that the guest has ended, for KVM_EXIT_IOAPIC_EOI, or
 * -1. Asked before each entry; CPU_REQ_EXIT is set when there is one. vCPU's thread.
 */
int lapic_eoi_exit_take(struct lapic *l);

/* KVM_HC_KICK_CPU was aimed at this vCPU: true once. A halted vCPU then runs on. */
bool lapic_unhalt_take(struct lapic *l);

/* KVM_GET/SET_LAPIC, with the vCPU outside KVM_RUN. set: 0 or -EINVAL. */
void lapic_state_get(struct lapic *l, struct kvm_lapic_state *s);
int lapic_state_set(struct lapic *l, const struct kvm_lapic_state *s);

/* IA32_APIC_BASE for KVM_GET/SET_SREGS (host rights). set: 0 or -EINVAL. */
u64 lapic_base_get(const struct lapic *l);
int lapic_base_set(struct lapic *l, u64 val);

/*
 * MSRs 0x1b, 0x6e0, 0x800-0x8ff: 0, -ENOENT (not ours), -EINVAL (#GP). (host): KVM_GET/SET_MSRS.
 * vCPU's thread, or the vCPU outside KVM_RUN.
 */
int lapic_msr_read(struct lapic *l, u32 index, u64 *val, bool host);
int lapic_msr_write(struct lapic *l, u32 index, u64 val, bool host);

/*
 * When this LAPIC's timer fires next: CLOCK_MONOTONIC ns, IRQ_DEADLINE_NONE if never. Any
 * thread.
 */
u64 lapic_next_deadline_ns(struct lapic *l);

/*
 * Between begin and end the vCPU's thread sleeps and serves its own timer, so the service
 * thread leaves it alone. begin fires what is due; begin and check return the next deadline as
 * above.
 */
u64 lapic_sleep_begin(struct lapic *l);
u64 lapic_timer_check(struct lapic *l);
void lapic_sleep_end(struct lapic *l);

/*
 * The guest's TSC was moved from outside (KVM_SET_MSRS of 0x10, KVM_VCPU_TSC_OFFSET): recompute
 * a TSC deadline.
 */
void lapic_tsc_changed(struct lapic *l);

/* --- kvmclock (clock.c) --- */

int kvmclock_create(struct kvmclock **ret, const struct irq_time *time);
void kvmclock_free(struct kvmclock *k);

/* KVM_GET/SET_CLOCK. set: 0 or -EINVAL; the vCPUs' pages follow at their next vclock_pre_run(). */
void kvmclock_get(struct kvmclock *k, struct kvm_clock_data *d);
int kvmclock_set(struct kvmclock *k, const struct kvm_clock_data *d);

/* Part of struct vcpu. Only clock.c touches the members. */
struct vclock {
    struct kvmclock *clock;
    struct cpu *cpu;
    struct vclock *next; /* in (clock), under its lock */
    u64 wall_msr, system_msr, poll_msr;
    s64 tsc_offset; /* as the page has it */
    u32 seq;        /* of (clock), as the page has it */
    _Atomic bool stopped;
};

void vclock_init(struct vclock *v, struct kvmclock *k, struct cpu *c);
void vclock_fini(struct vclock *v);

/* MSRs 0x11, 0x12, 0x4b564d00, 01, 05: 0, -ENOENT (not ours), -EINVAL (#GP). vCPU's thread. */
int vclock_msr_read(struct vclock *v, u32 index, u64 *val);
int vclock_msr_write(struct vclock *v, u32 index, u64 val);

/* The MSR indices for KVM_GET_MSR_INDEX_LIST. */
const u32 *vclock_msr_list(unsigned *count);

/*
 * Before each entry to guest code, on the vCPU's thread: rewrites the page if it is out of
 * date. Cheap if not.
 */
void vclock_pre_run(struct vclock *v);

/* KVM_HC_CLOCK_PAIRING: write struct kvm_clock_pairing to (gpa). 0 or -EFAULT. */
int vclock_pairing(struct vclock *v, gpa_t gpa);

/* KVM_KVMCLOCK_CTRL: tell the guest that it was stopped. 0, or -EINVAL when no clock is set up. */
int vclock_guest_stopped(struct vclock *v);

/* --- hypercalls (pv.c) --- */

/*
 * Bits of CPUID 0x40000001.EAX that this layer implements; without an irqchip, drop the two of
 * IPIs and kicks.
 */
#define PV_FEATURES                                                                                \
    (BIT(0) /* CLOCKSOURCE */ | BIT(1) /* NOP_IO_DELAY */ | BIT(3) /* CLOCKSOURCE2 */ |            \
     BIT(7) /* PV_UNHALT */ | BIT(11) /* PV_SEND_IPI */ | BIT(12) /* POLL_CONTROL */ |             \
     BIT(13) /* PV_SCHED_YIELD */ | BIT(24) /* CLOCKSOURCE_STABLE */)
#define PV_FEATURES_IRQCHIP (BIT(7) | BIT(11) | BIT(13))

/* VMCALL/VMMCALL: struct cpu_bus.hypercall. (l) may be NULL. Writes RAX. OP_NEXT. */
int pv_hypercall(struct cpu *c, struct lapic *l, struct vclock *v);
