// SPDX-License-Identifier: MIT
// The second-level TLB: translations that outlive the tables of src/cpu/mmu/tlb.h, and page tables found without a walk.
#pragma once

#include "cpu/mmu/tlb.h"
#include "cpu/mmu/walk.h"

/*
 * An entry is independent of privilege: it holds the rights of its page, which are looked at when it is used. It is
 * good while its generation is that of the current PCID or, for a global page, that of global pages: then a flush
 * is the taking of a new generation and costs nothing. All belong to the vCPU's thread; generations in force
 * are in struct cpu. SDM 3A 4.10.
 */
struct stlb_entry {
    u64 tag; /* linear page, and STLB_* */
    u64 gen;
    gpa_t gpa; /* of the page */
    struct mem_slot *slot;
};

#define STLB_USER   BIT(0)
#define STLB_WRITE  BIT(1)
#define STLB_NX     BIT(2)
#define STLB_DIRTY  BIT(3)
#define STLB_GLOBAL BIT(4)
#define STLB_1G     BIT(5) /* in (large): a piece of a page of 1 GiB */

#define STLB_SETS        8192 /* of pages of 4 KiB */
#define STLB_LARGE_SETS  256  /* of pages, or pieces of pages, of 2 MiB */
#define STLB_TABLES      256  /* page tables */
#define STLB_PCIDS       4096
#define STLB_LARGE_SHIFT 21
#define STLB_LARGE_MASK  (~(BIT(STLB_LARGE_SHIFT) - 1))

/* Where the page table for 2 MiB of linear addresses lies, and the rights gathered above it: 4-level paging only. */
struct stlb_table {
    u64 tag; /* linear address >> 21 << 21, and STLB_USER, _WRITE, _NX */
    u64 gen;
    const u64 *entry; /* in guest RAM */
};

struct stlb {
    u64 last;              /* the generation that was given out last */
    u64 floor;             /* those of PCIDs are over up to this one */
    u64 table_gen;         /* of (table) */
    u64 regions_1g;        /* bits by linear address >> 30: pieces of 1 GiB pages may be there */
    struct mem_slot *slot; /* found last */
    u64 pcid[STLB_PCIDS];
    struct stlb_entry page[STLB_SETS][2];
    struct stlb_entry large[STLB_LARGE_SETS][2];
    struct stlb_table table[STLB_TABLES];
};

/* Make (c)'s, empty. 0 or -ENOMEM. */
int stlb_create(struct cpu *c);
void stlb_free(struct cpu *c);

/* The CPU has paging forms that the second level knows only while this is so. */
static inline bool stlb_usable(const struct cpu *c)
{
    return c->cr0 & CR0_PG;
}

static inline unsigned stlb_pcid(const struct cpu *c)
{
    return c->cr4 & CR4_PCIDE ? c->cr3 & (STLB_PCIDS - 1) : 0;
}

static inline struct stlb_entry *stlb_set_find(const struct cpu *c, struct stlb_entry *set,
                                               u64 mask, u64 lin)
{
    for (unsigned i = 0; i < 2; i++) {
        if (((set[i].tag ^ lin) & mask) == 0 &&
            (set[i].gen == c->stlb_gen || set[i].gen == c->stlb_global))
            return &set[i];
    }
    return NULL;
}

/* The entry of the large page of (lin), or NULL. These are few, so they are in the host's cache and looked at first. */
static inline struct stlb_entry *stlb_find_large(struct cpu *c, u64 lin)
{
    return stlb_set_find(c, c->stlb->large[(lin >> STLB_LARGE_SHIFT) & (STLB_LARGE_SETS - 1)],
                         STLB_LARGE_MASK, lin);
}

/*
 * The entry for (lin), whatever its rights, or NULL. (lin) is cut to 32 bits outside long mode, as everywhere here.
 */
static inline struct stlb_entry *stlb_find(struct cpu *c, u64 lin)
{
    struct stlb_entry *e = stlb_find_large(c, lin);

    return e ? e
             : stlb_set_find(c, c->stlb->page[(lin >> PAGE_SHIFT) & (STLB_SETS - 1)], PAGE_MASK,
                             lin);
}

static inline bool stlb_is_large(const struct stlb *s, const struct stlb_entry *e)
{
    return e >= s->large[0];
}

