// SPDX-License-Identifier: MIT
// Fast system calls, SWAPGS and the FS and GS base instructions.

#include "cpu/sys/desc.h"
#include "cpu/sys/guest_cpuid.h"
#include "cpu/sys/lower.h"

/* Hidden parts that SYSCALL, SYSENTER and their returns load without looking at a table. */
#define AR_FLAT (SEG_AR_P | SEG_AR_S | SEG_AR_G)
#define AR_CODE(dpl, size) (AR_FLAT | 0xb | (u32)(dpl) << SEG_AR_DPL_SHIFT | (size))
#define AR_DATA(dpl) (AR_FLAT | 0x3 | SEG_AR_DB | (u32)(dpl) << SEG_AR_DPL_SHIFT)

static void load_flat(struct cpu *c, u16 cs, u16 ss, unsigned cpl, u32 code_size)
{
    c->seg[SEG_CS] = (struct cpu_seg){.sel = cs, .limit = ~0u, .ar = (u32)AR_CODE(cpl, code_size)};
    c->seg[SEG_SS] = (struct cpu_seg){.sel = ss, .limit = ~0u, .ar = (u32)AR_DATA(cpl)};
    cpu_set_cpl(c, cpl);
}

/* Clear (mask) in RFLAGS. No trap follows the instruction that has cleared TF on its way in. */
static void rflags_clear(struct cpu *c, u64 mask)
{
    u64 old = cpu_rflags_get(c);

    if (old & mask & RFLAGS_TF)
        c->inhibit |= CPU_INHIBIT_TRAP;
    cpu_rflags_set(c, old & ~mask);
}

