// SPDX-License-Identifier: MIT
// The 8254: modes 0 to 5, latches, gate and OUT through port 0x61, the ticks on GSI 0 and what is owed of them.
#include "irq_fake.h"

#include <errno.h>

#define HZ        1193182.0
#define CLOCKS(n) ((u64)((n)*1e9 / HZ + 1))

static void start(struct fake *f)
{
    fake_init(f, 1);
    if (irqchip_pit_create(f->chip, KVM_PIT_SPEAKER_DUMMY))
        abort();
    /* PIC as a PC's firmware sets it up; IRQ 0 only. */
    outb(f, 0x20, 0x11);
    outb(f, 0x21, 0x20);
    outb(f, 0x21, 0x04);
    outb(f, 0x21, 0x01);
    outb(f, 0x21, 0xfe);
}

static void load16(struct fake *f, unsigned ch, u8 control, u16 count)
{
    outb(f, 0x43, control);
    outb(f, 0x40 + ch, (u8)count);
    outb(f, 0x40 + ch, (u8)(count >> 8));
}

static u16 read16(struct fake *f, unsigned ch)
{
    u8 lo = inb(f, 0x40 + ch);

    return (u16)(lo | inb(f, 0x40 + ch) << 8);
}

static bool out2(struct fake *f)
{
    return inb(f, 0x61) & 0x20;
}

static bool near(u16 a, u16 b)
{
    return (u16)(a - b + 1) <= 2;
}

static void counting(void)
{
    struct fake f;
    u16 a;

    start(&f);
    outb(&f, 0x61, 1);
    load16(&f, 2, 0xb0, 0xffff);
    f.ns += CLOCKS(1000);
    ok(near(read16(&f, 2), 0xffff - 1000), "mode 0 counts down in real time");
    outb(&f, 0x43, 0x80);
    a = 0xffff - 1000;
    f.ns += CLOCKS(500);
    ok(near(read16(&f, 2), a), "latched count stands");
    ok(near(read16(&f, 2), a - 500), "and then lives on");
    ok(!out2(&f), "OUT low while counting");
    f.ns += CLOCKS(0xffff);
    ok(out2(&f), "OUT high at the end");
    ok(read16(&f, 2) > 0xf000, "the count wraps");

    load16(&f, 2, 0xb0, 1193); /* as a kernel measures its TSC: a millisecond */
    f.ns += 999000;
    ok(!out2(&f), "999 us: not yet");
    f.ns += 2000;
    ok(out2(&f), "1001 us: done");

    load16(&f, 2, 0xb0, 1000);
    f.ns += CLOCKS(400);
    outb(&f, 0x61, 0);
    f.ns += CLOCKS(5000);
    ok(near(read16(&f, 2), 600), "gate low: the count stands");
    outb(&f, 0x61, 1);
    f.ns += CLOCKS(500);
    ok(near(read16(&f, 2), 100) && !out2(&f), "gate high: it goes on");

    load16(&f, 2, 0xb4, 100);
    f.ns += CLOCKS(250);
    ok(near(read16(&f, 2), 50), "mode 2 starts over");
    ok(out2(&f), "OUT is high");
    f.ns += CLOCKS(49);
    ok(!out2(&f), "but for the last clock");
    load16(&f, 2, 0xb6, 1000);
    f.ns += CLOCKS(100);
    ok(near(read16(&f, 2), 800), "mode 3 counts by two");
    ok(out2(&f), "OUT high in the first half");
    f.ns += CLOCKS(500);
    ok(!out2(&f), "low in the second");
    ok(near(read16(&f, 2), 800), "which counts the same");
    load16(&f, 2, 0xb8, 1000);
    f.ns += CLOCKS(500);
    ok(out2(&f), "mode 4: OUT high");
    load16(&f, 2, 0xb2, 1000);
    f.ns += CLOCKS(100);
    ok(out2(&f), "mode 1: OUT high before the gate's edge");
    outb(&f, 0x61, 0);
    outb(&f, 0x61, 1);
    f.ns += CLOCKS(900);
    ok(!out2(&f), "low after it");
    f.ns += CLOCKS(200);
    ok(out2(&f), "and high at the end");
    fake_fini(&f);
}

