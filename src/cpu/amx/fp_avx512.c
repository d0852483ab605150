// SPDX-License-Identifier: MIT
// AMX kernels on AVX-512 (F, BW) for the floating-point forms after BF16: FP16, complex, TF32, FP8.

#include "cpu/amx/fp.h"
#include "cpu/amx/mxcsr.h"

#include <immintrin.h>

/*
 * Theory of operation.
 *
 * FP16 and complex are two chains of FMAs. Both sources are widened to FP32 first, the operands of the two chains
 * side by side: a pair of (a) is broadcast from memory against eight pairs of a row of (b), and even and odd
 * lanes are the two chains. TF32 is one chain; there an element of (a) meets a whole row of (b).
 *
 * FP8 sums must be exact until they are rounded once. They are made in doubles: HF8 products, at most
 * 2^17.7 by unit 2^-18, fill 42 bits with a sum of 64. BF8 spans too much, so its values are split in those below
 * 2 and the rest, 17 bits each; a sum of products of like parts fills 41 bits. At most three exact sums meet in
 * the end, and are rounded to odd on the way to binary32, which makes the two roundings one. Sources
 * with infinities or NaNs are left to the scalar kernels.
 *
 * Rows that do not exist are computed from whatever (a) holds and not stored.
 */

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define INLINE static inline __attribute__((always_inline))
#define BLOCK  8

/* What chains 0 and 1 take from a dword. */
enum source {
    HALVES /* even, odd */,
    SWAPPED /* odd, even */,
    CONJUGATE /* even, -odd */
};

INLINE __mmask16 columns(unsigned n)
{
    return (__mmask16)(0xffffu >> (16 - n));
}

TARGET INLINE __m512 tf32(__m512i v)
{
    __m512 f = _mm512_castsi512_ps(v);
    __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);

    v = _mm512_mask_or_epi32(v, nan, v, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffffe000)));
}

/* The pairs of eight dwords. */
TARGET INLINE __m512 pairs_of(const u8 *dwords, enum source source)
{
    __m256i v = _mm256_load_si256((const __m256i *)dwords);

    if (source == SWAPPED)
        v = _mm256_or_si256(_mm256_slli_epi32(v, 16), _mm256_srli_epi32(v, 16));
    if (source == CONJUGATE)
        v = _mm256_xor_si256(v, _mm256_set1_epi32((int)0x80000000));
    return _mm512_cvtph_ps(v);
}

TARGET INLINE void zero_rows(amx_tile_t c, unsigned from)
{
    for (unsigned i = from; i < 16; i++)
        _mm512_store_si512(c[i], _mm512_setzero_si512());
}

/* Even lanes of both plus their odd lanes, in the order of columns. */
TARGET INLINE __m512 pairs_add(__m512 low, __m512 high)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);

    return _mm512_add_ps(
        _mm512_permutex2var_ps(low, even, high),
        _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high));
}

/* Rows [row, row + BLOCK), whose pairs of (a) are (wide). */
TARGET INLINE void pairs_block(amx_tile_t c, const float (*wide)[32], const amx_tile_t b,
                               unsigned row, unsigned m, unsigned n, unsigned k, enum source source)
{
    __m512 low[BLOCK], high[BLOCK]; /* columns 0 to 7, the others */
    __mmask16 mask = columns(n);

#pragma GCC unroll 8
    for (unsigned i = 0; i < BLOCK; i++)
        low[i] = high[i] = _mm512_setzero_ps();
    for (unsigned x = 0; x < k; x++) {
        __m512 b0 = pairs_of(b[x], source), b1 = pairs_of(b[x] + 32, source);

#pragma GCC unroll 8
        for (unsigned i = 0; i < BLOCK; i++) {
            __m512 pair = _mm512_castpd_ps(_mm512_set1_pd(((const double *)wide[row + i])[x]));

            low[i] = _mm512_fmadd_ps(pair, b0, low[i]);
            high[i] = _mm512_fmadd_ps(pair, b1, high[i]);
        }
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < BLOCK; i++) {
        __mmask16 live = row + i < m ? mask : 0;

        _mm512_store_ps(c[row + i], _mm512_maskz_add_ps(live, _mm512_load_ps(c[row + i]),
                                                        pairs_add(low[i], high[i])));
    }
}

