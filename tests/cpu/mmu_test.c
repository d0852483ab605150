// SPDX-License-Identifier: MIT
// Page-table walks in every paging form: translations, rights, error codes, A and D bits.

#include "cpu/mmu/walk.h"
#include "paged_cpu.h"

#define ROOT 0x10000ull

static void put32(gpa_t at, u32 v) { memcpy(ram + at, &v, 4); }

static void control(u64 cr0, u64 cr4, u64 efer, u64 cr3)
{
    c->cr0 = cr0 | CR0_PE | CR0_ET;
    c->cr4 = cr4;
    c->efer = efer;
    c->cr3 = cr3;
    c->cpl = 0;
    c->rflags = BIT(1);
    c->exc.pending = false;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
}

/* 4-level tables: leaf entry for the 4 KiB page at linear 0x7000_1000 + n pages. */
#define PT4 (ROOT + 0x3000)
#define LIN 0x70001000ull
static void tables_4level(u64 upper)
{
    memset(ram + ROOT, 0, 0x4000);
    put64(ROOT, (ROOT + 0x1000) | upper);
    put64(ROOT + 0x1000 + 8 * (LIN >> 30 & 511), (ROOT + 0x2000) | upper);
    put64(ROOT + 0x2000 + 8 * (LIN >> 21 & 511), PT4 | upper);
}
static gpa_t leaf4(u64 lin) { return PT4 + 8 * (lin >> 12 & 511); }

static void expect_ok(u64 lin, unsigned acc, gpa_t gpa, const char *what)
{
    struct walk w = {0};
    int rc = mmu_walk(c, lin, acc, &w);

    ok(rc == OP_NEXT && w.gpa == gpa, "%s", what);
    if (rc != OP_NEXT || w.gpa != gpa)
        printf("# rc %d, gpa %llx, vector %u error %x\n", rc, (unsigned long long)w.gpa,
               c->exc.vector, c->exc.error);
    c->exc.pending = false;
}

static void expect_fault(u64 lin, unsigned acc, u8 vector, u32 error, const char *what)
{
    struct walk w;
    int rc = mmu_walk(c, lin, acc, &w);
    bool same = rc == OP_FAULT && c->exc.vector == vector && c->exc.error == error &&
                (vector != EXC_PF || c->exc.payload == lin);

    if (!ok(same, "%s", what))
        printf("# rc %d, vector %u, error %x, address %llx\n", rc, c->exc.vector, c->exc.error,
               (unsigned long long)c->exc.payload);
    c->exc.pending = false;
}

static void test_no_paging(void)
{
    control(0, 0, 0, 0);
    expect_ok(0x12345, MMU_READ, 0x12345, "no paging: identity");
    expect_ok(0x100000000ull + 0x77, MMU_WRITE, 0x77, "no paging: 32 address bits");
}

static void test_32bit(void)
{
    control(CR0_PG | CR0_WP, CR4_PSE, 0, ROOT);
    memset(ram + ROOT, 0, 0x2000);
    put32(ROOT + 4, (u32)((ROOT + 0x1000) | P | W | U));
    put32(ROOT + 0x1000 + 4 * 5, 0x00200000 | P | W);
    put32(ROOT + 4 * 2, 0x00c00000 | P | W | PS);
    put32(ROOT + 4 * 3, 0x00c00000 | BIT(13) | P | W | PS);
    put32(ROOT + 4 * 4, 0x00c00000 | BIT(21) | P | PS);
    expect_ok(0x405123, MMU_WRITE, 0x200123, "32-bit: 4 KiB page");
    is_u64(get64(ROOT + 0x1000 + 4 * 5) & 0xfff, P | W | A | D, "32-bit: A and D set");
    expect_ok(0x923456, MMU_READ, 0xd23456, "32-bit: 4 MiB page");
    expect_ok(0xc00010, MMU_READ, 0x100c00010ull, "32-bit: PSE-36 address bits");
    expect_fault(0x1000010, MMU_READ, EXC_PF, PF_P | PF_RSVD, "32-bit: reserved bit 21 of a large page");
    expect_fault(0x406000, MMU_WRITE, EXC_PF, PF_W, "32-bit: not present");
    c->cr4 = 0;
    cpu_mmu_changed(c);
    expect_fault(0x923456, MMU_READ, EXC_PF, 0, "32-bit: PS ignored without CR4.PSE");
}

