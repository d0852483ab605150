// SPDX-License-Identifier: MIT
// Instruction bytes to the neutral decoded form, by Zydis; nothing else in the tree sees Zydis' types.

#include "cpu/decode/form.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* One decoder for each code size; in legacy modes the stack width matters as well. */
static ZydisDecoder decoders[3][2];
static pthread_once_t decoders_once = PTHREAD_ONCE_INIT;

static void decoders_init(void)
{
    static const ZydisMachineMode mode[3] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                             ZYDIS_MACHINE_MODE_LONG_64};

    for (int i = 0; i < 3; i++) {
        for (int s = 0; s < 2; s++) {
            ZydisDecoder *z = &decoders[i][s];
            ZydisStackWidth w = i == MODE_64 ? ZYDIS_STACK_WIDTH_64
                                : s          ? ZYDIS_STACK_WIDTH_32
                                             : ZYDIS_STACK_WIDTH_16;

            ZydisDecoderInit(z, mode[i], w);
            /* The guest has none of these: their encodings are the NOPs they are to older CPUs. */
            ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
            ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
            ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        }
    }
}

static u8 gpr_number(ZydisRegister r, bool *high)
{
    *high = false;
    if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
        return (u8)(r - ZYDIS_REGISTER_AL);
    if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
        *high = true;
        return (u8)(r - ZYDIS_REGISTER_AH);
    }
    if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
        return (u8)(r - ZYDIS_REGISTER_SPL + 4);
    return (u8)ZydisRegisterGetId(r);
}

static void operand_register(ZydisRegister r, struct opnd *o)
{
    o->reg = (u8)ZydisRegisterGetId(r);
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        o->kind = OPND_GPR;
        o->reg = gpr_number(r, &o->high);
        break;
    case ZYDIS_REGCLASS_SEGMENT:
        o->kind = OPND_SEG;
        break;
    case ZYDIS_REGCLASS_CONTROL:
        o->kind = OPND_CR;
        break;
    case ZYDIS_REGCLASS_DEBUG:
        o->kind = OPND_DR;
        break;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM:
        o->kind = OPND_VEC;
        break;
    case ZYDIS_REGCLASS_MMX:
        o->kind = OPND_MMX;
        break;
    case ZYDIS_REGCLASS_X87:
        o->kind = OPND_ST;
        break;
    case ZYDIS_REGCLASS_MASK:
        o->kind = OPND_MASK;
        break;
    case ZYDIS_REGCLASS_TMM:
        o->kind = OPND_TILE;
        break;
    case ZYDIS_REGCLASS_BOUND:
        o->kind = OPND_BND;
        break;
    default:
        o->kind = OPND_OTHER;
        break;
    }
}

static u8 operand_encoding(ZydisOperandEncoding e)
{
    switch (e) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        return ENC_REG;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        return ENC_RM;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        return ENC_VVVV;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        return ENC_OPCODE;
    case ZYDIS_OPERAND_ENCODING_MASK:
        return ENC_MASK;
    case ZYDIS_OPERAND_ENCODING_IS4:
        return ENC_IS4;
    default:
        return ENC_OTHER;
    }
}

