// SPDX-License-Identifier: MIT
// Guest memory operands: addresses, the inline TLB check, and the way to the slow path.

/*
 * Theory of operation
 *
 * Each view of the TLB lies at a constant distance from the CPU. A check leaves lin ^ tag in T0, which is the offset in the page if the entry is right: one compare
 * finds misses and page crossings. Then either T0 + host is the address; or, when the operand
 * is just [base + disp], delta goes into T1 as the index and the access need not wait for the check.
 *
 * The slow path calls the insn's op, which does all of the insn. So nothing that the guest can see
 * may have changed when a check fails.
 *
 * Where the plan has one check for several accesses (plan.c), the leader's covers the whole group and puts delta where the
 * members find it; whatever fails in such a block goes on in the careful twin, at the same insn.
 */

#include "cpu/jit/xlat.h"
#include "cpu/trace.h"

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

unsigned xlat_in_host(struct xlat *x, unsigned r, unsigned scratch)
{
    if (r == REG_RSP)
        return HOST_SP;
    if (r == REG_IPBASE || xlat_in_slot(r)) {
        asm_gs_load(x->a, scratch, GS_REG(r));
        return scratch;
    }
    return r;
}

/* Effective address with (disp) for the current insn's displacement into (dst). Clobbers T0, T1. */
static void address(struct xlat *x, unsigned dst, bool wide, s64 disp)
{
    const struct insn *in = current(x);
    unsigned base = in->base, index = in->index;

    if (base != REG_ZERO)
        base = xlat_in_host(x, base, HOST_T0);
    if (index != REG_ZERO)
        index = xlat_in_host(x, index, HOST_T1);
    wide = wide && !in->ea_shift;
    if (wide && index == REG_ZERO && base != REG_ZERO && !disp) /* takes no time, LEA does */
        asm_mov(x->a, dst, base);
    else
        asm_op_mem(x->a, wide ? REX_W : 0, 0x8d, dst, base, index, in->scale, (s32)disp);
}

void xlat_mem_ea(struct xlat *x, unsigned dst, bool wide)
{
    address(x, dst, wide, current(x)->disp);
}

void xlat_add_segment(struct xlat *x, unsigned reg, unsigned seg)
{
    if (seg == SEG_FS || seg == SEG_GS)
        asm_gs(x->a, 0x03, reg,
               GS(seg) + seg * sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, base));
}

/* [base + disp] off a register that the host has as well. */
static bool is_simple(const struct insn *in)
{
    return in->index == REG_ZERO && in->base < 16 && !xlat_in_slot(in->base) && !in->ea_shift &&
           in->seg != SEG_FS && in->seg != SEG_GS;
}

/* The slow path of the current insn. */
static struct xlat_slow *slow_path(struct xlat *x)
{
    struct xlat_slow *s = x->nslow > x->slow_first ? &x->slow[x->nslow - 1] : NULL;

    if (!s || s->index != x->i) {
        s = &x->slow[x->nslow++];
        *s = (struct xlat_slow){.index = (u8)x->i};
    }
    return s;
}

void xlat_slow_from(struct xlat *x, u32 at)
{
    struct xlat_slow *s = slow_path(x);

    s->from[s->nfrom++] = at;
}

void xlat_miss_from(struct xlat *x, const struct xlat_miss *m)
{
    struct xlat_miss *to = &x->miss[x->nmiss++];

    *to = *m;
    to->slow = XLAT_NONE;
    if (m->place == PLACE_STREAM)
        return;
    to->slow = (u8)(slow_path(x) - x->slow);
    to->index = (u8)x->i;
}

