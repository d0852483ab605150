// SPDX-License-Identifier: MIT
// LAPIC timers: the three modes on a clock turned by hand, sleeping CPUs, and the service thread in real time.
#include "irq_fake.h"

#include <errno.h>
#include <time.h>

static bool fired(struct fake *f, unsigned i, u8 vector)
{
    if (lapic_intr_ack(L(f, i)) != vector)
        return false;
    wr(f, i, 0xb0, 0);
    return true;
}

static void oneshot(void)
{
    static const u8 tdcr[] = {0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa, 0xb};
    static const u8 divisor[] = {2, 4, 8, 16, 32, 64, 128, 1};
    struct fake f;

    fake_init(&f, 1);
    software_enable(&f, 0);
    wr(&f, 0, 0x320, 0x40);
    for (unsigned i = 0; i < 8; i++) {
        wr(&f, 0, 0x3e0, tdcr[i]);
        wr(&f, 0, 0x380, 1000);
        is_u64(lapic_next_deadline_ns(L(&f, 0)), f.ns + 1000ull * divisor[i], "divide by %u",
               divisor[i]);
    }
    wr(&f, 0, 0x3e0, 0xb);
    wr(&f, 0, 0x380, 5000);
    requests(&f, 0);
    fake_pass(&f, 2000);
    is_u64(rd(&f, 0, 0x390), 3000, "current count");
    ok(!requests(&f, 0), "not yet");
    wr(&f, 0, 0x3e0, 0x0);
    is_u64(rd(&f, 0, 0x390), 3000, "a new divisor keeps the count");
    fake_pass(&f, 5999);
    ok(!fired(&f, 0, 0x40), "and halves the rate");
    fake_pass(&f, 1);
    ok(requests(&f, 0) == CPU_REQ_INTR, "the timer asks the CPU, and leaves memory alone");
    ok(fired(&f, 0, 0x40), "fires");
    is_u64(rd(&f, 0, 0x390), 0, "count stays 0");
    fake_pass(&f, 1000000);
    ok(!fired(&f, 0, 0x40), "once");
    wr(&f, 0, 0x380, 100);
    wr(&f, 0, 0x380, 0);
    fake_pass(&f, 1000);
    ok(!fired(&f, 0, 0x40), "initial count 0 stops it");
    wr(&f, 0, 0x320, 0x10040);
    wr(&f, 0, 0x380, 100);
    fake_pass(&f, 1000);
    ok(!fired(&f, 0, 0x40), "masked: runs out in silence");
    fake_fini(&f);
}

static void bus_clock(void)
{
    struct fake f;

    fake_init(&f, 0);
    is_u64((u32)irqchip_bus_cycle_ns(f.chip, 0), (u32)-EINVAL, "no time");
    is_u64((u32)irqchip_bus_cycle_ns(f.chip, BIT(25)), (u32)-EINVAL, "too long a time");
    is_u64(irqchip_bus_cycle_ns(f.chip, 40), 0, "25 MHz");
    fake_fini(&f);
    fake_init(&f, 1);
    is_u64((u32)irqchip_bus_cycle_ns(f.chip, 40), (u32)-EINVAL, "too late: there is a vCPU");
    fake_fini(&f);
    fake_init(&f, 0);
    irqchip_bus_cycle_ns(f.chip, 40);
    fake_cpu_add(&f);
    software_enable(&f, 0);
    wr(&f, 0, 0x320, 0x40);
    wr(&f, 0, 0x3e0, 0x0);
    wr(&f, 0, 0x380, 1000);
    is_u64(lapic_next_deadline_ns(L(&f, 0)), f.ns + 80000, "1000 ticks of 25 MHz by 2");
    f.ns += 20000;
    is_u64(rd(&f, 0, 0x390), 750, "current count");
    fake_fini(&f);
}

