// SPDX-License-Identifier: MIT
// What the TLB is given besides the page that was missed, and runs over many pages, against the page tables' own word.

/*
 * Each round makes page tables for 8 MiB at random: pages in order and out of order, read-only, unread, clean, absent,
 * supervisor's, of code, and now and then a large page. Then loads, stores and refills at random must leave nothing in the
 * first level that these tables do not allow, and mmu_run() must say what a walk page by page says.
 */

#include "cpu/interp/block.h"
#include "cpu/mmu/stlb.h"
#include "rand.h"
#include "paged_cpu.h"

#define REGIONS 4
#define PAGES   (REGIONS * 512)
#define LIN     0x7f0000000000ull

#define ROOT   0x1000
#define PDPT   0x2000
#define PD     0x3000
#define TABLE  0x4000       /* REGIONS of them */
#define MEMORY 0x1000000ull /* where pages lie: 32 MiB */

static u64 *entry(gpa_t table, u64 n)
{
    return (u64 *)(ram + table) + n;
}

/* What the tables say of page (n): an entry as for 4 KiB. */
static u64 leaf(u64 n)
{
    u64 pde = *entry(PD, n / 512);

    return pde & PS ? (pde & ~(BIT(21) - 1) & ~PS) + (n % 512 << PAGE_SHIFT) + (pde & 0xfff & ~PS)
                    : *entry(TABLE + (n / 512 << PAGE_SHIFT), n % 512);
}

/* Flags of a page: mostly everything. */
static u64 random_flags(void)
{
    static const u64 lacks[] = {P, W, U, A, D};
    u64 flags = P | W | U | A | D;

    return rnd() % 24 ? flags : flags & ~lacks[rnd() % ARRAY_SIZE(lacks)];
}

static void make_tables(void)
{
    gpa_t next = MEMORY, large = MEMORY + (rnd() % 12 << 21);

    *entry(ROOT, LIN >> 39 & 511) = PDPT | P | W | U | A;
    *entry(PDPT, LIN >> 30 & 511) = PD | P | W | U | A;
    for (u64 r = 0; r < REGIONS; r++) {
        gpa_t table = TABLE + (r << PAGE_SHIFT);

        *entry(PD, r) = table | P | (rnd() % 8 ? W : 0) | U | A;
        if (rnd() % 4 == 0)
            *entry(PD, r) = (large + (r << 21)) | (rnd() % 2 ? A | P : random_flags()) | PS;
        for (u64 i = 0; i < 512; i++) {
            if (i == 480) /* run into a large page that may follow */
                next = large + ((r + 1) << 21) - (32 << PAGE_SHIFT);
            else if (rnd() % 16 == 0)
                next = MEMORY + (rnd() % 8000 << PAGE_SHIFT);
            *entry(table, i) = next | random_flags();
            next += PAGE_SIZE;
        }
    }
}

static bool allowed(u64 n, bool write)
{
    u64 pte = leaf(n), above = *entry(PD, n / 512) & PS ? pte : *entry(PD, n / 512);
    u64 need = P | A | (c->cpl == 3 ? U : 0) | (write ? D | W : 0);
    gpa_t gpa = pte & GENMASK(51, 12);
    struct mem_slot *s = mem_slot_find(mem, gpa);

    return n < PAGES && (pte & need) == need && (!write || above & W) &&
           (!write || !atomic_load(&mem_slot_page(s, gpa)->code_lines));
}

static u8 *host(u64 n)
{
    return ram + (leaf(n) & GENMASK(51, 12));
}

/* Every valid entry of the first level, against the tables. */
static bool first_level_right(void)
{
    for (unsigned write = 0; write < 2; write++) {
        for (u64 i = 0; i < TLB_SIZE; i++) {
            const struct tlb_entry *e = &(write ? c->tlb->w : c->tlb->r)[i];
            u64 n = (e->tag - LIN) >> PAGE_SHIFT;

            if (e->tag == tlb_invalid((unsigned)i))
                continue;
            if (n >= PAGES || !allowed(n, write) || (u8 *)e->host != host(n)) {
                printf("# page %llu, %s\n", (unsigned long long)n, write ? "stores" : "loads");
                return false;
            }
        }
    }
    return true;
}

/* What mmu_run() must return where everything is known, and may return at most. */
static u64 run_by_pages(u64 lin, u64 limit, bool write)
{
    u64 n = (lin - LIN) >> PAGE_SHIFT, len = PAGE_SIZE - (lin & ~PAGE_MASK);
    u8 *at = host(n);

    if (!allowed(n, write))
        return 0;
    while (len < limit && n + 1 < PAGES && allowed(n + 1, write) && host(n + 1) == at + PAGE_SIZE) {
        at += PAGE_SIZE;
        len += PAGE_SIZE;
        n++;
    }
    return len < limit ? len : limit;
}

