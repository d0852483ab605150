// SPDX-License-Identifier: MIT
// Page faults with their error codes, accessed and dirty bits, and what invalidates a translation. SDM 3A 4.

#include "long.h"

#define PAGE(n) (WINDOW + (n) * 4096ull)
#define PHYS(n) (WINDOW_PHYS + (n) * 4096ull)

static void map(unsigned n, u64 pte)
{
    window[n] = pte;
    invlpg(PAGE(n));
}

/* Fault at CPL 0 with this error code and CR2. */
#define PF(error, addr, what, code, ...)                                                           \
    do {                                                                                           \
        TRY(code, __VA_ARGS__);                                                                    \
        is(LAST(), EVENT(14, error), what);                                                        \
        is(last_cr2, addr, "  CR2");                                                               \
    } while (0)

static void test_error_codes(void)
{
    map(0, 0);
    PF(0, PAGE(0) + 5, "read of a page that is not present", "movb 5(%%rbx), %%cl", "b"(PAGE(0)));
    PF(2, PAGE(0) + 8, "write", "movq %%rcx, 8(%%rbx)", "b"(PAGE(0)));
    PF(2, PAGE(0), "read-modify-write reports a write", "addl $1, (%%rbx)", "b"(PAGE(0)));
    PF(0x10, PAGE(0), "fetch", "jmp *%%rbx", "b"(PAGE(0)));
    map(0, PHYS(0) | PTE_P);
    WORKS("read of a read-only page", "movq (%%rbx), %%rcx", "b"(PAGE(0)));
    is(window[0] & (PTE_A | PTE_D), PTE_A, "sets A, not D");
    PF(3, PAGE(0), "write with CR0.WP", "movq %%rcx, (%%rbx)", "b"(PAGE(0)));
    write_cr0(read_cr0() & ~0x10000ull);
    WORKS("write without CR0.WP", "movq %%rcx, (%%rbx)", "b"(PAGE(0)));
    is(window[0] & (PTE_A | PTE_D), PTE_A | PTE_D, "sets D");
    write_cr0(read_cr0() | 0x10000);
    PF(3, PAGE(0), "and no longer once WP is back", "movq %%rcx, (%%rbx)", "b"(PAGE(0)));
    map(1, PHYS(1) | PTE_P | PTE_W | PTE_NX);
    WORKS("write to a page that may not be executed", "movb $0xc3, (%%rbx)", "b"(PAGE(1)));
    PF(0x11, PAGE(1), "fetch from it", "jmp *%%rbx", "b"(PAGE(1)));
    map(1, PHYS(1) | PTE_P | PTE_W);
    WORKS("call into it without NX", "call *%%rbx", "b"(PAGE(1)));
    map(2, PHYS(2) | PTE_P | 1ull << 51);
    PF(9, PAGE(2), "reserved address bit", "movb (%%rbx), %%cl", "b"(PAGE(2)));
    map(2, 0);
    map(1, PHYS(1) | PTE_P | PTE_W);
    *(volatile u64 *)(PAGE(2) - 8) = 0x1122334455667788;
    PF(2, PAGE(2), "store across into a missing page", "movq %%rbx, -4(%%rbx)", "b"(PAGE(2)));
    is(*(volatile u64 *)(PAGE(2) - 8), 0x1122334455667788, "leaves the first page as it was");
}

static void test_smep_smap(void)
{
    u64 cr4 = read_cr4();
    extern u8 plain_ret[];

    WORKS("CPL 0 runs user pages without SMEP", "call *%%rbx", "b"(plain_ret + USER_ALIAS));
    write_cr4(cr4 | 1 << 20);
    PF(0x11, (u64)plain_ret + USER_ALIAS, "not with SMEP", "jmp *%%rbx", "b"(plain_ret + USER_ALIAS));
    WORKS("but reads them", "movq (%%rbx), %%rcx", "b"(plain_ret + USER_ALIAS));
    write_cr4(cr4 | 1 << 21);
    PF(1, USER_ALIAS + 0x9000, "not with SMAP", "movq (%%rbx), %%rcx", "b"(USER_ALIAS + 0x9000));
    PF(3, USER_ALIAS + 0x7e000, "nor writes them", "movq %%rcx, (%%rbx)", "b"(USER_ALIAS + 0x7e000));
    WORKS("AC lifts SMAP", "stac\nmovq (%%rbx), %%rcx\nclac", "b"(USER_ALIAS + 0x9000));
    PF(1, USER_ALIAS + 0x9000, "CLAC brings it back", "stac\nclac\nmovq (%%rbx), %%rcx", "b"(USER_ALIAS + 0x9000));
    TRY("stac\nint $0x80");
    is(last.rflags & FLAG_AC, FLAG_AC, "AC is pushed");
    __asm__ volatile("clac");
    write_cr4(cr4);
}

