// SPDX-License-Identifier: MIT
// Delivery of exceptions and interrupts through the IVT and the IDT: SDM 3A 6, SDM 2A INT.

/*
 * Theory of operation
 *
 * Delivery reads the gate, the code descriptor and (when the stack changes) the TSS, then pushes the
 * whole frame, and only then changes registers. So a fault on the way leaves the CPU as it was, and
 * what happens next is decided by SDM 3A table 6-5 in cpu_event_deliver()'s loop: deliver the fault
 * instead, or a double fault, or shut down. An access that has to leave for the host (OP_EXIT) parks the event in
 * c->reinject; the run loop starts it anew.
 *
 * Not done: task gates, and hardware task switches at large. A task gate raises #GP as if its type were bad. No 64-bit
 * system has them; 32-bit Linux has one, for #DF.
 */

#include "cpu/sys/event.h"
#include "cpu/sys/frame.h"

#define ERR_EXT 1u
#define ERR_IDT 2u
#define DR6_ONES 0xffff0ff0ull
#define DR6_B0_B3 0xfull
#define DR6_BD BIT(13)
#define DR7_GD BIT(13)

/* What an IDT entry says: SDM 3A 6.11, 6.14.1. */
struct gate {
    u64 off;
    u16 sel;
    u8 type, ist, dpl;
    bool present;
};

struct delivery {
    const struct cpu_event *ev;
    u64 rip;
    u32 ext;         /* bit 0 of the error codes of faults on the way */
    struct gate gate;
    struct desc cs;
    unsigned cpl;    /* the handler's */
};

int cpu_raise(struct cpu *c, u8 vector)
{
    c->exc = (struct cpu_event){.pending = true, .vector = vector, .type = EVENT_EXCEPTION};
    return OP_FAULT;
}

int cpu_raise_err(struct cpu *c, u8 vector, u32 error)
{
    c->exc = (struct cpu_event){.pending = true, .vector = vector, .type = EVENT_EXCEPTION, .has_error = true,
                                .error = error};
    return OP_FAULT;
}

int cpu_raise_pf(struct cpu *c, u64 lin, u32 error)
{
    c->exc = (struct cpu_event){.pending = true, .vector = EXC_PF, .type = EVENT_EXCEPTION, .has_error = true,
                                .error = error, .payload = lin, .has_payload = true};
    return OP_FAULT;
}

static bool is_soft(const struct cpu_event *ev)
{
    return ev->type == EVENT_SOFT_INT || ev->type == EVENT_SOFT_EXC;
}

/* RFLAGS as pushed; RF is set for faults so that the restart is not caught again: SDM 3B 17.3.1.1. */
static u64 pushed_rflags(const struct cpu *c, const struct cpu_event *ev)
{
    u64 f = cpu_rflags_get(c);

    if (ev->type != EVENT_EXCEPTION || ev->vector == EXC_DF || ev->vector == EXC_MC)
        return f;
    if (ev->vector == EXC_DB && !(ev->has_payload && ev->payload & DR6_BD))
        return f;
    return f | RFLAGS_RF;
}

/* What delivery of (ev) does to CR2, DR6 and DR7. */
static void take_payload(struct cpu *c, const struct cpu_event *ev)
{
    if (ev->type != EVENT_EXCEPTION && ev->type != EVENT_INT1)
        return;
    if (ev->vector == EXC_PF && ev->has_payload)
        c->cr2 = ev->payload;
    if (ev->vector == EXC_DB) {
        if (ev->has_payload)
            c->dr6 = (c->dr6 & ~DR6_B0_B3) | DR6_ONES | ev->payload;
        c->dr7 &= ~DR7_GD;
        c->debugctl &= ~1ull; /* LBR */
    }
}

static int gate_fetch(struct cpu *c, struct delivery *d)
{
    u32 err = (u32)d->ev->vector << 3 | ERR_IDT | d->ext;
    unsigned size = cpu_long(c) ? 16 : 8;
    struct gate *g = &d->gate;
    u32 raw[4] = {0};
    int rc;

    if (d->ev->vector * size + size - 1 > c->idt.limit)
        return cpu_raise_err(c, EXC_GP, err);
    rc = mmu_load(c, c->idt.base + d->ev->vector * size, raw, size, MMU_SYSTEM);
    if (rc)
        return rc;
    *g = (struct gate){
        .off = (raw[0] & 0xffff) | (raw[1] & 0xffff0000) | (u64)raw[2] << 32,
        .sel = (u16)(raw[0] >> 16),
        .type = (raw[1] >> 8) & 0x1f, /* with S, which must be 0 */
        .ist = cpu_long(c) ? raw[1] & 7 : 0,
        .dpl = (raw[1] >> 13) & 3,
        .present = raw[1] & BIT(15),
    };
    if (g->type != DESC_INTR32 && g->type != DESC_TRAP32 &&
        (cpu_long(c) || (g->type != DESC_INTR16 && g->type != DESC_TRAP16)))
        return cpu_raise_err(c, EXC_GP, err);
    if (is_soft(d->ev) && g->dpl < c->cpl)
        return cpu_raise_err(c, EXC_GP, err);
    if (!g->present)
        return cpu_raise_err(c, EXC_NP, err);
    return OP_NEXT;
}

