// SPDX-License-Identifier: MIT
// How ops touch guest memory: loads, stores and read-modify-writes at linear addresses.
#pragma once

#include "cpu/decode/insn.h"
#include "cpu/mmu/tlb.h"

#include <string.h>

/*
 * All take linear addresses, translate through the software TLB, and return an
 * op_result. Loads: OP_NEXT, or negative with *val untouched. Stores: OP_NEXT or
 * OP_STOP when stored (the op commits the rest of its effects and returns that same
 * value), or negative when no byte was written.
 */

enum mmu_access {
    MMU_READ = 0, MMU_WRITE = 1, MMU_EXEC = 2,
    MMU_SS = 4,       /* non-canonical: #SS(0) instead of #GP(0) */
    MMU_SYSTEM = 8,   /* implicit supervisor access (GDT, IDT, TSS): whatever the CPL */
};

/* Slow paths: TLB miss, page crossing, MMIO, code pages. (acc): MMU_SS, MMU_SYSTEM or 0. mmu/access.c. */
int mmu_load(struct cpu *c, u64 lin, void *buf, unsigned len, unsigned acc);
int mmu_store(struct cpu *c, u64 lin, const void *buf, unsigned len, unsigned acc);

/* Probe that (len) bytes at (lin) can be read or written, faulting as the access would. */
int mmu_probe(struct cpu *c, u64 lin, unsigned len, unsigned acc);

/*
 * The page that instructions at (lin) come from. OP_NEXT; OP_FAULT (#PF, #GP); OP_EXIT with
 * CPU_EXIT_INTERNAL_ERROR when it is not RAM.
 */
int mmu_fetch(struct cpu *c, u64 lin, struct tlb_fetch **ret);

/*
 * Say that instructions in [gpa, gpa + len) of one page are about to be decoded: no vCPU
 * keeps a fast write mapping of the page. Returns the page's gen as it was after that;
 * bytes read from now on are current as long as gen stays.
 */
u32 mmu_mark_code(struct cpu *c, struct mem_slot *slot, gpa_t gpa, unsigned len);

/*
 * Host pointer good for a direct access of (len) bytes at (lin) not crossing a page, or
 * NULL if it would need the slow path (never faults, never fills). For bulk moves.
 */
static inline void *mmu_peek(struct cpu *c, u64 lin, unsigned len, bool write)
{
    struct tlb_entry *e = tlb_slot(c->tlb, lin, write);

    if ((lin ^ e->tag) <= PAGE_SIZE - len)
        return (void *)(lin + e->delta);
    return NULL;
}

static inline unsigned insn_acc(const struct insn *in) { return in->flags & INSN_SS ? MMU_SS : 0; }

#define MMU_ACCESSORS(bits)                                                                        \
    static inline int mmu_ld##bits(struct cpu *c, u64 lin, u##bits *val, unsigned acc)             \
    {                                                                                              \
        struct tlb_entry *e = tlb_slot(c->tlb, lin, false);                                        \
        if (likely((lin ^ e->tag) <= PAGE_SIZE - bits / 8)) {                                    \
            memcpy(val, (void *)(lin + e->delta), bits / 8);                                       \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        return mmu_load(c, lin, val, bits / 8, acc);                                               \
    }                                                                                              \
    static inline int mmu_st##bits(struct cpu *c, u64 lin, u##bits val, unsigned acc)              \
    {                                                                                              \
        struct tlb_entry *e = tlb_slot(c->tlb, lin, true);                                         \
        if (likely((lin ^ e->tag) <= PAGE_SIZE - bits / 8)) {                                    \
            memcpy((void *)(lin + e->delta), &val, bits / 8);                                      \
            return OP_NEXT;                                                                        \
        }                                                                                          \
        return mmu_store(c, lin, &val, bits / 8, acc);                                             \
    }

MMU_ACCESSORS(8)
MMU_ACCESSORS(16)
MMU_ACCESSORS(32)
MMU_ACCESSORS(64)

/*
 * Read-modify-write. begin checks write permission and gives a pointer (p) on which
 * the op works with host instructions, LOCKed ones included: guest RAM itself, or (buf)
 * when the place is MMIO, crosses a page or holds code. end stores (buf) back. An op
 * that must not write (failed CMPXCHG still does) simply leaves *p.
 * (lock): a LOCKed access that needs (buf) stops the world until end. Between the two no other access is made.
 */
struct mmu_rmw {
    void *p;
    u64 lin;
    u8 size;
    bool bounced, exclusive;
    unsigned acc;
    gpa_t gpa;              /* of an in-place access that commit must account for */
    struct mem_slot *slot;
    _Alignas(16) u8 buf[16];
};

int mmu_rmw_slow(struct cpu *c, struct mmu_rmw *m, bool lock);
int mmu_rmw_commit(struct cpu *c, struct mmu_rmw *m);

static inline int mmu_rmw_begin(struct cpu *c, struct mmu_rmw *m, u64 lin, unsigned size, bool lock,
                                unsigned acc)
{
    struct tlb_entry *e = tlb_slot(c->tlb, lin, true);

    if (likely((lin ^ e->tag) <= PAGE_SIZE - size)) {
        m->p = (void *)(lin + e->delta);
        m->bounced = false;
        return OP_NEXT;
    }
    m->lin = lin;
    m->size = (u8)size;
    m->acc = acc;
    return mmu_rmw_slow(c, m, lock);
}

/* OP_NEXT or OP_STOP; never fails: begin has probed. */
static inline int mmu_rmw_end(struct cpu *c, struct mmu_rmw *m)
{
    return unlikely(m->bounced) ? mmu_rmw_commit(c, m) : OP_NEXT;
}
