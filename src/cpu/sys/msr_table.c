// SPDX-License-Identifier: MIT
// The rows of the MSR table, and the registers among them that are more than a stored value.

/*
 * What is not here (the local APIC's registers, IA32_TSC_DEADLINE, the paravirtual clock) belongs to the bus. An MSR that nobody has
 * raises #GP; Linux probes most of those with handlers in place. Debug and chicken-bit MSRs whose writes change nothing
 * that a guest can see are accepted and forgotten, as hypervisors do.
 */

#include "cpu/sys/desc.h"
#include "cpu/sys/guest_cpuid.h"
#include "cpu/sys/msr.h"

#define MTRR_COUNT 8
#define ALL ~0ull
#define U32_ONLY 0xffffffffull

/* Slots of c->msr_misc. */
enum { MISC_HWCR, MISC_DE_CFG, MISC_VIRT_SPEC_CTRL, MISC_POWER_CTL };

/* --- IA32_EFER: SDM 4 table 2-2, SDM 3A 9.8.5 --- */

#define EFER_FFXSR BIT(14)

static int efer_write(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host)
{
    static const struct {
        u64 bit;
        u8 feature; /* of CPUID.80000001H:EDX */
    } bits[] = {{EFER_SCE, 11}, {EFER_LME, 29}, {EFER_LMA, 29}, {EFER_NXE, 20}, {EFER_FFXSR, 25}};
    u64 old = c->efer, allowed = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        if (host || guest_cpuid_bit(c, 0x80000001, 0, CPUID_EDX, bits[i].feature))
            allowed |= bits[i].bit;
    }
    if (val & ~allowed)
        return OP_FAULT;
    if (c->cr0 & CR0_PG && (old ^ val) & EFER_LME && !host)
        return OP_FAULT;
    c->efer = (val & ~EFER_LMA) | (old & EFER_LMA);
    cpu_mode_update(c);
    if ((old ^ c->efer) & EFER_NXE)
        cpu_mmu_changed(c);
    return OP_NEXT;
}

/* --- time stamp: SDM 3B 17.17.3 --- */

static int tsc_read(struct cpu *c, const struct msr_row *row, u32 n, u64 *val)
{
    *val = cpu_tsc(c);
    return OP_NEXT;
}

/* A guest's write shows in IA32_TSC_ADJUST as well. */
static int tsc_write(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host)
{
    s64 delta = (s64)(val - cpu_tsc(c));

    c->tsc_offset += delta;
    if (!host)
        c->tsc_adjust += delta;
    return OP_NEXT;
}

static int tsc_adjust_write(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host)
{
    if (!host)
        c->tsc_offset += (s64)val - c->tsc_adjust;
    c->tsc_adjust = (s64)val;
    return OP_NEXT;
}

/* --- microcode revision: SDM 3A 9.11.7; guests clear it, run CPUID, and read --- */

static int ucode_read(struct cpu *c, const struct msr_row *row, u32 n, u64 *val)
{
    *val = c->ucode_rev ? c->ucode_rev : cpu_vendor_amd(c) ? 0x01000065 : 1ull << 32;
    return OP_NEXT;
}

static int ucode_write(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host)
{
    if (host)
        c->ucode_rev = val;
    return OP_NEXT;
}

/* --- memory types: SDM 3A 11.11, 11.12 --- */

static bool mtrr_type_valid(u8 type)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6); /* UC, WC, WT, WP, WB */
}

static bool above_maxphyaddr(const struct cpu *c, u64 val)
{
    return val >> c->maxphyaddr;
}

static bool mtrr_fixed_valid(const struct cpu *c, u32 n, u64 val, bool host)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!mtrr_type_valid((u8)(val >> (8 * i))))
            return false;
    }
    return true;
}

static bool mtrr_var_valid(const struct cpu *c, u32 n, u64 val, bool host)
{
    if (above_maxphyaddr(c, val))
        return false;
    return n & 1 ? !(val & 0x7ff) : !(val & 0xf00) && mtrr_type_valid((u8)val);
}

static bool mtrr_def_valid(const struct cpu *c, u32 n, u64 val, bool host)
{
    return mtrr_type_valid((u8)val);
}

static bool pat_valid(const struct cpu *c, u32 n, u64 val, bool host)
{
    for (unsigned i = 0; i < 8; i++) {
        u8 type = (u8)(val >> (8 * i));

        if (type != 7 && !mtrr_type_valid(type)) /* 7: UC- */
            return false;
    }
    return true;
}

