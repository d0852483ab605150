// SPDX-License-Identifier: MIT
// TLB misses of translated code, from the second level or by one look into a page table.

/*
 * Translated code calls this with the guest's vector state in the host's registers. So this file is compiled for
 * general registers alone, and calls nothing: what is not plain is left to the op of the instruction.
 */

#include "cpu/mmu/fill.h"
#include "cpu/mmu/stlb.h"

#define PTE_P    BIT(0)
#define PTE_RW   BIT(1)
#define PTE_US   BIT(2)
#define PTE_A    BIT(5)
#define PTE_D    BIT(6)
#define PTE_G    BIT(8)
#define PTE_XD   BIT(63)
#define PTE_ADDR GENMASK(51, 12)

/* What the long way would find if it walked, when the page table is known and needs no change. */
static struct stlb_entry *look_into_table(struct cpu *c, u64 lin, bool write)
{
    struct stlb *s = c->stlb;
    const struct stlb_table *t = &s->table[(lin >> STLB_LARGE_SHIFT) & (STLB_TABLES - 1)];
    struct mem_slot *slot = s->slot;
    u64 pte, flags, need = PTE_P | PTE_A | (write ? PTE_D : 0);
    gpa_t gpa;

    if ((t->tag ^ lin) & STLB_LARGE_MASK || t->gen != s->table_gen || !slot)
        return NULL;
    pte = __atomic_load_n(&t->entry[(lin >> PAGE_SHIFT) & 511], __ATOMIC_ACQUIRE);
    if ((pte & need) != need || pte & PTE_ADDR & ~(BIT(c->maxphyaddr) - 1) ||
        (pte & PTE_XD && !(c->efer & EFER_NXE)))
        return NULL;
    gpa = pte & PTE_ADDR;
    if (gpa - slot->gpa >= slot->size)
        return NULL;
    flags = t->tag & STLB_NX;
    flags |= pte & PTE_XD ? STLB_NX : 0;
    flags |= pte & PTE_US ? t->tag & STLB_USER : 0;
    flags |= pte & PTE_RW ? t->tag & STLB_WRITE : 0;
    flags |= pte & PTE_D ? STLB_DIRTY : 0;
    flags |= pte & PTE_G && c->cr4 & CR4_PGE ? STLB_GLOBAL : 0;
    stlb_insert_page(c, lin, gpa, flags, slot);
    return s->page[(lin >> PAGE_SHIFT) & (STLB_SETS - 1)];
}

bool mmu_refill(struct cpu *c, u64 lin, bool write)
{
    struct tlb *t = c->tlb;
    bool user = c->cpl == 3;
    struct stlb_entry *e;
    gpa_t gpa;

    if (((lin ^ tlb_slot(t, lin, write)->tag) & PAGE_MASK) == 0) /* it was no miss */
        return false;
    if (unlikely(!stlb_usable(c) || !(c->efer & EFER_LMA) || tlb_breakpoints_armed(c) ||
                 t == c->tlbs[TLB_USER_AC] || c->undo))
        return false;
    e = stlb_find(c, lin);
    if (!e)
        e = look_into_table(c, lin, write);
    if (!e || !stlb_allows(c, e->tag, write ? MMU_WRITE : MMU_READ, user) ||
        (write && !(e->tag & STLB_DIRTY)))
        return false;
    gpa = stlb_gpa(c->stlb, e, lin);
    if (!mem_is_populated(e->slot, gpa))
        return false;
    tlb_fill(t, lin, false, gpa & PAGE_MASK, stlb_tlb_flags(c->stlb, e), e->slot);
    if (write) {
        if (!tlb_write_may_be_fast(c, e->slot, gpa))
            return false;
        tlb_fill(t, lin, true, gpa & PAGE_MASK, stlb_tlb_flags(c->stlb, e), e->slot);
    }
    c->stats.tlb_refill++;
    return true;
}

bool mmu_refill_stack(struct cpu *c, u64 lin, bool write)
{
    struct tlb *t = c->tlb;
    u64 page = lin & PAGE_MASK;
    struct tlb_window *w = &t->stack;

    if (w->base == page && (write ? w->limit_w : w->limit_r)) /* it crosses the page's end */
        return false;
    if (tlb_slot(t, lin, write)->tag != page && !mmu_refill(c, lin, write))
        return false;
    tlb_window_move(t, page);
    return true;
}
