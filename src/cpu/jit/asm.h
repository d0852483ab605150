// SPDX-License-Identifier: MIT
// The host instructions that translated code is glued together with.
#pragma once

#include "cpu/cpu.h"

#include <string.h>

/*
 * Host registers while translated code runs: guest RAX … R15 are themselves, but for RSP, which is in
 * HOST_SP, and R9, R10 and R11, which stay in cpu->r. GS points to the CPU, for where it is out of
 * reach (struct asm_buf); RSP is the host's stack.
 */
#define HOST_T0 REG_R9  /* scratch: free between instructions */
#define HOST_T1 REG_R10 /* scratch */
#define HOST_SP REG_R11 /* the guest's RSP */

/*
 * Code under construction: (at) is an offset in the code memory whose writable mapping is (rw).
 *
 * The vCPU's fields are addressed as RIP + disp32, and its tables as register + disp32, where both ends allow that: if
 * (near), the vCPU is (cpu) bytes from where offset 0 runs, and if (low) that is its address. Else both go by way of GS, which
 * takes a cycle longer, two bytes more, and hides from Zen 5 that a load reads what has just been stored: of 8 cycles for
 * such a pair nothing is left without GS.
 */
struct asm_buf {
    u8 *rw;
    u32 at;
    bool near;
    s32 cpu;
    u32 low;
};

enum asm_cond { ASM_O, ASM_NO, ASM_B, ASM_AE, ASM_E, ASM_NE, ASM_BE, ASM_A, ASM_S, ASM_NS };

static inline void asm_u8(struct asm_buf *a, unsigned v)
{
    a->rw[a->at++] = (u8)v;
}

static inline void asm_u32(struct asm_buf *a, u32 v)
{
    memcpy(a->rw + a->at, &v, 4);
    a->at += 4;
}

static inline void asm_u64(struct asm_buf *a, u64 v)
{
    memcpy(a->rw + a->at, &v, 8);
    a->at += 8;
}

static inline void asm_bytes(struct asm_buf *a, const void *b, size_t n)
{
    memcpy(a->rw + a->at, b, n);
    a->at += (u32)n;
}

#define ASM(a, ...) asm_bytes(a, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* Point the rel32 at (at) to (target). One aligned-or-not 4-byte store: only the owner's thread runs the code. */
static inline void asm_patch(u8 *rw, u32 at, u32 target)
{
    u32 rel = target - (at + 4);

    memcpy(rw + at, &rel, 4);
}

/* jcc rel32 or jmp rel32; returns the place of the rel32 for asm_patch(). */
static inline u32 asm_jcc(struct asm_buf *a, unsigned cond)
{
    ASM(a, 0x0f, 0x80 | cond);
    asm_u32(a, 0);
    return a->at - 4;
}

static inline u32 asm_jmp(struct asm_buf *a)
{
    asm_u8(a, 0xe9);
    asm_u32(a, 0);
    return a->at - 4;
}

static inline void asm_jmp_to(struct asm_buf *a, u32 target)
{
    u32 at = asm_jmp(a);

    asm_patch(a->rw, at, target);
}

static inline void asm_call_to(struct asm_buf *a, u32 target)
{
    asm_u8(a, 0xe8);
    asm_u32(a, target - (a->at + 4));
}

/* A short forward jump; asm_here() ends it. */
static inline u32 asm_jcc8(struct asm_buf *a, unsigned cond)
{
    ASM(a, 0x70 | cond, 0);
    return a->at - 1;
}

static inline void asm_here8(struct asm_buf *a, u32 at)
{
    a->rw[at] = (u8)(a->at - (at + 1));
}

#define REX_W 8u

static inline unsigned rex(unsigned w, unsigned reg, unsigned index, unsigned base)
{
    return 0x40 | w | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
}

/* What stands before an instruction that addresses a field. */
static inline void asm_gs_prefix(struct asm_buf *a)
{
    if (!a->near)
        asm_u8(a, 0x65);
}

/* ModRM and what follows of the field at (disp), after the opcode. (imm): bytes of the immediate that comes next. */
static inline void asm_gs_field(struct asm_buf *a, unsigned reg, u32 disp, unsigned imm)
{
    if (a->near) {
        asm_u8(a, (reg & 7) << 3 | 5);
        asm_u32(a, (u32)a->cpu + disp - (a->at + 4 + imm));
        return;
    }
    ASM(a, (reg & 7) << 3 | 4, 0x25);
    asm_u32(a, disp);
}

/* An instruction, whose prefixes and opcode are the last arguments, on the field at (disp). */
#define ASM_GS(a, reg, disp, imm, ...)                                                             \
    do {                                                                                           \
        asm_gs_prefix(a);                                                                          \
        ASM(a, __VA_ARGS__);                                                                       \
        asm_gs_field(a, reg, disp, imm);                                                           \
    } while (0)