/* --- machine check: SDM 3B 15.3; CTL, STATUS, ADDR, MISC of each bank --- */

static bool mc_has_bank(const struct cpu *c, u32 n)
{
    return n / 4 < (c->mcg_cap & 0xff);
}

static int mc_bank_read(struct cpu *c, const struct msr_row *row, u32 n, u64 *val)
{
    if (!mc_has_bank(c, n))
        return OP_FAULT;
    *val = c->mc_bank[n];
    return OP_NEXT;
}

static int mc_bank_write(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host)
{
    bool status = n % 4 == 1;

    if (!mc_has_bank(c, n) || (status && val && !host))
        return OP_FAULT;
    c->mc_bank[n] = val;
    return OP_NEXT;
}

#define MCG_CTL_P BIT(8)

static bool mcg_ctl_valid(const struct cpu *c, u32 n, u64 val, bool host)
{
    return c->mcg_cap & MCG_CTL_P && (val == 0 || val == ALL);
}

static int mcg_ctl_read(struct cpu *c, const struct msr_row *row, u32 n, u64 *val)
{
    if (!(c->mcg_cap & MCG_CTL_P))
        return OP_FAULT;
    *val = c->mcg_ctl;
    return OP_NEXT;
}

/* --- extended feature disable: SDM 1 13.14; XFD_ERR is written by the raiser of #NM --- */

static bool xfd_valid(const struct cpu *c, u32 n, u64 val, bool host)
{
    return !(val & ~(c->cpuid_xcr0 & XCR0_XTILEDATA));
}

/* --- HWCR: APM 2 3.2.10. Of what Linux sets, the bits that work around errata are accepted and forgotten. --- */

#define HWCR_KEPT (BIT(18) /* McStatusWrEn */ | BIT(24) /* TscFreqSel */)
#define HWCR_DROPPED (BIT(3) | BIT(6) | BIT(8))

static int hwcr_write(struct cpu *c, const struct msr_row *row, u32 n, u64 val, bool host)
{
    *msr_field(c, row, n) = val & HWCR_KEPT;
    return OP_NEXT;
}

/* --- the table --- */

#define CPU(member) offsetof(struct cpu, member)
#define SEG_BASE(id) (offsetof(struct cpu, seg) + (id) * sizeof(struct cpu_seg) + offsetof(struct cpu_seg, base))
#define MISC(slot) (offsetof(struct cpu, msr_misc) + (slot) * 8)

#define G(l, i, r, b) {.leaf = l, .index = i, .reg = CPUID_##r, .bit = b, .used = true}
#define GATE_MCA G(1, 0, EDX, 14)
#define GATE_MTRR G(1, 0, EDX, 12)
#define GATE_SEP G(1, 0, EDX, 11)
#define GATE_XFD G(0xd, 1, EAX, 4)
#define GATE_IBRS G(7, 0, EDX, 26), G(0x80000008, 0, EBX, 14)

