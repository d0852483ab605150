// SPDX-License-Identifier: MIT
// Instructions that control the processor: interrupt flag, HLT, TLB and cache invalidation, hypercalls.

#include "cpu/interp/operand.h"
#include "cpu/sys/control.h"
#include "cpu/sys/guest_cpuid.h"
#include "cpu/sys/lower.h"

/* CLI and STI obey IOPL; virtual-8086 mode without VME wants IOPL 3. */
static bool if_allowed(const struct cpu *c)
{
    unsigned iopl = (c->rflags & RFLAGS_IOPL) >> 12;

    return !(c->cr0 & CR0_PE) || iopl >= (c->rflags & RFLAGS_VM ? 3 : c->cpl);
}

static int op_cli(struct cpu *c, const struct insn *in)
{
    if (!if_allowed(c))
        return cpu_raise_gp(c);
    c->rflags &= ~RFLAGS_IF;
    return OP_NEXT;
}

/* SDM 2B STI: interrupts stay off for one instruction more, if they were off. */
static int op_sti(struct cpu *c, const struct insn *in)
{
    if (!if_allowed(c))
        return cpu_raise_gp(c);
    if (!(c->rflags & RFLAGS_IF))
        c->inhibit |= CPU_INHIBIT_STI;
    c->rflags |= RFLAGS_IF;
    return OP_STOP;
}

static int set_ac(struct cpu *c, bool ac)
{
    /* CR4.SMAP can be set only where CPUID has SMAP, and saves looking. */
    if (c->cpl > 0 || (!(c->cr4 & CR4_SMAP) && !guest_cpuid_bit(c, 7, 0, CPUID_EBX, 20)))
        return cpu_raise_ud(c);
    c->rflags = ac ? c->rflags | RFLAGS_AC : c->rflags & ~RFLAGS_AC;
    cpu_mode_update(c);
    return OP_NEXT;
}

static int op_clac(struct cpu *c, const struct insn *in) { return set_ac(c, false); }
static int op_stac(struct cpu *c, const struct insn *in) { return set_ac(c, true); }

static int op_hlt(struct cpu *c, const struct insn *in)
{
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    c->halted = true;
    return OP_STOP;
}

/* INVD, WBINVD, WBNOINVD: there are no caches. */
static int op_wbinvd(struct cpu *c, const struct insn *in)
{
    return c->cpl > 0 ? cpu_raise_gp(c) : OP_NEXT;
}

/* SDM 2A INVLPG. An address that is not canonical has nothing to invalidate. */
static int op_invlpg(struct cpu *c, const struct insn *in)
{
    u64 lin = insn_ea(c, in) + c->seg[in->seg].base;

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    tlb_flush_page(c, cpu_long(c) ? lin : (u32)lin);
    return OP_STOP;
}

/* SDM 2A INVPCID */
static int op_invpcid(struct cpu *c, const struct insn *in)
{
    u64 type = c->mode == MODE_64 ? *insn_reg64(c, in->reg) : *insn_reg32(c, in->reg);
    u64 lin, desc[2];
    int rc;

    if (!guest_cpuid_bit(c, 7, 0, CPUID_EBX, 10))
        return cpu_raise_ud(c);
    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = insn_lin(c, in, 16, false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, desc, 16, insn_acc(in));
    if (rc)
        return rc;
    if (type > 3 || desc[0] >> 12)
        return cpu_raise_gp(c);
    if (type < 2 && !(c->cr4 & CR4_PCIDE) && desc[0])
        return cpu_raise_gp(c);
    if (type == 0 && !addr_canonical(desc[1]))
        return cpu_raise_gp(c);
    if (type == 0)
        tlb_flush_pcid_page(c, (unsigned)desc[0], desc[1]);
    else if (type == 1)
        tlb_flush_pcid(c, (unsigned)desc[0]);
    else if (type == 2)
        tlb_flush(c);
    else
        tlb_flush_nonglobal(c);
    return OP_STOP;
}

/* MONITOR, where the guest has it: the checks of a load, and nothing to watch, since MWAIT may wake at any time. */
static int op_monitor(struct cpu *c, const struct insn *in)
{
    u64 lin = c->r[REG_RAX] & (~0ull >> in->ea_shift);
    u8 byte;
    int rc;

    if (c->cpl > 0 || !guest_cpuid_bit(c, 1, 0, CPUID_ECX, 3))
        return cpu_raise_ud(c);
    if ((u32)c->r[REG_RCX])
        return cpu_raise_gp(c);
    if (!(in->flags & INSN_LEGACY))
        return mmu_ld8(c, lin + c->seg[in->x[0]].base, &byte, 0);
    rc = seg_access(c, in->x[0], lin, 1, false, &lin);
    return rc ? rc : mmu_ld8(c, lin, &byte, 0);
}

