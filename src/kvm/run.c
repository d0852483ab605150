// SPDX-License-Identifier: MIT
// KVM_RUN: guest code, sleep, and the exits to user space.

/*
 * Theory of operation
 *
 *     KVM_RUN ── sync registers in ── finish what user space was asked ──┐
 *                                                                        v
 *        ┌──────────────────────────── accept INIT, SIPI, NMI <──────────┤
 *        v                                                               │
 *     runnable? ── yes: cpu_run() ── why did it stop? ── for us ─────────┤
 *        └──────── no: sleep until an event, a kick, the timer ──────────┘
 *                                   └── for user space, or a signal ── sync registers out, return
 *
 * Internal results: RUN_ON (1), RUN_EXIT (0: kvm_run says why), or -errno.
 *
 * Sleep loses no wake: (sleeping) is set before the conditions are looked at, and whoever makes one
 * of them true does so before kvm_vcpu_kick() reads (sleeping).
 */

#include "kvm/handlers.h"
#include "kvm/regs.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RUN_EXIT = 0, RUN_ON = 1 };

static int user_exit(struct kvm_vcpu *v, u32 reason)
{
    v->run->exit_reason = reason;
    return RUN_EXIT;
}

static int interrupted(struct kvm_vcpu *v)
{
    v->run->exit_reason = KVM_EXIT_INTR;
    v->stats.signal_exits++;
    return -EINTR;
}

static bool must_leave(struct kvm_vcpu *v)
{
    return v->run->immediate_exit || v->signal_seen;
}

/* --- sleep --- */

static bool can_wake(struct kvm_vcpu *v)
{
    struct cpu *c = v->cpu;

    if (lapic_events_pending(v->lapic) || v->sipi_latched)
        return true;
    if (v->mp_state != KVM_MP_STATE_HALTED)
        return v->mp_state == KVM_MP_STATE_RUNNABLE;
    return lapic_unhalt_take(v->lapic) || c->exc.pending || c->reinject.pending ||
           (c->nmi_pending && !c->nmi_blocked) ||
           (c->rflags & RFLAGS_IF && kvm_bus.intr_pending(c));
}

static struct timespec until(u64 deadline_ns)
{
    u64 now = kvm_now_ns();
    u64 left = deadline_ns > now ? deadline_ns - now : 0;

    return (struct timespec){.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
}

/* A sleep may end as late as the thread's timer slack says, 50 us by default: too late for a guest's timer. */
static void sleep_precisely(void)
{
    static _Thread_local bool done;

    if (!done)
        prctl(PR_SET_TIMERSLACK, 1);
    done = true;
}

/* Wait for a kick, the LAPIC's timer or a signal. RUN_ON or -EINTR. */
static int sleep_once(struct kvm_vcpu *v, u64 *deadline)
{
    struct pollfd pfd = {.fd = v->wake_fd, .events = POLLIN};
    struct timespec ts = until(*deadline);
    sigset_t mask;
    u64 drained;
    int n;

    sigemptyset(&mask);
    memcpy(&mask, &v->blocked_signals, sizeof(v->blocked_signals));
    n = ppoll(&pfd, 1, *deadline == IRQ_DEADLINE_NONE ? NULL : &ts, &mask);
    if (n < 0)
        return -EINTR;
    if (n == 0)
        *deadline = lapic_timer_check(v->lapic);
    else if (read(v->wake_fd, &drained, sizeof(drained)) == sizeof(drained))
        *deadline = lapic_timer_check(v->lapic);
    return RUN_ON;
}

static void sleep_over(struct kvm_vcpu *v)
{
    lapic_sleep_end(v->lapic);
    atomic_store(&v->sleeping, false);
}

/* The thread was cancelled in its sleep: what the ioctl holds (ioctl.c) is let go. */
static void sleep_cancelled(void *vcpu)
{
    struct kvm_vcpu *v = vcpu;

    sleep_over(v);
    pthread_mutex_unlock(&v->mutex);
    kvm_object_put(&v->o);
}

static int sleep_loop(struct kvm_vcpu *v)
{
    u64 deadline = lapic_sleep_begin(v->lapic);
    int rc = RUN_ON;

    while (rc == RUN_ON && !can_wake(v))
        rc = must_leave(v) ? -EINTR : sleep_once(v, &deadline);
    return rc;
}

/* Sleep until something makes the vCPU runnable or its state changes. RUN_ON or -EINTR. */
static int sleep_until_event(struct kvm_vcpu *v)
{
    int rc;

    if (v->wake_fd < 0) /* before (sleeping), which is what lets others use it */
        v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (v->wake_fd < 0)
        return -errno;
    v->stats.halt_exits++;
    sleep_precisely();
    atomic_store(&v->sleeping, true);
    pthread_cleanup_push(sleep_cancelled, v);
    rc = sleep_loop(v);
    pthread_cleanup_pop(0);
    sleep_over(v);
    if (rc < 0)
        return interrupted(v);
    v->stats.halt_wakeup++;
    if (v->mp_state == KVM_MP_STATE_HALTED) {
        v->mp_state = KVM_MP_STATE_RUNNABLE;
        v->cpu->halted = false;
    }
    return RUN_ON;
}

void kvm_vcpu_kick(void *vcpu)
{
    struct kvm_vcpu *v = vcpu;
    u64 one = 1;

    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&v->sleeping)) /* not write(), which would be a cancellation point under chip locks */
        syscall(SYS_write, v->wake_fd, &one, sizeof(one));
}

