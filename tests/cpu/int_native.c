// SPDX-License-Identifier: MIT
// Unprivileged integer instructions against the host CPU: random encodings, registers and memory.

/*
 * Theory of operation
 *
 * A form (int_forms.h) is turned into random encodings of itself, and each encoding is run
 * with several random states: natively in the stub of native.c, and by decode_insn()
 * and its op on a bare CPU. Linear addresses are the same in both; the guest's
 * are backed by a copy of the scratch memory. All GPRs, the arithmetic flags and DF, the way out
 * (went on, jumped, faulted) and all scratch memory must agree; undefined flags included,
 * since both are this host's.
 *
 * UVIRT_SEED and UVIRT_CASES (states per form) override the defaults.
 */

#include "cpu/decode/decode.h"
#include "cpu/mmu/access.h"
#include "cpu/world.h"
#include "native.h"
#include "rand.h"
#include "tap.h"

#include "int_forms.h"

#include <cpuid.h>
#include <sys/mman.h>

#define STATES         8 /* per encoding */
#define COMPARED_FLAGS (RFLAGS_ARITH | RFLAGS_DF)

/* One encoding, and what a state must provide for it. */
struct code {
    const struct form *form;
    u8 bytes[15];
    unsigned len, size; /* of the operand */
    bool lock, is_mem, addr32, rep;
    unsigned reg, rm, vvvv, base, index, scale; /* register numbers; 16: none */
    s64 disp;
    u64 target; /* of an absolute address */
};

static struct cpu *c;
static u8 *shadow; /* what the guest has at NATIVE_SCRATCH */

static int mmio_read(struct cpu *cpu, gpa_t gpa, void *buf, unsigned size)
{
    return cpu_raise_pf(cpu, gpa, 0);
}
static int mmio_write(struct cpu *cpu, gpa_t gpa, const void *buf, unsigned size)
{
    return cpu_raise_pf(cpu, gpa, 2);
}
static const struct cpu_bus bus = {.mmio_read = mmio_read, .mmio_write = mmio_write};

static unsigned pick(unsigned n)
{
    return (unsigned)(rnd() >> 33) % n;
}

/* A value with a taste for edges. */
static u64 value(void)
{
    static const u64 edge[] = {0,
                               1,
                               ~0ull,
                               0x7f,
                               0x80,
                               0xff,
                               0x7fff,
                               0x8000,
                               0xffff,
                               0x7fffffff,
                               0x80000000,
                               0xffffffff,
                               0x7fffffffffffffff,
                               0x8000000000000000,
                               0x100,
                               0x10000};

    switch (pick(4)) {
    case 0:
        return edge[pick(ARRAY_SIZE(edge))];
    case 1:
        return rnd() >> pick(64);
    default:
        return rnd();
    }
}

static u64 scratch(unsigned margin)
{
    return NATIVE_SCRATCH + margin + pick((unsigned)NATIVE_SCRATCH_SIZE - 2 * margin);
}

/* Both copies of the scratch memory. */
static void poke(u64 at, const void *bytes, unsigned n)
{
    memcpy((void *)at, bytes, n);
    memcpy(shadow + (at - NATIVE_SCRATCH), bytes, n);
}

static void poke64(u64 at, u64 v)
{
    poke(at, &v, 8);
}

static u8 *put(u8 *p, u64 v, unsigned n)
{
    memcpy(p, &v, n);
    return p + n;
}

/* --- encoding --- */

static unsigned imm_bytes(const struct form *f, unsigned size)
{
    return (f->flags & I16 ? 2 : 0) + (f->flags & I8 ? 1 : 0) +
           (f->flags & IZ ? size == 2 ? 2 : 4 : 0) + (f->flags & IV ? size : 0);
}

/* Choose the memory operand's registers. The stack pointer may be a base where that is harmless. */
static void choose_memory(struct code *k)
{
    unsigned kind = pick(8);

    k->base = k->index = 16;
    k->scale = pick(4);
    k->addr32 = pick(8) == 0;
    if (kind >= 2)
        k->base = pick(16);
    if (kind >= 5) {
        do
            k->index = pick(16);
        while (k->index == k->base || k->index == 4);
    }
    k->disp = pick(3) == 0 ? 0 : pick(2) ? (s8)rnd() : (s32)rnd() >> 8;
    if (k->form->flags & STACK)
        k->disp = (s8)k->disp;
    if (kind == 0)
        k->scale = 4; /* RIP-relative */
}

