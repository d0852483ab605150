// SPDX-License-Identifier: MIT
// Interrupt messages between chips and LAPICs: who is meant, and what the target does with it.
#include "kvm/lapic.h"

#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)
#define ICR_LOGICAL        BIT(11)
#define ICR_ASSERT         BIT(14)
#define ICR_LEVEL          BIT(15)

enum { DEST_FIELD, DEST_SELF, DEST_ALL, DEST_OTHERS };

/* --- the target's side --- */

/* Put (vector) into IRR. TMR first: who sees the IRR bit must see its trigger mode. */
static bool irr_set(struct lapic *l, u8 vector, bool level)
{
    u32 bit = 1u << (vector % 32);
    unsigned word = vector / 32;

    if (level)
        atomic_fetch_or(&l->reg[APIC_TMR + word], bit);
    else if (lapic_reg(l, APIC_TMR + word) & bit)
        atomic_fetch_and(&l->reg[APIC_TMR + word], ~bit);
    return !(atomic_fetch_or(&l->reg[APIC_IRR + word], bit) & bit);
}

static bool accept_vector(struct lapic *l, const struct apic_msg *m, bool *merged)
{
    bool fresh;

    if (!lapic_enabled(l))
        return false;
    if (m->vector < 16) {
        lapic_error(l, APIC_ESR_RECV_VECTOR);
        return false;
    }
    atomic_fetch_add_explicit(&l->served, 1, memory_order_relaxed);
    fresh = irr_set(l, m->vector, m->level);
    if (!fresh)
        *merged = true;
    /* Whoever set the bit before us notifies for it. */
    if (fresh || m->recheck)
        lapic_notify(l, CPU_REQ_INTR | (m->recheck ? CPU_REQ_RECHECK : 0));
    return true;
}

static void event_set(struct lapic *l, u32 event, bool recheck)
{
    u32 old = atomic_load(&l->events), fresh;

    do {
        fresh = old | event;
        if (old & event & LAPIC_EVENT_NMI)
            fresh |= LAPIC_EVENT_NMI2;
    } while (!atomic_compare_exchange_weak(&l->events, &old, fresh));
    lapic_notify(l, CPU_REQ_EXIT | (recheck ? CPU_REQ_RECHECK : 0));
}

static void accept_init(struct lapic *l, const struct apic_msg *m)
{
    /* An INIT undoes a SIPI that was not taken yet. */
    atomic_fetch_and(&l->events, ~(u32)LAPIC_EVENT_SIPI);
    event_set(l, LAPIC_EVENT_INIT, m->recheck);
}

bool lapic_accept(struct lapic *l, const struct apic_msg *m, bool *merged)
{
    switch (m->mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        return accept_vector(l, m, merged);
    case APIC_NMI:
        event_set(l, LAPIC_EVENT_NMI, m->recheck);
        return true;
    case APIC_SMI:
        event_set(l, LAPIC_EVENT_SMI, m->recheck);
        return true;
    case APIC_INIT:
        if (m->assert)
            accept_init(l, m);
        return true;
    case APIC_SIPI:
        atomic_store(&l->sipi_vector, m->vector);
        event_set(l, LAPIC_EVENT_SIPI, m->recheck);
        return true;
    default: /* ExtINT: the PIC's line is looked at through LINT0 */
        return false;
    }
}

void lapic_lvt_deliver(struct lapic *l, unsigned r)
{
    u32 lvt = lapic_reg(l, r);
    struct apic_msg m = {.vector = (u8)lvt, .mode = APIC_LVT_MODE(lvt), .assert = true};
    bool merged = false;

    if ((lvt & APIC_LVT_MASKED) || !lapic_present(l))
        return;
    if (r == APIC_LVT_TIMER || r == APIC_LVT_ERROR)
        m.mode = APIC_FIXED; /* these entries have no mode field */
    /* An error entry with an illegal vector would report itself for ever. */
    if (r == APIC_LVT_ERROR && m.vector < 16)
        return;
    lapic_accept(l, &m, &merged);
}

/* --- the sender's side --- */

/* SDM 3A 11.6.2.2 and 11.12.10.2: the logical ID against a logical destination. */
static bool match_logical(const struct lapic *l, u32 dest)
{
    u32 ldr = lapic_reg(l, APIC_LDR);

    if (lapic_x2apic(l))
        return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
    ldr >>= 24;
    if (lapic_reg(l, APIC_DFR) >> 28 == 0xf) /* flat */
        return ldr & dest & 0xff;
    return ldr >> 4 == (dest >> 4 & 0xf) && (ldr & dest & 0xf); /* cluster */
}

