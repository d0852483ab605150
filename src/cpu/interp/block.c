// SPDX-License-Identifier: MIT
// Building, finding and re-validating blocks of decoded instructions.

/*
 * Theory of operation
 *
 * Three ways lead to a block, from fast to slow: a link from the block before, the jump cache
 * (by linear address, emptied by changing link_epoch), the hash (by guest-physical address and
 * key). All three end in a check that the block is current.
 *
 * Building takes a snapshot of the bytes, decodes it, marks the lines as code, reads the page's
 * gen, and compares the snapshot with memory again: a store that came between is caught by
 * the comparison, one that comes later changes gen.
 *
 * Code that changes all the time. Its page gets hot (mem/mem.h) and is marked no more: stores to it cost
 * nothing, and its blocks never count as current, so that each entry comes to block_lookup() and compares. A
 * block that differs is made anew in the same place. One that has not differed QUIET times in a row says that the page
 * has settled.
 *
 * Most code runs a few times only. So what may be translated one day starts as a short block, up to
 * the first branch, in an arena of its own, which is small and is emptied when it is full. A block that turns
 * out to be hot is made anew by block_extend(), as long as it can be, in the lasting arena, where all others live too. That
 * one is emptied together with all translations. Code that is decoded for the SEEN_ENOUGHth time, since its block went
 * with the arena each time before it got hot, as in a program that is started again and again, goes to an arena of its own.
 *
 * It all belongs to one vCPU; no lock.
 */

#include "cpu/interp/block.h"
#include "cpu/decode/form.h"
#include "cpu/jit/jit.h"
#include "cpu/mmu/access.h"
#include "cpu/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_CHUNK (1ul << 20) /* made present at once */
#define HASH_SIZE   65536u
#define JUMP_SIZE   4096u
#define QUIET       512
#define SEEN_BITS   18
#define SEEN_ENOUGH 4

static const size_t arena_size[BLOCK_HOMES] = {
    [BLOCK_SHORT] = 8ul << 20,
    [BLOCK_KEPT] = 24ul << 20,
    [BLOCK_LASTING] = 32ul << 20,
};

struct jump {
    u64 rip;
    struct block *block;
    u32 epoch;
    u8 key;
};

/* Filled from the front and emptied whole. */
struct arena {
    u8 *base;
    size_t size, used, present;
};

struct block_cache {
    struct arena arena[BLOCK_HOMES];
    u8 seen[1u << SEEN_BITS];   /* by hash: how often code was decoded into short blocks */
    struct decode_forms *forms; /* NULL: no memory was left for it */
    struct block *hash[HASH_SIZE];
    struct jump jump[JUMP_SIZE];
};

static int arena_create(struct arena *a, size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    *a = (struct arena){.base = p, .size = size};
    return 0;
}

int block_cache_create(struct block_cache **ret)
{
    struct block_cache *bc = calloc(1, sizeof(*bc));

    if (!bc)
        return -ENOMEM;
    for (unsigned i = 0; i < BLOCK_HOMES; i++) {
        if (arena_create(&bc->arena[i], arena_size[i])) {
            block_cache_free(bc);
            return -ENOMEM;
        }
    }
    decode_forms_create(&bc->forms);
    *ret = bc;
    return 0;
}

void block_cache_free(struct block_cache *bc)
{
    if (!bc)
        return;
    for (unsigned i = 0; i < BLOCK_HOMES; i++) {
        if (bc->arena[i].base)
            munmap(bc->arena[i].base, bc->arena[i].size);
    }
    decode_forms_free(bc->forms);
    free(bc);
}

void block_cache_flush(struct cpu *c)
{
    struct block_cache *bc = c->blocks;

    tlb_unlink(c);
    for (unsigned i = 0; i < BLOCK_HOMES; i++)
        bc->arena[i].used = 0;
    memset(bc->hash, 0, sizeof(bc->hash));
    memset(bc->jump, 0, sizeof(bc->jump));
    c->block_epoch++;
    jit_flush(c);
}

/* Drop the blocks that live in (home), not the lasting ones', and whatever names them. */
static void home_flush(struct cpu *c, u8 home)
{
    struct block_cache *bc = c->blocks;
    struct block **p, *b;

    for (unsigned i = 0; i < HASH_SIZE; i++) {
        for (p = &bc->hash[i]; (b = *p) != NULL;) {
            if (b->home != home) {
                b->link[0] = b->link[1] = NULL;
                p = &b->hash_next;
            } else {
                *p = b->hash_next;
            }
        }
    }
    memset(bc->jump, 0, sizeof(bc->jump));
    bc->arena[home].used = 0;
    c->block_epoch++;
}

