// SPDX-License-Identifier: MIT
// A decoded instruction as engines run it, and the address arithmetic that every op shares.
#pragma once

#include "cpu/cpu.h"

struct insn;
typedef int op_fn(struct cpu *c, const struct insn *in);

#define INSN_LEGACY BIT(0)  /* not 64-bit mode: segment limits and rights are checked */
#define INSN_SS BIT(1)      /* the memory operand is in SS: #SS instead of #GP */
#define INSN_LOCK BIT(2)
#define INSN_REP BIT(3)     /* F3 */
#define INSN_REPNE BIT(4)   /* F2 */
#define INSN_ENDS BIT(5)    /* the block builder stops after this insn */
#define INSN_REL    BIT(7)    /* a relative branch */
#define INSN_WRITES BIT(6)    /* may write memory, be it the stack */

/*
 * GPR operands are byte offsets into cpu->r, so AH is 1 and R8D is 64: see insn_reg*().
 * Memory operands: r[base] + (r[index] << scale) + disp, cut to the address size, plus
 * the segment's base. RIP-relative operands have base REG_IPBASE and a folded disp.
 */
struct insn {
    op_fn *op;
    union {
        u64 imm;   /* sign-extended to 64 bits as the operand size needs */
        void *aux; /* the family's own: a stub, a table row */
    };
    s64 disp;
    u16 off;       /* of the first byte, from RIP REG_IPBASE */
    u8 len;
    u8 reg;        /* operand in ModRM.reg (or the opcode's low bits) */
    u8 rm;         /* operand in ModRM.rm when that is a register */
    u8 vvvv;       /* operand in VEX.vvvv */
    u8 base, index, scale;
    u8 ea_shift;   /* 0, 32 or 48: address size 64, 32, 16 */
    u8 seg;        /* enum cpu_seg_id; SEG_NONE where the base is architecturally 0 */
    u8 size;       /* operand size in bytes */
    u8 flags;      /* INSN_* */
    u8 x[3];       /* the family's own */
};
_Static_assert(sizeof(struct insn) == 40, "insn grew: the block arena is sized for it");

static inline u8 *insn_reg8(struct cpu *c, u8 off) { return (u8 *)c->r + off; }
static inline u16 *insn_reg16(struct cpu *c, u8 off) { return (u16 *)((u8 *)c->r + off); }
static inline u32 *insn_reg32(struct cpu *c, u8 off) { return (u32 *)((u8 *)c->r + off); }
static inline u64 *insn_reg64(struct cpu *c, u8 off) { return (u64 *)((u8 *)c->r + off); }

/* RIP of this insn and of the one after it. Truncation to IP/EIP is cpu_rip_trim()'s. */
static inline u64 insn_rip(const struct cpu *c, const struct insn *in) { return c->r[REG_IPBASE] + in->off; }
static inline u64 insn_next(const struct cpu *c, const struct insn *in)
{
    return c->r[REG_IPBASE] + in->off + in->len;
}

/* Cut a branch target to the code size: 16-bit IP, 32-bit EIP. */
static inline u64 cpu_rip_trim(const struct cpu *c, u64 rip)
{
    return c->mode == MODE_64 ? rip : c->mode == MODE_32 ? (u32)rip : (u16)rip;
}

/* Effective address (offset in the segment). */
static inline u64 insn_ea(const struct cpu *c, const struct insn *in)
{
    u64 ea = c->r[in->base] + (c->r[in->index] << in->scale) + (u64)in->disp;

    return ea & (~0ull >> in->ea_shift);
}

/*
 * Limit, rights and null checks of a legacy segment access at offset (ea): SDM 3A 5.3.
 * Sets *lin (32 bits). #GP(0) or #SS(0) raised on failure. mmu/segment.c.
 */
int seg_access(struct cpu *c, unsigned seg, u64 ea, unsigned size, bool write, u64 *lin);

/* Linear address of the memory operand for an access of (size) bytes. OP_NEXT or OP_FAULT. */
static inline int insn_lin(struct cpu *c, const struct insn *in, unsigned size, bool write, u64 *lin)
{
    if (unlikely(in->flags & INSN_LEGACY))
        return seg_access(c, in->seg, insn_ea(c, in), size, write, lin);
    *lin = insn_ea(c, in) + c->seg[in->seg].base;
    return OP_NEXT;
}
