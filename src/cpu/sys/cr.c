// SPDX-License-Identifier: MIT
// Writes and reads of the control registers: SDM 3A 2.5, 4.10.4, 9.8.5.

#include "cpu/mmu/walk.h"
#include "cpu/sys/control.h"
#include "cpu/sys/guest_cpuid.h"
#include "cpu/sys/segment_ops.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR0_MSW (CR0_PE | CR0_MP | CR0_EM | CR0_TS)
#define CR3_NOFLUSH BIT(63)
#define CR3_PCID 0xfffull

/* The CPUID feature that makes a bit of CR4 writable. A bit without a row is reserved. */
static const struct cr4_row {
    u32 bit;
    u32 leaf;
    u8 reg, feature;
} cr4_rows[] = {
    {CR4_TSD, 1, CPUID_EDX, 4},
    {CR4_DE, 1, CPUID_EDX, 2},
    {CR4_PSE, 1, CPUID_EDX, 3},
    {CR4_PAE, 1, CPUID_EDX, 6},
    {CR4_MCE, 1, CPUID_EDX, 7},
    {CR4_PGE, 1, CPUID_EDX, 13},
    {CR4_PCE, 1, CPUID_EDX, 0}, /* no feature of its own: every CPU */
    {CR4_OSFXSR, 1, CPUID_EDX, 24},
    {CR4_OSXMMEXCPT, 1, CPUID_EDX, 25},
    {CR4_UMIP, 7, CPUID_ECX, 2},
    {CR4_FSGSBASE, 7, CPUID_EBX, 0},
    {CR4_PCIDE, 1, CPUID_ECX, 17},
    {CR4_OSXSAVE, 1, CPUID_ECX, 26},
    {CR4_SMEP, 7, CPUID_EBX, 7},
    {CR4_SMAP, 7, CPUID_EBX, 20},
};

/* Bits whose change makes translations invalid: SDM 3A 4.10.4.1. */
#define CR4_FLUSH (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP)
#define CR4_PDPTE (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)
#define CR0_FLUSH (CR0_PE | CR0_PG | CR0_WP)
#define CR0_PDPTE (CR0_PG | CR0_CD | CR0_NW)

/* PAE paging outside long mode holds its four top entries in registers. */
static bool uses_pdptes(const struct cpu *c)
{
    return c->cr0 & CR0_PG && c->cr4 & CR4_PAE && !cpu_long(c);
}

static bool cr0_valid(const struct cpu *c, u64 val, u64 efer)
{
    if ((val & CR0_PG && !(val & CR0_PE)) || (val & CR0_NW && !(val & CR0_CD)) || val >> 32)
        return false;
    if (c->cr0 & CR0_PG && !(val & CR0_PG) && (c->cr4 & CR4_PCIDE || c->mode == MODE_64))
        return false;
    if (!(c->cr0 & CR0_PG) && efer & EFER_LMA)
        return c->cr4 & CR4_PAE && !(c->seg[SEG_CS].ar & SEG_AR_L);
    return true;
}

static int cr0_write(struct cpu *c, u64 val)
{
    u64 old = c->cr0, old_efer = c->efer, efer = old_efer & ~EFER_LMA;
    int rc;

    if (val & CR0_PG && efer & EFER_LME)
        efer |= EFER_LMA;
    if (!cr0_valid(c, val, efer))
        return cpu_raise_gp(c);
    c->cr0 = (val & CR0_DEFINED) | CR0_ET;
    c->efer = efer;
    if ((old ^ c->cr0) & CR0_PDPTE && uses_pdptes(c)) {
        rc = mmu_load_pdptes(c);
        if (rc) {
            c->cr0 = old;
            c->efer = old_efer;
            return rc;
        }
    }
    cpu_mode_update(c);
    if ((old ^ c->cr0) & CR0_FLUSH)
        cpu_mmu_changed(c);
    return OP_STOP;
}

