// SPDX-License-Identifier: MIT
// The software TLB: linear page to host pointer, one table per privilege view.
#pragma once

#include "cpu/cpu.h"

/*
 * Loads and stores have tables of their own, so that copying between two places that share a slot does not
 * make them evict one another. An entry hits when (lin ^ tag) <= PAGE_SIZE - size: one compare covers
 * the page and the crossing of its end. The host address is lin + delta. A page is not in the table of
 * stores where those need the slow path: read-only, not yet dirty, code, dirty log, MMIO.
 *
 * Invariant: an invalid tag in slot i is a page that belongs in another slot, so no
 * address can match it (any address would be a candidate otherwise, even non-canonical ones).
 */
#define TLB_BITS 10
#define TLB_SIZE (1u << TLB_BITS)

enum tlb_view {
    TLB_KERNEL,
    TLB_USER,
    TLB_KERNEL_AC /* SMAP lifted by AC */,
    TLB_USER_AC /* alignment checked: data is never cached, so that every access takes the slow path */
    ,
    TLB_VIEWS
};

struct tlb_entry {
    u64 tag;
    u64 delta; /* host address - linear address */
    u64 host;  /* host address of the page: what lin ^ tag is added to */
    gpa_t gpa; /* of the page, and TLB_GLOBAL, TLB_2M, TLB_1G */
};

/*
 * A window: the page that accesses off one register touched last, found without an index. An access of up
 * to 8 bytes hits when lin - base < limit, so a window is closed by a limit of 0.
 */
struct tlb_window {
    u64 base, limit_r, limit_w;
    u64 delta;
};

#define TLB_WINDOW_LIMIT (PAGE_SIZE - 7)

/* Translated code for a linear address. An invalid entry holds an address that belongs in another slot. */
#define TLB_JUMP_BITS 14
#define TLB_JUMP_HASH 0x9e3779b1u /* what spreads addresses: bits 31 and down of the product are the slot */
#define TLB_JUMP_SIZE (1u << TLB_JUMP_BITS)

struct tlb_jump {
    u64 rip;
    const void *code;
};

#define TLB_GLOBAL BIT(0)
#define TLB_2M     BIT(1) /* a 4 KiB piece of a page of up to 4 MiB, 1 GiB: INVLPG drops all pieces */
#define TLB_1G     BIT(2)

/* Where instructions come from: one page of RAM. Same tag rule. */
#define TLB_FETCH_SIZE 128

struct tlb_fetch {
    u64 tag;
    u8 *host;
    gpa_t gpa;
    struct mem_slot *slot;
};

/* Slots of (r) and (w) that may hold something, and of these the ones that may hold what is not global. */
struct tlb_filled {
    u64 any[TLB_SIZE / 64], local[TLB_SIZE / 64];
};

struct tlb {
    struct tlb_entry r[TLB_SIZE], w[TLB_SIZE];
    struct tlb_window stack; /* RSP */
    struct tlb_fetch f[TLB_FETCH_SIZE];
    struct tlb_jump j[TLB_JUMP_SIZE];
    struct tlb_filled data;
    u64 fetch[TLB_FETCH_SIZE / 64];          /* the same of (f) */
    u64 jump[TLB_JUMP_SIZE / 64];            /* and of (j); */
    u64 jump_words[TLB_JUMP_SIZE / 64 / 64]; /* words of it that are not 0 */
    bool large[2]; /* in either half of the address space: pieces of large pages may be there */
};

static inline u64 tlb_invalid(unsigned i)
{
    return (u64)(i ^ 1) << PAGE_SHIFT;
}

static inline struct tlb_entry *tlb_slot(struct tlb *t, u64 lin, bool write)
{
    return &(write ? t->w : t->r)[(lin >> PAGE_SHIFT) & (TLB_SIZE - 1)];
}

static inline struct tlb_fetch *tlb_fetch_slot(struct tlb *t, u64 lin)
{
    return &t->f[(lin >> PAGE_SHIFT) & (TLB_FETCH_SIZE - 1)];
}

static inline unsigned tlb_jump_index(u64 rip)
{
    return (u32)rip * TLB_JUMP_HASH >> (32 - TLB_JUMP_BITS);
}

static inline u64 tlb_jump_invalid(unsigned i)
{
    return i == tlb_jump_index(0); /* address 0, or 1, which belongs in another slot than 0 */
}

static inline void tlb_jump_set(struct tlb *t, u64 rip, const void *code)
{
    unsigned i = tlb_jump_index(rip);

    t->j[i] = (struct tlb_jump){rip, code};
    t->jump[i / 64] |= BIT(i % 64);
    t->jump_words[i / 64 / 64] |= BIT(i / 64 % 64);
}

/* Empty all views, which lie behind (c) in one allocation (cpu_create()), and select one. */
void tlb_init(struct cpu *c);

/* Empty the views that c->tlbs points to, whatever is in them. */
void tlb_reset(struct cpu *c);

/* Links between blocks, and jumps by linear address, are doubtful from now on: they are looked up anew. */
void tlb_unlink(struct cpu *c);

/*
 * The same but for links and jumps among global pages in the upper half of the address space. The
 * kernel's views hold no other jumps.
 */
void tlb_unlink_nonglobal(struct cpu *c);

/* Drop everything, second level included. Also unlinks blocks. */
void tlb_flush(struct cpu *c);

/* CR3 was written, and with it (pcid) became the current one; (keep): what is known of it stays. */
void tlb_switch(struct cpu *c, unsigned pcid, bool keep);

/* Drop everything but global pages: of all PCIDs; of one. */
void tlb_flush_nonglobal(struct cpu *c);
void tlb_flush_pcid(struct cpu *c, unsigned pcid);

/*
 * INVLPG: drop the page of (lin) in the current PCID, global or not. INVPCID: in (pcid), if not global.
 * Unlinks blocks only if code has been fetched from there.
 */
void tlb_flush_page(struct cpu *c, u64 lin);
void tlb_flush_pcid_page(struct cpu *c, unsigned pcid, u64 lin);

static inline unsigned tlb_fetch_hash(u64 lin)
{
    return (unsigned)(lin >> PAGE_SHIFT ^ lin >> 22) & (CPU_FETCHED_BITS - 1);
}

/* Note that code is fetched from (lin): its links will depend on where that page is. (large): in a large page. */
static inline void tlb_note_fetch(struct cpu *c, u64 lin, bool large)
{
    unsigned i = tlb_fetch_hash(lin);

    c->fetched[lin >> 63][i / 64] |= BIT(i % 64);
    c->fetched_large[lin >> 63] |= large;
}

/* Drop fast write entries of the host page that backs (gpa) (it holds code now), or all of them. */
void tlb_drop_write(struct cpu *c, gpa_t gpa);
void tlb_drop_all_writes(struct cpu *c);
