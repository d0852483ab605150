// SPDX-License-Identifier: MIT
// The translator seen from the run loop: which block is translated, what is linked to what, and when it all goes.

/*
 * Theory of operation
 *
 * Translations hang on the blocks that they were made from and on a jit_page, which stands for the
 * guest-physical page. Links within a page are never checked, so a page's translations are current or stale
 * together: jit_ready() looks at gen and recheck_epoch when it enters a page and, if either moved, compares
 * all of them with memory. When one differs, all go. A store to code cuts the page off: exits of other pages
 * and jumps that lead into it lead to jit_ready() again. What belongs to other pages stays linked.
 *
 * A hot page (mem/mem.h), where code changes time and again, is left to the interpreter until it cools.
 *
 * Nothing is freed singly. When code memory is full all translations go, and with the arena of blocks the blocks
 * too; the run loop calls from outside translated code only, so nobody stands on it.
 *
 * An instruction across two pages is a page of its own here, a crossing: exits to it are checked like those
 * into another page, it is current while both pages are, and it is cut off with either.
 *
 * One linear address: a page's code can be mapped twice. Links into another page and the jump cache would
 * then mix the two up, so entering a page by another address starts a new link_epoch.
 *
 * Two epochs: a load of CR3 leaves global pages alone, and with them links among the kernel's own pages and
 * the jumps of its views, in which only such pages are entered.
 */

#include "cpu/jit/code.h"
#include "cpu/jit/lockstep.h"
#include "cpu/jit/perfmap.h"
#include "cpu/mmu/access.h"
#include "cpu/trace.h"
#include "cpu/vec/host.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HOT 20 /* runs of a block before it is translated: that costs as much as some 200 by the interpreter */

static _Thread_local struct cpu *attached;

static void create(struct cpu *c)
{
    const char *engine = getenv("UVIRT_ENGINE");
    struct jit *j;

    if (engine && !strcmp(engine, "interp"))
        return;
    j = calloc(1, sizeof(*j));
    if (!j)
        return;
    if (jit_code_create(c, j)) {
        free(j);
        return;
    }
    c->j.self = (u64)(uintptr_t)c;
    c->j.host_mxcsr = HOST_MXCSR;
    c->jit = j;
    j->host_bmi2 = __builtin_cpu_supports("bmi2");
    jit_glue_make(j);
    j->hot_start = j->hot.at;
    if (engine && !strcmp(engine, "lockstep") && lockstep_create(c))
        jit_free(c);
}

void jit_free(struct cpu *c)
{
    if (!c->jit)
        return;
    if (attached == c)
        attached = NULL;
    lockstep_free(c);
    jit_code_free(c->jit);
    free(c->jit);
    c->jit = NULL;
}

void jit_flush(struct cpu *c)
{
    struct jit *j = c->jit;

    if (!j)
        return;
    j->hot.at = j->hot_start;
    j->cold.at = JIT_CODE_SIZE / 2;
    j->meta_used = 0;
    memset(j->page, 0, sizeof(j->page));
    c->j.site = NULL;
    c->stats.code_flushed++;
    if (cpu_traces(TRACE_CODE))
        cpu_trace_code(c, 0, "all translations go");
}

void jit_attach(struct cpu *c)
{
    if (unlikely(!c->j.tried)) {
        c->j.tried = true;
        create(c);
    }
    if (!c->jit || attached == c)
        return;
    syscall(SYS_arch_prctl, ARCH_SET_GS, c);
    attached = c;
}

/* No room is left for code: all translations go, but not the blocks, one of which is about to run. */
static void discard(struct cpu *c)
{
    for (unsigned i = 0; i < JIT_PAGES; i++) {
        for (struct jit_page *p = c->jit->page[i]; p; p = p->next) {
            for (struct jit_code *k = p->codes; k; k = k->next)
                k->block->code = NULL;
        }
    }
    jit_flush(c);
    tlb_unlink(c);
}

