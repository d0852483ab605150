// SPDX-License-Identifier: MIT
// The PVH boot protocol: start info, and 32-bit protected mode with flat segments.
#include "vmm/boot.h"
#include "vmm/board.h"

#include <errno.h>
#include <string.h>

#define START_MAGIC 0x336ec578

struct start_info {
    u32 magic, version, flags, nr_modules;
    u64 modlist, cmdline, rsdp, memmap;
    u32 memmap_entries, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");

struct module {
    u64 addr, size, cmdline, reserved;
};

struct memmap_entry {
    u64 addr, size;
    u32 type, reserved;
};

struct pvh_page {
    struct start_info info;
    struct module initrd;
    struct memmap_entry map[BOOT_MAP_MAX];
};

#define CR0_PE BIT(0)
#define CR0_ET BIT(4)

static struct kvm_segment flat(u16 selector, u8 type)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .db = 1,
                                .s = 1,
                                .g = 1};
}

int boot_pvh(const struct boot_config *cfg, struct mem *m, struct kvm_sregs *sregs,
             struct kvm_regs *regs)
{
    struct boot_map_entry map[BOOT_MAP_MAX];
    unsigned n = boot_map(cfg, map);
    struct pvh_page p = {
        .info = {.magic = START_MAGIC,
                 .version = 1,
                 .cmdline = BOARD_CMDLINE,
                 .rsdp = cfg->rsdp,
                 .memmap = BOARD_PVH + offsetof(struct pvh_page, map),
                 .memmap_entries = n},
        .initrd = {.addr = cfg->initrd, .size = cfg->initrd_size},
    };

    if (cfg->initrd_size) {
        p.info.nr_modules = 1;
        p.info.modlist = BOARD_PVH + offsetof(struct pvh_page, initrd);
    }
    for (unsigned i = 0; i < n; i++)
        p.map[i] = (struct memmap_entry){map[i].addr, map[i].size, map[i].type, 0};
    if (mem_write(m, BOARD_PVH, &p, sizeof(p)) ||
        mem_write(m, BOARD_CMDLINE, cfg->cmdline, strlen(cfg->cmdline) + 1))
        return -EINVAL;

    sregs->cr0 = CR0_PE | CR0_ET;
    sregs->cr4 = 0;
    sregs->efer = 0;
    sregs->cs = flat(0x08, 0xb); /* code, readable, accessed */
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat(0x10, 0x3);
    sregs->tr = (struct kvm_segment){.limit = 0x67, .selector = 0x18, .type = 0xb, .present = 1};
    memset(regs, 0, sizeof(*regs));
    regs->rip = cfg->kernel.pvh_entry;
    regs->rbx = BOARD_PVH;
    regs->rflags = 2;
    return 0;
}