static void touch(u64 lin)
{
    u8 v;

    if (mmu_ld8(c, lin, &v, 0))
        c->exc.pending = false;
}

/* Loads here and there make page tables and large pages known. */
static void warm(void)
{
    for (u64 r = 0; r < REGIONS; r++) {
        for (u64 i = 0; i < 512; i++) {
            if (allowed(r * 512 + i, false)) {
                touch(LIN + ((r * 512 + i) << PAGE_SHIFT));
                break;
            }
        }
    }
}

static void new_round(void)
{
    make_tables();
    c->cpl = rnd() % 2 ? 3 : 0;
    cpu_mode_update(c);
    tlb_flush(c);
    for (unsigned i = 0; i < 8; i++) {
        gpa_t gpa = MEMORY + (rnd() % 8192 << PAGE_SHIFT);
        struct mem_slot *s = mem_slot_find(mem, gpa);

        atomic_store(&mem_slot_page(s, gpa)->code_lines, rnd() % 2);
    }
    warm();
}

static void test_refills(void)
{
    u64 at = 0, filled = 0;
    bool right = true;

    for (unsigned round = 0; round < 200 && right; round++) {
        new_round();
        for (unsigned i = 0; i < 300 && right; i++) {
            at = rnd() % 4 ? at + 1 : rnd();
            at %= PAGES;
            if (mmu_refill(c, LIN + (at << PAGE_SHIFT), rnd() % 2))
                filled++;
        }
        right = first_level_right();
    }
    ok(right && filled > 1000,
       "refills, and what they bring along, are what the page tables allow");
}

static void test_runs(void)
{
    u64 total = 0, longest = 0;
    bool right = true;

    for (unsigned round = 0; round < 400 && right; round++) {
        new_round();
        for (unsigned i = 0; i < 50 && right; i++) {
            u64 lin = LIN + rnd() % (PAGES * PAGE_SIZE), limit = 1 + rnd() % (4u << 20), want, got;
            bool write = rnd() % 2;
            u8 *at = NULL;

            want = run_by_pages(lin, limit, write);
            got = mmu_run(c, lin, limit, write, &at);
            right =
                got == want && (!got || at == host((lin - LIN) >> PAGE_SHIFT) + (lin & ~PAGE_MASK));
            if (!right)
                printf("# %llx, %llu bytes: %llu, and by pages %llu\n", (unsigned long long)lin,
                       (unsigned long long)limit, (unsigned long long)got,
                       (unsigned long long)want);
            total += got;
            longest = got > longest ? got : longest;
        }
        right &= first_level_right();
    }
    ok(right, "runs are as long as walks page by page say");
    ok(longest > BIT(21), "… also past 2 MiB");
}

/* A first level that knows the page before brings the next ones, and only then. */
static void test_ahead(void)
{
    new_round();
    for (u64 i = 0; i < 512; i++)
        *entry(TABLE, i) = (MEMORY + (i << PAGE_SHIFT)) | P | W | U | A | D;
    *entry(PD, 0) = TABLE | P | W | U | A;
    memset(mem_slot_page(mem_slot_find(mem, MEMORY), MEMORY), 0, 512 * sizeof(struct mem_page));
    tlb_flush(c);
    touch(LIN);
    ok(mmu_refill(c, LIN + 0x8000, false) && !mmu_peek(c, LIN + 0x9000, 8, false),
       "a page off any other comes alone");
    ok(mmu_refill(c, LIN + 0x1000, false) && mmu_peek(c, LIN + 0x5000, 8, false) &&
           !mmu_peek(c, LIN + 0x5000, 8, true),
       "the page behind one that is known brings some more, for loads");
    for (u64 i = 9; i < 18; i++)
        mmu_refill(c, LIN + (i << PAGE_SHIFT), false);
    ok(mmu_peek(c, LIN + 0x30000, 8, false) && !mmu_peek(c, LIN + 0x32000, 8, false),
       "… and many more after a while");
    ok(mmu_refill(c, LIN + 0x60000, true) && mmu_refill(c, LIN + 0x61000, true) &&
           mmu_peek(c, LIN + 0x62000, 8, true) && !mmu_peek(c, LIN + 0x62000, 8, false),
       "… or for stores");
}

int main(void)
{
    if (!paged_open(true))
        return 1;
    for (gpa_t at = 0; at < RAM_SIZE; at += BIT(MEM_CHUNK_SHIFT))
        mem_populate(mem_slot_find(mem, at), at);
    c->cr0 = CR0_PE | CR0_ET | CR0_PG | CR0_WP;
    c->cr4 = CR4_PAE;
    c->efer = EFER_LME | EFER_LMA | EFER_NXE;
    c->cr3 = ROOT;
    c->rflags = BIT(1);
    c->seg[SEG_CS].ar = SEG_AR_P | SEG_AR_S | SEG_AR_L | 0xb;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
    test_refills();
    test_runs();
    test_ahead();
    paged_close();
    return tap_done();
}
