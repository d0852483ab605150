// SPDX-License-Identifier: MIT
// The second-level TLB: what goes in, and what INVLPG, INVPCID and CR3 take out.

/*
 * Theory of operation
 *
 * Generations are 64-bit and never come back. One counter serves PCIDs and global pages, so an entry's generation
 * says whether it is global, too. A PCID that has none, or one up to (floor), gets the next when it is
 * switched to; flushing it is forgetting that. So nothing is ever swept but, for INVLPG, the few entries of
 * large pages while pieces of 1 GiB pages are among them.
 *
 * struct cpu holds the generations in force, not struct stlb: lock-step mode puts the CPU's state back and
 * runs the code again, and what the first run took away must not come back for that.
 *
 * Page tables found without a walk are paging-structure caches in the SDM's sense. They have one generation,
 * which every flush of anything changes.
 */

#include "cpu/mmu/stlb.h"

#include <errno.h>
#include <sys/mman.h>

int stlb_create(struct cpu *c)
{
    void *p = mmap(NULL, sizeof(struct stlb), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    c->stlb = p;
    stlb_flush(c);
    return 0;
}

void stlb_free(struct cpu *c)
{
    if (c->stlb)
        munmap(c->stlb, sizeof(struct stlb));
    c->stlb = NULL;
}

void stlb_switch(struct cpu *c, unsigned pcid)
{
    struct stlb *s = c->stlb;

    if (s->pcid[pcid] <= s->floor)
        s->pcid[pcid] = ++s->last;
    c->stlb_gen = s->pcid[pcid];
    s->table_gen++;
}

void stlb_flush_nonglobal(struct cpu *c)
{
    c->stlb->floor = ++c->stlb->last;
    stlb_switch(c, stlb_pcid(c));
}

void stlb_flush(struct cpu *c)
{
    struct stlb *s = c->stlb;

    c->stlb_global = ++s->last;
    s->regions_1g = 0;
    s->slot = NULL;
    stlb_flush_nonglobal(c);
}

void stlb_flush_pcid(struct cpu *c, unsigned pcid)
{
    c->stlb->pcid[pcid] = 0;
    stlb_switch(c, stlb_pcid(c));
}

static void drop(struct stlb_entry *set, u64 mask, u64 lin, u64 gen, u64 global)
{
    for (unsigned i = 0; i < 2; i++) {
        if (((set[i].tag ^ lin) & mask) == 0 && (set[i].gen == gen || set[i].gen == global))
            set[i].gen = 0;
    }
}

static void drop_large(struct stlb *s, u64 lin, u64 gen, u64 global)
{
    drop(s->large[(lin >> STLB_LARGE_SHIFT) & (STLB_LARGE_SETS - 1)], STLB_LARGE_MASK, lin, gen,
         global);
}

static u64 region_1g(u64 lin)
{
    return BIT(lin >> 30 & 63);
}

void stlb_flush_page(struct cpu *c, unsigned pcid, u64 lin, bool global)
{
    struct stlb *s = c->stlb;
    u64 gen = pcid == stlb_pcid(c) ? c->stlb_gen : s->pcid[pcid],
        global_gen = global ? c->stlb_global : gen;

    s->table_gen++;
    drop(s->page[(lin >> PAGE_SHIFT) & (STLB_SETS - 1)], PAGE_MASK, lin, gen, global_gen);
    drop_large(s, lin, gen, global_gen);
    if (!(c->cr4 & CR4_PAE)) /* the other half of a page of 4 MiB */
        drop_large(s, lin ^ BIT(STLB_LARGE_SHIFT), gen, global_gen);
    if (unlikely(s->regions_1g & region_1g(lin))) {
        for (unsigned i = 0; i < STLB_LARGE_SETS; i++)
            drop(s->large[i], ~(BIT(30) - 1), lin, gen, global_gen);
    }
}

static void insert_large(struct cpu *c, u64 lin, const struct walk *w, struct mem_slot *slot)
{
    struct stlb *s = c->stlb;
    gpa_t gpa = w->gpa & STLB_LARGE_MASK;
    u64 flags = stlb_rights(w);
    struct stlb_entry e;

    /* A piece that is not in one slot stays out. */
    if (gpa < slot->gpa || gpa - slot->gpa + BIT(STLB_LARGE_SHIFT) > slot->size)
        return;
    if (w->page_size >= BIT(30)) {
        flags |= STLB_1G;
        s->regions_1g |= region_1g(lin);
    }
    e = (struct stlb_entry){(lin & STLB_LARGE_MASK) | flags,
                            flags & STLB_GLOBAL ? c->stlb_global : c->stlb_gen, gpa, slot};
    stlb_set_insert(s->large[(lin >> STLB_LARGE_SHIFT) & (STLB_LARGE_SETS - 1)], STLB_LARGE_MASK,
                    &e);
}

static void insert_table(struct cpu *c, u64 lin, const struct walk *w)
{
    struct stlb *s = c->stlb;
    struct mem_slot *slot = mem_slot_find(c->mem, w->table);

    if (!slot)
        return;
    s->table[(lin >> STLB_LARGE_SHIFT) & (STLB_TABLES - 1)] =
        (struct stlb_table){(lin & STLB_LARGE_MASK) | (w->table_user ? STLB_USER : 0) |
                                (w->table_writable ? STLB_WRITE : 0) | (w->table_nx ? STLB_NX : 0),
                            s->table_gen, (const u64 *)mem_slot_hva(slot, w->table)};
}

void stlb_insert(struct cpu *c, u64 lin, const struct walk *w, struct mem_slot *slot)
{
    if (!stlb_usable(c))
        return;
    c->stlb->slot = slot;
    if (w->page_size > PAGE_SIZE) {
        insert_large(c, lin, w, slot);
        return;
    }
    stlb_insert_page(c, lin, w->gpa, stlb_rights(w), slot);
    if (w->table)
        insert_table(c, lin, w);
}
