// SPDX-License-Identifier: MIT
// The LAPIC timer: one-shot and periodic counts, and TSC deadlines, as one deadline in host time.
#include "kvm/lapic.h"

/*
 * Theory of operation
 *
 * Whatever the mode, an armed timer is (deadline) in CLOCK_MONOTONIC ns, under (lock). Nothing
 * counts: TMCCT is worked out from the deadline when it is read. The count's clock is 1 GHz
 * unless KVM_CAP_X86_APIC_BUS_CYCLES_NS said otherwise.
 *
 *   disarmed --TMICT or TSC_DEADLINE written--> armed --deadline passes--> fired
 *   fired: one-shot and TSC -> disarmed; periodic -> armed, (deadline) += (period)
 *
 * Periods that nobody could serve in time (the host was busy) are not lost, as little as the
 * PIT's are: they are (missed), and each EOI of the timer's vector brings one. A guest that
 * counts ticks of both, as Linux does to check one by the other, finds as many.
 *
 * Who notices that the deadline has passed: the service thread while the vCPU runs, the vCPU's
 * own thread while it sleeps ((asleep)). Both call lapic_timer_expire(), which decides under
 * (lock), so a deadline fires once however many look.
 */

/* Periods below this would have us do nothing but fire. */
#define MIN_PERIOD_NS 100000u

#define MISSED_MAX 250 /* periods owed to a guest that stood still */

static u64 mul_div(u64 a, u64 b, u64 c)
{
    u128 r = (u128)a * b / c;

    return r > INT64_MAX ? INT64_MAX : (u64)r;
}

/* SDM 3A figure 11-10: bits 0, 1 and 3 say the power of two, 7 means 1. */
static unsigned divide_shift(const struct lapic *l)
{
    u32 tdcr = lapic_reg(l, APIC_TDCR);

    return (((tdcr & 3) | (tdcr >> 1 & 4)) + 1) & 7;
}

/* (count) ticks of the divided timer. */
static u64 ticks_ns(const struct lapic *l, u32 count)
{
    return ((u64)count << divide_shift(l)) * l->chip->bus_ns;
}

static u32 timer_mode(const struct lapic *l)
{
    return lapic_reg(l, APIC_LVT_TIMER) & APIC_TIMER_MODE;
}

static u64 guest_tsc(const struct lapic *l)
{
    return l->chip->time.tsc(l->chip->time.arg) + (u64)l->cpu->tsc_offset;
}

static void set_deadline(struct lapic *l, u64 deadline)
{
    atomic_store(&l->deadline, deadline);
    if (deadline != IRQ_DEADLINE_NONE && !atomic_load(&l->asleep))
        timers_arm(l->chip, deadline);
}

/* Host time at which the guest's TSC gets to (tsc). */
static u64 tsc_to_ns(const struct lapic *l, u64 tsc)
{
    u64 now_tsc = guest_tsc(l);
    u64 now = irqchip_now(l->chip);

    if (tsc <= now_tsc)
        return now;
    return now + mul_div(tsc - now_tsc, 1000000, l->chip->time.tsc_khz) + 1;
}

void lapic_timer_init(struct lapic *l)
{
    pthread_mutex_init(&l->lock, NULL);
    atomic_store(&l->deadline, IRQ_DEADLINE_NONE);
}

static void stop_locked(struct lapic *l)
{
    l->period = 0;
    l->tsc_deadline = 0;
    atomic_store(&l->missed, 0);
    set_deadline(l, IRQ_DEADLINE_NONE);
}

void lapic_timer_stop(struct lapic *l)
{
    pthread_mutex_lock(&l->lock);
    stop_locked(l);
    pthread_mutex_unlock(&l->lock);
}

static u64 period_of(const struct lapic *l)
{
    u64 ns = ticks_ns(l, lapic_reg(l, APIC_TMICT));

    if (timer_mode(l) == APIC_TIMER_PERIODIC && ns && ns < MIN_PERIOD_NS)
        ns = MIN_PERIOD_NS;
    return ns;
}

void lapic_timer_start(struct lapic *l, u32 count)
{
    pthread_mutex_lock(&l->lock);
    if (timer_mode(l) != APIC_TIMER_TSC) {
        atomic_store(&l->missed, 0);
        l->period = period_of(l);
        if (!l->period || !count)
            set_deadline(l, IRQ_DEADLINE_NONE);
        else
            set_deadline(l, irqchip_now(l->chip) + ticks_ns(l, count));
    }
    pthread_mutex_unlock(&l->lock);
}

static u64 left_ns(const struct lapic *l, u64 now)
{
    u64 deadline = atomic_load(&l->deadline);

    return deadline == IRQ_DEADLINE_NONE || deadline <= now ? 0 : deadline - now;
}

void lapic_timer_divide_set(struct lapic *l, u32 tdcr)
{
    u64 now = irqchip_now(l->chip);

    pthread_mutex_lock(&l->lock);
    lapic_reg_put(l, APIC_TDCR, tdcr);
    if (l->period) {
        u64 old = l->period, fresh = period_of(l), left = left_ns(l, now);

        l->period = fresh;
        if (left)
            set_deadline(l, now + mul_div(left, fresh, old));
    }
    pthread_mutex_unlock(&l->lock);
}

