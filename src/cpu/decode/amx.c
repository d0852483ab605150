// SPDX-License-Identifier: MIT
// A decoder for the AMX instructions that Zydis 4.0 does not know: by the table in amx/table.c, to the same form.

#include "cpu/amx/form.h"

#include <Zydis/SharedTypes.h>
#include <Zydis/MetaInfo.h>
#include <errno.h>
#include <string.h>

/*
 *   VEX   C4  ~R ~X ~B mmmmm   W ~vvvv L pp                       opcode  ModRM …
 *   EVEX  62  ~R ~X ~B ~R' 0 mmm   W ~vvvv 1 pp   z L'L b ~V' aaa   opcode  ModRM …
 *
 * SDM 2A 2.3, 2.7. The guest has no APX: the bits that APX gave a meaning must be as above.
 */
#define PREFIX_VEX  0xc4
#define PREFIX_EVEX 0x62
#define INSN_MAX    15

struct cursor {
    const u8 *bytes;
    unsigned pos, end;
    bool short_of; /* asked for more than there is */
};

static u8 next(struct cursor *k)
{
    if (k->pos < k->end)
        return k->bytes[k->pos++];
    k->short_of = true;
    return 0;
}

/* Both prefixes in one form: bits as the instruction means them, not inverted. */
struct prefix {
    u8 enc, map, pp, vvvv;
    u8 r, x, b;  /* bit 3 of ModRM.reg, of the index, of the base or ModRM.rm */
    u8 r2;       /* bit 4 of ModRM.reg */
    bool w, bad; /* (bad): fields that no AMX instruction has so */
    u8 vl;
};

static void prefix_payload(struct prefix *p, u8 p0, u8 p1)
{
    p->r = !(p0 & BIT(7));
    p->x = !(p0 & BIT(6));
    p->b = !(p0 & BIT(5));
    p->w = p1 & BIT(7);
    p->vvvv = ~p1 >> 3 & 15;
    p->pp = p1 & 3;
}

static struct prefix prefix_vex(struct cursor *k)
{
    struct prefix p = {.enc = AMX_ENC_VEX};
    u8 p0 = next(k), p1 = next(k);

    prefix_payload(&p, p0, p1);
    p.map = p0 & 31;
    p.vl = p1 & BIT(2) ? 32 : 16;
    p.bad = p.vl != 16 || p.w;
    return p;
}

static struct prefix prefix_evex(struct cursor *k)
{
    struct prefix p = {.enc = AMX_ENC_EVEX};
    u8 p0 = next(k), p1 = next(k), p2 = next(k);

    prefix_payload(&p, p0, p1);
    p.map = p0 & 7;
    p.r2 = !(p0 & BIT(4));
    p.vl = (u8)(16 << (p2 >> 5 & 3));
    /* Bit 3 of the first byte is 0, bit 2 of the second 1; z, b and aaa are 0, V' is 1; L'L says 512 bits. */
    p.bad = (p0 & BIT(3)) || !(p1 & BIT(2)) || p2 != 0x48 || p.w;
    return p;
}

static const struct amx_form *find(const struct prefix *p, u8 opcode)
{
    for (const struct amx_form *f = amx_forms; f->name; f++) {
        if (f->mnemonic > ZYDIS_MNEMONIC_MAX_VALUE && f->enc == p->enc && f->map == p->map &&
            f->pp == p->pp && f->opcode == opcode)
            return f;
    }
    return NULL;
}

/* Legacy prefixes and what they say about the memory operand. False: one that is #UD before VEX and EVEX. */
static bool legacy_prefixes(struct cursor *k, struct decoded *d)
{
    for (;; k->pos++) {
        if (k->pos == k->end) {
            k->short_of = true;
            return true;
        }
        switch (k->bytes[k->pos]) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e: /* ES, CS, SS, DS: nothing in 64-bit mode */
            break;
        case 0x64:
            d->mem_seg = SEG_FS;
            break;
        case 0x65:
            d->mem_seg = SEG_GS;
            break;
        case 0x67:
            d->asize = 4;
            break;
        case PREFIX_VEX:
        case PREFIX_EVEX:
            d->prefix_len = (u8)k->pos;
            return true;
        default: /* 66, F2, F3, F0, REX too */
            return false;
        }
    }
}

static struct opnd *operand(struct decoded *d, u8 kind, u8 encoding, u8 reg)
{
    struct opnd *o = &d->op[d->nopnd++];

    *o = (struct opnd){.kind = kind, .encoding = encoding, .reg = reg, .read = true};
    return o;
}