/* --- events --- */

static void accept_init(struct kvm_vcpu *v)
{
    cpu_reset(v->cpu, true);
    lapic_reset(v->lapic, true);
    kvm_io_drop(v);
    v->mp_state = v->id == v->vm->boot_cpu_id ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
}

void kvm_vcpu_accept_events(struct kvm_vcpu *v)
{
    u8 vector = 0;
    u32 events;

    if (!v->lapic || (!v->sipi_latched && !lapic_events_pending(v->lapic)))
        return;
    events = lapic_events_take(v->lapic, &vector);
    if (events & LAPIC_EVENT_INIT)
        accept_init(v);
    if (v->sipi_latched) {
        v->sipi_latched = false;
        events |= LAPIC_EVENT_SIPI;
        vector = lapic_sipi_vector(v->lapic);
    }
    if (events & LAPIC_EVENT_SIPI && v->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
        cpu_sipi(v->cpu, vector);
        v->mp_state = KVM_MP_STATE_RUNNABLE;
    }
    if (events & LAPIC_EVENT_NMI)
        cpu_nmi(v->cpu, events & LAPIC_EVENT_NMI2 ? 2 : 1);
}

/* --- exits --- */

static int debug_exit(struct kvm_vcpu *v)
{
    struct kvm_debug_exit_arch *d = &v->run->debug.arch;
    struct cpu *c = v->cpu;

    d->exception = c->exit_vector;
    d->pad = 0;
    d->pc = c->rip + c->seg[SEG_CS].base;
    d->dr6 = c->exit_dr6;
    d->dr7 = c->guest_debug & KVM_GUESTDBG_USE_HW_BP ? c->guest_debug_dr[7] : c->dr7;
    return user_exit(v, KVM_EXIT_DEBUG);
}

static int internal_error(struct kvm_vcpu *v)
{
    v->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    v->run->internal.ndata = 0;
    return user_exit(v, KVM_EXIT_INTERNAL_ERROR);
}

static int halted(struct kvm_vcpu *v)
{
    if (!v->lapic) {
        v->cpu->halted = false;
        return user_exit(v, KVM_EXIT_HLT);
    }
    v->mp_state = KVM_MP_STATE_HALTED;
    return RUN_ON;
}

/* After cpu_run() or cpu_step(). */
static int why_stopped(struct kvm_vcpu *v)
{
    struct cpu *c = v->cpu;

    atomic_fetch_and(&c->request, ~(u32)(CPU_REQ_EXIT | CPU_REQ_INIT | CPU_REQ_SMI));
    if (v->io.overflow) {
        kvm_io_drop(v);
        return internal_error(v);
    }
    if (kvm_io_stopped(v) || kvm_msr_stopped(v))
        return RUN_EXIT;
    switch (c->exit) {
    case CPU_EXIT_HLT:
        return halted(v);
    case CPU_EXIT_SHUTDOWN:
        return user_exit(v, KVM_EXIT_SHUTDOWN);
    case CPU_EXIT_DEBUG:
        return debug_exit(v);
    case CPU_EXIT_INTERNAL_ERROR:
        return internal_error(v);
    case CPU_EXIT_BUS: /* with nothing queued: a bus that broke its contract */
        return internal_error(v);
    default:
        return RUN_ON;
    }
}

static bool window_wanted(const struct kvm_vcpu *v)
{
    return v->run->request_interrupt_window && v->vm->chip_mode != KVM_CHIP_KERNEL;
}

