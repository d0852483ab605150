// SPDX-License-Identifier: MIT
// Writes and reads of the debug registers: SDM 3B 17.2.

#include "cpu/sys/control.h"

#define DR6_ONES 0xffff0ff0ull
#define DR6_WRITABLE 0xe00full
#define DR6_BD BIT(13)
#define DR7_ONES 0x400ull
#define DR7_WRITABLE 0xffff23ffull
#define DR7_GD BIT(13)
#define DR7_ENABLED 0xffull
#define GUESTDBG_USE_HW_BP BIT(17) /* KVM_GUESTDBG_USE_HW_BP */

/* Which register, and may it be touched? Negative: an exception was raised. */
static int access_check(struct cpu *c, const struct insn *in)
{
    unsigned n = in->x[0];

    if (n == 4 || n == 5) {
        if (c->cr4 & CR4_DE)
            return cpu_raise_ud(c);
        n += 2;
    }
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    if (c->guest_debug & GUESTDBG_USE_HW_BP && c->guest_debug_dr[7] & DR7_GD) {
        c->exit = CPU_EXIT_DEBUG;
        c->exit_vector = EXC_DB;
        c->exit_dr6 = DR6_ONES | DR6_BD;
        return OP_EXIT;
    }
    if (c->dr7 & DR7_GD) {
        cpu_raise(c, EXC_DB);
        c->exc.payload = DR6_BD;
        c->exc.has_payload = true;
        return OP_FAULT;
    }
    return (int)n;
}

int op_mov_to_dr(struct cpu *c, const struct insn *in)
{
    u64 val = c->mode == MODE_64 ? *insn_reg64(c, in->rm) : *insn_reg32(c, in->rm);
    int n = access_check(c, in);

    if (n < 0)
        return n;
    if (n < 4) {
        c->dr[n] = val;
        return OP_STOP;
    }
    if (val >> 32)
        return cpu_raise_gp(c);
    if (n == 6) {
        c->dr6 = (val & DR6_WRITABLE) | DR6_ONES;
        return OP_STOP;
    }
    /* An armed breakpoint must see every access, so none may find its page in the TLB. */
    if (val & DR7_ENABLED)
        tlb_flush(c);
    c->dr7 = (val & DR7_WRITABLE) | DR7_ONES;
    return OP_STOP;
}

int op_mov_from_dr(struct cpu *c, const struct insn *in)
{
    int n = access_check(c, in);
    u64 val;

    if (n < 0)
        return n;
    val = n < 4 ? c->dr[n] : n == 6 ? c->dr6 : c->dr7;
    *insn_reg64(c, in->rm) = c->mode == MODE_64 ? val : (u32)val;
    return OP_NEXT;
}