TARGET INLINE void pairs_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                              unsigned n, unsigned k, enum source source_a, enum source source_b)
{
    _Alignas(64) float wide[16][32];

    /* All of them first: those of the second block are done while the first is multiplied. */
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++) {
        _mm512_store_ps(wide[i], pairs_of(a[i], source_a));
        _mm512_store_ps(wide[i] + 16, pairs_of(a[i] + 32, source_a));
    }
    pairs_block(c, wide, b, 0, m, n, k, source_b);
    if (m > BLOCK)
        pairs_block(c, wide, b, BLOCK, m, n, k, source_b);
    else
        zero_rows(c, BLOCK);
}

TARGET static __attribute__((noinline)) void mmultf32ps_tile(amx_tile_t c, const amx_tile_t a,
                                                             const amx_tile_t b, unsigned m,
                                                             unsigned n, unsigned k)
{
    _Alignas(64) float wa[16][16], wb[16][16];
    __m512 sum[16];
    __mmask16 mask = columns(n);

    for (unsigned i = 0; i < 16; i++) {
        _mm512_store_ps(wa[i], tf32(_mm512_load_si512(a[i])));
        _mm512_store_ps(wb[i], tf32(_mm512_load_si512(b[i])));
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++)
        sum[i] = _mm512_setzero_ps();
    for (unsigned x = 0; x < k; x++) {
        __m512 row = _mm512_load_ps(wb[x]);

#pragma GCC unroll 16
        for (unsigned i = 0; i < 16; i++)
            sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(wa[i][x]), row, sum[i]);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++)
        _mm512_store_ps(c[i], _mm512_maskz_add_ps(i < m ? mask : 0, _mm512_load_ps(c[i]), sum[i]));
}

/* What is called: (name)_tile with MXCSR as (mode) says. */
#define WITH_MXCSR(name, mode)                                                                     \
    void amx_avx512_##name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,       \
                           unsigned n, unsigned k)                                                 \
    {                                                                                              \
        u32 mxcsr = mxcsr_swap(mode);                                                              \
                                                                                                   \
        name##_tile(c, a, b, m, n, k);                                                             \
        mxcsr_leave(mxcsr);                                                                        \
    }

#define PAIRS_KERNEL(name, source_a, source_b)                                                     \
    TARGET static __attribute__((noinline)) void name##_tile(                                      \
        amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k)  \
    {                                                                                              \
        pairs_tile(c, a, b, m, n, k, source_a, source_b);                                          \
    }                                                                                              \
    WITH_MXCSR(name, MXCSR_TMUL)

PAIRS_KERNEL(dpfp16ps, HALVES, HALVES)
PAIRS_KERNEL(cmmimfp16ps, SWAPPED, HALVES)
PAIRS_KERNEL(cmmrlfp16ps, CONJUGATE, HALVES)
WITH_MXCSR(mmultf32ps, MXCSR_TMUL_DENORMAL)

/* --- FP8 --- */

/*
 * A source in doubles, by part (values below 2, the rest; HF8 has one part) and byte of the dword.
 * (a) is by row, then byte and dword, (b) by byte and dword, then column.
 */
struct fp8_a {
    _Alignas(64) double v[2][16][64];
};
struct fp8_b {
    _Alignas(64) double v[2][64][16];
};

/* The lower half of 16 dwords, a binary16, in FP32. */
TARGET INLINE __m512 half(__m512i v)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

/* Byte (byte) of 16 dwords in FP32. */
TARGET INLINE __m512 fp8_to_f32(__m512i v, unsigned byte, bool bf8)
{
    __m512i one = _mm512_and_si512(_mm512_srli_epi32(v, byte * 8), _mm512_set1_epi32(0xff));
    __m512i sign;

    if (bf8) /* the upper half of a binary16 */
        return half(_mm512_slli_epi32(one, 8));
    /* As a binary16 with the same fields it is 2^8 too small, denormals too. */
    sign = _mm512_and_si512(_mm512_slli_epi32(one, 8), _mm512_set1_epi32(0x8000));
    one = _mm512_and_si512(_mm512_slli_epi32(one, 7), _mm512_set1_epi32(0x3f80));
    return _mm512_mul_ps(half(_mm512_or_si512(one, sign)), _mm512_set1_ps(256));
}

