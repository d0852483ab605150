// SPDX-License-Identifier: MIT
// From a block of decoded instructions to host code.

#include "cpu/jit/lockstep.h"
#include "cpu/jit/xlat.h"
#include "cpu/trace.h"

/* Have the block decoded in full, and say how each insn is to be translated. */
static void classify(struct xlat *x)
{
    const struct block *b = x->b;
    bool known = x->j->insn_of == b;
    unsigned pos = 0;

    for (unsigned i = 0; i < b->count; i++) {
        struct decoded *d = &x->j->insn[i];
        bool gp;

        if (known ? !d->len : decode_one(b->bytes + pos, b->len - pos, MODE_64, true, d, &gp)) {
            *d = (struct decoded){0};
            x->kind[i] = XLAT_LEAVE;
        } else {
            x->kind[i] = (u8)xlat_classify(x, d, &b->insn[i]);
        }
        x->code->once |= !lockstep_repeats(d);
        pos += b->insn[i].len;
    }
    x->d = x->j->insn;
}

static void emit_op(struct asm_buf *a, u32 routine, const struct insn *in)
{
    asm_mov_imm(a, HOST_T0, (u64)(uintptr_t)in);
    asm_call_to(a, routine);
}

void xlat_op(struct xlat *x, enum xlat_then then)
{
    const struct insn *in = &x->b->insn[x->i];
    const struct jit_glue *g = &x->j->glue;

    xlat_flags_spill(x, x->flags[x->i].before);
    emit_op(x->a, then == THEN_TAIL ? g->op_tail : g->op[0][0], in);
    x->in_mem = true;
    x->in_reg = false;
    x->live = 0;
    if (then == THEN_LEAVE) {
        asm_gs_load(x->a, HOST_T0, GS_REG(REG_IPBASE));
        asm_op_mem(x->a, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, in->off + in->len);
        asm_gs_store(x->a, HOST_T0, GS(rip));
        asm_jmp_to(x->a, g->leave_none);
    }
}

/* Cold code of the pass that has just been made: misses, and then the ops of careful insns. */
static void emit_slow_paths(struct xlat *x)
{
    struct asm_buf *a = &x->j->cold;

    for (unsigned i = x->slow_first; i < x->nslow; i++) {
        struct xlat_slow *s = &x->slow[i];

        s->at = a->at;
        for (unsigned k = 0; k < s->nfrom; k++)
            asm_patch(a->rw, s->from[k], s->at);
        emit_op(a, x->j->glue.op[s->stack][s->live], &x->b->insn[s->index]);
        if (s->restore_flags)
            xlat_emit_flags_load(a, HOST_T0);
        asm_jmp_to(a, s->resume);
    }
    xlat_emit_misses(x);
}

/* The same where the others lead: to their careful twins. Flags that are live have been spilled. */
static void emit_twin_paths(struct xlat *x)
{
    struct asm_buf *a = &x->j->cold;

    for (unsigned i = x->slow_first; i < x->nslow; i++) {
        struct xlat_slow *s = &x->slow[i];
        const struct xlat_twin *t = &x->twin[s->index];
        bool load = t->in_reg && x->flags[s->index].before;
        bool restore;
        unsigned in = xlat_loops_of(x, s->index, &restore);

        s->at = load || restore ? a->at : t->at;
        for (unsigned k = 0; k < s->nfrom; k++)
            asm_patch(a->rw, s->from[k], s->at);
        if (restore)
            xlat_loop_restore(x, a, in);
        if (load)
            xlat_emit_flags_load(a, HOST_T0);
        if (load || restore)
            asm_jmp_to(a, t->at);
    }
    xlat_loop_emit_refused(x);
    xlat_emit_misses(x);
}

/*
 * Do flags that live at the block's start serve an insn of it in RFLAGS? Else they only pass through, or are spilled for a
 * check first, and stay in memory.
 */
static bool wants_flags(const struct xlat *x)
{
    for (unsigned i = 0; i < x->b->count && x->flags[i].before; i++) {
        const struct decoded *d = &x->d[i];

        switch ((enum xlat_kind)x->kind[i]) {
        case XLAT_JCC:
            return true;
        case XLAT_NATIVE:
            if (d->has_mem && d->modrm_mod != 3)
                return false;
            if (d->cc_read || (x->flags[i].touch && x->flags[i].after & ~x->flags[i].kill))
                return true;
            break;
        case XLAT_LEA:
        case XLAT_NOTHING:
            break;
        default:
            return false;
        }
    }
    return false;
}

/* Flags in memory are the block's own: those in RFLAGS are put there first, elsewhere. */
static void emit_entry_reg(struct xlat *x)
{
    struct asm_buf *cold = &x->j->cold;

    x->code->entry[JIT_REG] = cold->at;
    xlat_emit_flags_save(cold, HOST_T0);
    asm_jmp_to(cold, x->a->at);
    x->in_mem = true;
}

/* The three ways in. */
static void emit_entries(struct xlat *x)
{
    struct asm_buf *a = x->a, *cold = &x->j->cold;
    u32 out;

    x->code->entry[JIT_POLL] = a->at;
    asm_gs_test32(a, GS(request));
    out = asm_jcc(a, ASM_NE);
    asm_patch(a->rw, out, cold->at);
    asm_gs_load(cold, HOST_T0, GS_REG(REG_IPBASE));
    asm_op_mem(cold, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, x->b->off);
    asm_gs_store(cold, HOST_T0, GS(rip));
    asm_jmp_to(cold, x->j->glue.leave_none);
    x->code->entry[JIT_MEM] = a->at;
    if (x->code->flags_in && !wants_flags(x)) {
        emit_entry_reg(x);
    } else {
        if (x->code->flags_in)
            xlat_emit_flags_load(a, HOST_T0);
        x->code->entry[JIT_REG] = a->at;
        x->in_reg = x->code->flags_in != 0;
    }
    if (cpu_counts_code) { /* in a way that leaves RFLAGS alone */
        asm_gs_load(a, HOST_T0, GS(stats.code_blocks));
        asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, 1);
        asm_gs_store(a, HOST_T0, GS(stats.code_blocks));
    }
}

