// SPDX-License-Identifier: MIT
// Life of a CPU, its reset state, and what is derived from control registers.

#include "cpu/cpu.h"
#include "cpu/interp/block.h"
#include "cpu/jit/jit.h"
#include "cpu/mmu/stlb.h"
#include "cpu/trace.h"
#include "cpu/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define AR_CODE16 (SEG_AR_P | SEG_AR_S | 0xb)
#define AR_DATA16 (SEG_AR_P | SEG_AR_S | 0x3)
#define PAT_RESET 0x0007040600070406ull

static size_t cpu_size(void)
{
    return ALIGN_UP(sizeof(struct cpu) + TLB_VIEWS * sizeof(struct tlb), (size_t)PAGE_SIZE);
}

/* LeakSanitizer looks for pointers in mappings that it is told of. NULL without it. */
void __lsan_register_root_region(const void *p, size_t size) __attribute__((weak));
void __lsan_unregister_root_region(const void *p, size_t size) __attribute__((weak));

/* A vCPU and its TLB, zeroed: at a low address if there is room, where translated code reaches it best (jit/asm.h). */
static struct cpu *cpu_alloc(void)
{
    int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, cpu_size(), prot, flags | MAP_32BIT, -1, 0);

    if (p == MAP_FAILED)
        p = mmap(NULL, cpu_size(), prot, flags, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (__lsan_register_root_region)
        __lsan_register_root_region(p, cpu_size());
    return p;
}

static void cpu_unmap(struct cpu *c)
{
    if (__lsan_unregister_root_region)
        __lsan_unregister_root_region(c, cpu_size());
    munmap(c, cpu_size());
}

int cpu_create(struct cpu **ret, struct cpu_world *world, struct mem *mem,
               const struct cpu_bus *bus, void *owner)
{
    struct cpu *c = cpu_alloc();
    int rc;

    if (!c)
        return -ENOMEM;
    c->world = world;
    c->mem = mem;
    c->bus = bus;
    c->owner = owner;
    c->maxphyaddr = 46;
    c->xlayout = xstate_layout_intel;
    cpu_trace_from_environment();
    tlb_init(c);
    rc = stlb_create(c);
    if (rc)
        goto free_cpu;
    rc = block_cache_create(&c->blocks);
    if (rc)
        goto free_cpu;
    rc = cpu_world_add(world, c);
    if (rc)
        goto free_cpu;
    cpu_reset(c, false);
    *ret = c;
    return 0;

free_cpu:
    block_cache_free(c->blocks);
    stlb_free(c);
    cpu_unmap(c);
    return rc;
}

void cpu_free(struct cpu *c)
{
    if (!c)
        return;
    cpu_world_remove(c->world, c);
    jit_free(c);
    block_cache_free(c->blocks);
    stlb_free(c);
    free(c->cpuid);
    free(c->amx.tile);
    cpu_unmap(c);
}

static void reset_segments(struct cpu *c)
{
    for (int i = SEG_ES; i <= SEG_GS; i++)
        c->seg[i] = (struct cpu_seg){.limit = 0xffff, .ar = AR_DATA16};
    c->seg[SEG_CS] =
        (struct cpu_seg){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .ar = AR_CODE16};
    c->seg[SEG_NONE] = (struct cpu_seg){0};
    c->seg[SEG_TR] = (struct cpu_seg){.limit = 0xffff, .ar = SEG_AR_P | 0xb};
    c->seg[SEG_LDTR] = (struct cpu_seg){.limit = 0xffff, .ar = SEG_AR_P | 0x2};
    c->gdt = c->idt = (struct cpu_dtable){.limit = 0xffff};
}

/* What RESET sets and INIT keeps: SDM 3A table 10-1. */
static void reset_cold(struct cpu *c)
{
    memset(&c->vec, 0, sizeof(c->vec));
    c->vec.x87.fcw = 0x40;
    c->vec.x87.mxcsr = 0x1f80;
    free(c->amx.tile);
    memset(&c->amx, 0, sizeof(c->amx));
    c->xcr0 = XCR0_X87;
    c->xss = c->xfd = c->xfd_err = 0;
    c->pat = PAT_RESET;
    c->misc_enable = BIT(0);
    c->mtrr_def = 0;
    memset(c->mtrr_fixed, 0, sizeof(c->mtrr_fixed));
    memset(c->mtrr_var, 0, sizeof(c->mtrr_var));
    c->mcg_status = c->mcg_ctl = 0;
    memset(c->mc_bank, 0, sizeof(c->mc_bank));
    memset(c->msr_misc, 0, sizeof(c->msr_misc));
    c->arch_capabilities = cpu_arch_capabilities();
    c->tsc_aux = c->spec_ctrl = 0;
    c->tsc_adjust = 0;
}

