// SPDX-License-Identifier: MIT
// Operand access for the integer handlers: registers by width, memory with the fast path inline.
#pragma once

#include "cpu/decode/decode.h"
#include "cpu/mmu/access.h"

#include <errno.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE      __attribute__((noinline))

/* Index of a size in the tables of ops: 1, 2, 4, 8 bytes to 0 … 3. */
static inline unsigned size_index(unsigned size)
{
    return size >= 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
}

/* Instructions with nothing to lower: the row's argument is the handler, boxed. operand.c. */
struct fixed_op {
    op_fn *op;
};
#define FIXED(fn) ((const struct fixed_op){fn})
lower_fn lower_fixed;

/* Guest memory and bounce buffers are as unaligned as the guest likes. */
#define HOST_ACCESS(bits)                                                                          \
    static ALWAYS_INLINE u##bits host_ld##bits(const void *p)                                      \
    {                                                                                              \
        u##bits v;                                                                                 \
        memcpy(&v, p, bits / 8);                                                                   \
        return v;                                                                                  \
    }                                                                                              \
    static ALWAYS_INLINE void host_st##bits(void *p, u##bits v)                                    \
    {                                                                                              \
        memcpy(p, &v, bits / 8);                                                                   \
    }

HOST_ACCESS(8)
HOST_ACCESS(16)
HOST_ACCESS(32)
HOST_ACCESS(64)

/* Register operands. A 32-bit write clears the upper half, narrower ones merge. */
static ALWAYS_INLINE u8 reg_ld8(struct cpu *c, u8 off)
{
    return *insn_reg8(c, off);
}
static ALWAYS_INLINE u16 reg_ld16(struct cpu *c, u8 off)
{
    return *insn_reg16(c, off);
}
static ALWAYS_INLINE u32 reg_ld32(struct cpu *c, u8 off)
{
    return *insn_reg32(c, off);
}
static ALWAYS_INLINE u64 reg_ld64(struct cpu *c, u8 off)
{
    return *insn_reg64(c, off);
}
static ALWAYS_INLINE void reg_st8(struct cpu *c, u8 off, u8 v)
{
    *insn_reg8(c, off) = v;
}
static ALWAYS_INLINE void reg_st16(struct cpu *c, u8 off, u16 v)
{
    *insn_reg16(c, off) = v;
}
static ALWAYS_INLINE void reg_st32(struct cpu *c, u8 off, u32 v)
{
    *insn_reg64(c, off) = v;
}
static ALWAYS_INLINE void reg_st64(struct cpu *c, u8 off, u64 v)
{
    *insn_reg64(c, off) = v;
}

/*
 * Whatever the inline paths below do not do: legacy segments, TLB misses, page
 * crossings, MMIO, code pages. Results as mmu_load() and mmu_store(). operand.c.
 */
int insn_load(struct cpu *c, const struct insn *in, void *val, unsigned size);
int insn_store(struct cpu *c, const struct insn *in, const void *val, unsigned size);

/* Linear address of the memory operand in 64-bit mode; meaningless in legacy modes. */
static ALWAYS_INLINE u64 insn_lin64(struct cpu *c, const struct insn *in)
{
    return insn_ea(c, in) + c->seg[in->seg].base;
}

/* Host address of an access that needs no slow path, or NULL. */
static ALWAYS_INLINE void *insn_peek(struct cpu *c, const struct insn *in, unsigned size,
                                     bool write)
{
    u64 lin = insn_lin64(c, in);
    struct tlb_entry *e = tlb_slot(c->tlb, lin, write);

    if (likely(!(in->flags & INSN_LEGACY) && (lin ^ e->tag) <= PAGE_SIZE - size))
        return (void *)(lin + e->delta);
    return NULL;
}

/*
 * Loads and stores whose value stays in a host register on the fast path: only the slow
 * call takes an address. lin_*: at a linear address; insn_*: the insn's memory operand.
 */
