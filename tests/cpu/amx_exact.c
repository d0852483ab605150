// SPDX-License-Identifier: MIT
// Every AMX compute instruction: the scalar kernel against a second formulation, every kernel against the scalar one.

#include "amx_model.h"
#include "cpu/amx/kernel.h"
#include "rand.h"
#include "tap.h"

#include <stdlib.h>

/*
 * amx_exact                     all instructions, some tiles
 * amx_exact --long INSTRUCTION  a million tiles by every kernel, and many by the second formulation
 */

struct tiles {
    _Alignas(64) amx_tile_t c, a, b;
};

/* How the second formulation computes. */
enum method { INT8, CHAINS, EXACT, TF32 };

static const struct instruction {
    const char *name;
    enum method method;
    const struct model_format *a, *b; /* of the sources' elements */
    u8 a_first, b_first;              /* INT8: is signed; CHAINS: element of a dword in chain 0 */
    bool negate;                      /* CHAINS: the product of chain 1 */
} instructions[AMX_DP_COUNT] = {
    [AMX_DPBSSD] = {"TDPBSSD", INT8, .a_first = 1, .b_first = 1},
    [AMX_DPBSUD] = {"TDPBSUD", INT8, .a_first = 1},
    [AMX_DPBUSD] = {"TDPBUSD", INT8, .b_first = 1},
    [AMX_DPBUUD] = {"TDPBUUD", INT8},
    [AMX_DPBF16PS] = {"TDPBF16PS", CHAINS, &model_bf16, &model_bf16},
    [AMX_DPFP16PS] = {"TDPFP16PS", CHAINS, &model_fp16, &model_fp16},
    [AMX_CMMIMFP16PS] = {"TCMMIMFP16PS", CHAINS, &model_fp16, &model_fp16, .a_first = 1},
    [AMX_CMMRLFP16PS] = {"TCMMRLFP16PS", CHAINS, &model_fp16, &model_fp16, .negate = true},
    [AMX_DPBF8PS] = {"TDPBF8PS", EXACT, &model_bf8, &model_bf8},
    [AMX_DPBHF8PS] = {"TDPBHF8PS", EXACT, &model_bf8, &model_hf8},
    [AMX_DPHBF8PS] = {"TDPHBF8PS", EXACT, &model_hf8, &model_bf8},
    [AMX_DPHF8PS] = {"TDPHF8PS", EXACT, &model_hf8, &model_hf8},
    [AMX_MMULTF32PS] = {"TMMULTF32PS", TF32, &model_f32, &model_f32},
};

static u32 dword(const u8 *p)
{
    u32 v;

    memcpy(&v, p, 4);
    return v;
}

static u32 word(const u8 *p)
{
    return p[0] | (u32)p[1] << 8;
}

static bool is_nan(u32 v)
{
    return (v & 0x7fffffff) > 0x7f800000;
}

/* Equal; a NaN is as good as another, but where the reference says which (FP8). */
static bool tile_same(const amx_tile_t x, const amx_tile_t y, enum method method)
{
    for (unsigned i = 0; i < 1024; i += 4) {
        u32 a = dword((const u8 *)x + i), b = dword((const u8 *)y + i);

        if (a != b && (method == INT8 || method == EXACT || !is_nan(a) || !is_nan(b)))
            return false;
    }
    return true;
}

/* --- random tiles --- */

/* MODERATE, ANYWHERE, around exponent (near), some of them SPECIAL, or few and powers of two: ties. */
enum kind { MODERATE, ANYWHERE, NEAR, SPECIAL, POWERS };

/* A number of format (f). */
static u32 number(const struct model_format *f, enum kind kind, unsigned near)
{
    u64 r = rnd();
    u32 exp_max = (1u << f->exp_bits) - 1, frac = (u32)(r >> 32) & ((1u << f->frac_bits) - 1);
    u32 sign = (u32)(r & 1) << (f->exp_bits + f->frac_bits), exp = exp_max / 2,
        span = exp_max / 8 + 1;

    switch (kind) {
    case MODERATE:
        exp = exp - span / 2 + (u32)(r >> 8) % span;
        break;
    case ANYWHERE:
        exp = (u32)(r >> 8) % (exp_max + !f->ieee);
        break;
    case NEAR:
        exp = (near + (u32)(r >> 8) % span) % exp_max;
        break;
    case POWERS:
        if (r >> 8 & 3)
            return sign;
        exp = (u32)(r >> 10) % exp_max;
        frac = !exp;
        break;
    default:
        exp = r >> 8 & 3 ? exp : r >> 10 & 3 ? 0 : exp_max;
        frac = r >> 12 & 1 ? frac : 0;
        break;
    }
    if (!f->ieee && exp == exp_max && frac == (1u << f->frac_bits) - 1 && kind != SPECIAL)
        frac = 0;
    return sign | exp << f->frac_bits | frac;
}