void xlat_slow_resume(struct xlat *x)
{
    struct xlat_slow *s = x->nslow > x->slow_first ? &x->slow[x->nslow - 1] : NULL;
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

/* A look into the first-level TLB. Flags are spilled. */
static void count_lookup(struct xlat *x)
{
    if (cpu_counts_code)
        ASM_GS(x->a, 0, GS(stats.tlb_lookup), 0, 0x48, 0xff); /* inc qword gs:[…] */
}

/* T1 = the offset in its table of the entry for the page of the address in T0. */
static void tlb_index(struct xlat *x)
{
    struct asm_buf *a = x->a;

    count_lookup(x);
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

/* T0 ^= tag of the entry at T1 */
static void match(struct xlat *x, bool write)
{
    asm_gs_base(x->a, REX_W, 0x33, HOST_T0, HOST_T1, x->view + ENTRY(tag, write));
}

/* (dst) = delta of that entry */
static void load_delta(struct xlat *x, unsigned dst, bool write)
{
    asm_gs_base(x->a, REX_W, 0x8b, dst, HOST_T1, x->view + ENTRY(delta, write));
}

u32 xlat_misaligned(struct xlat *x, unsigned align)
{
    ASM(x->a, 0x41, 0xf6, 0xc0 | (HOST_T0 & 7), align - 1); /* test t0b, align - 1 */
    return asm_jcc(x->a, ASM_NE);
}

static bool stack_operand(const struct insn *in, unsigned size)
{
    return in->base == REG_RSP && size <= 8 && is_simple(in);
}

/*
 * The stack window against the address in T0, for up to 8 bytes; T0 is then the offset in the page. For more, that must
 * fit. Both return the jump of a miss.
 */
static u32 window_compare(struct xlat *x, bool write)
{
    count_lookup(x);
    asm_gs(x->a, 0x2b, HOST_T0, x->view + STACK(base));
    asm_gs(x->a, 0x3b, HOST_T0, x->view + (write ? STACK(limit_w) : STACK(limit_r)));
    return asm_jcc(x->a, ASM_AE);
}

static u32 window_fits(struct xlat *x, unsigned size)
{
    compare_t0(x->a, (u32)PAGE_SIZE - size);
    return asm_jcc(x->a, ASM_A);
}

/* The access (size bytes at T0) ends in the next page: it is no miss. Returns the jump taken then. Clobbers T1. */
static u32 crosses(struct asm_buf *a, unsigned size)
{
    asm_mov(a, HOST_T1, HOST_T0);
    ASM(a, 0x41, 0x81, 0xe0 | (HOST_T1 & 7)); /* and t1d, imm32 */
    asm_u32(a, (u32)PAGE_SIZE - 1);
    ASM(a, 0x41, 0x81, 0xf8 | (HOST_T1 & 7)); /* cmp t1d, imm32 */
    asm_u32(a, (u32)PAGE_SIZE - size);
    return asm_jcc(a, ASM_A);
}

static void stack_address(struct xlat *x, s32 disp)
{
    if (disp)
        asm_op_mem(x->a, REX_W, 0x8d, HOST_T0, HOST_SP, REG_ZERO, 0, disp);
    else
        asm_mov(x->a, HOST_T0, HOST_SP);
}

/* Where the delta of a group's accesses is kept. */
static u32 delta_slot(const struct xlat *x, unsigned group)
{
    return x->group[group].window ? x->view + STACK(delta) : GS(j.delta) + 8 * group;
}

/* T0 = the linear address that (m) is about. Clobbers T1. */
static void place_address(struct xlat *x, const struct xlat_miss *m)
{
    if (m->place == PLACE_STREAM) {
        xlat_stream_address(x, m->index);
    } else if (m->place == PLACE_STACK) {
        stack_address(x, m->disp);
    } else {
        x->i = m->index;
        address(x, HOST_T0, true, m->disp);
        xlat_add_segment(x, HOST_T0, current(x)->seg);
    }
}

void xlat_emit_misses(struct xlat *x)
{
    const struct jit_glue *g = &x->j->glue;
    struct asm_buf *hot = x->a, *a = &x->j->cold;

    x->a = a;
    for (unsigned i = x->miss_first; i < x->nmiss; i++) {
        const struct xlat_miss *m = &x->miss[i];
        u32 slow = m->slow == XLAT_NONE ? x->loop[x->group[m->index].loop].refused_at
                                        : x->slow[m->slow].at;

        asm_patch(a->rw, m->from, a->at);
        place_address(x, m);
        if (m->size > 8)
            asm_patch(a->rw, crosses(a, m->size), slow);
        asm_call_to(a, m->window ? g->refill_stack[m->write] : g->refill[m->write]);
        asm_patch(a->rw, asm_jcc(a, ASM_E), slow);
        asm_jmp_to(a, m->retry);
    }
    x->a = hot;
}

/* The group's delta is in T1 or, in (home), there, and stays. */
static void keep_delta(struct xlat *x, unsigned group, unsigned base)
{
    const struct xlat_group *g = &x->group[group];
    struct asm_buf *a = x->a;

    if (g->home == REG_ZERO) {
        if (base == REG_IPBASE)
            asm_gs(a, 0x03, HOST_T1, GS_REG(REG_IPBASE));
        xlat_add_segment(x, HOST_T1, g->seg);
        asm_gs_store(a, HOST_T1, delta_slot(x, group));
        return;
    }
    if (base == REG_IPBASE || (g->based && xlat_in_slot(base)))
        asm_gs(a, 0x03, g->home, GS_REG(base));
    else if (g->based && base != REG_ZERO)
        asm_op_mem(a, REX_W, 0x8d, g->home, g->home, base == REG_RSP ? HOST_SP : base, 0, 0);
    xlat_add_segment(x, g->home, g->seg);
}

void xlat_group_check(struct xlat *x, unsigned group, unsigned base, struct xlat_miss *m,
                      void (*refuse)(struct xlat *x, u32 from))
{
    const struct xlat_group *g = &x->group[group];
    unsigned align = g->aligned && !g->stream ? 1 : g->align;

    m->write = g->write;
    m->window = g->window;
    m->size = (u16)(g->hi - g->lo);
    if (g->window) {
        m->from = window_compare(x, g->write);
        xlat_miss_from(x, m);
        if (m->size > 8)
            refuse(x, window_fits(x, m->size));
        if (align > 1)
            refuse(x, xlat_misaligned(x, align));
        if (g->home != REG_ZERO)
            asm_gs_load(x->a, g->home, delta_slot(x, group));
        return;
    }
    tlb_index(x);
    if (align > 1)
        refuse(x, xlat_misaligned(x, align));
    match(x, g->write);
    compare_t0(x->a, (u32)PAGE_SIZE - m->size);
    m->from = asm_jcc(x->a, ASM_A);
    xlat_miss_from(x, m);
    load_delta(x, g->home == REG_ZERO ? HOST_T1 : g->home, g->write);
    keep_delta(x, group, base);
}

/*
 * The leader's check of its group, whose first byte is at (disp) off the registers of its access. T1 is then what members
 * find, unless that has a home.
 */
static void lead(struct xlat *x, unsigned group, unsigned which, unsigned base, s32 disp)
{
    struct xlat_miss m = {.place = which == ACCESS_STACK ? PLACE_STACK : PLACE_OPERAND,
                          .retry = x->a->at,
                          .disp = disp};

    if (which == ACCESS_STACK) {
        stack_address(x, disp);
    } else {
        address(x, HOST_T0, true, disp);
        xlat_add_segment(x, HOST_T0, x->group[group].seg);
    }
    xlat_group_check(x, group, base, &m, xlat_slow_from);
    x->t1_group = x->group[group].home == REG_ZERO ? (u8)group : XLAT_NONE;
    if (x->group[group].window && x->group[group].home == REG_ZERO)
        asm_gs_load(x->a, HOST_T1, delta_slot(x, group));
}

/* T1 = the group's delta, if it is not there. */
static void want_delta(struct xlat *x, unsigned group)
{
    if (x->t1_group != group && x->group[group].home != REG_ZERO)
        asm_mov(x->a, HOST_T1, x->group[group].home);
    else if (x->t1_group != group)
        asm_gs_load(x->a, HOST_T1, delta_slot(x, group));
    x->t1_group = (u8)group;
    x->t1_next = (u8)group;
}

/* lea t1, [t1 + reg << scale] */
static void add_to_t1(struct xlat *x, unsigned reg, unsigned scale)
{
    asm_op_mem(x->a, REX_W, 0x8d, HOST_T1, HOST_T1, reg, scale, 0);
    x->t1_next = XLAT_NONE;
}

/* The current insn's operand, which has been checked with its group, whose delta is in a register of its own. */
static void member_at_home(struct xlat *x, const struct xlat_group *g, struct xlat_mem *m)
{
    const struct insn *in = current(x);
    unsigned home = g->home, base = g->based || in->base == REG_IPBASE ? REG_ZERO : in->base;
    unsigned index = in->index;

    if (base != REG_ZERO)
        base = xlat_in_host(x, base, HOST_T0);
    if (base != REG_ZERO && index == REG_ZERO) {
        *m = (struct xlat_mem){.base = (u8)base, .index = (u8)home};
    } else {
        if (base != REG_ZERO) {
            asm_op_mem(x->a, REX_W, 0x8d, HOST_T1, home, base, 0, 0);
            home = HOST_T1;
        }
        if (index != REG_ZERO)
            index = xlat_in_host(x, index, HOST_T0);
        if (home == HOST_T1 && index == HOST_T0) { /* one must be left */
            asm_op_mem(x->a, REX_W, 0x8d, HOST_T1, HOST_T1, HOST_T0, in->scale, 0);
            index = REG_ZERO;
        }
        *m = (struct xlat_mem){.base = (u8)home, .index = (u8)index};
        m->scale = index == REG_ZERO ? 0 : in->scale;
    }
    m->disp = (s32)in->disp;
    m->spare = m->base == HOST_T0 || m->index == HOST_T0 ? HOST_T1 : HOST_T0;
}

/* The current insn's operand, which has been checked with its group. T0 is left free. */
static void member(struct xlat *x, unsigned group, struct xlat_mem *m)
{
    const struct insn *in = current(x);
    unsigned base = in->base == REG_IPBASE ? REG_ZERO : in->base == REG_RSP ? HOST_SP : in->base;
    unsigned index = in->index;

    want_delta(x, group);
    *m = (struct xlat_mem){
        .base = HOST_T1, .index = REG_ZERO, .disp = (s32)in->disp, .spare = HOST_T0};
    if (index != REG_ZERO && xlat_in_slot(index)) {
        asm_gs_load(x->a, HOST_T0, GS_REG(index));
        add_to_t1(x, HOST_T0, in->scale);
        index = REG_ZERO;
    }
    if (base != REG_ZERO && xlat_in_slot(in->base)) {
        asm_gs_load(x->a, HOST_T0, GS_REG(in->base));
        add_to_t1(x, HOST_T0, 0);
        base = REG_ZERO;
    }
    if (index == REG_ZERO) {
        if (base != REG_ZERO) {
            m->base = (u8)base;
            m->index = HOST_T1;
        }
        return;
    }
    if (base != REG_ZERO)
        add_to_t1(x, base, 0);
    m->index = (u8)index;
    m->scale = in->scale;
}

/* The check of the current insn's (which) access, if the plan has one for it; false if it checks for itself. */
static bool planned(struct xlat *x, unsigned which, unsigned base, s32 disp)
{
    const struct xlat_access *p = &x->access[x->i][which];

    if (x->careful || p->how == ACCESS_OWN)
        return false;
    if (p->how == ACCESS_LEAD) {
        s64 first = (s64)disp + x->group[p->group].lo - p->off;

        xlat_flags_spill(x, x->flags[x->i].before);
        lead(x, p->group, which, base, (s32)first);
    }
    return true;
}

/* 8 bytes or less off RSP, through the window. T1 is then its delta. */
static void check_window(struct xlat *x, s32 disp, bool write)
{
    struct xlat_miss m = {
        .place = PLACE_STACK, .retry = x->a->at, .write = write, .window = true, .disp = disp};

    stack_address(x, disp);
    m.from = window_compare(x, write);
    if (x->careful)
        xlat_miss_from(x, &m);
    else /* the window must not move while a group may rely on it */
        xlat_slow_from(x, m.from);
    x->slow[x->nslow - 1].stack = true;
    asm_gs_load(x->a, HOST_T1, x->view + STACK(delta));
}

void xlat_stack_check(struct xlat *x, s32 disp, bool write)
{
    if (planned(x, ACCESS_STACK, REG_RSP, disp)) {
        want_delta(x, x->access[x->i][ACCESS_STACK].group);
        return;
    }
    xlat_flags_spill(x, x->flags[x->i].before);
    check_window(x, disp, write);
}

/* The check of one operand, through the TLB. */
static void check_operand(struct xlat *x, unsigned size, unsigned align, bool write,
                          struct xlat_mem *ret)
{
    const struct insn *in = current(x);
    struct asm_buf *a = x->a;
    struct xlat_miss m = {.place = PLACE_OPERAND,
                          .retry = a->at,
                          .write = write,
                          .size = (u16)size,
                          .disp = (s32)in->disp};

    xlat_mem_ea(x, HOST_T0, true);
    xlat_add_segment(x, HOST_T0, in->seg);
    tlb_index(x);
    if (align > 1)
        xlat_slow_from(x, xlat_misaligned(x, align));
    match(x, write);
    if (is_simple(in)) /* delta at once: the access then waits for nothing but it */
        load_delta(x, HOST_T1, write);
    compare_t0(a, (u32)PAGE_SIZE - size);
    m.from = asm_jcc(a, ASM_A);
    xlat_miss_from(x, &m);
    if (is_simple(in)) {
        *ret = (struct xlat_mem){.base = in->base == REG_RSP ? HOST_SP : in->base,
                                 .index = HOST_T1,
                                 .disp = (s32)in->disp,
                                 .spare = HOST_T0};
        return;
    }
    asm_gs_base(a, REX_W, 0x03, HOST_T0, HOST_T1, x->view + ENTRY(host, write));
    *ret = (struct xlat_mem){.base = HOST_T0, .index = REG_ZERO, .spare = HOST_T1};
}

void xlat_mem_check(struct xlat *x, unsigned size, unsigned align, bool write, struct xlat_mem *m)
{
    const struct insn *in = current(x);
    unsigned group;

    if (planned(x, ACCESS_OPERAND, in->base, (s32)in->disp)) {
        group = x->access[x->i][ACCESS_OPERAND].group;
        if (x->group[group].home != REG_ZERO)
            member_at_home(x, &x->group[group], m);
        else
            member(x, group, m);
        return;
    }
    xlat_flags_spill(x, x->flags[x->i].before);
    if (!stack_operand(in, size) || align > 1) {
        check_operand(x, size, align, write, m);
        return;
    }
    check_window(x, (s32)in->disp, write);
    *m = (struct xlat_mem){
        .base = HOST_SP, .index = HOST_T1, .disp = (s32)in->disp, .spare = HOST_T0};
}