static struct jit_page **page_slot(struct jit *j, gpa_t gpa)
{
    return &j->page[(gpa >> PAGE_SHIFT) % JIT_PAGES];
}

static struct jit_page *page_find(struct jit *j, gpa_t gpa)
{
    struct jit_page *p = *page_slot(j, gpa);

    while (p && p->gpa != gpa)
        p = p->next;
    return p;
}

static struct jit_page *page_get(struct cpu *c, gpa_t gpa)
{
    struct jit *j = c->jit;
    struct jit_page **slot = page_slot(j, gpa), *p = page_find(j, gpa);

    if (p)
        return p;
    p = jit_meta_take(j, sizeof(*p));
    if (!p)
        return NULL;
    *p = (struct jit_page){.next = *slot, .gpa = gpa, .recheck = c->recheck_epoch - 1};
    *slot = p;
    return p;
}

/* Put the crossing (p) into a list of (page), or take it out. (end): 0 its first page's, 1 its second's. */
static void crossing_add(struct jit_page *p, struct jit_page *page, unsigned end)
{
    p->next_crossing[end] = page->crossing[end];
    page->crossing[end] = p;
}

static void crossing_remove(struct jit_page *p, struct jit_page *page, unsigned end)
{
    struct jit_page **at = &page->crossing[end];

    while (*at != p)
        at = &(*at)->next_crossing[end];
    *at = p->next_crossing[end];
}

/* The exit (s) leads to page (to) now; NULL: to none. */
static void site_lead(struct jit_site *s, struct jit_page *to)
{
    struct jit_site **at;

    if (s->to == to)
        return;
    if (s->to) {
        for (at = &s->to->in; *at != s;)
            at = &(*at)->next;
        *at = s->next;
    }
    s->to = to;
    if (to) {
        s->next = to->in;
        to->in = s;
    }
}

/* All live jumps into a page go by its one linear address. */
static void drop_jumps(struct cpu *c, const struct jit_page *p)
{
    for (const struct jit_code *k = p->codes; k; k = k->next) {
        u64 rip = p->lin + k->block->off;
        unsigned i = tlb_jump_index(rip);

        for (unsigned v = 0; v < TLB_VIEWS; v++) {
            struct tlb_jump *e = &c->tlbs[v]->j[i];

            if (e->rip == rip)
                e->rip = tlb_jump_invalid(i);
        }
    }
}

static void page_unlink(struct cpu *c, struct jit_page *p)
{
    struct jit_site *next;

    for (struct jit_site *s = p->in; s; s = next) {
        next = s->next;
        memset(c->jit->hot.rw + s->epoch_at, 0, 4); /* an epoch that never is */
        s->to = NULL;
    }
    p->in = NULL;
    drop_jumps(c, p);
    for (unsigned end = 0; end < 2; end++) {
        for (struct jit_page *q = p->crossing[end]; q; q = q->next_crossing[end])
            page_unlink(c, q);
    }
}

void jit_unlink(struct cpu *c, gpa_t gpa)
{
    struct jit_page *p = c->jit ? page_find(c->jit, gpa & PAGE_MASK) : NULL;

    if (cpu_traces(TRACE_CODE))
        cpu_trace_code(c, gpa, "it was written");
    if (p)
        page_unlink(c, p);
}

static void page_kill(struct cpu *c, struct jit_page *p)
{
    page_unlink(c, p);
    for (struct jit_code *k = p->codes; k; k = k->next)
        k->block->code = NULL;
    p->codes = NULL;
    c->stats.code_killed++;
    if (cpu_traces(TRACE_CODE))
        cpu_trace_code(c, p->gpa, "its page's translations go");
    c->j.site = NULL;
}