static bool matches(const struct lapic *l, const struct apic_msg *m)
{
    if (!lapic_present(l))
        return false;
    if (m->broadcast)
        return true;
    return m->logical ? match_logical(l, m->dest) : l->id == m->dest;
}

/* Is (dest) everybody, as (src) or, for NULL, the chips' bus means it? */
static bool is_broadcast(const struct irqchip *chip, const struct lapic *src, u32 dest)
{
    if (src)
        return dest == (lapic_x2apic(src) ? ~0u : 0xffu);
    if (dest == 0xff)
        return !chip->x2apic_no_broadcast;
    return dest == ~0u;
}

/* Of two candidates for a lowest-priority interrupt, is (a) the better? */
static bool lower_priority(const struct lapic *a, const struct lapic *b)
{
    u32 pa = lapic_reg(a, APIC_PPR) >> 4, pb = lapic_reg(b, APIC_PPR) >> 4;

    if (pa != pb)
        return pa < pb;
    return atomic_load_explicit(&a->served, memory_order_relaxed) <
           atomic_load_explicit(&b->served, memory_order_relaxed);
}

static int deliver_lowest(struct irqchip *chip, const struct apic_msg *m)
{
    unsigned n = atomic_load(&chip->nr_lapics);
    struct lapic *best = NULL;
    bool merged = false;

    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = atomic_load(&chip->lapics[i]);

        if (l && matches(l, m) && lapic_enabled(l) && (!best || lower_priority(l, best)))
            best = l;
    }
    if (!best || !lapic_accept(best, m, &merged))
        return -1;
    return merged ? 0 : 1;
}

static int deliver_to_one(struct irqchip *chip, const struct apic_msg *m)
{
    struct lapic *l = m->dest < APIC_ID_MAX ? atomic_load(&chip->by_id[m->dest]) : NULL;
    bool merged = false;

    if (!l || !lapic_present(l) || !lapic_accept(l, m, &merged))
        return -1;
    return merged ? 0 : 1;
}

/* (skip) is left out: "all excluding self". */
static int deliver_to_group(struct irqchip *chip, const struct apic_msg *m,
                            const struct lapic *skip)
{
    unsigned n = atomic_load(&chip->nr_lapics);
    int took = 0, seen = 0;

    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = atomic_load(&chip->lapics[i]);
        bool merged = false;

        if (!l || l == skip || !matches(l, m) || !lapic_accept(l, m, &merged))
            continue;
        seen++;
        took += !merged;
    }
    return seen ? took : -1;
}

int apic_deliver(struct irqchip *chip, struct lapic *src, const struct apic_msg *msg)
{
    struct apic_msg m = *msg;

    if (is_broadcast(chip, src, m.dest))
        m.broadcast = true;
    if (m.mode == APIC_LOWEST)
        return deliver_lowest(chip, &m);
    if (!m.logical && !m.broadcast)
        return deliver_to_one(chip, &m);
    return deliver_to_group(chip, &m, NULL);
}

void lapic_icr_send(struct lapic *l, u32 icr, u32 dest)
{
    struct apic_msg m = {
        .dest = dest,
        .vector = (u8)icr,
        .mode = icr >> 8 & 7,
        .logical = icr & ICR_LOGICAL,
        /* Only INIT has a level de-assert; elsewhere the bits mean nothing (SDM 3A 11.6.1). */
        .assert = !((icr & ICR_LEVEL) && !(icr & ICR_ASSERT)),
    };
    bool merged = false;

    if ((m.mode == APIC_FIXED || m.mode == APIC_LOWEST) && m.vector < 16) {
        lapic_error(l, APIC_ESR_SEND_VECTOR);
        return;
    }
    switch (ICR_SHORTHAND(icr)) {
    case DEST_FIELD:
        apic_deliver(l->chip, l, &m);
        break;
    case DEST_SELF:
        lapic_accept(l, &m, &merged);
        break;
    case DEST_ALL:
        m.broadcast = true;
        deliver_to_group(l->chip, &m, NULL);
        break;
    case DEST_OTHERS:
        m.broadcast = true;
        deliver_to_group(l->chip, &m, l);
        break;
    }
}
