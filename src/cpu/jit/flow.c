// SPDX-License-Identifier: MIT
// Control flow: exits that are linked to their targets, indirect jumps through the jump cache, calls and returns.

/*
 * Theory of operation
 *
 * An exit starts unlinked: it sets cpu->rip and leaves. The run loop finds the target's translation and
 * patches the exit's rel32. Within a page that is all: what is linked belongs to the same guest-physical
 * page and goes with it. Into another page a link holds while link_epoch is what it was, because
 * within one epoch a page of code has one linear address and every translation reached has been found current.
 *
 * Every cycle of translated code contains a backward exit or an indirect one, and both look at
 * cpu->request.
 */

#include "cpu/jit/xlat.h"

#include <Zydis/DecoderTypes.h>

#define JUMP(view, field)                                                                          \
    ((view) + (u32)(offsetof(struct tlb, j) + offsetof(struct tlb_jump, field)))

static const struct insn *current(const struct xlat *x)
{
    return &x->b->insn[x->i];
}

/* Is (off) in the page, and what is there too? Near its end it might be an instruction that crosses into the next. */
static bool in_page(const struct xlat *x, s64 off)
{
    return !x->b->crosses && off >= 0 && off <= (s64)PAGE_SIZE - INSN_MAX_LEN;
}

static bool is_backward(const struct xlat *x, s64 off)
{
    return off <= (s64)current(x)->off;
}

u16 xlat_target_live(const struct xlat *x, s64 off)
{
    if (x->j->lockstep) /* they are compared */
        return (u16)RFLAGS_ARITH;
    if (off == x->b->off)
        return x->self_in;
    for (const struct jit_code *k = in_page(x, off) ? x->page->codes : NULL; k; k = k->next) {
        if (k->block->off == off && k->block->key == x->b->key)
            return k->flags_in;
    }
    return (u16)RFLAGS_ARITH;
}

static struct jit_site *site_new(struct xlat *x, u8 entry)
{
    struct jit_site *s = &x->code->site[x->code->nsites++];

    *s = (struct jit_site){.from = x->code,
                           .entry = entry,
                           .insn_off = current(x)->off,
                           .branch = true,
                           .call = x->kind[x->i] == XLAT_CALL_REL};
    return s;
}

/* rip = IPBASE + off, by way of T0. */
static void set_rip(struct asm_buf *a, s64 off)
{
    asm_gs_load(a, HOST_T0, GS_REG(REG_IPBASE));
    asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, (s32)off);
    asm_gs_store(a, HOST_T0, GS(rip));
}

/* The unlinked end of (s), in cold code. */
static void emit_unlinked(struct xlat *x, struct jit_site *s, s64 off)
{
    struct asm_buf *a = &x->j->cold;

    s->unlinked = a->at;
    if (s->entry == JIT_REG && xlat_target_live(x, off))
        xlat_emit_flags_save(a, HOST_T0);
    set_rip(a, off);
    asm_mov_imm(a, HOST_T0, (u64)(uintptr_t)s);
    asm_gs_store(a, HOST_T0, GS(j.site));
    asm_jmp_to(a, x->j->glue.leave);
}

/* cmp link_epoch; (backward: cmp request); add IPBASE; jmp target. Flags are in memory or dead. */
static void emit_cross(struct xlat *x, struct asm_buf *a, struct jit_site *s, s64 off)
{
    u32 stale, busy = 0;

    s->epoch_at = asm_gs_cmp32(a, GS(link_epoch), 0);
    stale = asm_jcc(a, ASM_NE);
    if (is_backward(x, off)) {
        asm_gs_test32(a, GS(request));
        busy = asm_jcc(a, ASM_NE);
    }
    ASM_GS(a, 0, GS_REG(REG_IPBASE), 4, 0x48, 0x81); /* add qword gs:[IPBASE], imm32 */
    asm_u32(a, (u32)(off & (s64)PAGE_MASK));
    s->at = asm_jmp(a);
    emit_unlinked(x, s, off);
    asm_patch(a->rw, s->at, s->unlinked);
    asm_patch(a->rw, stale, s->unlinked);
    if (busy)
        asm_patch(a->rw, busy, s->unlinked);
}

