// SPDX-License-Identifier: MIT
// The routines between C and translated code: in, out, and calls of interpreter ops.

/*
 * Theory of operation
 *
 * C calls (enter), which saves the registers that C wants back, loads the guest's and jumps to
 * j.enter_at. Translated code ends in one of the leave routines, or in an op routine whose op
 * did not say OP_NEXT; both store the guest's registers, cut the host's stack back to j.host_sp and
 * return j.rc.
 *
 * Between translated instructions RSP is a multiple of 16, so that an op routine, which is called, is where C
 * functions expect to be called from. Guest flags are in cpu->cc whenever an op is called.
 *
 * A refill routine is for a TLB miss alone. What it calls uses no vector registers, so they stay as they are.
 *
 * Vector state becomes live when a translation wants it and is stored before any C code runs,
 * which then finds the MXCSR it had. DF and AC are never set in translated code.
 */

#include "cpu/jit/code.h"
#include "cpu/mmu/fill.h"
#include "cpu/mmu/stlb.h"
#include "cpu/trace.h"
#include "cpu/vec/host.h"

static const u8 callee_saved[] = {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15};

static void push(struct asm_buf *a, unsigned reg)
{
    if (reg & 8)
        asm_u8(a, 0x41);
    asm_u8(a, 0x50 | (reg & 7));
}

static void pop(struct asm_buf *a, unsigned reg)
{
    if (reg & 8)
        asm_u8(a, 0x41);
    asm_u8(a, 0x58 | (reg & 7));
}

static void move_registers(struct asm_buf *a, unsigned op)
{
    for (unsigned r = 0; r < 16; r++) {
        if (r == REG_RSP)
            asm_gs(a, op, HOST_SP, GS_REG(r));
        else if (r < REG_R9 || r > REG_R11)
            asm_gs(a, op, r, GS_REG(r));
    }
}

/* Vector register (n), as wide as the host has them, from or to cpu->vec. */
static void move_vector(struct asm_buf *a, unsigned n, bool store)
{
    asm_gs_prefix(a);
    if (host_has_avx512())
        ASM(a, 0x62, (~n >> 3 & 1) << 7 | 0x60 | (~n >> 4 & 1) << 4 | 1, 0xfe, 0x48,
            store ? 0x7f : 0x6f);
    else if (host_has_avx())
        ASM(a, 0xc5, (~n >> 3 & 1) << 7 | 0x7e, store ? 0x7f : 0x6f);
    else if (n & 8)
        ASM(a, 0x44, 0x0f, store ? 0x11 : 0x10);
    else
        ASM(a, 0x0f, store ? 0x11 : 0x10);
    asm_gs_field(a, n, GS(vec.zmm) + 64 * n, 0);
}

/* ldmxcsr (2) or stmxcsr (3) gs:[disp] */
static void mxcsr(struct asm_buf *a, unsigned op, u32 disp)
{
    ASM_GS(a, op, disp, 0, 0x0f, 0xae);
}

static void set_vec_live(struct asm_buf *a, bool live)
{
    ASM_GS(a, 0, GS(j.vec_live), 1, 0xc6);
    asm_u8(a, live);
}

static void move_vectors(struct asm_buf *a, bool store)
{
    for (unsigned n = 0; n < (host_has_avx512() ? 32 : 16); n++)
        move_vector(a, n, store);
}

static void move_masks(struct asm_buf *a, bool store)
{
    for (unsigned n = 0; n < 8 && host_has_avx512(); n++) {
        ASM_GS(a, n, GS(vec.k) + 8 * n, 0, 0xc4, 0xe1, 0xf8, store ? 0x91 : 0x90);
    }
}

