// SPDX-License-Identifier: MIT
// The run loop: events and requests between blocks, insns inside them.

#include "cpu/interp/block.h"
#include "cpu/jit/jit.h"
#include "cpu/mmu/access.h"
#include "cpu/vec/host.h"
#include "cpu/trace.h"
#include "cpu/world.h"

#include <string.h>

#define STOP_POLL 256 /* rounds of the run loop between looks at stop_flag: a power of two */

#define DR7_ENABLED 0xffull
#define DR6_TRAPS 0xfull
#define DR6_BS BIT(14)
#define GUESTDBG_ENABLE BIT(0)     /* KVM_GUESTDBG_* */
#define GUESTDBG_SINGLESTEP BIT(1)
#define GUESTDBG_USE_HW_BP BIT(17)

/* Whatever makes the next instruction special: then insns run one at a time. */
static bool must_step(const struct cpu *c)
{
    return c->inhibit || c->rflags & (RFLAGS_TF | RFLAGS_RF) || c->dr7 & DR7_ENABLED || c->guest_debug;
}

/* Deliver an event; OP_END, or OP_EXIT on shutdown. */
static int deliver(struct cpu *c, struct cpu_event *ev)
{
    struct cpu_event copy = *ev;

    ev->pending = false;
    return cpu_event_deliver(c, &copy);
}

static int deliver_vector(struct cpu *c, u8 vector, u8 type)
{
    struct cpu_event ev = {.pending = true, .vector = vector, .type = type};

    c->halted = false;
    c->stats.interrupts++;
    if (cpu_traces(TRACE_EVENT))
        cpu_trace_event(c, type == EVENT_NMI ? "NMI" : "interrupt", vector, 0);
    return cpu_event_deliver(c, &ev);
}

/* An op said OP_FAULT: its exception goes to the guest. */
static int take_exception(struct cpu *c)
{
    c->stats.exceptions++;
    c->inhibit = 0;
    if (cpu_traces(TRACE_EVENT))
        cpu_trace_event(c, "exception", c->exc.vector, c->exc.error);
    return deliver(c, &c->exc);
}

/* NMIs and interrupts, when nothing holds them back. */
static int take_interrupts(struct cpu *c, u32 req)
{
    int vector;

    if ((req & CPU_REQ_NMI || c->nmi_pending) && !c->nmi_blocked && !c->inhibit) {
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_NMI);
        if (c->nmi_pending && --c->nmi_pending)
            cpu_request(c, CPU_REQ_NMI);
        c->nmi_blocked = true;
        return deliver_vector(c, EXC_NMI, EVENT_NMI);
    }
    if (!(req & CPU_REQ_INTR) || c->inhibit)
        return OP_NEXT;
    /* A handler stays in translated code while the next one waits. */
    if (!(c->rflags & RFLAGS_IF)) {
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_INTR);
        c->intr_held = RFLAGS_IF;
        return OP_NEXT;
    }
    atomic_fetch_and(&c->request, ~(u32)CPU_REQ_INTR);
    vector = c->bus->intr_ack(c);
    if (vector < 0)
        return OP_NEXT;
    /* The next one, or whoever waits for the window to open, has its turn when IF is set again. */
    cpu_request(c, CPU_REQ_INTR);
    return deliver_vector(c, (u8)vector, EVENT_INTR);
}

/* Code that other vCPUs have changed must be looked up anew. */
static void service_code(struct cpu *c)
{
    gpa_t gpa[CPU_WORLD_CODES];
    unsigned n = cpu_world_code_take(c, gpa);

    if (n > CPU_WORLD_CODES)
        tlb_unlink(c);
    for (unsigned i = 0; n <= CPU_WORLD_CODES && i < n; i++)
        jit_unlink(c, gpa[i]);
}

/*
 * What others did to memory and its slots. Must come between getting inside the world and the next
 * access to guest memory: until then the TLB may point to host memory that is gone.
 */
