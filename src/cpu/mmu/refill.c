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

/* The page table for (lin), if its place is known and is still good. */
static const struct stlb_table *table_of(const struct cpu *c, u64 lin)
{
    const struct stlb *s = c->stlb;
    const struct stlb_table *t = &s->table[(lin >> STLB_LARGE_SHIFT) & (STLB_TABLES - 1)];

    return (t->tag ^ lin) & STLB_LARGE_MASK || t->gen != s->table_gen || !s->slot ? NULL : t;
}

/* The entry of (lin) in (t), or 0 when an access would change it, or fault, or it is for the long way to judge. */
static u64 read_pte(const struct cpu *c, const struct stlb_table *t, u64 lin, bool write)
{
    u64 pte = __atomic_load_n(&t->entry[(lin >> PAGE_SHIFT) & 511], __ATOMIC_ACQUIRE);
    u64 need = PTE_P | PTE_A | (write ? PTE_D : 0);

    if ((pte & need) != need || pte & PTE_ADDR & ~(BIT(c->maxphyaddr) - 1) ||
        (pte & PTE_XD && !(c->efer & EFER_NXE)))
        return 0;
    return pte;
}

/* STLB_* of a page that (pte) in (t) maps. */
static u64 pte_rights(const struct cpu *c, const struct stlb_table *t, u64 pte)
{
    u64 flags = t->tag & STLB_NX;

    flags |= pte & PTE_XD ? STLB_NX : 0;
    flags |= pte & PTE_US ? t->tag & STLB_USER : 0;
    flags |= pte & PTE_RW ? t->tag & STLB_WRITE : 0;
    flags |= pte & PTE_D ? STLB_DIRTY : 0;
    flags |= pte & PTE_G && c->cr4 & CR4_PGE ? STLB_GLOBAL : 0;
    return flags;
}

/* What the long way would find if it walked, when the page table is known and needs no change. */
static struct stlb_entry *look_into_table(struct cpu *c, u64 lin, bool write)
{
    struct stlb *s = c->stlb;
    const struct stlb_table *t = table_of(c, lin);
    u64 pte = t ? read_pte(c, t, lin, write) : 0;
    gpa_t gpa = pte & PTE_ADDR;

    if (!pte || gpa - s->slot->gpa >= s->slot->size)
        return NULL;
    stlb_insert_page(c, lin, gpa, pte_rights(c, t, pte), s->slot);
    return s->page[(lin >> PAGE_SHIFT) & (STLB_SETS - 1)];
}

/* May (c), in its present state, use what the second level holds with these rights (STLB_*)? */
static bool usable(const struct cpu *c, u64 rights, bool write)
{
    return stlb_allows(c, rights, write ? MMU_WRITE : MMU_READ, c->cpl == 3) &&
           (!write || rights & STLB_DIRTY);
}

/* Pages of one large page, or of one page table whose entries have the same rights, which allow the access at hand. */
struct known {
    const u64 *entry; /* of the first; NULL: a large page */
    u64 pte;          /* what it was */
    gpa_t gpa;        /* of a large page's first */
    struct mem_slot *slot;
    u64 flags; /* TLB_* */
    u64 pages; /* at most */
};

/* What is known from (lin) on without a walk, in its 2 MiB: by the second level for a large page, else by the table. */
static bool known_from(struct cpu *c, u64 lin, bool write, struct known *ret)
{
    u64 pages = ((~lin & ~STLB_LARGE_MASK) >> PAGE_SHIFT) + 1, pte;
    const struct stlb_entry *e = stlb_find_large(c, lin);
    const struct stlb_table *t;

    if (e) {
        *ret = (struct known){
            NULL, 0, stlb_gpa(c->stlb, e, lin & PAGE_MASK), e->slot, stlb_tlb_flags(c->stlb, e),
            pages};
        return usable(c, e->tag, write);
    }
    t = table_of(c, lin);
    pte = t ? read_pte(c, t, lin, write) : 0;
    if (!pte || !usable(c, pte_rights(c, t, pte), write))
        return false;
    *ret = (struct known){&t->entry[(lin >> PAGE_SHIFT) & 511],
                          pte,
                          0,
                          c->stlb->slot,
                          pte & PTE_G && c->cr4 & CR4_PGE ? TLB_GLOBAL : 0,
                          pages};
    return true;
}

