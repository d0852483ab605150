// SPDX-License-Identifier: MIT
// Guest memory operands: addresses, the inline TLB check, and the way to the slow path.

/*
 * Theory of operation
 *
 * A check leaves lin ^ tag in T0, which is the offset in the page if the entry is right: one compare
 * finds misses and page crossings. Then either T0 + host is the address; or, when the operand
 * is just [base + disp], delta goes into T1 as the index and the access need not wait for the check.
 *
 * The slow path calls the insn's op, which does all of the insn. So nothing that the guest can see
 * may have changed when a check fails.
 */

#include "cpu/jit/xlat.h"

#include <Zydis/DecoderTypes.h>

/* Offset of a field of the first entry in the table for loads or stores, from the view. */
#define ENTRY(field, write)                                                                        \
    ((u32)((write ? offsetof(struct tlb, w) : offsetof(struct tlb, r)) +                           \
           offsetof(struct tlb_entry, field)))
#define STACK(field) ((u32)(offsetof(struct tlb, stack) + offsetof(struct tlb_window, field)))
_Static_assert(sizeof(struct tlb_entry) == 32, "index arithmetic below");
#define INDEX_SHIFT (PAGE_SHIFT - 5)
#define INDEX_MASK  ((TLB_SIZE - 1) << 5)

static const struct insn *current(const struct xlat *x)
{
    return &x->b->insn[x->i];
}

/* Guest register (r) in a host register: its own, or (scratch) loaded from its slot. */
static unsigned in_host(struct xlat *x, unsigned r, unsigned scratch)
{
    if (r == REG_RSP)
        return HOST_SP;
    if (r == REG_IPBASE || (r >= REG_R9 && r <= REG_R11)) {
        asm_gs_load(x->a, scratch, GS_REG(r));
        return scratch;
    }
    return r;
}

void xlat_mem_ea(struct xlat *x, unsigned dst, bool wide)
{
    const struct insn *in = current(x);
    unsigned base = in->base, index = in->index;

    if (base != REG_ZERO)
        base = in_host(x, base, HOST_T0);
    if (index != REG_ZERO)
        index = in_host(x, index, HOST_T1);
    asm_op_mem(x->a, wide && !in->ea_shift ? REX_W : 0, 0x8d, dst, base, index, in->scale,
               (s32)in->disp);
}

static void linear(struct xlat *x)
{
    const struct insn *in = current(x);

    xlat_mem_ea(x, HOST_T0, true);
    if (in->seg == SEG_FS || in->seg == SEG_GS)
        asm_gs(x->a, 0x03, HOST_T0,
               GS(seg) + in->seg * sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, base));
}

/* [base + disp] off a register that the host has as well. */
static bool is_simple(const struct insn *in)
{
    return in->index == REG_ZERO && in->base < 16 && (in->base < REG_R9 || in->base > REG_R11) &&
           !in->ea_shift && in->seg != SEG_FS && in->seg != SEG_GS;
}

void xlat_slow_from(struct xlat *x, u32 at)
{
    struct xlat_slow *s = x->nslow ? &x->slow[x->nslow - 1] : NULL;

    if (!s || s->index != x->i) {
        s = &x->slow[x->nslow++];
        *s = (struct xlat_slow){.index = (u8)x->i};
    }
    s->from[s->nfrom++] = at;
}

void xlat_slow_resume(struct xlat *x)
{
    struct xlat_slow *s = x->nslow ? &x->slow[x->nslow - 1] : NULL;
    const struct xlat_flags *f = &x->flags[x->i];

    if (!s || s->index != x->i)
        return;
    s->resume = x->a->at;
    s->restore_flags = x->in_reg && f->after;
    s->live = x->live;
}

/* cmp T0, imm32 */
static void compare_t0(struct asm_buf *a, u32 imm)
{
    ASM(a, 0x49, 0x81, 0xf8 | (HOST_T0 & 7));
    asm_u32(a, imm);
}

