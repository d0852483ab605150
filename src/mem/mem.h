// SPDX-License-Identifier: MIT
// Guest-physical memory: memslots, and the only door through which anything reaches guest RAM.
#pragma once

#include "base/types.h"

#include <stdatomic.h>

/*
 * A `struct mem` maps guest-physical ranges (slots) to host memory that somebody
 * else owns. Ranges without a slot are MMIO holes. Both the KVM layer (slots made
 * by KVM_SET_USER_MEMORY_REGION) and the VMM (its own view, for devices) have one.
 *
 * Concurrency: lookups are lock-free. mem_slot_set() needs every reader
 * stopped (the KVM layer stops its vCPUs; the VMM sets its slots before it starts
 * threads).
 */

#define MEM_READONLY  BIT(0) /* guest writes go to MMIO, as KVM_MEM_READONLY */
#define MEM_LOG_DIRTY BIT(1) /* keep a dirty bitmap, as KVM_MEM_LOG_DIRTY_PAGES */
#define MEM_OWNER     BIT(2) /* whatever but a vCPU writes this host memory goes through this map */

#define MEM_CHUNK_SHIFT 18 /* log2 of the bytes that mem_populate() makes present at once */
#define MEM_CODE_LINE 128 /* bytes of a page that one bit of code_lines stands for */

/*
 * What is known of one 4 KiB page. A page with code_lines != 0 holds instructions
 * that some vCPU has decoded: no vCPU keeps a fast write mapping of it, every store
 * goes through mem_page_written(), and a store to a marked line increments (gen),
 * which makes the blocks decoded from the page stale. Once that has happened
 * MEM_HITS_HOT times the page is hot: it is not marked any more, and whoever runs
 * code from it compares the bytes each time.
 *
 * Slots of the same host memory, in whatever map, share one table of these.
 */
struct mem_page {
    _Atomic u32 code_lines;
    _Atomic u32 gen;
    _Atomic u32 writers; /* bit (vCPU index): that vCPU may hold a fast write mapping; 31: one of those from 31 on */
    _Atomic u32 hits;    /* stores to marked lines */
};

#define MEM_HITS_HOT 8

struct mem_marks;

struct mem_slot {
    gpa_t gpa;
    u64 size;
    u8 *hva;
    u32 id;
    u32 flags;
    struct mem_page *pages; /* size / PAGE_SIZE */
    struct mem_marks *marks; /* where they come from */
    _Atomic u64 *dirty;     /* one bit a page, NULL unless MEM_LOG_DIRTY */
    _Atomic u8 *populated;  /* one byte per chunk */
};

struct mem;

/* Make an empty map. Returns 0 or -ENOMEM. */
int mem_create(struct mem **ret);
void mem_free(struct mem *m);

/*
 * Create, move, re-flag or (size 0) delete slot (id). (gpa), (size) and (hva) are
 * page-aligned; (hva) stays the caller's. A slot keeps its size, hva and MEM_READONLY
 * for life, as in KVM. Returns 0, -EINVAL (alignment, wrap, such a change, deleting
 * what is not there), -EEXIST (overlaps another slot) or -ENOMEM; nothing changes on
 * failure. Every vCPU must be outside guest code, and must drop its TLB and blocks
 * before it goes back: slots and pages that they point to may be gone.
 */
int mem_slot_set(struct mem *m, u32 id, gpa_t gpa, u64 size, void *hva, u32 flags);

/* The slot that holds (gpa), or NULL for a hole. */
struct mem_slot *mem_slot_find(struct mem *m, gpa_t gpa);

/* The slot with (id), or NULL. */
struct mem_slot *mem_slot_by_id(struct mem *m, u32 id);

/* The i-th slot in ascending gpa order, or NULL past the end. */
struct mem_slot *mem_slot_at(struct mem *m, unsigned i);

/*
 * Copy out the dirty bitmap of slot (id), (words) u64s, and clear it. The caller
 * must then flush write mappings on all vCPUs. -ENOENT: no such slot or not logging;
 * -EINVAL: (words) holds less than one bit a page.
 */
int mem_dirty_get(struct mem *m, u32 id, u64 *bitmap, size_t words);

/*
 * Host pointer to [gpa, gpa + len), or NULL if any byte is a hole, the range
 * crosses slots, or (write) and the slot is read-only. Valid until the slot changes.
 * A writer must call mem_written() afterwards.
 */
void *mem_span(struct mem *m, gpa_t gpa, u64 len, bool write);

/* Note that [gpa, gpa + len) was written through a mem_span(): dirty log, code pages. */
void mem_written(struct mem *m, gpa_t gpa, u64 len);

/* Copy across slots. 0, or -EFAULT if any byte is a hole (or read-only); then nothing was copied. */
int mem_read(struct mem *m, gpa_t gpa, void *buf, u64 len);
int mem_write(struct mem *m, gpa_t gpa, const void *buf, u64 len);

static inline struct mem_page *mem_slot_page(struct mem_slot *s, gpa_t gpa)
{
    return &s->pages[(gpa - s->gpa) >> PAGE_SHIFT];
}

static inline u8 *mem_slot_hva(struct mem_slot *s, gpa_t gpa)
{
    return s->hva + (gpa - s->gpa);
}

static inline bool mem_page_hot(const struct mem_page *p)
{
    return atomic_load_explicit(&p->hits, memory_order_relaxed) >= MEM_HITS_HOT;
}

/* Code of a hot page has not changed for long: mark it again, for half as many hits. */
static inline void mem_page_cool(struct mem_page *p)
{
    atomic_store_explicit(&p->hits, MEM_HITS_HOT / 2, memory_order_relaxed);
}

/*
 * May anybody but vCPUs have written code since the last call with this (*seen)? True whenever a slot's host
 * memory has no MEM_OWNER, in this map or another; then nobody can tell.
 */
bool mem_code_doubtful(const struct mem *m, u32 *seen);

/* Has mem_populate() been there? */
static inline bool mem_is_populated(const struct mem_slot *s, gpa_t gpa)
{
    return atomic_load_explicit(&s->populated[(gpa - s->gpa) >> MEM_CHUNK_SHIFT], memory_order_relaxed);
}

/*
 * Make the host pages around (gpa) present, a whole chunk (256 KiB) at once: a
 * page-by-page first touch is an order of magnitude dearer. Idempotent, cheap when
 * done before, never fails visibly.
 */
void mem_populate(struct mem_slot *s, gpa_t gpa);

/*
 * A store of (len) bytes at (gpa), not crossing a page, has been made: set the
 * dirty bit and, if it touched a code line, increment the page's gen and clear that
 * line's mark. Returns true if it hit code.
 */
bool mem_page_written(struct mem_slot *s, gpa_t gpa, u64 len);
