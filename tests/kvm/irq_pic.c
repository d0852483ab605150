// SPDX-License-Identifier: MIT
// The 8259 pair: set-up, cascade, priorities and rotation, EOI kinds, masks, poll, ExtINT into a LAPIC.
#include "irq_fake.h"

static void init_pics(struct fake *f, u8 icw4)
{
    outb(f, 0x20, 0x11);
    outb(f, 0x21, 0x20);
    outb(f, 0x21, 0x04);
    outb(f, 0x21, icw4);
    outb(f, 0xa0, 0x11);
    outb(f, 0xa1, 0x28);
    outb(f, 0xa1, 0x02);
    outb(f, 0xa1, icw4);
}

static void start(struct fake *f)
{
    fake_init(f, 2);
    init_pics(f, 0x01);
}

static int pulse(struct fake *f, u32 irq)
{
    int rc = irqchip_set_irq(f->chip, irq, 1, IRQ_SOURCE_USER);

    irqchip_set_irq(f->chip, irq, 0, IRQ_SOURCE_USER);
    return rc;
}

static int ack(struct fake *f)
{
    return lapic_intr_ack(L(f, 0));
}

static void basics(void)
{
    struct fake f;

    start(&f);
    is_u64(inb(&f, 0x21), 0, "initialising clears the mask");
    outb(&f, 0x21, 0xfb);
    outb(&f, 0xa1, 0xff);
    is_u64(inb(&f, 0x21) << 8 | inb(&f, 0xa1), 0xfbff, "masks read back");
    pulse(&f, 4);
    ok(!lapic_intr_pending(L(&f, 0)), "masked");
    is_u64(inb(&f, 0x20), 1 << 4, "but latched in IRR");
    requests(&f, 0);
    outb(&f, 0x21, 0x00);
    ok(requests(&f, 0) & CPU_REQ_INTR, "unmasking asks the BSP");
    ok(!(requests(&f, 1) & CPU_REQ_INTR), "and not the AP, whose LINT0 is masked");
    ok(lapic_intr_pending(L(&f, 0)) && !lapic_intr_pending(L(&f, 1)), "INTR reaches the BSP alone");
    is_u64((u32)ack(&f), 0x24, "vector");
    outb(&f, 0x20, 0x0b);
    is_u64(inb(&f, 0x20), 1 << 4, "ISR by OCW3");
    outb(&f, 0x20, 0x0a);
    is_u64(inb(&f, 0x20), 0, "IRR by OCW3");
    pulse(&f, 5);
    ok(!lapic_intr_pending(L(&f, 0)), "a lower priority waits");
    pulse(&f, 1);
    is_u64((u32)ack(&f), 0x21, "a higher one nests");
    outb(&f, 0x20, 0x20);
    ok(!lapic_intr_pending(L(&f, 0)), "unspecific EOI ends the higher one");
    outb(&f, 0x20, 0x20);
    is_u64((u32)ack(&f), 0x25, "then 5 comes");
    outb(&f, 0x20, 0x65);
    outb(&f, 0x20, 0x0b);
    is_u64(inb(&f, 0x20), 0, "specific EOI");
    is_u64((u32)ack(&f), ~0u, "nothing left");
    fake_fini(&f);
}

static void cascade(void)
{
    struct fake f;

    start(&f);
    pulse(&f, 12);
    is_u64((u32)ack(&f), 0x2c, "the slave's vector");
    pulse(&f, 14);
    ok(!lapic_intr_pending(L(&f, 0)), "14 waits for 12");
    pulse(&f, 9);
    ok(!lapic_intr_pending(L(&f, 0)), "9 is held by the master's ISR 2: not specially nested");
    outb(&f, 0xa0, 0x20);
    outb(&f, 0x20, 0x20);
    is_u64((u32)ack(&f), 0x29, "9 after both EOIs");
    outb(&f, 0xa0, 0x20);
    outb(&f, 0x20, 0x20);
    is_u64((u32)ack(&f), 0x2e, "14 last");
    outb(&f, 0xa0, 0x20);
    outb(&f, 0x20, 0x20);
    pulse(&f, 12);
    pulse(&f, 1);
    is_u64((u32)ack(&f), 0x21, "IRQ 1 is above all of the slave");
    outb(&f, 0x20, 0x20);
    is_u64((u32)ack(&f), 0x2c, "12");
    outb(&f, 0xa0, 0x20);
    outb(&f, 0x20, 0x20);
    pulse(&f, 4);
    pulse(&f, 12);
    is_u64((u32)ack(&f), 0x2c, "and the slave is above IRQ 4");

    init_pics(&f, 0x11);
    pulse(&f, 12);
    is_u64((u32)ack(&f), 0x2c, "special fully nested: 12");
    pulse(&f, 9);
    is_u64((u32)ack(&f), 0x29, "9 interrupts 12");
    fake_fini(&f);
}

