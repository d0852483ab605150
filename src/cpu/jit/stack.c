// SPDX-License-Identifier: MIT
// PUSH, POP and LEAVE of 64 bits: through the stack window.

#include "cpu/jit/xlat.h"

#include <Zydis/DecoderTypes.h>

/* lea HOST_SP, [HOST_SP + n]: flags stay. */
static void move_sp(struct xlat *x, s32 n)
{
    asm_op_mem(x->a, REX_W, 0x8d, HOST_SP, HOST_SP, REG_ZERO, 0, n);
}

void xlat_push(struct xlat *x)
{
    const struct decoded *d = &x->d[x->i];
    const struct opnd *src = &d->op[0];
    struct asm_buf *a = x->a;
    unsigned r = src->reg;

    xlat_stack_check(x, -8, true);
    if (src->kind == OPND_IMM) {
        ASM(a, rex(REX_W, 0, HOST_T1, HOST_SP), 0xc7);
        asm_mem(a, 0, HOST_SP, HOST_T1, 0, -8, false);
        asm_u32(a, (u32)src->imm);
    } else {
        if (r == REG_RSP) {
            r = HOST_SP;
        } else if (xlat_in_slot(r)) {
            asm_gs_load(a, HOST_T0, GS_REG(r));
            r = HOST_T0;
        }
        asm_op_mem(a, REX_W, 0x89, r, HOST_SP, HOST_T1, 0, -8);
    }
    move_sp(x, -8);
    xlat_slow_resume(x);
}

void xlat_pop(struct xlat *x)
{
    unsigned r = x->d[x->i].op[0].reg;
    struct asm_buf *a = x->a;

    xlat_stack_check(x, 0, false);
    if (r == REG_RSP) {
        asm_op_mem(a, REX_W, 0x8b, HOST_SP, HOST_SP, HOST_T1, 0, 0);
    } else if (xlat_in_slot(r)) {
        asm_op_mem(a, REX_W, 0x8b, HOST_T0, HOST_SP, HOST_T1, 0, 0);
        asm_gs_store(a, HOST_T0, GS_REG(r));
        move_sp(x, 8);
    } else {
        asm_op_mem(a, REX_W, 0x8b, r, HOST_SP, HOST_T1, 0, 0);
        move_sp(x, 8);
    }
    xlat_slow_resume(x);
}

void xlat_leave_frame(struct xlat *x)
{
    struct asm_buf *a = x->a;
    u32 window = x->view + (u32)offsetof(struct tlb, stack);

    xlat_flags_spill(x, x->flags[x->i].before);
    asm_mov(a, HOST_T0, REG_RBP);
    asm_gs(a, 0x2b, HOST_T0, window + (u32)offsetof(struct tlb_window, base));
    asm_gs(a, 0x3b, HOST_T0, window + (u32)offsetof(struct tlb_window, limit_r));
    xlat_slow_from(x, asm_jcc(a, ASM_AE));
    x->slow[x->nslow - 1].stack = true;
    asm_gs_load(a, HOST_T1, window + (u32)offsetof(struct tlb_window, delta));
    asm_op_mem(a, REX_W, 0x8d, HOST_SP, REG_RBP, REG_ZERO, 0, 8);
    asm_op_mem(a, REX_W, 0x8b, REG_RBP, REG_RBP, HOST_T1, 0, 0);
    xlat_slow_resume(x);
}
