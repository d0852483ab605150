// SPDX-License-Identifier: MIT
// One LAPIC: priorities, EOI, errors, both register doors, APIC_BASE, saved state.
#include "irq_fake.h"

#include <errno.h>

static void reset_state(void)
{
    struct fake f;

    fake_init(&f, 2);
    is_u64(rd(&f, 0, 0x20), 0, "ID of CPU 0");
    is_u64(rd(&f, 1, 0x20), 1 << 24, "ID of CPU 1");
    is_u64(rd(&f, 0, 0x30) & 0xff, 0x14, "version");
    is_u64(rd(&f, 0, 0x30) >> 16 & 0xff, 5, "max LVT");
    is_u64(rd(&f, 0, 0xe0), 0xffffffff, "DFR");
    is_u64(rd(&f, 0, 0xf0), 0xff, "SVR: software-disabled");
    is_u64(rd(&f, 0, 0x320), 0x10000, "LVT timer masked");
    is_u64(rd(&f, 0, 0x350), 0x700, "LINT0 of the BSP is ExtINT");
    is_u64(rd(&f, 1, 0x350), 0x10000, "LINT0 of an AP is masked");
    is_u64(rdmsr(&f, 0, 0x1b), 0xfee00900, "APIC_BASE of the BSP");
    is_u64(rdmsr(&f, 1, 0x1b), 0xfee00800, "APIC_BASE of an AP");
    is_u64(msi(&f, 0, false, 0x40), 0, "software-disabled: takes no interrupt");
    wr(&f, 0, 0x320, 0x40);
    is_u64(rd(&f, 0, 0x320), 0x10040, "software-disabled: LVT entries stay masked");
    wr(&f, 0, 0x20, 7u << 24);
    is_u64(rd(&f, 0, 0x20), 0, "ID is read-only");
    fake_fini(&f);
}

static void priorities(void)
{
    struct fake f;

    fake_init(&f, 1);
    software_enable(&f, 0);
    is_u64(lapic_intr_pending(L(&f, 0)), 0, "nothing pending");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), ~0u, "nothing to acknowledge");
    is_u64(msi(&f, 0, false, 0x31), 1, "MSI delivered");
    ok(requests(&f, 0) == (CPU_REQ_INTR | CPU_REQ_RECHECK),
       "the CPU is asked to look, and to recheck memory");
    ok(atomic_load(&f.v[0]->kicks) == 1, "and kicked");
    msi(&f, 0, false, 0x52);
    msi(&f, 0, false, 0x58);
    is_u64(rd(&f, 0, 0x210), 1u << 17, "IRR has 0x31");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x58, "highest vector first");
    is_u64(rd(&f, 0, 0xa0), 0x50, "PPR is its class");
    ok(!lapic_intr_pending(L(&f, 0)), "0x52 is of the same class: held");
    msi(&f, 0, false, 0x61);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x61, "a higher class nests");
    is_u64(rd(&f, 0, 0x130), 1u << 1, "ISR has 0x61");
    requests(&f, 0);
    wr(&f, 0, 0xb0, 0);
    is_u64(rd(&f, 0, 0xa0), 0x50, "EOI ends the highest");
    ok(!(requests(&f, 0) & CPU_REQ_INTR), "nothing more deliverable, nothing asked");
    wr(&f, 0, 0xb0, 0);
    ok(requests(&f, 0) & CPU_REQ_INTR, "EOI uncovers 0x52: the CPU is asked");
    lapic_cr8_write(L(&f, 0), 5);
    is_u64(rd(&f, 0, 0x80), 0x50, "CR8 is TPR");
    ok(!lapic_intr_pending(L(&f, 0)), "TPR of the same class holds it");
    wr(&f, 0, 0x80, 0x4f);
    is_u64(lapic_cr8_read(L(&f, 0)), 4, "TPR is CR8");
    is_u64(rd(&f, 0, 0xa0), 0x4f, "PPR is TPR when no service is above");
    ok(requests(&f, 0) & CPU_REQ_INTR, "a lower TPR asks");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x52, "0x52 now");
    wr(&f, 0, 0xb0, 0);
    wr(&f, 0, 0x80, 0);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x31, "0x31 last");
    wr(&f, 0, 0xb0, 0);
    wr(&f, 0, 0xb0, 0);
    is_u64(rd(&f, 0, 0xa0), 0, "an EOI too many does nothing");
    fake_fini(&f);
}

