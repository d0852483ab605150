// SPDX-License-Identifier: MIT
// Filling and dropping of the software TLB's tables.

#include "cpu/mmu/tlb.h"

#include <errno.h>
#include <stdlib.h>

static void drop_entry(struct tlb *t, unsigned i)
{
    t->e[i].tag_r = t->e[i].tag_w = tlb_invalid(i);
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
    t->used = false;
}

int tlb_create(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        c->tlbs[v] = aligned_alloc(64, ALIGN_UP(sizeof(struct tlb), 64));
        if (!c->tlbs[v])
            return -ENOMEM;
        c->tlbs[v]->used = true;
        drop_view(c->tlbs[v]);
    }
    c->tlb = c->tlbs[TLB_KERNEL];
    return 0;
}

void tlb_free(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        free(c->tlbs[v]);
}

void tlb_flush(struct cpu *c)
{
    c->link_epoch++;
    c->stats.tlb_flush++;
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        drop_view(c->tlbs[v]);
}

void tlb_flush_nonglobal(struct cpu *c)
{
    c->link_epoch++;
    c->stats.tlb_flush++;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = c->tlbs[v];

        if (!t->used)
            continue;
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            if (!(t->e[i].gpa & TLB_GLOBAL))
                drop_entry(t, i);
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
    c->link_epoch++;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = c->tlbs[v];

        if (!t->used)
            continue;
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            if (same_page(t->e[i].tag_r, t->e[i].gpa, lin))
                drop_entry(t, i);
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
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            if ((c->tlbs[v]->e[i].gpa & PAGE_MASK) == gpa)
                c->tlbs[v]->e[i].tag_w = tlb_invalid(i);
        }
    }
}

void tlb_drop_all_writes(struct cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        for (unsigned i = 0; i < TLB_SIZE; i++)
            c->tlbs[v]->e[i].tag_w = tlb_invalid(i);
    }
}
