// SPDX-License-Identifier: MIT
// Instructions that are events: INT n, INT3, INTO, INT1, and BOUND. SDM 2A INT, BOUND.

#include "cpu/sys/event.h"
#include "cpu/sys/far.h"

#define GUESTDBG_USE_SW_BP BIT(16) /* KVM_GUESTDBG_USE_SW_BP */

/* Deliver with the address after the instruction. A fault on the way is the instruction's own. */
static int soft_event(struct cpu *c, const struct insn *in, u8 vector, u8 type)
{
    struct cpu_event ev = {.pending = true, .vector = vector, .type = type};
    bool tf = c->rflags & RFLAGS_TF;
    int rc = event_deliver_once(c, &ev, cpu_rip_trim(c, insn_next(c, in)));

    if (rc >= 0 && tf)
        c->inhibit |= CPU_INHIBIT_TRAP;
    return rc;
}

int op_int(struct cpu *c, const struct insn *in)
{
    if (c->rflags & RFLAGS_VM && (c->rflags & RFLAGS_IOPL) != RFLAGS_IOPL)
        return cpu_raise_gp(c);
    return soft_event(c, in, (u8)in->imm, EVENT_SOFT_INT);
}

int op_int3(struct cpu *c, const struct insn *in)
{
    if (c->guest_debug & GUESTDBG_USE_SW_BP) {
        c->exit = CPU_EXIT_DEBUG;
        c->exit_vector = EXC_BP;
        return OP_EXIT;
    }
    return soft_event(c, in, EXC_BP, EVENT_SOFT_EXC);
}

int op_into(struct cpu *c, const struct insn *in)
{
    return c->cc & CC_OF ? soft_event(c, in, EXC_OF, EVENT_SOFT_EXC) : OP_NEXT;
}

int op_int1(struct cpu *c, const struct insn *in)
{
    /* A #DB that MOV SS held back becomes one with this one. */
    c->dr6 |= c->db_held;
    c->db_held = 0;
    return soft_event(c, in, EXC_DB, EVENT_INT1);
}

int op_bound(struct cpu *c, const struct insn *in)
{
    u8 raw[8] = {0};
    s64 lower, upper, val;
    u64 lin;
    int rc = insn_lin(c, in, 2u * in->size, false, &lin);

    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, raw, 2u * in->size, insn_acc(in));
    if (rc)
        return rc;
    if (in->size == 2) {
        s16 b[2];

        memcpy(b, raw, sizeof(b));
        lower = b[0];
        upper = b[1];
        val = (s16)*insn_reg16(c, in->reg);
    } else {
        s32 b[2];

        memcpy(b, raw, sizeof(b));
        lower = b[0];
        upper = b[1];
        val = (s32)*insn_reg32(c, in->reg);
    }
    return val < lower || val > upper ? cpu_raise(c, EXC_BR) : OP_NEXT;
}