/* ZF if bits above 127 of registers 0 to 15 are zero. Clobbers T0, vector and mask registers. */
static void test_upper_halves(struct asm_buf *a)
{
    move_vector(a, 0, false);
    if (!host_has_avx512()) {
        for (unsigned n = 1; n < 16; n++) {
            ASM_GS(a, 0, GS(vec.zmm) + 64 * n, 0, 0xc5, 0xfc, 0x56); /* vorps ymm0, ymm0, gs:[…] */
        }
        ASM(a, 0xc4, 0xe3, 0x7d, 0x19, 0xc0, 1); /* vextractf128 xmm0, ymm0, 1 */
        ASM(a, 0xc4, 0xe2, 0x79, 0x17, 0xc0);    /* vptest xmm0, xmm0 */
        return;
    }
    for (unsigned n = 1; n < 16; n++) {
        ASM_GS(a, 0, GS(vec.zmm) + 64 * n, 0, 0x62, 0xf1, 0xfd, 0x48,
               0xeb); /* vporq zmm0, zmm0, gs:[…] */
    }
    asm_mov_imm(a, HOST_T0, 0xfc);
    ASM(a, 0xc4, 0xc1, 0x78, 0x92, 0xc9);       /* kmovw k1, t0d */
    ASM(a, 0x62, 0xf2, 0xfd, 0x49, 0x27, 0xd0); /* vptestmq k2{k1}, zmm0, zmm0 */
    ASM(a, 0xc5, 0xf8, 0x98, 0xd2);             /* kortestw k2, k2 */
}

/*
 * Bits above 127 of registers 0 to 15 are zero, and the host must know that they are, lest legacy SSE instructions wait
 * for them: only 128-bit VEX instructions and VZEROUPPER tell it, a wider load of zeros does not.
 */
static void load_low_halves(struct asm_buf *a)
{
    for (unsigned n = 0; n < 16; n++) {
        ASM_GS(a, n, GS(vec.zmm) + 64 * n, 0, 0xc5, (~n >> 3 & 1) << 7 | 0x78,
               0x10); /* vmovups xmm, gs:[…] */
    }
    for (unsigned n = 16; n < 32 && host_has_avx512(); n++)
        move_vector(a, n, false);
}

static u32 make_vec_load(struct asm_buf *a)
{
    u32 at = a->at, clean, done;

    if (host_has_avx()) {
        test_upper_halves(a);
        clean = asm_jcc(a, ASM_E);
        move_vectors(a, false);
        done = asm_jmp(a);
        asm_patch(a->rw, clean, a->at);
        load_low_halves(a);
        asm_patch(a->rw, done, a->at);
    } else {
        move_vectors(a, false);
    }
    move_masks(a, false);
    mxcsr(a, 2, GS(vec.x87.mxcsr));
    set_vec_live(a, true);
    asm_u8(a, 0xc3);
    return at;
}

static u32 make_vec_store(struct asm_buf *a)
{
    u32 at = a->at;

    move_vectors(a, true);
    move_masks(a, true);
    mxcsr(a, 3, GS(vec.x87.mxcsr));
    mxcsr(a, 2, GS(j.host_mxcsr));
    set_vec_live(a, false);
    if (host_has_avx())
        ASM(a, 0xc5, 0xf8, 0x77); /* vzeroupper */
    asm_u8(a, 0xc3);
    return at;
}

/* xsave (4) or xrstor (5) of x87 state; RAX and RDX are kept. */
static void move_x87(struct asm_buf *a, unsigned op)
{
    asm_gs_store(a, REG_RAX, GS(j.tmp[0]));
    asm_gs_store(a, REG_RDX, GS(j.tmp[1]));
    asm_mov_imm(a, REG_RAX, XCR0_X87);
    asm_mov_imm(a, REG_RDX, 0);
    ASM_GS(a, op, GS(vec.x87), 0, 0x48, 0x0f, 0xae);
    asm_gs_load(a, REG_RAX, GS(j.tmp[0]));
    asm_gs_load(a, REG_RDX, GS(j.tmp[1]));
}

/* FOP, FIP and FDP between the image and where translated code notes them, by way of T1. */
static void move_pointers(struct asm_buf *a, bool store)
{
    static const u32 at[][2] = {{GS(vec.x87.fip), GS(j.fip)}, {GS(vec.x87.fdp), GS(j.fdp)}};

    for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
        asm_gs_load(a, HOST_T1, at[i][store]);
        asm_gs_store(a, HOST_T1, at[i][!store]);
    }
    ASM_GS(a, HOST_T1, store ? GS(j.fop) : GS(vec.x87.fop), 0, 0x44, 0x0f,
           0xb7); /* movzx t1d, word gs:[…] */
    ASM_GS(a, HOST_T1, store ? GS(vec.x87.fop) : GS(j.fop), 0, 0x66, 0x44,
           0x89); /* mov gs:[…], t1w */
}

