// SPDX-License-Identifier: MIT
// Host time, the TSC's frequency, and the one thread per VM that fires timers and reads irqfds.
#include "kvm/lapic.h"
#include "kvm/thread.h"

#include <cpuid.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

/*
 * Theory of operation
 *
 * Deadlines live where they are made: one atomic word per LAPIC and one for the PIT. The thread
 * sleeps in epoll on a timerfd, which is precise to some ten microseconds and which any thread
 * can set without waking anybody. (armed) is what it is set to.
 *
 *   timers_arm(d)     a deadline appeared: if it is before (armed), set the timerfd
 *   irqchip_service() fire what is due, then set the timerfd to the minimum of all
 *   timers_rearm()    a vCPU that owned the minimum goes to sleep on its own clock: set it again
 *
 * A deadline that moves later costs nothing: the thread wakes early once and goes back to
 * sleep. No deadline is lost: its word is stored before timers_arm() takes (lock), and the
 * minimum is taken under (lock), so either the minimum sees it or timers_arm() sees the new
 * (armed).
 */

#define CALIBRATE_NS 20000000u

u64 kvm_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/* --- TSC frequency --- */

/* A time and the TSC at it: of several readings, the one that took least. */
static void sample(u64 *ret_ns, u64 *ret_tsc)
{
    u64 best = UINT64_MAX;

    for (int i = 0; i < 8; i++) {
        u64 t0 = __rdtsc(), ns = kvm_now_ns(), t1 = __rdtsc();

        if (t1 - t0 < best) {
            best = t1 - t0;
            *ret_ns = ns;
            *ret_tsc = t0 + (t1 - t0) / 2;
        }
    }
}

static u32 measure_khz(void)
{
    struct timespec nap = {.tv_nsec = CALIBRATE_NS};
    u64 ns0, tsc0, ns1, tsc1;

    sample(&ns0, &tsc0);
    nanosleep(&nap, NULL);
    sample(&ns1, &tsc1);
    return (u32)(((u128)(tsc1 - tsc0) * 1000000 + (ns1 - ns0) / 2) / (ns1 - ns0));
}

/* What the processor or the hypervisor under us says: 0 when neither does. */
static u32 stated_khz(void)
{
    u32 a, b, c, d;

    if (__get_cpuid_max(0, NULL) >= 0x15) {
        __cpuid(0x15, a, b, c, d);
        if (a && b && c)
            return (u32)((u64)c * b / a / 1000);
    }
    __cpuid(1, a, b, c, d);
    if (!(c >> 31))
        return 0;
    __cpuid(0x40000000, a, b, c, d);
    if (a < 0x40000010 || a > 0x400000ff)
        return 0;
    __cpuid(0x40000010, a, b, c, d);
    return a;
}

static u32 tsc_khz;

static void tsc_khz_init(void)
{
    u32 measured = measure_khz(), stated = stated_khz();
    u32 off = stated > measured ? stated - measured : measured - stated;

    /* A stated figure is exact, if it is true at all. */
    tsc_khz = stated && off < measured / 500 ? stated : measured;
    if (!tsc_khz)
        tsc_khz = 1;
}

u32 kvm_tsc_khz(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, tsc_khz_init);
    return tsc_khz;
}

/* --- the timerfd --- */