static void errors(void)
{
    struct fake f;

    fake_init(&f, 1);
    software_enable(&f, 0);
    wr(&f, 0, 0x370, 0x30); /* LVT error */
    msi(&f, 0, false, 5);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x30, "illegal vector raises LVT error");
    is_u64(rd(&f, 0, 0x280), 0, "ESR shows nothing before it is written");
    wr(&f, 0, 0x280, 0);
    is_u64(rd(&f, 0, 0x280), 1 << 6, "then received illegal vector");
    wr(&f, 0, 0x280, 0);
    is_u64(rd(&f, 0, 0x280), 0, "and is clear after the next write");
    wr(&f, 0, 0x300, 0x40003); /* self IPI, vector 3 */
    wr(&f, 0, 0x280, 0);
    is_u64(rd(&f, 0, 0x280), 1 << 5, "sent illegal vector");
    is_u64(rd(&f, 0, 0x40), 0, "reserved register reads 0");
    wr(&f, 0, 0x280, 0);
    is_u64(rd(&f, 0, 0x280), 1 << 7, "illegal register address");
    wr(&f, 0, 0x370, 0x3);
    msi(&f, 0, false, 5); /* must not recurse */
    ok(1, "an error entry with an illegal vector is harmless");
    fake_fini(&f);
}

static void software_disable(void)
{
    struct fake f;

    fake_init(&f, 1);
    software_enable(&f, 0);
    wr(&f, 0, 0x340, 0x400);
    is_u64(rd(&f, 0, 0x340), 0x400, "LVT PC as NMI");
    wr(&f, 0, 0x340, 0xffffffff);
    is_u64(rd(&f, 0, 0x340), 0x107ff, "reserved and status bits do not stick");
    wr(&f, 0, 0x340, 0x400);
    msi(&f, 0, false, 0x44);
    wr(&f, 0, 0xf0, 0xff);
    is_u64(rd(&f, 0, 0x340), 0x10400, "software disable masks the LVT");
    is_u64(msi(&f, 0, false, 0x45), 0, "and takes no more");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x44, "what was pending stays deliverable");
    fake_fini(&f);
}

static void apic_base(void)
{
    struct fake f;
    u64 v;

    fake_init(&f, 1);
    is_u64(wrmsr(&f, 0, 0x1b, 0xfee00d00), 0, "xAPIC to x2APIC");
    ok(!irqchip_mmio_read(f.chip, L(&f, 0), 0xfee00020, &v, 4), "no page in x2APIC mode");
    is_u64((u32)wrmsr(&f, 0, 0x1b, 0xfee00900), (u32)-EINVAL, "x2APIC to xAPIC: #GP");
    is_u64(wrmsr(&f, 0, 0x1b, 0xfee00100), 0, "x2APIC to off");
    is_u64((u32)wrmsr(&f, 0, 0x1b, 0xfee00d00), (u32)-EINVAL, "off to x2APIC: #GP");
    is_u64((u32)wrmsr(&f, 0, 0x1b, 0xfee00500), (u32)-EINVAL, "x2APIC without enable: #GP");
    is_u64(msi(&f, 0, false, 0x40), 0, "off: takes nothing");
    is_u64(f.v[0]->cpuid[0].edx >> 9 & 1, 0, "off: not in CPUID");
    is_u64(wrmsr(&f, 0, 0x1b, 0xfee00900), 0, "off to xAPIC");
    is_u64(f.v[0]->cpuid[0].edx >> 9 & 1, 1, "in CPUID again");
    is_u64(rd(&f, 0, 0xf0), 0xff, "which is a reset");
    is_u64((u32)wrmsr(&f, 0, 0x1b, 0xfee00902), (u32)-EINVAL, "reserved bit: #GP");
    is_u64((u32)wrmsr(&f, 0, 0x1b, 0xfee00900 | BIT(46)), (u32)-EINVAL, "beyond MAXPHYADDR: #GP");
    is_u64(wrmsr(&f, 0, 0x1b, 0x10000900), 0, "the page moves");
    ok(irqchip_mmio_read(f.chip, L(&f, 0), 0x10000020, &v, 4), "and answers at its new place");
    ok(!irqchip_mmio_read(f.chip, L(&f, 0), 0xfee00020, &v, 4), "not at the old one");
    f.v[0]->cpuid[0].ecx = 0;
    is_u64((u32)wrmsr(&f, 0, 0x1b, 0x10000d00), (u32)-EINVAL, "no x2APIC in CPUID: #GP");
    fake_fini(&f);
}

