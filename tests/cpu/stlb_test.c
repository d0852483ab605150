// SPDX-License-Identifier: MIT
// The second-level TLB: what it keeps over a switch of PCIDs, and what invalidations take out of it. SDM 3A 4.10.4.

/*
 * Whether a translation is cached shows in the way it does on hardware: the page tables are changed behind the
 * CPU's back, and a load then reads through the old entry or the new one. What must not be cached is always
 * checked; that something is kept is checked where the point of the second level is to keep it.
 */

#include "cpu/interp/block.h"
#include "cpu/mmu/stlb.h"
#include "paged_cpu.h"

#define NOFLUSH BIT(63)
#define CODE    0x9000ull     /* instructions run from here, in every address space */
#define LIN     0x40001000ull /* through the page table of its own 2 MiB */
#define REGION  0x80000000ull
#define BIG     (REGION + 0x600000) /* a large page */
#define OLD     0x1000000ull        /* where they lead: 0x11 is read there, */
#define NEW     0x1400000ull        /* 0x22 there */

/* Address space (n): its root. The page table of LIN is 0x3000 after it. */
static gpa_t root(unsigned n)
{
    return 0x100000ull + n * 0x10000ull;
}
static gpa_t leaf(unsigned n)
{
    return root(n) + 0x3000 + 8 * (LIN >> 12 & 511);
}
static gpa_t big_leaf(unsigned n)
{
    return root(n) + 0x4000 + 8 * (BIG >> 21 & 511);
}

static void make_space(unsigned n, u64 flags)
{
    gpa_t r = root(n);

    memset(ram + r, 0, 0x10000);
    put64(r, (r + 0x1000) | P | W | U);
    put64(r + 0x1000, (r + 0x5000) | P | W | U); /* identity for CODE */
    put64(r + 0x5000, PS | P | W);
    put64(r + 0x1000 + 8 * (LIN >> 30), (r + 0x2000) | P | W | U);
    put64(r + 0x2000 + 8 * (LIN >> 21 & 511), (r + 0x3000) | P | W | U);
    put64(r + 0x1000 + 8 * (BIG >> 30), (r + 0x4000) | P | W | U);
    put64(leaf(n), OLD | flags | A);
    put64(big_leaf(n), OLD | flags | A | PS);
}

static void setup(u64 flags)
{
    make_space(0, flags);
    make_space(1, flags);
    c->cr0 = CR0_PE | CR0_ET | CR0_PG | CR0_WP;
    c->cr4 = CR4_PAE | CR4_PGE | CR4_PCIDE;
    c->efer = EFER_LME | EFER_LMA | EFER_NXE;
    c->cr3 = root(0);
    c->cpl = 0;
    c->rflags = BIT(1);
    c->exc.pending = false;
    c->seg[SEG_CS].ar = SEG_AR_P | SEG_AR_S | SEG_AR_L | 0xb;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
}

/* Execute (bytes), one instruction that must not fault. */
static void run(const void *bytes, size_t n)
{
    memcpy(ram + CODE, bytes, n);
    mem_written(mem, CODE, n);
    cpu_request(c, CPU_REQ_RECHECK);
    c->rip = CODE;
    cpu_world_leave(c);
    cpu_step(c);
    cpu_world_enter(c);
    if (c->rip != CODE + n)
        ok(false, "the instruction %02x %02x %02x runs", ((const u8 *)bytes)[0],
           ((const u8 *)bytes)[1], ((const u8 *)bytes)[2]);
}
#define RUN(...) run((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void load_cr3(u64 val)
{
    c->r[REG_RAX] = val;
    RUN(0x0f, 0x22, 0xd8);
}

static void load_cr4(u64 val)
{
    c->r[REG_RAX] = val;
    RUN(0x0f, 0x22, 0xe0);
}

static void invlpg(u64 lin)
{
    c->r[REG_RAX] = lin;
    RUN(0x0f, 0x01, 0x38);
}

static void invpcid(u64 type, u64 pcid, u64 lin)
{
    put64(CODE + 0x800, pcid);
    put64(CODE + 0x808, lin);
    c->r[REG_RAX] = type;
    c->r[REG_RCX] = CODE + 0x800;
    RUN(0x66, 0x0f, 0x38, 0x82, 0x01);
}

/* The byte at (lin) as the guest reads it; 0: the load faults. */
static u8 peek(u64 lin)
{
    u8 v = 0;

    if (mmu_ld8(c, lin, &v, 0))
        v = 0;
    c->exc.pending = false;
    return v;
}

/* After loads have made it known, entry (n) leads elsewhere. */
static void warm_and_change(unsigned n, u64 flags)
{
    peek(LIN);
    peek(BIG);
    put64(leaf(n), NEW | flags | A);
    put64(big_leaf(n), NEW | flags | A | PS);
}