static void operand_convert(const ZydisDecodedOperand *z, struct opnd *o)
{
    o->size = (u16)((z->size + 7) / 8);
    o->esize = (u8)((z->element_size + 7) / 8);
    o->read = z->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
    o->write = z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    o->encoding = operand_encoding(z->encoding);
    switch (z->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        operand_register(z->reg.value, o);
        break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        o->kind = OPND_MEM;
        if (z->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            o->size = 0;
        break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        o->kind = OPND_IMM;
        o->rel = z->imm.is_relative;
        o->imm = z->imm.value.s;
        break;
    case ZYDIS_OPERAND_TYPE_POINTER:
        o->kind = OPND_FAR;
        o->imm = z->ptr.offset;
        o->far_sel = z->ptr.segment;
        break;
    default:
        o->kind = OPND_OTHER;
        break;
    }
}

static u8 memory_register(ZydisRegister r)
{
    bool high;

    return r == ZYDIS_REGISTER_NONE ? REG_ZERO : gpr_number(r, &high);
}

static void memory_convert(const ZydisDecodedOperand *z, struct decoded *d)
{
    ZydisRegisterClass index_class = ZydisRegisterGetClass(z->mem.index);

    d->has_mem = true;
    d->mem_disp = z->mem.disp.has_displacement ? z->mem.disp.value : 0;
    d->mem_rip = z->mem.base == ZYDIS_REGISTER_RIP || z->mem.base == ZYDIS_REGISTER_EIP;
    d->mem_base = d->mem_rip ? REG_IPBASE : memory_register(z->mem.base);
    d->vsib = index_class == ZYDIS_REGCLASS_XMM || index_class == ZYDIS_REGCLASS_YMM ||
              index_class == ZYDIS_REGCLASS_ZMM;
    d->mem_index = d->vsib ? (u8)ZydisRegisterGetId(z->mem.index) : memory_register(z->mem.index);
    d->mem_scale = (u8)(z->mem.scale > 1 ? __builtin_ctz(z->mem.scale) : 0);
    d->mem_seg = z->mem.segment == ZYDIS_REGISTER_NONE
                     ? SEG_DS
                     : (u8)ZydisRegisterGetId(z->mem.segment);
}

/* Which of several memory operands the insn's address fields describe: ModRM's, else the source of a string op. */
static int memory_rank(const ZydisDecodedOperand *z)
{
    if (z->type != ZYDIS_OPERAND_TYPE_MEMORY || z->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
        return 0;
    if (z->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
        return 3;
    return memory_register(z->mem.base) == REG_RDI ? 1 : 2;
}

static bool is_legacy_prefix(u8 b)
{
    switch (b) {
    case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
    case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
        return true;
    default:
        return false;
    }
}

static void encoding_convert(const ZydisDecodedInstruction *z, const u8 *bytes, struct decoded *d)
{
    memcpy(d->bytes, bytes, z->length);
    d->enc = (u8)z->encoding;
    while (d->prefix_len < z->length && is_legacy_prefix(bytes[d->prefix_len]))
        d->prefix_len++;
    if (d->mode == MODE_64 && d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        (bytes[d->prefix_len] & 0xf0) == 0x40)
        d->rex = bytes[d->prefix_len];
    d->opcode = z->opcode;
    d->map = (u8)z->opcode_map;
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        d->modrm_off = z->raw.modrm.offset;
        d->modrm_mod = z->raw.modrm.mod;
        d->modrm_reg = z->raw.modrm.reg;
        d->modrm_rm = z->raw.modrm.rm;
    }
    d->mem_sib = (z->attributes & ZYDIS_ATTRIB_HAS_SIB) != 0;
    /* With REX.B and 32-bit addresses Zydis 4.0 sees R13D where SIB means no base. */
    if (d->mem_sib && d->modrm_mod == 0 && z->raw.sib.base == 5)
        d->mem_base = REG_ZERO;
    d->disp_size = z->raw.disp.size / 8;
    d->imm_size = (u8)((z->raw.imm[0].size + z->raw.imm[1].size) / 8);
    d->vl = (u8)(z->avx.vector_length / 8);
    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        d->vex_w = z->raw.vex.W;
    } else if (d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
        d->vex_w = z->raw.evex.W;
        d->evex_aaa = z->raw.evex.aaa;
        d->evex_z = z->raw.evex.z;
        d->evex_b = z->raw.evex.b;
    }
    d->isa_ext = (u32)z->meta.isa_ext;
    d->isa_set = (u16)z->meta.isa_set;
    d->exc_class = (u8)z->meta.exception_class;
    if (z->cpu_flags) {
        d->cc_read = z->cpu_flags->tested & RFLAGS_ARITH;
        d->cc_set = (z->cpu_flags->modified | z->cpu_flags->set_0 | z->cpu_flags->set_1) & RFLAGS_ARITH;
        d->cc_undefined = z->cpu_flags->undefined & RFLAGS_ARITH;
        d->flags_read = z->cpu_flags->tested & RFLAGS_ARITH;
        d->flags_written = (z->cpu_flags->modified | z->cpu_flags->set_0 | z->cpu_flags->set_1 |
                            z->cpu_flags->undefined) & RFLAGS_ARITH;
    }
}

static struct decode_fields fields_of(const ZydisDecodedInstruction *z,
                                      const ZydisDecodedOperand *op)
{
    struct decode_fields f = {
        .plain = (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
                  z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) &&
                 !z->raw.imm[1].size,
        .disp_off = z->raw.disp.offset,
        .disp_size = z->raw.disp.size / 8,
        .imm_off = z->raw.imm[0].offset,
        .imm_size = z->raw.imm[0].size / 8,
        .imm_opnd = 0xff,
    };

    for (u8 i = 0; i < z->operand_count; i++) {
        if (op[i].encoding == ZYDIS_OPERAND_ENCODING_IS4 ||
            op[i].type == ZYDIS_OPERAND_TYPE_POINTER)
            f.plain = false;
        if (op[i].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || f.imm_opnd != 0xff)
            continue;
        f.imm_opnd = i;
        f.imm_signed = op[i].imm.is_signed;
    }
    return f;
}

int decode_one(const u8 *bytes, unsigned avail, enum cpu_mode_size mode, bool stack32,
               struct decoded *d, bool *gp)
{
    struct decode_fields f;

    return decode_with_fields(bytes, avail, mode, stack32, d, gp, &f);
}

int decode_with_fields(const u8 *bytes, unsigned avail, enum cpu_mode_size mode, bool stack32,
                       struct decoded *d, bool *gp, struct decode_fields *f)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    int best = 0;
    ZyanStatus st;

    pthread_once(&decoders_once, decoders_init);
    *gp = false;
    f->plain = false;
    st = ZydisDecoderDecodeFull(&decoders[mode][stack32], bytes, avail < 15 ? avail : 15, &z,
                                op);
    if (st == ZYDIS_STATUS_NO_MORE_DATA && avail < 15)
        return -EAGAIN;
    if (!ZYAN_SUCCESS(st)) {
        *gp = st == ZYDIS_STATUS_NO_MORE_DATA || st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
        return *gp || mode != MODE_64 ? -EINVAL : decode_amx(bytes, avail, d, gp);
    }

    *d = (struct decoded){
        .mnemonic = (u16)z.mnemonic,
        .len = z.length,
        .mode = (u8)mode,
        .opsize = z.operand_width / 8,
        .asize = z.address_width / 8,
        .ssize = z.stack_width / 8,
        .lock = (z.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0,
        .rep = (z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) != 0,
        .repne = (z.attributes & ZYDIS_ATTRIB_HAS_REPNE) != 0,
        .mem_base = REG_ZERO,
        .mem_index = REG_ZERO,
    };
    for (unsigned i = 0; i < z.operand_count; i++) {
        int rank = memory_rank(&op[i]);

        d->writes |= op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
                     op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        if (rank > best) {
            best = rank;
            memory_convert(&op[i], d);
        }
        if (op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN && d->nopnd < ARRAY_SIZE(d->op))
            operand_convert(&op[i], &d->op[d->nopnd++]);
    }
    encoding_convert(&z, bytes, d);
    *f = fields_of(&z, op);
    return 0;
}

unsigned decode_text(const u8 *bytes, size_t avail, enum cpu_mode_size mode, u64 at, char *buf,
                     size_t size)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatter f;

    pthread_once(&decoders_once, decoders_init);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode][mode != MODE_16], bytes,
                                            avail < 15 ? avail : 15, &z, op)) &&
        ZYAN_SUCCESS(ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL)) &&
        ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&f, &z, op, z.operand_count_visible, buf, size,
                                                     at, NULL)))
        return z.length;
    snprintf(buf, size, "(unknown)");
    return 1;
}