static void service_memory(struct cpu *c)
{
    u32 req = atomic_load_explicit(&c->request, memory_order_acquire);

    if (req & CPU_REQ_EXCLUSIVE) {
        cpu_world_pause(c);
        req = atomic_load_explicit(&c->request, memory_order_acquire); /* slots may have changed meanwhile */
    }
    if (req & CPU_REQ_SLOTS) {
        atomic_fetch_and(&c->request, ~(u32)(CPU_REQ_SLOTS | CPU_REQ_FLUSH));
        tlb_flush(c);
        block_cache_flush(c);
    }
    if (req & CPU_REQ_FLUSH) {
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_FLUSH);
        tlb_flush(c);
    }
    if (req & CPU_REQ_RECHECK) {
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_RECHECK);
        if (mem_code_doubtful(c->mem, &c->code_seen)) {
            c->recheck_epoch++;
            tlb_unlink(c);
        }
    }
    if (req & CPU_REQ_CODE)
        service_code(c);
}

static bool stop_flagged(const struct cpu *c)
{
    return c->stop_flag && *c->stop_flag;
}

/* Everything in c->request. OP_NEXT, or OP_EXIT with c->exit. */
static int service(struct cpu *c)
{
    u32 req;
    int rc;

    service_memory(c);
    req = atomic_load_explicit(&c->request, memory_order_acquire);
    if (req & CPU_REQ_TICK) {
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_TICK);
        if (c->bus->poll)
            c->bus->poll(c);
        if (stop_flagged(c)) {
            c->exit = CPU_EXIT_INTR;
            return OP_EXIT;
        }
        req = atomic_load_explicit(&c->request, memory_order_acquire);
    }
    if (req & (CPU_REQ_EXIT | CPU_REQ_INIT | CPU_REQ_SMI)) {
        c->exit = CPU_EXIT_INTR;
        return OP_EXIT;
    }
    rc = take_interrupts(c, req);
    if (rc == OP_NEXT && atomic_load(&c->request) & CPU_REQ_EXIT) { /* intr_ack() wants out: nothing may run */
        c->exit = CPU_EXIT_INTR;
        return OP_EXIT;
    }
    return rc == OP_EXIT ? OP_EXIT : OP_NEXT;
}

/* What the result of an op means for RIP. Returns OP_NEXT to go on, OP_EXIT to leave. */
static int finish(struct cpu *c, const struct insn *in, int rc)
{
    switch (rc) {
    case OP_NEXT:
    case OP_STOP:
        c->rip = cpu_rip_trim(c, insn_next(c, in));
        if (unlikely(c->halted)) {
            c->exit = CPU_EXIT_HLT;
            return OP_EXIT;
        }
        return OP_NEXT;
    case OP_END:
        return OP_NEXT;
    case OP_FAULT:
        c->rip = cpu_rip_trim(c, insn_rip(c, in));
        return take_exception(c) == OP_EXIT ? OP_EXIT : OP_NEXT;
    case OP_AGAIN:
        c->rip = cpu_rip_trim(c, insn_rip(c, in));
        return OP_NEXT;
    default:
        if (c->exit == CPU_EXIT_NONE)
            c->exit = CPU_EXIT_BUS;
        c->rip = cpu_rip_trim(c, insn_rip(c, in));
        return OP_EXIT;
    }
}

static int run_block(struct cpu *c, const struct block *b)
{
    const struct insn *in = b->insn;
    int rc;

    c->r[REG_IPBASE] = c->rip - b->off;
    while ((rc = in->op(c, in)) == OP_NEXT)
        in++;
    c->insn_count += (u64)(in - b->insn) + 1;
    if (likely(rc == OP_END))
        return OP_NEXT;
    return finish(c, in, rc);
}