/* ModRM, SIB and displacement; (tail): bytes of immediate that follow. */
static u8 *put_modrm(struct code *k, u8 *p, unsigned reg, unsigned tail)
{
    unsigned mod = k->disp == 0 ? 0 : k->disp == (s8)k->disp ? 1 : 2;

    reg = (reg & 7) << 3;
    if (!k->is_mem)
        return put(p, 0xc0 | reg | (k->rm & 7), 1);
    if (k->base == 16 && k->index == 16) {
        k->target = scratch(64);
        if (k->form->flags & A16)
            k->target &= ~15ull;
        if (k->scale == 4) {
            p = put(p, reg | 5, 1);
            return put(p, k->target - (NATIVE_INSN + (u64)(p - k->bytes) + 4 + tail), 4);
        }
        p = put(p, reg | 4, 1);
        p = put(p, 0x25, 1);
        return put(p, k->target, 4);
    }
    if (mod == 0 && (k->base & 7) == 5)
        mod = 1;
    if (k->index == 16 && (k->base & 7) != 4) {
        p = put(p, mod << 6 | reg | (k->base & 7), 1);
    } else {
        p = put(p, mod << 6 | reg | 4, 1);
        p = put(p, k->scale << 6 | (k->index == 16 ? 4 : k->index & 7) << 3 | (k->base & 7), 1);
    }
    return mod == 1 ? put(p, (u64)k->disp, 1) : mod == 2 ? put(p, (u64)k->disp, 4) : p;
}

static u8 *put_vex(struct code *k, u8 *p, unsigned reg, bool w)
{
    unsigned x = k->is_mem && k->index < 16 ? k->index : 0;
    unsigned b = k->is_mem ? k->base < 16 ? k->base : 0 : k->rm;
    unsigned pp = k->form->pp == 0x66 ? 1 : k->form->pp == 0xf3 ? 2 : k->form->pp == 0xf2 ? 3 : 0;

    if (k->form->op == 0xf0 && k->form->map == 3)
        k->vvvv = 0; /* RORX has none */
    p = put(p, 0xc4, 1);
    p = put(p, (reg & 8 ? 0 : 0x80) | (x & 8 ? 0 : 0x40) | (b & 8 ? 0 : 0x20) | k->form->map, 1);
    return put(p, (unsigned)w << 7 | (~k->vvvv & 15) << 3 | pp, 1);
}

static u8 *put_rex(struct code *k, u8 *p, unsigned reg, bool w)
{
    unsigned x = k->is_mem && k->index < 16 ? k->index : 0;
    unsigned b = k->is_mem ? k->base < 16 ? k->base : 0 : k->rm;
    unsigned rex = (unsigned)w << 3 | (reg & 8) >> 1 | (x & 8) >> 2 | (b & 8) >> 3;

    return rex || pick(3) == 0 ? put(p, 0x40 | rex, 1) : p;
}

static u8 *put_opcode(struct code *k, u8 *p)
{
    static const u8 esc[4][2] = {{0}, {0}, {0x38}, {0x3a}};
    const struct form *f = k->form;

    if (f->map) {
        p = put(p, 0x0f, 1);
        if (f->map > 1)
            p = put(p, esc[f->map][0], 1);
    }
    return put(p, f->op | (f->flags & OPREG ? k->rm & 7 : 0), 1);
}

static u8 *put_immediates(struct code *k, u8 *p)
{
    const struct form *f = k->form;

    if (f->flags & I16)
        p = put(p, pick(0x80), 2);
    if (f->flags & MOFFS) {
        k->target = scratch(64);
        p = put(p, k->target, k->addr32 ? 4 : 8);
    }
    if (f->flags & (I8 | IZ | IV))
        p = put(p, value(), imm_bytes(f, k->size) - (f->flags & I16 ? 2 : 0));
    if (f->flags & JUMP8)
        p = put(p, NATIVE_NEAR - (NATIVE_INSN + (u64)(p - k->bytes) + 1), 1);
    if (f->flags & JUMP32)
        p = put(p, NATIVE_NEAR - (NATIVE_INSN + (u64)(p - k->bytes) + 4), 4);
    return p;
}

