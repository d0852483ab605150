// SPDX-License-Identifier: MIT
// Generated stubs: one instruction between loads and stores of the guest registers it uses.
#pragma once

#include "cpu/decode/decode.h"
#include "cpu/vec/encode.h"

/* What a stub needs beside the CPU when MXCSR or the x87 unit is involved. */
struct vec_frame {
    _Alignas(64) u32 mx_host; /* HOST_MXCSR, for the stub to put back */
    u32 mx_in, mx_out;        /* MXCSR the instruction runs with, and leaves */
    u16 fcw_host;
    _Alignas(64) u8 fx[512];  /* FXSAVE image, in and out; only its x87 part matters */
};

/*
 * (mem): the memory operand. (f): may be NULL without VEC_MXCSR and VEC_FX. (gpr): byte offset in
 * cpu->r of the general register operand. Changes guest registers in (c) and cc.
 */
typedef void vec_code(struct cpu *c, void *mem, struct vec_frame *f, u64 gpr);

/* The same for x87 and MMX instructions in the usual case: x87_fast.c. */
typedef u64 x87_code(struct cpu *c, void *mem, u64 scratch);

/* What an x87 instruction does to the register stack. Register numbers are those before it. */
struct x87_shape {
    u8 need;  /* bit i: ST(i) must not be empty */
    u8 write; /* bit i: ST(i), or MMX register i, is written (not the one pushed) */
    u8 load;  /* ST(0) … that the stub loads */
    u8 push, pop;
    bool cond;   /* sets C0, C2 and C3 */
    bool keep_c1; /* and most set C1 */
};

#define VEC_MXCSR BIT(0)  /* depends on MXCSR or sets flags in it */
#define VEC_FX BIT(1)     /* uses x87 or MMX registers */
#define VEC_SCALAR BIT(2) /* only bit 0 of the mask counts */
#define VEC_AVX BIT(3)
#define VEC_X87 BIT(4)    /* an x87 instruction: #NM for CR0.EM, sets FOP, FIP, FDP */
#define VEC_WHOLE BIT(5)  /* reads all of memory whatever the mask: faults are not suppressed */
#define VEC_QUIET BIT(6)  /* raises no exceptions and sets no flags, with or without SAE; FTZ and DAZ count as if all were masked */

enum vec_masking { MASKING_NONE, MASKING_K, MASKING_SIGN /* of vector register (mask_reg) */ };

/* Everything that is the same for all insns of one form. Immutable once published; never freed. */
struct vec_stub {
    vec_code *code;
    x87_code *fast;          /* or NULL */
    struct x87_shape shape;  /* of (fast) */
    struct vec_stub *next;   /* in its hash chain */
    u64 cr0_mask, cr0_want;  /* available when these hold … */
    u64 cr4_need, xcr0_need;
    u8 key_len, key[ENC_MAX];
    u8 flags;                /* VEC_* */
    u8 mem_size, mem_align;  /* of the memory operand; mem_align 1: any */
    u8 masking, mask_reg;
    u8 esize;                /* of an element in memory */
    u8 nelem;                /* in memory */
    u8 lanes;                /* mask bits that count */
};

/* Operands that no encoding field names. */
#define VEC_IMPL_XMM0_IN BIT(0)
#define VEC_IMPL_XMM0_OUT BIT(1)
#define VEC_IMPL_LENGTHS BIT(2) /* RAX, RDX in */
#define VEC_IMPL_INDEX BIT(3)   /* RCX out */

/* Registers of one stub, as bit masks. */
struct vec_regs {
    u32 vec_load, vec_store;
    u8 k_load, k_store;
    bool gpr_load, gpr_store;
    unsigned implicit; /* VEC_IMPL_* */
};

/* What (d) loads and stores; and the fields of (s) that describe it. form.c. */
void vec_regs_of(const struct decoded *d, struct vec_regs *r);
void vec_describe(const struct decoded *d, const struct vec_regs *r, struct vec_stub *s);

/* Stubs without code, for ops that are done in C: just the availability of their kind. form.c. */
extern const struct vec_stub vec_avail_sse, vec_avail_mmx, vec_avail_avx, vec_avail_avx512;

/* The stub for (d), made on first use. 0, or -ENOMEM when there is no room for more code. */
int vec_stub_get(const struct decoded *d, const struct vec_stub **ret);

/* Generate (d)'s code into (buf), VEC_STUB_MAX bytes, and describe it in (s). Returns its length. */
#define VEC_STUB_MAX 512
unsigned vec_stub_build(const struct decoded *d, struct vec_stub *s, u8 *buf);