static void x2apic_msrs(void)
{
    static const u32 no_read[] = {0x80b, 0x83f, 0x800, 0x809, 0x80c,
                                  0x80e, 0x82f, 0x831, 0x840, 0x8ff};
    static const u32 no_write[] = {0x802, 0x803, 0x80a, 0x80d, 0x810,
                                   0x820, 0x839, 0x82f, 0x831, 0x840};
    static const struct {
        u32 msr;
        u64 val;
    } gp[] = {
        {0x808, 0x100},  {0x80b, 1},       {0x80f, 0x1000},  {0x828, 1},     {0x830, 0x100000},
        {0x830, 0x2000}, {0x832, 0x80000}, {0x835, 0x20000}, {0x837, 0x100}, {0x838, BIT(32)},
        {0x83e, 4},      {0x83f, 0x100},   {0x808, BIT(32)},
    };
    struct fake f;
    u64 v;
    int bad = 0;

    fake_init(&f, 18);
    is_u64((u32)lapic_msr_read(L(&f, 0), 0x808, &v, false), (u32)-EINVAL,
           "xAPIC mode: x2APIC MSRs #GP");
    is_u64((u32)lapic_msr_read(L(&f, 0), 0x10, &v, false), (u32)-ENOENT, "other MSRs are not ours");
    x2apic_enable(&f, 0);
    x2apic_enable(&f, 17);
    for (unsigned i = 0; i < ARRAY_SIZE(no_read); i++)
        bad += lapic_msr_read(L(&f, 0), no_read[i], &v, false) != -EINVAL;
    is_u64(bad, 0, "write-only and absent MSRs cannot be read");
    bad = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(no_write); i++)
        bad += wrmsr(&f, 0, no_write[i], 0) != -EINVAL;
    is_u64(bad, 0, "read-only and absent MSRs cannot be written");
    for (unsigned i = 0; i < ARRAY_SIZE(gp); i++)
        is_u64((u32)wrmsr(&f, 0, gp[i].msr, gp[i].val), (u32)-EINVAL, "reserved bits of %x: #GP",
               gp[i].msr);
    is_u64(rdmsr(&f, 17, 0x802), 17, "ID is 32 bits");
    is_u64(rdmsr(&f, 17, 0x80d), 1 << 16 | 2, "logical ID follows from it");
    is_u64(wrmsr(&f, 0, 0x83f, 0x77), 0, "self IPI");
    ok(requests(&f, 0) == CPU_REQ_INTR, "an IPI does not make memory suspect");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x77, "arrives");
    is_u64(rdmsr(&f, 0, 0x813), 1u << 23, "ISR through the MSR");
    is_u64(wrmsr(&f, 0, 0x80b, 0), 0, "EOI");
    is_u64(rdmsr(&f, 0, 0x813), 0, "ISR empty");
    is_u64(wrmsr(&f, 0, 0x830, 17ull << 32 | 0x41), 0, "ICR with a 32-bit destination");
    is_u64(rdmsr(&f, 0, 0x830), 17ull << 32 | 0x41, "ICR reads back whole");
    is_u64((u32)lapic_intr_ack(L(&f, 17)), 0x41, "IPI arrives at 17");
    fake_fini(&f);
}

