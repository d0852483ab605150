// SPDX-License-Identifier: MIT
// The interrupt chips of a VM as one: life, the ports and pages they answer, saved state.
#include "kvm/lapic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#define IOAPIC_WINDOW 0x100

static u64 host_now(void *arg)
{
    return kvm_now_ns();
}

static u64 host_tsc(void *arg)
{
    return __rdtsc();
}

static void time_init(struct irq_time *t, const struct irq_time *given)
{
    if (given)
        *t = *given;
    if (!t->now_ns)
        t->now_ns = host_now;
    if (!t->tsc)
        t->tsc = host_tsc;
    if (!t->tsc_khz)
        t->tsc_khz = kvm_tsc_khz();
}

int irqchip_create(struct irqchip **ret, const struct irq_time *time)
{
    struct irqchip *chip = calloc(1, sizeof(*chip));
    int rc;

    if (!chip)
        return -ENOMEM;
    pthread_mutex_init(&chip->lock, NULL);
    time_init(&chip->time, time);
    chip->bus_ns = 1;
    chip->irqfd_ids = TIMER_ID_IRQFD;
    atomic_store(&chip->pit.deadline, IRQ_DEADLINE_NONE);
    pic_init(chip);
    ioapic_init(chip);
    rc = timers_start(chip);
    if (!rc && !(chip->routing = routing_default()))
        rc = -ENOMEM;
    if (rc) {
        irqchip_free(chip);
        return rc;
    }
    *ret = chip;
    return 0;
}

void irqchip_free(struct irqchip *chip)
{
    if (!chip)
        return;
    timers_stop(chip);
    irqfd_free_all(chip);
    routing_free(chip->routing);
    pthread_mutex_destroy(&chip->lock);
    free(chip);
}

int irqchip_pit_create(struct irqchip *chip, u32 flags)
{
    int rc = 0;

    if (flags & ~(u32)KVM_PIT_SPEAKER_DUMMY)
        return -EINVAL;
    pthread_mutex_lock(&chip->lock);
    if (chip->pit.present)
        rc = -EEXIST;
    else
        pit_init(chip, flags);
    pthread_mutex_unlock(&chip->lock);
    return rc;
}

bool irqchip_has_pit(const struct irqchip *chip)
{
    return chip->pit.present;
}

int irqchip_split(struct irqchip *chip)
{
    chip->split = true;
    return irqchip_routing_set(chip, NULL, 0, 0);
}

int irqchip_bus_cycle_ns(struct irqchip *chip, u64 ns)
{
    /* The longest run, of 2^32 ticks divided by 128, must stay a time. */
    if (!ns || ns > INT64_MAX >> 39 || atomic_load(&chip->nr_lapics))
        return -EINVAL;
    chip->bus_ns = ns;
    return 0;
}

