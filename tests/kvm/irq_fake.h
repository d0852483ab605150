// SPDX-License-Identifier: MIT
// A board for the interrupt tests: chips on a clock that the test turns, and CPUs that run nothing.
#pragma once

#include "kvm/irqchip.h"
#include "../tap.h"

#define FAKE_CPUS 20

/* One vCPU: what a kick does is counted. */
struct fake_cpu {
    struct cpu cpu;
    struct lapic *lapic;
    struct cpu_cpuid_entry cpuid[2];
    _Atomic unsigned kicks;
};

struct fake {
    u64 ns;  /* the time now */
    u32 khz; /* of the TSC, which is 0 at time 0 */
    struct irqchip *chip;
    unsigned n;
    struct fake_cpu *v[FAKE_CPUS];
};

static inline u64 fake_now(void *arg)
{
    return ((struct fake *)arg)->ns;
}

static inline u64 fake_tsc(void *arg)
{
    struct fake *f = arg;

    return (u64)((u128)f->ns * f->khz / 1000000);
}

static inline void fake_kick(void *arg)
{
    atomic_fetch_add(&((struct fake_cpu *)arg)->kicks, 1);
}

/* One more CPU, with the next APIC ID. */
static inline void fake_cpu_add(struct fake *f)
{
    struct fake_cpu *v = aligned_alloc(64, ALIGN_UP(sizeof(*v), 64));
    unsigned id = f->n++;

    if (!v)
        abort();
    memset(v, 0, sizeof(*v));
    f->v[id] = v;
    v->cpuid[0] = (struct cpu_cpuid_entry){.leaf = 1, .ecx = 1u << 21};
    v->cpuid[1] = (struct cpu_cpuid_entry){.leaf = 0x80000008, .eax = 46};
    v->cpu.cpuid = v->cpuid;
    v->cpu.cpuid_count = 2;
    v->cpu.mode = MODE_64;
    if (lapic_create(&v->lapic, f->chip, &v->cpu, id, id == 0, fake_kick, v))
        abort();
}

/* (n) CPUs with APIC IDs from 0. */
static inline void fake_init(struct fake *f, unsigned n)
{
    struct irq_time t = {fake_now, fake_tsc, f, 2000000, true};

    memset(f, 0, sizeof(*f));
    f->ns = 1000000000;
    f->khz = t.tsc_khz;
    if (irqchip_create(&f->chip, &t))
        abort();
    while (f->n < n)
        fake_cpu_add(f);
}

static inline void fake_fini(struct fake *f)
{
    for (unsigned i = 0; i < f->n; i++) {
        lapic_free(f->v[i]->lapic);
        free(f->v[i]);
    }
    irqchip_free(f->chip);
}

static inline struct lapic *L(struct fake *f, unsigned i)
{
    return f->v[i]->lapic;
}

/* Let (ns) go by and have the timers looked at. */
static inline void fake_pass(struct fake *f, u64 ns)
{
    f->ns += ns;
    irqchip_service(f->chip);
}

/* Registers of the LAPIC page, by offset. */
static inline u32 rd(struct fake *f, unsigned i, u32 offset)
{
    u32 v = 0xdeadbeef;

    if (!irqchip_mmio_read(f->chip, L(f, i), 0xfee00000 + offset, &v, 4))
        return 0xbadbad;
    return v;
}

static inline void wr(struct fake *f, unsigned i, u32 offset, u32 val)
{
    irqchip_mmio_write(f->chip, L(f, i), 0xfee00000 + offset, &val, 4);
}

static inline u64 rdmsr(struct fake *f, unsigned i, u32 index)
{
    u64 v = 0xbadbadbad;

    lapic_msr_read(L(f, i), index, &v, false);
    return v;
}

static inline int wrmsr(struct fake *f, unsigned i, u32 index, u64 val)
{
    return lapic_msr_write(L(f, i), index, val, false);
}

static inline void software_enable(struct fake *f, unsigned i)
{
    wr(f, i, 0xf0, 0x1ff);
}

static inline void x2apic_enable(struct fake *f, unsigned i)
{
    wrmsr(f, i, 0x1b, rdmsr(f, i, 0x1b) | BIT(10));
    wrmsr(f, i, 0x80f, 0x1ff);
}

/* IOAPIC registers. */
static inline u32 io_rd(struct fake *f, u32 reg)
{
    u32 v = 0;

    irqchip_mmio_write(f->chip, NULL, 0xfec00000, &reg, 4);
    irqchip_mmio_read(f->chip, NULL, 0xfec00010, &v, 4);
    return v;
}

static inline void io_wr(struct fake *f, u32 reg, u32 val)
{
    irqchip_mmio_write(f->chip, NULL, 0xfec00000, &reg, 4);
    irqchip_mmio_write(f->chip, NULL, 0xfec00010, &val, 4);
}

static inline void redir(struct fake *f, u32 pin, u64 entry)
{
    io_wr(f, 0x11 + 2 * pin, (u32)(entry >> 32));
    io_wr(f, 0x10 + 2 * pin, (u32)entry);
}

static inline void outb(struct fake *f, u16 port, u8 val)
{
    irqchip_io_write(f->chip, port, 1, val);
}

static inline u8 inb(struct fake *f, u16 port)
{
    u32 v = 0;

    irqchip_io_read(f->chip, port, 1, &v);
    return (u8)v;
}

/* Take the requests that were made of CPU (i). */
static inline u32 requests(struct fake *f, unsigned i)
{
    return atomic_exchange(&f->v[i]->cpu.request, 0);
}

/* A fixed, edge-triggered MSI. */
static inline int msi(struct fake *f, u32 dest, bool logical, u8 vector)
{
    struct kvm_msi m = {.address_lo = 0xfee00000 | dest << 12 | (logical ? 4 : 0), .data = vector};

    return irqchip_signal_msi(f->chip, &m);
}
