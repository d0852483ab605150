// SPDX-License-Identifier: MIT
// x87 control instructions and environments: FNINIT, FLDCW, FNSTENV, FNSAVE and their like.

/*
 * Exceptions are reported as #MF whatever CR0.NE says: the FERR#/IRQ 13 way of the PC/AT is
 * not modelled. FCS and FDS are stored as zero, as CPUs with CPUID.7.0:EBX[13] do.
 */

#include "cpu/vec/x87.h"

#include "cpu/vec/exec.h"
#include "cpu/vec/lower.h"

#include <Zydis/DecoderTypes.h>
#include <errno.h>

#define FCW_INIT 0x37f
#define FCW_FIXED 0x40     /* reads as one */
#define FCW_WRITABLE 0x1f3f
#define FSW_CLEARED 0x80ff /* by FNCLEX: B, ES, SF and the exception flags */
#define FOP_BITS 0x7ff

bool x87_is(const struct decoded *d)
{
    return d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY && d->map == ZYDIS_OPCODE_MAP_DEFAULT &&
           (d->opcode == 0x9b || (d->opcode & 0xf8) == 0xd8);
}

void x87_update_summary(struct cpu *c)
{
    if (x87_pending(c))
        c->vec.x87.fsw |= FSW_ES | FSW_B;
    else
        c->vec.x87.fsw &= (u16)~(FSW_ES | FSW_B);
}

void x87_set_fsw(struct cpu_x87 *x, u16 fsw)
{
    unsigned old = x->fsw >> 11 & 7, new = fsw >> 11 & 7;
    u8 st[8][16];

    x->fsw = fsw;
    if (old == new)
        return;
    memcpy(st, x->st, sizeof(st));
    for (unsigned i = 0; i < 8; i++)
        memcpy(x->st[(i + old - new) & 7], st[i], 16);
}

void x87_enter_mmx(struct cpu_x87 *x)
{
    x87_set_fsw(x, x->fsw & (u16)~(7u << 11));
    x->ftw = 0xff;
}

void x87_note_pointers(struct cpu *c, const struct insn *in)
{
    c->vec.x87.fop = (u16)(in->x[1] | (in->x[2] & 7) << 8);
    c->vec.x87.fip = cpu_rip_trim(c, insn_rip(c, in));
    if (in->x[2] & 0x80)
        c->vec.x87.fdp = insn_ea(c, in);
}

static void init(struct cpu *c)
{
    c->vec.x87.fcw = FCW_INIT;
    x87_set_fsw(&c->vec.x87, 0);
    c->vec.x87.ftw = 0;
    c->vec.x87.fop = 0;
    c->vec.x87.fip = 0;
    c->vec.x87.fdp = 0;
}

static void set_fcw(struct cpu *c, u16 v)
{
    c->vec.x87.fcw = (v & FCW_WRITABLE) | FCW_FIXED;
    x87_update_summary(c);
}

/* #NM when the unit may not be used. (waiting): also #MF when an exception is pending. */
static int check(struct cpu *c, bool waiting)
{
    if (unlikely(c->cr0 & (CR0_EM | CR0_TS)))
        return cpu_raise(c, EXC_NM);
    if (waiting && unlikely(x87_pending(c)))
        return cpu_raise(c, EXC_MF);
    return OP_NEXT;
}

/* FWAIT. SDM 2A: #NM only for MP and TS together. */
static int op_fwait(struct cpu *c, const struct insn *in)
{
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        return cpu_raise(c, EXC_NM);
    return unlikely(x87_pending(c)) ? cpu_raise(c, EXC_MF) : OP_NEXT;
}

static int op_fninit(struct cpu *c, const struct insn *in)
{
    int rc = check(c, false);

    if (rc == OP_NEXT)
        init(c);
    return rc;
}

static int op_fnclex(struct cpu *c, const struct insn *in)
{
    int rc = check(c, false);

    if (rc == OP_NEXT)
        c->vec.x87.fsw &= (u16)~FSW_CLEARED;
    return rc;
}