/* The crossing for (b), whose second page is where (f) says. NULL: no room. */
static struct jit_page *crossing_get(struct cpu *c, const struct block *b,
                                     const struct tlb_fetch *f)
{
    gpa_t gpa2 = f->gpa & PAGE_MASK;
    struct jit_page *first = page_get(c, b->gpa & PAGE_MASK), *second = page_get(c, gpa2), *p;

    p = first && second ? page_get(c, b->gpa) : NULL;
    if (!p || (p->slot2 && p->gpa2 == gpa2))
        return p;
    if (p->slot2) {
        page_kill(c, p);
        crossing_remove(p, page_find(c->jit, p->gpa2), 1);
    } else {
        crossing_add(p, first, 0);
    }
    crossing_add(p, second, 1);
    p->slot2 = f->slot;
    p->gpa2 = gpa2;
    p->recheck = c->recheck_epoch - 1;
    return p;
}

static bool crossing_holds(const struct block *b, const u8 *host2)
{
    unsigned head = (unsigned)(PAGE_SIZE - b->off);

    return !memcmp(b->bytes, b->host, head) && !memcmp(b->bytes + head, host2, b->len - head);
}

/* page_current() of a crossing; whether (b) itself is what memory holds counts as well. */
static bool crossing_current(struct cpu *c, struct jit_page *p, const struct block *b)
{
    struct mem_page *second = mem_slot_page(p->slot2, p->gpa2);
    const u8 *host2 = mem_slot_hva(p->slot2, p->gpa2);
    bool holds;

    if (likely(p->recheck == c->recheck_epoch && p->gen == atomic_load(&b->page->gen) &&
               p->gen2 == atomic_load(&second->gen)))
        return true;
    if (mem_page_hot(b->page) || mem_page_hot(second)) {
        page_kill(c, p);
        return false;
    }
    p->gen = mmu_mark_code(c, b->slot, b->gpa, (unsigned)(PAGE_SIZE - b->off));
    p->gen2 = mmu_mark_code(c, p->slot2, p->gpa2, INSN_MAX_LEN);
    p->recheck = c->recheck_epoch;
    holds = crossing_holds(b, host2);
    for (struct jit_code *k = p->codes; k; k = k->next)
        holds = holds && crossing_holds(k->block, host2);
    if (!holds)
        page_kill(c, p);
    return holds;
}

/* Are all translations of (p), which (b) belongs to, what memory holds? If not they go. */
static bool page_current(struct cpu *c, struct jit_page *p, const struct block *b)
{
    u32 gen;

    if (p->slot2)
        return crossing_current(c, p, b);

    if (likely(p->recheck == c->recheck_epoch &&
               p->gen == atomic_load_explicit(&b->page->gen, memory_order_acquire)))
        return true;
    do {
        gen = atomic_load(&b->page->gen);
        for (struct jit_code *k = p->codes; k; k = k->next) {
            if (mem_page_hot(b->page) || !block_revalidate(c, k->block)) {
                page_kill(c, p);
                p->gen = b->gen;
                p->recheck = b->recheck;
                return false;
            }
        }
    } while (gen != atomic_load(&b->page->gen));
    p->gen = gen;
    p->recheck = c->recheck_epoch;
    return true;
}

/* The page or crossing that translations of (b) belong to. False: not now. (*ret): NULL when there is no room. */
static bool place_get(struct cpu *c, const struct block *b, struct jit_page **ret)
{
    struct tlb_fetch *f;

    if (!b->crosses) {
        *ret = page_get(c, b->gpa & PAGE_MASK);
        return true;
    }
    if (mmu_fetch(c, (c->rip & PAGE_MASK) + PAGE_SIZE, &f)) {
        c->exc.pending = false;
        c->exit = CPU_EXIT_NONE;
        return false;
    }
    if (mem_page_hot(b->page) || mem_page_hot(mem_slot_page(f->slot, f->gpa & PAGE_MASK)))
        return false;
    *ret = crossing_get(c, b, f);
    if (*ret)
        (*ret)->recheck =
            c->recheck_epoch - 1; /* (b) was compared without a mark on its second page */
    return true;
}

