// SPDX-License-Identifier: MIT
// Random vector, MMX and x87 instructions on random state: src/cpu/vec against the host, everything compared.

#include "tap.h"
#include "vec_guest.h"
#include "vec_harness.h"

#include "cpu/mmu/access.h"
#include "cpu/vec/encode.h"

#include <Zydis/DecoderTypes.h>
#include <signal.h>

#define DEFAULT_CASES 60000
#define MAX_REPORTS 12

static u64 rng_state;

static u64 rnd(void)
{
    u64 z = rng_state += 0x9e3779b97f4a7c15ull; /* splitmix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static u64 pick(u64 n)
{
    return rnd() % n;
}

static u64 env_u64(const char *name, u64 def)
{
    const char *v = getenv(name);

    return v ? strtoull(v, NULL, 0) : def;
}

/* --- random instructions --- */

enum space { SPACE_LEGACY, SPACE_VEX, SPACE_EVEX, SPACE_X87, SPACES };

static unsigned random_tail(u8 *p)
{
    unsigned n = 0;

    for (; n < 8; n++)
        p[n] = (u8)rnd();
    if (pick(2)) /* as many register as memory forms */
        p[0] |= 0xc0;
    return n;
}

static unsigned random_bytes(enum space space, u8 *p)
{
    static const u8 mandatory[] = {0x66, 0xf2, 0xf3};
    static const u8 ignored[] = {0x26, 0x2e, 0x36, 0x3e, 0x67, 0x66};
    unsigned n = 0;

    if (!pick(10)) /* 66 counts in legacy forms only, and there F2 and F3 go before it */
        p[n++] = ignored[pick(space == SPACE_LEGACY ? 6 : 5)];
    switch (space) {
    case SPACE_LEGACY:
        if (pick(4))
            p[n++] = mandatory[pick(3)];
        if (!pick(3))
            p[n++] = 0x40 | (u8)pick(16);
        p[n++] = 0x0f;
        if (pick(2))
            p[n++] = pick(2) ? 0x38 : 0x3a;
        break;
    case SPACE_VEX:
        p[n++] = 0xc4;
        p[n++] = (u8)(pick(8) << 5 | (1 + pick(3)));
        p[n++] = (u8)rnd();
        if (pick(2))
            p[n - 1] |= 0x78;
        break;
    case SPACE_EVEX:
        p[n++] = 0x62;
        p[n++] = (u8)(pick(16) << 4 | (1 + pick(3)));
        p[n++] = (u8)rnd() | 4;
        if (pick(2))
            p[n - 1] |= 0x78;
        p[n++] = (u8)rnd();
        if (pick(2))
            p[n - 1] |= 8;
        break;
    default:
        if (!pick(8))
            p[n++] = 0x66;
        p[n++] = pick(40) ? 0xd8 | (u8)pick(8) : 0x9b;
        return n + random_tail(p + n);
    }
    p[n++] = (u8)rnd();
    return n + random_tail(p + n);
}

/* Instructions whose effect this test cannot set up or see. */
static bool unsuitable(const struct decoded *d)
{
    if (d->has_mem && (d->mem_base == REG_RSP || d->mem_base == REG_IPBASE || d->mem_seg == SEG_FS ||
                       d->mem_seg == SEG_GS || (d->mem_base == REG_ZERO && !d->vsib) ||
                       (d->mem_base == d->mem_index && !d->vsib)))
        return true;
    if (d->vsib && d->mem_base == REG_ZERO)
        return true;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_GPR && d->op[i].reg == REG_RSP)
            return true;
    }
    for (unsigned i = 0; i < d->prefix_len; i++) {
        if (d->bytes[i] == 0x64 || d->bytes[i] == 0x65)
            return true;
    }
    return false;
}

static bool is_maskmov(const struct decoded *d)
{
    return d->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || d->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
           d->mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU;
}

static bool is_sha(const struct decoded *d)
{
    return d->isa_set == ZYDIS_ISA_SET_SHA;
}