static void access_modes(void)
{
    struct fake f;

    start(&f);
    outb(&f, 0x61, 1);
    outb(&f, 0x43, 0x90); /* low byte only */
    outb(&f, 0x42, 200);
    is_u64(inb(&f, 0x42), 200, "low byte only");
    outb(&f, 0x43, 0xa0); /* high byte only */
    outb(&f, 0x42, 0x12);
    is_u64(inb(&f, 0x42), 0x12, "high byte only");
    outb(&f, 0x43, 0xe8); /* read-back: status of channel 2 */
    is_u64(inb(&f, 0x42), 0x20, "status: OUT low, high byte, mode 0");
    load16(&f, 2, 0xb4, 0x1234);
    outb(&f, 0x43, 0xc8); /* read-back: count and status */
    f.ns += CLOCKS(0x200);
    is_u64(inb(&f, 0x42), 0xb4, "status first: OUT high, word, mode 2");
    is_u64(read16(&f, 2), 0x1234, "then the latched count");
    ok(near(read16(&f, 2), 0x1034), "then the live one");
    load16(&f, 2, 0xbe, 1000);
    outb(&f, 0x43, 0xe8);
    is_u64(inb(&f, 0x42) & 0xe, 6, "mode 7 is mode 3");
    load16(&f, 2, 0xb1, 0x1000);
    f.ns += CLOCKS(1);
    ok(read16(&f, 2) == 0x0999 || read16(&f, 2) == 0x0998, "BCD");
    load16(&f, 2, 0xb0, 0);
    f.ns += CLOCKS(0x8000);
    ok(near(read16(&f, 2), 0x8000) && !out2(&f), "0 is 65536");
    is_u64(inb(&f, 0x43), 0, "the control port cannot be read");
    outb(&f, 0x61, 3);
    is_u64(inb(&f, 0x61) & 0xf, 3, "gate and speaker read back");
    fake_fini(&f);
}

/* Ticks that the guest can take now, with an EOI each. */
static unsigned take(struct fake *f, unsigned max)
{
    unsigned n = 0;

    while (n < max && lapic_intr_ack(L(f, 0)) == 0x20) {
        outb(f, 0x20, 0x20);
        irqchip_service(f->chip);
        n++;
    }
    return n;
}

static void ticks(void)
{
    struct fake f;

    start(&f);
    fake_pass(&f, 1000000000);
    is_u64(take(&f, 10), 0, "silent before it is loaded");
    load16(&f, 0, 0x34, 11932); /* 100 Hz */
    fake_pass(&f, 9990000);
    is_u64(take(&f, 10), 0, "no tick before its time");
    requests(&f, 0);
    fake_pass(&f, 20000);
    ok(requests(&f, 0) == CPU_REQ_INTR, "a tick does not make memory suspect");
    is_u64(take(&f, 10), 1, "a tick after 10 ms");
    fake_pass(&f, 50000000);
    is_u64(take(&f, 100), 5, "ticks that were missed come one by one");
    fake_pass(&f, 10000000);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x20, "one is in service");
    fake_pass(&f, 10000000);
    ok(!lapic_intr_pending(L(&f, 0)), "the next waits for its EOI");
    outb(&f, 0x20, 0x20);
    irqchip_service(f.chip);
    is_u64(take(&f, 10), 1, "and then comes");

    outb(&f, 0x21, 0xff);
    fake_pass(&f, 1000000000);
    take(&f, 1000);
    outb(&f, 0x21, 0xfe);
    ok(take(&f, 1000) <= 1, "what went by under the mask is not owed");
    fake_pass(&f, 10000000);
    ok(take(&f, 10) >= 1, "but it ticks on");

    is_u64(irqchip_pit_reinject(f.chip, false), 0, "without reinjection");
    fake_pass(&f, 50000000);
    ok(take(&f, 100) <= 1, "missed ticks are one");
    fake_pass(&f, 10000000);
    is_u64(take(&f, 100), 1, "the next is on time");

    irqchip_pit_reinject(f.chip, true);
    load16(&f, 0, 0x30, 11932);
    fake_pass(&f, 10010000);
    is_u64(take(&f, 10), 1, "mode 0: once");
    fake_pass(&f, 100000000);
    is_u64(take(&f, 10), 0, "and no more");
    load16(&f, 0, 0x38, 11932);
    fake_pass(&f, 10010000);
    is_u64(take(&f, 10), 1, "mode 4: once");
    load16(&f, 0, 0x36, 11932);
    fake_pass(&f, 30030000);
    is_u64(take(&f, 10), 3, "mode 3: each period");
    outb(&f, 0x43, 0x30);
    fake_pass(&f, 100000000);
    is_u64(take(&f, 10), 0, "a control word stops the channel until it is loaded");
    fake_fini(&f);
}