/* Translate (*block). False: it is not hot, or there was no room, and then all translations have gone. */
static bool translate(struct cpu *c, struct block **block)
{
    struct block *b = *block;
    struct timespec from, to;
    struct jit_page *p;

    if (++b->heat < (c->jit->lockstep ? 1 : HOT) || b->careful)
        return false;
    if (!block_extend(c, block, c->jit->insn))
        return false;
    c->jit->insn_of = *block != b && !(*block)->crosses ? *block : NULL;
    b = *block;
    if (!place_get(c, b, &p))
        return false;
    if (p && !page_current(c, p, b))
        return false;
    clock_gettime(CLOCK_MONOTONIC, &from);
    b->code = p ? jit_translate(c, b, p) : NULL;
    clock_gettime(CLOCK_MONOTONIC, &to);
    c->stats.translate_ns +=
        (u64)(to.tv_sec - from.tv_sec) * 1000000000 + (u64)to.tv_nsec - (u64)from.tv_nsec;
    if (!b->code) {
        discard(c);
        return false;
    }
    b->code->next = p->codes;
    p->codes = b->code;
    c->stats.translated++;
    if (cpu_traces(TRACE_TRANSLATE))
        cpu_trace_translate(c, b->code);
    perfmap_add(c, b->code);
    return true;
}

/* Link the exit that was just taken to (b), if that is where it led and nothing has come between. */
static void link_exit(struct cpu *c, struct jit_site *s, const struct block *b)
{
    const struct jit_code *to = b->code, *from = s->from;
    struct jit *j = c->jit;

    if (c->rip != j->target || from->block->key != b->key)
        return;
    if (s->epoch_at) {
        bool global = from->page->global && to->page->global;

        if (global ? from->page->global_epoch != c->global_epoch
                   : from->page->lin_epoch != c->link_epoch)
            return;
        asm_gs_again32(&j->hot, s->epoch_at, global ? GS(global_epoch) : GS(link_epoch),
                       global ? c->global_epoch : c->link_epoch);
    } else if (from->page != to->page) {
        return;
    }
    asm_patch(j->hot.rw, s->at, to->entry[s->entry]);
    site_lead(s, from->page == to->page ? NULL : to->page);
    c->stats.code_links++;
}

/* (p) is about to be entered at linear page (lin). False: it cannot be fetched from after all. */
static bool page_locate(struct cpu *c, struct jit_page *p, u64 lin)
{
    struct tlb_fetch *f;
    bool global;

    if (p->lin == lin && p->lin_epoch == c->link_epoch)
        return true;
    if (p->lin == lin && p->global && p->global_epoch == c->global_epoch) {
        p->lin_epoch = c->link_epoch;
        return true;
    }
    if (mmu_fetch(c, c->rip, &f))
        goto fault;
    global = lin >> 63 && f->gpa & TLB_GLOBAL;
    if (p->slot2) {
        if (mmu_fetch(c, lin + PAGE_SIZE, &f))
            goto fault;
        global &= (f->gpa & TLB_GLOBAL) != 0;
        if ((f->gpa & PAGE_MASK) != p->gpa2) {
            page_kill(c, p);
            return false;
        }
    }
    if (p->lin != lin && (p->lin_epoch == c->link_epoch || p->global_epoch == c->global_epoch))
        tlb_unlink(c);
    p->lin = lin;
    p->lin_epoch = c->link_epoch;
    p->global_epoch = c->global_epoch;
    p->global = global;
    return true;

fault:
    c->exc.pending = false;
    c->exit = CPU_EXIT_NONE;
    return false;
}

/* Have the code of (b), at c->rip, found by jumps. */
static void jump_insert(struct cpu *c, const struct block *b)
{
    if (c->tlb != c->tlbs[TLB_USER] && !b->code->page->global)
        return;
    tlb_jump_set(c->tlb, c->rip, c->jit->rx + b->code->entry[JIT_MEM]);
}