static void periodic(void)
{
    struct fake f;
    u64 start;

    fake_init(&f, 1);
    software_enable(&f, 0);
    wr(&f, 0, 0x3e0, 0xb);
    wr(&f, 0, 0x320, 0x20041);
    start = f.ns;
    wr(&f, 0, 0x380, 1000000);
    for (int i = 1; i <= 3; i++) {
        fake_pass(&f, 1000000);
        ok(fired(&f, 0, 0x41), "period %d", i);
    }
    fake_pass(&f, 1000000);
    fake_pass(&f, 1000000);
    ok(fired(&f, 0, 0x41) && fired(&f, 0, 0x41) && !fired(&f, 0, 0x41),
       "one that found the last untaken is owed");
    fake_pass(&f, 400000);
    is_u64(rd(&f, 0, 0x390), 600000, "count within the period");
    fake_pass(&f, 4000000);
    for (int i = 0; i < 4; i++)
        ok(fired(&f, 0, 0x41), "a missed period comes with the EOI of the one before");
    ok(!fired(&f, 0, 0x41), "and no more");
    is_u64(lapic_next_deadline_ns(L(&f, 0)), start + 10000000, "in phase still");
    wr(&f, 0, 0x380, 10);
    ok(lapic_next_deadline_ns(L(&f, 0)) <= f.ns + 100000, "a tiny period starts");
    fake_pass(&f, 10);
    ok(fired(&f, 0, 0x41), "fires");
    ok(lapic_next_deadline_ns(L(&f, 0)) >= f.ns + 50000, "but does not storm");
    fake_pass(&f, 1000000000);
    start = 0;
    while (fired(&f, 0, 0x41))
        start++;
    ok(start > 1 && start < 300, "what is owed has a bound");
    wr(&f, 0, 0x320, 0x40041);
    is_u64(lapic_next_deadline_ns(L(&f, 0)), IRQ_DEADLINE_NONE,
           "a change to TSC-deadline mode disarms");
    is_u64(rd(&f, 0, 0x380), 0, "and clears the count");
    wr(&f, 0, 0x380, 1000);
    is_u64(rd(&f, 0, 0x380), 0, "which stays so in that mode");
    fake_fini(&f);
}

static void tsc_deadline(void)
{
    struct fake f;
    u64 tsc;

    fake_init(&f, 1);
    software_enable(&f, 0);
    f.v[0]->cpu.tsc_offset = -1000000;
    tsc = fake_tsc(&f) - 1000000;
    is_u64(wrmsr(&f, 0, 0x6e0, tsc + 2000), 0, "write in another mode");
    is_u64(rdmsr(&f, 0, 0x6e0), 0, "is ignored");
    wr(&f, 0, 0x320, 0x40042);
    wrmsr(&f, 0, 0x6e0, tsc + 20000); /* 10 us at 2 GHz */
    is_u64(rdmsr(&f, 0, 0x6e0), tsc + 20000, "armed");
    fake_pass(&f, 9990);
    ok(!fired(&f, 0, 0x42), "not before");
    fake_pass(&f, 20);
    ok(fired(&f, 0, 0x42), "then");
    is_u64(rdmsr(&f, 0, 0x6e0), 0, "and reads 0");
    wrmsr(&f, 0, 0x6e0, 1);
    ok(fired(&f, 0, 0x42), "a deadline that has passed fires at once");
    wrmsr(&f, 0, 0x6e0, tsc + 200000);
    wrmsr(&f, 0, 0x6e0, 0);
    is_u64(lapic_next_deadline_ns(L(&f, 0)), IRQ_DEADLINE_NONE, "0 disarms");
    wrmsr(&f, 0, 0x6e0, ~0ull);
    fake_pass(&f, 3600ull * 1000000000);
    ok(!fired(&f, 0, 0x42), "the end of time does not come");
    tsc = fake_tsc(&f) - 1000000;
    wrmsr(&f, 0, 0x6e0, tsc + 2000000);
    f.v[0]->cpu.tsc_offset += 1900000;
    lapic_tsc_changed(L(&f, 0));
    fake_pass(&f, 51000);
    ok(fired(&f, 0, 0x42), "a TSC moved forward brings it near");
    tsc = fake_tsc(&f) + (u64)f.v[0]->cpu.tsc_offset;
    wrmsr(&f, 0, 0x6e0, tsc + 20000);
    f.v[0]->cpu.tsc_offset -= 20000;
    fake_pass(&f, 10010);
    ok(!fired(&f, 0, 0x42), "moved back in silence: not before its time");
    fake_pass(&f, 10010);
    ok(fired(&f, 0, 0x42), "but then");
    fake_fini(&f);
}