/* Flags that the target may read go to memory, in (a). The state of the hot path is not changed. */
static void spill_for(struct xlat *x, struct asm_buf *a, s64 off)
{
    if (x->in_reg && !x->in_mem && xlat_target_live(x, off))
        xlat_emit_flags_save(a, HOST_T0);
}

/* How an exit within the page gets in without ado, or JIT_ENTRIES: flags must be spilled first. */
static u8 direct_entry(const struct xlat *x, s64 off)
{
    if (!is_backward(x, off))
        return x->in_reg ? JIT_REG : JIT_MEM;
    return x->in_reg && !x->in_mem && xlat_target_live(x, off) ? JIT_ENTRIES : JIT_POLL;
}

static void emit_jump(struct xlat *x, s64 off)
{
    struct asm_buf *a = x->a;
    struct jit_site *s;
    u8 entry;

    if (!in_page(x, off)) {
        spill_for(x, a, off);
        emit_cross(x, a, site_new(x, JIT_MEM), off);
        return;
    }
    entry = direct_entry(x, off);
    if (entry == JIT_ENTRIES) {
        spill_for(x, a, off);
        entry = JIT_POLL;
    }
    s = site_new(x, entry);
    s->at = asm_jmp(a);
    emit_unlinked(x, s, off);
    asm_patch(a->rw, s->at, s->unlinked);
}

/* The loop that has been checked and whose next turn the current branch leads to, or NULL. */
static const struct xlat_loop *next_turn(struct xlat *x)
{
    return x->j->lockstep ? NULL : xlat_loop_here(x, true);
}

void xlat_jcc(struct xlat *x)
{
    const struct decoded *d = &x->d[x->i];
    struct asm_buf *cold = &x->j->cold;
    const struct xlat_loop *loop = next_turn(x);
    s64 off = (s64)current(x)->imm;
    struct jit_site *s;
    u8 entry;
    u32 out;

    xlat_flags_load(x, HOST_T0);
    out = asm_jcc(x->a, d->opcode & 15);
    if (loop) {
        asm_patch(x->a->rw, out, loop->at);
        return;
    }
    entry = in_page(x, off) ? direct_entry(x, off) : JIT_ENTRIES;
    if (entry != JIT_ENTRIES) {
        s = site_new(x, entry);
        s->at = out;
        if (x->inside) {
            asm_patch(x->a->rw, out, cold->at);
            xlat_loop_restore(x, cold, x->inside);
            s->at = asm_jmp(cold);
            emit_unlinked(x, s, off);
            asm_patch(cold->rw, s->at, s->unlinked);
            return;
        }
        emit_unlinked(x, s, off);
        asm_patch(x->a->rw, out, s->unlinked);
        return;
    }
    asm_patch(x->a->rw, out, cold->at);
    xlat_loop_restore(x, cold, x->inside);
    spill_for(x, cold, off);
    if (!in_page(x, off)) {
        emit_cross(x, cold, site_new(x, JIT_MEM), off);
        return;
    }
    s = site_new(x, JIT_POLL);
    s->at = asm_jmp(cold);
    emit_unlinked(x, s, off);
    asm_patch(cold->rw, s->at, s->unlinked);
}

void xlat_jmp(struct xlat *x)
{
    const struct xlat_loop *loop = next_turn(x);

    if (loop) {
        asm_jmp_to(x->a, loop->at);
        return;
    }
    xlat_loop_restore(x, x->a, x->inside);
    emit_jump(x, (s64)current(x)->imm);
}

void xlat_continue(struct xlat *x, u32 off)
{
    emit_jump(x, off);
    x->code->site[x->code->nsites - 1].branch = false;
}

/* Push the address after this insn. */
static void push_return(struct xlat *x)
{
    struct asm_buf *a = x->a;

    xlat_stack_check(x, -8, true);
    asm_gs_load(a, HOST_T0, GS_REG(REG_IPBASE));
    asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, current(x)->off + current(x)->len);
    asm_op_mem(a, REX_W, 0x89, HOST_T0, HOST_SP, HOST_T1, 0, -8);
    asm_op_mem(a, REX_W, 0x8d, HOST_SP, HOST_SP, REG_ZERO, 0, -8);
}