bool jit_ready(struct cpu *c, struct block **block)
{
    struct jit_site *s = c->j.site;
    struct block *b = *block;
    struct jit_page *p;
    u64 lin = c->rip & PAGE_MASK;

    c->j.site = NULL;
    if (c->mode != MODE_64 || c->tlb == c->tlbs[TLB_USER_AC])
        return false;
    if (!b->code && !translate(c, block))
        return false;
    b = *block;
    p = b->code->page;
    if (unlikely(!page_current(c, p, b)))
        return false;
    if (!page_locate(c, p, lin))
        return false;
    if (unlikely(c->jit->lockstep))
        return true;
    if (s)
        link_exit(c, s, b);
    jump_insert(c, b);
    return true;
}

/* A direct branch out of the canonical range faults where it is. */
static int branch_fault(struct cpu *c, const struct jit_site *s, const struct insn **ret)
{
    const struct block *b = s->from->block;

    for (const struct insn *in = b->insn; in < b->insn + b->count; in++) {
        if (in->off == s->insn_off)
            *ret = in;
    }
    if (s->call)
        c->r[REG_RSP] += 8;
    c->j.site = NULL;
    return cpu_raise_gp(c);
}

/* Translated code that was entered at (from) has come back: why? */
static void count_exit(struct cpu *c, u64 from)
{
    static const char *const names[JIT_LEFT_COUNT] = {
        [JIT_LEFT_LINK] = "the exit is not linked",
        [JIT_LEFT_JUMP] = "no translation is known there, or the instruction needs the run loop",
        [JIT_LEFT_REQUEST] = "a request",
        [JIT_LEFT_FAULT] = "an exception",
        [JIT_LEFT_BUS] = "the bus",
        [JIT_LEFT_REPEAT] = "a REP goes on",
        [JIT_LEFT_STOP] = "a store to code or to a device",
    };
    enum jit_left why = JIT_LEFT_STOP;

    if (c->j.rc == OP_END)
        why = c->j.site                                                 ? JIT_LEFT_LINK
              : atomic_load_explicit(&c->request, memory_order_relaxed) ? JIT_LEFT_REQUEST
                                                                        : JIT_LEFT_JUMP;
    else if (c->j.rc == OP_FAULT)
        why = JIT_LEFT_FAULT;
    else if (c->j.rc == OP_EXIT)
        why = JIT_LEFT_BUS;
    else if (c->j.rc == OP_AGAIN)
        why = JIT_LEFT_REPEAT;
    c->stats.left[why]++;
    if (cpu_traces(TRACE_EXIT))
        cpu_trace_exit(c, from, c->j.rc == OP_END ? c->rip : insn_rip(c, c->j.insn), names[why]);
}

int jit_run(struct cpu *c, struct block *b, const struct insn **in)
{
    return unlikely(c->jit->lockstep) ? lockstep_run(c, b, in) : jit_enter(c, b, in);
}

int jit_enter(struct cpu *c, struct block *b, const struct insn **in)
{
    struct jit *j = c->jit;
    void (*enter)(void) = (void (*)(void))(uintptr_t)(j->rx + j->glue.enter);
    struct jit_site *s;
    u64 from = c->rip;

    c->r[REG_IPBASE] = c->rip - b->off;
    c->j.enter_at = j->rx + b->code->entry[JIT_MEM];
    c->j.site = NULL;
    c->stats.code_runs++;
    enter();
    *in = c->j.insn;
    count_exit(c, from);
    if (c->j.rc != OP_END) {
        c->j.site = NULL;
        return c->j.rc;
    }
    s = c->j.site;
    j->target = c->rip;
    if (unlikely(s && s->branch && (u64)((s64)(c->rip << 16) >> 16) != c->rip))
        return branch_fault(c, s, in);
    return OP_END;
}
