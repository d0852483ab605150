// SPDX-License-Identifier: MIT
// Which instructions the host runs as they are, and running them.

#include "cpu/jit/xlat.h"
#include "cpu/vec/native.h"

#include <Zydis/Zydis.h>

/* General-purpose instructions with nothing about them but registers, flags and one memory operand. */
static bool is_plain(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_BSWAP:
    case ZYDIS_MNEMONIC_MOVBE:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI:
    case ZYDIS_MNEMONIC_MULX:
    case ZYDIS_MNEMONIC_PDEP:
    case ZYDIS_MNEMONIC_PEXT:
    case ZYDIS_MNEMONIC_RORX:
    case ZYDIS_MNEMONIC_SARX:
    case ZYDIS_MNEMONIC_SHLX:
    case ZYDIS_MNEMONIC_SHRX:
    case ZYDIS_MNEMONIC_ADCX:
    case ZYDIS_MNEMONIC_ADOX:
    case ZYDIS_MNEMONIC_CRC32:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_LAHF:
        return true;
    default:
        return xlat_is_shift(mnemonic) ||
               (mnemonic >= ZYDIS_MNEMONIC_CMOVB && mnemonic <= ZYDIS_MNEMONIC_CMOVZ) ||
               (mnemonic >= ZYDIS_MNEMONIC_SETB && mnemonic <= ZYDIS_MNEMONIC_SETZ &&
                mnemonic != ZYDIS_MNEMONIC_SETSSBSY);
    }
}

static bool is_jcc(u16 m)
{
    return m >= ZYDIS_MNEMONIC_JB && m <= ZYDIS_MNEMONIC_JZ && m != ZYDIS_MNEMONIC_JMP &&
           m != ZYDIS_MNEMONIC_JCXZ && m != ZYDIS_MNEMONIC_JECXZ && m != ZYDIS_MNEMONIC_JRCXZ &&
           m != ZYDIS_MNEMONIC_JKNZD && m != ZYDIS_MNEMONIC_JKZD;
}

/* May change FCW, MXCSR or XCR0, which the block's key depends on, and yet say OP_NEXT. */
static bool changes_key(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64:
        return true;
    default:
        return false;
    }
}

/* Ends a block, but the key only by its view, or not without a tlb_unlink(). */
static bool keeps_key(const struct decoded *d)
{
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_WRPKRU:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INT:
        return true;
    case ZYDIS_MNEMONIC_MOV:
        return d->op[0].kind == OPND_CR && (d->op[0].reg == 3 || d->op[0].reg == 8);
    default:
        return false;
    }
}

static const struct opnd *memory_operand(const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_MEM)
            return &d->op[i];
    }
    return NULL;
}

/* Only forms whose operands the re-encoder knows. */
static bool operands_fit(const struct decoded *d, bool vec)
{
    unsigned slots = 0;
    bool high = false, sp = false;

    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *o = &d->op[i];

        if (o->kind != OPND_GPR && o->kind != OPND_MEM && o->kind != OPND_IMM &&
            !(vec && (o->kind == OPND_VEC || o->kind == OPND_MASK || o->kind == OPND_MMX ||
                      o->kind == OPND_ST)))
            return false;
        if (o->kind == OPND_GPR && xlat_in_slot(o->reg))
            slots++;
        high |= o->kind == OPND_GPR && o->high;
        sp |= o->kind == OPND_GPR && o->reg == REG_RSP && !o->high;
    }
    if (high && (d->has_mem || sp)) /* would need REX */
        return false;
    if (d->has_mem)
        return d->modrm_off && slots <= 1 && d->modrm_mod != 3;
    return slots <= 2;
}

/* A bit string in memory: the bit offset may reach anywhere. */
static bool is_bit_string(const struct decoded *d)
{
    return d->has_mem && d->op[1].kind == OPND_GPR &&
           (d->mnemonic == ZYDIS_MNEMONIC_BT || d->mnemonic == ZYDIS_MNEMONIC_BTS ||
            d->mnemonic == ZYDIS_MNEMONIC_BTR || d->mnemonic == ZYDIS_MNEMONIC_BTC);
}

