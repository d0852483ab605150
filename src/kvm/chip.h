// SPDX-License-Identifier: MIT
// What the files behind irqchip.h share: the state of one VM's interrupt chips.
#pragma once

#include "cpu/world.h"
#include "kvm/irqchip.h"

#include <pthread.h>

/*
 * Theory of operation
 *
 * Locks, outermost first:
 *   irqchip.lock   PICs, IOAPIC, PIT, routing, irqfds
 *   lapic.lock     one LAPIC's timer
 *   timers.lock    what the timerfd is armed for
 * A LAPIC's registers need none: IRR, TMR and events are atomic and anybody sets them; all
 * else is written by the vCPU's thread alone, and read by others (ID, mode, LDR, DFR, SVR,
 * PPR, for choosing a destination) as single atomic words. So a chip delivers to a LAPIC
 * while it holds irqchip.lock, and an IPI takes no lock.
 *
 * An EOI for a vector that the IOAPIC holds as level-triggered, or that has somebody to
 * tell (PIT, resamplefd), goes back: vCPU thread -> ioapic_eoi() under irqchip.lock ->
 * irqchip_acked() -> PIT or resamplefd.
 */

#define IRQ_PINS     KVM_IOAPIC_NUM_PINS
#define APIC_ID_MAX  1024 /* KVM_CAP_MAX_VCPU_ID: IDs are below it */
#define PIT_GSI      0
#define PIT_HZ       1193182u
#define NSEC_PER_SEC 1000000000ull

/* Delivery modes of ICR, LVT, redirection entries and MSIs: SDM 3A 11.5.1. */
enum apic_mode {
    APIC_FIXED,
    APIC_LOWEST,
    APIC_SMI,
    APIC_RESERVED,
    APIC_NMI,
    APIC_INIT,
    APIC_SIPI,
    APIC_EXTINT
};

/* One interrupt on its way to LAPICs. */
struct apic_msg {
    u32 dest;
    u8 vector;
    u8 mode; /* enum apic_mode */
    bool logical;
    bool level;     /* level-triggered */
    bool assert;    /* false only for INIT level de-assert */
    bool broadcast; /* to everybody, whatever (dest) says */
    bool recheck;   /* userspace may have written guest memory */
};

struct pic {
    struct kvm_pic_state s[2];
    u8 line[16];         /* per IRQ: bit per irq_source that holds it high */
    _Atomic bool output; /* INTR of the master */
};

struct ioapic {
    u64 base;
    u32 ioregsel, id;
    u32 irr; /* bit per pin: the line is high */
    u64 redir[IRQ_PINS];
    u8 line[IRQ_PINS];
};

struct pit {
    struct kvm_pit_channel_state ch[3];
    bool present, speaker, speaker_on;
    bool reinject;    /* owe the guest every tick, one per EOI */
    bool unacked;     /* (reinject) a tick was raised and its EOI has not come */
    u64 ticks;        /* channel 0: ticks raised since count_load_time */
    bool running;     /* channel 0 has been loaded */
    u32 flags;        /* KVM_PIT_FLAGS_HPET_LEGACY: channel 0 raises nothing */
    u64 paused_ns[3]; /* how long a channel whose gate is low had run */
    _Atomic u64 deadline;
};

struct route {
    struct kvm_irq_routing_entry e;
    int next; /* of the same GSI, -1 at the end */
};

struct routing {
    unsigned gsis;
    int *first; /* per GSI, -1: no route */
    struct route *routes;
    int gsi_of[3][IRQ_PINS]; /* per KVM_IRQCHIP_* and pin: the GSI it is on, or -1 */
};

struct irqfd {
    struct irqfd *next;
    u64 id;              /* what epoll reports; never reused */
    int fd, resample_fd; /* ours */
    int user_fd;         /* the number it was assigned by */
    u32 gsi;
};

/* The service thread and what wakes it. */
struct timers {
    pthread_mutex_t lock;
    u64 armed; /* what (timer_fd) is set to; IRQ_DEADLINE_NONE */
    int timer_fd, epoll_fd, stop_fd;
    bool started;
    pthread_t thread;
};

struct irqchip {
    pthread_mutex_t lock;
    struct irq_time time;
    u64 bus_ns;               /* per tick of an undivided LAPIC timer */
    bool split;               /* the IOAPIC and the PICs are user space's */
    bool x2apic_32bit_ids;    /* KVM_X2APIC_API_USE_32BIT_IDS */
    bool x2apic_no_broadcast; /* KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK */
    struct pic pic;
    struct ioapic ioapic;
    struct pit pit;
    struct routing *routing;
    struct irqfd *irqfds;
    u64 irqfd_ids;
    _Atomic u32 eoi_vectors[8]; /* vectors whose EOI ioapic.c wants though they are edges */
    struct timers timers;

