// SPDX-License-Identifier: MIT
// The 8254 timer of a PC and the two bits of port 0x61 that belong to it, after Intel's data sheet (order 231164).
#include "kvm/chip.h"

#include <errno.h>

/*
 * Theory of operation
 *
 * Nothing counts: a counter is its load time, and what it shows is worked out from the time
 * now. (elapsed) of a channel whose gate is low stands still. Channel 0 raises GSI 0 at each
 * rising edge of OUT that modes 0, 2, 3 and 4 give, a pulse each; (ticks) of them were raised
 * since the load.
 *
 * With (reinject), as KVM has it by default, the guest gets every tick: after one was raised no
 * more come until its EOI, then the next one that is due. So while an EOI is owed there is no
 * deadline. A tick that a mask swallowed has no EOI: unmasking starts afresh.
 */

#define MODE_NEVER_SET 0xff /* in saved state: no count was ever loaded */

/* struct kvm_pit_channel_state's read_state, write_state, count_latched. */
enum { STATE_NONE, STATE_LSB, STATE_MSB, STATE_WORD0, STATE_WORD1 };

#define BACKLOG_MAX 1000 /* ticks owed to a guest that was stopped for long */

static u64 mul_div(u64 a, u64 b, u64 c)
{
    return (u64)((u128)a * b / c);
}

static u64 elapsed_ns(struct irqchip *chip, unsigned n)
{
    const struct kvm_pit_channel_state *ch = &chip->pit.ch[n];
    u64 now = irqchip_now(chip), load = (u64)ch->count_load_time;

    if (!ch->gate)
        return chip->pit.paused_ns[n];
    return now > load ? now - load : 0;
}

/* Clocks since the load. */
static u64 elapsed(struct irqchip *chip, unsigned n)
{
    return mul_div(elapsed_ns(chip, n), PIT_HZ, NSEC_PER_SEC);
}

static u32 period(const struct kvm_pit_channel_state *ch)
{
    return ch->count ? ch->count : 0x10000;
}

static bool periodic(const struct kvm_pit_channel_state *ch)
{
    return ch->mode == 2 || ch->mode == 3;
}

/* Modes 1 and 5 start at the gate's rising edge, not at the load. */
static bool waits_for_gate(const struct kvm_pit_channel_state *ch)
{
    return ch->mode == 1 || ch->mode == 5;
}

