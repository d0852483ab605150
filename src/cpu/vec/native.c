// SPDX-License-Identifier: MIT
// Vector instructions that a translator may run on the host's registers as they are.

#include "cpu/vec/native.h"
#include "cpu/vec/host.h"
#include "cpu/vec/lower.h"
#include "cpu/vec/stub.h"
#include "cpu/vec/x87.h"

#include <Zydis/DecoderTypes.h>

static bool clears_upper_halves(const struct decoded *d)
{
    return d->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || d->mnemonic == ZYDIS_MNEMONIC_VZEROALL;
}

bool vec_native(const struct decoded *d)
{
    const struct vec_stub *s;

    if (!host_runs(d->isa_set) || d->lock || x87_is(d))
        return false;
    if (d->enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY && d->enc != ZYDIS_INSTRUCTION_ENCODING_VEX &&
        d->enc != ZYDIS_INSTRUCTION_ENCODING_EVEX)
        return false;
    if (clears_upper_halves(d))
        return true;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_EMMS:
        return false;
    default:
        break;
    }
    if (d->vsib || !vec_uses_registers(d) || vec_stub_get(d, &s))
        return false;
    return !(s->flags & VEC_FX) && (!d->has_mem || s->mem_size);
}

unsigned vec_native_align(const struct decoded *d)
{
    const struct vec_stub *s;

    return vec_stub_get(d, &s) ? 1 : s->mem_align;
}

bool x87_native(const struct decoded *d, bool *control)
{
    const struct vec_stub *s;

    *control = true;
    if (!host_runs(d->isa_set) || d->lock || d->enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_EMMS:
        return true;
    case ZYDIS_MNEMONIC_FWAIT: /* looks at CR0.MP as well */
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_MASKMOVQ:
        return false;
    default:
        break;
    }
    *control = !x87_is(d);
    if (*control && !vec_uses_registers(d))
        return false;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_VEC)
            return false;
    }
    return !vec_stub_get(d, &s) && (s->flags & (VEC_FX | VEC_MXCSR)) == VEC_FX &&
           (!d->has_mem || s->mem_size);
}