static void expect(u8 lin, u8 big, const char *what)
{
    u8 l = peek(LIN), b = peek(BIG);

    if (!ok(l == lin && b == big, "%s", what))
        printf("# read %x and %x\n", l, b);
}

static void test_cr3(void)
{
    setup(P | W);
    warm_and_change(0, P | W);
    load_cr3(root(1) | 1);
    expect(0x11, 0x11, "another PCID has its own translations");
    load_cr3(root(0) | NOFLUSH);
    expect(0x11, 0x11, "a PCID's are kept until it comes back");
    load_cr3(root(0));
    expect(0x22, 0x22, "CR3 without bit 63 drops them");

    setup(P | W);
    load_cr3(root(1) | 1);
    warm_and_change(1, P | W);
    load_cr3(root(0));
    load_cr3(root(1) | 1 | NOFLUSH);
    expect(0x11, 0x11, "CR3 without bit 63 drops those of its own PCID alone");
    load_cr3(root(0) | NOFLUSH);
    load_cr3(root(1) | 1);
    expect(0x22, 0x22, "… also on the way to it");

    setup(P | W | G);
    warm_and_change(0, P | W | G);
    load_cr3(root(0));
    expect(0x11, 0x11, "global pages stay");
    load_cr3(root(1) | 1);
    expect(0x11, 0x11, "… for all PCIDs");
}

static void test_invlpg(void)
{
    setup(P | W);
    warm_and_change(0, P | W);
    invlpg(LIN + 0xfff);
    expect(0x22, 0x11, "INVLPG: a page of 4 KiB");
    invlpg(BIG + 0x1ff000);
    expect(0x22, 0x22, "INVLPG: a large page, by any of its addresses");

    setup(P | W | G);
    warm_and_change(0, P | W | G);
    load_cr3(root(0) | 1);
    invlpg(LIN);
    invlpg(BIG);
    expect(0x22, 0x22, "INVLPG: global pages, in whatever PCID");

    setup(P | W);
    warm_and_change(0, P | W);
    load_cr3(root(1) | 1);
    invlpg(LIN);
    load_cr3(root(0) | NOFLUSH);
    expect(0x11, 0x11, "INVLPG: not in another PCID");

    setup(P | W);
    put64(root(0) + 0x1000 + 8 * (BIG >> 30), P | W | A | PS);
    is_u64(peek(REGION + OLD), 0x11, "a page of 1 GiB");
    is_u64(peek(REGION + NEW), 0x22, "… and another piece of it");
    put64(root(0) + 0x1000 + 8 * (BIG >> 30), BIT(30) | P | W | A | PS);
    invlpg(BIG);
    ok(peek(REGION + OLD) == 0xee && peek(REGION + NEW) == 0xee,
       "INVLPG: all pieces of a page of 1 GiB");
}

static void test_invpcid(void)
{
    setup(P | W);
    load_cr3(root(1) | 1);
    warm_and_change(1, P | W);
    load_cr3(root(0) | NOFLUSH);
    invpcid(0, 1, LIN);
    load_cr3(root(1) | 1 | NOFLUSH);
    expect(0x22, 0x11, "INVPCID 0: one page of another PCID");

    setup(P | W | G);
    warm_and_change(0, P | W | G);
    invpcid(0, 0, LIN);
    invpcid(1, 0, 0);
    invpcid(3, 0, 0);
    expect(0x11, 0x11, "INVPCID 0, 1, 3: not global pages");
    invpcid(2, 0, 0);
    expect(0x22, 0x22, "INVPCID 2: those too");

    setup(P | W);
    load_cr3(root(1) | 1);
    warm_and_change(1, P | W);
    load_cr3(root(0) | NOFLUSH);
    warm_and_change(0, P | W);
    invpcid(1, 1, 0);
    expect(0x11, 0x11, "INVPCID 1: not the current PCID");
    load_cr3(root(1) | 1 | NOFLUSH);
    expect(0x22, 0x22, "INVPCID 1: the one that it names");
    load_cr3(root(0) | NOFLUSH);
    invpcid(3, 0, 0);
    expect(0x22, 0x22, "INVPCID 3: all");
}

static void test_cr4(void)
{
    setup(P | W | G);
    warm_and_change(0, P | W | G);
    load_cr4(c->cr4 & ~CR4_PGE);
    expect(0x22, 0x22, "CR4.PGE off: global pages go");

    setup(P | W);
    warm_and_change(0, P | W);
    load_cr4(c->cr4 & ~CR4_PCIDE);
    expect(0x22, 0x22, "CR4.PCIDE off: everything goes");
}

