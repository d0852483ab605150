// SPDX-License-Identifier: MIT
// GSI routing: which pins and messages a GSI stands for, and driving one.
#include "kvm/chip.h"

#include <errno.h>
#include <stdlib.h>

/* SDM 3A 11.11: the fields of a message's address and data. */
#define MSI_DEST(lo)   ((lo) >> 12 & 0xff)
#define MSI_REDIR_HINT BIT(3)
#define MSI_LOGICAL    BIT(2)
#define MSI_LEVEL      BIT(15)

static struct routing *routing_alloc(unsigned gsis, unsigned n)
{
    struct routing *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->gsis = gsis;
    r->first = malloc((gsis ? gsis : 1) * sizeof(*r->first));
    r->routes = calloc(n ? n : 1, sizeof(*r->routes));
    if (!r->first || !r->routes) {
        routing_free(r);
        return NULL;
    }
    for (unsigned i = 0; i < gsis; i++)
        r->first[i] = -1;
    for (unsigned i = 0; i < ARRAY_SIZE(r->gsi_of) * IRQ_PINS; i++)
        r->gsi_of[i / IRQ_PINS][i % IRQ_PINS] = -1;
    return r;
}

void routing_free(struct routing *r)
{
    if (!r)
        return;
    free(r->first);
    free(r->routes);
    free(r);
}

/* Put entry (i) into its GSI's list, keeping the table's order. */
static void add(struct routing *r, int i, const struct kvm_irq_routing_entry *e)
{
    int *at = &r->first[e->gsi];

    while (*at >= 0)
        at = &r->routes[*at].next;
    *at = i;
    r->routes[i].e = *e;
    r->routes[i].next = -1;
    if (e->type == KVM_IRQ_ROUTING_IRQCHIP)
        r->gsi_of[e->u.irqchip.irqchip][e->u.irqchip.pin] = (int)e->gsi;
}

static struct kvm_irq_routing_entry pin_entry(u32 gsi, u32 irqchip, u32 pin)
{
    return (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_IRQCHIP,
        .u.irqchip = {.irqchip = irqchip, .pin = pin},
    };
}

/* KVM's: GSI n is pin n of the IOAPIC and, below 16, IRQ n of the PICs. */
struct routing *routing_default(void)
{
    struct routing *r = routing_alloc(IRQ_PINS, IRQ_PINS + 16);
    struct kvm_irq_routing_entry e;
    int n = 0;

    if (!r)
        return NULL;
    for (u32 gsi = 0; gsi < IRQ_PINS; gsi++) {
        e = pin_entry(gsi, KVM_IRQCHIP_IOAPIC, gsi);
        add(r, n++, &e);
        if (gsi >= 16)
            continue;
        e = pin_entry(gsi, gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi & 7);
        add(r, n++, &e);
    }
    return r;
}

static bool entry_ok(const struct irqchip *chip, const struct kvm_irq_routing_entry *e)
{
    if (e->flags || e->gsi >= IRQCHIP_MAX_GSI)
        return false;
    switch (e->type) {
    case KVM_IRQ_ROUTING_IRQCHIP:
        if (e->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC)
            return e->u.irqchip.pin < IRQ_PINS;
        return e->u.irqchip.irqchip <= KVM_IRQCHIP_PIC_SLAVE && e->u.irqchip.pin < 8;
    case KVM_IRQ_ROUTING_MSI:
        return !(chip->x2apic_32bit_ids && (e->u.msi.address_hi & 0xff));
    default:
        return false;
    }
}

/* A GSI is one message, or at most one pin of each chip. */
static bool fits(const struct routing *r, const struct kvm_irq_routing_entry *e)
{
    for (int i = r->first[e->gsi]; i >= 0; i = r->routes[i].next) {
        const struct kvm_irq_routing_entry *o = &r->routes[i].e;

        if (o->type != KVM_IRQ_ROUTING_IRQCHIP || e->type != KVM_IRQ_ROUTING_IRQCHIP ||
            o->u.irqchip.irqchip == e->u.irqchip.irqchip)
            return false;
    }
    return true;
}

