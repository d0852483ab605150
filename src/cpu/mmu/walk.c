// SPDX-License-Identifier: MIT
// Page-table walks for every paging form: SDM 3A chapter 4.

#include "cpu/mmu/stlb.h"

#include <errno.h>

/*
 * Bits of a paging-structure entry (SDM 3A 4.3, 4.4, 4.5); 32-bit entries lack the top half.
 *
 *   63  62..52  51..12   8  7  6  5  4   3   2   1   0
 *   XD  ignored address  G  PS D  A  PCD PWT U/S R/W P
 */
#define PTE_P BIT(0)
#define PTE_RW BIT(1)
#define PTE_US BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_PAT_LARGE BIT(12)
#define PTE_XD BIT(63)
#define PTE_ADDR GENMASK(51, 12)

/* What a walk has gathered on its way down. */
struct path {
    gpa_t table;
    u64 flags;     /* RW and US ANDed over the levels */
    bool nx;       /* XD ORed */
    bool wide;     /* 64-bit entries */
    u64 table_flags; /* (flags) and (nx) as they were above the last level */
    bool table_nx;
    gpa_t entry_at;
    u64 entry;
    unsigned shift; /* of the page the entry maps, when it is a leaf */
};

/* One form of paging: levels from the root, with the lowest linear bit that each one indexes. */
struct form {
    u8 levels;
    u8 index_bits;
    u8 shift[4];
    u8 large; /* bit per level that may hold a leaf by PS */
};

static const struct form form_32 = {2, 10, {22, 12}, BIT(0)};
static const struct form form_pae = {2, 9, {21, 12}, BIT(0)}; /* below the PDPTEs */
static const struct form form_4level = {4, 9, {39, 30, 21, 12}, BIT(1) | BIT(2)};

static void *table_entry(struct cpu *c, gpa_t gpa, struct mem_slot **slot)
{
    *slot = mem_slot_find(c->mem, gpa);
    if (!*slot)
        return NULL;
    mem_populate(*slot, gpa);
    return mem_slot_hva(*slot, gpa);
}

static int read_entry(struct cpu *c, struct path *p)
{
    struct mem_slot *slot;
    void *e = table_entry(c, p->entry_at, &slot);

    if (!e)
        return -EFAULT;
    p->entry = p->wide ? __atomic_load_n((u64 *)e, __ATOMIC_ACQUIRE)
                       : __atomic_load_n((u32 *)e, __ATOMIC_ACQUIRE);
    return 0;
}