int irqchip_x2apic_api(struct irqchip *chip, u64 flags)
{
    if (flags & ~(u64)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
        return -EINVAL;
    if (flags & KVM_X2APIC_API_USE_32BIT_IDS)
        chip->x2apic_32bit_ids = true;
    if (flags & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
        chip->x2apic_no_broadcast = true;
    return 0;
}

void irqchip_acked(struct irqchip *chip, u32 irqchip, u32 pin)
{
    int gsi = routing_gsi(chip->routing, irqchip, pin);

    if (gsi < 0)
        return;
    if (gsi == PIT_GSI)
        pit_acked(chip);
    irqfd_acked(chip, (u32)gsi);
}

/* --- saved state --- */

int irqchip_state_get(struct irqchip *chip, struct kvm_irqchip *c)
{
    int rc = 0;

    pthread_mutex_lock(&chip->lock);
    switch (c->chip_id) {
    case KVM_IRQCHIP_PIC_MASTER:
    case KVM_IRQCHIP_PIC_SLAVE:
        c->chip.pic = chip->pic.s[c->chip_id];
        break;
    case KVM_IRQCHIP_IOAPIC:
        ioapic_state_get(chip, &c->chip.ioapic);
        break;
    default:
        rc = -EINVAL;
    }
    pthread_mutex_unlock(&chip->lock);
    return rc;
}

int irqchip_state_set(struct irqchip *chip, const struct kvm_irqchip *c)
{
    int rc = 0;

    pthread_mutex_lock(&chip->lock);
    switch (c->chip_id) {
    case KVM_IRQCHIP_PIC_MASTER:
    case KVM_IRQCHIP_PIC_SLAVE:
        pic_state_set(chip, c->chip_id, &c->chip.pic);
        break;
    case KVM_IRQCHIP_IOAPIC:
        ioapic_state_set(chip, &c->chip.ioapic);
        break;
    default:
        rc = -EINVAL;
    }
    pthread_mutex_unlock(&chip->lock);
    return rc;
}

int irqchip_pit_get(struct irqchip *chip, struct kvm_pit_state2 *s)
{
    if (!chip->pit.present)
        return -ENXIO;
    pthread_mutex_lock(&chip->lock);
    pit_state_get(chip, s);
    pthread_mutex_unlock(&chip->lock);
    return 0;
}

int irqchip_pit_set(struct irqchip *chip, const struct kvm_pit_state2 *s)
{
    if (!chip->pit.present)
        return -ENXIO;
    pthread_mutex_lock(&chip->lock);
    pit_state_set(chip, s);
    pthread_mutex_unlock(&chip->lock);
    return 0;
}

int irqchip_pit_reinject(struct irqchip *chip, bool reinject)
{
    if (!chip->pit.present)
        return -ENXIO;
    pthread_mutex_lock(&chip->lock);
    chip->pit.reinject = reinject;
    pit_unmasked(chip);
    pthread_mutex_unlock(&chip->lock);
    return 0;
}

/* --- ports --- */

/* A cheap look before the lock: which ports can be a chip's at all. */
static bool port_ours(const struct irqchip *chip, u16 port)
{
    switch (port) {
    case 0x20:
    case 0x21:
    case 0xa0:
    case 0xa1:
    case 0x4d0:
    case 0x4d1:
        return true;
    case 0x40 ... 0x43:
        return chip->pit.present;
    case 0x61:
        return chip->pit.present && chip->pit.speaker;
    default:
        return false;
    }
}

bool irqchip_io_read(struct irqchip *chip, u16 port, unsigned size, u32 *val)
{
    if (!port_ours(chip, port))
        return false;
    *val = size == 1 ? 0xff : size == 2 ? 0xffff : 0xffffffff;
    if (size != 1) /* the chips sit on an 8-bit bus */
        return true;
    pthread_mutex_lock(&chip->lock);
    if (!pic_io_read(chip, port, val))
        pit_io_read(chip, port, val);
    pthread_mutex_unlock(&chip->lock);
    return true;
}

bool irqchip_io_write(struct irqchip *chip, u16 port, unsigned size, u32 val)
{
    if (!port_ours(chip, port))
        return false;
    if (size != 1)
        return true;
    pthread_mutex_lock(&chip->lock);
    if (!pic_io_write(chip, port, (u8)val))
        pit_io_write(chip, port, (u8)val);
    pthread_mutex_unlock(&chip->lock);
    return true;
}

/* --- pages --- */

static bool ioapic_hit(const struct irqchip *chip, gpa_t gpa)
{
    return gpa >= chip->ioapic.base && gpa - chip->ioapic.base < IOAPIC_WINDOW;
}

bool irqchip_mmio_read(struct irqchip *chip, struct lapic *l, gpa_t gpa, void *buf, unsigned size)
{
    if (l && lapic_mmio_page(l, gpa)) {
        lapic_mmio_read(l, gpa & ~PAGE_MASK, buf, size);
        return true;
    }
    if (!ioapic_hit(chip, gpa))
        return false;
    pthread_mutex_lock(&chip->lock);
    ioapic_read(chip, gpa - chip->ioapic.base, buf, size);
    pthread_mutex_unlock(&chip->lock);
    return true;
}

bool irqchip_mmio_write(struct irqchip *chip, struct lapic *l, gpa_t gpa, const void *buf,
                        unsigned size)
{
    if (l && lapic_mmio_page(l, gpa)) {
        lapic_mmio_write(l, gpa & ~PAGE_MASK, buf, size);
        return true;
    }
    if (!ioapic_hit(chip, gpa))
        return false;
    pthread_mutex_lock(&chip->lock);
    ioapic_write(chip, gpa - chip->ioapic.base, buf, size);
    pthread_mutex_unlock(&chip->lock);
    return true;
}
