// SPDX-License-Identifier: MIT
// The IOAPIC: 24 pins and their redirection entries, after Intel's 82093AA data sheet (order 290566).
#include "kvm/lapic.h"

#include <string.h>

#define IOREGSEL 0x00
#define IOWIN    0x10

#define REG_ID      0x00
#define REG_VERSION 0x01
#define REG_ARB     0x02
#define REG_REDIR   0x10

#define VERSION 0x11u

#define REDIR_VECTOR       0xffull
#define REDIR_MODE(e)      ((u8)((e) >> 8 & 7))
#define REDIR_LOGICAL      BIT(11)
#define REDIR_STATUS       BIT(12)
#define REDIR_REMOTE_IRR   BIT(14)
#define REDIR_LEVEL        BIT(15)
#define REDIR_MASK         BIT(16)
#define REDIR_DEST(e)      ((u32)((e) >> 56))
#define REDIR_LOW_WRITABLE 0x0001afffull /* without status and remote IRR */
#define REDIR_WRITABLE     (0xff00000000000000ull | REDIR_LOW_WRITABLE)

void ioapic_init(struct irqchip *chip)
{
    struct ioapic *io = &chip->ioapic;

    memset(io, 0, sizeof(*io));
    io->base = 0xfec00000;
    for (unsigned i = 0; i < IRQ_PINS; i++)
        io->redir[i] = REDIR_MASK;
}

static bool wants_edge_eoi(struct irqchip *chip, u32 pin)
{
    int gsi = routing_gsi(chip->routing, KVM_IRQCHIP_IOAPIC, pin);

    return gsi >= 0 && ((gsi == PIT_GSI && chip->pit.present) || irqfd_resamples(chip, (u32)gsi));
}

void ioapic_eoi_vectors_update(struct irqchip *chip)
{
    u32 map[8] = {0};

    for (u32 pin = 0; pin < IRQ_PINS; pin++) {
        u8 v = (u8)chip->ioapic.redir[pin];

        if (wants_edge_eoi(chip, pin))
            map[v / 32] |= 1u << (v % 32);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(map); i++)
        atomic_store(&chip->eoi_vectors[i], map[i]);
}

/*
 * Send what pin (pin) asks for, unless it is masked or waits for an EOI. As irqchip_set_irq()
 * returns.
 */
static int send(struct irqchip *chip, u32 pin, bool recheck)
{
    u64 *e = &chip->ioapic.redir[pin];
    struct apic_msg m = {
        .dest = REDIR_DEST(*e),
        .vector = (u8)(*e & REDIR_VECTOR),
        .mode = REDIR_MODE(*e),
        .logical = *e & REDIR_LOGICAL,
        .level = *e & REDIR_LEVEL,
        .assert = true,
        .recheck = recheck,
    };
    int rc;

    if ((*e & REDIR_MASK) || ((*e & REDIR_LEVEL) && (*e & REDIR_REMOTE_IRR)))
        return -1;
    rc = apic_deliver(chip, NULL, &m);
    if (rc >= 0 && m.level && (m.mode == APIC_FIXED || m.mode == APIC_LOWEST))
        *e |= REDIR_REMOTE_IRR;
    return rc;
}

int ioapic_set_irq(struct irqchip *chip, u32 pin, int level, enum irq_source source)
{
    struct ioapic *io = &chip->ioapic;
    u32 bit;
    bool was;

    if (pin >= IRQ_PINS)
        return -1;
    bit = 1u << pin;
    was = io->irr & bit;
    io->line[pin] =
        level ? io->line[pin] | (u8)(1u << source) : io->line[pin] & (u8) ~(1u << source);
    if (!io->line[pin]) {
        io->irr &= ~bit;
        return 1;
    }
    io->irr |= bit;
    if (was && !(io->redir[pin] & REDIR_LEVEL))
        return 0; /* no edge: the line was high */
    if ((io->redir[pin] & REDIR_LEVEL) && (io->redir[pin] & REDIR_REMOTE_IRR) &&
        !(io->redir[pin] & REDIR_MASK))
        return 0; /* joins the one that is in service */
    return send(chip, pin, source != IRQ_SOURCE_PIT);
}

/* A level that still stands asks again. */
static void resend_level(struct irqchip *chip, u32 pin)
{
    if ((chip->ioapic.redir[pin] & REDIR_LEVEL) && (chip->ioapic.irr >> pin & 1))
        send(chip, pin, true);
}