/* SDM 2B SYSCALL. Outside 64-bit mode it exists on AMD's CPUs alone: APM 3 SYSCALL. */
static int op_syscall(struct cpu *c, const struct insn *in)
{
    u64 next = cpu_rip_trim(c, insn_next(c, in));
    u16 cs = (u16)(c->star >> 32) & 0xfffc;
    bool from64 = c->mode == MODE_64;

    if (!(c->efer & EFER_SCE) || !cpu_protected(c) || (!from64 && !cpu_vendor_amd(c)))
        return cpu_raise_ud(c);
    c->r[REG_RCX] = next;
    if (cpu_long(c)) {
        c->r[REG_R11] = cpu_rflags_get(c) & ~RFLAGS_RF;
        c->rip = from64 ? c->lstar : c->cstar;
        rflags_clear(c, c->sfmask | RFLAGS_RF);
        load_flat(c, cs, (u16)(cs + 8), 0, SEG_AR_L);
    } else {
        c->rip = (u32)c->star;
        rflags_clear(c, RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
        load_flat(c, cs, (u16)(cs + 8), 0, SEG_AR_DB);
    }
    return OP_END;
}

/* SDM 2B SYSRET. A RCX that is not canonical faults here on Intel's CPUs; on AMD's the user's fetch faults. */
static int op_sysret(struct cpu *c, const struct insn *in)
{
    u16 star = (u16)(c->star >> 48);
    bool amd = cpu_vendor_amd(c);

    if (!(c->efer & EFER_SCE) || !cpu_protected(c) || (c->mode != MODE_64 && !amd))
        return cpu_raise_ud(c);
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    if (in->size == 8 && !amd && !addr_canonical(c->r[REG_RCX]))
        return cpu_raise_gp(c);
    if (cpu_long(c))
        cpu_rflags_set(c, c->r[REG_R11] & 0x3c7fd7);
    else
        c->rflags |= RFLAGS_IF;
    if (in->size == 8) {
        c->rip = c->r[REG_RCX];
        load_flat(c, (u16)(star + 16) | 3, (u16)(star + 8) | 3, 3, SEG_AR_L);
    } else {
        c->rip = (u32)c->r[REG_RCX];
        load_flat(c, star | 3, (u16)(star + 8) | 3, 3, SEG_AR_DB);
    }
    return OP_END;
}

/* SDM 2B SYSENTER, SYSEXIT; AMD's CPUs have neither in long mode. */
static int op_sysenter(struct cpu *c, const struct insn *in)
{
    u16 cs = (u16)c->sysenter_cs & 0xfffc;
    bool lm = cpu_long(c);

    if (lm && cpu_vendor_amd(c))
        return cpu_raise_ud(c);
    if (!(c->cr0 & CR0_PE) || !cs)
        return cpu_raise_gp(c);
    c->rip = lm ? c->sysenter_eip : (u32)c->sysenter_eip;
    c->r[REG_RSP] = lm ? c->sysenter_esp : (u32)c->sysenter_esp;
    c->rflags &= ~(RFLAGS_VM | RFLAGS_IF);
    load_flat(c, cs, (u16)(cs + 8), 0, lm ? SEG_AR_L : SEG_AR_DB);
    return OP_END;
}

static int op_sysexit(struct cpu *c, const struct insn *in)
{
    u16 cs = (u16)c->sysenter_cs & 0xfffc;
    u64 rip = c->r[REG_RDX], rsp = c->r[REG_RCX];

    if (cpu_long(c) && cpu_vendor_amd(c))
        return cpu_raise_ud(c);
    if (!cpu_protected(c) || !cs || c->cpl > 0)
        return cpu_raise_gp(c);
    if (in->size == 8) {
        if (!addr_canonical(rip) || !addr_canonical(rsp))
            return cpu_raise_gp(c);
        c->rip = rip;
        c->r[REG_RSP] = rsp;
        load_flat(c, (u16)(cs + 32) | 3, (u16)(cs + 40) | 3, 3, SEG_AR_L);
    } else {
        c->rip = (u32)rip;
        c->r[REG_RSP] = (u32)rsp;
        load_flat(c, (u16)(cs + 16) | 3, (u16)(cs + 24) | 3, 3, SEG_AR_DB);
    }
    return OP_END;
}

static int op_swapgs(struct cpu *c, const struct insn *in)
{
    u64 base = c->seg[SEG_GS].base;

    if (c->mode != MODE_64)
        return cpu_raise_ud(c);
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    c->seg[SEG_GS].base = c->kernel_gs_base;
    c->kernel_gs_base = base;
    return OP_NEXT;
}

/* SDM 2B RDFSBASE, WRFSBASE; in->x[0] is the segment. */
static int op_rdbase(struct cpu *c, const struct insn *in)
{
    if (c->mode != MODE_64 || !(c->cr4 & CR4_FSGSBASE))
        return cpu_raise_ud(c);
    reg_write(c, in->rm, in->size, c->seg[in->x[0]].base);
    return OP_NEXT;
}

static int op_wrbase(struct cpu *c, const struct insn *in)
{
    u64 base = in->size == 8 ? *insn_reg64(c, in->rm) : *insn_reg32(c, in->rm);

    if (c->mode != MODE_64 || !(c->cr4 & CR4_FSGSBASE))
        return cpu_raise_ud(c);
    if (!addr_canonical(base))
        return cpu_raise_gp(c);
    c->seg[in->x[0]].base = base;
    return OP_NEXT;
}

static int lower_base(const struct decoded *d, struct insn *in, const void *arg)
{
    in->size = (u8)d->op[0].size;
    in->x[0] = d->mnemonic == ZYDIS_MNEMONIC_RDFSBASE || d->mnemonic == ZYDIS_MNEMONIC_WRFSBASE ? SEG_FS : SEG_GS;
    return lower_form(d, in, arg);
}

const struct op_row ops_syscall[] = {
    {ZYDIS_MNEMONIC_SYSCALL, lower_form, SYS_FORM(op_syscall, INSN_ENDS)},
    {ZYDIS_MNEMONIC_SYSRET, lower_form, SYS_FORM(op_sysret, INSN_ENDS)},
    {ZYDIS_MNEMONIC_SYSENTER, lower_form, SYS_FORM(op_sysenter, INSN_ENDS)},
    {ZYDIS_MNEMONIC_SYSEXIT, lower_form, SYS_FORM(op_sysexit, INSN_ENDS)},
    {ZYDIS_MNEMONIC_SWAPGS, lower_form, SYS_FORM(op_swapgs, 0)},
    {ZYDIS_MNEMONIC_RDFSBASE, lower_base, SYS_FORM(op_rdbase, 0)},
    {ZYDIS_MNEMONIC_RDGSBASE, lower_base, SYS_FORM(op_rdbase, 0)},
    {ZYDIS_MNEMONIC_WRFSBASE, lower_base, SYS_FORM(op_wrbase, 0)},
    {ZYDIS_MNEMONIC_WRGSBASE, lower_base, SYS_FORM(op_wrbase, 0)},
    {0, NULL, NULL},
};
