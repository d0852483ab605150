// SPDX-License-Identifier: MIT
// Putting entries into the first level of the TLB.
#pragma once

#include "cpu/mmu/tlb.h"

#define DR7_ENABLED 0xffull

/* Is a breakpoint armed, the guest's or its debugger's? While one is no entry is filled. */
static inline bool tlb_breakpoints_armed(const struct cpu *c)
{
    return (c->dr7 | c->guest_debug_dr[7]) & DR7_ENABLED;
}

/* (gpa): of the page; (flags): TLB_* */
static inline void tlb_fill(struct tlb *t, u64 lin, bool write, gpa_t gpa, u64 flags,
                            struct mem_slot *slot)
{
    unsigned i = (lin >> PAGE_SHIFT) & (TLB_SIZE - 1);
    struct tlb_entry *e = tlb_slot(t, lin, write);

    t->data.any[i / 64] |= BIT(i % 64);
    if (!(flags & TLB_GLOBAL))
        t->data.local[i / 64] |= BIT(i % 64);
    if (flags & (TLB_2M | TLB_1G))
        t->large[lin >> 63] = true;
    e->tag = lin & PAGE_MASK;
    e->host = (u64)(uintptr_t)mem_slot_hva(slot, gpa);
    e->delta = e->host - e->tag;
    e->gpa = gpa | flags;
}

/* The window moves to (page), as far as the tables have it. False: not at all. */
static inline bool tlb_window_move(struct tlb *t, u64 page)
{
    const struct tlb_entry *r = tlb_slot(t, page, false), *w = tlb_slot(t, page, true);

    if (r->tag != page && w->tag != page)
        return false;
    t->stack = (struct tlb_window){
        .base = page,
        .limit_r = r->tag == page ? TLB_WINDOW_LIMIT : 0,
        .limit_w = w->tag == page ? TLB_WINDOW_LIMIT : 0,
        .delta = r->tag == page ? r->delta : w->delta,
    };
    return true;
}

/* The vCPU's bit in mem_page.writers. */
static inline u32 tlb_writer_bit(const struct cpu *c)
{
    return 1u << (c->index < 31 ? c->index : 31);
}

/*
 * May this vCPU keep a fast write mapping of the page? Publishes it in (writers) before looking. The bit is taken
 * away only by its owner, or while the world stands still: where it is found set it was published before.
 */
static inline bool tlb_write_may_be_fast(struct cpu *c, struct mem_slot *slot, gpa_t gpa)
{
    struct mem_page *page = mem_slot_page(slot, gpa);
    u64 n = (gpa - slot->gpa) >> PAGE_SHIFT;
    u32 own = tlb_writer_bit(c);

    if (slot->flags & MEM_READONLY)
        return false;
    if (slot->dirty && !(atomic_load(&slot->dirty[n / 64]) & BIT(n % 64)))
        return false;
    if (!(atomic_load(&page->writers) & own))
        atomic_fetch_or(&page->writers, own);
    return atomic_load(&page->code_lines) == 0;
}