/* T1 is not touched by the current insn, nor by what is emitted for it. */
static bool leaves_t1(const struct xlat *x)
{
    const struct decoded *d = &x->d[x->i];
    unsigned slots = 0;

    switch ((enum xlat_kind)x->kind[x->i]) {
    case XLAT_NATIVE:
    case XLAT_VEC:
        for (unsigned i = 0; i < d->nopnd; i++)
            slots += d->op[i].kind == OPND_GPR && xlat_in_slot(d->op[i].reg);
        return slots < 2 && (!d->has_mem || d->modrm_mod == 3);
    case XLAT_NOTHING:
    case XLAT_JCC:
        return true;
    default:
        return false;
    }
}

/* True: the translation ends with this insn. */
static bool emit_insn(struct xlat *x)
{
    switch ((enum xlat_kind)x->kind[x->i]) {
    case XLAT_CALL:
        xlat_op(x, THEN_NEXT);
        return false;
    case XLAT_LEAVE:
        xlat_op(x, THEN_LEAVE);
        return true;
    case XLAT_TAIL:
        xlat_op(x, THEN_TAIL);
        return true;
    case XLAT_CLI:
    case XLAT_STI:
        xlat_if_flag(x, x->kind[x->i] == XLAT_STI);
        return false;
    case XLAT_NATIVE:
    case XLAT_VEC:
    case XLAT_X87:
    case XLAT_X87_CONTROL:
        xlat_native(x);
        return false;
    case XLAT_DIVIDE:
        xlat_divide(x);
        return false;
    case XLAT_CPUID:
        xlat_cpuid(x);
        return false;
    case XLAT_LEA:
        xlat_lea(x);
        return false;
    case XLAT_NOTHING:
        return false;
    case XLAT_PUSH:
        xlat_push(x);
        return false;
    case XLAT_POP:
        xlat_pop(x);
        return false;
    case XLAT_LEAVE_FRAME:
        xlat_leave_frame(x);
        return false;
    case XLAT_JCC:
        xlat_jcc(x);
        return false;
    case XLAT_JMP:
        xlat_jmp(x);
        return true;
    case XLAT_CALL_REL:
        xlat_call(x);
        return true;
    case XLAT_JMP_INDIRECT:
        xlat_jmp_indirect(x);
        return true;
    case XLAT_CALL_INDIRECT:
        xlat_call_indirect(x);
        return true;
    case XLAT_RET:
        xlat_ret(x);
        return true;
    case XLAT_AMX:
        xlat_amx(x);
        return false;
    }
    return true;
}

static bool translate_insn(struct xlat *x)
{
    bool ends;

    if (x->careful)
        x->twin[x->i] = (struct xlat_twin){.at = x->a->at, .in_reg = x->in_reg};
    x->t1_next = leaves_t1(x) ? x->t1_group : XLAT_NONE;
    ends = emit_insn(x);
    x->t1_group = x->t1_next;
    return ends;
}

/* All insns, in the one way or the other. Returns how many there were before code ended. */
static unsigned translate_insns(struct xlat *x)
{
    bool ended = false;
    unsigned n;

    for (x->i = 0; x->i < x->b->count && !ended; x->i++) {
        struct xlat_loop *l = xlat_loop_here(x, false);

        if (l)
            xlat_loop_enter(x, l);
        ended = translate_insn(x);
        l = xlat_loop_here(x, true);
        if (l)
            xlat_loop_leave(x, l, !ended);
    }
    n = x->i;
    if (!ended) {
        x->i = x->b->count - 1u;
        xlat_continue(x, x->b->off + x->b->len);
    }
    return n;
}

/* The same insns again, each with its own checks. */
static void translate_twins(struct xlat *x)
{
    unsigned nslow = x->nslow, nmiss = x->nmiss;

    x->slow_first = nslow;
    x->miss_first = nmiss;
    x->careful = true;
    x->live = 0;
    x->in_reg = false;
    x->in_mem = x->code->flags_in;
    translate_insns(x);
    emit_slow_paths(x);
    x->slow_first = x->miss_first = 0;
    x->nslow = nslow;
    x->nmiss = nmiss;
    emit_twin_paths(x);
}

struct jit_code *jit_translate(struct cpu *c, struct block *b, struct jit_page *page)
{
    struct jit *j = c->jit;
    struct xlat x = {.j = j,
                     .b = b,
                     .page = page,
                     .a = &j->hot,
                     .view = GS_VIEW((b->key & CPU_KEY_VIEW) >> CPU_KEY_VIEW_SHIFT)};

    if (!jit_has_room(j))
        return NULL;
    x.code = jit_meta_take(j, sizeof(*x.code) + XLAT_SITES * sizeof(struct jit_site));
    *x.code = (struct jit_code){.block = b, .page = page};
    classify(&x);
    xlat_flags_analyse(&x);
    x.code->flags_in = x.flags[0].before;
    xlat_plan(&x);
    x.careful = !x.ngroups;
    x.t1_group = XLAT_NONE;
    emit_entries(&x);
    x.code->count = (u16)translate_insns(&x);
    if (x.careful)
        emit_slow_paths(&x);
    else
        translate_twins(&x);
    x.code->hot_end = x.a->at;
    jit_meta_trim(j, &x.code->site[x.code->nsites]);
    return x.code;
}