static void encode(const struct form *f, struct code *k)
{
    unsigned reg;
    bool w;
    u8 *p;

    memset(k, 0, sizeof(*k));
    k->form = f;
    k->reg = pick(16);
    k->rm = f->flags & (M | OPREG) ? pick(16) : 0;
    k->vvvv = pick(16);
    k->base = k->index = 16;
    k->size = f->flags & B     ? 1
              : f->flags & V   ? 2u << pick(3)
              : f->flags & D64 ? pick(4) ? 8 : 2
                               : 4;
    if (f->flags & (VEX | NO16))
        k->size = pick(2) ? 8 : 4;
    if (f->flags & A16)
        k->size = 8;
    if (f->flags & M && !(f->flags & REG) && (f->flags & MEM || pick(2))) {
        k->is_mem = true;
        choose_memory(k);
    }
    if (f->flags & (MOFFS | STRING | XLATB | COUNT))
        k->addr32 = pick(4) == 0;
    k->lock = k->is_mem && f->flags & LOCKABLE && pick(3) == 0;
    w = (f->flags & (V | VEX | NO16)) && k->size == 8;
    reg = f->ext >= 0 ? (unsigned)f->ext : f->flags & M ? k->reg : 0;

    p = k->bytes;
    if (k->lock)
        p = put(p, 0xf0, 1);
    if (k->addr32)
        p = put(p, 0x67, 1);
    if (f->flags & (V | D64) && !(f->flags & NO16) && k->size == 2)
        p = put(p, 0x66, 1);
    if (f->flags & REPS)
        p = put(p, pick(2) ? 0xf3 : 0xf2, 1);
    if (f->flags & VEX) {
        p = put_vex(k, p, f->ext >= 0 ? (unsigned)f->ext : k->reg, w);
        p = put(p, f->op, 1);
    } else {
        if (f->pp)
            p = put(p, f->pp, 1);
        p = put_opcode(k, put_rex(k, p, reg, w));
    }
    if (f->flags & M)
        p = put_modrm(k, p, reg, imm_bytes(f, k->size));
    p = put_immediates(k, p);
    k->len = (unsigned)(p - k->bytes);
}

/* --- state --- */

static bool addresses(const struct code *k, unsigned reg)
{
    return k->is_mem && (reg == k->base || reg == k->index);
}

/* Registers such that the memory operand lies in scratch memory. Returns its address. */
static u64 aim(struct code *k, u64 *r)
{
    u64 at = scratch(256), index = 0, base;

    if (k->form->flags & A64)
        at &= ~63ull;
    if (k->form->flags & A16)
        at &= ~15ull;
    if (k->base == 16)
        return k->target;
    if (k->form->flags & STACK)
        at = NATIVE_SCRATCH + 0x1800 + pick(0x1000);
    if (k->index < 16) {
        r[k->index] = (u64)(s64)(s8)rnd();
        index = r[k->index] << k->scale;
    }
    base = at - index - (u64)k->disp;
    if (k->addr32) {
        base = (u32)base | (k->form->flags & STACK && k->base == 4 ? 0 : value() << 32);
        if (k->index < 16)
            r[k->index] = (u32)r[k->index] | value() << 32;
    }
    r[k->base] = base;
    return at;
}

static void aim_string(const struct code *k, u64 *r)
{
    bool reps = k->form->flags & REPS;
    u64 span = pick(4) ? 64 : 3000, high = k->addr32 ? value() << 32 : 0;

    r[7] = NATIVE_SCRATCH + 0x1000 + pick(0x2000);
    r[6] = pick(2) ? r[7] + pick(33) - 16 : NATIVE_SCRATCH + 0x1000 + pick(0x2000);
    if (reps)
        r[1] = pick((unsigned)span / k->size + 1);
    /* Equal stretches, so that comparisons run on. */
    if (pick(2)) {
        u8 fill[600];

        memset(fill, (int)r[0], sizeof(fill));
        poke(r[7] - 256, fill, sizeof(fill));
        poke(r[6] - 256, fill, sizeof(fill));
        r[0] = (u8)r[0] * 0x0101010101010101ull;
    }
    r[7] += high;
    r[6] += high;
    if (reps)
        r[1] += high;
}

static void aim_divide(const struct code *k, u64 *r)
{
    if (pick(4) == 0)
        return;
    if (k->size == 1)
        r[0] = (r[0] & ~0xffffull) | (u16)((s16)r[0] >> pick(12));
    else
        r[2] = pick(2) ? 0 : r[0] >> (k->size * 8 - 1) & 1 ? ~0ull : 0;
}

