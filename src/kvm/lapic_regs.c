// SPDX-License-Identifier: MIT
// The LAPIC's registers through its two doors: the MMIO page of xAPIC mode and the MSRs of x2APIC mode.
#include "kvm/lapic.h"

#include <errno.h>
#include <string.h>

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u

#define R_X BIT(0) /* xAPIC: readable */
#define W_X BIT(1) /* xAPIC: writable */
#define R_2 BIT(2) /* x2APIC: readable */
#define W_2 BIT(3) /* x2APIC: writable */
#define RW  (R_X | W_X | R_2 | W_2)
#define RO  (R_X | R_2)

/*
 * SDM 3A tables 11-1 and 11-6. (bits): what software may set; outside them an xAPIC write
 * is cut down and an x2APIC write is #GP. Bits 12 and 14 of LVT entries are status: ignored.
 */
static const struct reg_rule {
    u32 bits;
    u8 access;
} rules[APIC_REGS] = {
    [APIC_ID] = {0, RO},
    [APIC_VERSION] = {0, RO},
    [APIC_TPR] = {0xff, RW},
    [APIC_APR] = {0, R_X},
    [APIC_PPR] = {0, RO},
    [APIC_EOI] = {0, W_X | W_2},
    [APIC_RRD] = {0, R_X},
    [APIC_LDR] = {0xff000000, R_X | W_X | R_2},
    [APIC_DFR] = {0xf0000000, R_X | W_X},
    [APIC_SVR] = {0x3ff, RW},
    [APIC_ISR... APIC_ISR + 7] = {0, RO},
    [APIC_TMR... APIC_TMR + 7] = {0, RO},
    [APIC_IRR... APIC_IRR + 7] = {0, RO},
    [APIC_ESR] = {0, RW},
    [APIC_ICR] = {0x000cdfff, RW},
    [APIC_ICR2] = {0xff000000, R_X | W_X},
    [APIC_LVT_TIMER] = {0x000710ff, RW},
    [APIC_LVT_THERMAL] = {0x000117ff, RW},
    [APIC_LVT_PC] = {0x000117ff, RW},
    [APIC_LVT_LINT0] = {0x0001f7ff, RW},
    [APIC_LVT_LINT1] = {0x0001f7ff, RW},
    [APIC_LVT_ERROR] = {0x000110ff, RW},
    [APIC_TMICT] = {0xffffffff, RW},
    [APIC_TMCCT] = {0, RO},
    [APIC_TDCR] = {0xb, RW},
    [APIC_SELF_IPI] = {0xff, W_2},
};

#define LVT_STATUS (BIT(12) | BIT(14))

static u32 reg_read(struct lapic *l, unsigned r)
{
    if (r == APIC_TMCCT)
        return lapic_timer_count(l);
    if (r == APIC_ID && !lapic_x2apic(l))
        return l->id << 24;
    return lapic_reg(l, r);
}

static void svr_write(struct lapic *l, u32 val)
{
    lapic_reg_put(l, APIC_SVR, val);
    if (val & APIC_SVR_ENABLE)
        return;
    /* Software-disabled: every entry is masked and stays so (SDM 3A 11.4.7.2). */
    for (unsigned r = APIC_LVT_TIMER; r <= APIC_LVT_ERROR; r++)
        lapic_reg_put(l, r, lapic_reg(l, r) | APIC_LVT_MASKED);
}

static void lvt_write(struct lapic *l, unsigned r, u32 val)
{
    u32 old = lapic_reg(l, r), change = old ^ val;

    val &= ~(u32)LVT_STATUS;
    if (!(lapic_reg(l, APIC_SVR) & APIC_SVR_ENABLE))
        val |= APIC_LVT_MASKED;
    lapic_reg_put(l, r, val);
    /* Into and out of TSC-deadline mode disarms (SDM 3A 11.5.4.1). */
    if (r == APIC_LVT_TIMER && (change & APIC_TIMER_TSC))
        lapic_timer_mode_changed(l);
    /* Unmasking LINT0 may uncover the PIC's line. */
    if (r == APIC_LVT_LINT0)
        cpu_request(l->cpu, CPU_REQ_INTR);
}

static void timer_reg_write(struct lapic *l, unsigned r, u32 val)
{
    if (r == APIC_TDCR) {
        lapic_timer_divide_set(l, val);
        return;
    }
    /* In TSC-deadline mode TMICT does nothing (SDM 3A 11.5.4.1). */
    if ((lapic_reg(l, APIC_LVT_TIMER) & APIC_TIMER_MODE) == APIC_TIMER_TSC)
        return;
    lapic_reg_put(l, APIC_TMICT, val);
    lapic_timer_start(l, val);
}