/* Follow or make the link from (b), which has just run, to the block at c->rip. */
static int next_block(struct cpu *c, struct block *b, struct block **ret)
{
    u32 epoch = c->block_epoch;
    struct block *n;
    int rc;

    if (likely(b->link_epoch == c->link_epoch && b->key == c->block_key)) {
        for (unsigned i = 0; i < 2; i++) {
            n = b->link[i];
            if (n && b->link_rip[i] == c->rip && block_current(c, n)) {
                *ret = n;
                return OP_NEXT;
            }
        }
    }
    rc = block_find(c, ret);
    if (rc || epoch != c->block_epoch || (*ret)->crosses || b->key != c->block_key)
        return rc;
    if (b->link_epoch != c->link_epoch) {
        b->link_epoch = c->link_epoch;
        b->link[0] = b->link[1] = NULL;
    }
    b->link_victim ^= 1;
    b->link[b->link_victim] = *ret;
    b->link_rip[b->link_victim] = c->rip;
    return rc;
}

/* DR6 bits of enabled instruction breakpoints at c->rip: SDM 3B 17.2.4. */
static u64 breakpoints_hit(const struct cpu *c, const u64 *dr, u64 dr7)
{
    u64 lin = c->rip + (c->mode == MODE_64 ? 0 : c->seg[SEG_CS].base), hit = 0;

    for (unsigned i = 0; i < 4; i++) {
        if (dr7 >> (2 * i) & 3 && !(dr7 >> (16 + 4 * i) & 0xf) && dr[i] == lin)
            hit |= BIT(i);
    }
    return hit;
}

static int debug_exit(struct cpu *c, u64 dr6)
{
    c->exit = CPU_EXIT_DEBUG;
    c->exit_vector = EXC_DB;
    c->exit_dr6 = dr6 | 0xffff0ff0;
    return OP_EXIT;
}

static int raise_db(struct cpu *c, u64 dr6)
{
    struct cpu_event ev = {.pending = true, .vector = EXC_DB, .type = EVENT_EXCEPTION,
                           .payload = dr6, .has_payload = true};

    c->stats.exceptions++;
    return cpu_event_deliver(c, &ev) == OP_EXIT ? OP_EXIT : OP_NEXT;
}

/* Instruction breakpoints: before the instruction, unless RF. OP_AGAIN: a #DB was delivered. */
static int check_breakpoints(struct cpu *c)
{
    u64 hit;

    if (c->guest_debug & GUESTDBG_USE_HW_BP) {
        hit = breakpoints_hit(c, c->guest_debug_dr, c->guest_debug_dr[7]);
        return hit && !(c->rflags & RFLAGS_RF) ? debug_exit(c, hit) : OP_NEXT;
    }
    if (!(c->dr7 & DR7_ENABLED) || c->rflags & RFLAGS_RF || c->inhibit & CPU_INHIBIT_MOV_SS)
        return OP_NEXT;
    hit = breakpoints_hit(c, c->dr, c->dr7);
    if (!hit)
        return OP_NEXT;
    return raise_db(c, hit) == OP_EXIT ? OP_EXIT : OP_AGAIN;
}

/* Run one instruction with everything that can be special about it. */
static int step(struct cpu *c)
{
    u32 inhibit = c->inhibit;
    bool tf = c->rflags & RFLAGS_TF, rf = c->rflags & RFLAGS_RF;
    const struct insn *in;
    struct block *b;
    int rc = check_breakpoints(c), op;
    u64 dr6;

    if (rc)
        return rc == OP_AGAIN ? OP_NEXT : rc;
    rc = block_find(c, &b);
    if (rc == OP_FAULT)
        return take_exception(c) == OP_EXIT ? OP_EXIT : OP_NEXT;
    if (rc)
        return rc;
    in = b->insn;
    c->r[REG_IPBASE] = c->rip - b->off;
    c->watch_hit = 0;
    op = in->op(c, in);
    c->insn_count++;
    if (op >= OP_NEXT) {
        if (rf)
            c->rflags &= ~RFLAGS_RF;
        tf = tf && !(c->inhibit & CPU_INHIBIT_TRAP);
        c->inhibit &= ~CPU_INHIBIT_TRAP;
        if (c->inhibit == inhibit)
            c->inhibit = 0;
    }
    rc = finish(c, in, op);
    if (op < OP_NEXT && op != OP_AGAIN) {
        c->db_held = 0;
        return rc;
    }
    dr6 = c->db_held | c->watch_hit;
    c->db_held = 0;
    if (c->inhibit & CPU_INHIBIT_MOV_SS) {
        c->db_held = dr6;
        dr6 = 0;
    } else if (tf) {
        dr6 |= DR6_BS;
    }
    if (c->guest_debug & GUESTDBG_SINGLESTEP)
        return rc ? rc : debug_exit(c, DR6_BS | (c->guest_debug & GUESTDBG_USE_HW_BP ? dr6 : 0));
    if (dr6 & DR6_TRAPS && c->guest_debug & GUESTDBG_USE_HW_BP)
        return rc ? rc : debug_exit(c, dr6 & DR6_TRAPS);
    if (dr6 && rc == OP_NEXT)
        return raise_db(c, dr6);
    return rc;
}