/* Fill NATIVE->in and memory for (k). False: this encoding contradicts itself. */
static bool set_state(struct code *k)
{
    u32 f = k->form->flags;
    u64 *r = NATIVE->in, at, data[2];

    for (unsigned i = 0; i < 16; i++)
        r[i] = value();
    NATIVE->in_flags = (rnd() & COMPARED_FLAGS & (f & STRING ? ~0ull : ~RFLAGS_DF)) | 0x202;
    if (f & STACK) {
        r[4] = NATIVE_SCRATCH + 0x1800 + pick(0x1000);
        r[5] = NATIVE_SCRATCH + 0x1800 + pick(0x1000);
    }
    if (f & DIVIDE)
        aim_divide(k, r);
    if (f & COUNT && pick(2))
        r[1] = pick(3);
    if (f & STRING)
        aim_string(k, r);
    if (f & XLATB)
        r[3] = scratch(512) + (k->addr32 ? value() << 32 : 0);
    at = k->is_mem ? aim(k, r) : k->target;
    if (f & DEST) {
        if (addresses(k, k->reg))
            return false;
        r[k->reg] = (scratch(256) & ~63ull) + (k->addr32 ? value() << 32 : 0);
    }
    if (f & BITOFF && k->is_mem) {
        if (addresses(k, k->reg))
            return false;
        r[k->reg] =
            (r[k->reg] & ~0xffffull) | (pick(2) ? (u64)pick(2048) : (u64) - (s64)pick(2048));
        if (k->size == 4)
            r[k->reg] = (u32)(s32)(s16)r[k->reg] | value() << 32;
        else if (k->size == 8)
            r[k->reg] = (u64)(s64)(s16)r[k->reg];
        else
            r[k->reg] = (u16)r[k->reg] | value() << 16;
    }
    data[0] = f & TARGET ? NATIVE_NEAR : value();
    data[1] = value();
    if (f & ACC && pick(2)) {
        data[0] = f & MEM && k->size != 8 ? r[2] << 32 | (u32)r[0] : r[0];
        data[1] = r[2];
        if (!k->is_mem && !(f & MEM))
            r[k->rm] = r[0];
    }
    if (at)
        poke(at, data, sizeof(data));
    if (f & TARGET && !k->is_mem) {
        if (f & M) {
            if (f & STACK && k->rm == 4)
                return false;
            r[k->rm] = NATIVE_NEAR;
        } else {
            poke64(r[4], NATIVE_NEAR);
        }
    }
    if (f & FLAGS)
        poke64(r[4], (value() & (COMPARED_FLAGS | RFLAGS_ID)) | 0x202);
    return true;
}

/* --- comparison --- */

static enum native_where guest_run(const struct code *k, int *rc)
{
    static u8 window[15];
    struct insn in;

    memcpy(window, (void *)NATIVE_INSN, sizeof(window));
    memcpy(c->r, NATIVE->in, sizeof(NATIVE->in));
    cpu_rflags_set(c, NATIVE->in_flags);
    c->r[REG_IPBASE] = NATIVE_INSN & PAGE_MASK;
    c->rip = 0;
    c->exc.pending = false;
    if (pick(16) == 0)
        tlb_flush(c);
    if (decode_insn(window, sizeof(window), MODE_64, true, NATIVE_INSN & ~PAGE_MASK, &in) !=
        (int)k->len) {
        *rc = OP_EXIT;
        return NATIVE_FAULTED;
    }
    do
        *rc = in.op(c, &in);
    while (*rc == OP_AGAIN);
    return *rc < 0 ? NATIVE_FAULTED : *rc == OP_END ? NATIVE_JUMPED : NATIVE_WENT_ON;
}

/* The signal that Linux makes of a guest exception. */
static u32 signal_of(u8 vector)
{
    return vector == EXC_DE ? 8 : vector == EXC_UD ? 4 : vector == EXC_SS ? 7 : 11;
}

static bool agree(enum native_where where, int rc)
{
    const struct native *n = NATIVE;

    if (where != n->where || memcmp(c->r, n->out, sizeof(n->out)) ||
        memcmp(shadow, (void *)NATIVE_SCRATCH, NATIVE_SCRATCH_SIZE))
        return false;
    if ((cpu_rflags_get(c) ^ n->out_flags) & COMPARED_FLAGS)
        return false;
    if (where == NATIVE_FAULTED)
        return rc == OP_FAULT && signal_of(c->exc.vector) == n->sig;
    return where != NATIVE_JUMPED || c->rip == NATIVE_NEAR;
}

static void report(const struct code *k, enum native_where where, int rc)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const struct native *n = NATIVE;

    printf("# ");
    for (unsigned i = 0; i < k->len; i++)
        printf("%02x ", k->bytes[i]);
    printf("rc %d way out %u, want %u (signal %u, vector %u)\n", rc, where, n->where, n->sig,
           c->exc.vector);
    for (unsigned i = 0; i < 16; i++)
        if (c->r[i] != n->out[i] || n->in[i] != n->out[i])
            printf("#   %-3s in %016llx got %016llx want %016llx\n", names[i],
                   (unsigned long long)n->in[i], (unsigned long long)c->r[i],
                   (unsigned long long)n->out[i]);
    printf("#   flags in %llx got %llx want %llx\n", (unsigned long long)n->in_flags,
           (unsigned long long)(cpu_rflags_get(c) & COMPARED_FLAGS),
           (unsigned long long)(n->out_flags & COMPARED_FLAGS));
    for (unsigned i = 0; i < NATIVE_SCRATCH_SIZE; i++) {
        u8 want = ((u8 *)NATIVE_SCRATCH)[i];

        if (shadow[i] != want) {
            printf("#   memory at %lx got %02x want %02x\n", NATIVE_SCRATCH + i, shadow[i], want);
            break;
        }
    }
}