/* The handler's code segment and privilege. */
static int target_fetch(struct cpu *c, struct delivery *d)
{
    u32 err = SEL_ERR(d->gate.sel) | d->ext;
    unsigned dpl;
    int rc;

    if (SEL_NULL(d->gate.sel))
        return cpu_raise_err(c, EXC_GP, d->ext);
    rc = desc_fetch(c, d->gate.sel, EXC_GP, err, &d->cs);
    if (rc)
        return rc;
    dpl = desc_dpl(&d->cs);
    if (!desc_is_code(&d->cs) || dpl > c->cpl)
        return cpu_raise_err(c, EXC_GP, err);
    if (!desc_present(&d->cs))
        return cpu_raise_err(c, EXC_NP, err);
    if (cpu_long(c) && (d->cs.ar & (SEG_AR_L | SEG_AR_DB)) != SEG_AR_L)
        return cpu_raise_err(c, EXC_GP, err);
    d->cpl = desc_is_conforming(&d->cs) ? c->cpl : dpl;
    if (c->rflags & RFLAGS_VM && d->cpl != 0)
        return cpu_raise_err(c, EXC_GP, err);
    return desc_set_accessed(c, &d->cs);
}

/* The part of delivery that cannot fail and is the same for every mode with an IDT. */
static int enter_handler(struct cpu *c, const struct delivery *d, u64 rip)
{
    u64 clear = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM;

    if (d->gate.type == DESC_INTR16 || d->gate.type == DESC_INTR32)
        clear |= RFLAGS_IF;
    c->rflags &= ~clear;
    seg_set(c, SEG_CS, &d->cs, (u16)((d->gate.sel & ~SEL_RPL) | d->cpl));
    c->rip = rip;
    cpu_set_cpl(c, d->cpl);
    return OP_END;
}

static int deliver_long(struct cpu *c, struct delivery *d)
{
    struct frame f = {.size = 8};
    struct frame_stack st;
    int rc = gate_fetch(c, d);

    if (rc == OP_NEXT)
        rc = target_fetch(c, d);
    if (rc)
        return rc;
    if (!addr_canonical(d->gate.off))
        return cpu_raise_err(c, EXC_GP, d->ext);

    frame_stack_current(c, d->cpl, true, d->ext, &st);
    if (d->gate.ist || d->cpl < c->cpl) {
        rc = tss_read_rsp(c, d->gate.ist ? d->gate.ist + 3u : d->cpl, d->ext, &st.sp);
        if (rc)
            return rc;
    }
    st.sp &= ~15ull;
    frame_add(&f, c->seg[SEG_SS].sel);
    frame_add(&f, c->r[REG_RSP]);
    frame_add(&f, pushed_rflags(c, d->ev));
    frame_add(&f, c->seg[SEG_CS].sel);
    frame_add(&f, d->rip);
    if (d->ev->has_error)
        frame_add(&f, d->ev->error);
    rc = frame_push(c, &f, &st);
    if (rc)
        return rc;

    if (d->cpl < c->cpl) {
        c->cpl = (u8)d->cpl;
        seg_set_null(c, SEG_SS, (u16)d->cpl);
    }
    c->r[REG_RSP] = st.sp;
    return enter_handler(c, d, d->gate.off);
}

static void frame_legacy(struct cpu *c, const struct delivery *d, struct frame *f, bool inner)
{
    bool vm = c->rflags & RFLAGS_VM;

    if (vm) {
        frame_add(f, c->seg[SEG_GS].sel);
        frame_add(f, c->seg[SEG_FS].sel);
        frame_add(f, c->seg[SEG_DS].sel);
        frame_add(f, c->seg[SEG_ES].sel);
    }
    if (inner) {
        frame_add(f, c->seg[SEG_SS].sel);
        frame_add(f, c->r[REG_RSP]);
    }
    frame_add(f, pushed_rflags(c, d->ev));
    frame_add(f, c->seg[SEG_CS].sel);
    frame_add(f, d->rip);
    if (d->ev->has_error)
        frame_add(f, d->ev->error);
}

