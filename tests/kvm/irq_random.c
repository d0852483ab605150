// SPDX-License-Identifier: MIT
// A guest and a user space that write garbage everywhere: whatever they do, the chips keep their invariants.
#include "irq_fake.h"

#define CPUS   3
#define ROUNDS 100000

static u64 seed = 0x9e3779b97f4a7c15;

static u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static u32 pick(u32 n)
{
    return (u32)(rnd() >> 20) % n;
}

/* Values that mean something come more often than others. */
static u32 value(void)
{
    static const u32 good[] = {0,       1,     ~0u,     0xff,   0x1ff,   0x20031,
                               0x40031, 0x700, 0x10000, 0x8040, 0xc0500, 0x40041};

    switch (pick(4)) {
    case 0:
        return good[pick(ARRAY_SIZE(good))];
    case 1:
        return pick(256);
    case 2:
        return 1u << pick(32);
    default:
        return (u32)rnd();
    }
}

static void guest_port(struct fake *f)
{
    static const u16 ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61};
    u16 port = ports[pick(ARRAY_SIZE(ports))];
    u32 v;

    if (pick(2))
        irqchip_io_write(f->chip, port, 1u << pick(3), value());
    else
        irqchip_io_read(f->chip, port, 1u << pick(3), &v);
}

static void guest_page(struct fake *f, unsigned cpu)
{
    gpa_t gpa =
        pick(2) ? 0xfee00000 + pick(0x500) : 0xfec00000 + pick(2) * 16 + (pick(8) ? 0 : pick(256));
    u64 v = value() | (u64)value() << 32;

    if (pick(8))
        gpa &= ~15ull;
    if (pick(3))
        irqchip_mmio_write(f->chip, L(f, cpu), gpa, &v, 1u << pick(4));
    else
        irqchip_mmio_read(f->chip, L(f, cpu), gpa, &v, 1u << pick(4));
}

static void guest_msr(struct fake *f, unsigned cpu)
{
    static const u32 bases[] = {0xfee00900, 0xfee00800, 0xfee00d00, 0xfee00000, 0xfee00900};
    u64 v = value();

    switch (pick(6)) {
    case 0:
        wrmsr(f, cpu, 0x1b, pick(8) ? bases[pick(5)] : v << pick(20));
        break;
    case 1:
        wrmsr(f, cpu, 0x6e0, pick(2) ? fake_tsc(f) + pick(1u << 20) : rnd());
        break;
    case 2:
        wrmsr(f, cpu, 0x830, (u64)pick(5) << 32 | v);
        break;
    case 3:
        lapic_msr_read(L(f, cpu), 0x800 + pick(256), &v, false);
        break;
    default:
        wrmsr(f, cpu, 0x800 + pick(256), v);
    }
}

static void saved_state(struct fake *f, unsigned cpu)
{
    struct kvm_irqchip c = {.chip_id = pick(4)};
    struct kvm_lapic_state l;
    struct kvm_pit_state2 p;
    u8 *raw[] = {(u8 *)&c.chip, (u8 *)&l, (u8 *)&p};
    size_t size[] = {sizeof(struct kvm_ioapic_state), sizeof(l), sizeof(p)};
    unsigned which = pick(3);

    irqchip_state_get(f->chip, &c);
    lapic_state_get(L(f, cpu), &l);
    irqchip_pit_get(f->chip, &p);
    for (unsigned n = pick(20); n; n--)
        raw[which][pick((u32)size[which])] = (u8)rnd();
    if (which == 0)
        irqchip_state_set(f->chip, &c);
    else if (which == 1)
        lapic_state_set(L(f, cpu), &l);
    else
        irqchip_pit_set(f->chip, &p);
}

static void user_space(struct fake *f)
{
    struct kvm_msi m = {.address_lo = 0xfee00000 | (value() & 0xffffc), .data = value()};
    struct kvm_irq_routing_entry e[4];

    switch (pick(8)) {
    case 0:
        irqchip_signal_msi(f->chip, &m);
        break;
    case 1:
        for (unsigned i = 0; i < 4; i++) {
            e[i] = (struct kvm_irq_routing_entry){.gsi = pick(30), .type = 1 + pick(3)};
            e[i].u.irqchip.irqchip = pick(4);
            e[i].u.irqchip.pin = pick(26);
        }
        if (!pick(50))
            irqchip_routing_set(f->chip, e, 4, 0);
        break;
    case 2:
        irqchip_pit_reinject(f->chip, pick(2));
        break;
    default:
        irqchip_set_irq(f->chip, pick(28), (int)pick(2), pick(IRQ_SOURCE_COUNT));
    }
}

/* Take an interrupt, when there is one. False when what was promised does not hold. */
static bool cpu_takes(struct fake *f, unsigned cpu)
{
    bool promised = lapic_intr_pending(L(f, cpu));
    int v = lapic_intr_ack(L(f, cpu));
    u8 sipi;

    lapic_events_take(L(f, cpu), &sipi);
    lapic_unhalt_take(L(f, cpu));
    return promised == (v >= 0) && v < 256;
}

/* PPR follows from TPR and ISR. */
static bool ppr_right(struct fake *f, unsigned cpu)
{
    struct kvm_lapic_state s;
    u32 isr = 0, tpr, ppr, w;

    lapic_state_get(L(f, cpu), &s);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(&w, &s.regs[0x100 + i * 16], 4);
        if (w)
            isr = i * 32 + 31 - (u32)__builtin_clz(w);
    }
    memcpy(&tpr, &s.regs[0x80], 4);
    memcpy(&ppr, &s.regs[0xa0], 4);
    tpr &= 0xff;
    return ppr == ((tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0);
}

int main(void)
{
    unsigned broken = 0, wrong = 0;
    struct fake f;

    fake_init(&f, CPUS);
    irqchip_pit_create(f.chip, KVM_PIT_SPEAKER_DUMMY);
    for (u32 i = 0; i < ROUNDS; i++) {
        unsigned cpu = pick(CPUS);

        switch (pick(8)) {
        case 0:
        case 1:
            guest_port(&f);
            break;
        case 2:
        case 3:
            guest_page(&f, cpu);
            break;
        case 4:
            guest_msr(&f, cpu);
            break;
        case 5:
            user_space(&f);
            break;
        case 6:
            fake_pass(&f, pick(4) ? pick(100000) : rnd() >> 36);
            break;
        default:
            broken += !cpu_takes(&f, cpu);
            if (!pick(100))
                saved_state(&f, cpu);
            if (!pick(1000))
                lapic_reset(L(&f, cpu), pick(2));
        }
        wrong += i % 64 == 0 && !ppr_right(&f, cpu);
    }
    is_u64(broken, 0, "what is pending can be taken, and only that");
    is_u64(wrong, 0, "PPR is always right");
    fake_fini(&f);
    return tap_done();
}
