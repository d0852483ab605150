// SPDX-License-Identifier: MIT
// From decoded vector, MMX and x87 instructions to ops.

#include "cpu/vec/lower.h"

#include "cpu/vec/exec.h"
#include "cpu/vec/host.h"
#include "cpu/vec/x87.h"
#include "cpu/vec/x87_fast.h"

#include <Zydis/DecoderTypes.h>
#include <errno.h>

const struct op_row ops_vec[] = {{0}};

static int op_vzeroupper(struct cpu *c, const struct insn *in)
{
    int rc = vec_check(c, in, &vec_avail_avx);
    unsigned n = c->mode == MODE_64 ? 16 : 8;

    for (unsigned i = 0; rc == OP_NEXT && i < n; i++)
        memset(c->vec.zmm[i] + 16, 0, 48);
    return rc;
}

static int op_vzeroall(struct cpu *c, const struct insn *in)
{
    int rc = vec_check(c, in, &vec_avail_avx);
    unsigned n = c->mode == MODE_64 ? 16 : 8;

    for (unsigned i = 0; rc == OP_NEXT && i < n; i++)
        memset(c->vec.zmm[i], 0, 64);
    return rc;
}

static int op_emms(struct cpu *c, const struct insn *in)
{
    int rc = vec_check(c, in, &vec_avail_mmx);

    if (rc == OP_NEXT) {
        x87_enter_mmx(&c->vec.x87);
        c->vec.x87.ftw = 0;
    }
    return rc;
}

static const struct opnd *memory_operand(const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_MEM)
            return &d->op[i];
    }
    return NULL;
}

op_fn *lower_stub_op(const struct decoded *d, const struct vec_stub *s)
{
    const struct opnd *m = memory_operand(d);
    bool frame = s->flags & (VEC_MXCSR | VEC_FX);

    if (s->fast)
        return !m ? op_fast_reg : m->write ? op_fast_store : op_fast_load;
    if (!m)
        return frame ? op_vec_frame_reg : op_vec_reg;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_VCOMPRESSPS:
    case ZYDIS_MNEMONIC_VCOMPRESSPD:
    case ZYDIS_MNEMONIC_VPCOMPRESSB:
    case ZYDIS_MNEMONIC_VPCOMPRESSW:
    case ZYDIS_MNEMONIC_VPCOMPRESSD:
    case ZYDIS_MNEMONIC_VPCOMPRESSQ:
        return op_vec_compress;
    case ZYDIS_MNEMONIC_VEXPANDPS:
    case ZYDIS_MNEMONIC_VEXPANDPD:
    case ZYDIS_MNEMONIC_VPEXPANDB:
    case ZYDIS_MNEMONIC_VPEXPANDW:
    case ZYDIS_MNEMONIC_VPEXPANDD:
    case ZYDIS_MNEMONIC_VPEXPANDQ:
        return op_vec_expand;
    default:
        break;
    }
    if (s->masking != MASKING_NONE)
        return m->write ? op_vec_masked_store : op_vec_masked_load;
    if (m->write)
        return frame ? op_vec_frame_store : op_vec_store;
    return frame ? op_vec_frame_load : op_vec_load;
}

int lower_stub(const struct decoded *d, struct insn *in)
{
    const struct opnd *m = memory_operand(d);
    const struct vec_stub *s;

    if (m && (m->size == 0 || m->size > 64))
        return -ENOENT;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_GPR)
            in->x[0] = opnd_off(&d->op[i]);
    }
    if (vec_stub_get(d, &s)) {
        in->op = op_vec_uncached;
        return 0;
    }
    in->aux = (void *)s;
    in->op = lower_stub_op(d, s);
    return 0;
}

/* Conversions from memory to a GPR: no operand tells that these are vector instructions. */
static bool converts_to_gpr(const struct decoded *d)
{
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_CVTSS2SI:
    case ZYDIS_MNEMONIC_CVTTSS2SI:
    case ZYDIS_MNEMONIC_CVTSD2SI:
    case ZYDIS_MNEMONIC_CVTTSD2SI:
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VCVTSS2USI:
    case ZYDIS_MNEMONIC_VCVTTSS2USI:
    case ZYDIS_MNEMONIC_VCVTSD2USI:
    case ZYDIS_MNEMONIC_VCVTTSD2USI:
    case ZYDIS_MNEMONIC_VCVTSH2SI:
    case ZYDIS_MNEMONIC_VCVTTSH2SI:
    case ZYDIS_MNEMONIC_VCVTSH2USI:
    case ZYDIS_MNEMONIC_VCVTTSH2USI:
        return true;
    default:
        return false;
    }
}

bool vec_uses_registers(const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_VEC || d->op[i].kind == OPND_MMX || d->op[i].kind == OPND_MASK)
            return true;
    }
    return converts_to_gpr(d);
}

int vec_lower(const struct decoded *d, struct insn *in)
{
    int rc;

    if (!host_runs(d->isa_set) || d->lock)
        return -ENOENT;
    if (x87_is(d))
        return x87_lower(d, in);
    if (d->enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY && d->enc != ZYDIS_INSTRUCTION_ENCODING_VEX &&
        d->enc != ZYDIS_INSTRUCTION_ENCODING_EVEX)
        return -ENOENT;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_VZEROUPPER:
        in->op = op_vzeroupper;
        return 0;
    case ZYDIS_MNEMONIC_VZEROALL:
        in->op = op_vzeroall;
        return 0;
    case ZYDIS_MNEMONIC_EMMS:
        in->op = op_emms;
        return 0;
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return maskmov_lower(d, in);
    default:
        break;
    }
    if (!vec_uses_registers(d))
        return -ENOENT;
    if (d->vsib)
        return gather_lower(d, in);
    rc = move_lower(d, in);
    return rc == -ENOENT ? lower_stub(d, in) : rc;
}