static void fill_numbers(amx_tile_t t, const struct model_format *f, enum kind kind, unsigned near)
{
    unsigned bytes = (1 + f->exp_bits + f->frac_bits) / 8;

    for (unsigned i = 0; i < 1024; i += bytes) {
        u32 v = number(f, kind == SPECIAL && rnd() % 16 ? MODERATE : kind, near);

        memcpy((u8 *)t + i, &v, bytes);
    }
}

static void fill_bytes(amx_tile_t t)
{
    static const u8 extreme[] = {0x80, 0x7f, 0xff, 0x00, 0x81, 0x01};
    bool any = rnd() % 4;

    for (unsigned i = 0; i < 1024; i++)
        ((u8 *)t)[i] = any ? (u8)rnd() : extreme[rnd() % sizeof(extreme)];
}

static void fill(struct tiles *t, const struct instruction *in)
{
    static const enum kind kinds[] = {MODERATE, MODERATE, MODERATE, ANYWHERE, ANYWHERE, NEAR,
                                      NEAR,     NEAR,     SPECIAL,  POWERS,   POWERS};
    enum kind kind = kinds[rnd() % ARRAY_SIZE(kinds)];
    unsigned near_a = (unsigned)rnd(), near_b = near_a;

    if (in->method == INT8) {
        fill_bytes(t->a);
        fill_bytes(t->b);
        fill_bytes(t->c);
        return;
    }
    if (in->a->exp_bits ==
        8) { /* products around the least normal number, of small numbers or of denormals too */
        near_b = near_a & 64 ? 110 + near_a % 8 : 58 + near_a % 8;
        near_a = near_a & 64 ? 0 : near_b;
    }
    fill_numbers(t->a, in->a, kind, near_a);
    fill_numbers(t->b, in->b, kind, near_b);
    fill_numbers(t->c, &model_f32, kind == POWERS ? ANYWHERE : kind, near_b % 2 ? 0 : 118);
}

/* --- the second formulation: one element --- */

static u32 element_int8(const struct instruction *in, const struct tiles *t, unsigned i, unsigned j,
                        unsigned k)
{
    s64 sum = (s32)dword(t->c[i] + j * 4);

    for (unsigned x = 0; x < k * 4; x++) {
        s64 a = t->a[i][x], b = t->b[x / 4][j * 4 + x % 4];

        a -= in->a_first && a > 127 ? 256 : 0;
        b -= in->b_first && b > 127 ? 256 : 0;
        sum += a * b;
    }
    return (u32)sum;
}

static u32 element_chains(const struct instruction *in, const struct tiles *t, unsigned i,
                          unsigned j, unsigned k)
{
    u32 chain[2] = {0, 0}, both;

    for (unsigned x = 0; x < k; x++) {
        for (unsigned n = 0; n < 2; n++) {
            const u8 *pa = t->a[i] + x * 4 + (in->a_first ^ n) * 2, *pb = t->b[x] + j * 4 + n * 2;
            __float128 p = model_value(word(pa), in->a) * model_value(word(pb), in->b);

            if (n == 1 && in->negate)
                p = -p;
            chain[n] = model_add(p, model_value(chain[n], &model_f32_daz));
        }
    }
    both = model_add(model_value(chain[0], &model_f32_daz), model_value(chain[1], &model_f32_daz));
    return model_add(model_value(dword(t->c[i] + j * 4), &model_f32_daz),
                     model_value(both, &model_f32_daz));
}

static u32 element_exact(const struct instruction *in, const struct tiles *t, unsigned i,
                         unsigned j, unsigned k)
{
    __float128 sum = 0;

    for (unsigned x = 0; x < k * 4; x++)
        sum += model_value(t->a[i][x], in->a) * model_value(t->b[x / 4][j * 4 + x % 4], in->b);
    return model_add(model_value(dword(t->c[i] + j * 4), &model_f32),
                     model_value(model_round(sum), &model_f32));
}