static void sleeping(void)
{
    struct fake f;
    u64 d;

    fake_init(&f, 1);
    software_enable(&f, 0);
    wr(&f, 0, 0x3e0, 0xb);
    wr(&f, 0, 0x320, 0x43);
    wr(&f, 0, 0x380, 5000);
    d = lapic_sleep_begin(L(&f, 0));
    is_u64(d, f.ns + 5000, "the sleeper learns its deadline");
    fake_pass(&f, 6000);
    ok(!lapic_intr_pending(L(&f, 0)), "the service thread leaves a sleeper's timer alone");
    is_u64(lapic_timer_check(L(&f, 0)), IRQ_DEADLINE_NONE, "it serves itself");
    ok(fired(&f, 0, 0x43), "and fires");
    lapic_sleep_end(L(&f, 0));
    wr(&f, 0, 0x380, 5000);
    f.ns += 7000;
    lapic_sleep_begin(L(&f, 0));
    ok(fired(&f, 0, 0x43), "what is due fires as sleep begins");
    wr(&f, 0, 0x380, 5000);
    lapic_sleep_end(L(&f, 0));
    fake_pass(&f, 5000);
    ok(fired(&f, 0, 0x43), "after sleep the service thread is in charge again");
    fake_fini(&f);
}

/* --- real time --- */

struct waiter {
    struct cpu cpu;
    _Atomic u64 fired_at;
};

static void note_time(void *arg)
{
    atomic_store(&((struct waiter *)arg)->fired_at, kvm_now_ns());
}

static int by_size(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;

    return x < y ? -1 : x > y;
}

static void service_thread(void)
{
    static struct waiter w;
    struct timespec nap = {0, 1500000};
    struct irqchip *chip;
    struct lapic *l;
    u64 late[41];
    u32 val;
    int missed = 0, early = 0;

    ok(!irqchip_create(&chip, NULL), "chips with a service thread");
    ok(!lapic_create(&l, chip, &w.cpu, 0, true, note_time, &w), "and a LAPIC");
    lapic_msr_write(l, 0x1b, 0xfee00900, true);
    val = 0x1ff;
    irqchip_mmio_write(chip, l, 0xfee000f0, &val, 4);
    val = 0x40044;
    irqchip_mmio_write(chip, l, 0xfee00320, &val, 4);
    for (unsigned i = 0; i < ARRAY_SIZE(late); i++) {
        u64 due = kvm_now_ns() + 1000000;

        atomic_store(&w.fired_at, 0);
        lapic_msr_write(l, 0x6e0, __builtin_ia32_rdtsc() + kvm_tsc_khz(), false);
        nanosleep(&nap, NULL);
        for (int n = 0; !atomic_load(&w.fired_at) && n < 100; n++)
            nanosleep(&nap, NULL);
        missed += !atomic_load(&w.fired_at);
        early += atomic_load(&w.fired_at) + 20000 < due;
        late[i] = atomic_load(&w.fired_at) - due;
        lapic_intr_ack(l);
        val = 0;
        irqchip_mmio_write(chip, l, 0xfee000b0, &val, 4);
    }
    is_u64(missed, 0, "every deadline fired");
    is_u64(early, 0, "none early");
    qsort(late, ARRAY_SIZE(late), sizeof(late[0]), by_size);
    printf("# late by %lld us in the median, %lld us at worst\n", (long long)late[20] / 1000,
           (long long)late[40] / 1000);
    ok((s64)late[4] < 200000, "the best of them within 200 us");
    lapic_free(l);
    irqchip_free(chip);
}

static void frequency(void)
{
    struct timespec nap = {0, 50000000};
    u64 t0 = kvm_now_ns(), c0 = __builtin_ia32_rdtsc(), t1, c1;
    double khz;

    nanosleep(&nap, NULL);
    t1 = kvm_now_ns();
    c1 = __builtin_ia32_rdtsc();
    khz = (double)(c1 - c0) * 1e6 / (double)(t1 - t0);
    printf("# %u kHz stated, %.0f kHz measured\n", kvm_tsc_khz(), khz);
    ok(khz / kvm_tsc_khz() > 0.999 && khz / kvm_tsc_khz() < 1.001,
       "TSC frequency within a tenth of a percent");
}

int main(void)
{
    oneshot();
    bus_clock();
    periodic();
    tsc_deadline();
    sleeping();
    service_thread();
    frequency();
    return tap_done();
}