/* Set (bits) in the entry just read. 0; -EAGAIN if it has changed meanwhile: walk again. */
static int set_entry_bits(struct cpu *c, struct path *p, u64 bits)
{
    struct mem_slot *slot;
    u64 old = p->entry;
    u32 old32 = (u32)old;
    bool done;
    void *e;

    if ((old & bits) == bits)
        return 0;
    e = table_entry(c, p->entry_at, &slot);
    if (!e || slot->flags & MEM_READONLY)
        return 0;
    if (p->wide)
        done = __atomic_compare_exchange_n((u64 *)e, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    else
        done = __atomic_compare_exchange_n((u32 *)e, &old32, old32 | (u32)bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if (!done)
        return -EAGAIN;
    p->entry |= bits;
    mem_page_written(slot, p->entry_at, p->wide ? 8 : 4);
    return 0;
}

/* Reserved bits that are set in an entry at (level) of (f); (leaf): it maps a page. */
static bool reserved_set(const struct cpu *c, const struct form *f, const struct path *p,
                         unsigned level, bool leaf)
{
    u64 rsvd = 0;

    if (p->wide) {
        rsvd = PTE_ADDR & ~(BIT(c->maxphyaddr) - 1);
        if (!(c->efer & EFER_NXE))
            rsvd |= PTE_XD;
        if (f == &form_pae)
            rsvd |= GENMASK(62, 52);
        if (f == &form_4level && level == 0)
            rsvd |= PTE_PS;
    }
    if (leaf && f->shift[level] > PAGE_SHIFT) {
        if (p->wide)
            rsvd |= GENMASK(f->shift[level] - 1, 13);
        else
            rsvd |= BIT(21); /* bits 20:13 carry address bits 39:32 (PSE-36) */
    }
    return p->entry & rsvd;
}

static void path_start(const struct cpu *c, u64 lin, struct path *p, const struct form **f)
{
    *p = (struct path){.flags = PTE_RW | PTE_US, .wide = c->cr4 & CR4_PAE};
    if (!p->wide) {
        *f = &form_32;
        p->table = c->cr3 & GENMASK(31, 12);
    } else if (c->efer & EFER_LMA) {
        *f = &form_4level;
        p->table = c->cr3 & PTE_ADDR;
    } else {
        *f = &form_pae;
        p->table = c->pdpte[(lin >> 30) & 3];
    }
}

static gpa_t leaf_gpa(const struct path *p, u64 lin)
{
    u64 mask = BIT(p->shift) - 1;

    if (!p->wide && p->shift > PAGE_SHIFT)
        return (p->entry & GENMASK(31, 22)) | (p->entry >> 13 & 0xff) << 32 | (lin & mask);
    return (p->entry & PTE_ADDR & ~mask) | (lin & mask);
}

/*
 * Go down to the leaf for (lin). 0; -ENOENT not present; -EBADMSG reserved bit; -EAGAIN
 * raced; (accessed) sets A bits on the way, not the leaf's.
 */
static int descend(struct cpu *c, u64 lin, bool accessed, struct path *p)
{
    const struct form *f;

    path_start(c, lin, p, &f);
    if (f == &form_pae) {
        if (!(p->table & PTE_P))
            return -ENOENT;
        p->table &= PTE_ADDR;
    }
    for (unsigned level = 0;; level++) {
        bool leaf;

        p->shift = f->shift[level];
        p->entry_at = p->table + ((lin >> p->shift & (BIT(f->index_bits) - 1)) << (p->wide ? 3 : 2));
        if (read_entry(c, p) || !(p->entry & PTE_P))
            return -ENOENT;
        leaf = level == f->levels - 1u ||
               (p->entry & PTE_PS && f->large & BIT(level) && (p->wide || c->cr4 & CR4_PSE));
        if (reserved_set(c, f, p, level, leaf))
            return -EBADMSG;
        p->table_flags = p->flags;
        p->table_nx = p->nx;
        p->flags &= p->entry;
        p->nx |= p->wide && p->entry & PTE_XD;
        if (leaf)
            return 0;
        if (accessed && set_entry_bits(c, p, PTE_A))
            return -EAGAIN;
        p->table = p->entry & PTE_ADDR;
    }
}

static bool paging_on(const struct cpu *c) { return c->cr0 & CR0_PG; }

static void identity(u64 lin, struct walk *w)
{
    *w = (struct walk){.gpa = lin, .page_size = PAGE_SIZE, .user = true, .writable = true,
                       .dirty = true};
}

/* Do the rights gathered in (p) allow (acc)? */
static bool access_allowed(const struct cpu *c, const struct path *p, unsigned acc, bool user)
{
    return stlb_allows(c, (p->flags & PTE_US ? STLB_USER : 0) | (p->flags & PTE_RW ? STLB_WRITE : 0) |
                              (p->nx ? STLB_NX : 0), acc, user);
}

static int raise_canonical(struct cpu *c, unsigned acc)
{
    return cpu_raise_err(c, acc & MMU_SS ? EXC_SS : EXC_GP, 0);
}

int mmu_walk(struct cpu *c, u64 lin, unsigned acc, struct walk *w)
{
    bool user = c->cpl == 3 && !(acc & MMU_SYSTEM);
    u32 err = (acc & MMU_WRITE ? PF_W : 0) | (user ? PF_U : 0);
    struct path p;
    int rc;

    c->stats.page_walks++;
    if (c->efer & EFER_LMA) {
        if ((u64)((s64)(lin << 16) >> 16) != lin)
            return raise_canonical(c, acc);
    } else {
        lin = (u32)lin;
    }
    if (!paging_on(c)) {
        identity(lin, w);
        return OP_NEXT;
    }
    if (acc & MMU_EXEC && (c->cr4 & CR4_SMEP || (c->cr4 & CR4_PAE && c->efer & EFER_NXE)))
        err |= PF_ID;

    do {
        rc = descend(c, lin, true, &p);
        if (rc == 0) {
            if (!access_allowed(c, &p, acc, user))
                return cpu_raise_pf(c, lin, err | PF_P);
            rc = set_entry_bits(c, &p, PTE_A | (acc & MMU_WRITE ? PTE_D : 0));
        }
    } while (rc == -EAGAIN);
    if (rc == -ENOENT)
        return cpu_raise_pf(c, lin, err);
    if (rc == -EBADMSG)
        return cpu_raise_pf(c, lin, err | PF_P | PF_RSVD);

    *w = (struct walk){
        .gpa = leaf_gpa(&p, lin),
        .page_size = BIT(p.shift),
        .user = p.flags & PTE_US,
        .writable = p.flags & PTE_RW,
        .nx = p.nx,
        .dirty = p.entry & PTE_D,
        .global = p.entry & PTE_G && c->cr4 & CR4_PGE,
    };
    if (c->efer & EFER_LMA && p.shift == PAGE_SHIFT) {
        w->table = p.table;
        w->table_user = p.table_flags & PTE_US;
        w->table_writable = p.table_flags & PTE_RW;
        w->table_nx = p.table_nx;
    }
    return OP_NEXT;
}

int mmu_translate(struct cpu *c, u64 lin, struct walk *w)
{
    struct path p;

    if (!paging_on(c)) {
        identity(lin, w);
        return 0;
    }
    if (descend(c, lin, false, &p))
        return -EFAULT;
    *w = (struct walk){
        .gpa = leaf_gpa(&p, lin),
        .page_size = BIT(p.shift),
        .user = p.flags & PTE_US,
        .writable = p.flags & PTE_RW,
        .nx = p.nx,
        .dirty = p.entry & PTE_D,
        .global = p.entry & PTE_G,
    };
    return 0;
}

int mmu_load_pdptes(struct cpu *c)
{
    u64 rsvd = (PTE_ADDR & ~(BIT(c->maxphyaddr) - 1)) | GENMASK(63, 52) | GENMASK(8, 5) | GENMASK(2, 1);
    u64 pdpte[4];

    if (mem_read(c->mem, c->cr3 & GENMASK(31, 5), pdpte, sizeof(pdpte)))
        return cpu_raise_gp(c);
    for (int i = 0; i < 4; i++) {
        if (pdpte[i] & PTE_P && pdpte[i] & rsvd)
            return cpu_raise_gp(c);
    }
    for (int i = 0; i < 4; i++)
        c->pdpte[i] = pdpte[i];
    return OP_NEXT;
}