static int op_mwait(struct cpu *c, const struct insn *in)
{
    if (c->cpl > 0 || !guest_cpuid_bit(c, 1, 0, CPUID_ECX, 3))
        return cpu_raise_ud(c);
    return (u32)c->r[REG_RCX] & ~1u ? cpu_raise_gp(c) : OP_STOP;
}

static int op_vmcall(struct cpu *c, const struct insn *in)
{
    int rc = c->bus->hypercall ? c->bus->hypercall(c) : cpu_raise_ud(c);

    return rc == OP_NEXT ? OP_STOP : rc;
}

/* There are no performance counters to name. */
static int op_rdpmc(struct cpu *c, const struct insn *in)
{
    return cpu_raise_gp(c);
}

static int op_ud(struct cpu *c, const struct insn *in)
{
    return cpu_raise_ud(c);
}

/* MOV to and from CRn and DRn; (arg) unused. */
static int lower_mov_system(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct opnd *dst = &d->op[0], *src = &d->op[1];
    bool to = dst->kind == OPND_CR || dst->kind == OPND_DR;
    const struct opnd *sys = to ? dst : src;

    if (sys->kind == OPND_CR)
        in->op = to ? op_mov_to_cr : op_mov_from_cr;
    else if (sys->kind == OPND_DR)
        in->op = to ? op_mov_to_dr : op_mov_from_dr;
    else
        return -ENOENT;
    in->x[0] = sys->reg;
    if (to)
        in->flags |= INSN_ENDS;
    return 0;
}

static int lower_lmsw(const struct decoded *d, struct insn *in, const void *arg)
{
    in->x[1] = d->op[0].kind == OPND_MEM;
    return lower_form(d, in, arg);
}

static int lower_monitor(const struct decoded *d, struct insn *in, const void *arg)
{
    in->x[0] = decoded_source_seg(d);
    return lower_form(d, in, arg);
}

const struct op_row ops_control[] = {
    {ZYDIS_MNEMONIC_MOV, lower_mov_system, NULL},
    {ZYDIS_MNEMONIC_LMSW, lower_lmsw, SYS_FORM(op_lmsw, INSN_ENDS)},
    {ZYDIS_MNEMONIC_CLTS, lower_form, SYS_FORM(op_clts, INSN_ENDS)},
    {ZYDIS_MNEMONIC_CLI, lower_form, SYS_FORM(op_cli, 0)},
    {ZYDIS_MNEMONIC_STI, lower_form, SYS_FORM(op_sti, 0)},
    {ZYDIS_MNEMONIC_CLAC, lower_form, SYS_FORM(op_clac, 0)},
    {ZYDIS_MNEMONIC_STAC, lower_form, SYS_FORM(op_stac, 0)},
    {ZYDIS_MNEMONIC_HLT, lower_form, SYS_FORM(op_hlt, INSN_ENDS)},
    {ZYDIS_MNEMONIC_INVD, lower_form, SYS_FORM(op_wbinvd, 0)},
    {ZYDIS_MNEMONIC_WBINVD, lower_form, SYS_FORM(op_wbinvd, 0)},
    {ZYDIS_MNEMONIC_INVLPG, lower_form, SYS_FORM(op_invlpg, INSN_ENDS)},
    {ZYDIS_MNEMONIC_INVPCID, lower_form, SYS_FORM(op_invpcid, INSN_ENDS)},
    {ZYDIS_MNEMONIC_MONITOR, lower_monitor, SYS_FORM(op_monitor, 0)},
    {ZYDIS_MNEMONIC_MWAIT, lower_form, SYS_FORM(op_mwait, INSN_ENDS)},
    {ZYDIS_MNEMONIC_VMCALL, lower_form, SYS_FORM(op_vmcall, INSN_ENDS)},
    {ZYDIS_MNEMONIC_VMMCALL, lower_form, SYS_FORM(op_vmcall, INSN_ENDS)},
    {ZYDIS_MNEMONIC_RDPMC, lower_form, SYS_FORM(op_rdpmc, 0)},
    {ZYDIS_MNEMONIC_RSM, lower_form, SYS_FORM(op_ud, INSN_ENDS)}, /* outside SMM: SDM 2B RSM */
    {0, NULL, NULL},
};