static int cr3_write(struct cpu *c, u64 val)
{
    bool pcide = c->cr4 & CR4_PCIDE, keep = pcide && val & CR3_NOFLUSH;
    u64 old = c->cr3;
    int rc;

    if (pcide)
        val &= ~CR3_NOFLUSH;
    if (cpu_long(c) && val >> c->maxphyaddr)
        return cpu_raise_gp(c);
    c->cr3 = val;
    if (uses_pdptes(c)) {
        rc = mmu_load_pdptes(c);
        if (rc) {
            c->cr3 = old;
            return rc;
        }
    }
    tlb_switch(c, pcide ? val & CR3_PCID : 0, keep);
    return OP_STOP;
}

u64 cpu_cr4_allowed(const struct cpu *c)
{
    u64 allowed = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(cr4_rows); i++) {
        const struct cr4_row *r = &cr4_rows[i];

        if (guest_cpuid_bit(c, r->leaf, 0, r->reg, r->feature))
            allowed |= r->bit;
    }
    return allowed;
}

static bool cr4_valid(const struct cpu *c, u64 val)
{
    u64 set = val & ~c->cr4;

    if (val & ~cpu_cr4_allowed(c))
        return false;
    if (cpu_long(c) && !(val & CR4_PAE))
        return false;
    return !(set & CR4_PCIDE) || (cpu_long(c) && !(c->cr3 & CR3_PCID));
}

static int cr4_write(struct cpu *c, u64 val)
{
    u64 old = c->cr4;
    int rc;

    if (!cr4_valid(c, val))
        return cpu_raise_gp(c);
    c->cr4 = val;
    if ((old ^ val) & CR4_PDPTE && uses_pdptes(c)) {
        rc = mmu_load_pdptes(c);
        if (rc) {
            c->cr4 = old;
            return rc;
        }
    }
    cpu_mode_update(c);
    if ((old ^ val) & CR4_FLUSH)
        cpu_mmu_changed(c);
    return OP_STOP;
}

static int cr8_write(struct cpu *c, u64 val)
{
    if (val & ~0xfull)
        return cpu_raise_gp(c);
    c->bus->cr8_write(c, (u8)val);
    return OP_STOP;
}

int op_mov_to_cr(struct cpu *c, const struct insn *in)
{
    u64 val = c->mode == MODE_64 ? *insn_reg64(c, in->rm) : *insn_reg32(c, in->rm);

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    switch (in->x[0]) {
    case 0:
        return cr0_write(c, val);
    case 2:
        c->cr2 = val;
        return OP_STOP;
    case 3:
        return cr3_write(c, val);
    case 4:
        return cr4_write(c, val);
    case 8:
        return cr8_write(c, val);
    default:
        return cpu_raise_ud(c);
    }
}

int op_mov_from_cr(struct cpu *c, const struct insn *in)
{
    u64 val;

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    switch (in->x[0]) {
    case 0:
        val = c->cr0;
        break;
    case 2:
        val = c->cr2;
        break;
    case 3:
        val = c->cr3;
        break;
    case 4:
        val = c->cr4;
        break;
    case 8:
        val = c->bus->cr8_read(c);
        break;
    default:
        return cpu_raise_ud(c);
    }
    *insn_reg64(c, in->rm) = c->mode == MODE_64 ? val : (u32)val;
    return OP_NEXT;
}

/* SDM 2A LMSW: sets PE but cannot clear it. */
int op_lmsw(struct cpu *c, const struct insn *in)
{
    u16 msw;
    int rc;

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = sel_operand_load(c, in, &msw);
    if (rc)
        return rc;
    return cr0_write(c, (c->cr0 & ~(CR0_MSW & ~CR0_PE)) | (msw & CR0_MSW));
}

int op_clts(struct cpu *c, const struct insn *in)
{
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    c->cr0 &= ~CR0_TS;
    cpu_mode_update(c);
    return OP_STOP;
}