TARGET INLINE void store_doubles(double *to, __m512 v)
{
    __m512d high = _mm512_castsi512_pd(
        _mm512_shuffle_i64x2(_mm512_castps_si512(v), _mm512_castps_si512(v), 0xee));

    _mm512_store_pd(to, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    _mm512_store_pd(to + 8, _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_castpd_ps(high))));
}

TARGET INLINE void fp8_split(double *low, double *high, __m512 v, bool bf8)
{
    __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(2), _CMP_LT_OQ);

    if (!bf8) {
        store_doubles(low, v);
        return;
    }
    store_doubles(low, _mm512_maskz_mov_ps(small, v));
    store_doubles(high, _mm512_maskz_mov_ps((__mmask16)~small, v));
}

TARGET INLINE void fp8_widen_a(struct fp8_a *out, const amx_tile_t a, unsigned rows, bool bf8)
{
    for (unsigned i = 0; i < rows; i++) {
        __m512i v = _mm512_load_si512(a[i]);

#pragma GCC unroll 4
        for (unsigned byte = 0; byte < 4; byte++)
            fp8_split(&out->v[0][i][byte * 16], &out->v[1][i][byte * 16], fp8_to_f32(v, byte, bf8),
                      bf8);
    }
}

TARGET INLINE void fp8_widen_b(struct fp8_b *out, const amx_tile_t b, unsigned k, bool bf8)
{
    for (unsigned x = 0; x < k; x++) {
        __m512i v = _mm512_load_si512(b[x]);

#pragma GCC unroll 4
        for (unsigned byte = 0; byte < 4; byte++)
            fp8_split(out->v[0][byte * 16 + x], out->v[1][byte * 16 + x], fp8_to_f32(v, byte, bf8),
                      bf8);
    }
}

/* Does a row of the first (rows) have an infinity or NaN in its first (dwords)? */
TARGET INLINE bool fp8_special(const amx_tile_t t, unsigned rows, unsigned dwords, bool bf8)
{
    __m512i least = _mm512_set1_epi8(bf8 ? 0x7c : 0x7f), low7 = _mm512_set1_epi8(0x7f);
    __mmask64 live = ~0ull >> (64 - dwords * 4), found = 0;

    for (unsigned i = 0; i < rows; i++)
        found |= _mm512_mask_cmpge_epu8_mask(live, _mm512_and_si512(_mm512_load_si512(t[i]), low7),
                                             least);
    return found;
}

/* x + y, and what was lost. */
TARGET INLINE __m512d two_sum(__m512d x, __m512d y, __m512d *err)
{
    __m512d s = _mm512_add_pd(x, y), part = _mm512_sub_pd(s, x);

    *err = _mm512_add_pd(_mm512_sub_pd(x, _mm512_sub_pd(s, part)), _mm512_sub_pd(y, part));
    return s;
}

/* (s) + (err) to odd, (s) being the nearest double to that. */
TARGET INLINE __m512d to_odd(__m512d s, __m512d err)
{
    __m512i v = _mm512_castpd_si512(s), zero = _mm512_setzero_si512();
    __mmask8 off = _mm512_cmp_pd_mask(err, _mm512_setzero_pd(), _CMP_NEQ_UQ);
    __mmask8 even = _mm512_testn_epi64_mask(v, _mm512_set1_epi64(1));
    __mmask8 inward = _mm512_cmplt_epi64_mask(_mm512_xor_si512(v, _mm512_castpd_si512(err)), zero);
    __m512i step = _mm512_mask_mov_epi64(_mm512_set1_epi64(1), inward, _mm512_set1_epi64(-1));

    return _mm512_castsi512_pd(_mm512_mask_add_epi64(v, off & even, v, step));
}

/* The sums of the parts, rounded once. */
TARGET INLINE __m256 fp8_round(const __m512d sum[3], unsigned sums)
{
    __m512d s = sum[0], err, lost;

    if (sums == 2) {
        s = two_sum(sum[1], sum[0], &err);
        s = to_odd(s, err);
    } else if (sums == 3) {
        s = two_sum(sum[1], sum[0], &lost);
        s = two_sum(sum[2], s, &err);
        s = two_sum(s, _mm512_add_pd(err, lost), &err); /* that addition is exact: 18 bits */
        s = to_odd(s, err);
    }
    return _mm512_cvtpd_ps(s);
}

#define FP8_ROWS 4