/* (room) for the insns and bytes of a block; empties the arena when it is full. */
static struct block *arena_take(struct cpu *c, unsigned room, u8 home)
{
    struct arena *a = &c->blocks->arena[home];
    size_t size = ALIGN_UP(sizeof(struct block), 16) + 16 * (size_t)room;
    struct block *b;

    if (a->used + size > a->size) {
        if (home == BLOCK_LASTING)
            block_cache_flush(c);
        else
            home_flush(c, home);
    }
    if (a->used + size > a->present) {
        madvise(a->base + a->present, ARENA_CHUNK, MADV_POPULATE_WRITE);
        a->present += ARENA_CHUNK;
    }
    b = (struct block *)(a->base + a->used);
    a->used += size;
    return b;
}

static u64 hash(gpa_t gpa, u8 key)
{
    return (gpa ^ (u64)key << 40) * 0x9e3779b97f4a7c15ull;
}

static struct block **hash_slot(struct block_cache *bc, gpa_t gpa, u8 key)
{
    return &bc->hash[hash(gpa, key) >> 48];
}

/* Where a short block goes. */
static u8 short_home(struct block_cache *bc, gpa_t gpa, u8 key)
{
    u8 *seen = &bc->seen[hash(gpa, key) >> (64 - SEEN_BITS)];

    if (*seen < SEEN_ENOUGH && ++*seen < SEEN_ENOUGH)
        return BLOCK_SHORT;
    return BLOCK_KEPT;
}

static void unhash(struct cpu *c, struct block *b)
{
    struct block **p = hash_slot(c->blocks, b->gpa, b->key);

    while (*p && *p != b)
        p = &(*p)->hash_next;
    if (*p)
        *p = b->hash_next;
}

/* Sentinel: the block ran to its end without a branch. */
static int op_continue(struct cpu *c, const struct insn *in)
{
    c->rip = cpu_rip_trim(c, insn_rip(c, in));
    c->insn_count--;
    return OP_END;
}

/*
 * Decode from a snapshot of (avail) bytes at page offset (off), up to an insn with one of the flags in (ends).
 * Returns the insn count; *len code bytes. (keep): the decoded forms go there, in 64-bit mode; or NULL.
 */
static unsigned decode_run(const struct cpu *c, const u8 *bytes, unsigned avail, unsigned off,
                           u8 ends, struct insn *insn, struct decoded *keep, unsigned *len)
{
    struct decoded d;
    unsigned n = 0, pos = 0;

    while (n < BLOCK_INSNS && pos < avail) {
        int l = c->mode == MODE_64 ? decode_insn64(c->blocks->forms, bytes + pos, avail - pos,
                                                   off + pos, keep ? &keep[n] : &d, &insn[n])
                                   : decode_insn(bytes + pos, avail - pos, c->mode,
                                                 c->mode != MODE_16, off + pos, &insn[n]);

        if (l < 0)
            break;
        if (unlikely(decode_failed(&insn[n]))) /* a change of any byte may make it an instruction */
            l = avail - pos < INSN_MAX_LEN ? (int)(avail - pos) : INSN_MAX_LEN;
        pos += (unsigned)l;
        if (insn[n++].flags & ends)
            break;
    }
    *len = pos;
    return n;
}

