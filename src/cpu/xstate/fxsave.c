// SPDX-License-Identifier: MIT
// FXSAVE, FXRSTOR, LDMXCSR and STMXCSR: SDM 2A.

#include "cpu/mmu/access.h"
#include "cpu/xstate/component.h"
#include "cpu/xstate/ops.h"

#include <string.h>

static int fx_lin(struct cpu *c, const struct insn *in, bool write, u64 *lin)
{
    int rc;

    if (c->cr0 & (CR0_EM | CR0_TS))
        return cpu_raise(c, EXC_NM);
    rc = insn_lin(c, in, XSTATE_LEGACY_SIZE, write, lin);
    if (rc)
        return rc;
    return IS_ALIGNED(*lin, 16) ? OP_NEXT : cpu_raise_gp(c);
}

/* Without CR4.OSFXSR the system does not know of XMM and MXCSR: they stay out of the image. */
int op_fxsave(struct cpu *c, const struct insn *in)
{
    bool long_mode = c->mode == MODE_64, sse = c->cr4 & CR4_OSFXSR;
    u32 len = XSTATE_X87_END;
    u8 img[XSTATE_LEGACY_SIZE];
    u64 lin;
    int rc = fx_lin(c, in, true, &lin);

    if (rc)
        return rc;
    xstate_pack_x87(c, in->x[0] & XS_WIDE, img);
    xstate_pack_mxcsr(c, img);
    if (sse) {
        xstate_pack_xmm(c, long_mode, img);
        len = long_mode ? XSTATE_XMM_END : XSTATE_XMM + 128;
    }
    return mmu_store(c, lin, img, len, insn_acc(in));
}

int op_fxrstor(struct cpu *c, const struct insn *in)
{
    bool sse = c->cr4 & CR4_OSFXSR;
    u8 img[XSTATE_LEGACY_SIZE];
    u32 mxcsr;
    u64 lin;
    int rc = fx_lin(c, in, false, &lin);

    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, img, sizeof(img), insn_acc(in));
    if (rc)
        return rc;
    memcpy(&mxcsr, img + XSTATE_MXCSR, 4);
    if (sse && mxcsr & ~MXCSR_VALID)
        return cpu_raise_gp(c);
    xstate_unpack_x87(c, in->x[0] & XS_WIDE, img);
    if (sse) {
        c->vec.x87.mxcsr = mxcsr;
        xstate_unpack_xmm(c, c->mode == MODE_64, img);
    }
    return OP_NEXT;
}

/* SDM 2 table 2-22 (exception class 5). */
static int mxcsr_usable(struct cpu *c, const struct insn *in)
{
    const u64 avx = XCR0_SSE | XCR0_AVX;
    bool ok;

    if (in->x[0] & XS_VEX)
        ok = c->cr4 & CR4_OSXSAVE && (c->xcr0 & avx) == avx && c->cr0 & CR0_PE &&
             !(c->rflags & RFLAGS_VM);
    else
        ok = !(c->cr0 & CR0_EM) && c->cr4 & CR4_OSFXSR;
    if (!ok)
        return cpu_raise_ud(c);
    return c->cr0 & CR0_TS ? cpu_raise(c, EXC_NM) : OP_NEXT;
}

int op_ldmxcsr(struct cpu *c, const struct insn *in)
{
    u32 val;
    u64 lin;
    int rc = mxcsr_usable(c, in);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, 4, false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_ld32(c, lin, &val, insn_acc(in));
    if (rc)
        return rc;
    if (val & ~MXCSR_VALID)
        return cpu_raise_gp(c);
    c->vec.x87.mxcsr = val;
    return OP_NEXT;
}

int op_stmxcsr(struct cpu *c, const struct insn *in)
{
    u64 lin;
    int rc = mxcsr_usable(c, in);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, 4, true, &lin);
    if (rc)
        return rc;
    return mmu_st32(c, lin, c->vec.x87.mxcsr, insn_acc(in));
}
