// SPDX-License-Identifier: MIT
// TMUL's single-precision arithmetic against binary128 with explicit rounding and the host's FMA.

#include "cpu/amx/mxcsr.h"
#include "cpu/amx/softfloat.h"
#include "rand.h"
#include "tap.h"

static bool is_nan(u32 v)
{
    return (v & 0x7fffffff) > 0x7f800000;
}
static bool same(u32 a, u32 b)
{
    return a == b || (is_nan(a) && is_nan(b));
}

static float as_float(u32 v)
{
    float f;

    memcpy(&f, &v, 4);
    return f;
}

static u128 bits128(__float128 x)
{
    u128 v;

    memcpy(&v, &x, 16);
    return v;
}

/* x + y rounded to odd: what a later rounding to fewer bits cannot tell from the exact sum. */
static __float128 add_to_odd(__float128 x, __float128 y)
{
    __float128 s = x + y, part = s - x, err = (x - (s - part)) + (y - part);
    u128 v = bits128(s);

    if (err != 0 && !(v & 1))
        v += (err > 0) == (s > 0) ? 1 : (u128)-1;
    memcpy(&s, &v, 16);
    return s;
}

/* To binary32, nearest even, flushed when tiny after rounding with an unbounded exponent. */
static u32 round128(__float128 x)
{
    u128 v = bits128(x), half = (u128)1 << 88;
    u32 sign = (u32)(v >> 127) << 31;
    int exp;

    if (x == 0)
        return sign;
    v += half - 1 +
         (v >> 89 & 1); /* 112 - 23 bits go; a carry moves into the exponent as it should */
    exp = (int)(v >> 112 & 0x7fff) - 16383;
    if (exp < -126)
        return sign;
    if (exp > 127)
        return sign | 0x7f800000;
    return sign | (u32)(exp + 127) << 23 | (u32)(v >> 89 & 0x7fffff);
}

static u32 daz(u32 v)
{
    return v & 0x7f800000 ? v : v & 0x80000000;
}

/* a * b + c by way of binary128; the product of two 24-bit numbers is exact in it. */
static u32 fma128(u32 a, u32 b, u32 c)
{
    __float128 p = (__float128)as_float(daz(a)) * as_float(daz(b)), s;
    __float128 z = as_float(daz(c));

    if (p != p || z != z || p - p != 0 || z - z != 0) { /* NaN or infinity */
        float f;

        s = p + z;
        f = (float)s;
        memcpy(&c, &f, 4);
        return c;
    }
    s = add_to_odd(p, z);
    if (s == 0) /* exact zero: the sign rule of round to nearest */
        return p == 0 && z == 0 && bits128(p) >> 127 && bits128(z) >> 127 ? 0x80000000 : 0;
    return round128(s);
}

__attribute__((target("fma"), noinline)) static u32 fma_host(u32 a, u32 b, u32 c)
{
    u32 mxcsr = mxcsr_enter();

    __asm__ volatile("vmovd %1, %%xmm0\n\tvmovd %2, %%xmm1\n\tvmovd %0, %%xmm2\n\t"
                     "vfmadd231ss %%xmm1, %%xmm0, %%xmm2\n\tvmovd %%xmm2, %0"
                     : "+r"(c)
                     : "r"(a), "r"(b)
                     : "xmm0", "xmm1", "xmm2");
    mxcsr_leave(mxcsr);
    return c;
}

/* Operands that meet: random, near the flush boundary, near each other, special. */
static u32 operand(u32 other)
{
    static const u32 special[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000,
                                  0x7f800001, 1,          0x807fffff, 0x00800000, 0x80800000,
                                  0x7f7fffff, 0x3f800000, 0x00ffffff};
    u64 r = rnd();

    switch (r >> 60) {
    case 0:
    case 1:
        return special[(r >> 8) % ARRAY_SIZE(special)];
    case 2:
    case 3:
    case 4:
        return ((u32)r & 0x807fffff) | (u32)(1 + (r >> 40) % 30) << 23;
    case 5:
    case 6:
        return other ^ ((u32)r & 0x80000007);
    case 7:
        return (u32)r & 0xffff0000;
    case 8:
    case 9:
    case 10:
        return ((u32)r & 0x807fffff) | (u32)(64 + (r >> 40) % 8)
                                           << 23; /* products near the boundary */
    default:
        return (u32)r;
    }
}

static void random_operands(void)
{
    enum { COUNT = 400000 };
    bool host = __builtin_cpu_supports("fma");
    unsigned bad128 = 0, bad_host = 0, bad_add = 0, flushed = 0, cancelled = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        u32 a = operand(0x3f800000), b = operand(a), c = operand(i & 1 ? a : b), want, got;

        if (i % 4 == 0) { /* make c cancel most of the product */
            float f = -(as_float(a) * as_float(b));

            memcpy(&c, &f, 4);
            c += (u32)(rnd() % 9) - 4;
        }
        got = amx_f32_fma(a, b, c);
        want = fma128(a, b, c);
        if (!same(got, want) && bad128++ < 5)
            printf("# %08x * %08x + %08x: got %08x, binary128 %08x\n", a, b, c, got, want);
        if (host && !same(got, want = fma_host(a, b, c)) && bad_host++ < 5)
            printf("# %08x * %08x + %08x: got %08x, host %08x\n", a, b, c, got, want);
        if (!same(amx_f32_add(a, c), fma128(a, 0x3f800000, c)) && bad_add++ < 5)
            printf("# %08x + %08x: got %08x, binary128 %08x\n", a, c, amx_f32_add(a, c),
                   fma128(a, 0x3f800000, c));
        flushed += !(got & 0x7fffffff) && (daz(a) & 0x7fffffff) && (daz(b) & 0x7fffffff);
        cancelled += (got & 0x7f800000) && (c >> 23 & 0xff) > (got >> 23 & 0xff) + 8;
    }
    is_u64(bad128, 0, "multiply-add equals binary128 with explicit rounding, %d cases", COUNT);
    if (host)
        is_u64(bad_host, 0, "multiply-add equals the host's FMA under DAZ and FTZ, %d cases",
               COUNT);
    else
        skip("the host has no FMA", "multiply-add equals the host's FMA");
    is_u64(bad_add, 0, "addition equals binary128, %d cases", COUNT);
    ok(flushed > 1000 && cancelled > 1000,
       "the cases reach the flush boundary (%u) and cancellation (%u)", flushed, cancelled);
}

int main(void)
{
    /* 2^-126 * (1 - 2^-25) rounds up to 2^-126 with an unbounded exponent: not tiny. */
    is_u64(amx_f32_fma(0x00800000, 0x3f800000, 0x80000000), 0x00800000,
           "the smallest normal stays");
    is_u64(amx_f32_fma(0x3f7fffff, 0x00800001, 0), 0x00800000,
           "a result just under the boundary that rounds up to it is not flushed");
    is_u64(amx_f32_fma(0x3f7fffff, 0x00800000, 0), 0, "one that does not is flushed");
    is_u64(amx_f32_fma(0xbf7fffff, 0x00800000, 0), 0x80000000, "and keeps its sign");
    is_u64(amx_f32_fma(0x007fffff, 0x7f000000, 0x3f800000), 0x3f800000,
           "a denormal operand is a zero");
    ok(is_nan(amx_f32_fma(0x007fffff, 0x7f800000, 0)), "and times infinity it is a NaN");
    is_u64(amx_f32_add(0x3f800000, 0xbf800000), 0, "x - x is +0");
    is_u64(amx_f32_add(0x80000001, 0x80000001), 0x80000000, "-0 + -0 is -0");
    random_operands();
    return tap_done();
}
