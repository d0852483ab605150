// SPDX-License-Identifier: MIT
// The pair of 8259A interrupt controllers of a PC, after Intel's data sheet (order 231468).
#include "kvm/lapic.h"

/*
 * The state is struct kvm_pic_state itself, so that saving is copying. (priority_add) is the
 * input that has the highest priority now. The slave's INTR is the master's input 2, which
 * follows it like a level. Inputs in edge mode latch: a request whose line falls again before
 * INTA stays, since devices of a VM pulse their lines.
 */

#define CASCADE 2
#define NO_IRQ  8

enum { ICW_DONE, ICW2, ICW3, ICW4 };

void pic_init(struct irqchip *chip)
{
    chip->pic.s[0].elcr_mask = 0xf8; /* 0, 1, 2 are edges for ever */
    chip->pic.s[1].elcr_mask = 0xde; /* and so are 8 and 13 */
}

/* Rank of the most urgent bit of (mask): 0 is the highest priority, NO_IRQ if (mask) is empty. */
static unsigned rank(const struct kvm_pic_state *s, u8 mask)
{
    for (unsigned p = 0; p < 8; p++)
        if (mask >> ((p + s->priority_add) & 7) & 1)
            return p;
    return NO_IRQ;
}

/* The input that would be served by an INTA now, or -1. */
static int pending(const struct kvm_pic_state *s, bool master)
{
    unsigned want = rank(s, (u8)(s->irr & ~s->imr));
    u8 isr = s->isr;

    if (want == NO_IRQ)
        return -1;
    if (s->special_mask)
        isr &= (u8)~s->imr;
    /* Fully nested, special: the slave may interrupt its own service. */
    if (s->special_fully_nested_mode && master)
        isr &= (u8) ~(1u << CASCADE);
    if (want >= rank(s, isr))
        return -1;
    return (int)((want + s->priority_add) & 7);
}

static void notify_cpus(struct irqchip *chip, bool recheck)
{
    unsigned n = atomic_load(&chip->nr_lapics);

    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = atomic_load(&chip->lapics[i]);

        if (l && lapic_takes_pic(l))
            lapic_notify(l, CPU_REQ_INTR | (recheck ? CPU_REQ_RECHECK : 0));
    }
}

static void update(struct irqchip *chip, bool recheck)
{
    struct kvm_pic_state *master = &chip->pic.s[0];
    u8 cascade = 1u << CASCADE;
    bool out;

    if (pending(&chip->pic.s[1], false) >= 0)
        master->irr |= cascade;
    else
        master->irr &= (u8)~cascade;
    out = pending(master, true) >= 0;
    if (out != atomic_load(&chip->pic.output)) {
        atomic_store(&chip->pic.output, out);
        if (out)
            notify_cpus(chip, recheck);
    }
}

/* Drive one input. As irqchip_set_irq() returns. */
static int set_input(struct kvm_pic_state *s, unsigned irq, bool level)
{
    u8 bit = (u8)(1u << irq);
    int rc = 1;

    if (s->elcr & bit) {
        if (level) {
            rc = !(s->irr & bit);
            s->irr |= bit;
        } else {
            s->irr &= (u8)~bit;
        }
    } else if (level && !(s->last_irr & bit)) {
        rc = !(s->irr & bit);
        s->irr |= bit;
    }
    s->last_irr = level ? s->last_irr | bit : s->last_irr & (u8)~bit;
    return s->imr & bit ? -1 : rc;
}

int pic_set_irq(struct irqchip *chip, u32 irq, int level, enum irq_source source)
{
    u8 *line;
    int rc;

    if (irq >= ARRAY_SIZE(chip->pic.line))
        return -1;
    line = &chip->pic.line[irq];
    *line = level ? *line | (u8)(1u << source) : *line & (u8) ~(1u << source);
    rc = set_input(&chip->pic.s[irq / 8], irq % 8, *line != 0);
    update(chip, source != IRQ_SOURCE_PIT);
    return rc;
}

/* (bits) of chip (which) have left service: tell who waits for that, when all else is in order. */
static void acked(struct irqchip *chip, unsigned which, u8 bits)
{
    for (u32 irq = 0; irq < 8; irq++)
        if (bits >> irq & 1)
            irqchip_acked(chip, which ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER, irq);
}

/* INTA for input (irq) of one chip. Returns the bits that left service at once. */
static u8 take(struct kvm_pic_state *s, unsigned irq)
{
    u8 bit = (u8)(1u << irq);

    if (!(s->elcr & bit))
        s->irr &= (u8)~bit;
    if (!s->auto_eoi) {
        s->isr |= bit;
        return 0;
    }
    if (s->rotate_on_auto_eoi)
        s->priority_add = (irq + 1) & 7;
    return bit;
}

int pic_ack(struct irqchip *chip)
{
    struct kvm_pic_state *m = &chip->pic.s[0], *s = &chip->pic.s[1];
    int irq = pending(m, true), sub = -1;
    u8 done = 0, sub_done = 0;
    int vector;

    /* A request that is gone by the time of INTA reads as input 7 and is not in service. */
    if (irq >= 0)
        done = take(m, (unsigned)irq);
    vector = m->irq_base + (irq < 0 ? 7 : irq);
    if (irq == CASCADE) {
        sub = pending(s, false);
        if (sub >= 0)
            sub_done = take(s, (unsigned)sub);
        vector = s->irq_base + (sub < 0 ? 7 : sub);
    }
    update(chip, false);
    acked(chip, 0, done);
    acked(chip, 1, sub_done);
    return vector;
}