static int op_fldcw(struct cpu *c, const struct insn *in)
{
    u64 lin;
    u16 v;
    int rc = check(c, true);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, 2, false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_ld16(c, lin, &v, insn_acc(in));
    if (rc == OP_NEXT)
        set_fcw(c, v);
    return rc;
}

static int store16(struct cpu *c, const struct insn *in, u16 v)
{
    u64 lin;
    int rc = check(c, false);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, 2, true, &lin);
    return rc ? rc : mmu_st16(c, lin, v, insn_acc(in));
}

static int op_fnstcw(struct cpu *c, const struct insn *in)
{
    return store16(c, in, c->vec.x87.fcw);
}

static int op_fnstsw(struct cpu *c, const struct insn *in)
{
    return store16(c, in, c->vec.x87.fsw);
}

static int op_fnstsw_ax(struct cpu *c, const struct insn *in)
{
    int rc = check(c, false);

    if (rc == OP_NEXT)
        *insn_reg16(c, 8 * REG_RAX) = c->vec.x87.fsw;
    return rc;
}

static unsigned top(const struct cpu *c)
{
    return c->vec.x87.fsw >> 11 & 7;
}

/* Two tag bits of physical register (n): SDM 1 8.1.7. */
static unsigned full_tag(const struct cpu *c, unsigned n)
{
    const u8 *st = c->vec.x87.st[(n - top(c)) & 7];
    unsigned exp;
    u64 man;

    if (!(c->vec.x87.ftw & 1u << n))
        return 3;
    memcpy(&man, st, 8);
    exp = (st[8] | (unsigned)st[9] << 8) & 0x7fff;
    if (exp == 0)
        return man ? 2 : 1;
    return exp == 0x7fff || !(man >> 63) ? 2 : 0;
}

static u16 full_tags(const struct cpu *c)
{
    unsigned tags = 0;

    for (unsigned n = 0; n < 8; n++)
        tags |= full_tag(c, n) << 2 * n;
    return (u16)tags;
}

/* The four layouts: SDM 1 8.1.10. */
#define ENV_MAX 28

static bool real_format(const struct cpu *c)
{
    return !(c->cr0 & CR0_PE) || c->rflags & RFLAGS_VM;
}

/* The environment in (size) bytes: 14 or 28. */
static void env_get(const struct cpu *c, unsigned size, u8 *buf)
{
    const struct cpu_x87 *x = &c->vec.x87;
    u32 ip = (u32)x->fip, dp = (u32)x->fdp, w[7];

    w[0] = x->fcw;
    w[1] = x->fsw;
    w[2] = full_tags(c);
    w[3] = ip;
    w[4] = (u32)(x->fop & FOP_BITS) << 16;
    w[5] = dp;
    w[6] = 0;
    if (real_format(c)) {
        w[3] = ip & 0xffff;
        w[4] = size == 28 ? (ip >> 16) << 12 | (x->fop & FOP_BITS)
                          : (ip >> 16 & 15) << 12 | (x->fop & FOP_BITS);
        w[5] = dp & 0xffff;
        w[6] = size == 28 ? (dp >> 16) << 12 : (dp >> 16 & 15) << 12;
    } else if (size == 14) {
        w[4] = 0; /* FCS: no room for FOP */
    }
    if (size == 28) {
        for (unsigned i = 0; i < 3; i++)
            w[i] |= 0xffff0000u;
        if (real_format(c)) {
            w[3] |= 0xffff0000u;
            w[5] |= 0xffff0000u;
        } else {
            w[6] |= 0xffff0000u;
        }
        memcpy(buf, w, 28);
        return;
    }
    for (unsigned i = 0; i < 7; i++) {
        buf[2 * i] = (u8)w[i];
        buf[2 * i + 1] = (u8)(w[i] >> 8);
    }
}

