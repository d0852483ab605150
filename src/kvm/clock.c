// SPDX-License-Identifier: MIT
// kvmclock: guest time in nanoseconds from the TSC, through pages whose addresses the guest gives in MSRs.
#include "kvm/irqchip.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

/*
 * Theory of operation
 *
 * One pair per VM, (tsc, ns), taken when the clock is made or set, anchors the time of all
 * vCPUs: time = ns + (host TSC - tsc) * scale. A vCPU's page holds the same line in terms of
 * its own TSC, that is with (tsc + tsc_offset). So all pages agree to the nanosecond and say
 * PVCLOCK_TSC_STABLE, and a page changes only when the pair, the offset or a flag does.
 *
 * A page is written by its vCPU's thread, which is when slots cannot move: at the MSR write and
 * in vclock_pre_run(). (seq) counts the pairs; a vCPU whose (seq) is behind rewrites.
 *
 * Lock: (lock) covers the pair and the list of vclocks.
 */

#define TSC_STABLE    BIT(0)
#define GUEST_STOPPED BIT(1)

/* The page: KVM's ABI (Documentation/virt/kvm/x86/msr.rst of Linux). */
struct pvclock_time {
    u32 version; /* odd while it is being written */
    u32 pad0;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 pad[2];
};

struct pvclock_wall {
    u32 version, sec, nsec;
};

_Static_assert(sizeof(struct pvclock_time) == 32, "pvclock ABI");
_Static_assert(sizeof(struct pvclock_wall) == 12, "pvclock ABI");

struct kvmclock {
    pthread_mutex_t lock;
    u64 tsc, ns;
    struct vclock *vclocks;
    _Atomic u32 seq;
    struct irq_time time;
    u32 mul;
    s8 shift;
};

static u64 host_tsc(const struct kvmclock *k)
{
    return k->time.tsc ? k->time.tsc(k->time.arg) : __rdtsc();
}

static u64 realtime_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/*
 * ns = ((delta << shift) * mul) >> 32, (shift) negative for a right shift. (mul) has its top bit
 * set, which keeps 32 bits of precision.
 */
static void scale_set(struct kvmclock *k)
{
    u64 hz = (u64)k->time.tsc_khz * 1000;
    u128 mul = ((u128)1000000000u << 32) / hz;

    k->shift = 0;
    while (mul > UINT32_MAX) {
        k->shift++;
        mul = ((u128)1000000000u << 32 >> k->shift) / hz;
    }
    while (mul < BIT(31)) {
        k->shift--;
        mul = ((u128)1000000000u << 32 << -k->shift) / hz;
    }
    k->mul = (u32)mul;
}

static u64 time_at(const struct kvmclock *k, u64 tsc)
{
    u64 delta = tsc - k->tsc;

    delta = k->shift < 0 ? delta >> -k->shift : delta << k->shift;
    return k->ns + (u64)((u128)delta * k->mul >> 32);
}

int kvmclock_create(struct kvmclock **ret, const struct irq_time *time)
{
    struct kvmclock *k = calloc(1, sizeof(*k));

    if (!k)
        return -ENOMEM;
    pthread_mutex_init(&k->lock, NULL);
    if (time)
        k->time = *time;
    if (!k->time.tsc_khz)
        k->time.tsc_khz = kvm_tsc_khz();
    scale_set(k);
    k->tsc = host_tsc(k);
    *ret = k;
    return 0;
}

void kvmclock_free(struct kvmclock *k)
{
    if (!k)
        return;
    pthread_mutex_destroy(&k->lock);
    free(k);
}

void kvmclock_get(struct kvmclock *k, struct kvm_clock_data *d)
{
    memset(d, 0, sizeof(*d));
    pthread_mutex_lock(&k->lock);
    d->host_tsc = host_tsc(k);
    d->realtime = realtime_ns();
    d->clock = time_at(k, d->host_tsc);
    pthread_mutex_unlock(&k->lock);
    d->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
}

