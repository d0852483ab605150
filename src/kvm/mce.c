// SPDX-License-Identifier: MIT
// Machine checks that user space injects: KVM_X86_SETUP_MCE, KVM_X86_SET_MCE.

#include "kvm/handlers.h"

#include <errno.h>

#define BANKS_MAX 32
#define MCG_CTL_P BIT(8)
#define MCG_SER_P BIT(24)
#define MCG_COUNT 0xffull
#define MCG_EXT_COUNT 0xff0000ull
#define MCG_STATUS_MCIP BIT(2)
#define MCI_VAL BIT(63)
#define MCI_OVER BIT(62)
#define MCI_UC BIT(61)

enum { BANK_CTL, BANK_STATUS, BANK_ADDR, BANK_MISC, BANK_REGS };

int kvm_vcpu_setup_mce(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    u64 cap = *(const u64 *)arg, banks = cap & MCG_COUNT;
    struct cpu *c = v->cpu;

    if (!banks || banks > BANKS_MAX || cap & ~(MCG_CTL_P | MCG_SER_P | MCG_COUNT | MCG_EXT_COUNT))
        return -EINVAL;
    c->mcg_cap = cap;
    if (cap & MCG_CTL_P)
        c->mcg_ctl = ~0ull;
    for (u64 i = 0; i < banks; i++)
        c->mc_bank[i * BANK_REGS + BANK_CTL] = ~0ull;
    return 0;
}

static void record(u64 *bank, const struct kvm_x86_mce *m)
{
    u64 over = bank[BANK_STATUS] & MCI_VAL ? MCI_OVER : 0;

    bank[BANK_ADDR] = m->addr;
    bank[BANK_MISC] = m->misc;
    bank[BANK_STATUS] = m->status | over;
}

int kvm_vcpu_set_mce(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_x86_mce *m = arg;
    struct cpu *c = v->cpu;
    u64 *bank;

    if (m->bank >= (c->mcg_cap & MCG_COUNT) || !(m->status & MCI_VAL))
        return -EINVAL;
    bank = &c->mc_bank[m->bank * BANK_REGS];
    if (!(m->status & MCI_UC)) {
        if ((bank[BANK_STATUS] & (MCI_VAL | MCI_UC)) == (MCI_VAL | MCI_UC))
            bank[BANK_STATUS] |= MCI_OVER; /* the uncorrected one stays */
        else
            record(bank, m);
        return 0;
    }
    if ((c->mcg_cap & MCG_CTL_P && c->mcg_ctl != ~0ull) || bank[BANK_CTL] != ~0ull)
        return 0; /* the guest does not want to hear of it */
    if (c->mcg_status & MCG_STATUS_MCIP || !(c->cr4 & CR4_MCE)) {
        v->triple_fault = true;
        return 0;
    }
    record(bank, m);
    c->mcg_status = m->mcg_status;
    c->exc = (struct cpu_event){.pending = true, .vector = EXC_MC, .type = EVENT_EXCEPTION};
    return 0;
}