static void set_x87_live(struct asm_buf *a, bool live)
{
    ASM_GS(a, 0, GS(j.x87_live), 1, 0xc6);
    asm_u8(a, live);
}

static u32 make_x87_load(struct asm_buf *a)
{
    u32 at = a->at;

    ASM_GS(
        a, 0, GS(vec.xsave_header), 4, 0x48,
        0xc7); /* mov qword gs:[XSTATE_BV], 1: the image counts, also when xsave found it initial */
    asm_u32(a, XCR0_X87);
    move_x87(a, 5);
    move_pointers(a, false);
    set_x87_live(a, true);
    asm_u8(a, 0xc3);
    return at;
}

static u32 make_x87_store(struct asm_buf *a)
{
    u32 at = a->at;

    move_x87(a, 4);
    move_pointers(a, true);
    ASM(a, 0xdb, 0xe3); /* fninit */
    set_x87_live(a, false);
    asm_u8(a, 0xc3);
    return at;
}

struct stores {
    u32 vec, x87;
};

/* Vector and x87 state that is live goes to memory. Clobbers T1. */
static void store_live(struct asm_buf *a, const struct stores *s)
{
    u32 skip;

    asm_gs_cmp8(a, GS(j.vec_live), 0);
    skip = asm_jcc8(a, ASM_E);
    asm_call_to(a, s->vec);
    asm_here8(a, skip);
    asm_gs_cmp8(a, GS(j.x87_live), 0);
    skip = asm_jcc8(a, ASM_E);
    asm_call_to(a, s->x87);
    asm_here8(a, skip);
}

static u32 make_enter(struct asm_buf *a)
{
    u32 at = a->at;

    for (unsigned i = 0; i < ARRAY_SIZE(callee_saved); i++)
        push(a, callee_saved[i]);
    ASM(a, 0x48, 0x83, 0xec, 8); /* sub rsp, 8 */
    asm_gs_store(a, REG_RSP, GS(j.host_sp));
    move_registers(a, 0x8b);
    ASM_GS(a, 4, GS(j.enter_at), 0, 0xff); /* jmp gs:[enter_at] */
    return at;
}

/* Registers and vectors are stored: return (rc). */
static u32 make_return(struct asm_buf *a)
{
    u32 at = a->at;

    asm_gs_load(a, REG_RSP, GS(j.host_sp));
    ASM(a, 0x48, 0x83, 0xc4, 8); /* add rsp, 8 */
    for (unsigned i = ARRAY_SIZE(callee_saved); i--;)
        pop(a, callee_saved[i]);
    ASM_GS(a, REG_RAX, GS(j.rc), 0, 0x8b); /* mov eax, gs:[rc] */
    asm_u8(a, 0xc3);
    return at;
}

/* mov dword gs:[rc], imm */
static void set_rc(struct asm_buf *a, int rc)
{
    ASM_GS(a, 0, GS(j.rc), 4, 0xc7);
    asm_u32(a, (u32)rc);
}

static u32 make_leave(struct asm_buf *a, const struct stores *s, u32 ret)
{
    u32 at = a->at;

    move_registers(a, 0x89);
    store_live(a, s);
    set_rc(a, OP_END);
    asm_jmp_to(a, ret);
    return at;
}

/* After an access off RSP took the slow path: the window follows it. */
static int op_stack(struct cpu *c, const struct insn *in)
{
    int rc = in->op(c, in);

    if (rc >= 0)
        tlb_window_move(c->tlb, c->r[REG_RSP] & PAGE_MASK);
    return rc;
}

#define JUMP(field) ((u32)(offsetof(struct tlb, j) + offsetof(struct tlb_jump, field)))

/*
 * The state is in memory and cpu->rip set: go on at its translation if there is one in the jump cache of the view
 * that is now in force, and nothing needs the run loop. Else return OP_END.
 */
