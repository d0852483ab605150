// SPDX-License-Identifier: MIT
// How a kernel is started: what is put into guest memory, and the first registers.
#pragma once

#include "mem/mem.h"
#include "vmm/elf.h"
#include "vmm/error.h"

#include <linux/kvm.h>

struct boot_config {
    struct elf_kernel kernel; /* already loaded */
    const char *cmdline;
    gpa_t initrd;
    u64 initrd_size; /* 0: none */
    gpa_t rsdp;
    u64 ram_low, ram_high; /* bytes from 0, and from 4 GiB */
};

/* One row of the memory map that the guest gets. */
struct boot_map_entry {
    u64 addr, size;
    u32 type; /* 1 RAM, 2 reserved: the same in e820 and PVH */
};

#define BOOT_MAP_MAX 4

/* Fill (map) for the RAM of (cfg); returns the number of rows. */
unsigned boot_map(const struct boot_config *cfg, struct boot_map_entry map[BOOT_MAP_MAX]);

/*
 * PVH (Xen's docs/misc/pvh.pandoc): start info to memory, 32-bit protected mode without paging.
 * (sregs) comes in with reset values and leaves changed where the protocol says so.
 * 0, or -EINVAL if guest memory has no room.
 */
int boot_pvh(const struct boot_config *cfg, struct mem *m, struct kvm_sregs *sregs,
             struct kvm_regs *regs);

/* Linux' 64-bit boot protocol (boot.rst): zero page, identity-mapped page tables, long mode. */
int boot_linux64(const struct boot_config *cfg, struct mem *m, struct kvm_sregs *sregs,
                 struct kvm_regs *regs);
