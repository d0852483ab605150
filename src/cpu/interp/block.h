// SPDX-License-Identifier: MIT
// Cached runs of decoded instructions, keyed by guest-physical address and mode.
#pragma once

#include "cpu/decode/insn.h"

struct decoded; /* decode/decode.h */

#define INSN_MAX_LEN 15

#define BLOCK_INSNS 64  /* most insns in a block */
#define BLOCK_BYTES 512 /* most code bytes in a block */

/* Arenas: of short blocks; of those that were made again and again; of all others. */
enum block_home { BLOCK_SHORT, BLOCK_KEPT, BLOCK_LASTING, BLOCK_HOMES };

/*
 * A block starts at a guest-physical address and stays in one page, but for a single
 * instruction that crosses into the next page, which is a block of its own (crosses).
 * It ends with a sentinel insn whose op continues at the address after it.
 *
 * It may run while (gen) equals its page's and (recheck) the vCPU's; otherwise its bytes are
 * compared with memory first. A crossing block is compared each time that it is looked up, since only
 * its first page is part of its key; so is one of a hot page, which is made (careful): it ends after
 * an instruction that may write memory, for that may be the next instruction.
 */
struct block {
    struct block *hash_next;
    gpa_t gpa;
    u8 key;
    bool crosses, careful;
    bool full; /* as long as it can be; else it ends with its first branch at the latest */
    u8 home;   /* enum block_home: the arena that it lives in */
    u16 room;  /* in units of 16 bytes, for (insn) and (bytes) */
    u16 count;
    u16 len; /* code bytes */
    u16 off; /* offset of the first byte in its page */
    u32 gen, recheck;
    struct mem_page *page;
    struct mem_slot *slot;
    const u8 *host;        /* the code in guest RAM */
    u8 *bytes;             /* the code as it was decoded */
    struct jit_code *code; /* its translation, or NULL */
    u32 heat;              /* how often it was about to be run without one */
    u32 quiet;             /* careful: how often in a row it was found unchanged */
    /* Successors by linear address: good while link_epoch equals the vCPU's. */
    u32 link_epoch;
    unsigned link_victim;
    u64 link_rip[2];
    struct block *link[2];
    struct insn insn[];
};

int block_cache_create(struct block_cache **ret);
void block_cache_free(struct block_cache *bc);

/* Drop every block. */
void block_cache_flush(struct cpu *c);

/*
 * The block at c->rip, decoded if need be and current. OP_NEXT; OP_FAULT when the fetch
 * faults; OP_EXIT when there is no RAM to fetch from.
 */
int block_find(struct cpu *c, struct block **ret);

/*
 * (*b), the current block at c->rip, is going to be translated: have it as long as it can be. False: that cannot be done.
 * (*b) may be another block afterwards, or NULL when it is to be looked up again. If it is another one (keep), which
 * has room for BLOCK_INSNS, holds its decoded forms; len 0: no instruction.
 */
bool block_extend(struct cpu *c, struct block **b, struct decoded *keep);

/* Compare (b), not a crossing block, with memory; true if it may run (again). */
bool block_revalidate(struct cpu *c, struct block *b);

/* May (b) run as it is? */
static inline bool block_current(const struct cpu *c, const struct block *b)
{
    return b->recheck == c->recheck_epoch &&
           atomic_load_explicit(&b->page->gen, memory_order_acquire) == b->gen;
}