void insn_from_decoded(const struct decoded *d, struct insn *in, unsigned off)
{
    *in = (struct insn){
        .disp = d->mem_disp,
        .off = (u16)off,
        .len = d->len,
        .base = d->mem_base,
        .index = d->vsib ? REG_ZERO : d->mem_index,
        .scale = d->vsib ? 0 : d->mem_scale,
        .ea_shift = (u8)(64 - 8 * d->asize),
        .seg = SEG_NONE,
        .size = d->opsize,
    };
    if (d->mem_rip)
        in->disp += off + d->len;
    if (d->mode != MODE_64)
        in->flags |= INSN_LEGACY;
    if (d->has_mem) {
        if (d->mode != MODE_64 || d->mem_seg == SEG_FS || d->mem_seg == SEG_GS)
            in->seg = d->mem_seg;
        if (d->mem_seg == SEG_SS)
            in->flags |= INSN_SS;
    }
    in->flags |= (u8)((d->lock ? INSN_LOCK : 0) | (d->rep ? INSN_REP : 0) |
                      (d->repne ? INSN_REPNE : 0) | (d->writes ? INSN_WRITES : 0));
    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *o = &d->op[i];

        if (o->kind == OPND_IMM && o->rel)
            in->flags |= INSN_REL;
        if (o->kind != OPND_GPR)
            continue;
        if (o->encoding == ENC_REG)
            in->reg = opnd_off(o);
        else if (o->encoding == ENC_RM || o->encoding == ENC_OPCODE)
            in->rm = opnd_off(o);
        else if (o->encoding == ENC_VVVV)
            in->vvvv = opnd_off(o);
    }
}

static int op_undefined(struct cpu *c, const struct insn *in)
{
    return cpu_raise_ud(c);
}

static int op_too_long(struct cpu *c, const struct insn *in)
{
    return cpu_raise_gp(c);
}

/* (rc) and (gp) came from the decoder. As decode_insn(). */
static int lower(int rc, bool gp, const struct decoded *d, unsigned off, struct insn *in)
{
    if (rc == -EAGAIN)
        return rc;
    if (rc) {
        *in = (struct insn){.op = gp ? op_too_long : op_undefined, .off = (u16)off, .len = 1,
                            .base = REG_ZERO, .index = REG_ZERO, .seg = SEG_NONE, .flags = INSN_ENDS};
        return 1;
    }
    insn_from_decoded(d, in, off);
    rc = decode_lower(d, in);
    if (rc) {
        in->op = op_undefined;
        in->flags |= INSN_ENDS;
    }
    return d->len;
}

bool decode_failed(const struct insn *in)
{
    return in->op == op_too_long || in->op == op_undefined;
}

int decode_insn(const u8 *bytes, unsigned avail, enum cpu_mode_size mode, bool stack32,
                unsigned off, struct insn *in)
{
    struct decoded d;
    bool gp;
    int rc = decode_one(bytes, avail, mode, stack32, &d, &gp);

    return lower(rc, gp, &d, off, in);
}

int decode_insn64(struct decode_forms *m, const u8 *bytes, unsigned avail, unsigned off,
                  struct decoded *d, struct insn *in)
{
    bool gp;
    int rc = decode_by_form(m, bytes, avail, d, &gp);

    if (rc)
        d->len = 0;
    return lower(rc, gp, d, off, in);
}
