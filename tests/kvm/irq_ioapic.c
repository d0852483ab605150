// SPDX-License-Identifier: MIT
// The IOAPIC and GSI routing: edges, levels, remote IRR, masks, messages, bad tables, saved state.
#include "irq_fake.h"

#include <errno.h>

#define LEVEL      BIT(15)
#define MASKED     BIT(16)
#define REMOTE_IRR BIT(14)

/* GSIs below 16 are PIC inputs as well: keep those out of it. */
static void start(struct fake *f, unsigned cpus)
{
    fake_init(f, cpus);
    outb(f, 0x21, 0xff);
    outb(f, 0xa1, 0xff);
}

static int line(struct fake *f, u32 gsi, int level)
{
    return irqchip_set_irq(f->chip, gsi, level, IRQ_SOURCE_USER);
}

static void registers(void)
{
    struct fake f;
    u8 b = 0;

    start(&f, 1);
    is_u64(io_rd(&f, 1), 23 << 16 | 0x11, "version 0x11, 24 pins");
    is_u64(io_rd(&f, 0x10), MASKED, "pins start masked");
    io_wr(&f, 0, 0x0f000000);
    is_u64(io_rd(&f, 0), 0x0f000000, "ID");
    is_u64(io_rd(&f, 2), 0x0f000000, "arbitration ID follows");
    io_wr(&f, 0x12, 0xffffffff);
    is_u64(io_rd(&f, 0x12), 0x1afff, "status and remote IRR cannot be written");
    io_wr(&f, 0x13, 0xffffffff);
    is_u64(io_rd(&f, 0x13), 0xff000000, "only the destination of the high half");
    is_u64(io_rd(&f, 0x40), 0, "no such register");
    ok(irqchip_mmio_read(f.chip, NULL, 0xfec00000, &b, 1) && b == 0x40,
       "select reads back, bytes work");
    ok(!irqchip_mmio_read(f.chip, NULL, 0xfec01000, &b, 1), "the next page is not ours");
    ok(irqchip_mmio_read(f.chip, L(&f, 0), 0xfee00020, &b, 1), "the LAPIC's page is");
    fake_fini(&f);
}

static void edges(void)
{
    struct fake f;

    start(&f, 2);
    software_enable(&f, 0);
    software_enable(&f, 1);
    redir(&f, 5, 1ull << 56 | 0x35);
    is_u64(line(&f, 5, 1), 1, "a rising edge is delivered");
    ok(requests(&f, 1) == (CPU_REQ_INTR | CPU_REQ_RECHECK), "to CPU 1, with recheck");
    is_u64(line(&f, 5, 1), 0, "a line that is high already has no edge");
    is_u64((u32)lapic_intr_ack(L(&f, 1)), 0x35, "vector");
    ok(!lapic_intr_pending(L(&f, 1)), "once");
    is_u64(rd(&f, 1, 0x190), 0, "TMR says edge");
    is_u64(line(&f, 5, 0), 1, "low");
    line(&f, 5, 1);
    line(&f, 5, 0);
    is_u64(line(&f, 5, 1), 0, "a second edge before the first is taken merges");
    line(&f, 5, 0);
    wr(&f, 1, 0xb0, 0);
    is_u64((u32)lapic_intr_ack(L(&f, 1)), 0x35, "and one comes");
    redir(&f, 5, 1ull << 56 | MASKED | 0x35);
    ok(line(&f, 5, 1) < 0, "masked: nothing");
    line(&f, 5, 0);
    redir(&f, 5, 1ull << 56 | 0x35);
    wr(&f, 1, 0xb0, 0);
    ok(!lapic_intr_pending(L(&f, 1)), "a masked edge is lost");
    redir(&f, 6, 0xffull << 56 | 0x36);
    is_u64(line(&f, 6, 1), 2, "broadcast counts both");
    redir(&f, 7, 1ull << 56 | 0x400);
    line(&f, 7, 1);
    ok(lapic_events_pending(L(&f, 1)), "NMI by a pin");
    ok(line(&f, 24, 1) < 0 && line(&f, 100000, 1) < 0, "no such GSI");
    fake_fini(&f);
}

