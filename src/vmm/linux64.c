// SPDX-License-Identifier: MIT
// Linux' 64-bit boot protocol: zero page, GDT, identity-mapped page tables, entry in long mode.
#include "vmm/boot.h"
#include "vmm/board.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

/* Page tables: PML4, PDPT, then four page directories of 2 MiB pages for the first 4 GiB. */
#define PAGES          6
#define PTE_PRESENT_RW 0x3ull
#define PDE_2M         BIT(7)

#define CS_SELECTOR 0x10 /* __BOOT_CS */
#define DS_SELECTOR 0x18 /* __BOOT_DS */
#define TR_SELECTOR 0x20

#define CR0_PE   BIT(0)
#define CR0_ET   BIT(4)
#define CR0_PG   BIT(31)
#define CR4_PAE  BIT(5)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)

#define LOADER_UNDEFINED 0xff
#define HEADER_MAGIC     0x53726448 /* "HdrS" */
#define BOOT_FLAG        0xaa55

static int write_zero_page(const struct boot_config *cfg, struct mem *m)
{
    struct boot_map_entry map[BOOT_MAP_MAX];
    struct boot_params bp = {0};

    bp.hdr.boot_flag = BOOT_FLAG;
    bp.hdr.header = HEADER_MAGIC;
    bp.hdr.version = 0x20f;
    bp.hdr.type_of_loader = LOADER_UNDEFINED;
    bp.hdr.loadflags = LOADED_HIGH;
    bp.hdr.cmd_line_ptr = BOARD_CMDLINE;
    bp.hdr.cmdline_size = BOARD_CMDLINE_SIZE - 1;
    bp.hdr.ramdisk_image = (u32)cfg->initrd; /* below BOARD_RAM_HOLE */
    bp.hdr.ramdisk_size = (u32)cfg->initrd_size;
    bp.acpi_rsdp_addr = cfg->rsdp;
    bp.e820_entries = (u8)boot_map(cfg, map);
    for (unsigned i = 0; i < bp.e820_entries; i++) {
        bp.e820_table[i].addr = map[i].addr;
        bp.e820_table[i].size = map[i].size;
        bp.e820_table[i].type = map[i].type;
    }
    return mem_write(m, BOARD_ZERO_PAGE, &bp, sizeof(bp));
}

static int write_page_tables(struct mem *m)
{
    u64 t[PAGES][512] = {0};

    t[0][0] = (BOARD_PAGE_TABLES + PAGE_SIZE) | PTE_PRESENT_RW;
    for (unsigned i = 0; i < 4; i++) {
        t[1][i] = (BOARD_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PTE_PRESENT_RW;
        for (unsigned j = 0; j < 512; j++)
            t[2 + i][j] = ((u64)i << 30 | (u64)j << 21) | PTE_PRESENT_RW | PDE_2M;
    }
    return mem_write(m, BOARD_PAGE_TABLES, t, sizeof(t));
}

int boot_linux64(const struct boot_config *cfg, struct mem *m, struct kvm_sregs *sregs,
                 struct kvm_regs *regs)
{
    static const u64 gdt[] = {0,
                              0,
                              0x00af9b000000ffff /* 64-bit code */,
                              0x00cf93000000ffff /* data */,
                              0x00008b0000000067 /* busy TSS, 16 bytes */,
                              0};
    struct kvm_segment data = {.limit = 0xffffffff,
                               .selector = DS_SELECTOR,
                               .type = 0x3,
                               .present = 1,
                               .db = 1,
                               .s = 1,
                               .g = 1};

    if (write_zero_page(cfg, m) || write_page_tables(m) ||
        mem_write(m, BOARD_GDT, gdt, sizeof(gdt)) ||
        mem_write(m, BOARD_CMDLINE, cfg->cmdline, strlen(cfg->cmdline) + 1))
        return -EINVAL;
    sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs->cr3 = BOARD_PAGE_TABLES;
    sregs->cr4 = CR4_PAE;
    sregs->efer = EFER_LME | EFER_LMA;
    sregs->gdt = (struct kvm_dtable){.base = BOARD_GDT, .limit = sizeof(gdt) - 1};
    sregs->cs = (struct kvm_segment){.limit = 0xffffffff,
                                     .selector = CS_SELECTOR,
                                     .type = 0xb,
                                     .present = 1,
                                     .l = 1,
                                     .s = 1,
                                     .g = 1};
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr =
        (struct kvm_segment){.limit = 0x67, .selector = TR_SELECTOR, .type = 0xb, .present = 1};
    memset(regs, 0, sizeof(*regs));
    regs->rip = cfg->kernel.entry;
    regs->rsi = BOARD_ZERO_PAGE;
    regs->rflags = 2;
    return 0;
}