void xlat_call(struct xlat *x)
{
    push_return(x);
    emit_jump(x, (s64)current(x)->imm);
    xlat_slow_resume(x);
}

/* Look T0 up: T1 then is its entry's offset. A miss, or a request, goes the slow path. Flags are spilled. */
static void look_up(struct xlat *x)
{
    struct asm_buf *a = x->a;

    asm_gs_test32(a, GS(request));
    xlat_slow_from(x, asm_jcc(a, ASM_NE));
    ASM(a, 0x45, 0x69, 0xc0 | (HOST_T1 & 7) << 3 | (HOST_T0 & 7)); /* imul t1d, t0d, imm32 */
    asm_u32(a, TLB_JUMP_HASH);
    ASM(a, 0x41, 0xc1, 0xe8 | (HOST_T1 & 7), 28 - TLB_JUMP_BITS); /* shr t1d */
    ASM(a, 0x41, 0x83, 0xe0 | (HOST_T1 & 7), 0xf0);               /* and t1d, -16 */
    asm_gs_base(a, REX_W, 0x3b, HOST_T0, HOST_T1, JUMP(x->view, rip));
    xlat_slow_from(x, asm_jcc(a, ASM_NE));
}
_Static_assert(sizeof(struct tlb_jump) == 16, "index arithmetic above");

/* IPBASE = T0's page */
static void set_ipbase(struct asm_buf *a)
{
    ASM(a, 0x49, 0x81, 0xe0 | (HOST_T0 & 7)); /* and t0, imm32 */
    asm_u32(a, (u32)PAGE_MASK);
    asm_gs_store(a, HOST_T0, GS_REG(REG_IPBASE));
}

/* jmp gs:[T1 + code] */
static void jump_looked_up(struct xlat *x)
{
    set_ipbase(x->a);
    asm_gs_base(x->a, 0, 0xff, 4, HOST_T1, JUMP(x->view, code));
}

/* The operand of an indirect jump or call into T0. */
static void load_target(struct xlat *x)
{
    const struct opnd *o = &x->d[x->i].op[0];
    struct xlat_mem m;

    xlat_flags_spill(x, x->flags[x->i].before);
    if (o->kind == OPND_MEM) {
        xlat_mem_check(x, 8, 1, false, &m);
        asm_op_mem(x->a, REX_W, 0x8b, HOST_T0, m.base, m.index, m.scale, m.disp);
    } else if (xlat_in_slot(o->reg)) {
        asm_gs_load(x->a, HOST_T0, GS_REG(o->reg));
    } else {
        asm_mov(x->a, HOST_T0, o->reg == REG_RSP ? HOST_SP : o->reg);
    }
}

void xlat_jmp_indirect(struct xlat *x)
{
    load_target(x);
    look_up(x);
    jump_looked_up(x);
    xlat_slow_resume(x);
}

void xlat_call_indirect(struct xlat *x)
{
    struct asm_buf *a = x->a;

    load_target(x);
    look_up(x);
    asm_gs_base(a, REX_W, 0x8b, HOST_T1, HOST_T1, JUMP(x->view, code));
    asm_gs_store(a, HOST_T0, GS(j.tmp[0]));
    asm_gs_store(a, HOST_T1, GS(j.tmp[1]));
    push_return(x);
    asm_gs_load(a, HOST_T0, GS(j.tmp[0]));
    set_ipbase(a);
    ASM_GS(a, 4, GS(j.tmp[1]), 0, 0xff); /* jmp gs:[tmp1] */
    xlat_slow_resume(x);
}

void xlat_ret(struct xlat *x)
{
    struct asm_buf *a = x->a;

    xlat_flags_spill(x, x->flags[x->i].before);
    xlat_stack_check(x, 0, false);
    asm_op_mem(a, REX_W, 0x8b, HOST_T0, HOST_SP, HOST_T1, 0, 0);
    look_up(x);
    asm_op_mem(a, REX_W, 0x8d, HOST_SP, HOST_SP, REG_ZERO, 0, 8 + (s32)current(x)->imm);
    jump_looked_up(x);
    xlat_slow_resume(x);
}