const struct msr_row msr_rows[] = {
    {.index = 0x10, .count = 1, .name = "IA32_TIME_STAMP_COUNTER", .off = MSR_NOWHERE, .flags = MSR_LIST,
     .writable = ALL, .read = tsc_read, .write = tsc_write, .source = "SDM 4 2-2"},
    {.index = 0x17, .count = 1, .name = "IA32_PLATFORM_ID", .off = MSR_NOWHERE, .flags = MSR_RO,
     .source = "SDM 4 2-2"},
    {.index = 0x34, .count = 1, .name = "MSR_SMI_COUNT", .off = MSR_NOWHERE, .flags = MSR_RO, .source = "SDM 4 2-20"},
    {.index = 0x3a, .count = 1, .name = "IA32_FEATURE_CONTROL", .off = MSR_NOWHERE, .flags = MSR_RO,
     .fixed = 1 /* locked, nothing enabled */, .source = "SDM 4 2-2"},
    {.index = 0x3b, .count = 1, .name = "IA32_TSC_ADJUST", .off = CPU(tsc_adjust), .flags = MSR_LIST,
     .writable = ALL, .write = tsc_adjust_write, .gate = {G(7, 0, EBX, 1)}, .source = "SDM 4 2-2"},
    {.index = 0x48, .count = 1, .name = "IA32_SPEC_CTRL", .off = CPU(spec_ctrl), .flags = MSR_LIST, .writable = 7,
     .gate = {GATE_IBRS, G(7, 0, EDX, 31), G(0x80000008, 0, EBX, 24)}, .source = "SDM 4 2-2"},
    {.index = 0x49, .count = 1, .name = "IA32_PRED_CMD", .off = MSR_NOWHERE, .flags = MSR_WO | MSR_DROP,
     .writable = 1, .gate = {G(7, 0, EDX, 26), G(0x80000008, 0, EBX, 12)}, .source = "SDM 4 2-2"},
    {.index = 0x79, .count = 1, .name = "IA32_BIOS_UPDT_TRIG", .off = MSR_NOWHERE, .flags = MSR_WO | MSR_DROP,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0x8b, .count = 1, .name = "IA32_BIOS_SIGN_ID", .off = CPU(ucode_rev), .flags = MSR_LIST,
     .writable = ALL, .read = ucode_read, .write = ucode_write, .source = "SDM 4 2-2"},
    {.index = 0x9e, .count = 1, .name = "IA32_SMBASE", .off = CPU(smbase), .flags = MSR_HOST | MSR_LIST,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0xce, .count = 1, .name = "MSR_PLATFORM_INFO", .off = CPU(platform_info), .flags = MSR_RO | MSR_LIST,
     .source = "SDM 4 2-20"},
    {.index = 0xfe, .count = 1, .name = "IA32_MTRRCAP", .off = MSR_NOWHERE, .flags = MSR_RO,
     .fixed = 0x500 | MTRR_COUNT, .gate = {GATE_MTRR}, .source = "SDM 4 2-2"},
    {.index = 0x10a, .count = 1, .name = "IA32_ARCH_CAPABILITIES", .off = CPU(arch_capabilities),
     .flags = MSR_RO | MSR_LIST, .gate = {G(7, 0, EDX, 29)}, .source = "SDM 4 2-2"},
    {.index = 0x10b, .count = 1, .name = "IA32_FLUSH_CMD", .off = MSR_NOWHERE, .flags = MSR_WO | MSR_DROP,
     .writable = 1, .gate = {G(7, 0, EDX, 28)}, .source = "SDM 4 2-2"},
    {.index = 0x140, .count = 1, .name = "MSR_MISC_FEATURES_ENABLES", .off = MSR_NOWHERE, .flags = MSR_LIST,
     .source = "SDM 4 2-20"},
    {.index = 0x174, .count = 1, .name = "IA32_SYSENTER_CS", .off = CPU(sysenter_cs), .flags = MSR_LIST,
     .writable = U32_ONLY, .gate = {GATE_SEP}, .source = "SDM 4 2-2"},
    {.index = 0x175, .count = 1, .name = "IA32_SYSENTER_ESP", .off = CPU(sysenter_esp),
     .flags = MSR_LIST | MSR_CANONICAL, .writable = ALL, .gate = {GATE_SEP}, .source = "SDM 4 2-2"},
    {.index = 0x176, .count = 1, .name = "IA32_SYSENTER_EIP", .off = CPU(sysenter_eip),
     .flags = MSR_LIST | MSR_CANONICAL, .writable = ALL, .gate = {GATE_SEP}, .source = "SDM 4 2-2"},
    {.index = 0x179, .count = 1, .name = "IA32_MCG_CAP", .off = CPU(mcg_cap), .flags = MSR_RO, .gate = {GATE_MCA},
     .source = "SDM 4 2-2"},
    {.index = 0x17a, .count = 1, .name = "IA32_MCG_STATUS", .off = CPU(mcg_status), .flags = MSR_LIST,
     .writable = ALL, .gate = {GATE_MCA}, .source = "SDM 4 2-2"},
    {.index = 0x17b, .count = 1, .name = "IA32_MCG_CTL", .off = CPU(mcg_ctl), .writable = ALL,
     .read = mcg_ctl_read, .valid = mcg_ctl_valid, .gate = {GATE_MCA}, .source = "SDM 4 2-2"},
    {.index = 0x198, .count = 1, .name = "IA32_PERF_STATUS", .off = MSR_NOWHERE, .flags = MSR_RO,
     .fixed = 1000 | 4ull << 40 /* some ratio and voltage */, .source = "SDM 4 2-2"},
    {.index = 0x199, .count = 1, .name = "IA32_PERF_CTL", .off = MSR_NOWHERE, .flags = MSR_DROP, .writable = ALL,
     .source = "SDM 4 2-2"},
    {.index = 0x1a0, .count = 1, .name = "IA32_MISC_ENABLE", .off = CPU(misc_enable), .flags = MSR_LIST,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0x1c4, .count = 1, .name = "IA32_XFD", .off = CPU(xfd), .flags = MSR_LIST, .writable = ALL,
     .valid = xfd_valid, .gate = {GATE_XFD}, .source = "SDM 1 13.14"},
    {.index = 0x1c5, .count = 1, .name = "IA32_XFD_ERR", .off = CPU(xfd_err), .flags = MSR_LIST, .writable = ALL,
     .valid = xfd_valid, .gate = {GATE_XFD}, .source = "SDM 1 13.14"},
    /* LBR and BTF may be asked for, and do not come on: there is neither. */
    {.index = 0x1d9, .count = 1, .name = "IA32_DEBUGCTL", .off = MSR_NOWHERE, .flags = MSR_DROP | MSR_LIST,
     .writable = 3, .source = "SDM 4 2-2"},
    {.index = 0x1db, .count = 4, .name = "MSR_LASTBRANCH", .off = MSR_NOWHERE, .flags = MSR_RO,
     .source = "APM 2 13.1.1.6"},
    {.index = 0x1fc, .count = 1, .name = "MSR_POWER_CTL", .off = MISC(MISC_POWER_CTL), .flags = MSR_LIST,
     .writable = ALL, .source = "SDM 4 2-20"},
    {.index = 0x200, .count = 2 * MTRR_COUNT, .name = "IA32_MTRR_PHYS", .off = CPU(mtrr_var), .writable = ALL,
     .valid = mtrr_var_valid, .gate = {GATE_MTRR}, .source = "SDM 3A 11.11.2.3"},
    {.index = 0x250, .count = 1, .name = "IA32_MTRR_FIX64K_00000", .off = CPU(mtrr_fixed), .writable = ALL,
     .valid = mtrr_fixed_valid, .gate = {GATE_MTRR}, .source = "SDM 3A 11.11.2.2"},
    {.index = 0x258, .count = 2, .name = "IA32_MTRR_FIX16K", .off = CPU(mtrr_fixed[1]), .writable = ALL,
     .valid = mtrr_fixed_valid, .gate = {GATE_MTRR}, .source = "SDM 3A 11.11.2.2"},
    {.index = 0x268, .count = 8, .name = "IA32_MTRR_FIX4K", .off = CPU(mtrr_fixed[3]), .writable = ALL,
     .valid = mtrr_fixed_valid, .gate = {GATE_MTRR}, .source = "SDM 3A 11.11.2.2"},
    {.index = 0x277, .count = 1, .name = "IA32_PAT", .off = CPU(pat), .flags = MSR_LIST, .writable = ALL,
     .valid = pat_valid, .gate = {G(1, 0, EDX, 16)}, .source = "SDM 3A 11.12.2"},
    {.index = 0x2ff, .count = 1, .name = "IA32_MTRR_DEF_TYPE", .off = CPU(mtrr_def), .writable = 0xcff,
     .valid = mtrr_def_valid, .gate = {GATE_MTRR}, .source = "SDM 3A 11.11.2.1"},
    {.index = 0x400, .count = 32 * 4, .name = "IA32_MC", .off = CPU(mc_bank), .writable = ALL,
     .read = mc_bank_read, .write = mc_bank_write, .gate = {GATE_MCA}, .source = "SDM 3B 15.3.2"},
    {.index = 0xda0, .count = 1, .name = "IA32_XSS", .off = CPU(xss), .flags = MSR_LIST,
     .writable = 0 /* no supervisor component is offered */, .gate = {G(0xd, 1, EAX, 3)}, .source = "SDM 4 2-2"},
    {.index = 0xc0000080, .count = 1, .name = "IA32_EFER", .off = CPU(efer), .flags = MSR_LIST, .writable = ALL,
     .write = efer_write, .source = "SDM 4 2-2"},
    {.index = 0xc0000081, .count = 1, .name = "IA32_STAR", .off = CPU(star), .flags = MSR_LIST, .writable = ALL,
     .source = "SDM 4 2-2"},
    {.index = 0xc0000082, .count = 1, .name = "IA32_LSTAR", .off = CPU(lstar), .flags = MSR_LIST | MSR_CANONICAL,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0xc0000083, .count = 1, .name = "IA32_CSTAR", .off = CPU(cstar), .flags = MSR_LIST | MSR_CANONICAL,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0xc0000084, .count = 1, .name = "IA32_FMASK", .off = CPU(sfmask), .flags = MSR_LIST,
     .writable = U32_ONLY, .source = "SDM 4 2-2"},
    {.index = 0xc0000100, .count = 1, .name = "IA32_FS_BASE", .off = SEG_BASE(SEG_FS), .flags = MSR_CANONICAL,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0xc0000101, .count = 1, .name = "IA32_GS_BASE", .off = SEG_BASE(SEG_GS), .flags = MSR_CANONICAL,
     .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0xc0000102, .count = 1, .name = "IA32_KERNEL_GS_BASE", .off = CPU(kernel_gs_base),
     .flags = MSR_LIST | MSR_CANONICAL, .writable = ALL, .source = "SDM 4 2-2"},
    {.index = 0xc0000103, .count = 1, .name = "IA32_TSC_AUX", .off = CPU(tsc_aux), .flags = MSR_LIST,
     .writable = U32_ONLY, .gate = {G(0x80000001, 0, EDX, 27), G(7, 0, ECX, 22)}, .source = "SDM 4 2-2"},
    {.index = 0xc0010010, .count = 1, .name = "SYSCFG", .off = MSR_NOWHERE, .flags = MSR_AMD | MSR_DROP,
     .writable = ALL, .source = "APM 2 3.2.1"},
    {.index = 0xc0010015, .count = 1, .name = "HWCR", .off = MISC(MISC_HWCR), .flags = MSR_AMD | MSR_LIST,
     .writable = HWCR_DROPPED | HWCR_KEPT, .write = hwcr_write, .source = "APM 2 3.2.10"},
    {.index = 0xc001001f, .count = 1, .name = "NB_CFG", .off = MSR_NOWHERE, .flags = MSR_AMD | MSR_DROP,
     .writable = ALL, .source = "BKDG 10h"},
    {.index = 0xc0010020, .count = 1, .name = "PATCH_LOADER", .off = MSR_NOWHERE,
     .flags = MSR_AMD | MSR_WO | MSR_DROP, .writable = ALL, .source = "BKDG 10h"},
    {.index = 0xc0010055, .count = 1, .name = "INT_PENDING_MSG", .off = MSR_NOWHERE, .flags = MSR_AMD | MSR_DROP,
     .writable = ALL, .source = "BKDG 10h"},
    {.index = 0xc0010058, .count = 1, .name = "MMIO_CFG_BASE_ADDR", .off = MSR_NOWHERE, .flags = MSR_AMD | MSR_RO,
     .source = "BKDG 10h"},
    {.index = 0xc0010112, .count = 2, .name = "SMM_ADDR", .off = MSR_NOWHERE, .flags = MSR_AMD | MSR_RO,
     .source = "APM 2 10.2.5"},
    {.index = 0xc001011f, .count = 1, .name = "VIRT_SPEC_CTRL", .off = MISC(MISC_VIRT_SPEC_CTRL),
     .flags = MSR_AMD | MSR_LIST, .writable = 4, .gate = {G(0x80000008, 0, EBX, 25)}, .source = "APM 2 15.37"},
    {.index = 0xc0011020, .count = 4, .name = "LS_CFG IC_CFG DC_CFG BU_CFG", .off = MSR_NOWHERE,
     .flags = MSR_AMD | MSR_DROP, .writable = ALL, .source = "BKDG 10h"},
    {.index = 0xc0011029, .count = 1, .name = "DE_CFG", .off = MISC(MISC_DE_CFG), .flags = MSR_AMD | MSR_LIST,
     .writable = BIT(1) /* LFENCE serializes */ | BIT(9), .source = "PPR 17h"},
    {.index = 0xc001102a, .count = 1, .name = "BU_CFG2", .off = MSR_NOWHERE, .flags = MSR_AMD | MSR_DROP,
     .writable = ALL, .source = "BKDG 10h"},
};

const unsigned msr_row_count = ARRAY_SIZE(msr_rows);
