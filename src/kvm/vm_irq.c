// SPDX-License-Identifier: MIT
// The interrupt chips, their wiring and eventfds at the ABI.

#include "kvm/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Make the chips. Called with the lock; (mode) tells who has the IOAPIC and the 8259s. */
static int chips_create(struct kvm_vm *vm, enum kvm_irqchip_mode mode)
{
    struct irqchip *chip;
    int rc;

    if (vm->irqchip)
        return -EEXIST;
    if (vm->vcpu_count)
        return -EINVAL;
    rc = irqchip_create(&chip, NULL);
    if (rc)
        return rc;
    if (mode == KVM_CHIP_SPLIT)
        rc = irqchip_split(chip); /* only what user space routes, as MSIs */
    if (rc) {
        irqchip_free(chip);
        return rc;
    }
    vm->irqchip = chip;
    vm->chip_mode = mode;
    return 0;
}

int kvm_vm_split_irqchip(struct kvm_vm *vm, u64 pins)
{
    return pins > IRQCHIP_MAX_GSI ? -EINVAL : chips_create(vm, KVM_CHIP_SPLIT);
}

int kvm_vm_create_irqchip(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    int rc;

    pthread_mutex_lock(&vm->lock);
    rc = chips_create(vm, KVM_CHIP_KERNEL);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

/* The chips, or NULL. They are never taken away again, so the answer stays good. */
static struct irqchip *chip_of(struct kvm_vm *vm, bool board)
{
    struct irqchip *chip;

    pthread_mutex_lock(&vm->lock);
    chip = board && vm->chip_mode != KVM_CHIP_KERNEL ? NULL : vm->irqchip;
    pthread_mutex_unlock(&vm->lock);
    return chip;
}

int kvm_vm_get_irqchip(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, true);

    return chip ? irqchip_state_get(chip, arg) : -ENXIO;
}

int kvm_vm_set_irqchip(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, true);

    return chip ? irqchip_state_set(chip, arg) : -ENXIO;
}

/* --- PIT --- */

static int pit_create(struct kvm_vm *vm, u32 flags)
{
    int rc;

    pthread_mutex_lock(&vm->lock);
    rc = vm->chip_mode == KVM_CHIP_KERNEL ? irqchip_pit_create(vm->irqchip, flags) : -ENOENT;
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

int kvm_vm_create_pit(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return pit_create(vm, KVM_PIT_SPEAKER_DUMMY);
}

int kvm_vm_create_pit2(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    const struct kvm_pit_config *c = arg;

    return pit_create(vm, c->flags);
}

int kvm_vm_get_pit2(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, true);

    return chip ? irqchip_pit_get(chip, arg) : -ENXIO;
}

int kvm_vm_set_pit2(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, true);

    return chip ? irqchip_pit_set(chip, arg) : -ENXIO;
}

int kvm_vm_get_pit(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct kvm_pit_state2 s;
    int rc = kvm_vm_get_pit2(vm, &s, raw);

    if (!rc)
        memcpy(arg, &s, sizeof(struct kvm_pit_state));
    return rc;
}

int kvm_vm_set_pit(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct kvm_pit_state2 s = {0};

    memcpy(&s, arg, sizeof(struct kvm_pit_state));
    return kvm_vm_set_pit2(vm, &s, raw);
}

int kvm_vm_reinject_control(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    const struct kvm_reinject_control *c = arg;
    struct irqchip *chip = chip_of(vm, true);

    return chip ? irqchip_pit_reinject(chip, c->pit_reinject) : -ENXIO;
}

/* --- interrupts from user space --- */

int kvm_vm_irq_line_status(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct kvm_irq_level *l = arg;
    struct irqchip *chip = chip_of(vm, false);

    if (!chip)
        return -ENXIO;
    l->status = irqchip_set_irq(chip, l->irq, (int)l->level, IRQ_SOURCE_USER);
    return 0;
}

int kvm_vm_irq_line(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return kvm_vm_irq_line_status(vm, arg, raw);
}

int kvm_vm_signal_msi(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, false);

    return chip ? irqchip_signal_msi(chip, arg) : -EINVAL;
}

int kvm_vm_set_gsi_routing(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, false);
    struct kvm_irq_routing_entry *e;
    struct kvm_irq_routing head;
    int rc;

    if (kvm_copy_in(&head, raw, sizeof(head)))
        return -EFAULT;
    if (!chip || head.nr > IRQCHIP_MAX_GSI || head.flags)
        return -EINVAL;
    e = malloc(head.nr ? head.nr * sizeof(*e) : 1);
    if (!e)
        return -ENOMEM;
    rc = kvm_copy_in(e, raw + sizeof(head), head.nr * sizeof(*e));
    if (!rc)
        rc = irqchip_routing_set(chip, e, head.nr, head.flags);
    free(e);
    return rc;
}

/* --- eventfds --- */

int kvm_vm_irqfd(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    struct irqchip *chip = chip_of(vm, false);

    return chip ? irqchip_irqfd(chip, arg) : -EINVAL;
}

int kvm_vm_ioeventfd(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return ioevents_ioctl(vm->ioevents, arg);
}
