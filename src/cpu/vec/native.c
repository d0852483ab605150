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