static void test_dirty(void)
{
    setup(P | W);
    peek(LIN);
    load_cr3(root(1) | 1);
    load_cr3(root(0) | NOFLUSH);
    ok(mmu_st8(c, LIN + 8, 1, 0) == OP_NEXT && get64(leaf(0)) & D,
       "a store through an entry that a load has made sets D");
    load_cr3(root(1) | 1);
    load_cr3(root(0) | NOFLUSH);
    put64(leaf(0), get64(leaf(0)) & ~D);
    ok(mmu_st8(c, LIN + 8, 1, 0) == OP_NEXT && !(get64(leaf(0)) & D), "… once: the entry knows");
    invlpg(LIN);
    ok(mmu_st8(c, LIN + 8, 1, 0) == OP_NEXT && get64(leaf(0)) & D, "… and again after INVLPG");
}

/* The way of translated code, which ends where anything but an entry is needed. */
static void test_refill(void)
{
    setup(P | W | U);
    ok(!mmu_refill(c, LIN, false), "refill: nothing is known");
    peek(LIN);
    ok(!mmu_refill(c, LIN, false), "refill: it was no miss");
    ok(!mmu_refill(c, LIN, true), "refill: D is not set");
    mmu_st8(c, LIN + 8, 1, 0);
    load_cr3(root(1) | 1);
    load_cr3(root(0) | NOFLUSH);
    ok(!mmu_peek(c, LIN, 8, true) && mmu_refill(c, LIN, true) && mmu_peek(c, LIN, 8, true),
       "refill: a store's entry comes from the second level");
    ok(mmu_peek(c, LIN, 8, false) != NULL, "… and brings a load's");
    put64(leaf(0) + 8, NEW | P | W | U);
    put64(leaf(0) + 56, NEW | P | W | U | A);
    peek(LIN + 0x1000);
    ok(mmu_refill(c, LIN + 0x7000, false) && *(u8 *)mmu_peek(c, LIN + 0x7000, 1, false) == 0x22,
       "refill: a neighbour comes from the page table");
    put64(leaf(0) + 16, NEW | P | W | U);
    ok(!mmu_refill(c, LIN + 0x2000, false) && !(get64(leaf(0) + 16) & A),
       "refill: not with A clear");
    put64(leaf(0) + 24, NEW | P | W | U | A | BIT(51));
    ok(!mmu_refill(c, LIN + 0x3000, false), "refill: not with a reserved bit");
    put64(leaf(0) + 32, NEW | P | U | A | D);
    ok(!mmu_refill(c, LIN + 0x4000, true), "refill: not a store to a read-only page");
    put64(leaf(0) + 40, RAM_SIZE | P | W | U | A | D);
    ok(!mmu_refill(c, LIN + 0x5000, false), "refill: not what is no RAM");
    invlpg(BIG);
    put64(leaf(0) + 48, NEW | P | W | U | A);
    ok(!mmu_refill(c, LIN + 0x6000, false), "refill: any INVLPG forgets page tables");

    c->cr4 |= CR4_SMAP;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
    c->rflags |= RFLAGS_AC;
    cpu_mode_update(c);
    peek(LIN);
    c->rflags &= ~RFLAGS_AC;
    cpu_mode_update(c);
    ok(!mmu_refill(c, LIN, false) && !peek(LIN),
       "SMAP: what AC has made known is not for code without");
    c->cpl = 3;
    cpu_mode_update(c);
    ok(mmu_refill(c, LIN, false), "… but for user code");
    put64(leaf(0), OLD | P | W | A);
    c->cpl = 0;
    cpu_mode_update(c);
    invlpg(LIN);
    peek(LIN);
    c->cpl = 3;
    cpu_mode_update(c);
    ok(!mmu_refill(c, LIN, false) && !peek(LIN), "a supervisor's page is not for user code");
}

static void test_stack_window(void)
{
    struct tlb_window *w = &c->tlbs[TLB_KERNEL]->stack;

    setup(P | W);
    mmu_st8(c, LIN + 8, 1, 0);
    ok(mmu_refill_stack(c, LIN + 16, true) && w->base == LIN && w->limit_w && w->limit_r,
       "the stack window moves");
    ok(!mmu_refill_stack(c, LIN + 0xffc, true), "… once: the rest crosses the page's end");
    invlpg(LIN);
    ok(!w->limit_w && !w->limit_r, "INVLPG closes it");
}

int main(void)
{
    if (!paged_open(true))
        return 1;
    memset(ram + OLD, 0x11, BIT(21));
    memset(ram + NEW, 0x22, BIT(21));
    test_cr3();
    test_invlpg();
    test_invpcid();
    test_cr4();
    test_dirty();
    test_refill();
    test_stack_window();
    paged_close();
    return tap_done();
}
