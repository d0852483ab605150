// SPDX-License-Identifier: MIT
// Instructions that read or write processor-wide registers: MSRs, time stamp, CPUID, XCR0, PKRU, random numbers.

#include "cpu/sys/desc.h"
#include "cpu/sys/guest_cpuid.h"
#include "cpu/sys/lower.h"

#include <cpuid.h>
#include <sys/random.h>

#define CR4_PKE BIT(22)
#define RANDOM_TRIES 100

static u64 edx_eax(const struct cpu *c)
{
    return (u64)(u32)c->r[REG_RDX] << 32 | (u32)c->r[REG_RAX];
}

static void set_edx_eax(struct cpu *c, u64 val)
{
    c->r[REG_RAX] = (u32)val;
    c->r[REG_RDX] = (u32)(val >> 32);
}

static int msr_ask(struct cpu *c, enum cpu_msr_trap why, bool write, u64 *val)
{
    return c->bus->msr_trap ? c->bus->msr_trap(c, why, (u32)c->r[REG_RCX], write, val) : OP_NEXT;
}

/* The access is about to raise #GP, unless somebody else makes it. */
static int msr_refused(struct cpu *c, bool write, u64 *val)
{
    struct cpu_event gp = c->exc;
    bool known = cpu_msr_known(c, (u32)c->r[REG_RCX]);
    int rc;

    c->exc.pending = false;
    rc = msr_ask(c, known ? CPU_MSR_INVALID : CPU_MSR_UNKNOWN, write, val);
    if (rc != OP_NEXT)
        return rc;
    c->exc = gp;
    return OP_FAULT;
}

static int op_rdmsr(struct cpu *c, const struct insn *in)
{
    u64 val = 0;
    int rc;

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = msr_ask(c, CPU_MSR_ASK, false, &val);
    if (rc == OP_NEXT) {
        rc = cpu_msr_read(c, (u32)c->r[REG_RCX], &val, false);
        if (rc == OP_FAULT)
            rc = msr_refused(c, false, &val);
    }
    if (rc < 0)
        return rc;
    set_edx_eax(c, val);
    return OP_NEXT;
}

static int op_wrmsr(struct cpu *c, const struct insn *in)
{
    u64 val = edx_eax(c);
    int rc;

    if (c->cpl > 0)
        return cpu_raise_gp(c);
    rc = msr_ask(c, CPU_MSR_ASK, true, &val);
    if (rc == OP_NEXT) {
        rc = cpu_msr_write(c, (u32)c->r[REG_RCX], val, false);
        if (rc == OP_FAULT)
            rc = msr_refused(c, true, &val);
    }
    return rc < 0 ? rc : OP_STOP;
}

static bool tsc_forbidden(const struct cpu *c)
{
    return c->cr4 & CR4_TSD && c->cpl > 0;
}

static int op_rdtsc(struct cpu *c, const struct insn *in)
{
    if (tsc_forbidden(c))
        return cpu_raise_gp(c);
    set_edx_eax(c, cpu_tsc(c));
    return OP_NEXT;
}

static int op_rdtscp(struct cpu *c, const struct insn *in)
{
    if (!guest_cpuid_bit(c, 0x80000001, 0, CPUID_EDX, 27))
        return cpu_raise_ud(c);
    if (tsc_forbidden(c))
        return cpu_raise_gp(c);
    set_edx_eax(c, cpu_tsc(c));
    c->r[REG_RCX] = (u32)c->tsc_aux;
    return OP_NEXT;
}

static int op_rdpid(struct cpu *c, const struct insn *in)
{
    if (!guest_cpuid_bit(c, 7, 0, CPUID_ECX, 22))
        return cpu_raise_ud(c);
    *insn_reg64(c, in->rm) = (u32)c->tsc_aux;
    return OP_NEXT;
}

static int op_cpuid(struct cpu *c, const struct insn *in)
{
    u32 out[4];

    cpu_cpuid_answer(c, (u32)c->r[REG_RAX], (u32)c->r[REG_RCX], out);
    c->r[REG_RAX] = out[0];
    c->r[REG_RBX] = out[1];
    c->r[REG_RCX] = out[2];
    c->r[REG_RDX] = out[3];
    return OP_NEXT;
}

/* SDM 2D XGETBV: ECX = 1 needs CPUID.0DH.1:EAX[2]. */
static int op_xgetbv(struct cpu *c, const struct insn *in)
{
    u32 index = (u32)c->r[REG_RCX];

    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(c);
    if (index == 0)
        set_edx_eax(c, c->xcr0);
    else if (index == 1 && guest_cpuid_bit(c, 0xd, 1, CPUID_EAX, 2))
        set_edx_eax(c, xstate_inuse(c));
    else
        return cpu_raise_gp(c);
    return OP_NEXT;
}