#define NO_GPA (~0ull)

/* The address of page (n), or NO_GPA if it is not known, not like the first, or elsewhere. */
static inline gpa_t known_gpa(const struct known *k, u64 n)
{
    const u64 rights = PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_G | PTE_XD;
    gpa_t gpa;
    u64 pte;

    if (n >= k->pages)
        return NO_GPA;
    if (!k->entry)
        return k->gpa + (n << PAGE_SHIFT);
    pte = __atomic_load_n(&k->entry[n], __ATOMIC_ACQUIRE);
    gpa = pte & PTE_ADDR;
    return (pte ^ k->pte) & rights || gpa - k->slot->gpa >= k->slot->size ? NO_GPA : gpa;
}

/* The page is present in the host and, for stores, needs no accounting. */
static inline bool at_hand(struct cpu *c, struct mem_slot *slot, gpa_t gpa, bool write)
{
    return mem_is_populated(slot, gpa) && (!write || tlb_write_may_be_fast(c, slot, gpa));
}

#define PREFETCH   512 /* bytes */
#define AHEAD      7   /* pages that are filled along with one */
#define AHEAD_LONG 31

/* Is page (lin), of the table that (write) says, in the first level? */
static inline bool has_page(struct tlb *t, u64 lin, bool write)
{
    return ((tlb_slot(t, lin, write)->tag ^ lin) & PAGE_MASK) == 0;
}

/* How many pages are likely to be wanted after that of (lin), which comes after one that is there: more if others before are. */
static u64 pages_ahead(struct tlb *t, u64 lin, bool write)
{
    return has_page(t, lin - 2 * (AHEAD + 1) * PAGE_SIZE, write) ? AHEAD_LONG : AHEAD;
}

/*
 * (lin) is missed after the page before it: the next are wanted soon, and one look finds them all. (Looking again for each
 * would cost more than what a loop does with a page.) What the next look will want comes into the host's cache meanwhile.
 * False: not even the page of (lin) is to be had in this way.
 */
static bool fill_along(struct cpu *c, u64 lin, bool write)
{
    u64 page = lin & PAGE_MASK, max = 1 + pages_ahead(c->tlb, lin, write), n = 0;
    struct known k;
    gpa_t gpa;

    if (!known_from(c, page, write, &k))
        return false;
    while (n < max) {
        gpa = known_gpa(&k, n);
        if (gpa == NO_GPA || !at_hand(c, k.slot, gpa, write))
            return n > 0;
        tlb_fill(c->tlb, page + (n << PAGE_SHIFT), write, gpa, k.flags, k.slot);
        n++;
    }
    if (k.entry)
        __builtin_prefetch(&k.entry[n]);
    if (write)
        __builtin_prefetch(mem_slot_page(k.slot, gpa) + 1);
    return true;
}

/* Nothing forbids that entries are filled from the second level. */
static bool fills_allowed(const struct cpu *c)
{
    return stlb_usable(c) && c->efer & EFER_LMA && !tlb_breakpoints_armed(c) &&
           c->tlb != c->tlbs[TLB_USER_AC] && !c->undo;
}