static u16 to_bcd(u32 v)
{
    v %= 10000;
    return (u16)(v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

static u32 from_bcd(u32 v)
{
    return (v >> 12) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15);
}

static u16 counter(struct irqchip *chip, unsigned n)
{
    const struct kvm_pit_channel_state *ch = &chip->pit.ch[n];
    u64 d = elapsed(chip, n);
    u32 p = period(ch), v;

    if (ch->mode == 2)
        v = p - (u32)(d % p);
    else if (ch->mode == 3) /* counts by two, twice a period */
        v = p - (u32)(2 * d % p);
    else if (ch->bcd) /* on from 0 to 9999 */
        v = (u32)((p + 10000 - d % 10000) % 10000);
    else
        v = (u32)(p - d);
    return ch->bcd ? to_bcd(v) : (u16)v;
}

static bool output(struct irqchip *chip, unsigned n)
{
    const struct kvm_pit_channel_state *ch = &chip->pit.ch[n];
    u64 d = elapsed(chip, n);
    u32 p = period(ch);

    switch (ch->mode) {
    case 2:
        return !ch->gate || d % p != p - 1;
    case 3:
        return !ch->gate || d % p < (p + 1) / 2;
    case 4:
    case 5:
        return d != p;
    default: /* 0 and 1: low while counting */
        return d >= p;
    }
}

/* --- channel 0's ticks --- */

static bool ticking(const struct pit *pit)
{
    return pit->running && !(pit->flags & KVM_PIT_FLAGS_HPET_LEGACY);
}

static u64 ticks_due(struct irqchip *chip)
{
    u64 n = elapsed(chip, 0) / period(&chip->pit.ch[0]);

    return periodic(&chip->pit.ch[0]) || n == 0 ? n : 1;
}

/* Host time of tick (n), n > 0; rounded up so that the tick is due when it has come. */
static u64 tick_time(struct irqchip *chip, u64 n)
{
    const struct kvm_pit_channel_state *ch = &chip->pit.ch[0];

    return (u64)ch->count_load_time + mul_div(n * period(ch), NSEC_PER_SEC, PIT_HZ) + 1;
}

static void schedule(struct irqchip *chip)
{
    struct pit *pit = &chip->pit;
    u64 deadline = IRQ_DEADLINE_NONE;

    if (ticking(pit) && !(pit->reinject && pit->unacked) &&
        (periodic(&pit->ch[0]) || pit->ticks == 0))
        deadline = tick_time(chip, pit->ticks + 1);
    atomic_store(&pit->deadline, deadline);
    if (deadline != IRQ_DEADLINE_NONE)
        timers_arm(chip, deadline);
}

void pit_expire(struct irqchip *chip)
{
    struct pit *pit = &chip->pit;
    u64 due;

    if (!ticking(pit) || (pit->reinject && pit->unacked))
        goto out;
    due = ticks_due(chip);
    if (pit->ticks >= due)
        goto out;
    if (pit->reinject && due - pit->ticks < BACKLOG_MAX)
        pit->ticks++;
    else
        pit->ticks = due;
    pit->unacked = true;
    irqchip_set_irq_locked(chip, PIT_GSI, 1, IRQ_SOURCE_PIT);
    irqchip_set_irq_locked(chip, PIT_GSI, 0, IRQ_SOURCE_PIT);
out:
    schedule(chip);
}

void pit_acked(struct irqchip *chip)
{
    if (!chip->pit.present || !chip->pit.unacked)
        return;
    chip->pit.unacked = false;
    if (chip->pit.reinject)
        schedule(chip); /* an overdue tick comes by way of the service thread */
}

void pit_unmasked(struct irqchip *chip)
{
    struct pit *pit = &chip->pit;

    if (!pit->present || !pit->running)
        return;
    pit->unacked = false;
    if (periodic(&pit->ch[0]))
        pit->ticks = ticks_due(chip);
    schedule(chip);
}

/* --- loading and gating --- */

static void load(struct irqchip *chip, unsigned n, u32 val)
{
    struct kvm_pit_channel_state *ch = &chip->pit.ch[n];

    if (ch->bcd)
        val = val ? from_bcd(val) : 10000;
    ch->count = val ? val : 0x10000;
    chip->pit.paused_ns[n] = 0;
    if (waits_for_gate(ch))
        return;
    ch->count_load_time = (s64)irqchip_now(chip);
    if (n)
        return;
    chip->pit.ticks = 0;
    chip->pit.unacked = false;
    chip->pit.running = true;
    schedule(chip);
}

static void gate_set(struct irqchip *chip, unsigned n, bool gate)
{
    struct kvm_pit_channel_state *ch = &chip->pit.ch[n];
    u64 now = irqchip_now(chip), ran = elapsed_ns(chip, n);

    if (ch->gate == gate)
        return;
    if (!gate) {
        chip->pit.paused_ns[n] = ran;
        ch->gate = 0;
        return;
    }
    ch->gate = 1;
    /* Modes 0 and 4 go on, the others start again. */
    ch->count_load_time = (s64)(ch->mode == 0 || ch->mode == 4 ? now - ran : now);
}

/* --- ports 0x40 to 0x43 --- */

static void latch_count(struct irqchip *chip, unsigned n)
{
    struct kvm_pit_channel_state *ch = &chip->pit.ch[n];

    if (ch->count_latched)
        return;
    ch->latched_count = counter(chip, n);
    ch->count_latched = ch->rw_mode;
}

static void latch_status(struct irqchip *chip, unsigned n)
{
    struct kvm_pit_channel_state *ch = &chip->pit.ch[n];

    if (ch->status_latched)
        return;
    ch->status = (u8)(output(chip, n) << 7 | ch->rw_mode << 4 | ch->mode << 1 | ch->bcd);
    ch->status_latched = 1;
}

static void control_write(struct irqchip *chip, u8 val)
{
    unsigned n = val >> 6, access = val >> 4 & 3;
    struct kvm_pit_channel_state *ch;

    if (n == 3) { /* read-back */
        for (n = 0; n < 3; n++) {
            if (!(val >> (n + 1) & 1))
                continue;
            if (!(val & 0x20))
                latch_count(chip, n);
            if (!(val & 0x10))
                latch_status(chip, n);
        }
        return;
    }
    if (access == 0) {
        latch_count(chip, n);
        return;
    }
    ch = &chip->pit.ch[n];
    ch->rw_mode = ch->read_state = ch->write_state = (u8)access;
    ch->mode = val >> 1 & 7;
    if (ch->mode > 5)
        ch->mode -= 4;
    ch->bcd = val & 1;
    ch->count_latched = ch->status_latched = 0;
    if (waits_for_gate(ch))
        ch->count_load_time = 0; /* as if run out long ago */
    if (n == 0) {                /* idle until it is loaded */
        chip->pit.running = false;
        schedule(chip);
    }
}

static void data_write(struct irqchip *chip, unsigned n, u8 val)
{
    struct kvm_pit_channel_state *ch = &chip->pit.ch[n];

    switch (ch->write_state) {
    case STATE_LSB:
        load(chip, n, val);
        break;
    case STATE_MSB:
        load(chip, n, (u32)val << 8);
        break;
    case STATE_WORD0:
        ch->write_latch = val;
        ch->write_state = STATE_WORD1;
        break;
    case STATE_WORD1:
        load(chip, n, ch->write_latch | (u32)val << 8);
        ch->write_state = STATE_WORD0;
        break;
    default:
        break;
    }
}

static u8 latched_read(struct kvm_pit_channel_state *ch)
{
    switch (ch->count_latched) {
    case STATE_WORD0:
        ch->count_latched = STATE_MSB;
        return (u8)ch->latched_count;
    case STATE_MSB:
        ch->count_latched = STATE_NONE;
        return (u8)(ch->latched_count >> 8);
    default:
        ch->count_latched = STATE_NONE;
        return (u8)ch->latched_count;
    }
}

static u8 data_read(struct irqchip *chip, unsigned n)
{
    struct kvm_pit_channel_state *ch = &chip->pit.ch[n];

    if (ch->status_latched) {
        ch->status_latched = 0;
        return ch->status;
    }
    if (ch->count_latched)
        return latched_read(ch);
    switch (ch->read_state) {
    case STATE_MSB:
        return (u8)(counter(chip, n) >> 8);
    case STATE_WORD0:
        ch->read_state = STATE_WORD1;
        return (u8)counter(chip, n);
    case STATE_WORD1:
        ch->read_state = STATE_WORD0;
        return (u8)(counter(chip, n) >> 8);
    default:
        return (u8)counter(chip, n);
    }
}

/* --- port 0x61 --- */

#define PORT_B    0x61
#define B_GATE    BIT(0)
#define B_SPEAKER BIT(1)

static u8 port_b_read(struct irqchip *chip)
{
    u8 refresh = irqchip_now(chip) >> 14 & 1; /* toggles every 15 us or so */

    return (u8)((chip->pit.ch[2].gate ? B_GATE : 0) | (chip->pit.speaker_on ? B_SPEAKER : 0) |
                refresh << 4 | output(chip, 2) << 5);
}

bool pit_io_read(struct irqchip *chip, u16 port, u32 *val)
{
    if (!chip->pit.present)
        return false;
    if (port == PORT_B && chip->pit.speaker)
        *val = port_b_read(chip);
    else if (port >= 0x40 && port <= 0x42)
        *val = data_read(chip, port & 3);
    else if (port == 0x43)
        *val = 0; /* the control word cannot be read */
    else
        return false;
    return true;
}

bool pit_io_write(struct irqchip *chip, u16 port, u8 val)
{
    if (!chip->pit.present)
        return false;
    if (port == PORT_B && chip->pit.speaker) {
        chip->pit.speaker_on = val & B_SPEAKER;
        gate_set(chip, 2, val & B_GATE);
    } else if (port >= 0x40 && port <= 0x42) {
        data_write(chip, port & 3, val);
    } else if (port == 0x43) {
        control_write(chip, val);
    } else {
        return false;
    }
    return true;
}

/* --- life and saved state --- */

void pit_init(struct irqchip *chip, u32 flags)
{
    struct pit *pit = &chip->pit;

    pit->present = true;
    pit->speaker = flags & KVM_PIT_SPEAKER_DUMMY;
    pit->reinject = true;
    for (unsigned n = 0; n < 3; n++) {
        pit->ch[n].mode = 3;
        pit->ch[n].gate = n != 2;
        pit->ch[n].rw_mode = pit->ch[n].read_state = pit->ch[n].write_state = STATE_WORD0;
        pit->ch[n].count_load_time = (s64)irqchip_now(chip);
    }
    ioapic_eoi_vectors_update(chip);
}

void pit_state_get(struct irqchip *chip, struct kvm_pit_state2 *s)
{
    *s = (struct kvm_pit_state2){.flags = chip->pit.flags};
    for (unsigned n = 0; n < 3; n++) {
        s->channels[n] = chip->pit.ch[n];
        if (!s->channels[n]
                 .count) { /* as KVM has it after reset; user space divides by the count */
            s->channels[n].mode = MODE_NEVER_SET;
            s->channels[n].count = 0x10000;
        }
    }
    if (chip->pit.speaker_on)
        s->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
}

void pit_state_set(struct irqchip *chip, const struct kvm_pit_state2 *s)
{
    struct pit *pit = &chip->pit;

    for (unsigned n = 0; n < 3; n++) {
        struct kvm_pit_channel_state *ch = &pit->ch[n];

        *ch = s->channels[n];
        if (ch->mode == MODE_NEVER_SET)
            ch->count = 0;
        ch->mode = ch->mode & 7;
        ch->mode = ch->mode > 5 ? ch->mode - 4 : ch->mode;
        ch->count = ch->count > 0x10000 ? 0x10000 : ch->count;
        ch->gate = !!ch->gate;
        ch->bcd = ch->bcd & 1;
        ch->rw_mode &= 3;
        pit->paused_ns[n] = 0;
    }
    pit->flags = s->flags & KVM_PIT_FLAGS_HPET_LEGACY;
    pit->speaker_on = s->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    /* Channel 0 starts its period here, as in KVM: its load time may be of another host. */
    pit->ch[0].count_load_time = (s64)irqchip_now(chip);
    pit->ticks = 0;
    pit->unacked = false;
    pit->running = pit->ch[0].count && pit->ch[0].gate && !waits_for_gate(&pit->ch[0]);
    schedule(chip);
}