static void state(void)
{
    struct kvm_lapic_state a, b;
    struct fake f;
    u32 w;

    fake_init(&f, 2);
    software_enable(&f, 1);
    wr(&f, 1, 0xd0, 0x02000000);
    wr(&f, 1, 0x80, 0x20);
    wr(&f, 1, 0x320, 0x20031);
    wr(&f, 1, 0x3e0, 0xb);
    wr(&f, 1, 0x380, 1000000);
    msi(&f, 1, false, 0x45);
    msi(&f, 1, false, 0x93);
    lapic_intr_ack(L(&f, 1));
    f.ns += 250000;
    lapic_state_get(L(&f, 1), &a);
    memcpy(&w, &a.regs[0x20], 4);
    is_u64(w, 1 << 24, "saved ID in xAPIC form");
    memcpy(&w, &a.regs[0x390], 4);
    is_u64(w, 750000, "saved current count");
    lapic_reset(L(&f, 1), false);
    ok(!lapic_intr_pending(L(&f, 1)), "reset drops all");
    is_u64(lapic_state_set(L(&f, 1), &a), 0, "restore");
    lapic_state_get(L(&f, 1), &b);
    ok(!memcmp(&a, &b, sizeof(a)), "state survives get, reset, set, get");
    ok(!lapic_intr_pending(L(&f, 1)), "0x93 in service holds 0x45");
    wr(&f, 1, 0xb0, 0);
    is_u64((u32)lapic_intr_ack(L(&f, 1)), 0x45, "then it comes");
    is_u64(lapic_next_deadline_ns(L(&f, 1)), f.ns + 750000, "the timer goes on where it was");

    x2apic_enable(&f, 1);
    lapic_state_get(L(&f, 1), &a);
    memcpy(&w, &a.regs[0x20], 4);
    is_u64(w, 1 << 24, "x2APIC: ID in xAPIC form still, by default");
    b = a;
    b.regs[0x23] = 9;
    is_u64(lapic_state_set(L(&f, 1), &b), 0, "a foreign ID by one who does not know of 32-bit IDs");
    lapic_state_get(L(&f, 1), &b);
    is_u64((u8)b.regs[0x23], 1, "is ignored");
    is_u64(irqchip_x2apic_api(f.chip, KVM_X2APIC_API_USE_32BIT_IDS), 0, "KVM_CAP_X2APIC_API");
    lapic_state_get(L(&f, 1), &b);
    memcpy(&w, &b.regs[0x20], 4);
    is_u64(w, 1, "then in 32-bit form");
    is_u64((u32)lapic_state_set(L(&f, 1), &a), (u32)-EINVAL, "a foreign ID is refused");
    is_u64((u32)irqchip_x2apic_api(f.chip, 4), (u32)-EINVAL, "unknown flag");
    fake_fini(&f);
}

static void split(void)
{
    struct kvm_msi m = {.address_lo = 0xfee00000, .data = 0xc000 | 0x5a};
    struct fake f;

    fake_init(&f, 1);
    is_u64(irqchip_split(f.chip), 0, "split irqchip");
    ok(irqchip_set_irq(f.chip, 5, 1, IRQ_SOURCE_USER) < 0, "routes nothing of its own");
    software_enable(&f, 0);
    irqchip_signal_msi(f.chip, &m);
    m.data = 0xc000 | 0x9f;
    irqchip_signal_msi(f.chip, &m);
    msi(&f, 0, false, 0xb0);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0xb0, "an edge");
    wr(&f, 0, 0xb0, 0);
    is_u64((u32)lapic_eoi_exit_take(L(&f, 0)), ~0u, "an edge's EOI is nobody's business");
    requests(&f, 0);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x9f, "a level");
    wr(&f, 0, 0xb0, 0);
    ok(requests(&f, 0) & CPU_REQ_EXIT, "whose EOI asks out of guest code");
    lapic_intr_ack(L(&f, 0));
    wr(&f, 0, 0xb0, 0);
    is_u64((u32)lapic_eoi_exit_take(L(&f, 0)), 0x5a, "for one vector");
    is_u64((u32)lapic_eoi_exit_take(L(&f, 0)), 0x9f, "and the other");
    is_u64((u32)lapic_eoi_exit_take(L(&f, 0)), ~0u, "once");
    fake_fini(&f);
}

static void reset_kinds(void)
{
    struct fake f;

    fake_init(&f, 2);
    x2apic_enable(&f, 1);
    wrmsr(&f, 1, 0x808, 0x30);
    lapic_reset(L(&f, 1), true);
    is_u64(rdmsr(&f, 1, 0x1b), 0xfee00c00, "INIT keeps x2APIC mode");
    is_u64(rdmsr(&f, 1, 0x808), 0, "and resets registers");
    is_u64(rdmsr(&f, 1, 0x80d), 2, "but for the logical ID");
    lapic_reset(L(&f, 1), false);
    is_u64(rdmsr(&f, 1, 0x1b), 0xfee00800, "power-up goes back to xAPIC");
    fake_fini(&f);
}

int main(void)
{
    reset_state();
    priorities();
    errors();
    software_disable();
    apic_base();
    x2apic_msrs();
    state();
    split();
    reset_kinds();
    return tap_done();
}