static u32 make_dispatch(struct asm_buf *a, u32 ret)
{
    u32 at = a->at, out[6];

    set_rc(a, OP_END);
    asm_gs_test32(a, GS(request));
    out[0] = asm_jcc(a, ASM_NE);
    asm_gs_cmp8(a, GS(mode), MODE_64);
    out[1] = asm_jcc(a, ASM_NE);
    ASM_GS(a, 0, GS(rflags), 4, 0xf7); /* test dword gs:[rflags], imm32 */
    asm_u32(a, RFLAGS_TF | RFLAGS_RF);
    out[2] = asm_jcc(a, ASM_NE);
    asm_gs_test32(a, GS(inhibit));
    out[3] = asm_jcc(a, ASM_NE);
    asm_gs_load(a, REG_RAX, GS(rflags));
    ASM_GS(a, REG_RAX, GS(intr_held), 0, 0x85); /* test gs:[intr_held], eax */
    out[5] = asm_jcc(a, ASM_NE);
    asm_gs_load(a, REG_RSI, GS(tlb));
    asm_gs_load(a, REG_RAX, GS(rip));
    ASM(a, 0x69, 0xc8); /* imul ecx, eax, imm32 */
    asm_u32(a, TLB_JUMP_HASH);
    ASM(a, 0xc1, 0xe9, 28 - TLB_JUMP_BITS); /* shr ecx */
    ASM(a, 0x83, 0xe1, 0xf0);               /* and ecx, -16 */
    asm_op_mem(a, REX_W, 0x3b, REG_RAX, REG_RSI, REG_RCX, 0, (s32)JUMP(rip));
    out[4] = asm_jcc(a, ASM_NE);
    asm_op_mem(a, REX_W, 0x8b, REG_RDX, REG_RSI, REG_RCX, 0, (s32)JUMP(code));
    asm_gs_store(a, REG_RDX, GS(j.tmp[0]));
    ASM(a, 0x48, 0x25); /* and rax, imm32 */
    asm_u32(a, (u32)PAGE_MASK);
    asm_gs_store(a, REG_RAX, GS_REG(REG_IPBASE));
    asm_gs_load(a, REG_RSP, GS(j.host_sp));
    move_registers(a, 0x8b);
    ASM_GS(a, 4, GS(j.tmp[0]), 0, 0xff); /* jmp gs:[tmp0] */
    for (unsigned i = 0; i < ARRAY_SIZE(out); i++)
        asm_patch(a->rw, out[i], ret);
    return at;
}

/* Store the state and call the op of the insn at T0, or op_stack() for it; its result is in EAX and tested. */
static void call_op(struct asm_buf *a, const struct stores *s, bool stack)
{
    move_registers(a, 0x89);
    asm_gs_store(a, HOST_T0, GS(j.insn));
    ASM(a, 0x48, 0x83, 0xec, 8); /* sub rsp, 8 */
    store_live(a, s);
    asm_mov(a, REG_RSI, HOST_T0);
    asm_gs_load(a, REG_RDI, GS(j.self));
    if (stack) {
        asm_mov_imm(a, REG_RAX, (u64)(uintptr_t)op_stack);
        ASM(a, 0xff, 0xd0); /* call rax */
    } else {
        ASM(a, 0xff, 0x16); /* call [rsi]: insn->op leads */
    }
    ASM(a, 0x48, 0x83, 0xc4, 8, 0x85, 0xc0); /* add rsp, 8; test eax, eax */
}
_Static_assert(offsetof(struct insn, op) == 0, "emitted code calls through [insn]");

/* EAX is not OP_NEXT: OP_END is dispatched, the rest returned. */
static void end_op(struct asm_buf *a, u32 dispatch, u32 ret)
{
    ASM(a, 0x83, 0xf8, OP_END); /* cmp eax, imm8 */
    asm_patch(a->rw, asm_jcc(a, ASM_E), dispatch);
    ASM_GS(a, REG_RAX, GS(j.rc), 0, 0x89); /* mov gs:[rc], eax */
    asm_jmp_to(a, ret);
}