void ioapic_eoi(struct irqchip *chip, u8 vector, bool level)
{
    for (u32 pin = 0; pin < IRQ_PINS; pin++) {
        u64 *e = &chip->ioapic.redir[pin];

        if ((*e & REDIR_VECTOR) != vector)
            continue;
        /* A resampling device lowers its line here, or has it stay for another round. */
        irqchip_acked(chip, KVM_IRQCHIP_IOAPIC, pin);
        if (level && (*e & REDIR_LEVEL) && (*e & REDIR_REMOTE_IRR)) {
            *e &= ~REDIR_REMOTE_IRR;
            resend_level(chip, pin);
        }
    }
}

/* --- registers --- */

static u32 reg_read(const struct ioapic *io)
{
    u32 r = io->ioregsel;

    switch (r) {
    case REG_ID:
    case REG_ARB:
        return io->id << 24;
    case REG_VERSION:
        return (IRQ_PINS - 1) << 16 | VERSION;
    default:
        if (r < REG_REDIR || r >= REG_REDIR + 2 * IRQ_PINS)
            return 0;
        return (u32)(io->redir[(r - REG_REDIR) / 2] >> (r & 1 ? 32 : 0));
    }
}

static void redir_write(struct irqchip *chip, u32 pin, bool high, u32 val)
{
    u64 *e = &chip->ioapic.redir[pin], old = *e;

    if (high)
        *e = (old & 0xffffffff) | ((u64)val << 32 & REDIR_WRITABLE);
    else
        *e = (old & ~REDIR_LOW_WRITABLE) | (val & REDIR_LOW_WRITABLE);
    /* Guests without an EOI register clear a stuck remote IRR by a turn through edge mode. */
    if (!(*e & REDIR_LEVEL))
        *e &= ~REDIR_REMOTE_IRR;
    ioapic_eoi_vectors_update(chip);
    if ((old & REDIR_MASK) && !(*e & REDIR_MASK) &&
        routing_gsi(chip->routing, KVM_IRQCHIP_IOAPIC, pin) == PIT_GSI)
        pit_unmasked(chip);
    resend_level(chip, pin);
}

static void reg_write(struct irqchip *chip, u32 val)
{
    struct ioapic *io = &chip->ioapic;
    u32 r = io->ioregsel;

    if (r == REG_ID)
        io->id = val >> 24 & 0xf;
    else if (r >= REG_REDIR && r < REG_REDIR + 2 * IRQ_PINS)
        redir_write(chip, (r - REG_REDIR) / 2, r & 1, val);
}

void ioapic_read(struct irqchip *chip, u64 offset, void *buf, unsigned size)
{
    u32 val = 0;

    memset(buf, 0, size);
    if ((offset & 0xff) == IOREGSEL)
        val = chip->ioapic.ioregsel;
    else if ((offset & 0xff) == IOWIN)
        val = reg_read(&chip->ioapic);
    memcpy(buf, &val, size < sizeof(val) ? size : sizeof(val));
}

void ioapic_write(struct irqchip *chip, u64 offset, const void *buf, unsigned size)
{
    u32 val = 0;

    memcpy(&val, buf, size < sizeof(val) ? size : sizeof(val));
    if ((offset & 0xff) == IOREGSEL)
        chip->ioapic.ioregsel = val & 0xff;
    else if ((offset & 0xff) == IOWIN)
        reg_write(chip, val);
}

/* --- saved state --- */

void ioapic_state_get(struct irqchip *chip, struct kvm_ioapic_state *s)
{
    const struct ioapic *io = &chip->ioapic;

    s->base_address = io->base;
    s->ioregsel = io->ioregsel;
    s->id = io->id;
    s->irr = io->irr;
    s->pad = 0;
    for (unsigned i = 0; i < IRQ_PINS; i++)
        s->redirtbl[i].bits = io->redir[i];
}

void ioapic_state_set(struct irqchip *chip, const struct kvm_ioapic_state *s)
{
    struct ioapic *io = &chip->ioapic;

    io->base = s->base_address;
    io->ioregsel = s->ioregsel & 0xff;
    io->id = s->id & 0xf;
    io->irr = s->irr & (u32)(BIT(IRQ_PINS) - 1);
    for (u32 i = 0; i < IRQ_PINS; i++) {
        io->redir[i] = s->redirtbl[i].bits & (REDIR_WRITABLE | REDIR_REMOTE_IRR);
        io->line[i] = io->irr >> i & 1 ? 1u << IRQ_SOURCE_USER : 0;
    }
    ioapic_eoi_vectors_update(chip);
    for (u32 i = 0; i < IRQ_PINS; i++)
        resend_level(chip, i);
}