static bool is_dot_product(const struct decoded *d)
{
    return d->mnemonic == ZYDIS_MNEMONIC_DPPS || d->mnemonic == ZYDIS_MNEMONIC_DPPD ||
           d->mnemonic == ZYDIS_MNEMONIC_VDPPS || d->mnemonic == ZYDIS_MNEMONIC_VDPPD;
}

static bool is_environment(const struct decoded *d)
{
    return d->mnemonic == ZYDIS_MNEMONIC_FNSTENV || d->mnemonic == ZYDIS_MNEMONIC_FNSAVE ||
           d->mnemonic == ZYDIS_MNEMONIC_FLDENV || d->mnemonic == ZYDIS_MNEMONIC_FRSTOR;
}

static unsigned memory_size(const struct decoded *d)
{
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_MEM)
            return d->op[i].size;
    }
    return 16;
}

/* --- random state --- */

static const u64 specials64[] = {
    0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
    0x7ff8000000000000, 0x7ff0000000000001, 0xfff7ffffffffffff, 1, 0x000fffffffffffff, 0x0010000000000000,
    0x7fefffffffffffff, 0x8000000000000001, 0x41dfffffffc00000, 0x43e0000000000000, 0x3ca0000000000000,
};
static const u32 specials32[] = {
    0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffbfffff, 1,
    0x007fffff, 0x00800000, 0x7f7fffff, 0x80000001, 0x4f000000, 0x33800000, 0x00400000, 0x3f800001,
};

static void random_vector(u8 *p, unsigned len)
{
    unsigned kind = (unsigned)pick(5);

    for (unsigned i = 0; i < len; i += 8) {
        u64 v = rnd();

        if (kind == 1) {
            v = specials64[pick(ARRAY_SIZE(specials64))];
        } else if (kind == 2) {
            v = specials32[pick(ARRAY_SIZE(specials32))] |
                (u64)specials32[pick(ARRAY_SIZE(specials32))] << 32;
        } else if (kind == 3) { /* ordinary numbers near one another */
            v = 0x3ff0000000000000 + (rnd() >> 10) + (pick(4) << 52);
        } else if (kind == 4) {
            v = (0x3f800000 + pick(1 << 25)) | (0x3f800000 + pick(1 << 25)) << 32;
        }
        memcpy(p + i, &v, 8);
    }
}

static void random_st(u8 *p)
{
    static const u16 exps[] = {0, 0, 0x7fff, 0x3fff, 0x4000, 0x3ffe, 0x403e, 1, 0x7ffe, 0x3f6a, 0x3c01};
    static const u64 mans[] = {0, 0x8000000000000000, 0xc000000000000000, 0x8000000000000001,
                               0xffffffffffffffff, 1};
    u64 man = pick(2) ? mans[pick(ARRAY_SIZE(mans))] : rnd() | BIT(63);
    u16 exp = pick(4) ? exps[pick(ARRAY_SIZE(exps))] : (u16)(0x3fff - 70 + pick(140));

    if (exp && exp != 0x7fff && pick(8))
        man |= BIT(63);
    exp |= (u16)(pick(2) << 15);
    memset(p, 0, 16);
    memcpy(p, &man, 8);
    memcpy(p + 8, &exp, 2);
}

static void random_x87(struct cpu_x87 *x, bool wild)
{
    memset(x, 0, sizeof(*x));
    x->fcw = (u16)(0x7f | (wild ? rnd() & 0xf3f : 0x300));
    if (wild && pick(2))
        x->fcw |= 0x3f;
    x->fsw = (u16)(pick(8) << 11 | (rnd() & 0x4700));
    if (wild && !pick(4))
        x->fsw |= (u16)(rnd() & 0x7f);
    if (x->fsw & ~x->fcw & 0x3f)
        x->fsw |= 0x8080;
    x->ftw = (u8)(wild ? rnd() | rnd() : 0xff);
    for (unsigned i = 0; i < 8; i++)
        random_st(x->st[i]);
    x->mxcsr = 0x1f80;
}