static enum xlat_kind classify_flow(const struct decoded *d)
{
    bool mem = d->op[0].kind == OPND_MEM;

    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        return d->op[0].kind == OPND_IMM                                 ? XLAT_JMP
               : (mem && d->modrm_reg != 4) || d->op[0].kind == OPND_FAR ? XLAT_LEAVE
                                                                         : XLAT_JMP_INDIRECT;
    case ZYDIS_MNEMONIC_CALL:
        return d->op[0].kind == OPND_IMM                                 ? XLAT_CALL_REL
               : (mem && d->modrm_reg != 2) || d->op[0].kind == OPND_FAR ? XLAT_LEAVE
                                                                         : XLAT_CALL_INDIRECT;
    case ZYDIS_MNEMONIC_RET:
        return d->opcode == 0xc2 || d->opcode == 0xc3 ? XLAT_RET : XLAT_LEAVE;
    default:
        return is_jcc(d->mnemonic) ? XLAT_JCC : XLAT_CALL;
    }
}

static enum xlat_kind classify_stack(const struct decoded *d)
{
    u8 kind = d->op[0].kind;

    if (d->opsize != 8)
        return XLAT_CALL;
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        return kind == OPND_GPR || kind == OPND_IMM ? XLAT_PUSH : XLAT_CALL;
    case ZYDIS_MNEMONIC_POP:
        return kind == OPND_GPR ? XLAT_POP : XLAT_CALL;
    case ZYDIS_MNEMONIC_LEAVE:
        return XLAT_LEAVE_FRAME;
    default:
        return XLAT_CALL;
    }
}

static bool does_nothing(u16 m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
        return true;
    default:
        return false;
    }
}

/* The bit of the block's key that says that the vector instruction (d) may run. */
static u8 vec_key(const struct decoded *d)
{
    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return CPU_KEY_SSE;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_MASK)
            return CPU_KEY_AVX512;
    }
    return d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX ? CPU_KEY_AVX512 : CPU_KEY_AVX;
}

/* A REX prefix that another one or a legacy prefix follows: legal, without effect, and nothing that anybody emits. */
static bool odd_prefixes(const struct decoded *d)
{
    u8 next;

    if (!d->rex) /* else there are bytes after it */
        return false;
    next = d->bytes[d->prefix_len + 1];
    return (next & 0xf0) == 0x40 || next == 0x66 || next == 0x67 || (next & 0xe7) == 0x26 ||
           (next & 0xfe) == 0x64 || next == 0xf0 || (next & 0xfe) == 0xf2;
}

enum xlat_kind xlat_classify(const struct xlat *x, const struct decoded *d, const struct insn *in)
{
    enum xlat_kind k = classify_flow(d);
    bool control;

    if (odd_prefixes(d))
        return in->flags & INSN_ENDS ? XLAT_LEAVE : XLAT_CALL;
    if (k != XLAT_CALL)
        return k;
    k = classify_stack(d);
    if (k != XLAT_CALL)
        return k;
    if (keeps_key(d))
        return XLAT_TAIL;
    if (in->flags & INSN_ENDS || changes_key(d->mnemonic))
        return XLAT_LEAVE;
    if (d->mnemonic == ZYDIS_MNEMONIC_CLI)
        return XLAT_CLI;
    if (d->mnemonic ==
        ZYDIS_MNEMONIC_STI) /* the insn in its shadow must be in this block; the op stops after STI */
        return in + 1 < x->b->insn + x->b->count && !x->j->lockstep ? XLAT_STI : XLAT_CALL;
    if (does_nothing(d->mnemonic))
        return XLAT_NOTHING;
    if (d->mnemonic == ZYDIS_MNEMONIC_CPUID)
        return XLAT_CPUID;
    if (xlat_amx_fits(in))
        return XLAT_AMX;
    if (d->mnemonic == ZYDIS_MNEMONIC_LEA)
        return d->op[0].kind == OPND_GPR && d->has_mem ? XLAT_LEA : XLAT_CALL;
    if (d->mnemonic == ZYDIS_MNEMONIC_DIV || d->mnemonic == ZYDIS_MNEMONIC_IDIV)
        return d->op[0].kind == OPND_GPR && d->opsize >= 4 ? XLAT_DIVIDE : XLAT_CALL;
    if (is_plain(d->mnemonic))
        return operands_fit(d, false) && !is_bit_string(d) ? XLAT_NATIVE : XLAT_CALL;
    if (x->b->key & vec_key(d) && vec_native(d) && operands_fit(d, true))
        return XLAT_VEC;
    if (x->b->key & CPU_KEY_X87 && x87_native(d, &control) && operands_fit(d, true))
        return control ? XLAT_X87_CONTROL : XLAT_X87;
    return XLAT_CALL;
}

static bool in_slot(const struct opnd *o)
{
    return o->kind == OPND_GPR && xlat_in_slot(o->reg) && o->encoding != ENC_OTHER;
}

