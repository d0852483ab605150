// SPDX-License-Identifier: MIT
// The AMX kernels that follow the SDM's pseudocode, element by element: what all others must equal.

#include "cpu/amx/kernel.h"
#include "cpu/amx/softfloat.h"

#include <string.h>

static u32 get32(const u8 *p)
{
    u32 v;

    memcpy(&v, p, 4);
    return v;
}

static u16 get16(const u8 *p)
{
    u16 v;

    memcpy(&v, p, 2);
    return v;
}

static void put32(u8 *p, u32 v)
{
    memcpy(p, &v, 4);
}

/* Zero columns from (n) on, and rows from (m) on. */
static void zero_rest(amx_tile_t c, unsigned m, unsigned n)
{
    for (unsigned i = 0; i < m; i++)
        memset(c[i] + n * 4, 0, 64 - n * 4);
    memset(c[m], 0, (16 - m) * 64);
}

static s32 extend(u8 v, bool sign)
{
    return sign ? (s8)v : v;
}

static void dp_int8(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                    unsigned k, bool a_sign, bool b_sign)
{
    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < n; j++) {
            u32 sum = get32(c[i] + j * 4);

            for (unsigned x = 0; x < k; x++) {
                for (unsigned byte = 0; byte < 4; byte++)
                    sum += (u32)(extend(a[i][x * 4 + byte], a_sign) *
                                 extend(b[x][j * 4 + byte], b_sign));
            }
            put32(c[i] + j * 4, sum);
        }
    }
    zero_rest(c, m, n);
}

#define INT8_KERNEL(name, a_sign, b_sign)                                                          \
    static void name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, \
                     unsigned k)                                                                   \
    {                                                                                              \
        dp_int8(c, a, b, m, n, k, a_sign, b_sign);                                                 \
    }

INT8_KERNEL(dpbssd, true, true)
INT8_KERNEL(dpbsud, true, false)
INT8_KERNEL(dpbusd, false, true)
INT8_KERNEL(dpbuud, false, false)

/* The two FP32 operands of a product, from one dword of (a) and one of (b), for each of two chains. */
struct pair {
    u32 a0, b0, a1, b1;
};
typedef struct pair pair_fn(const u8 *a, const u8 *b);

/*
 * Two sums over k, each from +0, which meet only at the end. FMA with DAZ, FTZ, to nearest even.
 * SDM 2 TDPBF16PS, TDPFP16PS, TCMMIMFP16PS.
 */
static void two_chains(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                       unsigned k, pair_fn *pair)
{
    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < n; j++) {
            u32 sum0 = 0, sum1 = 0;

            for (unsigned x = 0; x < k; x++) {
                struct pair p = pair(a[i] + x * 4, b[x] + j * 4);

                sum0 = amx_f32_fma(p.a0, p.b0, sum0);
                sum1 = amx_f32_fma(p.a1, p.b1, sum1);
            }
            put32(c[i] + j * 4, amx_f32_add(get32(c[i] + j * 4), amx_f32_add(sum0, sum1)));
        }
    }
    zero_rest(c, m, n);
}

static u32 half(const u8 *p)
{
    return amx_f16_to_f32(get16(p));
}

static struct pair pair_bf16(const u8 *a, const u8 *b)
{
    return (struct pair){(u32)get16(a) << 16, (u32)get16(b) << 16, (u32)get16(a + 2) << 16,
                         (u32)get16(b + 2) << 16};
}

static struct pair pair_fp16(const u8 *a, const u8 *b)
{
    return (struct pair){half(a), half(b), half(a + 2), half(b + 2)};
}

/* A complex number has its real part in the low half. (ar + ai i)(br + bi i): imaginary, then real part. */
static struct pair pair_imaginary(const u8 *a, const u8 *b)
{
    return (struct pair){half(a + 2), half(b), half(a), half(b + 2)};
}

static struct pair pair_real(const u8 *a, const u8 *b)
{
    return (struct pair){half(a), half(b), half(a + 2) ^ (u32)BIT(31), half(b + 2)};
}

#define CHAIN_KERNEL(name, pair)                                                                   \
    static void name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, \
                     unsigned k)                                                                   \
    {                                                                                              \
        two_chains(c, a, b, m, n, k, pair);                                                        \
    }

CHAIN_KERNEL(dpbf16ps, pair_bf16)
CHAIN_KERNEL(dpfp16ps, pair_fp16)
CHAIN_KERNEL(cmmimfp16ps, pair_imaginary)
CHAIN_KERNEL(cmmrlfp16ps, pair_real)

/* TF32: the upper 19 bits of binary32. Zeroing the rest would make an infinity of some signaling NaNs: quiet first. */
static u32 tf32(u32 v)
{
    if ((v & 0x7fffffff) > 0x7f800000)
        v |= BIT(22);
    return v & ~0x1fffu;
}

