// SPDX-License-Identifier: MIT
// Filling and dropping of the software TLB's tables.

#include "cpu/mmu/tlb.h"

static void drop_entry(struct tlb *t, unsigned i)
{
    t->r[i].tag = t->w[i].tag = tlb_invalid(i);
}

static void drop_fetch(struct tlb *t, unsigned i)
{
    t->f[i].tag = tlb_invalid(i);
}

static void drop_view(struct tlb *t)
{
    if (!t->used)
        return;
    for (unsigned i = 0; i < TLB_SIZE; i++)
        drop_entry(t, i);
    for (unsigned i = 0; i < TLB_FETCH_SIZE; i++)
        drop_fetch(t, i);
    t->stack.limit_r = t->stack.limit_w = 0;
    t->used = false;
}

static void drop_jumps(struct tlb *t)
{
    if (!t->jumps_used)
        return;
    for (unsigned i = 0; i < TLB_JUMP_SIZE; i++)
        t->j[i].rip = i ^ 1;
    t->jumps_used = false;
}

/* 0 is what a link that was never made expects. */
static void next_epoch(u32 *epoch)
{
    if (unlikely(++*epoch == 0))
        ++*epoch;
}

void tlb_unlink(struct cpu *c)
{
    next_epoch(&c->link_epoch);
    next_epoch(&c->global_epoch);
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        drop_jumps(c->tlbs[v]);
}

void tlb_unlink_nonglobal(struct cpu *c)
{
    next_epoch(&c->link_epoch);
    drop_jumps(c->tlbs[TLB_USER]);
    drop_jumps(c->tlbs[TLB_USER_AC]);
}

void tlb_reset(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        c->tlbs[v]->used = c->tlbs[v]->jumps_used = true;
        drop_view(c->tlbs[v]);
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
    c->stats.tlb_flush++;
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        drop_view(c->tlbs[v]);
}

void tlb_flush_nonglobal(struct cpu *c)
{
    tlb_unlink_nonglobal(c);
    c->stats.tlb_flush++;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = c->tlbs[v];

        if (!t->used)
            continue;
        t->stack.limit_r = t->stack.limit_w = 0;
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            if (!(t->r[i].gpa & TLB_GLOBAL))
                t->r[i].tag = tlb_invalid(i);
            if (!(t->w[i].gpa & TLB_GLOBAL))
                t->w[i].tag = tlb_invalid(i);
        }
        for (unsigned i = 0; i < TLB_FETCH_SIZE; i++) {
            if (!(t->f[i].gpa & TLB_GLOBAL))
                drop_fetch(t, i);
        }
    }
}

/* Does an entry for (page) with flags (gpa) belong to the same guest page as (lin)? */
static bool same_page(u64 page, gpa_t gpa, u64 lin)
{
    unsigned shift = gpa & TLB_1G ? 30 : gpa & TLB_2M ? 22 : PAGE_SHIFT;

    return (page ^ lin) >> shift == 0;
}

void tlb_flush_page(struct cpu *c, u64 lin)
{
    if (lin >> 63)
        tlb_unlink(c);
    else
        tlb_unlink_nonglobal(c);
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = c->tlbs[v];

        if (!t->used)
            continue;
        t->stack.limit_r = t->stack.limit_w = 0;
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            if (same_page(t->r[i].tag, t->r[i].gpa, lin))
                t->r[i].tag = tlb_invalid(i);
            if (same_page(t->w[i].tag, t->w[i].gpa, lin))
                t->w[i].tag = tlb_invalid(i);
        }
        for (unsigned i = 0; i < TLB_FETCH_SIZE; i++) {
            if (same_page(t->f[i].tag, t->f[i].gpa, lin))
                drop_fetch(t, i);
        }
    }
}

void tlb_drop_write(struct cpu *c, gpa_t gpa)
{
    gpa &= PAGE_MASK;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        c->tlbs[v]->stack.limit_w = 0;
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            if ((c->tlbs[v]->w[i].gpa & PAGE_MASK) == gpa)
                c->tlbs[v]->w[i].tag = tlb_invalid(i);
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