void cpu_reset(struct cpu *c, bool init)
{
    u64 cr0_kept = init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;

    memset(c->r, 0, sizeof(c->r));
    c->r[REG_RDX] = 0x600;
    c->rip = 0xfff0;
    c->cc = cpu_cc_from_rflags(0);
    c->rflags = BIT(1);
    c->cpl = 0;
    c->inhibit = 0;
    reset_segments(c);
    c->cr0 = CR0_ET | cr0_kept;
    c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
    memset(c->dr, 0, sizeof(c->dr));
    c->dr6 = 0xffff0ff0;
    c->dr7 = 0x400;
    c->star = c->lstar = c->cstar = c->sfmask = c->kernel_gs_base = 0;
    c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
    c->debugctl = 0;
    c->exc.pending = c->reinject.pending = false;
    c->nmi_blocked = c->halted = false;
    c->nmi_pending = 0;
    if (!init)
        reset_cold(c);
    cpu_mode_update(c);
    cpu_mmu_changed(c);
}

void cpu_sipi(struct cpu *c, u8 vector)
{
    c->seg[SEG_CS].sel = (u16)(vector << 8);
    c->seg[SEG_CS].base = (u64)vector << 12;
    c->rip = 0;
    cpu_mode_update(c);
}

u64 cpu_rflags_get(const struct cpu *c)
{
    return c->rflags | cpu_cc_to_rflags(c->cc);
}

void cpu_rflags_set(struct cpu *c, u64 rflags)
{
    u64 old = c->rflags;

    c->cc = cpu_cc_from_rflags(rflags);
    c->rflags = (rflags & ~RFLAGS_ARITH & 0x3f7fd7) | BIT(1);
    if ((old ^ c->rflags) & (RFLAGS_AC | RFLAGS_VM))
        cpu_mode_update(c);
}

void cpu_mode_update(struct cpu *c)
{
    u32 cs = c->seg[SEG_CS].ar;
    u64 base;

    if (c->efer & EFER_LMA && cs & SEG_AR_L)
        c->mode = MODE_64;
    else if (cs & SEG_AR_DB)
        c->mode = MODE_32;
    else
        c->mode = MODE_16;

    /* Links between blocks are followed by RIP alone: another base makes other code of the same RIP. */
    base = c->mode == MODE_64 ? 0 : c->seg[SEG_CS].base;
    if (unlikely(base != c->link_base)) {
        c->link_base = base;
        tlb_unlink(c);
    }

    if (c->cpl == 3 && c->cr0 & CR0_AM && c->rflags & RFLAGS_AC)
        c->tlb = c->tlbs[TLB_USER_AC];
    else if (c->cpl == 3)
        c->tlb = c->tlbs[TLB_USER];
    else if (c->cr4 & CR4_SMAP && c->rflags & RFLAGS_AC)
        c->tlb = c->tlbs[TLB_KERNEL_AC];
    else
        c->tlb = c->tlbs[TLB_KERNEL];
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        if (c->tlb == c->tlbs[v])
            c->block_key = (u8)((c->block_key & ~(CPU_KEY_MODE | CPU_KEY_VIEW)) | c->mode |
                                v << CPU_KEY_VIEW_SHIFT);
    }
}

#define MXCSR_MASKS 0x1f80u
#define FCW_MASKS   0x3fu
#define FSW_ES      BIT(7)

void cpu_key_update(struct cpu *c)
{
    u8 key = c->block_key & (CPU_KEY_MODE | CPU_KEY_VIEW);

    if (!(c->cr0 & (CR0_EM | CR0_TS)) && c->cr4 & CR4_OSFXSR &&
        (c->vec.x87.mxcsr & MXCSR_MASKS) == MXCSR_MASKS) {
        key |= CPU_KEY_SSE;
        if (c->cr4 & CR4_OSXSAVE && (c->xcr0 & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX))
            key |=
                (c->xcr0 & XCR0_AVX512) == XCR0_AVX512 ? CPU_KEY_AVX | CPU_KEY_AVX512 : CPU_KEY_AVX;
    }
    if (!(c->cr0 & (CR0_EM | CR0_TS)) && (c->vec.x87.fcw & FCW_MASKS) == FCW_MASKS &&
        !(c->vec.x87.fsw & FSW_ES))
        key |= CPU_KEY_X87;
    if (unlikely(key != c->block_key)) {
        c->block_key = key;
        tlb_unlink(c);
    }
}

void cpu_mmu_changed(struct cpu *c)
{
    tlb_flush(c);
}