static int enter_guest(struct kvm_vcpu *v)
{
    struct cpu *c = v->cpu;
    int rc;

    cpu_world_enter(c);
    vclock_pre_run(&v->clock);
    cpu_world_leave(c);
    if (v->irq_queued >= 0 || window_wanted(v))
        cpu_request(c, CPU_REQ_INTR);
    if (c->nmi_pending)
        cpu_request(c, CPU_REQ_NMI);
    v->window_open = false;
    v->stats.exits++;
    cpu_run(c);
    rc = why_stopped(v);
    if (rc == RUN_ON && v->window_open && v->irq_queued < 0) {
        v->stats.irq_window_exits++;
        return user_exit(v, KVM_EXIT_IRQ_WINDOW_OPEN);
    }
    return rc;
}

/* A split irqchip's IOAPIC is user space's, and hears of the EOIs of its level-triggered vectors. */
static bool eoi_exit(struct kvm_vcpu *v)
{
    int vector = v->lapic ? lapic_eoi_exit_take(v->lapic) : -1;

    if (vector < 0)
        return false;
    v->run->eoi.vector = (u8)vector;
    user_exit(v, KVM_EXIT_IOAPIC_EOI);
    return true;
}

/* --- KVM_RUN --- */

static int run_loop(struct kvm_vcpu *v)
{
    int rc = RUN_ON;

    v->run->exit_reason = KVM_EXIT_UNKNOWN;
    while (rc == RUN_ON) {
        kvm_vcpu_accept_events(v);
        if (must_leave(v))
            return interrupted(v);
        if (v->triple_fault) {
            v->triple_fault = false;
            return user_exit(v, KVM_EXIT_SHUTDOWN);
        }
        if (eoi_exit(v))
            return RUN_EXIT;
        rc = v->mp_state == KVM_MP_STATE_RUNNABLE ? enter_guest(v) : sleep_until_event(v);
    }
    return rc;
}

/* An application processor before its INIT: KVM returns EAGAIN after each event. */
static int wait_for_init(struct kvm_vcpu *v)
{
    int rc;

    if (v->run->immediate_exit)
        return -EINTR;
    rc = sleep_until_event(v);
    kvm_vcpu_accept_events(v);
    return rc < 0 ? rc : -EAGAIN;
}

/*
 * Run the instruction that waits for an answer. A REP INS is stepped until it has used up all of it or
 * stops for another reason; no interrupt comes in between.
 */
static int step_io(struct kvm_vcpu *v)
{
    int rc;

    do {
        cpu_step(v->cpu);
        rc = why_stopped(v);
    } while (rc == RUN_ON && kvm_io_bulk_left(v));
    v->io.bulk_size = 0;
    return rc;
}

/* Let the instruction that waits for user space's answer finish. */
static int finish_io(struct kvm_vcpu *v)
{
    if (kvm_msr_complete(v)) {
        cpu_step(v->cpu);
        v->msr_exit.answered = false;
        return why_stopped(v);
    }
    switch (kvm_io_complete(v)) {
    case KVM_IO_SHOWN:
        return RUN_EXIT;
    case KVM_IO_STEP:
        return step_io(v);
    default:
        return RUN_ON;
    }
}

static int run(struct kvm_vcpu *v)
{
    int rc;

    if (v->mp_state == KVM_MP_STATE_UNINITIALIZED)
        return wait_for_init(v);
    rc = kvm_sync_regs_in(v);
    if (rc)
        return rc;
    if (!v->lapic)
        kvm_vcpu_set_cr8(v, (u8)(v->run->cr8 & 0xf));
    cpu_request(v->cpu, CPU_REQ_RECHECK); /* user space may have written guest memory */
    rc = finish_io(v);
    if (rc != RUN_ON)
        return rc;
    if (v->run->immediate_exit)
        return -EINTR;
    return run_loop(v);
}

/* May KVM_INTERRUPT inject now? */
static bool ready_for_injection(struct kvm_vcpu *v)
{
    const struct cpu *c = v->cpu;

    if (v->vm->chip_mode == KVM_CHIP_KERNEL)
        return true;
    return v->irq_queued < 0 && c->rflags & RFLAGS_IF && !c->inhibit && !c->exc.pending &&
           !c->reinject.pending && !v->io.waiting && !v->msr_exit.waiting;
}

static void save_run(struct kvm_vcpu *v)
{
    struct kvm_run *r = v->run;

    r->if_flag = !!(v->cpu->rflags & RFLAGS_IF);
    r->cr8 = kvm_vcpu_cr8(v);
    r->apic_base = kvm_vcpu_apic_base(v);
    r->ready_for_interrupt_injection = ready_for_injection(v);
    kvm_sync_regs_out(v);
    kvm_stats_vcpu_update(v);
}

int kvm_vcpu_run(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    int rc;

    if (raw)
        return -EINVAL;
    v->has_run = true;
    v->run->flags = 0;
    kvm_signals_hold(v);
    rc = run(v);
    save_run(v);
    kvm_signals_release(v);
    return rc;
}