static u64 peek(unsigned n)
{
    return *(volatile u64 *)PAGE(n);
}

static void test_invalidation(void)
{
    u64 cr4 = read_cr4(), cr3 = read_cr3();

    *(volatile u64 *)PHYS(8) = 8;
    *(volatile u64 *)PHYS(9) = 9;
    map(4, PHYS(8) | PTE_P | PTE_W);
    is(peek(4), 8, "a mapping");
    map(4, PHYS(9) | PTE_P | PTE_W);
    is(peek(4), 9, "changed, INVLPG");
    window[4] = PHYS(8) | PTE_P | PTE_W;
    write_cr3(cr3);
    is(peek(4), 8, "changed, CR3");
    write_cr4(cr4 | 1 << 7);
    map(4, PHYS(8) | PTE_P | PTE_W | PTE_G);
    is(peek(4), 8, "a global mapping");
    window[4] = PHYS(9) | PTE_P | PTE_W;
    write_cr4(cr4);
    is(peek(4), 9, "changed, CR4.PGE toggled");
    window[4] = PHYS(8) | PTE_P;
    write_cr4(cr4 | 1 << 7);
    is(peek(4), 8, "and again");
    map(4, PHYS(8) | PTE_P | PTE_W | PTE_G);
    is(peek(4), 8, "global again");
    map(4, PHYS(9) | PTE_P | PTE_W | PTE_G);
    is(peek(4), 9, "INVLPG reaches global pages");
    write_cr4(cr4);
}

static inline void invpcid(u64 type, u64 pcid, u64 addr)
{
    u64 desc[2] = {pcid, addr};

    __asm__ volatile("invpcid (%0), %1" : : "r"(desc), "r"(type) : "memory");
}

static void test_pcid(void)
{
    static const u64 zero_desc[2], bad_desc[2] = {0x1000, 0};
    u64 cr4 = read_cr4(), cr3 = read_cr3();
    u32 a = 1, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (on_test_machine())
        FAULTS(13, 0, "CR3 bit 63 without PCIDE: #GP(0)", "movq %%rbx, %%cr3", "b"(cr3 | 1ull << 63));
    if (!(c >> 17 & 1) && a) {
        skip("process-context identifiers", "this machine has none");
        return;
    }
    write_cr3(cr3 | 5);
    FAULTS(13, 0, "CR4.PCIDE while CR3 has low bits: #GP(0)", "movq %%rbx, %%cr4", "b"(cr4 | 1 << 17));
    write_cr3(cr3);
    write_cr4(cr4 | 1 << 17);
    write_cr3(cr3 | 1);
    window[4] = PHYS(8) | PTE_P | PTE_W;
    invpcid(0, 1, PAGE(4));
    is(peek(4), 8, "a mapping in PCID 1");
    write_cr3(cr3 | 2);
    is(peek(4), 8, "and in PCID 2");
    window[4] = PHYS(9) | PTE_P | PTE_W;
    invpcid(0, 1, PAGE(4));
    write_cr3(cr3 | 1 | 1ull << 63);
    is(peek(4), 9, "INVPCID for one address of PCID 1, then no-flush CR3");
    window[4] = PHYS(8) | PTE_P | PTE_W;
    invpcid(1, 2, 0);
    write_cr3(cr3 | 2 | 1ull << 63);
    is(peek(4), 8, "INVPCID for all of PCID 2, then no-flush CR3");
    window[4] = PHYS(9) | PTE_P | PTE_W;
    invpcid(2, 0, 0);
    is(peek(4), 9, "INVPCID for everything");
    window[4] = PHYS(8) | PTE_P | PTE_W;
    invpcid(3, 0, 0);
    is(peek(4), 8, "INVPCID for everything but global pages");
    FAULTS(13, 0, "INVPCID of an unknown type: #GP(0)", "movl $4, %%ecx\ninvpcid (%%rbx), %%rcx", "b"(zero_desc));
    FAULTS(13, 0, "INVPCID with reserved bits set: #GP(0)", "movl $2, %%ecx\ninvpcid (%%rbx), %%rcx", "b"(bad_desc));
    write_cr3(cr3);
    write_cr4(cr4);
}

void test_paging(void)
{
    test_error_codes();
    test_smep_smap();
    test_invalidation();
    test_pcid();
}

__asm__(".text\n.globl plain_ret\nplain_ret: ret\n");
