// SPDX-License-Identifier: MIT
// AMX instructions in translated code: direct calls of what loads, stores, clears and multiplies tiles.

/*
 * Theory of operation
 *
 * Tiles are in memory and the functions of amx/direct.h use no guest register, so calls of them need only what C may
 * clobber out of the way: the general registers that the host's convention leaves to the caller, and vector state if it
 * is live. Between the first of a run of such instructions and the end of the last those guest registers are in
 * cpu->r, "away". Vector state stays in memory: a loop of tile instructions finds it there from its second pass on. x87
 * state stays where it is.
 *
 * Products that follow one another are one call. A function that does not say 0 has left an instruction to its op:
 * the registers come back, and it and the rest of what the call was for are done by ops, in cold code. What may stand
 * in the way (XCR0, XFD, the configuration, a TLB miss) is for the function to find, so nothing of it is in the
 * block's key.
 */

#include "cpu/amx/direct.h"
#include "cpu/amx/form.h"
#include "cpu/jit/xlat.h"

enum direct { LOAD, STORE, ZERO, DP, NONE };

static const u64 functions[] = {[LOAD] = (u64)(uintptr_t)amx_direct_load,
                                [STORE] = (u64)(uintptr_t)amx_direct_store,
                                [ZERO] = (u64)(uintptr_t)amx_direct_zero,
                                [DP] = (u64)(uintptr_t)amx_direct_dp};

/* Host registers that C clobbers, of those that hold guest registers. */
static const u8 caller_saved[] = {REG_RAX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_R8, HOST_SP};

/* Arguments of the functions. */
#define ARG_CPU  REG_RDI
#define ARG_1    REG_RSI
#define ARG_2    REG_RDX
#define ARG_TILE REG_RCX
#define ARG_4    REG_R8

static enum direct kind_of(const struct insn *in)
{
    if (in->op == amx_op_tileload)
        return LOAD;
    if (in->op == amx_op_tilestore)
        return STORE;
    if (in->op == amx_op_tilezero)
        return ZERO;
    return in->op == amx_op_dp ? DP : NONE;
}

bool xlat_amx_fits(const struct insn *in)
{
    return kind_of(in) != NONE && in->x[1] != AMX_MOVRS && !in->ea_shift;
}

static u32 slot_of(unsigned reg)
{
    return GS_REG(reg == HOST_SP ? REG_RSP : reg);
}

static bool is_away(unsigned reg)
{
    return reg < REG_RBX || (reg > REG_RBX && reg != REG_RBP && reg < REG_R12);
}

/* dst = r[reg] << scale + disp, with registers away. */
static void load_scaled(struct asm_buf *a, unsigned dst, unsigned reg, unsigned scale, s64 disp)
{
    if (reg == REG_ZERO) {
        asm_mov_imm(a, dst, (u64)disp);
        return;
    }
    if (is_away(reg)) {
        asm_gs_load(a, dst, GS_REG(reg));
        reg = dst;
    }
    if (scale)
        asm_op_mem(a, REX_W, 0x8d, dst, REG_ZERO, reg, scale, (s32)disp);
    else if (reg != dst || disp)
        asm_op_mem(a, REX_W, 0x8d, dst, reg, REG_ZERO, 0, (s32)disp);
}

static void product_arguments(struct asm_buf *a, const struct insn *in, unsigned count)
{
    u64 list = 0;

    for (unsigned i = count; i--;)
        list = list << AMX_DIRECT_BITS | amx_direct_tiles(in[i].reg, in[i].rm, in[i].vvvv);
    asm_gs_load(a, ARG_CPU, GS(j.self));
    asm_mov_imm(a, ARG_1, list);
    asm_mov_imm(a, ARG_2, in->x[1]);
    asm_mov_imm(a, ARG_TILE, count);
    asm_mov_imm(a, ARG_4, (u64)(uintptr_t)amx_dp_kernel(in->x[0]));
}

