// SPDX-License-Identifier: MIT
// Dropping what is in the software TLB's tables, and what else depends on it.

/*
 * Theory of operation
 *
 * Bitmaps say which slots were filled, so that a flush costs what was filled since the last one. The first level
 * has no PCIDs: whenever CR3 changes all that is not global goes, and comes back from the second level.
 *
 * Links between blocks and jumps by linear address hold while link_epoch (among global pages of the upper half:
 * global_epoch) is what it was. They depend on the mappings of pages that code was fetched from, which
 * c->fetched notes: another page may come and go without an end of the epoch. In a new epoch
 * nothing is linked before mmu_fetch() has been asked for the page.
 */

#include "cpu/mmu/stlb.h"

static void drop_entry(struct tlb *t, unsigned i)
{
    t->r[i].tag = t->w[i].tag = tlb_invalid(i);
}

static void drop_fetch(struct tlb *t, unsigned i)
{
    t->f[i].tag = tlb_invalid(i);
}

static void close_window(struct tlb *t)
{
    t->stack.limit_r = t->stack.limit_w = 0;
}

/* For every bit (i) that is set in (words) of (map). */
#define FOR_EACH_BIT(i, map, words)                                                                \
    for (unsigned w_ = 0; w_ < (words); w_++)                                                      \
        for (u64 b_ = (map)[w_]; b_ && (i = w_ * 64 + (unsigned)__builtin_ctzll(b_), true);        \
             b_ &= b_ - 1)

static void drop_view(struct tlb *t)
{
    unsigned i;

    FOR_EACH_BIT(i, t->data.any, TLB_SIZE / 64)
    drop_entry(t, i);
    FOR_EACH_BIT(i, t->fetch, TLB_FETCH_SIZE / 64)
    drop_fetch(t, i);
    memset(&t->data, 0, sizeof(t->data));
    memset(t->fetch, 0, sizeof(t->fetch));
    t->large[0] = t->large[1] = false;
    close_window(t);
}

/* Of 64 jumps, those that (word) of the map says. */
static void drop_some_jumps(struct tlb *t, unsigned word)
{
    unsigned i;

    FOR_EACH_BIT(i, &t->jump[word], 1)
    t->j[word * 64 + i].rip = tlb_jump_invalid(word * 64 + i);
    t->jump[word] = 0;
}

static void drop_jumps(struct tlb *t)
{
    unsigned word;

    FOR_EACH_BIT(word, t->jump_words, ARRAY_SIZE(t->jump_words))
    drop_some_jumps(t, word);
    memset(t->jump_words, 0, sizeof(t->jump_words));
}

/* 0 is what a link that was never made expects. */
static void next_epoch(u32 *epoch)
{
    if (unlikely(++*epoch == 0))
        ++*epoch;
}

static void forget_fetches(struct cpu *c, unsigned half)
{
    memset(c->fetched[half], 0, sizeof(c->fetched[half]));
    c->fetched_large[half] = false;
}

void tlb_unlink(struct cpu *c)
{
    next_epoch(&c->global_epoch);
    forget_fetches(c, 1);
    drop_jumps(c->tlbs[TLB_KERNEL]);
    drop_jumps(c->tlbs[TLB_KERNEL_AC]);
    tlb_unlink_nonglobal(c);
}

void tlb_unlink_nonglobal(struct cpu *c)
{
    next_epoch(&c->link_epoch);
    forget_fetches(c, 0);
    drop_jumps(c->tlbs[TLB_USER]);
    drop_jumps(c->tlbs[TLB_USER_AC]);
}

void tlb_reset(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = c->tlbs[v];

        memset(t->data.any, 0xff, sizeof(t->data.any));
        memset(t->fetch, 0xff, sizeof(t->fetch));
        memset(t->jump, 0xff, sizeof(t->jump));
        memset(t->jump_words, 0xff, sizeof(t->jump_words));
        drop_view(t);
    }
    tlb_unlink(c);
}

void tlb_init(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        c->tlbs[v] = (struct tlb *)(c + 1) + v;
    c->tlb = c->tlbs[TLB_KERNEL];
    tlb_reset(c);
}

void tlb_flush(struct cpu *c)
{
    tlb_unlink(c);
    stlb_flush(c);
    c->stats.tlb_flush++;
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        drop_view(c->tlbs[v]);
}

