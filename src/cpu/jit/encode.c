// SPDX-License-Identifier: MIT
// Guest instructions encoded anew, with the operands where translated code has them.

#include "cpu/jit/xlat.h"

#include <Zydis/DecoderTypes.h>

/* Register numbers for the fields of the new encoding. */
struct fields {
    u8 reg, rm, vvvv, index;
    bool mem;
};

static struct fields fields_of(const struct decoded *d, const struct xlat_operands *o)
{
    struct fields f = {.reg = d->modrm_reg, .rm = d->modrm_rm, .mem = o->mem != NULL};

    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *p = &d->op[i];
        bool gpr = p->kind == OPND_GPR;
        u8 n = p->kind == OPND_MASK || p->kind == OPND_MMX ? p->reg & 7 : p->reg;

        if (p->kind == OPND_MEM || p->kind == OPND_IMM)
            continue;
        if (p->encoding == ENC_REG)
            f.reg = gpr ? o->reg : n;
        else if (p->encoding == ENC_RM)
            f.rm = gpr ? o->rm : n;
        else if (p->encoding == ENC_VVVV)
            f.vvvv = gpr ? o->vvvv : n;
    }
    if (o->mem) {
        f.rm = o->mem->base;
        f.index = o->mem->index == REG_ZERO ? 0 : o->mem->index;
    }
    return f;
}

/* SPL … DIL need a REX prefix. */
static bool has_low_4_to_7(const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *p = &d->op[i];

        if (p->kind == OPND_GPR && p->size == 1 && !p->high && p->reg >= 4 && p->reg < 8)
            return true;
    }
    return false;
}

static void legacy_prefixes(struct asm_buf *a, const struct decoded *d, const struct fields *f,
                            const struct xlat_operands *o)
{
    bool x87 = d->map == ZYDIS_OPCODE_MAP_DEFAULT && (d->opcode & 0xf8) == 0xd8, x66 = false;
    u8 rep = 0, w = x87 ? 0 : d->rex & 8, r;

    for (unsigned i = 0; i < d->prefix_len; i++) {
        if (x87) /* its prefixes mean nothing */
            break;
        if (d->bytes[i] == 0x66)
            x66 = true;
        else if (d->bytes[i] == 0xf2 || d->bytes[i] == 0xf3)
            rep = d->bytes[i];
    }
    if (d->modrm_off)
        r = (u8)(w | (f->reg >> 3 & 1) << 2 | (f->index >> 3 & 1) << 1 | (f->rm >> 3 & 1));
    else
        r = (u8)(w | (o->opcode >> 3 & 1));
    if (r || has_low_4_to_7(d))
        r |= 0x40;
    if (d->lock)
        asm_u8(a, 0xf0);
    if (x66)
        asm_u8(a, 0x66);
    if (rep)
        asm_u8(a, rep);
    if (r)
        asm_u8(a, r);
    if (d->map != ZYDIS_OPCODE_MAP_DEFAULT)
        asm_u8(a, 0x0f);
    if (d->map == ZYDIS_OPCODE_MAP_0F38)
        asm_u8(a, 0x38);
    else if (d->map == ZYDIS_OPCODE_MAP_0F3A)
        asm_u8(a, 0x3a);
}

static void vex_prefix(struct asm_buf *a, const struct decoded *d, const struct fields *f)
{
    const u8 *p = d->bytes + d->prefix_len;
    u8 last = p[0] == 0xc5 ? p[1] : p[2]; /* holds vvvv, L, pp in both forms */
    u8 w = p[0] == 0xc5 ? 0 : p[2] & 0x80;

    ASM(a, 0xc4,
        (~f->reg >> 3 & 1) << 7 | (~f->index >> 3 & 1) << 6 | (~f->rm >> 3 & 1) << 5 |
            (d->map & 31),
        w | (~f->vvvv & 15) << 3 | (last & 7));
}

static void evex_prefix(struct asm_buf *a, const struct decoded *d, const struct fields *f)
{
    const u8 *p = d->bytes + d->prefix_len;
    u8 bit = f->mem ? ~f->index >> 3 & 1 : ~f->rm >> 4 & 1;

    ASM(a, 0x62,
        (~f->reg >> 3 & 1) << 7 | bit << 6 | (~f->rm >> 3 & 1) << 5 | (~f->reg >> 4 & 1) << 4 |
            (p[1] & 15),
        (p[2] & 0x80) | (~f->vvvv & 15) << 3 | (p[2] & 7),
        (p[3] & 0xf7) | (~f->vvvv >> 4 & 1) << 3);
}

void xlat_encode(struct asm_buf *a, const struct decoded *d, const struct xlat_operands *o)
{
    struct fields f = fields_of(d, o);

    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_VEX)
        vex_prefix(a, d, &f);
    else if (d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX)
        evex_prefix(a, d, &f);
    else
        legacy_prefixes(a, d, &f, o);
    if (!d->modrm_off) {
        bool in_opcode = false;

        for (unsigned i = 0; i < d->nopnd; i++)
            in_opcode |= d->op[i].encoding == ENC_OPCODE && d->op[i].kind == OPND_GPR;
        asm_u8(a, in_opcode ? (d->opcode & 0xf8) | (o->opcode & 7) : d->opcode);
    } else {
        asm_u8(a, d->opcode);
        if (f.mem)
            asm_mem(a, f.reg, o->mem->base, o->mem->index, o->mem->scale, o->mem->disp,
                    d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX);
        else
            asm_u8(a, 0xc0 | (f.reg & 7) << 3 | (f.rm & 7));
    }
    asm_bytes(a, d->bytes + d->len - d->imm_size, d->imm_size);
}