/* The ten upper fraction bits. */
static __float128 tf32(u32 v)
{
    static const struct model_format narrow = {8, 10, true, false};

    return is_nan(v) ? __builtin_nan("") : model_value(v >> 13, &narrow);
}

static u32 element_tf32(const struct instruction *in, const struct tiles *t, unsigned i, unsigned j,
                        unsigned k)
{
    u32 sum = 0;

    for (unsigned x = 0; x < k; x++)
        sum = model_add(tf32(dword(t->a[i] + x * 4)) * tf32(dword(t->b[x] + j * 4)),
                        model_value(sum, &model_f32));
    return model_add(model_value(dword(t->c[i] + j * 4), &model_f32), model_value(sum, &model_f32));
}

static u32 element(const struct instruction *in, const struct tiles *t, unsigned i, unsigned j,
                   unsigned k)
{
    switch (in->method) {
    case INT8:
        return element_int8(in, t, i, j, k);
    case CHAINS:
        return element_chains(in, t, i, j, k);
    case EXACT:
        return element_exact(in, t, i, j, k);
    default:
        return element_tf32(in, t, i, j, k);
    }
}

static void second(const struct instruction *in, struct tiles *t, unsigned m, unsigned n,
                   unsigned k)
{
    amx_tile_t out = {0};

    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < n; j++) {
            u32 v = element(in, t, i, j, k);

            memcpy(out[i] + j * 4, &v, 4);
        }
    }
    memcpy(t->c, out, sizeof(out));
}

/* --- the two comparisons --- */

/* How often results are numbers other than 0, NaNs or flushed is what makes the cases worth something. */
static unsigned interesting(const amx_tile_t c, unsigned m, unsigned n)
{
    unsigned count = 0;

    for (unsigned i = 0; i < m * n; i++) {
        u32 v = dword(c[i / n] + i % n * 4);

        count += v & 0x7fffffff && !is_nan(v);
    }
    return count;
}

static void scalar_against_second(enum amx_dp op, unsigned cases)
{
    const struct instruction *in = &instructions[op];
    unsigned bad = 0;
    u64 elements = 0, numbers = 0;

    for (unsigned i = 0; i < cases; i++) {
        unsigned m = 1 + rnd() % 16, n = 1 + rnd() % 16, k = 1 + rnd() % 16;
        struct tiles x, y;

        fill(&x, in);
        y = x;
        amx_kernels_scalar.dp[op](x.c, x.a, x.b, m, n, k);
        second(in, &y, m, n, k);
        elements += m * n;
        numbers += interesting(x.c, m, n);
        if (!tile_same(x.c, y.c, in->method) && bad++ < 3)
            printf("# case %u: m %u n %u k %u\n", i, m, n, k);
    }
    is_u64(bad, 0, "%s scalar: %u random tiles equal the second formulation", in->name, cases);
    ok(numbers * 5 > elements, "%s: results are numbers in %u of %u elements", in->name,
       (unsigned)numbers, (unsigned)elements);
}

static const struct amx_kernels *const all[] = {&amx_kernels_avx2, &amx_kernels_avxvnni,
                                                &amx_kernels_avx512, &amx_kernels_vnni,
                                                &amx_kernels_amx};

/* Do kernels (i) of (all) have an (op) of their own, and can this host run it? */
static bool to_compare(unsigned i, enum amx_dp op)
{
    return amx_kernels_usable(all[i]) && all[i]->dp[op] &&
           !(i && all[i]->dp[op] == all[i - 1]->dp[op]);
}

/* One tile by the scalar kernel and by those of (compare): (bad) is counted up for each that differs. */
static void one_tile(enum amx_dp op, unsigned m, unsigned n, unsigned k, const bool *compare,
                     unsigned *bad)
{
    const struct instruction *in = &instructions[op];
    struct tiles start, want, got;

    fill(&start, in);
    want = start;
    amx_kernels_scalar.dp[op](want.c, want.a, want.b, m, n, k);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (!compare[i])
            continue;
        got = start;
        all[i]->dp[op](got.c, got.a, got.b, m, n, k);
        if ((!tile_same(want.c, got.c, in->method) || memcmp(start.a, got.a, 2048)) && bad[i]++ < 3)
            printf("# %s: m %u n %u k %u\n", all[i]->name, m, n, k);
    }
}