static void drop_local(struct tlb *t)
{
    unsigned i;

    FOR_EACH_BIT(i, t->data.local, TLB_SIZE / 64)
    {
        if (!(t->r[i].gpa & TLB_GLOBAL))
            t->r[i].tag = tlb_invalid(i);
        if (!(t->w[i].gpa & TLB_GLOBAL))
            t->w[i].tag = tlb_invalid(i);
    }
    memset(t->data.local, 0, sizeof(t->data.local));
    FOR_EACH_BIT(i, t->fetch, TLB_FETCH_SIZE / 64)
    {
        if (!(t->f[i].gpa & TLB_GLOBAL))
            drop_fetch(t, i);
    }
    close_window(t);
}

static void drop_all_local(struct cpu *c)
{
    tlb_unlink_nonglobal(c);
    c->stats.tlb_flush++;
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        drop_local(c->tlbs[v]);
}

void tlb_switch(struct cpu *c, unsigned pcid, bool keep)
{
    bool same = c->stlb_gen == c->stlb->pcid[pcid];

    if (keep && same)
        return;
    if (keep)
        stlb_switch(c, pcid);
    else
        stlb_flush_pcid(c, pcid);
    drop_all_local(c);
}

void tlb_flush_nonglobal(struct cpu *c)
{
    stlb_flush_nonglobal(c);
    drop_all_local(c);
}

void tlb_flush_pcid(struct cpu *c, unsigned pcid)
{
    stlb_flush_pcid(c, pcid);
    if (pcid == stlb_pcid(c))
        drop_all_local(c);
}

/* Does an entry for (page) with flags (gpa) belong to the same guest page as (lin)? */
static bool same_page(u64 page, gpa_t gpa, u64 lin)
{
    unsigned shift = gpa & TLB_1G ? 30 : gpa & TLB_2M ? 22 : PAGE_SHIFT;

    return (page ^ lin) >> shift == 0;
}

static void drop_if(struct tlb_entry *e, unsigned i, u64 lin, bool global)
{
    if (same_page(e->tag, e->gpa, lin) && (global || !(e->gpa & TLB_GLOBAL)))
        e->tag = tlb_invalid(i);
}

static void drop_page(struct tlb *t, u64 lin, bool global)
{
    unsigned i = (lin >> PAGE_SHIFT) & (TLB_SIZE - 1);

    close_window(t);
    drop_if(&t->r[i], i, lin, global);
    drop_if(&t->w[i], i, lin, global);
    i = (lin >> PAGE_SHIFT) & (TLB_FETCH_SIZE - 1);
    if (t->f[i].tag == (lin & PAGE_MASK))
        drop_fetch(t, i);
    if (!t->large[lin >> 63])
        return;
    FOR_EACH_BIT(i, t->data.any, TLB_SIZE / 64)
    {
        drop_if(&t->r[i], i, lin, global);
        drop_if(&t->w[i], i, lin, global);
    }
    FOR_EACH_BIT(i, t->fetch, TLB_FETCH_SIZE / 64)
    {
        if (same_page(t->f[i].tag, t->f[i].gpa, lin))
            drop_fetch(t, i);
    }
}

/* Has code come from the page of (lin) in this epoch? */
static bool fetched_from(const struct cpu *c, u64 lin)
{
    unsigned half = lin >> 63, i = tlb_fetch_hash(lin);

    return c->fetched_large[half] || c->fetched[half][i / 64] & BIT(i % 64);
}

static void drop_page_everywhere(struct cpu *c, u64 lin, bool global)
{
    c->stats.tlb_flush_page++;
    if (fetched_from(c, lin)) {
        if (lin >> 63)
            tlb_unlink(c);
        else
            tlb_unlink_nonglobal(c);
    }
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        drop_page(c->tlbs[v], lin, global);
}

void tlb_flush_page(struct cpu *c, u64 lin)
{
    stlb_flush_page(c, stlb_pcid(c), lin, true);
    drop_page_everywhere(c, lin, true);
}

void tlb_flush_pcid_page(struct cpu *c, unsigned pcid, u64 lin)
{
    stlb_flush_page(c, pcid, lin, false);
    if (pcid == stlb_pcid(c))
        drop_page_everywhere(c, lin, false);
}

void tlb_drop_write(struct cpu *c, gpa_t gpa)
{
    unsigned i;

    gpa &= PAGE_MASK;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = c->tlbs[v];

        t->stack.limit_w = 0;
        FOR_EACH_BIT(i, t->data.any, TLB_SIZE / 64)
        {
            if ((t->w[i].gpa & PAGE_MASK) == gpa)
                t->w[i].tag = tlb_invalid(i);
        }
    }
}

void tlb_drop_all_writes(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        c->tlbs[v]->stack.limit_w = 0;
        for (unsigned i = 0; i < TLB_SIZE; i++)
            c->tlbs[v]->w[i].tag = tlb_invalid(i);
    }
}