void lapic_timer_mode_changed(struct lapic *l)
{
    pthread_mutex_lock(&l->lock);
    stop_locked(l);
    lapic_reg_put(l, APIC_TMICT, 0);
    pthread_mutex_unlock(&l->lock);
}

u32 lapic_timer_count(struct lapic *l)
{
    u64 left = 0;

    pthread_mutex_lock(&l->lock);
    if (l->period && timer_mode(l) != APIC_TIMER_TSC) {
        u64 now = irqchip_now(l->chip), deadline = atomic_load(&l->deadline);

        left = left_ns(l, now);
        if (!left && deadline != IRQ_DEADLINE_NONE && timer_mode(l) == APIC_TIMER_PERIODIC)
            left = l->period - (now - deadline) % l->period;
    }
    pthread_mutex_unlock(&l->lock);
    left /= l->chip->bus_ns << divide_shift(l);
    return left > UINT32_MAX ? UINT32_MAX : (u32)left;
}

u64 lapic_tsc_deadline_get(struct lapic *l)
{
    u64 tsc;

    pthread_mutex_lock(&l->lock);
    tsc = timer_mode(l) == APIC_TIMER_TSC ? l->tsc_deadline : 0;
    pthread_mutex_unlock(&l->lock);
    return tsc;
}

void lapic_tsc_deadline_set(struct lapic *l, u64 tsc)
{
    pthread_mutex_lock(&l->lock);
    if (timer_mode(l) == APIC_TIMER_TSC) {
        l->tsc_deadline = tsc;
        set_deadline(l, tsc ? tsc_to_ns(l, tsc) : IRQ_DEADLINE_NONE);
    }
    pthread_mutex_unlock(&l->lock);
    /* One that has passed already fires at once, as on hardware. */
    if (tsc)
        lapic_timer_expire(l, irqchip_now(l->chip));
}

void lapic_tsc_changed(struct lapic *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->tsc_deadline)
        set_deadline(l, tsc_to_ns(l, l->tsc_deadline));
    pthread_mutex_unlock(&l->lock);
}

/* (deadline) has come in periodic mode, and maybe more than one. */
static void next_period(struct lapic *l, u64 deadline, u64 now)
{
    u64 late = (now - deadline) / l->period;
    u32 lvt = lapic_reg(l, APIC_LVT_TIMER);
    u64 missed = atomic_load(&l->missed) + late + lapic_vector_test(l, APIC_IRR, (u8)lvt);

    if (lvt & APIC_LVT_MASKED)
        missed = 0;
    atomic_store(&l->missed, missed < MISSED_MAX ? (u32)missed : MISSED_MAX);
    set_deadline(l, deadline + (late + 1) * l->period);
}

void lapic_timer_acked(struct lapic *l, u8 vector)
{
    bool fire;

    if (vector != (lapic_reg(l, APIC_LVT_TIMER) & 0xff))
        return;
    pthread_mutex_lock(&l->lock);
    fire = atomic_load(&l->missed) != 0;
    if (fire)
        atomic_fetch_sub(&l->missed, 1);
    pthread_mutex_unlock(&l->lock);
    if (fire)
        lapic_lvt_deliver(l, APIC_LVT_TIMER);
}

void lapic_timer_expire(struct lapic *l, u64 now)
{
    bool fire = false;
    u64 deadline;

    if (atomic_load(&l->deadline) > now)
        return;
    pthread_mutex_lock(&l->lock);
    deadline = atomic_load(&l->deadline);
    if (deadline > now)
        goto out;
    if (l->tsc_deadline && guest_tsc(l) < l->tsc_deadline) {
        /* Host clocks drift apart by parts per million: wait out the rest. */
        set_deadline(l, tsc_to_ns(l, l->tsc_deadline));
        goto out;
    }
    fire = true;
    l->tsc_deadline = 0;
    if (l->period && timer_mode(l) == APIC_TIMER_PERIODIC)
        next_period(l, deadline, now);
    else
        set_deadline(l, IRQ_DEADLINE_NONE);
out:
    if (fire) /* before others see that the timer has stopped: saved state has one or the other */
        lapic_lvt_deliver(l, APIC_LVT_TIMER);
    pthread_mutex_unlock(&l->lock);
}

u64 lapic_next_deadline_ns(struct lapic *l)
{
    return atomic_load(&l->deadline);
}

u64 lapic_timer_check(struct lapic *l)
{
    lapic_timer_expire(l, irqchip_now(l->chip));
    return atomic_load(&l->deadline);
}

u64 lapic_sleep_begin(struct lapic *l)
{
    atomic_store(&l->asleep, true);
    if (atomic_load(&l->deadline) != IRQ_DEADLINE_NONE)
        timers_rearm(l->chip);
    return lapic_timer_check(l);
}

void lapic_sleep_end(struct lapic *l)
{
    u64 deadline;

    atomic_store(&l->asleep, false);
    deadline = lapic_timer_check(l);
    if (deadline != IRQ_DEADLINE_NONE)
        timers_arm(l->chip, deadline);
}