/* Run translated code from (b) on. As run_block(). */
static int run_translated(struct cpu *c, struct block *b)
{
    const struct insn *in;
    int rc = jit_run(c, b, &in);

    return likely(rc == OP_END) ? OP_NEXT : finish(c, in, rc);
}

static int run_loop(struct cpu *c)
{
    struct block *b = NULL;
    int rc = OP_NEXT;

    while (rc == OP_NEXT) {
        if (unlikely(c->intr_held & c->rflags)) {
            c->intr_held = 0;
            cpu_request(c, CPU_REQ_INTR);
        }
        if (unlikely(atomic_load_explicit(&c->request, memory_order_relaxed))) {
            rc = service(c);
            b = NULL;
            if (rc)
                break;
        }
        cpu_key_update(c);
        if (unlikely(must_step(c))) {
            rc = step(c);
            b = NULL;
        } else if (likely((rc = b ? next_block(c, b, &b) : block_find(c, &b)) == OP_NEXT)) {
            if (c->jit && jit_ready(c, &b)) {
                rc = run_translated(c, b);
                b = NULL;
            } else if (likely(b != NULL)) {
                rc = run_block(c, b);
            }
        } else if (rc == OP_FAULT) {
            rc = take_exception(c) == OP_EXIT ? OP_EXIT : OP_NEXT;
            b = NULL;
        }
        if (unlikely((++c->stats.blocks_run & (STOP_POLL - 1)) == 0) && rc == OP_NEXT && stop_flagged(c)) {
            c->exit = CPU_EXIT_INTR;
            break;
        }
    }
    return c->exit;
}

/* Can a halted CPU go on? */
static bool wakes(struct cpu *c)
{
    u32 req = atomic_load(&c->request);

    return req & (CPU_REQ_NMI | CPU_REQ_SMI) || c->nmi_pending ||
           (c->rflags & RFLAGS_IF && c->bus->intr_pending(c));
}

/* What was pending when the CPU was last left: an exception, or an event whose delivery was cut short. */
static int deliver_pending(struct cpu *c)
{
    int rc = OP_NEXT;

    if (c->reinject.pending)
        rc = deliver(c, &c->reinject);
    else if (c->exc.pending)
        rc = deliver(c, &c->exc);
    return rc == OP_EXIT ? OP_EXIT : OP_NEXT;
}

int cpu_run(struct cpu *c)
{
    u32 mxcsr = host_mxcsr_take();

    c->exit = CPU_EXIT_NONE;
    jit_attach(c);
    cpu_world_enter(c);
    if (c->halted && !c->exc.pending && !c->reinject.pending) {
        if (!wakes(c)) {
            c->exit = CPU_EXIT_HLT;
            goto leave;
        }
        c->halted = false;
        cpu_request(c, CPU_REQ_INTR);
    }
    service_memory(c);
    if (deliver_pending(c) == OP_NEXT)
        run_loop(c);
leave:
    cpu_world_leave(c);
    host_mxcsr_give(mxcsr);
    return c->exit;
}

int cpu_step(struct cpu *c)
{
    u32 mxcsr = host_mxcsr_take();

    c->exit = CPU_EXIT_NONE;
    cpu_world_enter(c);
    service_memory(c);
    if (deliver_pending(c) == OP_NEXT)
        step(c);
    cpu_world_leave(c);
    host_mxcsr_give(mxcsr);
    return c->exit;
}
