// SPDX-License-Identifier: MIT
// Interrupt commands: destinations of every kind, shorthands, NMI, INIT and SIPI, hypercalls.
#include "irq_fake.h"

#include <errno.h>
#include <linux/kvm_para.h>

/* Bit per CPU that has (vector) deliverable; takes it and ends it. */
static u32 who_got(struct fake *f, u8 vector)
{
    u32 set = 0;

    for (unsigned i = 0; i < f->n; i++) {
        if (lapic_intr_ack(L(f, i)) != vector)
            continue;
        set |= 1u << i;
        if (rdmsr(f, i, 0x1b) & BIT(10))
            wrmsr(f, i, 0x80b, 0);
        else
            wr(f, i, 0xb0, 0);
    }
    return set;
}

static void icr(struct fake *f, unsigned from, u32 dest, u32 low)
{
    wr(f, from, 0x310, dest << 24);
    wr(f, from, 0x300, low);
}

static void xapic(void)
{
    struct fake f;

    fake_init(&f, 6);
    for (unsigned i = 0; i < 5; i++) /* 5 stays software-disabled */
        software_enable(&f, i);
    icr(&f, 0, 3, 0x40);
    is_u64(who_got(&f, 0x40), 1 << 3, "physical");
    is_u64(rd(&f, 0, 0x300), 0x40, "delivery status is idle");
    icr(&f, 0, 0xa5, 0xa5a5b0a5);
    is_u64(rd(&f, 0, 0x300), 0xa5a5a0a5, "reserved bits read back, the busy bit does not");
    is_u64(rd(&f, 0, 0x310), 0xa5000000, "of the high half the destination alone");
    is_u64(who_got(&f, 0xa5), 1, "and it is a self IPI");
    icr(&f, 1, 0xff, 0x41);
    is_u64(who_got(&f, 0x41), 0x1f, "physical broadcast, without the disabled one");
    icr(&f, 1, 0, 0x40042);
    is_u64(who_got(&f, 0x42), 1 << 1, "self");
    icr(&f, 1, 0, 0x80043);
    is_u64(who_got(&f, 0x43), 0x1f, "all including self");
    icr(&f, 1, 0, 0xc0044);
    is_u64(who_got(&f, 0x44), 0x1d, "all excluding self");
    icr(&f, 0, 9, 0x45);
    is_u64(who_got(&f, 0x45), 0, "nobody has this ID");

    for (unsigned i = 0; i < 5; i++)
        wr(&f, i, 0xd0, 1u << (24 + i));
    icr(&f, 0, 0x0a, 0x846);
    is_u64(who_got(&f, 0x46), 0x0a, "logical flat");
    for (unsigned i = 0; i < 5; i++) {
        wr(&f, i, 0xe0, 0x0fffffff);
        wr(&f, i, 0xd0, (i / 4) << 28 | 1u << (24 + i % 4));
    }
    icr(&f, 0, 0x05, 0x847);
    is_u64(who_got(&f, 0x47), 0x05, "logical cluster 0");
    icr(&f, 0, 0x11, 0x848);
    is_u64(who_got(&f, 0x48), 0x10, "logical cluster 1");
    icr(&f, 0, 0xff, 0x849);
    is_u64(who_got(&f, 0x49), 0x1f, "logical broadcast");
    is_u64(msi(&f, 0x0f, true, 0x4a), 4, "logical MSI counts those who took it");
    is_u64(who_got(&f, 0x4a), 0x0f, "and goes to them");
    fake_fini(&f);
}