/* T1 = the offset of the entry for the page of T0 in its table. */
static void index_from_t0(const struct xlat *x)
{
    struct asm_buf *a = x->a;

    if (x->j->host_bmi2) {
        ASM(a, 0xc4, 0x43, 0x7b, 0xf0, 0xc0 | (HOST_T1 & 7) << 3 | (HOST_T0 & 7),
            INDEX_SHIFT); /* rorx t1d, t0d */
    } else {
        ASM(a, 0x45, 0x89, 0xc0 | (HOST_T0 & 7) << 3 | (HOST_T1 & 7)); /* mov t1d, t0d */
        ASM(a, 0x41, 0xc1, 0xe8 | (HOST_T1 & 7), INDEX_SHIFT);         /* shr t1d */
    }
    ASM(a, 0x41, 0x81, 0xe0 | (HOST_T1 & 7)); /* and t1d, imm32 */
    asm_u32(a, INDEX_MASK);
}

static void check_alignment(struct xlat *x, unsigned align)
{
    if (align <= 1)
        return;
    ASM(x->a, 0x41, 0xf6, 0xc0 | (HOST_T0 & 7), align - 1); /* test t0b, align - 1 */
    xlat_slow_from(x, asm_jcc(x->a, ASM_NE));
}

static bool stack_operand(const struct insn *in, unsigned size)
{
    return in->base == REG_RSP && size <= 8 && is_simple(in);
}

void xlat_stack_check(struct xlat *x, s32 disp, bool write)
{
    struct asm_buf *a = x->a;
    u32 limit = x->view + (write ? STACK(limit_w) : STACK(limit_r));

    xlat_flags_spill(x, x->flags[x->i].before);
    if (disp)
        asm_op_mem(a, REX_W, 0x8d, HOST_T0, HOST_SP, REG_ZERO, 0, disp);
    else
        asm_mov(a, HOST_T0, HOST_SP);
    asm_gs(a, 0x2b, HOST_T0, x->view + STACK(base));
    asm_gs(a, 0x3b, HOST_T0, limit);
    xlat_slow_from(x, asm_jcc(a, ASM_AE));
    x->slow[x->nslow - 1].stack = true;
    asm_gs_load(a, HOST_T1, x->view + STACK(delta));
}

void xlat_mem_check(struct xlat *x, unsigned size, unsigned align, bool write, struct xlat_mem *m)
{
    const struct insn *in = current(x);
    struct asm_buf *a = x->a;
    bool simple = is_simple(in);

    if (stack_operand(in, size) && align <= 1) {
        xlat_stack_check(x, (s32)in->disp, write);
        *m = (struct xlat_mem){
            .base = HOST_SP, .index = HOST_T1, .disp = (s32)in->disp, .spare = HOST_T0};
        return;
    }
    xlat_flags_spill(x, x->flags[x->i].before);
    linear(x);
    index_from_t0(x);
    check_alignment(x, align);
    asm_gs_base(a, 0x33, HOST_T0, HOST_T1, x->view + ENTRY(tag, write));
    if (simple) {
        asm_gs_base(a, 0x8b, HOST_T1, HOST_T1, x->view + ENTRY(delta, write));
        compare_t0(a, (u32)PAGE_SIZE - size);
        xlat_slow_from(x, asm_jcc(a, ASM_A));
        *m = (struct xlat_mem){.base = in->base == REG_RSP ? HOST_SP : in->base,
                               .index = HOST_T1,
                               .disp = (s32)in->disp,
                               .spare = HOST_T0};
        return;
    }
    compare_t0(a, (u32)PAGE_SIZE - size);
    xlat_slow_from(x, asm_jcc(a, ASM_A));
    asm_gs_base(a, 0x03, HOST_T0, HOST_T1, x->view + ENTRY(host, write));
    *m = (struct xlat_mem){.base = HOST_T0, .index = REG_ZERO, .spare = HOST_T1};
}
