// SPDX-License-Identifier: MIT
// A CPU in 64-bit mode over a few pages, for the vector tests: two scratch pages between unmapped ones.
#pragma once

#include "cpu/cpu.h"
#include "cpu/decode/decode.h"
#include "cpu/mmu/tlb.h"
#include "cpu/world.h"

#include <string.h>
#include <sys/mman.h>

#define SCRATCH_LIN 0x10001000ul /* two pages; those before and after are not present */
#define SCRATCH_SIZE (2 * PAGE_SIZE)
#define SCRATCH_END (SCRATCH_LIN + SCRATCH_SIZE)
#define GUEST_RAM (1ul << 20)
#define SCRATCH_GPA 0x10000ul
#define GUEST_RIP 0x12345678ul

struct guest {
    struct cpu *c;
    struct cpu_world *world;
    struct mem *mem;
    u8 *ram;
};

static int guest_mmio(struct cpu *c, gpa_t gpa, const void *buf, unsigned size)
{
    return OP_NEXT;
}

static int guest_mmio_read(struct cpu *c, gpa_t gpa, void *buf, unsigned size)
{
    memset(buf, 0xff, size);
    return OP_NEXT;
}

static const struct cpu_bus guest_bus = {.mmio_read = guest_mmio_read, .mmio_write = guest_mmio};

static inline u64 *guest_pte(struct guest *g, u64 lin)
{
    return (u64 *)(g->ram + 0x4000) + ((lin >> 12) & 511);
}

static void guest_paging(struct guest *g)
{
    *(u64 *)(g->ram + 0x1000) = 0x2007;
    *(u64 *)(g->ram + 0x2000) = 0x3007;
    ((u64 *)(g->ram + 0x3000))[SCRATCH_LIN >> 21 & 511] = 0x4007;
    *guest_pte(g, SCRATCH_LIN) = SCRATCH_GPA | 7;
    *guest_pte(g, SCRATCH_LIN + PAGE_SIZE) = (SCRATCH_GPA + PAGE_SIZE) | 7;
}

/* Everything allowed: the state in which user code runs. */
static void guest_reset(struct guest *g, u64 xcr0)
{
    struct cpu *c = g->c;

    c->cr0 = CR0_PG | CR0_PE | CR0_NE | CR0_ET | CR0_MP;
    c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    c->efer = EFER_LME | EFER_LMA | EFER_NXE;
    c->cr3 = 0x1000;
    c->xcr0 = xcr0;
    c->cpl = 0;
    c->seg[SEG_CS].ar = SEG_AR_P | SEG_AR_S | SEG_AR_L | 0xb;
    c->rflags = BIT(1);
    c->mode = MODE_64;
    c->tlb = c->tlbs[TLB_KERNEL];
    c->vec.x87.fcw = 0x37f;
    c->vec.x87.fsw = 0;
    c->vec.x87.ftw = 0;
    c->vec.x87.mxcsr = 0x1f80;
    c->exc.pending = false;
    tlb_flush(c);
}

static int guest_create(struct guest *g, u64 xcr0)
{
    g->ram = mmap(NULL, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->ram == MAP_FAILED || mem_create(&g->mem) || cpu_world_create(&g->world) ||
        mem_slot_set(g->mem, 0, 0, GUEST_RAM, g->ram, 0) ||
        cpu_create(&g->c, g->world, g->mem, &guest_bus, NULL))
        return -1;
    guest_paging(g);
    guest_reset(g, xcr0);
    return 0;
}

static void guest_free(struct guest *g)
{
    cpu_free(g->c);
    cpu_world_free(g->world);
    mem_free(g->mem);
    munmap(g->ram, GUEST_RAM);
}

/* Decode and lower one vector instruction. 0, -1: undecodable, -2: refused by vec_lower(). */
static inline int guest_decode(const u8 *bytes, unsigned len, enum cpu_mode_size mode, struct decoded *d,
                        struct insn *in)
{
    bool gp;

    if (decode_one(bytes, len, mode, true, d, &gp))
        return -1;
    insn_from_decoded(d, in, 0);
    return vec_lower(d, in) ? -2 : 0;
}