/* Give each general register operand its host register; those in slots get (scratch), then T0, T1. */
static void assign(const struct decoded *d, const u8 scratch[2], u8 host[5],
                   struct xlat_operands *o)
{
    unsigned used = 0;

    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *p = &d->op[i];
        u8 r = p->reg;

        if (p->kind != OPND_GPR)
            continue;
        if (in_slot(p)) {
            r = 0xff;
            for (unsigned k = 0; k < i; k++) {
                if (in_slot(&d->op[k]) && d->op[k].reg == p->reg)
                    r = host[k];
            }
            if (r == 0xff)
                r = scratch[used++];
        } else if (r == REG_RSP && !p->high) {
            r = HOST_SP;
        }
        host[i] = r;
        /* AH … BH have the numbers of SPL … DIL, without REX. */
        if (p->high)
            r = (u8)(p->reg + 4);
        if (p->encoding == ENC_REG)
            o->reg = r;
        else if (p->encoding == ENC_RM)
            o->rm = r;
        else if (p->encoding == ENC_VVVV)
            o->vvvv = r;
        else if (p->encoding == ENC_OPCODE)
            o->opcode = r;
    }
}

static void move_slots(struct xlat *x, const struct decoded *d, const u8 host[5], bool store)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        const struct opnd *p = &d->op[i];

        if (!in_slot(p) || (store && !p->write))
            continue;
        asm_gs(x->a, store ? 0x89 : 0x8b, host[i], GS_REG(p->reg));
    }
}

/* Guest flags into RFLAGS if the insn reads them, or leaves some alone that are read later. */
static void load_flags(struct xlat *x, unsigned scratch)
{
    const struct xlat_flags *f = &x->flags[x->i];

    if (f->read || (f->touch && f->after & ~f->kill))
        xlat_flags_load(x, scratch);
}

void xlat_want_live(struct xlat *x, unsigned live)
{
    bool vec = live == JIT_LIVE_VEC;
    u32 skip;

    if (x->live & live)
        return;
    xlat_flags_spill(x, x->flags[x->i].before);
    asm_gs_cmp8(x->a, vec ? GS(j.vec_live) : GS(j.x87_live), 0);
    skip = asm_jcc8(x->a, ASM_NE);
    asm_call_to(x->a, vec ? x->j->glue.vec_load : x->j->glue.x87_load);
    asm_here8(x->a, skip);
    x->live |= live;
    x->t1_group = XLAT_NONE;
}

/* What an x87 instruction that is not a control instruction leaves in FOP, FIP and FDP. Clobbers T0. */
static void note_pointers(struct xlat *x)
{
    const struct insn *in = &x->b->insn[x->i];
    const struct decoded *d = &x->d[x->i];
    struct asm_buf *a = x->a;

    asm_gs_load(a, HOST_T0, GS_REG(REG_IPBASE));
    asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_T0, REG_ZERO, 0, in->off);
    asm_gs_store(a, HOST_T0, GS(j.fip));
    ASM_GS(a, 0, GS(j.fop), 2, 0x66, 0xc7); /* mov word gs:[fop], imm16 */
    ASM(a, d->bytes[d->modrm_off], d->opcode & 7);
    if (!d->has_mem || d->modrm_mod == 3)
        return;
    xlat_mem_ea(x, HOST_T0, true);
    asm_gs_store(a, HOST_T0, GS(j.fdp));
}

void xlat_if_flag(struct xlat *x, bool set)
{
    struct asm_buf *a = x->a;

    xlat_flags_spill(x, x->flags[x->i].before);
    asm_gs_cmp8(a, GS(cpl), 0);
    xlat_slow_from(x, asm_jcc(a, ASM_NE));
    if (set) { /* with something waiting, the op sees to it that it waits for one insn more */
        asm_gs_test32(a, GS(request));
        xlat_slow_from(x, asm_jcc(a, ASM_NE));
        asm_gs_test32(a, GS(intr_held));
        xlat_slow_from(x, asm_jcc(a, ASM_NE));
    }
    ASM_GS(a, set ? 1 : 4, GS(rflags), 4, 0x81); /* or, and dword gs:[rflags], imm32 */
    asm_u32(a, set ? (u32)RFLAGS_IF : ~(u32)RFLAGS_IF);
    xlat_slow_resume(x);
}