int irqchip_routing_set(struct irqchip *chip, const struct kvm_irq_routing_entry *e, u32 n,
                        u32 flags)
{
    struct routing *r, *old;
    u32 gsis = 0;

    if (flags || n > IRQCHIP_MAX_GSI)
        return -EINVAL;
    for (u32 i = 0; i < n; i++) {
        if (!entry_ok(chip, &e[i]))
            return -EINVAL;
        if (e[i].gsi >= gsis)
            gsis = e[i].gsi + 1;
    }
    r = routing_alloc(gsis, n);
    if (!r)
        return -ENOMEM;
    for (u32 i = 0; i < n; i++) {
        if (!fits(r, &e[i])) {
            routing_free(r);
            return -EINVAL;
        }
        add(r, (int)i, &e[i]);
    }
    pthread_mutex_lock(&chip->lock);
    old = chip->routing;
    chip->routing = r;
    ioapic_eoi_vectors_update(chip);
    pthread_mutex_unlock(&chip->lock);
    routing_free(old);
    return 0;
}

int routing_gsi(const struct routing *r, u32 irqchip, u32 pin)
{
    return r->gsi_of[irqchip][pin];
}

/* --- driving a GSI --- */

static int send_msi(struct irqchip *chip, u32 lo, u32 hi, u32 data)
{
    struct apic_msg m = {
        .dest = MSI_DEST(lo),
        .vector = (u8)data,
        .mode = data >> 8 & 7,
        .logical = lo & MSI_LOGICAL,
        .level = data & MSI_LEVEL,
        .assert = true,
        .recheck = true,
    };

    if (chip->x2apic_32bit_ids)
        m.dest |= hi & 0xffffff00;
    if (m.mode == APIC_FIXED && (lo & MSI_REDIR_HINT))
        m.mode = APIC_LOWEST;
    return apic_deliver(chip, NULL, &m);
}

static int drive(struct irqchip *chip, const struct kvm_irq_routing_entry *e, int level,
                 enum irq_source source)
{
    if (e->type == KVM_IRQ_ROUTING_MSI)
        return level ? send_msi(chip, e->u.msi.address_lo, e->u.msi.address_hi, e->u.msi.data) : -1;
    if (e->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC)
        return ioapic_set_irq(chip, e->u.irqchip.pin, level, source);
    return pic_set_irq(chip, e->u.irqchip.pin + 8 * e->u.irqchip.irqchip, level, source);
}

int irqchip_set_irq_locked(struct irqchip *chip, u32 gsi, int level, enum irq_source source)
{
    const struct routing *r = chip->routing;
    int sum = -1;

    if (gsi >= r->gsis)
        return -1;
    for (int i = r->first[gsi]; i >= 0; i = r->routes[i].next) {
        int rc = drive(chip, &r->routes[i].e, level, source);

        if (rc >= 0)
            sum = rc + (sum < 0 ? 0 : sum);
    }
    return sum;
}

int irqchip_set_irq(struct irqchip *chip, u32 gsi, int level, enum irq_source source)
{
    int rc;

    pthread_mutex_lock(&chip->lock);
    rc = irqchip_set_irq_locked(chip, gsi, level, source);
    pthread_mutex_unlock(&chip->lock);
    return rc;
}

int irqchip_signal_msi(struct irqchip *chip, const struct kvm_msi *msi)
{
    int rc;

    if (msi->flags || (chip->x2apic_32bit_ids && (msi->address_hi & 0xff)))
        return -EINVAL;
    /* Delivery to LAPICs needs no lock of ours. */
    rc = send_msi(chip, msi->address_lo, msi->address_hi, msi->data);
    return rc < 0 ? 0 : rc ? rc : 1;
}