/* --- the ports --- */

static void icw1(struct irqchip *chip, unsigned which, u8 val)
{
    struct kvm_pic_state *s = &chip->pic.s[which];
    u8 had = s->isr | (u8)(s->irr & ~s->elcr);

    s->irr &= s->elcr; /* latched edges are gone; levels still stand */
    s->imr = s->isr = 0;
    s->priority_add = 0;
    s->special_mask = s->poll = s->read_reg_select = 0;
    s->auto_eoi = s->rotate_on_auto_eoi = s->special_fully_nested_mode = 0;
    s->init4 = val & 1;
    s->init_state = ICW2;
    update(chip, true);
    acked(chip, which, had);
}

static void ocw2(struct irqchip *chip, unsigned which, u8 val)
{
    struct kvm_pic_state *s = &chip->pic.s[which];
    bool rotate = val & 0x80, specific = val & 0x40, eoi = val & 0x20;
    unsigned irq = val & 7;
    u8 done = 0;

    if (!eoi && !specific) {
        s->rotate_on_auto_eoi = rotate;
        return;
    }
    if (!eoi && !rotate) /* 010: no operation */
        return;
    if (!specific) {
        unsigned p = rank(s, s->special_mask ? (u8)(s->isr & ~s->imr) : s->isr);

        if (p == NO_IRQ)
            return;
        irq = (p + s->priority_add) & 7;
    }
    if (eoi) {
        done = s->isr & (u8)(1u << irq);
        s->isr &= (u8)~done;
    }
    if (rotate)
        s->priority_add = (irq + 1) & 7;
    update(chip, false);
    acked(chip, which, done);
}

static void ocw3(struct kvm_pic_state *s, u8 val)
{
    if (val & 0x04)
        s->poll = 1;
    if (val & 0x02)
        s->read_reg_select = val & 1;
    if (val & 0x40)
        s->special_mask = val >> 5 & 1;
}

static void write_mask(struct irqchip *chip, unsigned which, u8 val)
{
    struct kvm_pic_state *s = &chip->pic.s[which];
    u8 unmasked = s->imr & (u8)~val;

    s->imr = val;
    update(chip, false);
    if (!which && (unmasked & (1u << PIT_GSI)))
        pit_unmasked(chip);
}

static void write_data(struct irqchip *chip, unsigned which, u8 val)
{
    struct kvm_pic_state *s = &chip->pic.s[which];

    switch (s->init_state) {
    case ICW2:
        s->irq_base = val & 0xf8;
        s->init_state = ICW3;
        break;
    case ICW3: /* the wiring is what it is */
        s->init_state = s->init4 ? ICW4 : ICW_DONE;
        break;
    case ICW4:
        s->special_fully_nested_mode = val >> 4 & 1;
        s->auto_eoi = val >> 1 & 1;
        s->init_state = ICW_DONE;
        break;
    default:
        write_mask(chip, which, val);
    }
}

static u8 poll_read(struct irqchip *chip, unsigned which)
{
    struct kvm_pic_state *s = &chip->pic.s[which];
    int irq = pending(s, !which);
    u8 done;

    s->poll = 0;
    if (irq < 0)
        return 0;
    done = take(s, (unsigned)irq); /* a poll is an INTA */
    update(chip, false);
    acked(chip, which, done);
    return (u8)(0x80 | irq);
}

/* Which chip and which of its two registers; -1: not ours. */
static int decode(u16 port, unsigned *which)
{
    switch (port) {
    case 0x20:
    case 0x21:
        *which = 0;
        return port & 1;
    case 0xa0:
    case 0xa1:
        *which = 1;
        return port & 1;
    case 0x4d0:
    case 0x4d1:
        *which = port & 1;
        return 2;
    default:
        return -1;
    }
}

bool pic_io_read(struct irqchip *chip, u16 port, u32 *val)
{
    unsigned which = 0;
    int r = decode(port, &which);
    const struct kvm_pic_state *s = &chip->pic.s[which];

    if (r < 0)
        return false;
    if (r == 2)
        *val = s->elcr;
    else if (s->poll)
        *val = poll_read(chip, which);
    else if (r == 1)
        *val = s->imr;
    else
        *val = s->read_reg_select ? s->isr : s->irr;
    return true;
}

bool pic_io_write(struct irqchip *chip, u16 port, u8 val)
{
    unsigned which = 0;
    int r = decode(port, &which);

    if (r < 0)
        return false;
    if (r == 2)
        chip->pic.s[which].elcr = val & chip->pic.s[which].elcr_mask;
    else if (r == 1)
        write_data(chip, which, val);
    else if (val & 0x10)
        icw1(chip, which, val);
    else if (val & 0x08)
        ocw3(&chip->pic.s[which], val);
    else
        ocw2(chip, which, val);
    return true;
}

void pic_state_set(struct irqchip *chip, unsigned which, const struct kvm_pic_state *state)
{
    struct kvm_pic_state *s = &chip->pic.s[which];
    u8 elcr_mask = s->elcr_mask;

    *s = *state;
    s->elcr_mask = elcr_mask;
    s->elcr &= elcr_mask;
    s->priority_add &= 7;
    s->init_state &= 3;
    update(chip, true);
}
