// SPDX-License-Identifier: MIT
// ELF kernels: checked headers, the segments' copy into guest memory, the PVH note.
#pragma once

#include "mem/mem.h"
#include "vmm/blob.h"
#include "vmm/error.h"

struct elf_kernel {
    gpa_t entry;      /* 64-bit entry point, physical (e_entry) */
    gpa_t pvh_entry;  /* 32-bit entry of the XEN_ELFNOTE_PHYS32_ENTRY note; 0: none */
    gpa_t start, end; /* what the segments take, page-aligned */
};

/* True if (image) starts like an ELF file. */
bool elf_is(const struct blob *image);

/*
 * Check the x86-64 ELF executable (image) and describe it. 0 or -EINVAL with a sentence in
 * (err). Nothing outside (image) is read, whatever its headers say.
 */
int elf_parse(const struct blob *image, struct elf_kernel *ret, struct vmm_error *err);

/* Copy its segments to (m) and zero what lies behind their file data. 0, or -EINVAL: RAM is too small. */
int elf_load(const struct blob *image, struct mem *m, struct vmm_error *err);