static u32 random_mxcsr(void)
{
    u32 v = 0x1f80;

    if (pick(2))
        v |= (u32)rnd() & 0xe07f; /* RC, FTZ, DAZ, flags */
    if (!pick(4))
        v &= (u32)rnd() | ~0x1f80u;
    return v;
}

static u64 random_mask(void)
{
    switch (pick(4)) {
    case 0:
        return 0;
    case 1:
        return ~0ull;
    default:
        return rnd();
    }
}

static void random_state(struct native_state *s, int level, const struct decoded *d)
{
    memset(s, 0, sizeof(*s));
    random_x87((struct cpu_x87 *)s->fx, pick(2));
    for (unsigned i = 0; i < 32; i++)
        random_vector(s->zmm[i], level == LEVEL_AVX512 ? 64 : level == LEVEL_AVX ? 32 : 16);
    if (level < LEVEL_AVX512)
        memset(s->zmm[16], 0, 16 * 64);
    for (unsigned i = 0; level == LEVEL_AVX512 && i < 8; i++)
        s->k[i] = random_mask();
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = pick(3) ? rnd() : pick(64);
    s->r[REG_RSP] = 0;
    s->rflags = 2 | (rnd() & RFLAGS_ARITH);
    s->mxcsr = random_mxcsr();
}

/* Give address registers values that put the operand into the scratch pages, often at their very end. */
static void random_address(struct native_state *s, const struct decoded *d)
{
    unsigned size = is_maskmov(d) ? 16 : memory_size(d);
    u64 room = SCRATCH_SIZE - size, at = SCRATCH_LIN;
    u64 amask = d->asize == 4 ? 0xffffffff : ~0ull;

    switch (pick(4)) {
    case 0:
        at += room; /* nothing may be touched behind it */
        break;
    case 1:
        at += PAGE_SIZE - pick(size + 1);
        break;
    default:
        at += pick(room) & ~63ull;
    }
    if (is_maskmov(d)) {
        s->r[REG_RDI] = at;
        return;
    }
    if (d->vsib) {
        u64 span = pick(2) ? 200 : 480; /* with the larger one some fall outside */

        for (unsigned i = 0; i < 64; i += 4) {
            bool wide = d->mnemonic == ZYDIS_MNEMONIC_VGATHERQPS || d->mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
                        d->mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || d->mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ ||
                        d->mnemonic == ZYDIS_MNEMONIC_VSCATTERQPS || d->mnemonic == ZYDIS_MNEMONIC_VSCATTERQPD ||
                        d->mnemonic == ZYDIS_MNEMONIC_VPSCATTERQD || d->mnemonic == ZYDIS_MNEMONIC_VPSCATTERQQ;
            s32 v = (s32)pick(2 * span) - (s32)span;

            if (wide && i % 8)
                v = s->zmm[d->mem_index][i - 1] >> 7 ? -1 : 0;
            memcpy(&s->zmm[d->mem_index][i], &v, 4);
        }
        s->r[d->mem_base] = (SCRATCH_LIN + PAGE_SIZE - (u64)d->mem_disp) & amask;
        return;
    }
    if (d->mem_index != REG_ZERO) {
        s->r[d->mem_index] = pick(0x1000);
        at -= s->r[d->mem_index] << d->mem_scale;
    }
    s->r[d->mem_base] = (at - (u64)d->mem_disp) & amask;
    if (d->asize == 4)
        s->r[d->mem_base] |= rnd() << 32;
}

/* --- one case --- */

static struct guest g;
static u8 *native_mem;
static int level;
static unsigned reports;

static void state_to_cpu(const struct native_state *s, struct cpu *c)
{
    memcpy(c->r, s->r, sizeof(s->r));
    c->cc = cpu_cc_from_rflags(s->rflags);
    memcpy(&c->vec.x87, s->fx, sizeof(c->vec.x87));
    c->vec.x87.mxcsr = s->mxcsr;
    memcpy(c->vec.zmm, s->zmm, sizeof(s->zmm));
    memcpy(c->vec.k, s->k, sizeof(s->k));
    c->r[REG_ZERO] = 0;
    c->r[REG_IPBASE] = GUEST_RIP;
    c->exc.pending = false;
}

