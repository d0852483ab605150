// SPDX-License-Identifier: MIT
// Running stubs: availability, memory operands, MXCSR and the exceptions that come of it.
#pragma once

#include "cpu/mmu/access.h"
#include "cpu/vec/stub.h"

#define MXCSR_FLAGS 0x3fu
#define MXCSR_MASKS 0x1f80u
#define MXCSR_FTZ BIT(15)

#define FSW_ES BIT(7)
#define FSW_B BIT(15)

/* insns of this room: (aux) is the stub, x[0] the byte offset of the general register operand. */
static inline const struct vec_stub *insn_stub(const struct insn *in)
{
    return in->aux;
}

/* Unmasked x87 exceptions waiting to be delivered. */
static inline bool x87_pending(const struct cpu *c)
{
    return c->vec.x87.fsw & ~c->vec.x87.fcw & 0x3f;
}

/* #UD or #NM, whichever keeps (s) from running. */
int vec_unavailable(struct cpu *c, const struct vec_stub *s);

/* May (s) run now? OP_NEXT, or OP_FAULT with #UD, #NM or (MMX, x87) #MF raised. */
static inline int vec_check(struct cpu *c, const struct insn *in, const struct vec_stub *s)
{
    if (unlikely(((c->cr0 ^ s->cr0_want) & s->cr0_mask) | (~c->cr4 & s->cr4_need) |
                 (~c->xcr0 & s->xcr0_need)))
        return vec_unavailable(c, s);
    if (unlikely(in->flags & INSN_LEGACY) && s->flags & VEC_AVX && c->rflags & RFLAGS_VM)
        return cpu_raise_ud(c);
    if (s->flags & VEC_FX && unlikely(x87_pending(c)))
        return cpu_raise(c, EXC_MF);
    return OP_NEXT;
}

/* Linear address of the memory operand, its alignment checked. (len): bytes of it that will be accessed. */
static inline int vec_lin(struct cpu *c, const struct insn *in, const struct vec_stub *s, unsigned len,
                          bool write, u64 *lin)
{
    int rc = insn_lin(c, in, len, write, lin);

    if (rc == OP_NEXT && unlikely(*lin & (s->mem_align - 1u)))
        return cpu_raise_gp(c);
    return rc;
}

/*
 * Run (s) on the operand at (mem), with all that MXCSR and x87 state need, and leave what it
 * did in (c). OP_NEXT; or OP_FAULT with #XM (#UD) raised and only MXCSR flags changed.
 */
int vec_run(struct cpu *c, const struct insn *in, const struct vec_stub *s, void *mem);

/*
 * The same for an instruction that writes memory: (mem) is scratch, and (store) moves it out
 * before anything in (c) changes; what it returns is returned, and when negative nothing is changed.
 */
typedef int vec_store_fn(struct cpu *c, const struct insn *in, u64 lin, const void *buf);
int vec_run_store(struct cpu *c, const struct insn *in, const struct vec_stub *s, u64 lin, void *mem,
                  vec_store_fn *store);

/*
 * Check that (s) may run and find its memory operand: (*ret) is guest memory itself, or (buf),
 * 64 bytes, with a copy of it. OP_NEXT or negative.
 */
int vec_operand_load(struct cpu *c, const struct insn *in, const struct vec_stub *s, u8 *buf, void **ret);

/* Ops for stubs, by where the memory operand is. */
op_fn op_vec_reg, op_vec_load, op_vec_store;                   /* without VEC_MXCSR, VEC_FX */
op_fn op_vec_frame_reg, op_vec_frame_load, op_vec_frame_store; /* with */

/* masked.c: the mask says which elements in memory are touched at all. */
op_fn op_vec_masked_load, op_vec_masked_store;
op_fn op_vec_expand, op_vec_compress; /* the mask says how many */