/* (lasting): not among the short blocks. (old): a block of the same address and key whose place may be taken, or NULL. */
static struct block *block_make(struct cpu *c, const struct tlb_fetch *f, gpa_t gpa, unsigned count,
                                const struct insn *insn, const u8 *bytes, unsigned len,
                                bool lasting, struct block *old)
{
    unsigned room = (unsigned)((count + 1) * sizeof(*insn) + len + 15) / 16;
    bool again = old && old->room >= room && !old->code && (old->home == BLOCK_LASTING || !lasting);
    struct block *b, **slot;
    u8 *copy, home;

    if (old && !again)
        unhash(c, old);
    home = again ? old->home : lasting ? BLOCK_LASTING : short_home(c->blocks, gpa, c->block_key);
    b = again ? old : arena_take(c, room, home);
    copy = (u8 *)&b->insn[count + 1];
    *b = (struct block){
        .hash_next = again ? old->hash_next : NULL,
        .gpa = gpa,
        .key = c->block_key,
        .home = home,
        .room = again ? old->room : (u16)room,
        .count = (u16)count,
        .len = (u16)len,
        .off = (u16)(gpa & ~PAGE_MASK),
        .recheck = c->recheck_epoch,
        .page = mem_slot_page(f->slot, gpa),
        .slot = f->slot,
        .host = f->host + (gpa & ~PAGE_MASK),
        .bytes = copy,
        .link_epoch = c->link_epoch,
    };
    memcpy(b->insn, insn, count * sizeof(*insn));
    b->insn[count] = (struct insn){.op = op_continue,
                                   .off = (u16)(b->off + len),
                                   .base = REG_ZERO,
                                   .index = REG_ZERO,
                                   .seg = SEG_NONE};
    memcpy(b->bytes, bytes, len);
    c->stats.blocks_built++;
    if (again)
        return b;
    slot = hash_slot(c->blocks, gpa, b->key);
    b->hash_next = *slot;
    *slot = b;
    return b;
}

/* The first instruction crosses the page's end: a block of it alone, from both pages. */
static int build_crossing(struct cpu *c, u64 lin, const struct tlb_fetch *f, bool lasting,
                          struct block *old, struct block **ret)
{
    unsigned off = lin & ~PAGE_MASK, head = (unsigned)(PAGE_SIZE - off);
    struct tlb_fetch first = *f, *second;
    u8 bytes[INSN_MAX_LEN];
    struct insn insn;
    struct block *b;
    int len, rc;

    rc = mmu_fetch(c, lin + head, &second);
    if (rc)
        return rc;
    memcpy(bytes, first.host + off, head);
    memcpy(bytes + head, second->host, INSN_MAX_LEN - head);
    len = decode_insn(bytes, INSN_MAX_LEN, c->mode, c->mode != MODE_16, off, &insn);
    if ((unsigned)len <= head) /* no instruction after all: every byte that was looked at says so */
        len = INSN_MAX_LEN;
    b = block_make(c, &first, (first.gpa & PAGE_MASK) + off, 1, &insn, bytes, (unsigned)len,
                   lasting, old);
    b->crosses = true;
    if (cpu_traces(TRACE_DECODE))
        cpu_trace_decode(c, b);
    b->gen = mmu_mark_code(c, first.slot, b->gpa, head);
    *ret = b;
    return OP_NEXT;
}

/* A gen that the page has had and will not have again. */
static u32 never_current(struct mem_slot *slot, gpa_t gpa)
{
    return atomic_load_explicit(&mem_slot_page(slot, gpa)->gen, memory_order_relaxed) - 1;
}

/* (keep): a full block, whose decoded forms go there; or NULL. */
static int block_build(struct cpu *c, u64 lin, const struct tlb_fetch *f, struct decoded *keep,
                       struct block *old, struct block **ret)
{
    unsigned off = lin & ~PAGE_MASK, avail, count, len;
    gpa_t gpa = (f->gpa & PAGE_MASK) + off;
    bool careful = mem_page_hot(mem_slot_page(f->slot, gpa)),
         full = keep || !c->jit || c->mode != MODE_64;
    struct insn insn[BLOCK_INSNS];
    u8 bytes[BLOCK_BYTES], ends = INSN_ENDS;
    struct block *b;
    u32 gen;

    if (careful)
        ends |= INSN_WRITES;
    else if (!full)
        ends |= INSN_REL;
    avail = PAGE_SIZE - off < BLOCK_BYTES ? (unsigned)(PAGE_SIZE - off) : BLOCK_BYTES;
    do {
        memcpy(bytes, f->host + off, avail);
        count = decode_run(c, bytes, avail, off, ends, insn, keep, &len);
        if (count == 0)
            return build_crossing(c, lin, f, full, old, ret);
        gen = careful ? never_current(f->slot, gpa) : mmu_mark_code(c, f->slot, gpa, len);
    } while (!careful && memcmp(bytes, f->host + off, len));
    b = block_make(c, f, gpa, count, insn, bytes, len, full, old);
    b->careful = careful;
    b->full = full && !careful;
    b->gen = gen;
    if (cpu_traces(TRACE_DECODE))
        cpu_trace_decode(c, b);
    *ret = b;
    return OP_NEXT;
}