/* A write that the rules allow; (val) is cut down to what may be set. Not ICR, not SELF_IPI. */
static void reg_write(struct lapic *l, unsigned r, u32 val)
{
    switch (r) {
    case APIC_TPR:
        lapic_tpr_set(l, (u8)val);
        break;
    case APIC_EOI:
        lapic_eoi(l);
        break;
    case APIC_DFR:
        lapic_reg_put(l, r, val | 0x0fffffff);
        break;
    case APIC_SVR:
        svr_write(l, val);
        break;
    case APIC_ESR:
        lapic_reg_put(l, r, atomic_exchange(&l->esr, 0));
        break;
    case APIC_LVT_TIMER ... APIC_LVT_ERROR:
        lvt_write(l, r, val);
        break;
    case APIC_TMICT:
    case APIC_TDCR:
        timer_reg_write(l, r, val);
        break;
    default:
        lapic_reg_put(l, r, val);
    }
}

/* --- xAPIC: the page --- */

bool lapic_mmio_page(const struct lapic *l, gpa_t gpa)
{
    u64 base = atomic_load_explicit(&l->base, memory_order_relaxed);

    if ((base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) != APIC_BASE_ENABLE)
        return false;
    return (gpa & PAGE_MASK) == (base & PAGE_MASK);
}

void lapic_mmio_read(struct lapic *l, u32 offset, void *buf, unsigned size)
{
    unsigned r = offset >> 4, at = offset & 0xf;
    u32 val = 0;

    memset(buf, 0, size);
    if (r >= APIC_REGS || !(rules[r].access & R_X)) {
        lapic_error(l, APIC_ESR_REGISTER);
        return;
    }
    if (at + size > sizeof(val)) /* only the first dword of each 16 bytes is there */
        return;
    val = reg_read(l, r);
    memcpy(buf, (u8 *)&val + at, size);
}

void lapic_mmio_write(struct lapic *l, u32 offset, const void *buf, unsigned size)
{
    unsigned r = offset >> 4;
    u32 val;

    /* Registers take aligned dwords; anything else is undefined and does nothing here. */
    if (size != 4 || (offset & 0xf))
        return;
    memcpy(&val, buf, sizeof(val));
    if (r >= APIC_REGS || !(rules[r].access & W_X)) {
        lapic_error(l, APIC_ESR_REGISTER);
        return;
    }
    if (r == APIC_ICR) {
        val &= ~(u32)BIT(12); /* never busy; the reserved bits read back as written, as KVM has it */
        lapic_reg_put(l, r, val);
        lapic_icr_send(l, val, lapic_reg(l, APIC_ICR2) >> 24);
        return;
    }
    reg_write(l, r, val & rules[r].bits);
}

/* --- x2APIC: the MSRs --- */

static int x2apic_read(struct lapic *l, unsigned r, u64 *val)
{
    if (!lapic_x2apic(l) || r >= APIC_REGS || !(rules[r].access & R_2))
        return -EINVAL;
    *val = reg_read(l, r);
    if (r == APIC_ICR)
        *val |= (u64)lapic_reg(l, APIC_ICR2) << 32;
    return 0;
}

static int icr_write(struct lapic *l, u64 val)
{
    u32 low = (u32)val;

    if (low & ~rules[APIC_ICR].bits)
        return -EINVAL;
    low &= ~(u32)BIT(12); /* there is no delivery status in x2APIC mode; the bit is let pass */
    lapic_reg_put(l, APIC_ICR, low);
    lapic_reg_put(l, APIC_ICR2, (u32)(val >> 32));
    lapic_icr_send(l, low, (u32)(val >> 32));
    return 0;
}

static int x2apic_write(struct lapic *l, unsigned r, u64 val)
{
    if (!lapic_x2apic(l) || r >= APIC_REGS || !(rules[r].access & W_2))
        return -EINVAL;
    if (r == APIC_ICR)
        return icr_write(l, val);
    if (val & ~(u64)rules[r].bits)
        return -EINVAL;
    if (r == APIC_SELF_IPI)
        lapic_icr_send(l, 1u << 18 | (u32)val, 0);
    else
        reg_write(l, r, (u32)val);
    return 0;
}

int lapic_msr_read(struct lapic *l, u32 index, u64 *val, bool host)
{
    if (index == MSR_APIC_BASE) {
        *val = lapic_base_get(l);
        return 0;
    }
    if (index == MSR_TSC_DEADLINE) {
        *val = lapic_tsc_deadline_get(l);
        return 0;
    }
    if (index < MSR_X2APIC || index > MSR_X2APIC + 0xff)
        return -ENOENT;
    return x2apic_read(l, index - MSR_X2APIC, val);
}

int lapic_msr_write(struct lapic *l, u32 index, u64 val, bool host)
{
    if (index == MSR_APIC_BASE)
        return lapic_base_write(l, val, host);
    if (index == MSR_TSC_DEADLINE) {
        lapic_tsc_deadline_set(l, val);
        return 0;
    }
    if (index < MSR_X2APIC || index > MSR_X2APIC + 0xff)
        return -ENOENT;
    return x2apic_write(l, index - MSR_X2APIC, val);
}