/* SIB and displacement: SDM 2A 2.1.5. */
static void memory(struct cursor *k, const struct prefix *p, struct decoded *d)
{
    u8 sib = next(k), base = sib & 7, index = (u8)(sib >> 3 & 7) | (u8)(p->x << 3);
    u32 disp = 0;

    d->has_mem = d->mem_sib = true;
    d->mem_scale = sib >> 6;
    d->mem_index = index == REG_RSP ? REG_ZERO : index;
    d->disp_size = d->modrm_mod == 1 ? 1 : d->modrm_mod == 2 || base == REG_RBP ? 4 : 0;
    d->mem_base = d->modrm_mod == 0 && base == REG_RBP ? REG_ZERO : (u8)(base | p->b << 3);
    for (unsigned i = 0; i < d->disp_size; i++)
        disp |= (u32)next(k) << (8 * i);
    d->mem_disp = d->disp_size == 1 ? (s8)disp : (s32)disp;
    if (d->mem_seg == SEG_DS && (d->mem_base == REG_RSP || d->mem_base == REG_RBP))
        d->mem_seg = SEG_SS;
}

/* The operands of (f), ModRM being read. False: #UD. */
static bool operands(struct cursor *k, const struct prefix *p, const struct amx_form *f,
                     struct decoded *d)
{
    u8 reg = d->modrm_reg | (u8)(p->r << 3), rm = d->modrm_rm | (u8)(p->b << 3);
    bool to_memory = d->modrm_mod != 3;
    struct opnd *o;

    if (to_memory != (f->shape == AMX_SHAPE_SIB))
        return false;
    switch (f->shape) {
    case AMX_SHAPE_SIB:
        if (d->modrm_rm != 4 || p->vvvv)
            return false;
        o = operand(d, OPND_TILE, ENC_REG, reg);
        o->read = false;
        o->write = true;
        operand(d, OPND_MEM, ENC_RM, 0);
        memory(k, p, d);
        return true;
    case AMX_SHAPE_TILES:
        operand(d, OPND_TILE, ENC_REG, reg)->write = true;
        operand(d, OPND_TILE, ENC_RM, rm);
        operand(d, OPND_TILE, ENC_VVVV, p->vvvv);
        return true;
    case AMX_SHAPE_ROW_REG:
    case AMX_SHAPE_ROW_IMM:
        o = operand(d, OPND_VEC, ENC_REG, reg | (u8)(p->r2 << 4));
        o->size = 64;
        o->esize = 4;
        o->read = false;
        o->write = true;
        operand(d, OPND_TILE, ENC_RM, rm | (u8)(p->x << 4));
        if (f->shape == AMX_SHAPE_ROW_REG) {
            operand(d, OPND_GPR, ENC_VVVV, p->vvvv)->size = 4;
            return true;
        }
        if (p->vvvv)
            return false;
        d->imm_size = 1;
        operand(d, OPND_IMM, ENC_OTHER, 0)->imm = next(k);
        return true;
    default:
        return false;
    }
}

/* Everything from the VEX or EVEX prefix on. False: no such instruction. */
static bool body(struct cursor *k, struct decoded *d)
{
    struct prefix p = next(k) == PREFIX_VEX ? prefix_vex(k) : prefix_evex(k);
    const struct amx_form *f;
    u8 modrm;

    d->opcode = next(k);
    f = k->short_of ? NULL : find(&p, d->opcode);
    if (!f || p.bad)
        return false;
    d->modrm_off = (u8)k->pos;
    modrm = next(k);
    if (k->short_of)
        return false;
    d->mnemonic = f->mnemonic;
    d->enc = p.enc;
    d->map = p.map;
    d->vl = p.vl;
    d->modrm_mod = modrm >> 6;
    d->modrm_reg = modrm >> 3 & 7;
    d->modrm_rm = modrm & 7;
    return operands(k, &p, f, d);
}

int decode_amx(const u8 *bytes, unsigned avail, struct decoded *d, bool *gp)
{
    struct cursor k = {.bytes = bytes, .end = avail < INSN_MAX ? avail : INSN_MAX};
    bool found;

    *gp = false;
    *d = (struct decoded){
        .mode = MODE_64,
        .opsize = 4,
        .asize = 8,
        .ssize = 8,
        .mem_base = REG_ZERO,
        .mem_index = REG_ZERO,
        .mem_seg = SEG_DS,
        .isa_ext = ZYDIS_ISA_EXT_AMX_TILE,
        .isa_set = ZYDIS_ISA_SET_AMX_TILE,
    };
    found = legacy_prefixes(&k, d) && !k.short_of && body(&k, d);
    if (k.short_of) {
        *gp = avail >= INSN_MAX;
        return *gp ? -EINVAL : -EAGAIN;
    }
    if (!found)
        return -EINVAL;
    d->len = (u8)k.pos;
    memcpy(d->bytes, bytes, d->len);
    return 0;
}
