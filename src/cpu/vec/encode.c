// SPDX-License-Identifier: MIT
// Re-encoding of a decoded instruction for 64-bit mode, with operands where a stub wants them.

#include "cpu/vec/encode.h"

#include <Zydis/DecoderTypes.h>
#include <string.h>

/* Full register numbers (5 bits) for the fields of the new encoding. */
struct fields {
    u8 reg, rm, vvvv; /* vvvv: 0 when there is no such operand, as its inverse 1111b */
    bool mem;
};

static u8 operand_number(const struct opnd *o)
{
    switch (o->kind) {
    case OPND_GPR:
        return ENC_GPR;
    case OPND_MMX:
    case OPND_MASK:
    case OPND_ST:
        return o->reg & 7;
    default:
        return o->reg;
    }
}

static struct fields fields_of(const struct decoded *d)
{
    struct fields f = {.reg = d->modrm_reg, .rm = d->modrm_rm, .mem = d->has_mem && d->modrm_mod != 3};

    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *o = &d->op[i];

        if (o->kind == OPND_MEM || o->kind == OPND_IMM)
            continue;
        if (o->encoding == ENC_REG)
            f.reg = operand_number(o);
        else if (o->encoding == ENC_RM)
            f.rm = operand_number(o);
        else if (o->encoding == ENC_VVVV)
            f.vvvv = operand_number(o);
    }
    if (f.mem)
        f.rm = ENC_MEM_REG;
    return f;
}

static bool has_gpr(const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_GPR)
            return true;
    }
    return false;
}

/* Outside 64-bit mode these ignore VEX.W and EVEX.W, which would mean 64 bits to the host. */
static bool w_is_ignored(const struct decoded *d)
{
    if (d->mode == MODE_64)
        return false;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTUSI2SS:
    case ZYDIS_MNEMONIC_VCVTUSI2SD:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
        return true;
    default:
        return has_gpr(d);
    }
}

/* Mandatory prefixes and REX. 66 goes before F2 or F3, of which the last one counts; each once. */
static unsigned encode_legacy(const struct decoded *d, const struct fields *f, u8 *out)
{
    unsigned n = 0, i = 0;
    u8 rep = 0, rex = 0;
    bool x66 = false;

    for (;; i++) {
        u8 b = d->bytes[i];

        if (d->mode == MODE_64 && (b & 0xf0) == 0x40) {
            rex = b;
            continue;
        }
        if (b == 0x66)
            x66 = true;
        else if (b == 0xf2 || b == 0xf3)
            rep = b;
        else if (b != 0x26 && b != 0x2e && b != 0x36 && b != 0x3e && b != 0x64 && b != 0x65 &&
                 b != 0x67 && b != 0xf0)
            break;
        rex = 0; /* one that is not last has no effect */
    }
    rex = (u8)((rex & 8) | (f->reg >> 3 & 1) << 2 | (f->rm >> 3 & 1));
    if (d->map == ZYDIS_OPCODE_MAP_DEFAULT) { /* x87: its modes of operand size are not the host's business */
        x66 = false;
        rep = 0;
        rex = 0;
    }
    if (x66)
        out[n++] = 0x66;
    if (rep)
        out[n++] = rep;
    if (rex)
        out[n++] = 0x40 | rex;
    if (d->map != ZYDIS_OPCODE_MAP_DEFAULT)
        out[n++] = 0x0f;
    if (d->map == ZYDIS_OPCODE_MAP_0F38)
        out[n++] = 0x38;
    else if (d->map == ZYDIS_OPCODE_MAP_0F3A)
        out[n++] = 0x3a;
    return n;
}

static unsigned encode_vex(const struct decoded *d, const struct fields *f, u8 *out)
{
    const u8 *p = d->bytes + d->prefix_len;
    u8 last = p[0] == 0xc5 ? p[1] : p[2]; /* holds vvvv, L, pp in both forms */
    u8 w = p[0] == 0xc5 ? 0 : p[2] & 0x80;

    if (w_is_ignored(d))
        w = 0;
    out[0] = 0xc4;
    out[1] = (u8)((~f->reg >> 3 & 1) << 7 | 1 << 6 | (~f->rm >> 3 & 1) << 5 | (d->map & 31));
    out[2] = (u8)(w | (~f->vvvv & 15) << 3 | (last & 7));
    return 3;
}

static unsigned encode_evex(const struct decoded *d, const struct fields *f, u8 *out)
{
    const u8 *p = d->bytes + d->prefix_len;
    u8 w = w_is_ignored(d) ? 0 : p[2] & 0x80;
    u8 x = f->mem ? 1 : ~f->rm >> 4 & 1;

    out[0] = 0x62;
    out[1] = (u8)((~f->reg >> 3 & 1) << 7 | x << 6 | (~f->rm >> 3 & 1) << 5 | (~f->reg >> 4 & 1) << 4 |
                  (p[1] & 15));
    out[2] = (u8)(w | (~f->vvvv & 15) << 3 | (p[2] & 7));
    out[3] = (u8)((p[3] & 0xf7) | (~f->vvvv >> 4 & 1) << 3);
    return 4;
}

static void encode_imm(const struct decoded *d, u8 *out)
{
    memcpy(out, d->bytes + d->len - d->imm_size, d->imm_size);
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].encoding == ENC_IS4)
            out[0] = (u8)(d->op[i].reg << 4 | (out[0] & 15));
    }
}

unsigned vec_encode(const struct decoded *d, u8 out[ENC_MAX])
{
    struct fields f = fields_of(d);
    unsigned n;

    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_VEX)
        n = encode_vex(d, &f, out);
    else if (d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX)
        n = encode_evex(d, &f, out);
    else
        n = encode_legacy(d, &f, out);
    out[n++] = d->opcode;
    if (d->modrm_off)
        out[n++] = (u8)((f.mem ? 0 : 0xc0) | (f.reg & 7) << 3 | (f.rm & 7));
    encode_imm(d, out + n);
    return n + d->imm_size;
}