/* The guest-physical address of the byte at (lin), which (e) was found for. */
static inline gpa_t stlb_gpa(const struct stlb *s, const struct stlb_entry *e, u64 lin)
{
    return e->gpa | (lin & (stlb_is_large(s, e) ? ~STLB_LARGE_MASK : ~PAGE_MASK));
}

/* TLB_* of the first level for a page of (e). */
static inline u64 stlb_tlb_flags(const struct stlb *s, const struct stlb_entry *e)
{
    u64 size = !stlb_is_large(s, e) ? 0 : e->tag & STLB_1G ? TLB_1G : TLB_2M;

    return size | (e->tag & STLB_GLOBAL ? TLB_GLOBAL : 0);
}

/* Do the rights (flags: STLB_*) allow (acc) in the CPU's present state? SDM 3A 4.6.1. (user): an access at CPL 3. */
static inline bool stlb_allows(const struct cpu *c, u64 flags, unsigned acc, bool user)
{
    bool us = flags & STLB_USER, rw = flags & STLB_WRITE;

    if (acc & MMU_EXEC) {
        if (flags & STLB_NX)
            return false;
        return user ? us : !(us && c->cr4 & CR4_SMEP);
    }
    if (user)
        return us && (rw || !(acc & MMU_WRITE));
    if (us && c->cr4 & CR4_SMAP && (acc & MMU_SYSTEM || !(c->rflags & RFLAGS_AC)))
        return false;
    return rw || !(acc & MMU_WRITE) || !(c->cr0 & CR0_WP);
}

static inline u64 stlb_rights(const struct walk *w)
{
    return (w->user ? STLB_USER : 0) | (w->writable ? STLB_WRITE : 0) | (w->nx ? STLB_NX : 0) |
           (w->dirty ? STLB_DIRTY : 0) | (w->global ? STLB_GLOBAL : 0);
}

/* Keep what a walk for (lin) has found, in (slot). */
void stlb_insert(struct cpu *c, u64 lin, const struct walk *w, struct mem_slot *slot);

/* Put (e) first into its (set), in the place of an older state of it, else of the oldest. */
static inline void stlb_set_insert(struct stlb_entry *set, u64 mask, const struct stlb_entry *e)
{
    if ((set[0].tag ^ e->tag) & mask || set[0].gen != e->gen)
        set[1] = set[0];
    set[0] = *e;
}

/* The same of a page of 4 KiB by its parts: for mmu_refill(). */
static inline void stlb_insert_page(struct cpu *c, u64 lin, gpa_t gpa, u64 flags,
                                    struct mem_slot *slot)
{
    struct stlb_entry e = {(lin & PAGE_MASK) | flags,
                           flags & STLB_GLOBAL ? c->stlb_global : c->stlb_gen, gpa & PAGE_MASK,
                           slot};

    stlb_set_insert(c->stlb->page[(lin >> PAGE_SHIFT) & (STLB_SETS - 1)], PAGE_MASK, &e);
}

/* Forget everything; everything of all PCIDs, of one, but for global pages. */
void stlb_flush(struct cpu *c);
void stlb_flush_nonglobal(struct cpu *c);
void stlb_flush_pcid(struct cpu *c, unsigned pcid);

/* Forget (lin) in (pcid), and if (global) as a global page. All page tables go with it: SDM 3A 4.10.4.1. */
void stlb_flush_page(struct cpu *c, unsigned pcid, u64 lin, bool global);

/* CR3 was written: the generation is now that of (pcid). */
void stlb_switch(struct cpu *c, unsigned pcid);

/*
 * A load or store of translated code has missed: fill the first level's entry for (lin) in the view in force, without
 * an exception, a change of page tables, or a call of anything that might touch vector registers. False: it must take
 * the long way, for whatever reason, a page crossing among them. refill.c.
 */
bool mmu_refill(struct cpu *c, u64 lin, bool write);

/* The same, and the stack window moves there. */
bool mmu_refill_stack(struct cpu *c, u64 lin, bool write);

/*
 * How many bytes from (lin) on, at most (limit), are contiguous in host memory and may be loaded or stored there
 * without more ado, until the world may stop or something is flushed next. 0: the access at (lin) must take the long way.
 * 64-bit mode. Past the page of (lin) nothing is entered in the first level.
 */
u64 mmu_run(struct cpu *c, u64 lin, u64 limit, bool write, u8 **host);
