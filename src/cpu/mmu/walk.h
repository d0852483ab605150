// SPDX-License-Identifier: MIT
// Page-table walks: linear to guest-physical for every paging form.
#pragma once

#include "cpu/mmu/access.h"

struct walk {
    gpa_t gpa;       /* of the byte */
    u64 page_size;   /* 4K, 2M, 4M, 1G */
    bool user, writable, nx, dirty, global;
    gpa_t table; /* 4-level paging, page of 4 KiB: its page table, */
    bool table_user, table_writable, table_nx; /* and the rights down to there */
};

/* Page-fault error code bits: SDM 3A 4.7. */
#define PF_P BIT(0)
#define PF_W BIT(1)
#define PF_U BIT(2)
#define PF_RSVD BIT(3)
#define PF_ID BIT(4)

/*
 * Translate (lin) for an access (acc: MMU_READ/WRITE/EXEC, MMU_SYSTEM, MMU_SS), set A and (write) D in
 * the tables, check every right. OP_NEXT; or OP_FAULT with #PF (CR2, error code), #GP or #SS raised.
 */
int mmu_walk(struct cpu *c, u64 lin, unsigned acc, struct walk *w);

/* The same without side effects and rights, for KVM_TRANSLATE and debuggers: 0 or -EFAULT. */
int mmu_translate(struct cpu *c, u64 lin, struct walk *w);

/* Reload c->pdpte from CR3 (PAE). #GP raised when a reserved bit is set. */
int mmu_load_pdptes(struct cpu *c);
