// SPDX-License-Identifier: MIT
// Single-precision arithmetic as TMUL does it, in integers, which no compiler can bend.

#include "cpu/amx/softfloat.h"

#define SIGN          BIT(31)
#define EXP_MAX       0xff
#define QUIET         BIT(22)
#define DEFAULT_NAN   0xffc00000u
#define INFINITY_BITS 0x7f800000u
#define BIAS          127
#define EXP_MIN       (1 - BIAS)

/* (-1)^sign * mant * 2^exp; mant == 0: a zero. */
struct exact {
    bool sign;
    int exp;
    u64 mant;
};

static unsigned exponent(u32 v)
{
    return v >> 23 & EXP_MAX;
}
static bool is_nan(u32 v)
{
    return (v & 0x7fffffff) > INFINITY_BITS;
}
static bool is_inf(u32 v)
{
    return (v & 0x7fffffff) == INFINITY_BITS;
}

/* A finite operand; (daz) makes a denormal zero. */
static struct exact unpack(u32 v, bool daz)
{
    struct exact e = {.sign = v >> 31};

    if (exponent(v)) {
        e.mant = (v & 0x7fffff) | 0x800000;
        e.exp = (int)exponent(v) - BIAS - 23;
    } else if (!daz) {
        e.mant = v & 0x7fffff;
        e.exp = EXP_MIN - 23;
    }
    return e;
}

/* Move the top bit of a non-zero mantissa up to bit (top). */
static void normalize(struct exact *e, int top)
{
    int shift = __builtin_clzll(e->mant) - 63 + top;

    e->mant <<= shift;
    e->exp -= shift;
}

/* Round a non-zero value below 2^63 * 2^exp; bit 0 may stand for anything non-zero below it. */
static u32 round_pack(bool sign, int exp, u64 mant)
{
    struct exact e = {sign, exp, mant};
    u32 frac;
    u64 rest;

    normalize(&e, 62);
    frac = (u32)(e.mant >> 39); /* 24 bits */
    rest = e.mant & (BIT(39) - 1);
    e.exp += 39;
    if (rest > BIT(38) || (rest == BIT(38) && frac & 1))
        frac++;
    if (frac == BIT(24)) {
        frac >>= 1;
        e.exp++;
    }
    e.exp += 23; /* now of the leading bit */
    if (e.exp < EXP_MIN)
        return (u32)sign << 31;
    if (e.exp > BIAS)
        return (u32)sign << 31 | INFINITY_BITS;
    return (u32)sign << 31 | (u32)(e.exp + BIAS) << 23 | (frac & 0x7fffff);
}

/* x + y, rounded once. Mantissas are at most 48 bits. */
static u32 add_exact(struct exact x, struct exact y)
{
    struct exact t;
    unsigned shift;
    u64 lost;

    if (!x.mant && !y.mant)
        return (u32)(x.sign && y.sign) << 31;
    if (!x.mant)
        return round_pack(y.sign, y.exp, y.mant);
    if (!y.mant)
        return round_pack(x.sign, x.exp, x.mant);
    normalize(&x, 61); /* leaves room for a carry */
    normalize(&y, 61);
    if (y.exp > x.exp || (y.exp == x.exp && y.mant > x.mant)) {
        t = x;
        x = y;
        y = t;
    }
    /*
     * At least 14 low bits are clear, so shifts up to 14 lose nothing. Longer ones leave a
     * sticky bit, and then a subtraction cancels one leading bit at most: the sticky bit stays
     * far below the rounding position.
     */
    shift = (unsigned)(x.exp - y.exp);
    if (shift > 63) {
        y.mant = 1;
    } else if (shift) {
        lost = y.mant & (BIT(shift) - 1);
        y.mant = y.mant >> shift | (lost != 0);
    }
    if (x.sign == y.sign)
        return round_pack(x.sign, x.exp, x.mant + y.mant);
    if (x.mant == y.mant)
        return 0; /* exact cancellation: +0 when rounding to nearest */
    return round_pack(x.sign, x.exp, x.mant - y.mant);
}