    /* Added to under (lock), read without. */
    _Atomic(struct lapic *) lapics[CPU_WORLD_MAX];
    _Atomic unsigned nr_lapics;
    _Atomic(struct lapic *) by_id[APIC_ID_MAX];
};

static inline u64 irqchip_now(const struct irqchip *chip)
{
    return chip->time.now_ns(chip->time.arg);
}

/* --- irqchip.c --- */

/*
 * The guest has acknowledged pin (pin) of irqchip (KVM_IRQCHIP_*): tell PIT and resamplefds.
 * Lock held.
 */
void irqchip_acked(struct irqchip *chip, u32 irqchip, u32 pin);

/* --- lapic_ipi.c --- */

/*
 * Find the destinations of (m) and deliver. > 0 delivered to that many, 0 merged with one
 * pending, -1 nobody. (src): the sender of an IPI, NULL for a chip. No lock needed.
 */
int apic_deliver(struct irqchip *chip, struct lapic *src, const struct apic_msg *m);

/* --- routing.c; all with irqchip.lock held --- */

struct routing *routing_default(void);
void routing_free(struct routing *r);
int irqchip_set_irq_locked(struct irqchip *chip, u32 gsi, int level, enum irq_source source);

/* The GSI that (pin) of (irqchip) is on, or -1. */
int routing_gsi(const struct routing *r, u32 irqchip, u32 pin);

/* --- pic.c; lock held --- */

void pic_init(struct irqchip *chip);
int pic_set_irq(struct irqchip *chip, u32 irq, int level, enum irq_source source);
bool pic_io_read(struct irqchip *chip, u16 port, u32 *val);
bool pic_io_write(struct irqchip *chip, u16 port, u8 val);
int pic_ack(struct irqchip *chip); /* INTA: the vector */
void pic_state_set(struct irqchip *chip, unsigned which, const struct kvm_pic_state *s);

/* --- ioapic.c; lock held --- */

void ioapic_init(struct irqchip *chip);
int ioapic_set_irq(struct irqchip *chip, u32 pin, int level, enum irq_source source);
void ioapic_read(struct irqchip *chip, u64 offset, void *buf, unsigned size);
void ioapic_write(struct irqchip *chip, u64 offset, const void *buf, unsigned size);
void ioapic_eoi(struct irqchip *chip, u8 vector, bool level);
void ioapic_state_get(struct irqchip *chip, struct kvm_ioapic_state *s);
void ioapic_state_set(struct irqchip *chip, const struct kvm_ioapic_state *s);
/* Recompute chip->eoi_vectors, after redirection entries, routing or irqfds changed. */
void ioapic_eoi_vectors_update(struct irqchip *chip);

/* --- pit.c; lock held --- */

void pit_init(struct irqchip *chip, u32 flags);
bool pit_io_read(struct irqchip *chip, u16 port, u32 *val);
bool pit_io_write(struct irqchip *chip, u16 port, u8 val);
void pit_state_get(struct irqchip *chip, struct kvm_pit_state2 *s);
void pit_state_set(struct irqchip *chip, const struct kvm_pit_state2 *s);
void pit_expire(struct irqchip *chip);
void pit_acked(struct irqchip *chip);
void pit_unmasked(struct irqchip *chip);

/* --- eventfd.c --- */

/* Epoll says irqfd (id) is readable. Lock held. */
void irqfd_ready(struct irqchip *chip, u64 id);
void irqfd_acked(struct irqchip *chip, u32 gsi);     /* lock held */
bool irqfd_resamples(struct irqchip *chip, u32 gsi); /* lock held */
void irqfd_free_all(struct irqchip *chip);

/* --- timer.c --- */

#define TIMER_ID_TIMER 0 /* epoll data; irqfd ids start above */
#define TIMER_ID_STOP  1
#define TIMER_ID_IRQFD 2

int timers_start(struct irqchip *chip);
void timers_stop(struct irqchip *chip);

/* Make sure that the service thread looks at the clock no later than (deadline). */
void timers_arm(struct irqchip *chip, u64 deadline);

/* Some deadline went away or is somebody else's care: forget early wake-ups. */
void timers_rearm(struct irqchip *chip);