int kvmclock_set(struct kvmclock *k, const struct kvm_clock_data *d)
{
    u64 clock = d->clock, real;

    if (d->flags & ~(u32)(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
        return -EINVAL;
    pthread_mutex_lock(&k->lock);
    k->tsc = host_tsc(k);
    real = realtime_ns();
    /* The time since the clock was read has passed for the guest too; never backwards. */
    if ((d->flags & KVM_CLOCK_REALTIME) && real > d->realtime)
        clock += real - d->realtime;
    k->ns = clock;
    atomic_fetch_add(&k->seq, 1);
    for (struct vclock *v = k->vclocks; v; v = v->next)
        cpu_request(v->cpu, CPU_REQ_EXIT);
    pthread_mutex_unlock(&k->lock);
    return 0;
}

/* --- a vCPU's side --- */

void vclock_init(struct vclock *v, struct kvmclock *k, struct cpu *c)
{
    memset(v, 0, sizeof(*v));
    v->clock = k;
    v->cpu = c;
    v->poll_msr = 1;
    pthread_mutex_lock(&k->lock);
    v->next = k->vclocks;
    k->vclocks = v;
    pthread_mutex_unlock(&k->lock);
}

void vclock_fini(struct vclock *v)
{
    if (!v->clock)
        return;
    pthread_mutex_lock(&v->clock->lock);
    for (struct vclock **at = &v->clock->vclocks; *at; at = &(*at)->next)
        if (*at == v) {
            *at = v->next;
            break;
        }
    pthread_mutex_unlock(&v->clock->lock);
    v->clock = NULL;
}

/* Copy out under the version rule: odd before, even after. */
static void publish(struct mem *m, gpa_t gpa, void *to, const void *from, size_t size)
{
    _Atomic u32 *version = to;
    u32 v = atomic_load(version) | 1; /* odd already: junk that was there before us */

    atomic_store(version, v);
    memcpy((u8 *)to + sizeof(v), (const u8 *)from + sizeof(v), size - sizeof(v));
    atomic_store(version, v + 1);
    mem_written(m, gpa, size);
}

static void write_time(struct vclock *v)
{
    struct kvmclock *k = v->clock;
    struct pvclock_time t = {.tsc_to_system_mul = k->mul, .tsc_shift = k->shift};
    gpa_t gpa = v->system_msr & ~1ull;
    struct pvclock_time *page = mem_span(v->cpu->mem, gpa, sizeof(t), true);

    pthread_mutex_lock(&k->lock);
    v->seq = atomic_load(&k->seq);
    v->tsc_offset = v->cpu->tsc_offset;
    t.tsc_timestamp = k->tsc + (u64)v->tsc_offset;
    t.system_time = k->ns;
    pthread_mutex_unlock(&k->lock);
    if (!page)
        return;
    /* The guest clears GUEST_STOPPED itself when it has seen it. */
    t.flags = TSC_STABLE | (page->flags & GUEST_STOPPED);
    if (atomic_exchange(&v->stopped, false))
        t.flags |= GUEST_STOPPED;
    publish(v->cpu->mem, gpa, page, &t, sizeof(t));
}

static void write_wall(struct vclock *v)
{
    struct kvmclock *k = v->clock;
    gpa_t gpa = v->wall_msr;
    void *page = mem_span(v->cpu->mem, gpa, sizeof(struct pvclock_wall), true);
    struct pvclock_wall w = {0};
    u64 boot;

    if (!page)
        return;
    pthread_mutex_lock(&k->lock);
    boot = realtime_ns() - time_at(k, host_tsc(k));
    pthread_mutex_unlock(&k->lock);
    w.sec = (u32)(boot / 1000000000u);
    w.nsec = (u32)(boot % 1000000000u);
    publish(v->cpu->mem, gpa, page, &w, sizeof(w));
}

void vclock_pre_run(struct vclock *v)
{
    if (!(v->system_msr & KVM_MSR_ENABLED))
        return;
    if (v->seq != atomic_load_explicit(&v->clock->seq, memory_order_relaxed) ||
        v->tsc_offset != v->cpu->tsc_offset || atomic_load(&v->stopped))
        write_time(v);
}

int vclock_guest_stopped(struct vclock *v)
{
    if (!(v->system_msr & KVM_MSR_ENABLED))
        return -EINVAL;
    atomic_store(&v->stopped, true);
    return 0;
}

static const u32 msrs[] = {
    MSR_KVM_WALL_CLOCK,      MSR_KVM_SYSTEM_TIME,  MSR_KVM_WALL_CLOCK_NEW,
    MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_POLL_CONTROL,
};

const u32 *vclock_msr_list(unsigned *count)
{
    *count = ARRAY_SIZE(msrs);
    return msrs;
}

int vclock_msr_read(struct vclock *v, u32 index, u64 *val)
{
    switch (index) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        *val = v->wall_msr;
        return 0;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        *val = v->system_msr;
        return 0;
    case MSR_KVM_POLL_CONTROL:
        *val = v->poll_msr;
        return 0;
    default:
        return -ENOENT;
    }
}

int vclock_msr_write(struct vclock *v, u32 index, u64 val)
{
    switch (index) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        v->wall_msr = val;
        /* 0: never asked for. Atomics need the alignment; a guest that gives another gets no time. */
        if (val && IS_ALIGNED(val, 4))
            write_wall(v);
        return 0;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        if (val & 2) /* the structure is 4-byte aligned, bit 0 enables */
            return -EINVAL;
        v->system_msr = val;
        if (val & KVM_MSR_ENABLED)
            write_time(v);
        return 0;
    case MSR_KVM_POLL_CONTROL:
        if (val & ~1ull)
            return -EINVAL;
        v->poll_msr = val;
        return 0;
    default:
        return -ENOENT;
    }
}

int vclock_pairing(struct vclock *v, gpa_t gpa)
{
    struct kvm_clock_pairing p = {0};
    u64 real;

    p.tsc = host_tsc(v->clock) + (u64)v->cpu->tsc_offset;
    real = realtime_ns();
    p.sec = (s64)(real / 1000000000u);
    p.nsec = (s64)(real % 1000000000u);
    return mem_write(v->cpu->mem, gpa, &p, sizeof(p));
}