static u32 make_op_tail(struct asm_buf *a, const struct stores *s, u32 dispatch, u32 ret)
{
    u32 at = a->at, next;

    call_op(a, s, false);
    next = asm_jcc8(a, ASM_E);
    end_op(a, dispatch, ret);
    asm_here8(a, next);
    asm_gs_load(a, REG_RSI, GS(j.insn));
    ASM(a, 0x0f, 0xb7, 0x46, offsetof(struct insn, off)); /* movzx eax, word [rsi + off] */
    ASM(a, 0x0f, 0xb6, 0x4e, offsetof(struct insn, len)); /* movzx ecx, byte [rsi + len] */
    ASM(a, 0x48, 0x01, 0xc8);                             /* add rax, rcx */
    asm_gs(a, 0x03, REG_RAX, GS_REG(REG_IPBASE));
    asm_gs_store(a, REG_RAX, GS(rip));
    asm_jmp_to(a, dispatch);
    return at;
}

static u32 make_op(struct asm_buf *a, const struct jit_glue *g, const struct stores *s,
                   u32 dispatch, u32 ret, bool stack, unsigned live)
{
    u32 at = a->at, out;

    call_op(a, s, stack);
    out = asm_jcc(a, ASM_NE);
    if (live & JIT_LIVE_VEC)
        asm_call_to(a, g->vec_load);
    if (live & JIT_LIVE_X87)
        asm_call_to(a, g->x87_load);
    move_registers(a, 0x8b);
    asm_u8(a, 0xc3);
    asm_patch(a->rw, out, a->at);
    end_op(a, dispatch, ret);
    return at;
}

/* Call (fn), which leaves vector registers alone, for the linear address in T0. */
static u32 make_refill(struct asm_buf *a, bool (*fn)(struct cpu *c, u64 lin, bool write),
                       bool write)
{
    static const u8 caller_saved[] = {REG_RAX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11};
    u32 at = a->at;

    if (cpu_counts_code)
        ASM_GS(a, 0, GS(stats.tlb_lookup_miss), 0, 0x48, 0xff); /* inc qword gs:[…] */
    for (unsigned i = 0; i < ARRAY_SIZE(caller_saved); i++)
        push(a, caller_saved[i]);
    asm_gs_load(a, REG_RDI, GS(j.self));
    asm_mov(a, REG_RSI, HOST_T0);
    asm_mov_imm(a, REG_RDX, write);
    asm_mov_imm(a, REG_RAX, (u64)(uintptr_t)fn);
    ASM(a, 0xff, 0xd0, 0x84, 0xc0); /* call rax; test al, al */
    for (unsigned i = ARRAY_SIZE(caller_saved); i--;)
        pop(a, caller_saved[i]);
    asm_u8(a, 0xc3);
    return at;
}

static void zero_site(struct asm_buf *a)
{
    ASM_GS(a, 0, GS(j.site), 4, 0x48, 0xc7); /* mov qword gs:[site], 0 */
    asm_u32(a, 0);
}

void jit_glue_make(struct jit *j)
{
    struct asm_buf *a = &j->hot;
    struct jit_glue *g = &j->glue;
    struct stores s;
    u32 ret, dispatch;

    g->vec_load = make_vec_load(a);
    g->x87_load = make_x87_load(a);
    s.vec = make_vec_store(a);
    s.x87 = make_x87_store(a);
    jit_glue_amx_make(j, s.vec);
    jit_glue_cpuid_make(j);
    ret = make_return(a);
    g->enter = make_enter(a);
    dispatch = make_dispatch(a, ret);
    g->op_tail = make_op_tail(a, &s, dispatch, ret);
    g->leave_none = a->at;
    zero_site(a);
    g->leave = make_leave(a, &s, ret);
    for (unsigned stack = 0; stack < 2; stack++) {
        for (unsigned live = 0; live < JIT_LIVE_KINDS; live++)
            g->op[stack][live] = make_op(a, g, &s, dispatch, ret, stack, live);
    }
    for (unsigned write = 0; write < 2; write++) {
        g->refill[write] = make_refill(a, mmu_refill, write);
        g->refill_stack[write] = make_refill(a, mmu_refill_stack, write);
    }
}