/* One sum from +0; denormal operands count. */
static void mmultf32ps(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                       unsigned k)
{
    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < n; j++) {
            u32 sum = 0;

            for (unsigned x = 0; x < k; x++)
                sum =
                    amx_f32_fma_denormal(tf32(get32(a[i] + x * 4)), tf32(get32(b[x] + j * 4)), sum);
            put32(c[i] + j * 4, amx_f32_add_denormal(get32(c[i] + j * 4), sum));
        }
    }
    zero_rest(c, m, n);
}

/*
 * FP8 sums are exact: operands are integers, BF8 (E5M2) in units of 2^-16, HF8 (E4M3) of 2^-9, and are rounded
 * once, on the way to the accumulator. Infinities, which BF8 has, and NaNs go beside them.
 */
#define QNAN_INDEFINITE 0xffc00000u
#define INFINITY        0x7f800000u
#define BF8_UNIT        (-16)
#define HF8_UNIT        (-9)

static bool fp8_nan(u8 v, bool bf8)
{
    return bf8 ? (v & 0x7f) > 0x7c : (v & 0x7f) == 0x7f;
}

static bool fp8_inf(u8 v, bool bf8)
{
    return bf8 && (v & 0x7f) == 0x7c;
}

static s64 fp8_integer(u8 v, bool bf8)
{
    unsigned bits = bf8 ? 2 : 3, exp = (v & 0x7f) >> bits;
    s64 mag = v & ((1 << bits) - 1);

    if (exp)
        mag = (mag | 1 << bits) << (exp - 1);
    return v & 0x80 ? -mag : mag;
}

struct fp8_sum {
    s128 sum;
    bool nan, plus, minus; /* a NaN or an invalid product, infinities */
};

static void fp8_add(struct fp8_sum *s, u8 a, bool a_bf8, u8 b, bool b_bf8)
{
    if (fp8_nan(a, a_bf8) || fp8_nan(b, b_bf8)) {
        s->nan = true;
    } else if (fp8_inf(a, a_bf8) || fp8_inf(b, b_bf8)) {
        s->nan |= !(a & 0x7f) || !(b & 0x7f); /* infinity times zero */
        s->plus |= !((a ^ b) & 0x80);
        s->minus |= (a ^ b) >> 7 & 1;
    } else {
        s->sum += (s128)fp8_integer(a, a_bf8) * fp8_integer(b, b_bf8);
    }
}

/* What becomes of accumulator (c). */
static u32 fp8_finish(const struct fp8_sum *s, u32 c, int unit)
{
    if (s->nan || (s->plus && s->minus) || (c & 0x7fffffff) > INFINITY)
        return QNAN_INDEFINITE;
    if (s->plus || s->minus)
        return amx_f32_add_denormal(c, s->plus ? INFINITY : INFINITY | (u32)BIT(31));
    return amx_f32_add_denormal(c, amx_f32_from_fixed(s->sum, unit));
}

static void dp_fp8(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                   unsigned k, bool a_bf8, bool b_bf8)
{
    int unit = (a_bf8 ? BF8_UNIT : HF8_UNIT) + (b_bf8 ? BF8_UNIT : HF8_UNIT);

    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < n; j++) {
            struct fp8_sum s = {0};

            for (unsigned x = 0; x < k * 4; x++)
                fp8_add(&s, a[i][x], a_bf8, b[x / 4][j * 4 + x % 4], b_bf8);
            put32(c[i] + j * 4, fp8_finish(&s, get32(c[i] + j * 4), unit));
        }
    }
    zero_rest(c, m, n);
}

#define FP8_KERNEL(name, a_bf8, b_bf8)                                                             \
    static void name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, \
                     unsigned k)                                                                   \
    {                                                                                              \
        dp_fp8(c, a, b, m, n, k, a_bf8, b_bf8);                                                    \
    }

FP8_KERNEL(dpbf8ps, true, true)
FP8_KERNEL(dpbhf8ps, true, false)
FP8_KERNEL(dphbf8ps, false, true)
FP8_KERNEL(dphf8ps, false, false)

static void rows(u8 *dst, u64 dst_stride, const u8 *src, u64 src_stride, unsigned count)
{
    for (; count; count--, dst += dst_stride, src += src_stride)
        memmove(dst, src, 64);
}

const struct amx_kernels amx_kernels_scalar = {
    .name = "scalar",
    .rows = rows,
    .dp = {[AMX_DPBSSD] = dpbssd,
           [AMX_DPBSUD] = dpbsud,
           [AMX_DPBUSD] = dpbusd,
           [AMX_DPBUUD] = dpbuud,
           [AMX_DPBF16PS] = dpbf16ps,
           [AMX_DPFP16PS] = dpfp16ps,
           [AMX_CMMIMFP16PS] = cmmimfp16ps,
           [AMX_CMMRLFP16PS] = cmmrlfp16ps,
           [AMX_DPBF8PS] = dpbf8ps,
           [AMX_DPBHF8PS] = dpbhf8ps,
           [AMX_DPHBF8PS] = dphbf8ps,
           [AMX_DPHF8PS] = dphf8ps,
           [AMX_MMULTF32PS] = mmultf32ps},
};