static u32 multiply_add(u32 a, u32 b, u32 c, bool daz)
{
    bool sign = (a ^ b) >> 31;
    struct exact x, y;

    if (is_nan(a) || is_nan(b) || is_nan(c))
        return (is_nan(a) ? a : is_nan(b) ? b : c) | QUIET;
    x = unpack(a, daz);
    y = unpack(b, daz);
    if (is_inf(a) || is_inf(b)) {
        /* The mantissa tells a zero from the rest, the other operand's exponent an infinity. */
        if ((!is_inf(a) && !x.mant) || (!is_inf(b) && !y.mant))
            return DEFAULT_NAN;
        if (is_inf(c) && c >> 31 != sign)
            return DEFAULT_NAN;
        return (u32)sign << 31 | INFINITY_BITS;
    }
    if (is_inf(c))
        return c;
    return add_exact((struct exact){sign, x.exp + y.exp, x.mant * y.mant}, unpack(c, daz));
}

static u32 sum(u32 a, u32 b, bool daz)
{
    if (is_nan(a) || is_nan(b))
        return (is_nan(a) ? a : b) | QUIET;
    if (is_inf(a))
        return is_inf(b) && a != b ? DEFAULT_NAN : a;
    if (is_inf(b))
        return b;
    return add_exact(unpack(a, daz), unpack(b, daz));
}

u32 amx_f32_fma(u32 a, u32 b, u32 c)
{
    return multiply_add(a, b, c, true);
}

u32 amx_f32_add(u32 a, u32 b)
{
    return sum(a, b, true);
}

u32 amx_f32_fma_denormal(u32 a, u32 b, u32 c)
{
    return multiply_add(a, b, c, false);
}

u32 amx_f32_add_denormal(u32 a, u32 b)
{
    return sum(a, b, false);
}

u32 amx_f16_to_f32(u16 v)
{
    u32 sign = (u32)(v >> 15) << 31, exp = v >> 10 & 31, frac = v & 0x3ff;

    if (exp == 31)
        return sign | INFINITY_BITS | frac << 13 | (frac ? QUIET : 0);
    if (exp)
        return sign | (exp + BIAS - 15) << 23 | frac << 13;
    return frac ? round_pack(sign != 0, -24, frac) : sign;
}

u32 amx_f32_from_fixed(s128 v, int exp)
{
    u128 mag = v < 0 ? -(u128)v : (u128)v;

    /* Bits that fall off below the 63 that are kept are far below the 24 that matter: they may stick. */
    for (; mag >> 62; exp++)
        mag = mag >> 1 | (mag & 1);
    return mag ? round_pack(v < 0, exp, (u64)mag) : 0;
}

u32 amx_f32_from_s32(s32 v)
{
    return amx_f32_from_fixed(v, 0);
}

u16 amx_f32_to_bf16(u32 v)
{
    if (is_nan(v))
        return (u16)((v | QUIET) >> 16);
    if (!exponent(v))
        return (u16)(v >> 31 << 15);
    return (u16)((v + 0x7fff + (v >> 16 & 1)) >>
                 16); /* a carry goes into the exponent, up to infinity */
}

u16 amx_f32_to_f16(u32 v)
{
    u16 sign = (u16)(v >> 31 << 15);
    int exp = (int)exponent(v) - BIAS + 15, drop;
    u32 frac = (v & 0x7fffff) | 0x800000, half, rounded;

    if (is_nan(v))
        return sign | 0x7e00 | (u16)(v >> 13 & 0x3ff);
    if (!exponent(v) || exp < -11) /* a denormal, or less than half of the least binary16 */
        return sign;
    if (exp > 30)
        return sign | 0x7c00;
    /* A denormal result loses more bits, and has exponent field 0 where a normal's leading bit makes it 1. */
    drop = exp > 0 ? 13 : 14 - exp;
    half = (u32)BIT(drop - 1);
    rounded = (frac + half - 1 + (frac >> drop & 1)) >> drop;
    return sign | (u16)(rounded + (exp > 0 ? (u32)(exp - 1) << 10 : 0));
}
