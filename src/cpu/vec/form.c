// SPDX-License-Identifier: MIT
// What an instruction form uses and demands: registers, memory operand, MXCSR, alignment, availability.

#include "cpu/vec/stub.h"

#include <Zydis/DecoderTypes.h>

static unsigned implicit_operands(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_PBLENDVB:
    case ZYDIS_MNEMONIC_BLENDVPS:
    case ZYDIS_MNEMONIC_BLENDVPD:
    case ZYDIS_MNEMONIC_SHA256RNDS2:
        return VEC_IMPL_XMM0_IN;
    case ZYDIS_MNEMONIC_PCMPISTRM:
    case ZYDIS_MNEMONIC_VPCMPISTRM:
        return VEC_IMPL_XMM0_OUT;
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
        return VEC_IMPL_XMM0_OUT | VEC_IMPL_LENGTHS;
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_VPCMPISTRI:
        return VEC_IMPL_INDEX;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
        return VEC_IMPL_INDEX | VEC_IMPL_LENGTHS;
    default:
        return 0;
    }
}

void vec_regs_of(const struct decoded *d, struct vec_regs *r)
{
    *r = (struct vec_regs){.implicit = implicit_operands(d->mnemonic)};
    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *o = &d->op[i];

        if (o->kind == OPND_VEC) {
            r->vec_load |= 1u << o->reg;
            r->vec_store |= o->write ? 1u << o->reg : 0;
        } else if (o->kind == OPND_MASK && o->encoding != ENC_MASK) {
            r->k_load |= (u8)(1u << o->reg);
            r->k_store |= (u8)(o->write ? 1u << o->reg : 0);
        } else if (o->kind == OPND_GPR) {
            r->gpr_load |= o->read;
            r->gpr_store |= o->write;
        }
    }
    if (d->evex_aaa)
        r->k_load |= (u8)(1u << d->evex_aaa);
    if (d->mnemonic == ZYDIS_MNEMONIC_VP2INTERSECTD || d->mnemonic == ZYDIS_MNEMONIC_VP2INTERSECTQ)
        r->k_store = (u8)(3u << (d->modrm_reg & 6));
    if (r->implicit & (VEC_IMPL_XMM0_IN | VEC_IMPL_XMM0_OUT))
        r->vec_load |= 1;
    if (r->implicit & VEC_IMPL_XMM0_OUT)
        r->vec_store |= 1;
}

/* How (d) depends on MXCSR and sets flags in it: VEC_MXCSR, VEC_QUIET. SDM 2A 2.4, 2.8: by exception class. */
static unsigned mxcsr_use(const struct decoded *d)
{
    bool sae = d->evex_b && d->modrm_mod == 3;

    switch (d->exc_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11:
    case ZYDIS_EXCEPTION_CLASS_E2:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E11:
    case ZYDIS_EXCEPTION_CLASS_E11NF:
        return VEC_MXCSR | (sae ? VEC_QUIET : 0);
    default:
        break;
    }
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS: /* no class is given for these */
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
        return VEC_MXCSR;
    case ZYDIS_MNEMONIC_VFPCLASSPS: /* no exceptions, but DAZ and FTZ count */
    case ZYDIS_MNEMONIC_VFPCLASSPD:
    case ZYDIS_MNEMONIC_VFPCLASSSS:
    case ZYDIS_MNEMONIC_VFPCLASSSD:
    case ZYDIS_MNEMONIC_VRCP14PS:
    case ZYDIS_MNEMONIC_VRCP14PD:
    case ZYDIS_MNEMONIC_VRCP14SS:
    case ZYDIS_MNEMONIC_VRCP14SD:
    case ZYDIS_MNEMONIC_VRSQRT14PS:
    case ZYDIS_MNEMONIC_VRSQRT14PD:
    case ZYDIS_MNEMONIC_VRSQRT14SS:
    case ZYDIS_MNEMONIC_VRSQRT14SD:
        return VEC_MXCSR | VEC_QUIET;
    default:
        return 0;
    }
}

/* Alignment that the memory operand must have. SDM 2A 2.4: types 1, 2 and 4, with their exempt instructions. */
static u8 alignment(const struct decoded *d, unsigned size)
{
    switch (d->exc_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_AVX1:
    case ZYDIS_EXCEPTION_CLASS_E1:
    case ZYDIS_EXCEPTION_CLASS_E1NF:
        return (u8)size;
    default:
        break;
    }
    if (d->enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY || size != 16)
        return 1;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
        return 1;
    default:
        return 16;
    }
}