/* What differs, or NULL. */
static const char *compare(const struct native_state *n, const struct cpu *c, bool nofault)
{
    const struct cpu_x87 *x = (const struct cpu_x87 *)n->fx;
    static char what[80];

    for (unsigned i = 0; i < 16; i++) {
        if (n->r[i] != c->r[i]) {
            snprintf(what, sizeof(what), "r%u: host %llx, ours %llx", i, (unsigned long long)n->r[i],
                     (unsigned long long)c->r[i]);
            return what;
        }
    }
    for (unsigned i = 0; i < 32; i++) {
        for (unsigned b = 0; b < 64; b++) {
            if (n->zmm[i][b] != c->vec.zmm[i][b]) {
                snprintf(what, sizeof(what), "zmm%u byte %u: host %02x, ours %02x", i, b, n->zmm[i][b],
                         c->vec.zmm[i][b]);
                return what;
            }
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        if (n->k[i] != c->vec.k[i]) {
            snprintf(what, sizeof(what), "k%u", i);
            return what;
        }
    }
    if (n->mxcsr != c->vec.x87.mxcsr) {
        snprintf(what, sizeof(what), "mxcsr: host %x, ours %x", n->mxcsr, c->vec.x87.mxcsr);
        return what;
    }
    if (!nofault)
        return NULL;
    if ((n->rflags & RFLAGS_ARITH) != cpu_cc_to_rflags(c->cc))
        return "flags";
    if (x->fcw != c->vec.x87.fcw || x->fsw != c->vec.x87.fsw || x->ftw != c->vec.x87.ftw) {
        snprintf(what, sizeof(what), "fcw/fsw/ftw: host %x %x %x, ours %x %x %x", x->fcw, x->fsw, x->ftw,
                 c->vec.x87.fcw, c->vec.x87.fsw, c->vec.x87.ftw);
        return what;
    }
    for (unsigned i = 0; i < 8; i++) {
        if (memcmp(x->st[i], c->vec.x87.st[i], 10)) {
            snprintf(what, sizeof(what), "st(%u)", i);
            return what;
        }
    }
    return NULL;
}

static int expected_signal(const struct cpu *c, int rc)
{
    if (rc >= 0)
        return 0;
    switch (c->exc.vector) {
    case EXC_UD:
        return SIGILL;
    case EXC_XM:
    case EXC_MF:
        return SIGFPE;
    case EXC_GP:
    case EXC_PF:
        return SIGSEGV;
    default:
        return -1;
    }
}

/* Pointers that FNSTENV and FNSAVE store are the guest's, not the host's: blank them on both sides. */
static void blank_pointers(const struct decoded *d, u64 ea)
{
    u64 at = ea - SCRATCH_LIN;
    bool small = memory_size(d) == 14 || memory_size(d) == 94;
    unsigned from = small ? 6 : 12, to = small ? 14 : 28;

    if (!is_environment(d))
        return;
    if (at + to > SCRATCH_SIZE)
        return;
    memset(native_mem + at + from, 0, to - from);
    memset(g.ram + SCRATCH_GPA + at + from, 0, to - from);
}

static void report(const struct decoded *d, const struct native_state *s, const char *what)
{
    if (reports++ >= MAX_REPORTS)
        return;
    printf("# ");
    for (unsigned i = 0; i < d->len; i++)
        printf("%02x", d->bytes[i]);
    printf(" (%s, mxcsr %x): %s\n", ZydisMnemonicGetString(d->mnemonic), s->mxcsr, what);
}

static bool run_case(const struct decoded *d, const struct insn *in)
{
    struct native_state s, before;
    struct cpu *c = g.c;
    const char *what;
    char buf[80];
    u64 addr = 0;
    int sig, rc, want;

    random_state(&s, level, d);
    if (d->has_mem || is_maskmov(d))
        random_address(&s, d);
    for (unsigned i = 0; i < SCRATCH_SIZE && (d->has_mem || is_maskmov(d)); i += 64)
        random_vector(native_mem + i, 64);
    memcpy(g.ram + SCRATCH_GPA, native_mem, SCRATCH_SIZE);
    before = s;
    state_to_cpu(&s, c);
    rc = in->op(c, in);
    sig = native_run(&s, d->bytes, d->len, &addr);
    want = expected_signal(c, rc);
    if (sig != want && is_sha(d) && want == SIGSEGV && c->exc.vector == EXC_GP)
        return true; /* some CPUs do not mind unaligned operands here; the SDM does */
    if (sig != want && d->mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH && sig == SIGFPE && !(before.mxcsr & 0x800))
        return true; /* exact denormals with UE unmasked: see frame.c */
    if (sig != want) {
        snprintf(buf, sizeof(buf), "host signal %d (%llx), ours %d (vector %d, cr2 %llx)", sig,
                 (unsigned long long)addr, want, rc < 0 ? c->exc.vector : -1, (unsigned long long)c->exc.payload);
        report(d, &before, buf);
        return false;
    }
    if (sig == SIGSEGV && d->vsib)
        return true; /* the host's registers at the fault are not seen: tests/cpu/vec_directed.c */
    if (sig == SIGSEGV && c->exc.vector == EXC_PF && (addr ^ c->exc.payload) & PAGE_MASK) {
        report(d, &before, "fault address");
        return false;
    }
    if (sig && sig != SIGFPE)
        s.mxcsr = before.mxcsr;
    if (sig == SIGFPE && c->exc.vector == EXC_MF)
        s.mxcsr = before.mxcsr;
    if (sig == SIGFPE && s.mxcsr & ~s.mxcsr >> 7 & 0x18) /* PE beside unmasked OE, UE: see frame.c */
        s.mxcsr = (s.mxcsr & ~0x20u) | (c->vec.x87.mxcsr & 0x20);
    if (sig == SIGFPE && d->mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH && !(before.mxcsr & 0x800))
        s.mxcsr = c->vec.x87.mxcsr;
    if (sig == SIGFPE && is_dot_product(d)) /* its steps are checked one after the other */
        s.mxcsr = c->vec.x87.mxcsr;
    what = compare(&s, c, !sig);
    if (!what && d->has_mem)
        blank_pointers(d, insn_ea(c, in));
    if (!what && memcmp(native_mem, g.ram + SCRATCH_GPA, SCRATCH_SIZE))
        what = "memory";
    if (what)
        report(d, &before, what);
    return !what;
}

/* --- the differential run --- */

static u8 seen[MNEMONIC_COUNT], refused[MNEMONIC_COUNT];

static unsigned count_seen(const u8 *set)
{
    unsigned n = 0;

    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        n += set[i];
    return n;
}

static void run_space(enum space space, const char *name, u64 cases)
{
    u64 done = 0, failed = 0, tries = 0;

    memset(seen, 0, sizeof(seen));
    reports = 0;
    while (done < cases && tries++ < cases * 200) {
        struct decoded d;
        struct insn in;
        u8 bytes[16];
        unsigned n = random_bytes(space, bytes);
        bool gp;

        if (decode_one(bytes, n, MODE_64, true, &d, &gp) || unsuitable(&d))
            continue;
        insn_from_decoded(&d, &in, 0);
        if (vec_lower(&d, &in)) {
            refused[d.mnemonic] = 1;
            continue;
        }
        seen[d.mnemonic] = 1;
        done++;
        if (!run_case(&d, &in))
            failed++;
    }
    ok(failed == 0 && done == cases, "%s: %llu random cases, %u mnemonics, %llu differ", name,
       (unsigned long long)done, count_seen(seen), (unsigned long long)failed);
}

/* --- re-encoding, in every mode --- */

static bool same_operand(const struct opnd *a, const struct opnd *b)
{
    if (a->kind != b->kind || a->size != b->size || a->read != b->read || a->write != b->write)
        return false;
    if (a->kind == OPND_GPR)
        return b->reg == (a->encoding == ENC_OTHER ? a->reg : ENC_GPR);
    return (a->kind == OPND_IMM ? a->imm == b->imm : a->reg == b->reg);
}

static bool same_instruction(const struct decoded *a, const struct decoded *b)
{
    if (a->mnemonic != b->mnemonic || a->nopnd != b->nopnd || a->evex_aaa != b->evex_aaa ||
        a->evex_z != b->evex_z || a->evex_b != b->evex_b || a->has_mem != b->has_mem || a->vl != b->vl)
        return false;
    for (unsigned i = 0; i < a->nopnd; i++) {
        if (!same_operand(&a->op[i], &b->op[i]))
            return false;
    }
    return !b->has_mem || (b->mem_base == ENC_MEM_REG && b->mem_index == REG_ZERO && !b->mem_disp);
}

/* What a stub will run must decode, as 64-bit code, to the same instruction. */
static void test_encode(u64 cases)
{
    u64 done = 0, failed = 0, tries = 0;

    while (done < cases && tries++ < cases * 200) {
        enum cpu_mode_size mode = (enum cpu_mode_size)pick(3);
        struct decoded d, e;
        struct insn in;
        u8 bytes[16], out[ENC_MAX];
        unsigned n = random_bytes((enum space)pick(SPACES), bytes);
        bool gp, same;

        if (decode_one(bytes, n, mode, true, &d, &gp) || d.vsib)
            continue;
        insn_from_decoded(&d, &in, 0);
        if (vec_lower(&d, &in) || is_environment(&d) || d.mnemonic == ZYDIS_MNEMONIC_FWAIT || d.mnemonic == ZYDIS_MNEMONIC_EMMS)
            continue;
        done++;
        n = vec_encode(&d, out);
        same = !decode_one(out, n, MODE_64, true, &e, &gp) && e.len == n && same_instruction(&d, &e);
        if (same)
            continue;
        if (failed++ < MAX_REPORTS) {
            printf("# mode %u: ", mode);
            for (unsigned i = 0; i < d.len; i++)
                printf("%02x", d.bytes[i]);
            printf(" (%s) becomes ", ZydisMnemonicGetString(d.mnemonic));
            for (unsigned i = 0; i < n; i++)
                printf("%02x", out[i]);
            printf("\n");
        }
    }
    ok(failed == 0 && done == cases, "re-encoding keeps the meaning: %llu cases in three modes",
       (unsigned long long)done);
}

static int setup(void)
{
    void *p;

    level = native_init();
    if (level < 0)
        return -1;
    if (guest_create(&g, level == LEVEL_AVX512 ? 0xe7 : level == LEVEL_AVX ? 7 : 3))
        return -1;
    /* The scratch pages at the same address for both, with nothing around the host's. */
    p = mmap((void *)(SCRATCH_LIN - 16 * PAGE_SIZE), SCRATCH_SIZE + 32 * PAGE_SIZE, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)(SCRATCH_LIN - 16 * PAGE_SIZE))
        return -1;
    native_mem = (u8 *)SCRATCH_LIN;
    return mprotect(native_mem, SCRATCH_SIZE, PROT_READ | PROT_WRITE);
}

int main(void)
{
    u64 cases = env_u64("UVIRT_CASES", DEFAULT_CASES);

    rng_state = env_u64("UVIRT_SEED", 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!ok(setup() == 0, "guest and harness set up"))
        return tap_done();
    run_space(SPACE_X87, "x87", cases / 6);
    run_space(SPACE_LEGACY, "MMX and SSE", cases / 3);
    if (level >= LEVEL_AVX)
        run_space(SPACE_VEX, "AVX", cases / 4);
    else
        skip("the host has no AVX", "AVX");
    if (level >= LEVEL_AVX512)
        run_space(SPACE_EVEX, "AVX-512", cases / 4);
    else
        skip("the host has no AVX-512", "AVX-512");
    test_encode(cases / 4);
    if (getenv("UVIRT_VERBOSE")) {
        for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
            if (refused[i])
                printf("# refused: %s\n", ZydisMnemonicGetString((ZydisMnemonic)i));
        }
    }
    guest_free(&g);
    return tap_done();
}