static void timerfd_set(struct timers *t, u64 deadline)
{
    struct itimerspec its = {0};

    t->armed = deadline;
    if (t->timer_fd < 0)
        return;
    if (deadline != IRQ_DEADLINE_NONE) {
        if (deadline > INT64_MAX)
            deadline = INT64_MAX;
        if (!deadline)
            deadline = 1; /* zero disarms */
        its.it_value.tv_sec = (time_t)(deadline / NSEC_PER_SEC);
        its.it_value.tv_nsec = (long)(deadline % NSEC_PER_SEC);
    }
    timerfd_settime(t->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

void timers_arm(struct irqchip *chip, u64 deadline)
{
    struct timers *t = &chip->timers;

    pthread_mutex_lock(&t->lock);
    if (deadline < t->armed)
        timerfd_set(t, deadline);
    pthread_mutex_unlock(&t->lock);
}

static u64 earliest(struct irqchip *chip)
{
    unsigned n = atomic_load(&chip->nr_lapics);
    u64 min = atomic_load(&chip->pit.deadline);

    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = atomic_load(&chip->lapics[i]);
        u64 d = l && !atomic_load(&l->asleep) ? atomic_load(&l->deadline) : IRQ_DEADLINE_NONE;

        if (d < min)
            min = d;
    }
    return min;
}

void timers_rearm(struct irqchip *chip)
{
    struct timers *t = &chip->timers;
    u64 min;

    pthread_mutex_lock(&t->lock);
    min = earliest(chip);
    if (min != t->armed)
        timerfd_set(t, min);
    pthread_mutex_unlock(&t->lock);
}

/* --- the service thread --- */

static void expire_all(struct irqchip *chip)
{
    u64 now = irqchip_now(chip);
    unsigned n;

    pthread_mutex_lock(&chip->lock); /* no LAPIC goes away meanwhile */
    n = atomic_load(&chip->nr_lapics);
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = atomic_load(&chip->lapics[i]);

        if (l && !atomic_load(&l->asleep))
            lapic_timer_expire(l, now);
    }
    if (atomic_load(&chip->pit.deadline) <= now)
        pit_expire(chip);
    pthread_mutex_unlock(&chip->lock);
    timers_rearm(chip);
}

/*
 * The timerfd has gone off and is set to nothing. If it did so a trifle before irqchip_now() gets there, the same
 * deadline is set again: it must not look as if it still were.
 */
static void timerfd_fired(struct timers *t)
{
    pthread_mutex_lock(&t->lock);
    t->armed = IRQ_DEADLINE_NONE;
    pthread_mutex_unlock(&t->lock);
}

/* False when the thread is to end. */
static bool serve(struct irqchip *chip, int timeout)
{
    struct epoll_event ev[16];
    int n = epoll_wait(chip->timers.epoll_fd, ev, ARRAY_SIZE(ev), timeout);

    for (int i = 0; i < n; i++) {
        u64 id = ev[i].data.u64, count;

        if (id == TIMER_ID_STOP)
            return false;
        if (id == TIMER_ID_TIMER) {
            if (read(chip->timers.timer_fd, &count, sizeof(count)) > 0) {
                timerfd_fired(&chip->timers);
                expire_all(chip);
            }
            continue;
        }
        pthread_mutex_lock(&chip->lock);
        irqfd_ready(chip, id);
        pthread_mutex_unlock(&chip->lock);
    }
    return true;
}

void irqchip_service(struct irqchip *chip)
{
    expire_all(chip);
    serve(chip, 0);
}

static void *service_thread(void *arg)
{
    struct irqchip *chip = arg;

    while (serve(chip, -1))
        ;
    return NULL;
}

static int epoll_add(struct timers *t, int fd, u64 id)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = id};

    return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int thread_start(struct irqchip *chip)
{
    struct timers *t = &chip->timers;
    int rc;

    t->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    t->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->timer_fd < 0 || t->stop_fd < 0)
        return -errno;
    rc = epoll_add(t, t->timer_fd, TIMER_ID_TIMER);
    if (!rc)
        rc = epoll_add(t, t->stop_fd, TIMER_ID_STOP);
    if (rc)
        return rc;
    rc = kvm_thread_create(&t->thread, "kvm-timer", service_thread, chip);
    t->started = !rc;
    return rc;
}

int timers_start(struct irqchip *chip)
{
    struct timers *t = &chip->timers;

    pthread_mutex_init(&t->lock, NULL);
    t->armed = IRQ_DEADLINE_NONE;
    t->timer_fd = t->stop_fd = -1;
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (t->epoll_fd < 0)
        return -errno;
    return chip->time.no_thread ? 0 : thread_start(chip);
}

void timers_stop(struct irqchip *chip)
{
    struct timers *t = &chip->timers;
    u64 one = 1;

    if (t->started) {
        ssize_t n = write(t->stop_fd, &one, sizeof(one));

        (void)n; /* a fresh counter takes 1 */
        pthread_join(t->thread, NULL);
    }
    if (t->stop_fd >= 0)
        close(t->stop_fd);
    if (t->timer_fd >= 0)
        close(t->timer_fd);
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
    pthread_mutex_destroy(&t->lock);
}