/*
 * One case. A disagreement must repeat itself from the same state to count: a hypervisor that
 * emulates what touches a page it watches makes a valid instruction fault once in a while.
 */
static bool run_case(const struct code *k)
{
    static u8 before[NATIVE_SCRATCH_SIZE];
    enum native_where where = NATIVE_WENT_ON;
    int rc = OP_NEXT;

    memcpy(before, shadow, sizeof(before));
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        native_run();
        where = guest_run(k, &rc);
        if (agree(where, rc))
            return true;
        if (attempt < 2)
            poke(NATIVE_SCRATCH, before, sizeof(before));
    }
    report(k, where, rc);
    memcpy(shadow, (void *)NATIVE_SCRATCH, NATIVE_SCRATCH_SIZE);
    return false;
}

static unsigned long run_form(const struct form *f, unsigned long cases)
{
    unsigned long bad = 0, done = 0;
    struct code k;

    while (done < cases && bad < 3) {
        encode(f, &k);
        native_set(k.bytes, k.len);
        for (unsigned s = 0; s < STATES && bad < 3; s++) {
            if (!set_state(&k))
                break;
            done++;
            bad += !run_case(&k);
        }
    }
    return bad;
}

static bool guest_init(void)
{
    struct mem *mem;
    struct cpu_world *world;

    shadow =
        mmap(NULL, NATIVE_SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shadow == MAP_FAILED || mem_create(&mem) ||
        mem_slot_set(mem, 0, NATIVE_SCRATCH, NATIVE_SCRATCH_SIZE, shadow, 0) ||
        cpu_world_create(&world) || cpu_create(&c, world, mem, &bus, NULL))
        return false;
    /* Paging off in 64-bit mode: not architectural, but linear addresses are then physical ones. */
    c->cr0 = CR0_PE | CR0_ET;
    c->efer = EFER_LME | EFER_LMA;
    c->seg[SEG_CS].ar |= SEG_AR_L;
    for (unsigned i = 0; i < SEG_NONE; i++)
        c->seg[i].base = 0;
    c->cpl = 3;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
    cpu_world_enter(c); /* LOCKed page crossings ask for the world */
    return c->mode == MODE_64;
}

static bool needs_met(const char *needs)
{
    u32 a, b, cx = 0, d, b7 = 0, c7 = 0;

    if (!needs)
        return true;
    __cpuid(1, a, b, cx, d);
    __cpuid_count(7, 0, a, b7, c7, d);
    if (!strcmp(needs, "movbe"))
        return cx & BIT(22);
    if (!strcmp(needs, "adx"))
        return b7 & BIT(19);
    if (!strcmp(needs, "movdiri"))
        return c7 & BIT(27);
    if (!strcmp(needs, "movdir64b"))
        return c7 & BIT(28);
    if (!strcmp(needs, "popcnt") || !strcmp(needs, "sse4.2"))
        return __builtin_cpu_supports("sse4.2");
    if (!strcmp(needs, "bmi2"))
        return __builtin_cpu_supports("bmi2");
    if (!strcmp(needs, "lzcnt")) {
        __cpuid(0x80000001, a, b, cx, d);
        return cx & BIT(5);
    }
    return __builtin_cpu_supports("bmi");
}

int main(void)
{
    const char *seed = getenv("UVIRT_SEED"), *count = getenv("UVIRT_CASES");
    unsigned long cases = count ? strtoul(count, NULL, 0) : 6000;
    u8 noise[NATIVE_SCRATCH_SIZE];

    if (seed)
        rnd_state = strtoull(seed, NULL, 0);
    if (!native_init())
        return tap_skip_all("no writable and executable memory below 2 GiB");
    if (!ok(guest_init(), "a bare CPU in 64-bit mode"))
        return tap_done();
    rnd_fill(noise, sizeof(noise));
    poke(NATIVE_SCRATCH, noise, sizeof(noise));
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        if (needs_met(forms[i].needs))
            ok(run_form(&forms[i], cases) == 0, "%s", forms[i].name);
        else
            skip("the host does not have it", "%s", forms[i].name);
    }
    return tap_done();
}