static void levels(void)
{
    struct fake f;

    start(&f, 1);
    software_enable(&f, 0);
    redir(&f, 10, LEVEL | 0x4a);
    is_u64(line(&f, 10, 1), 1, "level delivered");
    ok(io_rd(&f, 0x10 + 20) & REMOTE_IRR, "remote IRR set");
    is_u64(line(&f, 10, 1), 0, "coalesced while it waits for EOI");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x4a, "vector");
    is_u64(rd(&f, 0, 0x1a0), 1 << 10, "TMR says level");
    requests(&f, 0);
    wr(&f, 0, 0xb0, 0);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x4a, "the line still stands: again after EOI");
    line(&f, 10, 0);
    wr(&f, 0, 0xb0, 0);
    ok(!lapic_intr_pending(L(&f, 0)), "the line is down: no more");
    ok(!(io_rd(&f, 0x10 + 20) & REMOTE_IRR), "remote IRR clear");

    redir(&f, 10, MASKED | LEVEL | 0x4a);
    ok(line(&f, 10, 1) < 0, "masked level is ignored");
    redir(&f, 10, LEVEL | 0x4a);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x4a, "and comes when it is unmasked");
    ok(io_rd(&f, 0x10 + 20) & REMOTE_IRR, "remote IRR again");
    redir(&f, 10, MASKED | 0x4a);
    redir(&f, 10, MASKED | LEVEL | 0x4a);
    ok(!(io_rd(&f, 0x10 + 20) & REMOTE_IRR), "a turn through edge mode clears it");
    line(&f, 10, 0);

    irqchip_set_irq(f.chip, 11, 1, IRQ_SOURCE_USER);
    irqchip_set_irq(f.chip, 11, 1, IRQ_SOURCE_RESAMPLE);
    irqchip_set_irq(f.chip, 11, 0, IRQ_SOURCE_USER);
    redir(&f, 11, LEVEL | 0x5b);
    wr(&f, 0, 0xb0, 0);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x5b, "a line is high while any source holds it");
    irqchip_set_irq(f.chip, 11, 0, IRQ_SOURCE_RESAMPLE);
    wr(&f, 0, 0xb0, 0);
    ok(!lapic_intr_pending(L(&f, 0)), "and low when none does");
    fake_fini(&f);
}

static void two_pins_one_vector(void)
{
    struct fake f;

    start(&f, 1);
    software_enable(&f, 0);
    redir(&f, 10, LEVEL | 0x4a);
    redir(&f, 11, LEVEL | 0x4a);
    line(&f, 10, 1);
    line(&f, 11, 1);
    lapic_intr_ack(L(&f, 0));
    line(&f, 10, 0);
    wr(&f, 0, 0xb0, 0);
    ok(!(io_rd(&f, 0x10 + 20) & REMOTE_IRR), "EOI reaches every pin of the vector");
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x4a, "the one that still stands asks again");
    fake_fini(&f);
}

static struct kvm_irq_routing_entry pin(u32 gsi, u32 chip, u32 p)
{
    return (struct kvm_irq_routing_entry){
        .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {chip, p}};
}

static struct kvm_irq_routing_entry message(u32 gsi, u32 lo, u32 data)
{
    return (struct kvm_irq_routing_entry){
        .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = lo, .data = data}};
}

static int set(struct fake *f, struct kvm_irq_routing_entry a, struct kvm_irq_routing_entry b)
{
    struct kvm_irq_routing_entry e[] = {a, b};

    return irqchip_routing_set(f->chip, e, 2, 0);
}