static void describe_memory(const struct decoded *d, struct vec_stub *s)
{
    const struct opnd *dst = &d->op[0];

    s->mem_align = 1;
    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *o = &d->op[i];

        if (o->kind != OPND_MEM)
            continue;
        s->mem_size = (u8)o->size;
        s->esize = o->esize;
        s->nelem = o->esize ? (u8)(o->size / o->esize) : 1;
        s->mem_align = alignment(d, o->size);
        /* A lane of the destination is a mask bit; a mask written has one a source element. */
        s->lanes = dst->kind == OPND_VEC && dst->esize ? (u8)(dst->size / dst->esize)
                   : dst->kind == OPND_MASK && o->esize ? (u8)(d->vl / o->esize)
                                                        : s->nelem;
    }
    if (d->evex_aaa) {
        s->masking = MASKING_K;
        s->mask_reg = d->evex_aaa;
    }
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        s->masking = MASKING_SIGN;
        s->mask_reg = d->op[1].reg;
        break;
    default:
        break;
    }
    switch (d->exc_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF:
    case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF:
    case ZYDIS_EXCEPTION_CLASS_E10NF:
    case ZYDIS_EXCEPTION_CLASS_E11NF:
        s->flags |= VEC_WHOLE;
        break;
    default:
        break;
    }
    switch (d->isa_set) {
    case ZYDIS_ISA_SET_AVX512F_SCALAR:
    case ZYDIS_ISA_SET_AVX512DQ_SCALAR:
    case ZYDIS_ISA_SET_AVX512_FP16_SCALAR:
        s->flags |= VEC_SCALAR;
        break;
    default:
        break;
    }
}

/* When an instruction may run: SDM 2A 2.4 (#UD, #NM), SDM 1 13.1, SDM 3A 2.5. */
const struct vec_stub vec_avail_sse = {.cr0_mask = CR0_EM | CR0_TS, .cr4_need = CR4_OSFXSR};
const struct vec_stub vec_avail_mmx = {.cr0_mask = CR0_EM | CR0_TS, .flags = VEC_FX};
const struct vec_stub vec_avail_avx = {
    .cr0_mask = CR0_PE | CR0_TS, .cr0_want = CR0_PE, .cr4_need = CR4_OSXSAVE,
    .xcr0_need = XCR0_SSE | XCR0_AVX, .flags = VEC_AVX,
};
const struct vec_stub vec_avail_avx512 = {
    .cr0_mask = CR0_PE | CR0_TS, .cr0_want = CR0_PE, .cr4_need = CR4_OSXSAVE,
    .xcr0_need = XCR0_SSE | XCR0_AVX | XCR0_AVX512, .flags = VEC_AVX,
};

static void describe_availability(const struct decoded *d, const struct vec_regs *r, struct vec_stub *s)
{
    const struct vec_stub *a = d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? &vec_avail_sse
                               : d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX || r->k_load
                                   ? &vec_avail_avx512
                                   : &vec_avail_avx;

    s->cr0_mask = a->cr0_mask;
    s->cr0_want = a->cr0_want;
    s->cr4_need = s->flags & VEC_FX && !r->vec_load ? 0 : a->cr4_need;
    s->xcr0_need = a->xcr0_need;
    s->flags |= a->flags;
}

static bool uses_fx(const struct decoded *d)
{
    if (d->map == ZYDIS_OPCODE_MAP_DEFAULT)
        return true;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_MMX)
            return true;
    }
    /* With a memory source these still make the unit switch to MMX. */
    return d->mnemonic == ZYDIS_MNEMONIC_CVTPI2PS || d->mnemonic == ZYDIS_MNEMONIC_CVTPI2PD;
}

void vec_describe(const struct decoded *d, const struct vec_regs *r, struct vec_stub *s)
{
    s->flags |= (u8)mxcsr_use(d);
    if (uses_fx(d))
        s->flags |= VEC_FX;
    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY && d->map == ZYDIS_OPCODE_MAP_DEFAULT)
        s->flags |= VEC_X87;
    describe_memory(d, s);
    describe_availability(d, r, s);
}