static int deliver_legacy(struct cpu *c, struct delivery *d)
{
    static const u8 data[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    struct frame f = {0};
    struct frame_stack st;
    struct desc ss;
    u16 ss_sel = 0;
    bool inner;
    u64 off;
    int rc = gate_fetch(c, d);

    if (rc == OP_NEXT)
        rc = target_fetch(c, d);
    if (rc)
        return rc;
    inner = d->cpl < c->cpl;
    f.size = d->gate.type & 8 ? 4 : 2;
    off = f.size == 4 ? d->gate.off : (u16)d->gate.off;
    if (inner)
        rc = frame_stack_inner(c, d->cpl, d->ext, &st, &ss, &ss_sel);
    else
        frame_stack_current(c, d->cpl, false, d->ext, &st);
    if (rc == OP_NEXT)
        rc = seg_check_rip(c, &d->cs, off, d->ext);
    if (rc)
        return rc;
    frame_legacy(c, d, &f, inner);
    rc = frame_push(c, &f, &st);
    if (rc)
        return rc;

    if (inner)
        seg_set(c, SEG_SS, &ss, ss_sel);
    for (unsigned i = 0; c->rflags & RFLAGS_VM && i < ARRAY_SIZE(data); i++)
        seg_set_null(c, data[i], 0);
    frame_stack_commit(c, &st);
    return enter_handler(c, d, off);
}

/* Real-address mode: SDM 3A 20.1.4. No error codes, no checks but for the limit of the table. */
static int deliver_real(struct cpu *c, struct delivery *d)
{
    struct frame f = {.size = 2};
    struct frame_stack st;
    u16 entry[2];
    int rc;

    if (d->ev->vector * 4 + 3 > c->idt.limit)
        return cpu_raise_err(c, EXC_GP, (u32)d->ev->vector << 3 | ERR_IDT | d->ext);
    rc = mmu_load(c, c->idt.base + d->ev->vector * 4, entry, 4, MMU_SYSTEM);
    if (rc)
        return rc;
    frame_stack_current(c, 0, false, 0, &st);
    frame_add(&f, cpu_rflags_get(c));
    frame_add(&f, c->seg[SEG_CS].sel);
    frame_add(&f, d->rip);
    rc = frame_push(c, &f, &st);
    if (rc)
        return rc;
    frame_stack_commit(c, &st);
    c->rflags &= ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_RF | RFLAGS_AC);
    seg_set_real(c, SEG_CS, entry[1]);
    c->rip = entry[0];
    cpu_mode_update(c);
    return OP_END;
}

int event_deliver_once(struct cpu *c, const struct cpu_event *ev, u64 rip)
{
    struct delivery d = {.ev = ev, .rip = rip, .ext = is_soft(ev) ? 0 : ERR_EXT};
    int rc;

    take_payload(c, ev);
    if (!(c->cr0 & CR0_PE))
        rc = deliver_real(c, &d);
    else if (cpu_long(c))
        rc = deliver_long(c, &d);
    else
        rc = deliver_legacy(c, &d);
    if (rc < 0)
        return rc;
    if (ev->type == EVENT_NMI)
        c->nmi_blocked = true;
    c->inhibit = 0;
    return rc;
}

enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

static enum fault_class classify(const struct cpu_event *ev)
{
    if (ev->type != EVENT_EXCEPTION)
        return CLASS_BENIGN;
    switch (ev->vector) {
    case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP: case EXC_CP:
        return CLASS_CONTRIBUTORY;
    case EXC_PF:
        return CLASS_PAGE_FAULT;
    case EXC_DF:
        return CLASS_DOUBLE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

/* (second) came up while (first) was delivered; (first) becomes what to deliver now. False: shutdown. SDM 3A table 6-5. */
static bool combine(struct cpu_event *first, const struct cpu_event *second)
{
    enum fault_class a = classify(first), b = classify(second);

    if (b != CLASS_BENIGN && a == CLASS_DOUBLE_FAULT)
        return false;
    if ((a == CLASS_CONTRIBUTORY && b == CLASS_CONTRIBUTORY) || (a == CLASS_PAGE_FAULT && b != CLASS_BENIGN))
        *first = (struct cpu_event){.vector = EXC_DF, .type = EVENT_EXCEPTION, .has_error = true};
    else
        *first = *second;
    first->pending = true;
    return true;
}

int cpu_event_deliver(struct cpu *c, const struct cpu_event *ev)
{
    struct cpu_event now = *ev;
    int rc;

    c->exc.pending = c->reinject.pending = false;
    for (;;) {
        rc = event_deliver_once(c, &now, c->rip);
        if (rc >= 0)
            return OP_END;
        if (rc == OP_EXIT) {
            c->reinject = now;
            c->reinject.pending = true;
            return OP_EXIT;
        }
        c->exc.pending = false;
        if (!combine(&now, &c->exc)) {
            c->exit = CPU_EXIT_SHUTDOWN;
            return OP_EXIT;
        }
    }
}
