// SPDX-License-Identifier: MIT
// A LAPIC as the CPU and the ioctls see it: life, reset, the interrupt to deliver, events, saved state.
#include "kvm/lapic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Version 0x14, LVT entries 0..5: xAPIC without CMCI, no suppression of EOI broadcasts. */
#define VERSION_VALUE 0x00050014u
#define LVT_COUNT     6

#define CPUID_APIC (1u << 9) /* leaf 1, EDX */

int lapic_create(struct lapic **ret, struct irqchip *chip, struct cpu *c, u32 id, bool bsp,
                 void (*kick)(void *arg), void *arg)
{
    struct lapic *l;
    unsigned n;
    int rc = 0;

    if (id >= APIC_ID_MAX)
        return -EINVAL;
    l = aligned_alloc(64, ALIGN_UP(sizeof(*l), 64));
    if (!l)
        return -ENOMEM;
    memset(l, 0, sizeof(*l));
    l->chip = chip;
    l->cpu = c;
    l->id = id;
    l->bsp = bsp;
    l->kick = kick;
    l->kick_arg = arg;
    lapic_timer_init(l);
    lapic_reset(l, false);

    pthread_mutex_lock(&chip->lock);
    for (n = 0; n < CPU_WORLD_MAX && atomic_load(&chip->lapics[n]); n++)
        ;
    if (n == CPU_WORLD_MAX)
        rc = -ENOSPC;
    else if (atomic_load(&chip->by_id[id]))
        rc = -EEXIST;
    if (!rc) {
        atomic_store(&chip->by_id[id], l);
        atomic_store(&chip->lapics[n], l);
        if (n >= atomic_load(&chip->nr_lapics))
            atomic_store(&chip->nr_lapics, n + 1);
    }
    pthread_mutex_unlock(&chip->lock);
    if (rc) {
        pthread_mutex_destroy(&l->lock);
        free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

void lapic_free(struct lapic *l)
{
    struct irqchip *chip;

    if (!l)
        return;
    chip = l->chip;
    lapic_timer_stop(l);
    /* Who looks for deadlines holds one of the two. */
    pthread_mutex_lock(&chip->lock);
    pthread_mutex_lock(&chip->timers.lock);
    for (unsigned i = 0; i < CPU_WORLD_MAX; i++)
        if (atomic_load(&chip->lapics[i]) == l)
            atomic_store(&chip->lapics[i], NULL);
    atomic_store(&chip->by_id[l->id], NULL);
    pthread_mutex_unlock(&chip->timers.lock);
    pthread_mutex_unlock(&chip->lock);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* SDM 3A 11.12.10.2: the logical ID of x2APIC mode follows from the ID. */
static u32 x2apic_ldr(u32 id)
{
    return (id >> 4) << 16 | 1u << (id & 15);
}

/* SDM 3A 11.4.7.1. The BSP's LINT0 comes up as ExtINT, as firmware would leave it. */
static void reset_regs(struct lapic *l)
{
    for (unsigned r = 0; r < APIC_REGS; r++)
        lapic_reg_put(l, r, 0);
    lapic_reg_put(l, APIC_ID, l->id);
    lapic_reg_put(l, APIC_VERSION, VERSION_VALUE);
    lapic_reg_put(l, APIC_DFR, ~0u);
    lapic_reg_put(l, APIC_SVR, 0xff);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic_reg_put(l, APIC_LVT_TIMER + i, APIC_LVT_MASKED);
    if (l->bsp)
        lapic_reg_put(l, APIC_LVT_LINT0, APIC_EXTINT << 8);
    if (lapic_x2apic(l))
        lapic_reg_put(l, APIC_LDR, x2apic_ldr(l->id));
    atomic_store(&l->esr, 0);
}

void lapic_reset(struct lapic *l, bool init)
{
    lapic_timer_stop(l);
    if (!init) {
        atomic_store(&l->base, APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (l->bsp ? APIC_BASE_BSP : 0));
        atomic_store(&l->events, 0);
        atomic_store(&l->unhalt, false);
        memset(l->eoi_exits, 0, sizeof(l->eoi_exits));
    }
    reset_regs(l);
}

/* --- the interrupt to deliver --- */

/* The highest vector in a 256-bit bank, or -1. */
static int highest(const struct lapic *l, unsigned bank)
{
    for (int w = 7; w >= 0; w--) {
        u32 v = lapic_reg(l, bank + (unsigned)w);

        if (v)
            return w * 32 + 31 - __builtin_clz(v);
    }
    return -1;
}

/* SDM 3A 11.8.3.1. */
void lapic_ppr_update(struct lapic *l)
{
    u32 tpr = lapic_reg(l, APIC_TPR) & 0xff;
    int isr = highest(l, APIC_ISR);
    u32 isrv = isr < 0 ? 0 : (u32)isr & 0xf0;

    lapic_reg_put(l, APIC_PPR, (tpr & 0xf0) >= isrv ? tpr : isrv);
}

static int deliverable(const struct lapic *l)
{
    int v;

    if (!lapic_present(l))
        return -1;
    v = highest(l, APIC_IRR);
    return v >= 0 && ((u32)v & 0xf0) > (lapic_reg(l, APIC_PPR) & 0xf0) ? v : -1;
}

bool lapic_takes_pic(const struct lapic *l)
{
    u32 lvt = lapic_reg(l, APIC_LVT_LINT0);

    /* With the APIC globally off, the INTR pin is the CPU's own (SDM 3A 11.4.3). */
    if (!lapic_present(l))
        return l->bsp;
    return !(lvt & APIC_LVT_MASKED) && APIC_LVT_MODE(lvt) == APIC_EXTINT;
}

bool lapic_intr_pending(struct lapic *l)
{
    if (deliverable(l) >= 0)
        return true;
    return atomic_load_explicit(&l->chip->pic.output, memory_order_acquire) && lapic_takes_pic(l);
}

int lapic_intr_ack(struct lapic *l)
{
    int v = deliverable(l);

    if (v >= 0) {
        u32 bit = 1u << (v % 32);
        unsigned w = (unsigned)v / 32;

        atomic_fetch_and(&l->reg[APIC_IRR + w], ~bit);
        lapic_reg_put(l, APIC_ISR + w, lapic_reg(l, APIC_ISR + w) | bit);
        lapic_ppr_update(l);
        return v;
    }
    v = -1;
    if (atomic_load(&l->chip->pic.output) && lapic_takes_pic(l)) {
        pthread_mutex_lock(&l->chip->lock);
        if (atomic_load(&l->chip->pic.output))
            v = pic_ack(l->chip);
        pthread_mutex_unlock(&l->chip->lock);
    }
    return v;
}

void lapic_eoi(struct lapic *l)
{
    int v = highest(l, APIC_ISR);
    u32 bit;
    unsigned w;
    bool level;

    if (v < 0)
        return;
    bit = 1u << (v % 32);
    w = (unsigned)v / 32;
    lapic_reg_put(l, APIC_ISR + w, lapic_reg(l, APIC_ISR + w) & ~bit);
    lapic_ppr_update(l);
    level = lapic_vector_test(l, APIC_TMR, (u8)v);
    if (level && l->chip->split) {
        l->eoi_exits[w] |= bit;
        cpu_request(l->cpu, CPU_REQ_EXIT);
    } else if (level || (atomic_load(&l->chip->eoi_vectors[w]) & bit)) {
        pthread_mutex_lock(&l->chip->lock);
        ioapic_eoi(l->chip, (u8)v, level);
        pthread_mutex_unlock(&l->chip->lock);
    }
    if (atomic_load_explicit(&l->missed, memory_order_relaxed))
        lapic_timer_acked(l, (u8)v);
    /* What this one held back may go now. */
    if (deliverable(l) >= 0)
        cpu_request(l->cpu, CPU_REQ_INTR);
}

int lapic_eoi_exit_take(struct lapic *l)
{
    for (unsigned w = 0; w < ARRAY_SIZE(l->eoi_exits); w++) {
        u32 set = l->eoi_exits[w];

        if (!set)
            continue;
        l->eoi_exits[w] = set & (set - 1);
        return (int)w * 32 + __builtin_ctz(set);
    }
    return -1;
}

void lapic_tpr_set(struct lapic *l, u8 tpr)
{
    lapic_reg_put(l, APIC_TPR, tpr);
    lapic_ppr_update(l);
    if (deliverable(l) >= 0)
        cpu_request(l->cpu, CPU_REQ_INTR);
}

u8 lapic_cr8_read(struct lapic *l)
{
    return (u8)(lapic_reg(l, APIC_TPR) >> 4 & 0xf);
}

void lapic_cr8_write(struct lapic *l, u8 tpr)
{
    lapic_tpr_set(l, (u8)(tpr << 4));
}

void lapic_error(struct lapic *l, u32 bits)
{
    u32 old = atomic_fetch_or(&l->esr, bits);

    if ((old & bits) != bits)
        lapic_lvt_deliver(l, APIC_LVT_ERROR);
}

/* --- events --- */

bool lapic_events_pending(struct lapic *l)
{
    return atomic_load(&l->events) != 0;
}

u32 lapic_events_take(struct lapic *l, u8 *sipi_vector)
{
    u32 ev = atomic_exchange(&l->events, 0);

    if (ev & LAPIC_EVENT_SIPI)
        *sipi_vector = atomic_load(&l->sipi_vector);
    return ev;
}

u8 lapic_sipi_vector(struct lapic *l)
{
    return atomic_load(&l->sipi_vector);
}

void lapic_sipi_vector_set(struct lapic *l, u8 vector)
{
    atomic_store(&l->sipi_vector, vector);
}

bool lapic_unhalt_take(struct lapic *l)
{
    return atomic_load(&l->unhalt) && atomic_exchange(&l->unhalt, false);
}

/* --- APIC_BASE --- */

static bool cpuid_x2apic(const struct cpu *c)
{
    for (unsigned i = 0; i < c->cpuid_count; i++)
        if (c->cpuid[i].leaf == 1)
            return c->cpuid[i].ecx >> 21 & 1;
    return false;
}

static unsigned cpuid_maxphyaddr(const struct cpu *c)
{
    for (unsigned i = 0; i < c->cpuid_count; i++)
        if (c->cpuid[i].leaf == 0x80000008)
            return c->cpuid[i].eax & 0xff;
    return 36;
}

/* CPUID.1:EDX.APIC shows the global enable (SDM 3A 11.4.3). */
static void cpuid_apic_set(struct cpu *c, bool on)
{
    for (unsigned i = 0; i < c->cpuid_count; i++)
        if (c->cpuid[i].leaf == 1)
            c->cpuid[i].edx = on ? c->cpuid[i].edx | CPUID_APIC : c->cpuid[i].edx & ~CPUID_APIC;
}

u64 lapic_base_get(const struct lapic *l)
{
    return atomic_load(&l->base);
}

/* SDM 3A figure 11-27: what may follow what. */
static bool transition_ok(u64 old, u64 val, bool host)
{
    bool was_on = old & APIC_BASE_ENABLE, was_x2 = old & APIC_BASE_X2APIC;
    bool on = val & APIC_BASE_ENABLE, x2 = val & APIC_BASE_X2APIC;

    if (x2 && !on)
        return false;
    if (host)
        return true;
    return !(x2 && !was_on) && !(was_x2 && on && !x2);
}

int lapic_base_write(struct lapic *l, u64 val, bool host)
{
    u64 old = atomic_load(&l->base), change = old ^ val;
    unsigned phys = cpuid_maxphyaddr(l->cpu);
    u64 reserved = 0x2ff | (phys < 64 ? ~0ull << phys : 0);

    if (val & reserved)
        return -EINVAL;
    if ((val & APIC_BASE_X2APIC) && !cpuid_x2apic(l->cpu))
        return -EINVAL;
    if (!transition_ok(old, val, host))
        return -EINVAL;
    atomic_store(&l->base, val);
    if (change & APIC_BASE_ENABLE)
        cpuid_apic_set(l->cpu, val & APIC_BASE_ENABLE);
    if ((change & APIC_BASE_ENABLE) && !host) {
        /* Off and on again is a reset (SDM 3A 11.4.3); INTR changes hands. */
        lapic_timer_stop(l);
        reset_regs(l);
        cpu_request(l->cpu, CPU_REQ_INTR);
    }
    if ((change & APIC_BASE_X2APIC) && (val & APIC_BASE_X2APIC))
        lapic_reg_put(l, APIC_LDR, x2apic_ldr(l->id));
    return 0;
}

int lapic_base_set(struct lapic *l, u64 val)
{
    return lapic_base_write(l, val, true);
}

/* --- KVM_GET_LAPIC, KVM_SET_LAPIC --- */

static u32 state_word(const struct kvm_lapic_state *s, unsigned r)
{
    u32 v;

    memcpy(&v, &s->regs[r * 16], sizeof(v));
    return v;
}

void lapic_state_get(struct lapic *l, struct kvm_lapic_state *s)
{
    u32 count = lapic_timer_count(l); /* first: if the timer fires now, IRR has it */

    memset(s, 0, sizeof(*s));
    for (unsigned r = 0; r < APIC_REGS; r++) {
        u32 v = lapic_reg(l, r);

        if (r == APIC_ID && !(lapic_x2apic(l) && l->chip->x2apic_32bit_ids))
            v <<= 24;
        else if (r == APIC_TMCCT)
            v = count;
        memcpy(&s->regs[r * 16], &v, sizeof(v));
    }
}

/* The ID is the vCPU's, whatever the caller says; one who knows of 32-bit IDs must agree in x2APIC mode. */
static int state_check(const struct lapic *l, const struct kvm_lapic_state *s)
{
    if (lapic_x2apic(l) && l->chip->x2apic_32bit_ids && state_word(s, APIC_ID) != l->id)
        return -EINVAL;
    return 0;
}

int lapic_state_set(struct lapic *l, const struct kvm_lapic_state *s)
{
    if (state_check(l, s))
        return -EINVAL;
    lapic_timer_stop(l);
    for (unsigned r = 0; r < APIC_REGS; r++)
        lapic_reg_put(l, r, state_word(s, r));
    lapic_reg_put(l, APIC_ID, l->id);
    lapic_reg_put(l, APIC_VERSION, VERSION_VALUE);
    lapic_reg_put(l, APIC_SELF_IPI, 0);
    lapic_reg_put(l, APIC_EOI, 0);
    atomic_store(&l->esr, 0);
    if (lapic_x2apic(l))
        lapic_reg_put(l, APIC_LDR, x2apic_ldr(l->id));
    lapic_ppr_update(l);
    lapic_timer_start(l, state_word(s, APIC_TMCCT));
    lapic_notify(l, CPU_REQ_INTR);
    return 0;
}
