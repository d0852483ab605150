// SPDX-License-Identifier: MIT
// Many threads inject, time, acknowledge and reconfigure at once: no interrupt is lost, nobody hangs.
#include "irq_fake.h"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CPUS   3
#define ROUNDS 400

/* A vCPU thread in miniature: sleeps on a condition variable as run.c sleeps on its descriptor. */
struct runner {
    struct cpu cpu;
    struct lapic *lapic;
    struct irqchip *chip;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    _Atomic bool sleeping, stop;
    bool woken;
    _Atomic u64 got[256];
};

static struct runner r[CPUS];

static void kick(void *arg)
{
    struct runner *v = arg;

    if (!atomic_load(&v->sleeping))
        return;
    pthread_mutex_lock(&v->lock);
    v->woken = true;
    pthread_cond_signal(&v->cond);
    pthread_mutex_unlock(&v->lock);
}

static void reg(struct runner *v, u32 offset, u32 val)
{
    irqchip_mmio_write(v->chip, v->lapic, 0xfee00000 + offset, &val, 4);
}

static void sleep_until(struct runner *v, u64 deadline)
{
    struct timespec ts = {.tv_sec = 1u << 30};

    if (deadline != IRQ_DEADLINE_NONE)
        ts = (struct timespec){(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};
    pthread_mutex_lock(&v->lock);
    while (!v->woken && !pthread_cond_timedwait(&v->cond, &v->lock, &ts))
        ;
    v->woken = false;
    pthread_mutex_unlock(&v->lock);
    lapic_timer_check(v->lapic);
}

static void halt(struct runner *v)
{
    u64 deadline;

    atomic_store(&v->sleeping, true);
    deadline = lapic_sleep_begin(v->lapic);
    while (!lapic_intr_pending(v->lapic) && !atomic_load(&v->stop)) {
        sleep_until(v, deadline);
        deadline = lapic_next_deadline_ns(v->lapic);
    }
    lapic_sleep_end(v->lapic);
    atomic_store(&v->sleeping, false);
}

static void *run(void *arg)
{
    struct runner *v = arg;

    while (!atomic_load(&v->stop)) {
        int vector = lapic_intr_ack(v->lapic);

        if (vector < 0) {
            halt(v);
            continue;
        }
        atomic_fetch_add(&v->got[vector], 1);
        if (vector == 0x50) /* ping: answer by IPI to the next CPU, a few times over */
            reg(v, 0x300, 0x40051);
        if (vector == 0x60)
            reg(v, 0x380, 20000);
        if (vector >= 0x30)
            reg(v, 0xb0, 0);
    }
    return NULL;
}

/* Send (vector) again and again, each when the last has arrived, so that each must arrive. */
static int ping(unsigned cpu, u8 vector, int (*send)(unsigned cpu, u8 vector))
{
    struct timespec nap = {0, 20000};

    for (u64 i = 0; i < ROUNDS; i++) {
        u64 before = atomic_load(&r[cpu].got[vector]);
        int tries = 1000000;

        send(cpu, vector);
        while (atomic_load(&r[cpu].got[vector]) == before && tries--)
            if (tries % 64 == 0)
                nanosleep(&nap, NULL);
        if (atomic_load(&r[cpu].got[vector]) == before)
            return -1;
    }
    return 0;
}

static int by_msi(unsigned cpu, u8 vector)
{
    struct kvm_msi m = {.address_lo = 0xfee00000 | cpu << 12, .data = vector};

    return irqchip_signal_msi(r[0].chip, &m);
}

static int by_line(unsigned cpu, u8 vector)
{
    irqchip_set_irq(r[0].chip, 16 + cpu, 1, IRQ_SOURCE_USER);
    return irqchip_set_irq(r[0].chip, 16 + cpu, 0, IRQ_SOURCE_USER);
}

static int event_fd;

static int by_irqfd(unsigned cpu, u8 vector)
{
    u64 one = 1;

    return write(event_fd, &one, sizeof(one)) == sizeof(one) ? 0 : -1;
}

struct sender {
    pthread_t thread;
    unsigned cpu;
    u8 vector;
    int (*send)(unsigned cpu, u8 vector);
    int rc;
};

static void *sender(void *arg)
{
    struct sender *s = arg;

    s->rc = ping(s->cpu, s->vector, s->send);
    return NULL;
}

static void *churn(void *arg)
{
    struct irqchip *chip = arg;
    struct kvm_irq_routing_entry e[8];
    struct kvm_irqchip io = {.chip_id = KVM_IRQCHIP_IOAPIC};

    for (u32 i = 0; i < 8; i++)
        e[i] = (struct kvm_irq_routing_entry){.gsi = 16 + i,
                                              .type = KVM_IRQ_ROUTING_IRQCHIP,
                                              .u.irqchip = {KVM_IRQCHIP_IOAPIC, 16 + i}};
    for (int i = 0; i < 2000; i++) {
        irqchip_routing_set(chip, e, 8, 0);
        irqchip_state_get(chip, &io);
        sched_yield();
    }
    return NULL;
}

static void pin(struct irqchip *chip, u32 p, u64 entry)
{
    for (u32 i = 0; i < 2; i++) {
        u32 sel = 0x11 - i + 2 * p, val = (u32)(i ? entry : entry >> 32);

        irqchip_mmio_write(chip, NULL, 0xfec00000, &sel, 4);
        irqchip_mmio_write(chip, NULL, 0xfec00010, &val, 4);
    }
}

static void start(struct irqchip *chip)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (unsigned i = 0; i < CPUS; i++) {
        r[i].chip = chip;
        pthread_mutex_init(&r[i].lock, NULL);
        pthread_cond_init(&r[i].cond, &attr);
        if (lapic_create(&r[i].lapic, chip, &r[i].cpu, i, i == 0, kick, &r[i]))
            abort();
        reg(&r[i], 0xf0, 0x1ff);
        reg(&r[i], 0x3e0, 0xb);
        reg(&r[i], 0x320, 0x60);
        reg(&r[i], 0x380, 20000);
        pin(chip, 16 + i, (u64)i << 56 | 0x70);
        pthread_create(&r[i].thread, NULL, run, &r[i]);
    }
}