/* (op) reg, gs:[disp] or the other way round, 64 bits: 8B load, 89 store, 03 add, 2B sub, 33 xor, 3B cmp. */
static inline void asm_gs(struct asm_buf *a, unsigned op, unsigned reg, u32 disp)
{
    ASM_GS(a, reg, disp, 0, rex(REX_W, reg, 0, 0), op);
}

static inline void asm_gs_load(struct asm_buf *a, unsigned reg, u32 disp)
{
    asm_gs(a, 0x8b, reg, disp);
}
static inline void asm_gs_store(struct asm_buf *a, unsigned reg, u32 disp)
{
    asm_gs(a, 0x89, reg, disp);
}

/* The same with gs:[base + disp]; (base) is not RSP or R12. (w): REX_W, or 0 where the opcode implies 64 bits. */
static inline void asm_gs_base(struct asm_buf *a, unsigned w, unsigned op, unsigned reg,
                               unsigned base, u32 disp)
{
    if (!a->low)
        asm_u8(a, 0x65);
    ASM(a, rex(w, reg, 0, base), op, 0x80 | (reg & 7) << 3 | (base & 7));
    asm_u32(a, a->low + disp);
}

/* cmp dword gs:[disp], imm32; returns the place of the imm32. */
static inline u32 asm_gs_cmp32(struct asm_buf *a, u32 disp, u32 imm)
{
    ASM_GS(a, 7, disp, 4, 0x81);
    asm_u32(a, imm);
    return a->at - 4;
}

/* Make the compare whose imm32 is at (at) anew. */
static inline void asm_gs_again32(const struct asm_buf *a, u32 at, u32 disp, u32 imm)
{
    struct asm_buf there = *a;

    there.at = at - (a->near ? 6 : 8);
    asm_gs_cmp32(&there, disp, imm);
}

/* cmp dword gs:[disp], 0 */
static inline void asm_gs_test32(struct asm_buf *a, u32 disp)
{
    ASM_GS(a, 7, disp, 1, 0x83);
    asm_u8(a, 0);
}

/* cmp byte gs:[disp], imm8 */
static inline void asm_gs_cmp8(struct asm_buf *a, u32 disp, u8 imm)
{
    ASM_GS(a, 7, disp, 1, 0x80);
    asm_u8(a, imm);
}

/* mov dst, src */
static inline void asm_mov(struct asm_buf *a, unsigned dst, unsigned src)
{
    ASM(a, rex(REX_W, src, 0, dst), 0x89, 0xc0 | (src & 7) << 3 | (dst & 7));
}

/* mov reg, imm64, as short as it goes. */
static inline void asm_mov_imm(struct asm_buf *a, unsigned reg, u64 imm)
{
    if (imm == (u32)imm) {
        if (reg & 8)
            asm_u8(a, 0x41);
        asm_u8(a, 0xb8 | (reg & 7));
        asm_u32(a, (u32)imm);
    } else if (imm == (u64)(s64)(s32)imm) {
        ASM(a, rex(REX_W, 0, 0, reg), 0xc7, 0xc0 | (reg & 7));
        asm_u32(a, (u32)imm);
    } else {
        ASM(a, rex(REX_W, 0, 0, reg), 0xb8 | (reg & 7));
        asm_u64(a, imm);
    }
}

/* ModRM, SIB, displacement of [base + index << scale + disp]; (index) REG_ZERO for none, (base) likewise. */
static inline void asm_mem(struct asm_buf *a, unsigned reg, unsigned base, unsigned index,
                           unsigned scale, s32 disp, bool wide)
{
    unsigned mod, r = (reg & 7) << 3;

    if (base == REG_ZERO) {
        ASM(a, r | 4, scale << 6 | (index == REG_ZERO ? 4 : index & 7) << 3 | 5);
        asm_u32(a, (u32)disp);
        return;
    }
    mod = disp == 0 && (base & 7) != 5 ? 0 : !wide && disp == (s8)disp ? 1 : 2;
    if (index == REG_ZERO && (base & 7) != 4)
        asm_u8(a, mod << 6 | r | (base & 7));
    else
        ASM(a, mod << 6 | r | 4,
            scale << 6 | (index == REG_ZERO ? 4 : index & 7) << 3 | (base & 7));
    if (mod == 1)
        asm_u8(a, (u8)disp);
    else if (mod == 2)
        asm_u32(a, (u32)disp);
}

/* (op) reg, [base + index << scale + disp], 64 or 32 bits: 8B load, 89 store, 8D lea. */
static inline void asm_op_mem(struct asm_buf *a, unsigned w, unsigned op, unsigned reg,
                              unsigned base, unsigned index, unsigned scale, s32 disp)
{
    ASM(a, rex(w, reg, index == REG_ZERO ? 0 : index, base == REG_ZERO ? 0 : base), op);
    asm_mem(a, reg, base, index, scale, disp, false);
}