static void tile_arguments(struct asm_buf *a, const struct insn *in, enum direct kind)
{
    asm_gs_load(a, ARG_CPU, GS(j.self));
    asm_mov_imm(a, ARG_TILE, in->reg);
    asm_mov_imm(a, ARG_4, (u64)(uintptr_t)amx_rows_kernel());
    if (kind == ZERO)
        return;
    load_scaled(a, ARG_1, in->base, 0, in->disp);
    load_scaled(a, ARG_2, in->index, in->scale, 0);
    if (in->seg == SEG_FS || in->seg == SEG_GS)
        asm_gs(a, 0x03, ARG_1,
               GS(seg) + in->seg * sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, base));
}

/* How many insns from (in) on, of (max), one call does. */
static unsigned call_length(const struct insn *in, unsigned max)
{
    unsigned n = 1;

    while (n < max && n < AMX_DIRECT_MAX && kind_of(in) == DP && in[n].op == in->op &&
           in[n].x[0] == in->x[0])
        n++;
    return n;
}

/* Cold code: EAX says which of (count) insns was refused. It and those after it are done by their ops. */
static void emit_refused(struct xlat *x, const struct insn *in, unsigned count, u32 from)
{
    struct asm_buf *a = &x->j->cold;
    u32 entry[AMX_DIRECT_MAX];

    asm_patch(a->rw, from, a->at);
    asm_mov(a, HOST_T0, REG_RAX);
    asm_call_to(a, x->j->glue.amx_back);
    for (unsigned i = 1; i < count; i++) {
        ASM(a, 0x41, 0x83, 0xf8 | (HOST_T0 & 7), i + 1); /* cmp t0d, i + 1 */
        entry[i] = asm_jcc(a, ASM_E);
    }
    for (unsigned i = 0; i < count; i++) {
        if (i)
            asm_patch(a->rw, entry[i], a->at);
        asm_mov_imm(a, HOST_T0, (u64)(uintptr_t)&in[i]);
        asm_call_to(a, x->j->glue.op[0][x->live]);
    }
    asm_jmp_to(a, x->a->at);
}

/* The length of the run of AMX insns at x->i, which are all in the host's hands. */
static unsigned run_length(const struct xlat *x)
{
    unsigned n = 1;

    while (x->i + n < x->b->count && x->kind[x->i + n] == XLAT_AMX)
        n++;
    return n;
}

void xlat_amx(struct xlat *x)
{
    const struct insn *in = &x->b->insn[x->i];
    struct asm_buf *a = x->a;
    unsigned left = run_length(x), count;

    if (x->i && x->kind[x->i - 1] == XLAT_AMX) /* done with the first of the run */
        return;
    xlat_flags_spill(x, x->flags[x->i].before);
    x->in_mem = true;
    x->in_reg = false;
    x->live &= (u8)~JIT_LIVE_VEC;
    asm_call_to(a, x->j->glue.amx_away);
    for (; left; left -= count, in += count) {
        enum direct kind = kind_of(in);

        count = call_length(in, left);
        if (kind == DP)
            product_arguments(a, in, count);
        else
            tile_arguments(a, in, kind);
        asm_mov_imm(a, REG_RAX, functions[kind]);
        ASM(a, 0xff, 0xd0, 0x85, 0xc0); /* call rax; test eax, eax */
        emit_refused(x, in, count, asm_jcc(a, ASM_NE));
    }
    asm_call_to(a, x->j->glue.amx_back);
}

void jit_glue_amx_make(struct jit *j, u32 vec_store)
{
    struct asm_buf *a = &j->hot;
    u32 skip;

    j->glue.amx_away = a->at;
    for (unsigned i = 0; i < ARRAY_SIZE(caller_saved); i++)
        asm_gs_store(a, caller_saved[i], slot_of(caller_saved[i]));
    asm_gs_cmp8(a, GS(j.vec_live), 0);
    skip = asm_jcc8(a, ASM_E);
    asm_call_to(a, vec_store);
    asm_here8(a, skip);
    asm_u8(a, 0xc3);
    j->glue.amx_back = a->at;
    for (unsigned i = 0; i < ARRAY_SIZE(caller_saved); i++)
        asm_gs_load(a, caller_saved[i], slot_of(caller_saved[i]));
    asm_u8(a, 0xc3);
}