static void modes(void)
{
    struct fake f;

    start(&f);
    outb(&f, 0x20, 0xc3); /* 3 is the lowest: 4 the highest */
    pulse(&f, 0);
    pulse(&f, 5);
    is_u64((u32)ack(&f), 0x25, "set priority");
    outb(&f, 0x20, 0xa0); /* rotate on unspecific EOI: 5 becomes the lowest */
    pulse(&f, 5);
    pulse(&f, 6);
    is_u64((u32)ack(&f), 0x26, "rotation put 6 above");
    outb(&f, 0x20, 0xe6); /* rotate on specific EOI: 6 becomes the lowest */
    pulse(&f, 7);
    is_u64((u32)ack(&f), 0x27, "rotation put 7 above 0");

    init_pics(&f, 0x03);
    pulse(&f, 3);
    is_u64((u32)ack(&f), 0x23, "automatic EOI");
    outb(&f, 0x20, 0x0b);
    is_u64(inb(&f, 0x20), 0, "leaves nothing in service");
    outb(&f, 0x20, 0x80); /* rotate in automatic EOI */
    pulse(&f, 3);
    ack(&f);
    pulse(&f, 3);
    pulse(&f, 4);
    is_u64((u32)ack(&f), 0x24, "and rotates");

    init_pics(&f, 0x01);
    pulse(&f, 1);
    ack(&f);
    outb(&f, 0x21, 0x02);
    outb(&f, 0x20, 0x68); /* special mask mode */
    pulse(&f, 6);
    is_u64((u32)ack(&f), 0x26, "special mask: a masked service does not hold 6 back");
    outb(&f, 0x20, 0x20);
    outb(&f, 0x20, 0x0b);
    is_u64(inb(&f, 0x20), 1 << 1, "and unspecific EOI passes it over");
    outb(&f, 0x20, 0x48);
    outb(&f, 0x20, 0x61);

    outb(&f, 0x21, 0x00);
    pulse(&f, 5);
    outb(&f, 0x20, 0x0c); /* poll */
    is_u64(inb(&f, 0x20), 0x85, "poll tells and acknowledges");
    ok(!lapic_intr_pending(L(&f, 0)), "so that INTR drops");
    outb(&f, 0x20, 0x20);
    outb(&f, 0x20, 0x0c);
    is_u64(inb(&f, 0x20), 0, "poll with nothing");
    fake_fini(&f);
}

