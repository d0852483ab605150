// SPDX-License-Identifier: MIT
// Where guest arithmetic flags are alive, and moving them between RFLAGS and memory.

/*
 * Theory of operation
 *
 * Guest flags live in the host's RFLAGS. A TLB check clobbers those, so before one the flags that
 * somebody may still read go to cpu->cc. Liveness says which: a backward pass over the block, in
 * which whatever leaves translated code, or goes where nothing is known, reads all of them.
 *
 * A faulting access reads nothing in this sense. So an exception may show the guest arithmetic flags from before an
 * instruction whose flags nobody reads, but for the exception's handler.
 */

#include "cpu/jit/xlat.h"

#include <Zydis/Zydis.h>

#define ALL ((u16)RFLAGS_ARITH)

/* Flags that Zydis calls undefined but that these always overwrite. */
static bool overwrites_undefined(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ANDN:
        return true;
    default:
        return false;
    }
}

bool xlat_is_shift(u16 mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        return true;
    default:
        return false;
    }
}

/* A shift by zero leaves flags alone. */
static bool shift_may_be_zero(const struct decoded *d)
{
    unsigned mask = d->opsize == 8 ? 63 : 31;

    if (!xlat_is_shift(d->mnemonic) || !d->nopnd)
        return false;
    return d->op[d->nopnd - 1].kind != OPND_IMM || !((u64)d->op[d->nopnd - 1].imm & mask);
}

static struct xlat_flags effects(const struct xlat *x, unsigned i)
{
    const struct decoded *d = &x->d[i];
    struct xlat_flags f = {
        .read = d->cc_read, .kill = d->cc_set, .touch = d->cc_set | d->cc_undefined};

    switch ((enum xlat_kind)x->kind[i]) {
    case XLAT_CALL:
    case XLAT_LEAVE:
    case XLAT_TAIL:
        return (struct xlat_flags){.read = ALL, .touch = ALL};
    case XLAT_NATIVE:
        if (overwrites_undefined(d->mnemonic))
            f.kill |= d->cc_undefined;
        if (shift_may_be_zero(d))
            f.kill = 0;
        return f;
    case XLAT_DIVIDE:
    case XLAT_VEC:
    case XLAT_X87:
    case XLAT_X87_CONTROL:
        return f;
    case XLAT_JCC:
        return (struct xlat_flags){.read = d->cc_read};
    case XLAT_JMP:
    case XLAT_CALL_REL:
    case XLAT_JMP_INDIRECT:
    case XLAT_CALL_INDIRECT:
    case XLAT_RET:
        return (struct xlat_flags){.read = ALL};
    default:
        return (struct xlat_flags){0};
    }
}

static u16 analyse_once(struct xlat *x)
{
    u16 live = xlat_target_live(x, x->b->off + x->b->len);

    for (unsigned i = x->b->count; i--;) {
        struct xlat_flags *f = &x->flags[i];

        if (x->kind[i] == XLAT_JCC)
            live |= xlat_target_live(x, (s64)x->b->insn[i].imm);
        else if (x->kind[i] == XLAT_JMP)
            live = xlat_target_live(x, (s64)x->b->insn[i].imm);
        f->after = live;
        live = (u16)(f->read | (live & ~f->kill));
        f->before = live;
    }
    return live;
}

void xlat_flags_analyse(struct xlat *x)
{
    u16 in;

    for (unsigned i = 0; i < x->b->count; i++) {
        x->flags[i] = effects(x, i);
        if (x->kind[i] == XLAT_JMP)
            x->flags[i].read = 0;
    }
    /* The least solution: flags are only needed at the start if something needs them. */
    for (x->self_in = 0; (in = analyse_once(x)) != x->self_in;)
        x->self_in = in;
}

void xlat_emit_flags_save(struct asm_buf *a, unsigned scratch)
{
    asm_mov(a, scratch, REG_RAX);
    ASM(a, 0x9f, 0x0f, 0x90, 0xc0);            /* lahf; seto al */
    ASM_GS(a, REG_RAX, GS(cc), 0, 0x66, 0x89); /* mov gs:[cc], ax */
    asm_mov(a, REG_RAX, scratch);
}

void xlat_emit_flags_load(struct asm_buf *a, unsigned scratch)
{
    asm_mov(a, scratch, REG_RAX);
    ASM_GS(a, REG_RAX, GS(cc), 0, 0x0f, 0xb7); /* movzx eax, word gs:[cc] */
    ASM(a, 0x04, 0x7f, 0x9e);                  /* add al, 0x7f; sahf */
    asm_mov(a, REG_RAX, scratch);
}

void xlat_flags_spill(struct xlat *x, u16 live)
{
    if (live && x->in_reg && !x->in_mem) {
        xlat_emit_flags_save(x->a, HOST_T0);
        x->in_mem = true;
    }
    x->in_reg = false;
}

void xlat_flags_load(struct xlat *x, unsigned scratch)
{
    if (!x->in_reg && x->in_mem)
        xlat_emit_flags_load(x->a, scratch);
    x->in_reg = true;
}