#define MEMORY_ACCESS(bits)                                                                        \
    static ALWAYS_INLINE int lin_ld##bits(struct cpu *c, u64 lin, u##bits *val, unsigned acc)      \
    {                                                                                              \
        struct tlb_entry *e = tlb_slot(c->tlb, lin, false);                                        \
        u##bits slow = 0;                                                                          \
        int rc;                                                                                    \
        if (likely((lin ^ e->tag) <= PAGE_SIZE - bits / 8)) {                                    \
            *val = host_ld##bits((void *)(lin + e->delta));                                        \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        rc = mmu_load(c, lin, &slow, bits / 8, acc);                                               \
        *val = slow;                                                                               \
        return rc;                                                                                 \
    }                                                                                              \
    static ALWAYS_INLINE int lin_st##bits(struct cpu *c, u64 lin, u##bits val, unsigned acc)       \
    {                                                                                              \
        struct tlb_entry *e = tlb_slot(c->tlb, lin, true);                                         \
        u##bits slow;                                                                              \
        if (likely((lin ^ e->tag) <= PAGE_SIZE - bits / 8)) {                                    \
            host_st##bits((void *)(lin + e->delta), val);                                          \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        slow = val;                                                                                \
        return mmu_store(c, lin, &slow, bits / 8, acc);                                            \
    }                                                                                              \
    static ALWAYS_INLINE int insn_ld##bits(struct cpu *c, const struct insn *in, u##bits *val)     \
    {                                                                                              \
        void *p = insn_peek(c, in, bits / 8, false);                                               \
        u##bits slow = 0;                                                                          \
        int rc;                                                                                    \
        if (likely(p)) {                                                                           \
            *val = host_ld##bits(p);                                                               \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        rc = insn_load(c, in, &slow, bits / 8);                                                    \
        *val = slow;                                                                               \
        return rc;                                                                                 \
    }                                                                                              \
    static ALWAYS_INLINE int insn_st##bits(struct cpu *c, const struct insn *in, u##bits val)      \
    {                                                                                              \
        void *p = insn_peek(c, in, bits / 8, true);                                                \
        u##bits slow;                                                                              \
        if (likely(p)) {                                                                           \
            host_st##bits(p, val);                                                                 \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        slow = val;                                                                                \
        return insn_store(c, in, &slow, bits / 8);                                                 \
    }

MEMORY_ACCESS(8)
MEMORY_ACCESS(16)
MEMORY_ACCESS(32)
MEMORY_ACCESS(64)

/* Begin a read-modify-write of the insn's memory operand. OP_NEXT or negative. */
static inline int insn_rmw(struct cpu *c, const struct insn *in, struct mmu_rmw *m, unsigned size,
                           bool lock)
{
    u64 lin;

    if (unlikely(insn_lin(c, in, size, true, &lin)))
        return OP_FAULT;
    return mmu_rmw_begin(c, m, lin, size, lock, insn_acc(in));
}

/* Linear address (add) bytes past the start of the memory operand, wrapped at the address size. */
static inline int insn_lin_at(struct cpu *c, const struct insn *in, u64 add, unsigned size,
                              bool write, u64 *lin)
{
    u64 ea = (insn_ea(c, in) + add) & (~0ull >> in->ea_shift);

    if (in->flags & INSN_LEGACY)
        return seg_access(c, in->seg, ea, size, write, lin);
    *lin = ea + c->seg[in->seg].base;
    return OP_NEXT;
}

/*
 * The source segment of an instruction whose memory operand is implied (string ops,
 * XLAT): DS, or the last override. In 64-bit mode only FS and GS have a base.
 */
static inline u8 decoded_source_seg(const struct decoded *d)
{
    u8 seg = d->mode == MODE_64 ? SEG_NONE : SEG_DS;

    for (unsigned i = 0; i < d->prefix_len; i++) {
        static const struct {
            u8 byte, seg;
            bool legacy;
        } over[] = {
            {0x26, SEG_ES, true}, {0x2e, SEG_CS, true},  {0x36, SEG_SS, true},
            {0x3e, SEG_DS, true}, {0x64, SEG_FS, false}, {0x65, SEG_GS, false},
        };

        for (unsigned k = 0; k < ARRAY_SIZE(over); k++) {
            if (d->bytes[i] == over[k].byte && (d->mode != MODE_64 || !over[k].legacy))
                seg = over[k].seg;
        }
    }
    return seg;
}