static void env_set(struct cpu *c, unsigned size, const u8 *buf)
{
    struct cpu_x87 *x = &c->vec.x87;
    u32 w[7];

    for (unsigned i = 0; i < 7; i++) {
        if (size == 28)
            memcpy(&w[i], buf + 4 * i, 4);
        else
            w[i] = buf[2 * i] | (u32)buf[2 * i + 1] << 8;
    }
    x87_set_fsw(x, (u16)w[1]);
    x->ftw = 0;
    for (unsigned n = 0; n < 8; n++) {
        if ((w[2] >> 2 * n & 3) != 3)
            x->ftw |= (u8)(1u << n);
    }
    if (real_format(c)) {
        x->fop = w[4] & FOP_BITS;
        x->fip = (w[3] & 0xffff) | (u32)(w[4] >> 12) << 16;
        x->fdp = (w[5] & 0xffff) | (u32)(w[6] >> 12) << 16;
    } else {
        x->fop = size == 28 ? w[4] >> 16 & FOP_BITS : 0;
        x->fip = w[3];
        x->fdp = w[5];
    }
    set_fcw(c, (u16)w[0]);
}

/* FNSTENV, FNSAVE: (x[1]) bytes of environment, (x[2]): registers too. */
static int op_fnstenv(struct cpu *c, const struct insn *in)
{
    unsigned env = in->x[1], len = env + (in->x[2] ? 80 : 0);
    u8 buf[ENV_MAX + 80];
    u64 lin;
    int rc = check(c, false);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, len, true, &lin);
    if (rc)
        return rc;
    env_get(c, env, buf);
    if (in->x[2]) {
        for (unsigned i = 0; i < 8; i++)
            memcpy(buf + env + 10 * i, c->vec.x87.st[i], 10);
    }
    rc = mmu_store(c, lin, buf, len, insn_acc(in));
    if (rc < 0)
        return rc;
    if (in->x[2])
        init(c);
    else
        set_fcw(c, c->vec.x87.fcw | 0x3f);
    return rc;
}

/* FLDENV, FRSTOR. */
static int op_fldenv(struct cpu *c, const struct insn *in)
{
    unsigned env = in->x[1], len = env + (in->x[2] ? 80 : 0);
    u8 buf[ENV_MAX + 80];
    u64 lin;
    int rc = check(c, true);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, len, false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, buf, len, insn_acc(in));
    if (rc)
        return rc;
    env_set(c, env, buf);
    if (in->x[2]) {
        memset(c->vec.x87.st, 0, sizeof(c->vec.x87.st));
        for (unsigned i = 0; i < 8; i++)
            memcpy(c->vec.x87.st[i], buf + env + 10 * i, 10);
    }
    return OP_NEXT;
}

static int lower_env(const struct decoded *d, struct insn *in, op_fn *op)
{
    unsigned size = d->op[0].size;

    in->x[2] = size > ENV_MAX;
    in->x[1] = (u8)(in->x[2] ? size - 80 : size);
    in->op = op;
    return in->x[1] == 14 || in->x[1] == 28 ? 0 : -ENOENT;
}

int x87_lower(const struct decoded *d, struct insn *in)
{
    bool mem = d->has_mem && d->modrm_mod != 3;

    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_FWAIT:
        in->op = op_fwait;
        return 0;
    case ZYDIS_MNEMONIC_FNINIT:
        in->op = op_fninit;
        return 0;
    case ZYDIS_MNEMONIC_FNCLEX:
        in->op = op_fnclex;
        return 0;
    case ZYDIS_MNEMONIC_FLDCW:
        in->op = op_fldcw;
        return 0;
    case ZYDIS_MNEMONIC_FNSTCW:
        in->op = op_fnstcw;
        return 0;
    case ZYDIS_MNEMONIC_FNSTSW:
        in->op = mem ? op_fnstsw : op_fnstsw_ax;
        return 0;
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
        return lower_env(d, in, op_fnstenv);
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
        return lower_env(d, in, op_fldenv);
    default:
        /* For x87_note_pointers(). */
        in->x[1] = d->bytes[d->modrm_off];
        in->x[2] = (u8)((d->opcode & 7) | (mem ? 0x80 : 0));
        return lower_stub(d, in);
    }
}
