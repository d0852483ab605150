// SPDX-License-Identifier: MIT
// 32-bit and PAE paging: page faults, large pages, the page-directory-pointer registers. SDM 3A 4.3, 4.4.

#include "legacy.h"

#define DIR 0x100000u
#define TABLE 0x101000u
#define PDPT 0x102000u
#define PAE_DIR 0x103000u
#define PAE_TABLE 0x104000u
#define WINDOW 0x800000u /* linear; RAM at 4 MiB */

static volatile u32 *const dir = (volatile u32 *)DIR, *const table = (volatile u32 *)TABLE;
static volatile u64 *const pdpt = (volatile u64 *)PDPT, *const pae_dir = (volatile u64 *)PAE_DIR,
                          *const pae_table = (volatile u64 *)PAE_TABLE;

static u32 read_cr0(void) { u32 v; __asm__ volatile("movl %%cr0, %0" : "=r"(v)); return v; }
static void write_cr0(u32 v) { __asm__ volatile("movl %0, %%cr0" : : "r"(v) : "memory"); }
static u32 read_cr4(void) { u32 v; __asm__ volatile("movl %%cr4, %0" : "=r"(v)); return v; }
static void write_cr4(u32 v) { __asm__ volatile("movl %0, %%cr4" : : "r"(v) : "memory"); }
static void write_cr3(u32 v) { __asm__ volatile("movl %0, %%cr3" : : "r"(v) : "memory"); }

#define PF(error, addr, what, code, ...)                                                           \
    do {                                                                                           \
        TRY(code, __VA_ARGS__);                                                                    \
        is(LAST(), EVENT(14, error), what);                                                        \
        is(last_cr2, addr, "  CR2");                                                               \
    } while (0)

static u32 peek(u32 a) { return *(volatile u32 *)a; }

static void test_32(void)
{
    for (unsigned i = 0; i < 4; i++)
        dir[i] = i << 22 | 0x83;
    dir[WINDOW >> 22] = TABLE | 7;
    *(volatile u32 *)0x400000 = 0x11111111;
    *(volatile u32 *)0x401000 = 0x22222222;
    table[0] = 0x400003;
    write_cr4(read_cr4() | 0x10);
    write_cr3(DIR);
    write_cr0(read_cr0() | 0x80010000);
    is(peek(WINDOW), 0x11111111, "32-bit paging: a 4 KiB page");
    is(table[0] & 0x60, 0x20, "A is set");
    is(dir[0] & 0x60, 0x60, "A and D of a 4 MiB page");
    PF(0, WINDOW + 0x1000, "a missing page", "movl (%%ebx), %%eax", "b"(WINDOW + 0x1000));
    PF(2, WINDOW + 0x1000, "write", "movl %%eax, (%%ebx)", "b"(WINDOW + 0x1000));
    PF(0, WINDOW + 0x1000, "fetch, without NX", "jmp *%%ebx", "b"(WINDOW + 0x1000));
    table[2] = 0x401001;
    PF(3, WINDOW + 0x2000, "write to a read-only page", "movl %%eax, (%%ebx)", "b"(WINDOW + 0x2000));
    dir[3] |= 1 << 21;
    write_cr3(DIR);
    PF(9, 0xc00000, "reserved bit of a 4 MiB page", "movl (%%ebx), %%eax", "b"(0xc00000));
    dir[3] = 3u << 22 | 0x83;
    table[0] = 0x401003;
    __asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
    is(peek(WINDOW), 0x22222222, "INVLPG");
    PF(0, 0x400000 * 100u, "nothing mapped far up", "movl (%%ebx), %%eax", "b"(0x400000 * 100u));
}

static void test_pae(void)
{
    write_cr0(read_cr0() & 0x7fffffff);
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = 0;
    pdpt[0] = PAE_DIR | 1;
    for (unsigned i = 0; i < 8; i++)
        pae_dir[i] = i << 21 | 0x83;
    pae_dir[WINDOW >> 21] = PAE_TABLE | 7;
    pae_table[0] = 0x400003;
    write_cr4(read_cr4() | 0x20);
    write_cr3(PDPT);
    write_cr0(read_cr0() | 0x80000000);
    is(peek(WINDOW), 0x11111111, "PAE paging: a 4 KiB page");
    PF(0, WINDOW + 0x1000, "a missing page", "movl (%%ebx), %%eax", "b"(WINDOW + 0x1000));
    PF(0, 0x40000000, "a missing PDPTE", "movl (%%ebx), %%eax", "b"(0x40000000));
    pdpt[1] = PAE_DIR | 1;
    PF(0, 0x40000000, "PDPTEs are registers", "movl (%%ebx), %%eax", "b"(0x40000000));
    write_cr3(PDPT);
    is(peek(0x40000000 + WINDOW), 0x11111111, "loaded with CR3");
    pdpt[2] = 3;
    FAULTS(13, 0, "CR3 with a reserved bit in a PDPTE: #GP(0)", "movl %%ebx, %%cr3", "b"(PDPT));
    pdpt[2] = 0;
    pae_table[0] = 0x400003 | 1ull << 63;
    __asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
    PF(9, WINDOW, "XD without EFER.NXE is reserved", "movl (%%ebx), %%eax", "b"(WINDOW));
    __asm__ volatile("rdmsr\norl $0x800, %%eax\nwrmsr" : : "c"(0xc0000080) : "eax", "edx", "memory");
    is(peek(WINDOW), 0x11111111, "and may be read with it");
    PF(0x11, WINDOW, "but not run", "jmp *%%ebx", "b"(WINDOW));
    write_cr0(read_cr0() & 0x7fffffff);
    write_cr4(read_cr4() & ~0x20u);
}

void test_paging(void)
{
    test_32();
    test_pae();
}