static void x2apic(void)
{
    struct fake f;

    fake_init(&f, 20);
    for (unsigned i = 0; i < 20; i++)
        x2apic_enable(&f, i);
    wrmsr(&f, 0, 0x830, 19ull << 32 | 0x40);
    is_u64(who_got(&f, 0x40), 1 << 19, "x2APIC physical");
    wrmsr(&f, 0, 0x830, 0xffffffff00000041);
    is_u64(who_got(&f, 0x41), 0xfffff, "x2APIC broadcast");
    wrmsr(&f, 0, 0x830, 0xff00000042);
    is_u64(who_got(&f, 0x42), 0, "0xff is an ID like another");
    wrmsr(&f, 0, 0x830, 0x0001000500000843);
    is_u64(who_got(&f, 0x43), 0x50000, "x2APIC logical cluster 1");
    wrmsr(&f, 0, 0x830, 0xc0044);
    is_u64(who_got(&f, 0x44), 0xffffe, "x2APIC all but self");
    is_u64(msi(&f, 0xff, false, 0x45), 20, "an MSI to 0xff is a broadcast");
    who_got(&f, 0x45);
    irqchip_x2apic_api(f.chip, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    is_u64(msi(&f, 0xff, false, 0x45), 0, "unless the quirk is off");
    fake_fini(&f);
}

static void wide_msi(void)
{
    struct kvm_msi m = {.address_lo = 0xfee03000, .address_hi = 0, .data = 0x51};
    struct fake f;

    fake_init(&f, 4);
    x2apic_enable(&f, 3);
    is_u64(irqchip_signal_msi(f.chip, &m), 1, "MSI by its low address");
    m.address_hi = 0x100;
    is_u64(irqchip_signal_msi(f.chip, &m), 1, "8-bit IDs: the high address is ignored");
    irqchip_x2apic_api(f.chip, KVM_X2APIC_API_USE_32BIT_IDS);
    is_u64(irqchip_signal_msi(f.chip, &m), 0, "32-bit IDs: it is part of the destination");
    m.address_hi = 1;
    is_u64((u32)irqchip_signal_msi(f.chip, &m), (u32)-EINVAL, "and its low byte must be 0");
    m.address_hi = 0;
    m.flags = 1;
    is_u64((u32)irqchip_signal_msi(f.chip, &m), (u32)-EINVAL, "flags are refused");
    fake_fini(&f);
}

static void lowest(void)
{
    struct fake f;
    u32 got = 0;

    fake_init(&f, 4);
    for (unsigned i = 0; i < 4; i++) {
        software_enable(&f, i);
        wr(&f, i, 0xd0, 1u << (24 + i));
    }
    wr(&f, 0, 0x80, 0x50);
    wr(&f, 2, 0x80, 0x60);
    for (u8 v = 0; v < 2; v++) {
        icr(&f, 0, 0x0f, 0x940 + v);
        got |= who_got(&f, 0x40 + v);
    }
    is_u64(got, 0x0a, "lowest priority takes turns among those of least PPR");
    icr(&f, 0, 0x05, 0x942);
    wr(&f, 0, 0x80, 0);
    wr(&f, 2, 0x80, 0);
    is_u64(who_got(&f, 0x42), 1, "and goes to one of the group only");
    fake_fini(&f);
}

static void events(void)
{
    struct fake f;
    u8 vector = 0xee;

    fake_init(&f, 3);
    software_enable(&f, 0);
    requests(&f, 1);
    icr(&f, 0, 1, 0xc500); /* INIT, level, assert: to a software-disabled APIC */
    ok(lapic_events_pending(L(&f, 1)), "INIT reaches a software-disabled APIC");
    ok(requests(&f, 1) & CPU_REQ_EXIT, "and asks it out of guest code");
    icr(&f, 0, 1, 0x8500); /* INIT level de-assert */
    is_u64(lapic_events_take(L(&f, 1), &vector), LAPIC_EVENT_INIT, "the de-assert adds nothing");
    is_u64(vector, 0xee, "no SIPI vector yet");
    icr(&f, 0, 1, 0x8500);
    ok(!lapic_events_pending(L(&f, 1)), "de-assert alone is nothing");
    icr(&f, 0, 1, 0x469a & ~0x4000u);
    is_u64(lapic_events_take(L(&f, 1), &vector), LAPIC_EVENT_SIPI, "SIPI");
    is_u64(vector, 0x9a, "with its vector");
    icr(&f, 0, 1, 0x611);
    icr(&f, 0, 1, 0x500);
    is_u64(lapic_events_take(L(&f, 1), &vector), LAPIC_EVENT_INIT,
           "INIT undoes a SIPI not yet taken");
    icr(&f, 0, 0, 0xc4400);
    is_u64(lapic_events_take(L(&f, 0), &vector), 0, "NMI to all but self: not to self");
    is_u64(lapic_events_take(L(&f, 2), &vector), LAPIC_EVENT_NMI, "but to the others");
    for (int i = 0; i < 3; i++)
        icr(&f, 0, 2, 0x4400);
    is_u64(lapic_events_take(L(&f, 2), &vector), LAPIC_EVENT_NMI | LAPIC_EVENT_NMI2,
           "two NMIs can wait");
    icr(&f, 0, 2, 0x200);
    is_u64(lapic_events_take(L(&f, 2), &vector), LAPIC_EVENT_SMI, "SMI");
    wrmsr(&f, 2, 0x1b, 0xfee00000);
    icr(&f, 0, 2, 0x500);
    ok(!lapic_events_pending(L(&f, 2)), "an APIC that is off gets nothing");
    fake_fini(&f);
}

static s64 call(struct fake *f, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
    struct cpu *c = &f->v[0]->cpu;
    u64 r[] = {nr, a0, a1, a2, a3};
    static const u8 reg[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI};

    for (unsigned i = 0; i < 5; i++)
        c->r[reg[i]] = r[i];
    pv_hypercall(c, L(f, 0), NULL);
    return (s64)c->r[REG_RAX];
}

static void hypercalls(void)
{
    struct fake f;
    unsigned kicks;

    fake_init(&f, 4);
    for (unsigned i = 0; i < 4; i++)
        software_enable(&f, i);
    is_u64(call(&f, KVM_HC_SEND_IPI, 0xe, 0, 0, 0x51), 3, "SEND_IPI counts");
    is_u64(who_got(&f, 0x51), 0xe, "and delivers");
    is_u64(call(&f, KVM_HC_SEND_IPI, 3, 1, 2, 0x52), 2, "bitmap from an offset");
    is_u64(who_got(&f, 0x52), 0xc, "counts from there");
    is_u64(call(&f, KVM_HC_SEND_IPI, ~0ull, ~0ull, 0, 0x53), 4, "absent IDs are skipped");
    who_got(&f, 0x53);
    is_u64(call(&f, KVM_HC_SEND_IPI, 1, 0, 0, 0x80053), (u64)-KVM_EINVAL, "shorthand in the ICR");
    is_u64(call(&f, KVM_HC_SEND_IPI, 1, 0, ~0ull, 0x53), 0, "offset beyond all IDs");
    kicks = atomic_load(&f.v[2]->kicks);
    is_u64(call(&f, KVM_HC_KICK_CPU, 0, 2, 0, 0), 0, "KICK_CPU");
    ok(atomic_load(&f.v[2]->kicks) == kicks + 1, "kicks");
    ok(lapic_unhalt_take(L(&f, 2)) && !lapic_unhalt_take(L(&f, 2)), "and unhalts once");
    is_u64(call(&f, KVM_HC_KICK_CPU, 0, ~0ull, 0, 0), 0, "kick of nobody");
    is_u64(call(&f, 999, 0, 0, 0, 0), (u64)-KVM_ENOSYS, "unknown hypercall");
    f.v[0]->cpu.cpl = 3;
    is_u64(call(&f, KVM_HC_SCHED_YIELD, 0, 0, 0, 0), (u64)-KVM_EPERM, "not from user mode");
    f.v[0]->cpu.cpl = 0;
    f.v[0]->cpu.mode = MODE_32;
    is_u64(call(&f, KVM_HC_SEND_IPI | BIT(32), 2 | BIT(40), 0, 0, 0x54), 1,
           "32-bit code: low halves only");
    is_u64(who_got(&f, 0x54), 2, "to CPU 1");
    is_u64(call(&f, 999, 0, 0, 0, 0), (u32)-KVM_ENOSYS, "and a 32-bit result");
    fake_fini(&f);
}

static void create(void)
{
    struct fake f;
    struct lapic *l;

    fake_init(&f, 1);
    is_u64((u32)lapic_create(&l, f.chip, &f.v[0]->cpu, 0, false, fake_kick, NULL), (u32)-EEXIST,
           "an ID twice");
    is_u64((u32)lapic_create(&l, f.chip, &f.v[0]->cpu, 5000, false, fake_kick, NULL), (u32)-EINVAL,
           "an ID too large");
    is_u64(lapic_create(&l, f.chip, &f.v[0]->cpu, 1023, false, fake_kick, f.v[0]), 0,
           "the largest ID");
    lapic_base_set(l, 0xfee00c00);
    lapic_msr_write(l, 0x80f, 0x1ff, false);
    x2apic_enable(&f, 0);
    wrmsr(&f, 0, 0x830, 1023ull << 32 | 0x40);
    is_u64((u32)lapic_intr_ack(l), 0x40, "is reached");
    lapic_free(l);
    wrmsr(&f, 0, 0x830, 1023ull << 32 | 0x40);
    ok(1, "and is gone after free");
    fake_fini(&f);
}

int main(void)
{
    xapic();
    x2apic();
    wide_msi();
    lowest();
    events();
    hypercalls();
    create();
    return tap_done();
}