void xlat_native(struct xlat *x)
{
    const struct decoded *d = &x->d[x->i];
    const struct opnd *mem = d->has_mem && d->modrm_mod != 3 ? memory_operand(d) : NULL;
    u8 host[5] = {0}, scratch[2] = {HOST_T0, HOST_T1}, spare = HOST_T0;
    struct xlat_operands o = {0};
    struct xlat_mem m;

    if (x->kind[x->i] == XLAT_VEC)
        xlat_want_live(x, JIT_LIVE_VEC);
    else if (x->kind[x->i] == XLAT_X87 || x->kind[x->i] == XLAT_X87_CONTROL)
        xlat_want_live(x, JIT_LIVE_X87);
    if (mem) {
        unsigned align = x->kind[x->i] == XLAT_NATIVE ? 1 : vec_native_align(d);

        xlat_mem_check(x, mem->size, align, mem->write || d->mnemonic == ZYDIS_MNEMONIC_CMPXCHG,
                       &m);
        o.mem = &m;
        spare = scratch[0] = m.spare;
    }
    load_flags(x, spare);
    assign(d, scratch, host, &o);
    move_slots(x, d, host, false);
    xlat_encode(x->a, d, &o);
    move_slots(x, d, host, true);
    if (x->kind[x->i] == XLAT_X87)
        note_pointers(x);
    if (x->flags[x->i].touch)
        xlat_flags_changed(x);
    xlat_slow_resume(x);
}

/* (op) r, r of the insn's size: 39 cmp, 89 mov */
static void reg_reg(struct asm_buf *a, unsigned w, unsigned op, unsigned rm, unsigned reg)
{
    ASM(a, rex(w, reg, 0, rm), op, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/*
 * DIV and IDIV by a register, where it is easy to see that the quotient fits: DIV if the upper half is less than the divisor;
 * IDIV if the upper half is but the sign of the lower, and the divisor neither 0 nor -1. The op does the rest.
 */
void xlat_divide(struct xlat *x)
{
    const struct decoded *d = &x->d[x->i];
    struct asm_buf *a = x->a;
    unsigned w = d->opsize == 8 ? REX_W : 0, by = d->op[0].reg;
    struct xlat_operands o = {0};

    xlat_flags_spill(x, x->flags[x->i].before);
    if (xlat_in_slot(by)) {
        asm_gs_load(a, HOST_T1, GS_REG(by));
        by = HOST_T1;
    } else if (by == REG_RSP) {
        by = HOST_SP;
    }
    if (d->mnemonic == ZYDIS_MNEMONIC_DIV) {
        reg_reg(a, w, 0x39, REG_RDX, by);
        xlat_slow_from(x, asm_jcc(a, ASM_AE));
    } else {
        reg_reg(a, w, 0x89, HOST_T0, REG_RAX);
        ASM(a, rex(w, 0, 0, HOST_T0), 0xc1, 0xf8 | (HOST_T0 & 7), w ? 63 : 31); /* sar t0 */
        reg_reg(a, w, 0x39, HOST_T0, REG_RDX);
        xlat_slow_from(x, asm_jcc(a, ASM_NE));
        asm_op_mem(a, w, 0x8d, HOST_T0, by, REG_ZERO, 0, 1);
        ASM(a, rex(w, 0, 0, HOST_T0), 0x83, 0xf8 | (HOST_T0 & 7), 1); /* cmp t0, 1 */
        xlat_slow_from(x, asm_jcc(a, ASM_BE));
    }
    load_flags(x, HOST_T0);
    o.rm = (u8)by;
    xlat_encode(a, d, &o);
    if (x->flags[x->i].touch)
        xlat_flags_changed(x);
    xlat_slow_resume(x);
}

void xlat_lea(struct xlat *x)
{
    const struct opnd *o = &x->d[x->i].op[0];
    bool slot = xlat_in_slot(o->reg);
    unsigned dst = slot || o->size == 2 ? HOST_T0 : o->reg == REG_RSP ? HOST_SP : o->reg;

    xlat_mem_ea(x, dst, o->size == 8);
    if (o->size == 2) {
        /* mov r16 or its slot, t0w: the rest stays */
        unsigned to = o->reg == REG_RSP ? HOST_SP : o->reg;

        if (slot) {
            ASM_GS(x->a, HOST_T0, GS_REG(o->reg), 0, 0x66, rex(0, HOST_T0, 0, 0), 0x89);
        } else {
            ASM(x->a, 0x66, rex(0, HOST_T0, 0, to), 0x89, 0xc0 | (HOST_T0 & 7) << 3 | (to & 7));
        }
    } else if (slot) {
        asm_gs_store(x->a, HOST_T0, GS_REG(o->reg));
    }
}
