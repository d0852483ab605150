// SPDX-License-Identifier: MIT
// TMUL's arithmetic a second time: values in binary128, every rounding explicit.
#pragma once

#include "base/types.h"

#include <string.h>

/*
 * A format by its fields; values come out of the definition, (-1)^s * 1.f * 2^(e - bias), not out of
 * the code under test. All products of two values here, and all sums of FP8 products, are exact in
 * binary128's 113 bits; sums of others are rounded to odd, so that the one rounding to binary32 that
 * follows sees what the exact sum would show it.
 */
struct model_format {
    unsigned exp_bits, frac_bits;
    bool ieee; /* the highest exponent holds infinities and NaNs; else only all ones is a NaN */
    bool daz;  /* denormals are zeros */
};

static const struct model_format model_f32_daz = {8, 23, true, true},
                                 model_f32 = {8, 23, true, false}, model_bf16 = {8, 7, true, true},
                                 model_fp16 = {5, 10, true, false}, model_bf8 = {5, 2, true, false},
                                 model_hf8 = {4, 3, false, false};

static inline __float128 model_power(int exp)
{
    __float128 v = 1, f = exp < 0 ? 0.5 : 2;

    for (unsigned n = (unsigned)(exp < 0 ? -exp : exp); n; n >>= 1, f *= f)
        v *= n & 1 ? f : 1;
    return v;
}

static inline __float128 model_value(u32 bits, const struct model_format *f)
{
    u32 exp_max = (1u << f->exp_bits) - 1, exp = bits >> f->frac_bits & exp_max;
    u32 frac = bits & ((1u << f->frac_bits) - 1);
    int bias = (int)(exp_max >> 1);
    __float128 v;

    if (f->ieee && exp == exp_max)
        v = frac ? __builtin_nan("") : __builtin_inf();
    else if (!f->ieee && exp == exp_max && frac == (1u << f->frac_bits) - 1)
        v = __builtin_nan("");
    else if (exp)
        v = ((1u << f->frac_bits) + frac) * model_power((int)exp - bias - (int)f->frac_bits);
    else
        v = f->daz ? 0 : frac * model_power(1 - bias - (int)f->frac_bits);
    return bits >> (f->exp_bits + f->frac_bits) & 1 ? -v : v;
}

static inline u128 model_bits(__float128 x)
{
    u128 v;

    memcpy(&v, &x, 16);
    return v;
}

/* x + y rounded to odd. */
static inline __float128 model_add_to_odd(__float128 x, __float128 y)
{
    __float128 s = x + y, part = s - x, err = (x - (s - part)) + (y - part);
    u128 v = model_bits(s);

    if (s - s != 0 || err == 0 || v & 1)
        return s;
    v += (err > 0) == (s > 0) ? 1 : (u128)-1;
    memcpy(&s, &v, 16);
    return s;
}

/* To binary32: nearest even, and a zero when tiny after rounding with an unbounded exponent. */
static inline u32 model_round(__float128 x)
{
    u128 v = model_bits(x), half = (u128)1 << 88;
    u32 sign = (u32)(v >> 127) << 31;
    int exp;

    if (x != x)
        return 0xffc00000;
    if (x == 0)
        return sign;
    if (x - x != 0)
        return sign | 0x7f800000;
    v += half - 1 +
         (v >> 89 & 1); /* 112 - 23 bits go; a carry moves into the exponent as it should */
    exp = (int)(v >> 112 & 0x7fff) - 16383;
    if (exp < -126)
        return sign;
    if (exp > 127)
        return sign | 0x7f800000;
    return sign | (u32)(exp + 127) << 23 | (u32)(v >> 89 & 0x7fffff);
}

/* x + y in binary32. */
static inline u32 model_add(__float128 x, __float128 y)
{
    return model_round(model_add_to_odd(x, y));
}

/* To a format of (frac) fraction bits whose least exponent is (min), for values that do not overflow: nearest even. */
static inline __float128 model_nearest(__float128 x, int frac, int min)
{
    __float128 quantum, mag = x < 0 ? -x : x, n, down;
    int exp = (int)(model_bits(x) >> 112 & 0x7fff) - 16383;

    if (x == 0)
        return x;
    quantum = model_power((exp < min ? min : exp) - frac);
    n = mag / quantum;
    down = (__float128)(u64)n;
    if (n - down > 0.5 || (n - down == 0.5 && (u64)n & 1))
        down += 1;
    return x < 0 ? -(down * quantum) : down * quantum;
}