static void test_pae(void)
{
    memset(ram + ROOT, 0, 0x4000);
    control(CR0_PG, CR4_PAE, EFER_NXE, ROOT);
    put64(ROOT + 8, (ROOT + 0x1000) | P);
    put64(ROOT + 0x1000, (ROOT + 0x2000) | P | W);
    put64(ROOT + 0x2000 + 8 * 7, 0x00300000 | P | W | XD);
    put64(ROOT + 0x1000 + 8, 0x00800000 | P | W | PS);
    ok(mmu_load_pdptes(c) == OP_NEXT, "PAE: PDPTEs load");
    expect_ok(0x40007abc, MMU_READ, 0x300abc, "PAE: 4 KiB page");
    expect_ok(0x402abcde, MMU_READ, 0x8abcde, "PAE: 2 MiB page");
    expect_fault(0x40007000, MMU_EXEC, EXC_PF, PF_P | PF_ID, "PAE: XD with NXE");
    expect_fault(0x7000, MMU_READ, EXC_PF, 0, "PAE: PDPTE not present");
    put64(ROOT, BIT(1) | P);
    ok(mmu_load_pdptes(c) == OP_FAULT && c->exc.vector == EXC_GP, "PAE: reserved bit in a PDPTE is #GP");
    c->exc.pending = false;
}

static void test_4level_forms(void)
{
    tables_4level(P | W | U);
    put64(leaf4(LIN), 0x400000 | P | W | U);
    put64(ROOT + 0x2000 + 8 * 10, 0x1000000 | P | W | PS);
    put64(ROOT + 0x1000 + 8 * 7, 0 | P | W | PS);
    control(CR0_PG | CR0_WP, CR4_PAE, EFER_LME | EFER_LMA | EFER_NXE, ROOT);
    expect_ok(LIN + 5, MMU_READ, 0x400005, "4-level: 4 KiB page");
    ok(get64(leaf4(LIN)) == (0x400000 | P | W | U | A), "4-level: a read sets A, not D");
    expect_ok(LIN + 5, MMU_WRITE, 0x400005, "4-level: write");
    ok(get64(leaf4(LIN)) == (0x400000 | P | W | U | A | D), "4-level: a write sets D");
    ok((get64(ROOT) & (A | D)) == A, "4-level: A in the PML4E");
    expect_ok((LIN & ~0x3fffffffull) + (10 << 21) + 0x12345, MMU_READ, 0x1012345, "4-level: 2 MiB page");
    expect_ok((7ull << 30) + 0x1234567, MMU_READ, 0x1234567, "4-level: 1 GiB page");
    expect_fault(0x800000000000ull, MMU_READ, EXC_GP, 0, "non-canonical: #GP");
    expect_fault(0x800000000000ull, MMU_READ | MMU_SS, EXC_SS, 0, "non-canonical in SS: #SS");
    expect_fault(LIN + 0x1000, MMU_READ, EXC_PF, 0, "4-level: not present");
    put64(leaf4(LIN + 0x2000), (1ull << 51) | P);
    expect_fault(LIN + 0x2000, MMU_READ, EXC_PF, PF_P | PF_RSVD, "4-level: address beyond MAXPHYADDR");
    put64(ROOT + 8, (ROOT + 0x1000) | P | PS);
    expect_fault(1ull << 39, MMU_READ, EXC_PF, PF_P | PF_RSVD, "4-level: PS in a PML4E is reserved");
    c->efer &= ~EFER_NXE;
    put64(leaf4(LIN + 0x3000), 0x400000 | P | XD);
    expect_fault(LIN + 0x3000, MMU_READ, EXC_PF, PF_P | PF_RSVD, "4-level: XD is reserved without NXE");
}

static void test_rights(void)
{
    const u64 efer = EFER_LME | EFER_LMA | EFER_NXE;

    tables_4level(P | W | U);
    put64(leaf4(LIN), 0x400000 | P | W | U);            /* user, writable */
    put64(leaf4(LIN + 0x1000), 0x401000 | P | U);       /* user, read-only */
    put64(leaf4(LIN + 0x2000), 0x402000 | P | W);       /* supervisor */
    put64(leaf4(LIN + 0x3000), 0x403000 | P | W | U | XD);

    control(CR0_PG | CR0_WP, CR4_PAE, efer, ROOT);
    expect_fault(LIN + 0x1000, MMU_WRITE, EXC_PF, PF_P | PF_W, "WP: supervisor write to a read-only page");
    expect_ok(LIN, MMU_EXEC, 0x400000, "supervisor fetch from a user page without SMEP");
    control(CR0_PG, CR4_PAE, efer, ROOT);
    expect_ok(LIN + 0x1000, MMU_WRITE, 0x401000, "no WP: supervisor writes read-only pages");

    control(CR0_PG | CR0_WP, CR4_PAE | CR4_SMEP | CR4_SMAP, efer, ROOT);
    expect_fault(LIN, MMU_EXEC, EXC_PF, PF_P | PF_ID, "SMEP: supervisor fetch from a user page");
    expect_fault(LIN, MMU_READ, EXC_PF, PF_P, "SMAP: supervisor read of a user page");
    c->rflags |= RFLAGS_AC;
    cpu_mode_update(c);
    expect_ok(LIN, MMU_READ, 0x400000, "SMAP: lifted by AC");
    expect_fault(LIN, MMU_READ | MMU_SYSTEM, EXC_PF, PF_P, "SMAP: AC does not lift implicit accesses");

    control(CR0_PG | CR0_WP, CR4_PAE, efer, ROOT);
    c->cpl = 3;
    cpu_mode_update(c);
    expect_ok(LIN, MMU_WRITE, 0x400000, "user write");
    expect_fault(LIN + 0x1000, MMU_WRITE, EXC_PF, PF_P | PF_W | PF_U, "user write to a read-only page");
    expect_fault(LIN + 0x2000, MMU_READ, EXC_PF, PF_P | PF_U, "user read of a supervisor page");
    expect_ok(LIN + 0x2000, MMU_READ | MMU_SYSTEM, 0x402000, "implicit access at CPL 3 is supervisor's");
    expect_fault(LIN + 0x3000, MMU_EXEC, EXC_PF, PF_P | PF_U | PF_ID, "user fetch with XD");
    expect_fault(LIN + 0x9000, MMU_EXEC, EXC_PF, PF_U | PF_ID, "user fetch, not present");
}