/* (both): a store's page is entered for loads, too, whatever is in that place. */
static bool refill(struct cpu *c, u64 lin, bool write, bool both)
{
    unsigned i = (lin >> PAGE_SHIFT) & (TLB_SIZE - 1);
    struct tlb *t = c->tlb;
    struct stlb_entry *e;
    u64 flags;
    gpa_t gpa;

    if (((lin ^ tlb_slot(t, lin, write)->tag) & PAGE_MASK) == 0) /* it was no miss */
        return false;
    if (unlikely(!fills_allowed(c)))
        return false;
    if (!both && has_page(t, lin - PAGE_SIZE, write) && fill_along(c, lin, write)) {
        c->stats.tlb_refill++;
        return true;
    }
    e = stlb_find(c, lin);
    if (!e)
        e = look_into_table(c, lin, write);
    if (!e || !usable(c, e->tag, write))
        return false;
    gpa = stlb_gpa(c->stlb, e, lin);
    if (!mem_is_populated(e->slot, gpa))
        return false;
    flags = stlb_tlb_flags(c->stlb, e);
    if (!write || both || t->r[i].tag == tlb_invalid(i))
        tlb_fill(t, lin, false, gpa & PAGE_MASK, flags, e->slot);
    if (write) {
        if (!tlb_write_may_be_fast(c, e->slot, gpa))
            return false;
        tlb_fill(t, lin, true, gpa & PAGE_MASK, flags, e->slot);
    }
    c->stats.tlb_refill++;
    return true;
}

bool mmu_refill(struct cpu *c, u64 lin, bool write)
{
    return refill(c, lin, write, false);
}

bool mmu_refill_stack(struct cpu *c, u64 lin, bool write)
{
    struct tlb *t = c->tlb;
    u64 page = lin & PAGE_MASK;
    struct tlb_window *w = &t->stack;

    if (w->base == page && (write ? w->limit_w : w->limit_r)) /* it crosses the page's end */
        return false;
    if (tlb_slot(t, lin, write)->tag != page && !refill(c, lin, write, true))
        return false;
    tlb_window_move(t, page);
    return true;
}

/* How many bytes of the pages from (lin) on, at most (limit), in one 2 MiB, are at (host) and may be accessed. */
static u64 run_known(struct cpu *c, u64 lin, u64 limit, bool write, const u8 *host)
{
    u64 pages = (limit + PAGE_SIZE - 1) >> PAGE_SHIFT, n = 0;
    gpa_t gpa, next = NO_GPA;
    struct known k;

    if (!known_from(c, lin, write, &k))
        return 0;
    gpa = k.slot->gpa + (u64)(host - k.slot->hva);
    while (n < pages && (next = known_gpa(&k, n)) == gpa && at_hand(c, k.slot, gpa, write)) {
        gpa += PAGE_SIZE;
        n++;
    }
    /* The next run begins elsewhere, where the host's own prefetching will begin anew. */
    if (n < pages && !write && next != NO_GPA) {
        for (unsigned i = 0; i < PREFETCH; i += 64)
            __builtin_prefetch(mem_slot_hva(k.slot, next) + i);
    }
    return n << PAGE_SHIFT;
}

/* Where (lin) is, by the first level or what can be put there; for a long run rather without. NULL: the long way. */
static u8 *run_start(struct cpu *c, u64 lin, bool many, bool write)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin, write);
    struct known k;
    gpa_t gpa;

    if ((lin ^ e->tag) >= PAGE_SIZE) {
        if (many && fills_allowed(c) && known_from(c, lin, write, &k)) {
            gpa = known_gpa(&k, 0);
            if (gpa != NO_GPA && at_hand(c, k.slot, gpa, write))
                return mem_slot_hva(k.slot, gpa) + (lin & ~PAGE_MASK);
        }
        if (!refill(c, lin, write, false))
            return NULL;
    }
    return (u8 *)(lin + e->delta);
}

u64 mmu_run(struct cpu *c, u64 lin, u64 limit, bool write, u8 **host)
{
    u64 len = PAGE_SIZE - (lin & ~PAGE_MASK), more;
    u8 *at = run_start(c, lin, limit > len, write);

    if (!at)
        return 0;
    *host = at;
    while (len < limit && fills_allowed(c)) {
        more = run_known(c, lin + len, limit - len, write, at + len);
        if (!more)
            break;
        len += more;
    }
    return len < limit ? len : limit;
}