int main(void)
{
    struct sender s[] = {
        {.cpu = 0, .vector = 0x50, .send = by_msi},
        {.cpu = 1, .vector = 0x50, .send = by_msi},
        {.cpu = 2, .vector = 0x70, .send = by_line},
        {.cpu = 1, .vector = 0x71, .send = by_irqfd},
    };
    struct kvm_irqfd irqfd = {.gsi = 20};
    struct irqchip *chip;
    pthread_t churner;

    if (irqchip_create(&chip, NULL))
        return 1;
    start(chip);
    pin(chip, 20, 1ull << 56 | 0x71);
    event_fd = eventfd(0, EFD_NONBLOCK);
    irqfd.fd = (u32)event_fd;
    is_u64(irqchip_irqfd(chip, &irqfd), 0, "irqfd");
    pthread_create(&churner, NULL, churn, chip);
    for (unsigned i = 0; i < ARRAY_SIZE(s); i++)
        pthread_create(&s[i].thread, NULL, sender, &s[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(s); i++)
        pthread_join(s[i].thread, NULL);
    pthread_join(churner, NULL);
    ok(!s[0].rc && !s[1].rc, "every MSI arrived");
    ok(!s[2].rc, "every edge arrived");
    ok(!s[3].rc, "every irqfd signal arrived");
    for (unsigned i = 0; i < CPUS; i++)
        ok(atomic_load(&r[i].got[0x60]) > 5, "CPU %u's timer went round (%llu)", i,
           (unsigned long long)atomic_load(&r[i].got[0x60]));
    ok(atomic_load(&r[0].got[0x51]) > 0, "and IPIs with it");
    for (unsigned i = 0; i < CPUS; i++) {
        atomic_store(&r[i].stop, true);
        kick(&r[i]);
    }
    for (unsigned i = 0; i < CPUS; i++)
        pthread_join(r[i].thread, NULL);
    for (unsigned i = 0; i < CPUS; i++)
        lapic_free(r[i].lapic);
    irqchip_free(chip);
    close(event_fd);
    return tap_done();
}