static void routing(void)
{
    struct kvm_irq_routing_entry e;
    struct fake f;

    start(&f, 2);
    software_enable(&f, 1);
    redir(&f, 2, 1ull << 56 | 0x32);
    is_u64(set(&f, pin(0, KVM_IRQCHIP_IOAPIC, 2), message(30, 0xfee01000, 0x61)), 0, "a table");
    is_u64(line(&f, 0, 1), 1, "GSI 0 is pin 2 now");
    is_u64((u32)lapic_intr_ack(L(&f, 1)), 0x32, "its vector");
    is_u64(line(&f, 30, 1), 1, "a GSI that is a message");
    is_u64((u32)lapic_intr_ack(L(&f, 1)), 0x61, "its vector");
    ok(line(&f, 30, 0) < 0, "a message has no falling edge");
    ok(line(&f, 2, 1) < 0, "GSI 2 is gone");

    is_u64((u32)set(&f, pin(0, 3, 0), pin(1, 0, 0)), (u32)-EINVAL, "no such chip");
    is_u64((u32)set(&f, pin(0, 0, 8), pin(1, 0, 0)), (u32)-EINVAL, "no such PIC pin");
    is_u64((u32)set(&f, pin(0, 2, 24), pin(1, 0, 0)), (u32)-EINVAL, "no such IOAPIC pin");
    is_u64((u32)set(&f, pin(4096, 2, 0), pin(1, 0, 0)), (u32)-EINVAL, "GSI too large");
    is_u64((u32)set(&f, pin(1, 2, 0), pin(1, 2, 1)), (u32)-EINVAL, "one chip twice on a GSI");
    is_u64((u32)set(&f, pin(1, 2, 0), message(1, 0, 0)), (u32)-EINVAL,
           "a pin and a message on a GSI");
    e = pin(1, 2, 0);
    e.flags = 1;
    is_u64((u32)irqchip_routing_set(f.chip, &e, 1, 0), (u32)-EINVAL, "entry flags");
    e = pin(1, 2, 0);
    e.type = 4;
    is_u64((u32)irqchip_routing_set(f.chip, &e, 1, 0), (u32)-EINVAL, "entry type");
    is_u64((u32)irqchip_routing_set(f.chip, &e, 0, 1), (u32)-EINVAL, "table flags");
    is_u64((u32)irqchip_routing_set(f.chip, &e, 5000, 0), (u32)-EINVAL, "too many entries");
    is_u64(line(&f, 30, 1), 1, "a bad table changes nothing");
    is_u64(irqchip_routing_set(f.chip, NULL, 0, 0), 0, "an empty table");
    ok(line(&f, 30, 1) < 0, "routes nothing");
    fake_fini(&f);
}

static void state(void)
{
    struct kvm_irqchip a = {.chip_id = KVM_IRQCHIP_IOAPIC}, b = a;
    struct fake f, g;

    start(&f, 1);
    start(&g, 1);
    software_enable(&f, 0);
    software_enable(&g, 0);
    io_wr(&f, 0, 0x03000000);
    redir(&f, 10, LEVEL | 0x4a);
    redir(&f, 12, 0x4c);
    line(&f, 10, 1);
    is_u64(irqchip_state_get(f.chip, &a), 0, "get");
    is_u64(a.chip.ioapic.irr, 1 << 10, "line in irr");
    ok(a.chip.ioapic.redirtbl[10].fields.remote_irr, "remote IRR saved");
    is_u64(irqchip_state_set(g.chip, &a), 0, "set elsewhere");
    irqchip_state_get(g.chip, &b);
    ok(!memcmp(&a.chip.ioapic, &b.chip.ioapic, sizeof(a.chip.ioapic)), "state survives the move");
    ok(!lapic_intr_pending(L(&g, 0)), "remote IRR holds the line's interrupt back");
    a.chip.ioapic.redirtbl[10].fields.remote_irr = 0;
    irqchip_state_set(g.chip, &a);
    is_u64((u32)lapic_intr_ack(L(&g, 0)), 0x4a, "without it the line asks");
    irqchip_set_irq(g.chip, 10, 0, IRQ_SOURCE_USER);
    wr(&g, 0, 0xb0, 0);
    ok(!lapic_intr_pending(L(&g, 0)), "a restored line falls");
    a.chip_id = 3;
    is_u64((u32)irqchip_state_get(f.chip, &a), (u32)-EINVAL, "no such chip");
    is_u64((u32)irqchip_state_set(f.chip, &a), (u32)-EINVAL, "no such chip");
    fake_fini(&f);
    fake_fini(&g);
}

int main(void)
{
    registers();
    edges();
    levels();
    two_pins_one_vector();
    routing();
    state();
    return tap_done();
}