static void levels(void)
{
    struct fake f;
    u32 v;

    start(&f);
    outb(&f, 0x4d0, 0xff);
    outb(&f, 0x4d1, 0xff);
    is_u64(inb(&f, 0x4d0) << 8 | inb(&f, 0x4d1), 0xf8de, "ELCR: some inputs are edges for ever");
    is_u64((u32)irqchip_set_irq(f.chip, 10, 1, IRQ_SOURCE_USER), 1, "level up");
    is_u64((u32)ack(&f), 0x2a, "vector");
    outb(&f, 0xa0, 0x20);
    outb(&f, 0x20, 0x20);
    is_u64((u32)ack(&f), 0x2a, "still up: again");
    irqchip_set_irq(f.chip, 10, 0, IRQ_SOURCE_USER);
    outb(&f, 0xa0, 0x20);
    outb(&f, 0x20, 0x20);
    ok(!lapic_intr_pending(L(&f, 0)), "down: no more");
    irqchip_set_irq(f.chip, 10, 1, IRQ_SOURCE_USER);
    irqchip_set_irq(f.chip, 10, 0, IRQ_SOURCE_USER);
    ok(!lapic_intr_pending(L(&f, 0)), "a level that is gone is forgotten");
    irqchip_set_irq(f.chip, 1, 1, IRQ_SOURCE_USER);
    outb(&f, 0x20, 0x11);
    outb(&f, 0x21, 0x20);
    outb(&f, 0x21, 4);
    outb(&f, 0x21, 1);
    ok(!lapic_intr_pending(L(&f, 0)), "ICW1 drops latched edges");
    irqchip_set_irq(f.chip, 1, 0, IRQ_SOURCE_USER);
    pulse(&f, 1);
    is_u64((u32)ack(&f), 0x21, "a new edge counts");
    outb(&f, 0x20, 0x20);
    outb(&f, 0x20, 0x10); /* ICW1 without ICW4 */
    outb(&f, 0x21, 0x70);
    outb(&f, 0x21, 0x04);
    outb(&f, 0x21, 0xfe);
    is_u64(inb(&f, 0x21), 0xfe, "then the third byte is the mask");
    v = 0;
    ok(irqchip_io_read(f.chip, 0x20, 2, &v) && v == 0xffff, "the bus is 8 bits wide");
    ok(!irqchip_io_read(f.chip, 0x60, 1, &v) && !irqchip_io_read(f.chip, 0x40, 1, &v),
       "not our ports");
    fake_fini(&f);
}

static void extint(void)
{
    struct fake f;

    start(&f);
    pulse(&f, 1);
    software_enable(&f, 0);
    wr(&f, 0, 0x80, 0xf0);
    is_u64((u32)ack(&f), 0x21, "ExtINT is above TPR");
    is_u64(rd(&f, 0, 0x110), 0, "and leaves no trace in the LAPIC");
    outb(&f, 0x20, 0x20);
    wr(&f, 0, 0x350, 0x10700);
    pulse(&f, 1);
    ok(!lapic_intr_pending(L(&f, 0)), "LINT0 masked");
    requests(&f, 0);
    wr(&f, 0, 0x350, 0x700);
    ok(requests(&f, 0) & CPU_REQ_INTR && lapic_intr_pending(L(&f, 0)), "LINT0 unmasked: asks");
    wr(&f, 0, 0x350, 0x10700);
    wr(&f, 1, 0xf0, 0x1ff);
    wr(&f, 1, 0x350, 0x700);
    ok(!lapic_intr_pending(L(&f, 0)) && lapic_intr_pending(L(&f, 1)), "an AP may take it instead");
    wrmsr(&f, 0, 0x1b, 0xfee00100);
    ok(lapic_intr_pending(L(&f, 0)), "APIC off: INTR is the BSP's own pin");
    fake_fini(&f);
}

static void state(void)
{
    struct kvm_irqchip a = {.chip_id = 0}, b = {.chip_id = 1}, c = {.chip_id = 0};
    struct fake f, g;

    start(&f);
    fake_init(&g, 1);
    outb(&f, 0x21, 0x10);
    pulse(&f, 1);
    ack(&f);
    pulse(&f, 4);
    pulse(&f, 9);
    irqchip_state_get(f.chip, &a);
    irqchip_state_get(f.chip, &b);
    is_u64(a.chip.pic.isr, 2, "isr saved");
    is_u64(a.chip.pic.irq_base, 0x20, "base saved");
    is_u64(b.chip.pic.irr, 2, "slave's irr saved");
    irqchip_state_set(g.chip, &a);
    irqchip_state_set(g.chip, &b);
    irqchip_state_get(g.chip, &c);
    ok(!memcmp(&a.chip.pic, &c.chip.pic, sizeof(a.chip.pic)), "state survives the move");
    outb(&g, 0x20, 0x20);
    is_u64((u32)lapic_intr_ack(L(&g, 0)), 0x29, "and works there");
    fake_fini(&f);
    fake_fini(&g);
}

int main(void)
{
    basics();
    cascade();
    modes();
    levels();
    extint();
    state();
    return tap_done();
}