bool block_extend(struct cpu *c, struct block **b, struct decoded *keep)
{
    struct block *old = *b;
    bool crosses = old->crosses;
    struct tlb_fetch f = {
        .host = (u8 *)old->host - old->off, .gpa = old->gpa & PAGE_MASK, .slot = old->slot};

    if (crosses ? old->home == BLOCK_LASTING : old->full)
        return true;
    /* Links still name it, but it will not count as current, nor be found. */
    old->gen = never_current(old->slot, old->gpa);
    if (block_build(c, c->rip, &f, keep, old, b) == OP_NEXT)
        return crosses ? (*b)->crosses : (*b)->full;
    c->exc.pending = false;
    c->exit = CPU_EXIT_NONE;
    *b = NULL;
    return false;
}

bool block_revalidate(struct cpu *c, struct block *b)
{
    u32 gen = mmu_mark_code(c, b->slot, b->gpa, b->len);

    if (memcmp(b->bytes, b->host, b->len)) {
        c->stats.recheck_fail++;
        return false;
    }
    b->gen = gen;
    b->recheck = c->recheck_epoch;
    return true;
}

/* A crossing block's tail comes from whatever the second page is now. */
static int crossing_current(struct cpu *c, u64 lin, const struct block *b, bool *current)
{
    unsigned head = (unsigned)(PAGE_SIZE - b->off);
    struct tlb_fetch *second;
    int rc = mmu_fetch(c, lin + head, &second);

    if (rc)
        return rc;
    *current =
        !memcmp(b->bytes, b->host, head) && !memcmp(b->bytes + head, second->host, b->len - head);
    return OP_NEXT;
}

/* May (b), which does not count as current, be run at least once? */
static bool recheck(struct cpu *c, struct block *b)
{
    if (mem_page_hot(b->page) != b->careful)
        return false;
    if (!b->careful)
        return block_revalidate(c, b);
    if (memcmp(b->bytes, b->host, b->len))
        return false;
    if (++b->quiet < QUIET)
        return true;
    mem_page_cool(b->page);
    if (cpu_traces(TRACE_CODE))
        cpu_trace_code(c, b->gpa, "its page has cooled");
    return false;
}

static int block_lookup(struct cpu *c, u64 lin, struct block **ret)
{
    struct tlb_fetch *f;
    struct block *b;
    bool current;
    gpa_t gpa;
    int rc = mmu_fetch(c, lin, &f);

    if (rc)
        return rc;
    gpa = (f->gpa & PAGE_MASK) + (lin & ~PAGE_MASK);
    for (b = *hash_slot(c->blocks, gpa, c->block_key); b; b = b->hash_next) {
        if (b->gpa == gpa && b->key == c->block_key)
            break;
    }
    if (!b)
        return block_build(c, lin, f, NULL, NULL, ret);
    if (b->crosses) {
        struct tlb_fetch first = *f;

        rc = crossing_current(c, lin, b, &current);
        if (rc)
            return rc;
        if (!current)
            return build_crossing(c, lin, &first, false, b, ret);
    } else if (!block_current(c, b) && !recheck(c, b)) {
        return block_build(c, lin, f, NULL, b, ret);
    }
    *ret = b;
    return OP_NEXT;
}

int block_find(struct cpu *c, struct block **ret)
{
    struct jump *j = &c->blocks->jump[(c->rip ^ c->rip >> 12) & (JUMP_SIZE - 1)];
    u64 lin = c->rip;
    int rc;

    if (likely(j->rip == c->rip && j->epoch == c->link_epoch && j->key == c->block_key &&
               j->block && block_current(c, j->block))) {
        *ret = j->block;
        return OP_NEXT;
    }
    if (unlikely(c->mode != MODE_64)) {
        if (c->rip > c->seg[SEG_CS].limit)
            return cpu_raise_gp(c);
        lin = (u32)(c->rip + c->seg[SEG_CS].base);
    }
    rc = block_lookup(c, lin, ret);
    if (rc == OP_NEXT && !(*ret)->crosses) {
        j->rip = c->rip;
        j->block = *ret;
        j->epoch = c->link_epoch;
        j->key = c->block_key;
    }
    return rc;
}