static void kernels_against_scalar(enum amx_dp op, unsigned cases)
{
    unsigned bad[ARRAY_SIZE(all)] = {0};
    bool compare[ARRAY_SIZE(all)];

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        compare[i] = to_compare(i, op);
    for (unsigned i = 0; i < cases; i++) {
        /* every shape's edges, then random ones */
        unsigned m = i < 16 ? i + 1 : 1 + rnd() % 16, n = i < 32 ? i % 16 + 1 : 1 + rnd() % 16;

        one_tile(op, m, n, i % 8 == 0 ? 16 : 1 + rnd() % 16, compare, bad);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (!amx_kernels_usable(all[i]))
            skip("this host cannot run them", "%s %s", instructions[op].name, all[i]->name);
        else if (compare[i])
            is_u64(bad[i], 0, "%s %s: %u random tiles equal the scalar kernel",
                   instructions[op].name, all[i]->name, cases);
    }
}

/*
 * Sums of FP8 products that a double holds only rounded, a hair above and below a tie: rounding twice
 * gives the wrong neighbour. 2^15 * 2^15 + 2^3 * 2^3 (1 or 3) +- 2^-16 * 2^-16.
 */
static void double_rounding(const struct amx_kernels *kernels)
{
    static const struct {
        u8 a[4], b[4];
        u32 want;
        const char *what;
    } cases[] = {
        {{0x78, 0x48, 0x01, 0x00}, {0x78, 0x48, 0x01, 0x00}, 0x4e800001, "above a tie"},
        {{0x78, 0x48, 0x01, 0x00}, {0x78, 0x48, 0x81, 0x00}, 0x4e800000, "below"},
        {{0x78, 0x48, 0x01, 0x00}, {0x78, 0x4e, 0x81, 0x00}, 0x4e800001, "below the next"},
        {{0x78, 0x48, 0x00, 0x00}, {0x78, 0x48, 0x00, 0x00}, 0x4e800000, "at a tie"},
        {{0x78, 0x48, 0x00, 0x00}, {0x78, 0x4e, 0x00, 0x00}, 0x4e800002, "at the next"},
        {{0xf8, 0x48, 0x01, 0x00}, {0x78, 0xc8, 0x81, 0x00}, 0xce800001, "above a tie, negative"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct tiles t = {0};

        memcpy(t.a[0], cases[i].a, 4);
        memcpy(t.b[0], cases[i].b, 4);
        kernels->dp[AMX_DPBF8PS](t.c, t.a, t.b, 1, 1, 1);
        is_u64(dword(t.c[0]), cases[i].want, "TDPBF8PS %s: a sum %s is rounded once", kernels->name,
               cases[i].what);
    }
}

/* TF32 takes denormals for what they are: 2^-127 * 2^10 is 2^-117. */
static void tf32_denormal(const struct amx_kernels *kernels)
{
    struct tiles t = {0};

    memcpy(t.a[0], &(u32){0x00400000}, 4);
    memcpy(t.b[0], &(u32){0x44800000}, 4);
    kernels->dp[AMX_MMULTF32PS](t.c, t.a, t.b, 1, 1, 1);
    is_u64(dword(t.c[0]), 0x05000000, "TMMULTF32PS %s: denormal operands count", kernels->name);
}

static void directed(void)
{
    double_rounding(&amx_kernels_scalar);
    tf32_denormal(&amx_kernels_scalar);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (to_compare(i, AMX_DPBF8PS))
            double_rounding(all[i]);
        if (to_compare(i, AMX_MMULTF32PS))
            tf32_denormal(all[i]);
    }
}

int main(int argc, char **argv)
{
    bool lengthy = argc == 3 && !strcmp(argv[1], "--long");
    unsigned done = 0;

    if (argc > 1 && !lengthy) {
        fprintf(stderr, "usage: amx_exact [--long INSTRUCTION]\n");
        return 2;
    }
    directed();
    for (unsigned op = 0; op < AMX_DP_COUNT; op++) {
        if (lengthy && strcmp(argv[2], instructions[op].name))
            continue;
        scalar_against_second(op, lengthy ? 20000 : 60);
        kernels_against_scalar(op, lengthy ? 1000000 : 300);
        done++;
    }
    ok(done, "there are instructions to test");
    return tap_done();
}