static void through_ioapic(void)
{
    struct fake f;

    start(&f);
    outb(&f, 0x21, 0xff);
    software_enable(&f, 0);
    redir(&f, 0, 0x30);
    load16(&f, 0, 0x34, 11932);
    fake_pass(&f, 30050000);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x30, "tick by the IOAPIC");
    wr(&f, 0, 0xb0, 0);
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x30, "its EOI, though an edge's, brings the next");
    wr(&f, 0, 0xb0, 0);
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x30, "and the third");
    wr(&f, 0, 0xb0, 0);
    irqchip_service(f.chip);
    ok(!lapic_intr_pending(L(&f, 0)), "none is owed");
    redir(&f, 0, BIT(16) | 0x30);
    fake_pass(&f, 500000000);
    redir(&f, 0, 0x30);
    irqchip_service(f.chip);
    fake_pass(&f, 10000000);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x30, "unmasking the pin starts afresh");
    wr(&f, 0, 0xb0, 0);
    fake_fini(&f);
}

static void state(void)
{
    struct kvm_pit_state2 a, b;
    struct fake f, g;

    fake_init(&f, 1);
    is_u64((u32)irqchip_pit_get(f.chip, &a), (u32)-ENXIO, "no PIT");
    is_u64((u32)irqchip_pit_create(f.chip, 2), (u32)-EINVAL, "unknown flag");
    fake_fini(&f);
    start(&f);
    start(&g);
    is_u64((u32)irqchip_pit_create(f.chip, 0), (u32)-EEXIST, "a PIT twice");
    outb(&f, 0x61, 3);
    load16(&f, 0, 0x34, 11932);
    load16(&f, 2, 0xb0, 5000);
    outb(&f, 0x43, 0x80);
    is_u64(irqchip_pit_get(f.chip, &a), 0, "get");
    is_u64(a.channels[0].count, 11932, "count");
    is_u64(a.channels[0].mode, 2, "mode");
    is_u64(a.channels[2].gate, 1, "gate");
    is_u64(a.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON, "speaker");
    is_u64(irqchip_pit_set(g.chip, &a), 0, "set elsewhere");
    irqchip_pit_get(g.chip, &b);
    ok(!memcmp(&a, &b, sizeof(a)), "state survives the move");
    is_u64(read16(&g, 2), 5000, "the latch too");
    fake_pass(&g, 10010000);
    is_u64(take(&g, 10), 1, "and it ticks there");
    memset(&a, 0xff, sizeof(a));
    is_u64(irqchip_pit_set(g.chip, &a), 0, "any state is taken");
    for (unsigned i = 0; i < 4; i++)
        inb(&g, 0x40 + i);
    fake_pass(&g, 1000000000);
    a.flags = KVM_PIT_FLAGS_HPET_LEGACY;
    irqchip_pit_set(g.chip, &a);
    fake_pass(&g, 1000000000);
    ok(1, "and harmless");
    fake_fini(&f);
    fake_fini(&g);
}

int main(void)
{
    counting();
    access_modes();
    ticks();
    through_ioapic();
    state();
    return tap_done();
}
