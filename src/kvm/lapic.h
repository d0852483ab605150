// SPDX-License-Identifier: MIT
// One local APIC: its registers as SDM 3A chapter 11 lays them out, and the timer.
#pragma once

#include "kvm/chip.h"

/* Register numbers: MMIO offset >> 4, x2APIC MSR - 0x800. */
enum apic_reg {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_APR = 0x09,
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_RRD = 0x0c,
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e,
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10,
    APIC_TMR = 0x18,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_ICR = 0x30,
    APIC_ICR2 = 0x31,
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_THERMAL = 0x33,
    APIC_LVT_PC = 0x34,
    APIC_LVT_LINT0 = 0x35,
    APIC_LVT_LINT1 = 0x36,
    APIC_LVT_ERROR = 0x37,
    APIC_TMICT = 0x38,
    APIC_TMCCT = 0x39,
    APIC_TDCR = 0x3e,
    APIC_SELF_IPI = 0x3f,
    APIC_REGS = 0x40
};

#define APIC_BASE_DEFAULT 0xfee00000ull
#define APIC_BASE_BSP     BIT(8)
#define APIC_BASE_X2APIC  BIT(10)
#define APIC_BASE_ENABLE  BIT(11)

#define APIC_SVR_ENABLE    BIT(8)
#define APIC_LVT_MASKED    BIT(16)
#define APIC_LVT_MODE(lvt) ((u8)((lvt) >> 8 & 7))

#define APIC_TIMER_MODE     (3u << 17)
#define APIC_TIMER_ONESHOT  (0u << 17)
#define APIC_TIMER_PERIODIC (1u << 17)
#define APIC_TIMER_TSC      (2u << 17)

#define APIC_ESR_SEND_VECTOR BIT(5)
#define APIC_ESR_RECV_VECTOR BIT(6)
#define APIC_ESR_REGISTER    BIT(7)

/*
 * (reg) is hot: IRR, TMR and PPR of all LAPICs are read for every interrupt. Who may
 * write what: see chip.h. ID holds the APIC ID as a plain number, in both modes.
 */
struct lapic {
    _Alignas(64) _Atomic u32 reg[APIC_REGS];
    _Atomic u64 base;
    _Atomic u32 events; /* LAPIC_EVENT_* */
    _Atomic u8 sipi_vector;
    _Atomic bool unhalt;
    _Atomic u32 esr;    /* errors since the last write of ESR */
    _Atomic u32 served; /* lowest-priority interrupts taken: breaks ties */
    u32 eoi_exits
        [8]; /* split irqchip: level-triggered vectors ended, not yet told; vCPU's thread */
    struct irqchip *chip;
    struct cpu *cpu;
    u32 id;
    bool bsp;
    void (*kick)(void *arg);
    void *kick_arg;

    /* Protected by (lock); (deadline), (asleep) and (missed) are read without it. */
    pthread_mutex_t lock;
    _Atomic u64 deadline; /* ns, IRQ_DEADLINE_NONE when disarmed */
    _Atomic bool asleep;  /* the vCPU's thread serves the timer itself */
    _Atomic u32 missed;   /* periods that are owed */
    u64 period;       /* ns of one run of the count; 0 when TMICT is 0 or in TSC-deadline mode */
    u64 tsc_deadline; /* guest TSC; 0 when disarmed */
};

static inline u32 lapic_reg(const struct lapic *l, unsigned r)
{
    return atomic_load_explicit(&l->reg[r], memory_order_relaxed);
}

static inline void lapic_reg_put(struct lapic *l, unsigned r, u32 val)
{
    atomic_store_explicit(&l->reg[r], val, memory_order_relaxed);
}

static inline bool lapic_present(const struct lapic *l)
{
    return atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_ENABLE;
}

static inline bool lapic_x2apic(const struct lapic *l)
{
    u64 both = APIC_BASE_ENABLE | APIC_BASE_X2APIC;

    return (atomic_load_explicit(&l->base, memory_order_relaxed) & both) == both;
}

/* Present and software-enabled: takes fixed interrupts. */
static inline bool lapic_enabled(const struct lapic *l)
{
    return lapic_present(l) && (lapic_reg(l, APIC_SVR) & APIC_SVR_ENABLE);
}

static inline bool lapic_vector_test(const struct lapic *l, unsigned bank, u8 vector)
{
    return lapic_reg(l, bank + vector / 32) >> (vector % 32) & 1;
}

/* Have the vCPU look: CPU_REQ_INTR or EXIT (and RECHECK), and wake it. Any thread. */
static inline void lapic_notify(struct lapic *l, u32 request)
{
    cpu_request(l->cpu, request);
    l->kick(l->kick_arg);
}

/* --- lapic.c --- */

/* Note an error; raises LVT error. Any thread. */
void lapic_error(struct lapic *l, u32 bits);

/* Recompute PPR after TPR or ISR changed; set TPR. vCPU's thread. */
void lapic_ppr_update(struct lapic *l);
void lapic_tpr_set(struct lapic *l, u8 tpr);

/* EOI of the highest vector in service. vCPU's thread. */
void lapic_eoi(struct lapic *l);

/* IA32_APIC_BASE, by the guest's rules or the host's. 0 or -EINVAL. */
int lapic_base_write(struct lapic *l, u64 val, bool host);

/* True if the PIC's INTR line reaches this CPU. */
bool lapic_takes_pic(const struct lapic *l);

/* --- lapic_regs.c --- */

/* The page at APIC_BASE, when it is there: xAPIC mode. Offsets within it. */
bool lapic_mmio_page(const struct lapic *l, gpa_t gpa);
void lapic_mmio_read(struct lapic *l, u32 offset, void *buf, unsigned size);
void lapic_mmio_write(struct lapic *l, u32 offset, const void *buf, unsigned size);

/* --- lapic_ipi.c --- */

/*
 * One LAPIC takes an interrupt. True if it was accepted (counting one merged with a pending one
 * as *merged).
 */
bool lapic_accept(struct lapic *l, const struct apic_msg *m, bool *merged);

/* Deliver what LVT entry (r) says, if it is not masked. */
void lapic_lvt_deliver(struct lapic *l, unsigned r);

/* ICR written: send the IPI. */
void lapic_icr_send(struct lapic *l, u32 icr, u32 dest);

/* --- lapic_timer.c --- */

void lapic_timer_init(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
/* TMICT was written: start anew, with (count) of it left for the first run. */
void lapic_timer_start(struct lapic *l, u32 count);
/* Write TDCR: what is left of the present run goes on at the new rate. */
void lapic_timer_divide_set(struct lapic *l, u32 tdcr);
void lapic_timer_mode_changed(struct lapic *l);
u32 lapic_timer_count(struct lapic *l);
/* EOI of (vector), when (missed) is not 0: a period that is owed comes. vCPU's thread. */
void lapic_timer_acked(struct lapic *l, u8 vector);
u64 lapic_tsc_deadline_get(struct lapic *l);
void lapic_tsc_deadline_set(struct lapic *l, u64 tsc);
/* Fire if due. Any thread. */
void lapic_timer_expire(struct lapic *l, u64 now);