static void test_access(void)
{
    const u64 efer = EFER_LME | EFER_LMA | EFER_NXE;
    struct mmu_rmw m;
    u64 v = 0;

    tables_4level(P | W | U);
    put64(leaf4(LIN), 0x400000 | P | W);
    put64(leaf4(LIN + 0x1000), 0x500000 | P | W);
    put64(leaf4(LIN + 0x2000), 0x600000 | P);
    control(CR0_PG | CR0_WP, CR4_PAE, efer, ROOT);
    put64(0x400ffc, 0x1111111122222222);
    put32(0x500000, 0x33333333);
    ok(mmu_ld64(c, LIN + 0xffc, &v, 0) == OP_NEXT && v == 0x3333333322222222, "load across pages");
    ok(mmu_st64(c, LIN + 0xffc, 0xaaaaaaaabbbbbbbb, 0) == OP_NEXT, "store across pages");
    ok((u32)get64(0x400ffc) == 0xbbbbbbbb && (u32)get64(0x500000) == 0xaaaaaaaa, "both halves stored");
    ok(mmu_st64(c, LIN + 0x1ffc, 0, 0) == OP_FAULT && c->exc.payload == LIN + 0x2000,
       "store into a read-only second page faults there");
    ok((u32)get64(0x500ffc) == 0, "and leaves the first page alone");
    c->exc.pending = false;

    ok(mmu_rmw_begin(c, &m, LIN + 0xffc, 8, true, 0) == OP_NEXT && m.p == m.buf, "split LOCK is bounced");
    *(u64 *)m.p += 1;
    ok(mmu_rmw_end(c, &m) == OP_NEXT && (u32)get64(0x400ffc) == 0xbbbbbbbc, "and written back");

    ok(mmu_ld64(c, LIN, &v, 0) == OP_NEXT && mmu_peek(c, LIN, 8, false), "a load fills a read entry");
    mmu_mark_code(c, mem_slot_find(mem, 0x400000), 0x400100, 16);
    ok(!mmu_peek(c, LIN, 8, true), "a code page has no fast writes");
    ok(mmu_st64(c, LIN + 0x800, 1, 0) == OP_NEXT, "a store beside the code goes on");
    ok(mmu_st64(c, LIN + 0x108, 1, 0) == OP_STOP, "a store into it stops the block");
}

static void test_alignment(void)
{
    struct mmu_rmw m;
    u32 v;

    tables_4level(P | W | U);
    put64(leaf4(LIN), 0x400000 | P | W | U);
    control(CR0_PG | CR0_AM, CR4_PAE, EFER_LME | EFER_LMA, ROOT);
    c->rflags |= RFLAGS_AC;
    cpu_mode_update(c);
    ok(mmu_ld32(c, LIN + 2, &v, 0) == OP_NEXT, "#AC: not at CPL 0");
    c->cpl = 3;
    cpu_mode_update(c);
    ok(mmu_ld32(c, LIN + 4, &v, 0) == OP_NEXT, "#AC: aligned");
    ok(mmu_ld32(c, LIN + 2, &v, 0) == OP_FAULT && c->exc.vector == EXC_AC && c->exc.error == 0, "#AC: load");
    ok(mmu_st64(c, LIN + 4, 0, 0) == OP_FAULT && c->exc.vector == EXC_AC, "#AC: store");
    ok(mmu_rmw_begin(c, &m, LIN + 1, 2, false, 0) == OP_FAULT && c->exc.vector == EXC_AC, "#AC: read and write");
    ok(mmu_load(c, LIN + 2, &v, 4, MMU_SYSTEM) == OP_NEXT, "#AC: not for implicit accesses");
    c->rflags &= ~RFLAGS_AC;
    cpu_mode_update(c);
    ok(mmu_ld32(c, LIN + 2, &v, 0) == OP_NEXT, "#AC: not without AC");
    c->exc.pending = false;
}

int main(void)
{
    if (!paged_open(false))
        return 1;
    test_no_paging();
    test_32bit();
    test_pae();
    test_4level_forms();
    test_rights();
    test_access();
    test_alignment();
    paged_close();
    return tap_done();
}
