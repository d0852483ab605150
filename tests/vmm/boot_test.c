// SPDX-License-Identifier: MIT
// What the boot protocols put into memory and registers, read back as the kernel would.
#include "tap.h"
#include "vmm/board.h"
#include "vmm/boot.h"

#include <asm/bootparam.h>
#include <sys/mman.h>

#define RAM (64ul << 20)

static u8 *ram;
static struct mem *m;
static struct kvm_sregs sregs;
static struct kvm_regs regs;

static const struct boot_config cfg = {
    .kernel = {.entry = 0x1000000, .pvh_entry = 0x1000400, .start = 0x1000000, .end = 0x2000000},
    .cmdline = "console=ttyS0 quiet",
    .initrd = 0x3000000,
    .initrd_size = 12345,
    .rsdp = 0xe0000,
    .ram_low = 0xc0000000,
    .ram_high = 0x40000000,
};

static u64 get(gpa_t at, unsigned bytes)
{
    u64 v = 0;

    memcpy(&v, ram + at, bytes);
    return v;
}

static void test_map(void)
{
    struct boot_map_entry map[BOOT_MAP_MAX];
    struct boot_config small = cfg;
    unsigned n = boot_map(&cfg, map);
    u64 total = 0;
    bool apart = true;

    for (unsigned i = 0; i < n; i++) {
        total += map[i].type == 1 ? map[i].size : 0;
        apart = apart && (!i || map[i].addr >= map[i - 1].addr + map[i - 1].size);
    }
    ok(apart, "memory map: ascending, nothing twice");
    is_u64(total, 0x9fc00 + (0xc0000000 - 0x100000) + 0x40000000,
           "memory map: all RAM but the hole");
    small.ram_high = 0;
    is_u64(boot_map(&small, map), n - 1, "no row for memory that is not there");
}

static void test_pvh(void)
{
    u64 info, map;

    memset(&sregs, 0xff, sizeof(sregs));
    is_u64(boot_pvh(&cfg, m, &sregs, &regs), 0, "PVH");
    is_u64(regs.rip, 0x1000400, "32-bit entry");
    is_u64(sregs.cr0 & 0x80000001, 1, "protected mode without paging");
    ok(sregs.cs.db && !sregs.cs.l && sregs.cs.base == 0 && sregs.cs.limit == 0xffffffff &&
           sregs.cs.type == 0xb,
       "flat 32-bit code segment");
    ok(sregs.ds.type == 3 && sregs.ss.type == 3 && sregs.es.base == 0, "flat data segments");
    ok(sregs.tr.type == 0xb && sregs.tr.limit == 0x67, "busy 32-bit TSS");
    is_u64(sregs.efer | sregs.cr4, 0, "EFER and CR4");
    info = regs.rbx;
    is_u64(get(info, 4), 0x336ec578, "start info: magic");
    is_u64(get(info + 4, 4), 1, "start info: version");
    is_u64(get(info + 12, 4), 1, "start info: one module");
    is_u64(get(get(info + 16, 8), 8), cfg.initrd, "the initrd's address");
    is_u64(get(get(info + 16, 8) + 8, 8), cfg.initrd_size, "the initrd's size");
    ok(!strcmp((char *)ram + get(info + 24, 8), cfg.cmdline), "command line");
    is_u64(get(info + 32, 8), cfg.rsdp, "RSDP");
    map = get(info + 40, 8);
    is_u64(get(info + 48, 4), 4, "memory map: rows");
    ok(get(map + 3 * 24, 8) == 0x100000000 && get(map + 3 * 24 + 8, 8) == cfg.ram_high &&
           get(map + 3 * 24 + 16, 4) == 1,
       "memory map: above 4 GiB");
}

/* Walk the page tables as 4-level paging does. */
static u64 translate(u64 cr3, u64 va)
{
    u64 e = get((cr3 & ~0xfffull) + 8 * (va >> 39 & 511), 8);

    e = e & 1 ? get((e & ~0xfffull) + 8 * (va >> 30 & 511), 8) : 0;
    e = e & 1 ? get((e & ~0xfffull) + 8 * (va >> 21 & 511), 8) : 0;
    return (e & 0x81) == 0x81 ? (e & ~0x1fffffull) + (va & 0x1fffff) : UINT64_MAX;
}

static void test_linux64(void)
{
    struct boot_params *bp;
    u64 cs, bad = 0;

    memset(&sregs, 0, sizeof(sregs));
    is_u64(boot_linux64(&cfg, m, &sregs, &regs), 0, "64-bit protocol");
    is_u64(regs.rip, cfg.kernel.entry, "entry");
    bp = (struct boot_params *)(ram + regs.rsi);
    ok(bp->hdr.boot_flag == 0xaa55 && bp->hdr.header == 0x53726448, "zero page: header");
    ok(!strcmp((char *)ram + bp->hdr.cmd_line_ptr, cfg.cmdline), "zero page: command line");
    ok(bp->hdr.ramdisk_image == cfg.initrd && bp->hdr.ramdisk_size == cfg.initrd_size,
       "zero page: initrd");
    is_u64(bp->acpi_rsdp_addr, cfg.rsdp, "zero page: RSDP");
    ok(bp->e820_entries == 4 && bp->e820_table[3].addr == 0x100000000, "zero page: e820");
    is_u64(sregs.cr0 & 0x80000001, 0x80000001, "paging is on");
    ok((sregs.cr4 & 0x20) && (sregs.efer & 0x500) == 0x500, "PAE, LME, LMA");
    for (u64 va = 0; va < 4ull << 30; va += 0x1fffff)
        bad += translate(sregs.cr3, va) != va;
    is_u64(bad, 0, "4 GiB are mapped one to one");
    cs = get(sregs.gdt.base + sregs.cs.selector, 8);
    ok(sregs.cs.selector == 0x10 && sregs.cs.l && (cs >> 53 & 1) && (cs >> 47 & 1),
       "__BOOT_CS is a 64-bit segment, in the GDT as well");
    ok(sregs.ds.selector == 0x18 && (get(sregs.gdt.base + 0x18, 8) >> 40 & 0xfe) == 0x92,
       "__BOOT_DS");
}

int main(void)
{
    ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mem_create(&m);
    mem_slot_set(m, 0, 0, RAM, ram, 0);
    test_map();
    test_pvh();
    test_linux64();
    mem_free(m);
    munmap(ram, RAM);
    return tap_done();
}