/* Columns [half * 8, half * 8 + 8) of rows [row, row + FP8_ROWS). */
TARGET INLINE void fp8_block(float out[16][16], const struct fp8_a *a, const struct fp8_b *b,
                             unsigned row, unsigned k, unsigned part8, unsigned parts_a,
                             unsigned parts_b)
{
    __m512d sum[FP8_ROWS][3];
    unsigned sums = parts_a + parts_b - 1;

#pragma GCC unroll 4
    for (unsigned i = 0; i < FP8_ROWS; i++)
        sum[i][0] = sum[i][1] = sum[i][2] = _mm512_setzero_pd();
    for (unsigned byte = 0; byte < 64; byte += 16) {
        for (unsigned x = byte; x < byte + k; x++) {
            __m512d vb[2];

            vb[0] = _mm512_load_pd(&b->v[0][x][part8 * 8]);
            vb[1] = parts_b == 2 ? _mm512_load_pd(&b->v[1][x][part8 * 8]) : vb[0];
#pragma GCC unroll 4
            for (unsigned i = 0; i < FP8_ROWS; i++) {
#pragma GCC unroll 2
                for (unsigned pa = 0; pa < parts_a; pa++) {
                    __m512d va = _mm512_set1_pd(a->v[pa][row + i][x]);

                    sum[i][pa] = _mm512_fmadd_pd(va, vb[0], sum[i][pa]);
                    if (parts_b == 2)
                        sum[i][pa + 1] = _mm512_fmadd_pd(va, vb[1], sum[i][pa + 1]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < FP8_ROWS; i++)
        _mm256_store_ps(&out[row + i][part8 * 8], fp8_round(sum[i], sums));
}

TARGET INLINE void fp8_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                            unsigned n, unsigned k, bool a_bf8, bool b_bf8)
{
    _Alignas(64) float product[16][16];
    struct fp8_a wa;
    struct fp8_b wb;

    fp8_widen_a(&wa, a, ALIGN_UP(m, FP8_ROWS), a_bf8);
    fp8_widen_b(&wb, b, k, b_bf8);
    for (unsigned row = 0; row < m; row += FP8_ROWS) {
        for (unsigned part8 = 0; part8 < 2; part8++)
            fp8_block(product, &wa, &wb, row, k, part8, a_bf8 ? 2 : 1, b_bf8 ? 2 : 1);
    }
    for (unsigned i = 0; i < m; i++) {
        __m512 old = _mm512_load_ps(c[i]);
        __m512 sum = _mm512_maskz_add_ps(columns(n), old, _mm512_load_ps(product[i]));
        __mmask16 nan = _mm512_mask_cmp_ps_mask(columns(n), old, old, _CMP_UNORD_Q);

        sum = _mm512_mask_mov_ps(sum, nan, _mm512_castsi512_ps(_mm512_set1_epi32((int)0xffc00000)));
        _mm512_store_ps(c[i], sum);
    }
    zero_rows(c, m);
}

#define FP8_KERNEL(name, op, a_bf8, b_bf8)                                                         \
    TARGET static __attribute__((noinline)) void name##_tile(                                      \
        amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k)  \
    {                                                                                              \
        fp8_tile(c, a, b, m, n, k, a_bf8, b_bf8);                                                  \
    }                                                                                              \
    TARGET void amx_avx512_##name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b,            \
                                  unsigned m, unsigned n, unsigned k)                              \
    {                                                                                              \
        u32 mxcsr;                                                                                 \
                                                                                                   \
        if (fp8_special(a, m, k, a_bf8) || fp8_special(b, k, n, b_bf8)) {                          \
            amx_kernels_scalar.dp[op](c, a, b, m, n, k);                                           \
            return;                                                                                \
        }                                                                                          \
        mxcsr = mxcsr_swap(MXCSR_TMUL_DENORMAL);                                                   \
        name##_tile(c, a, b, m, n, k);                                                             \
        mxcsr_leave(mxcsr);                                                                        \
    }

FP8_KERNEL(dpbf8ps, AMX_DPBF8PS, true, true)
FP8_KERNEL(dpbhf8ps, AMX_DPBHF8PS, true, false)
FP8_KERNEL(dphbf8ps, AMX_DPHBF8PS, false, true)
FP8_KERNEL(dphf8ps, AMX_DPHF8PS, false, false)