static int op_xsetbv(struct cpu *c, const struct insn *in)
{
    int rc;

    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(c);
    if (c->cpl > 0 || (u32)c->r[REG_RCX] != 0)
        return cpu_raise_gp(c);
    rc = cpu_xcr0_set(c, edx_eax(c));
    return rc < 0 ? rc : OP_STOP;
}

static bool host_has_rdrand(void)
{
    static int known; /* 0 not asked yet, 1 no, 2 yes; the same from every thread */
    unsigned eax, ebx, ecx, edx;

    if (!known)
        known = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & bit_RDRND ? 2 : 1;
    return known == 2;
}

/* A random number from the host's generator, or its kernel's. False: neither has one now. */
static bool random_get(u64 *val)
{
    unsigned char ok;

    for (unsigned i = 0; host_has_rdrand() && i < RANDOM_TRIES; i++) {
        __asm__ volatile("rdrand %0; setc %1" : "=r"(*val), "=qm"(ok) : : "cc");
        if (ok)
            return true;
    }
    return getrandom(val, sizeof(*val), GRND_NONBLOCK) == (ssize_t)sizeof(*val);
}

/* RDRAND, RDSEED: CF says whether there was one; the other flags are 0. Without one the register is 0. */
static int random_op(struct cpu *c, const struct insn *in)
{
    u64 val = 0;
    bool ok = random_get(&val);

    c->cc = cpu_cc_from_rflags(ok ? RFLAGS_CF : 0);
    reg_write(c, in->rm, in->size, ok ? val : 0);
    return OP_NEXT;
}

static int op_rdrand(struct cpu *c, const struct insn *in)
{
    return guest_cpuid_bit(c, 1, 0, CPUID_ECX, 30) ? random_op(c, in) : cpu_raise_ud(c);
}

static int op_rdseed(struct cpu *c, const struct insn *in)
{
    return guest_cpuid_bit(c, 7, 0, CPUID_EBX, 18) ? random_op(c, in) : cpu_raise_ud(c);
}

static int op_rdpkru(struct cpu *c, const struct insn *in)
{
    if (!(c->cr4 & CR4_PKE))
        return cpu_raise_ud(c);
    if ((u32)c->r[REG_RCX])
        return cpu_raise_gp(c);
    set_edx_eax(c, c->vec.pkru);
    return OP_NEXT;
}

static int op_wrpkru(struct cpu *c, const struct insn *in)
{
    if (!(c->cr4 & CR4_PKE))
        return cpu_raise_ud(c);
    if ((u32)c->r[REG_RCX] || (u32)c->r[REG_RDX])
        return cpu_raise_gp(c);
    c->vec.pkru = (u32)c->r[REG_RAX];
    return OP_STOP;
}

const struct op_row ops_msr[] = {
    {ZYDIS_MNEMONIC_RDMSR, lower_form, SYS_FORM(op_rdmsr, 0)},
    {ZYDIS_MNEMONIC_WRMSR, lower_form, SYS_FORM(op_wrmsr, INSN_ENDS)},
    {ZYDIS_MNEMONIC_RDTSC, lower_form, SYS_FORM(op_rdtsc, 0)},
    {ZYDIS_MNEMONIC_RDTSCP, lower_form, SYS_FORM(op_rdtscp, 0)},
    {ZYDIS_MNEMONIC_RDPID, lower_form, SYS_FORM(op_rdpid, 0)},
    {ZYDIS_MNEMONIC_CPUID, lower_form, SYS_FORM(op_cpuid, 0)},
    {ZYDIS_MNEMONIC_XGETBV, lower_form, SYS_FORM(op_xgetbv, 0)},
    {ZYDIS_MNEMONIC_XSETBV, lower_form, SYS_FORM(op_xsetbv, INSN_ENDS)},
    {ZYDIS_MNEMONIC_RDRAND, lower_form, SYS_FORM(op_rdrand, 0)},
    {ZYDIS_MNEMONIC_RDSEED, lower_form, SYS_FORM(op_rdseed, 0)},
    {ZYDIS_MNEMONIC_RDPKRU, lower_form, SYS_FORM(op_rdpkru, 0)},
    {ZYDIS_MNEMONIC_WRPKRU, lower_form, SYS_FORM(op_wrpkru, INSN_ENDS)},
    {0, NULL, NULL},
};
