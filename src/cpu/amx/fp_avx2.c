// SPDX-License-Identifier: MIT
// AMX kernels on AVX2, FMA and F16C for the floating-point forms after BF16: FP16, complex, TF32, FP8.

#include "cpu/amx/fp.h"
#include "cpu/amx/mxcsr.h"

#include <immintrin.h>

/*
 * Theory of operation: that of fp_avx512.c, in registers of half the size. A row of binary32 is two
 * registers, a row of doubles four.
 */

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline))
#define BLOCK  4

struct chains {
    _Alignas(64) float v[2][16][16];
};

enum source {
    HALVES /* even, odd */,
    SWAPPED /* odd, even */,
    CONJUGATE /* even, -odd */,
    TF32 /* all, none */
};

/* All ones in the columns below (n). */
TARGET INLINE __m256i columns(unsigned n, unsigned part)
{
    __m256i index = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                     _mm256_set1_epi32((int)part * 8));

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), index);
}

TARGET INLINE __m256i load8(const void *row, unsigned part)
{
    return _mm256_load_si256((const __m256i *)row + part);
}

/* The lower or upper halves of eight dwords, binary16, in binary32. */
TARGET INLINE __m256 half(__m256i v, bool odd)
{
    v = odd ? _mm256_srli_epi32(v, 16) : _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(v));
}

TARGET INLINE __m256 tf32(__m256i v)
{
    __m256 f = _mm256_castsi256_ps(v);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q));

    v = _mm256_or_si256(v, _mm256_and_si256(nan, _mm256_set1_epi32(0x400000)));
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffffe000)));
}

TARGET INLINE void widen(struct chains *out, const amx_tile_t in, unsigned rows, enum source source)
{
    for (unsigned i = 0; i < rows; i++) {
        for (unsigned part = 0; part < 2; part++) {
            __m256i v = load8(in[i], part);

            if (source == TF32) {
                _mm256_store_ps(&out->v[0][i][part * 8], tf32(v));
                continue;
            }
            if (source == CONJUGATE)
                v = _mm256_xor_si256(v, _mm256_set1_epi32((int)0x80000000));
            _mm256_store_ps(&out->v[0][i][part * 8], half(v, source == SWAPPED));
            _mm256_store_ps(&out->v[1][i][part * 8], half(v, source != SWAPPED));
        }
    }
}

TARGET INLINE void zero_rows(amx_tile_t c, unsigned from)
{
    for (unsigned i = from; i < 16; i++) {
        _mm256_store_si256((__m256i *)c[i], _mm256_setzero_si256());
        _mm256_store_si256((__m256i *)c[i] + 1, _mm256_setzero_si256());
    }
}

/* One half of rows [row, row + BLOCK). */
TARGET INLINE void chain_block(amx_tile_t c, const struct chains *a, const struct chains *b,
                               unsigned row, unsigned m, unsigned n, unsigned k, unsigned part,
                               bool two)
{
    __m256 sum[2][BLOCK];
    __m256 mask = _mm256_castsi256_ps(columns(n, part));

#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i++)
        sum[0][i] = sum[1][i] = _mm256_setzero_ps();
    for (unsigned x = 0; x < k; x++) {
        __m256 b0 = _mm256_load_ps(&b->v[0][x][part * 8]), b1 = b0;

        if (two)
            b1 = _mm256_load_ps(&b->v[1][x][part * 8]);
#pragma GCC unroll 4
        for (unsigned i = 0; i < BLOCK; i++) {
            sum[0][i] = _mm256_fmadd_ps(_mm256_set1_ps(a->v[0][row + i][x]), b0, sum[0][i]);
            if (two)
                sum[1][i] = _mm256_fmadd_ps(_mm256_set1_ps(a->v[1][row + i][x]), b1, sum[1][i]);
        }
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i++) {
        float *dst = (float *)c[row + i] + part * 8;
        __m256 total = two ? _mm256_add_ps(sum[0][i], sum[1][i]) : sum[0][i];

        total = _mm256_and_ps(_mm256_add_ps(_mm256_load_ps(dst), total), mask);
        _mm256_store_ps(dst, row + i < m ? total : _mm256_setzero_ps());
    }
}

TARGET INLINE void chain_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                              unsigned n, unsigned k, enum source source_a, enum source source_b)
{
    struct chains wa, wb;

    widen(&wa, a, ALIGN_UP(m, BLOCK), source_a);
    widen(&wb, b, k, source_b);
    for (unsigned part = 0; part < 2; part++) {
        for (unsigned row = 0; row < m; row += BLOCK)
            chain_block(c, &wa, &wb, row, m, n, k, part, source_a != TF32);
    }
    zero_rows(c, ALIGN_UP(m, BLOCK));
}

#define CHAIN_KERNEL(name, source_a, source_b, mode)                                               \
    TARGET static __attribute__((noinline)) void name##_tile(                                      \
        amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k)  \
    {                                                                                              \
        chain_tile(c, a, b, m, n, k, source_a, source_b);                                          \
    }                                                                                              \
    void amx_avx2_##name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,         \
                         unsigned n, unsigned k)                                                   \
    {                                                                                              \
        u32 mxcsr = mxcsr_swap(mode);                                                              \
                                                                                                   \
        name##_tile(c, a, b, m, n, k);                                                             \
        mxcsr_leave(mxcsr);                                                                        \
    }

CHAIN_KERNEL(dpfp16ps, HALVES, HALVES, MXCSR_TMUL)
CHAIN_KERNEL(cmmimfp16ps, SWAPPED, HALVES, MXCSR_TMUL)
CHAIN_KERNEL(cmmrlfp16ps, CONJUGATE, HALVES, MXCSR_TMUL)
CHAIN_KERNEL(mmultf32ps, TF32, TF32, MXCSR_TMUL_DENORMAL)

/* --- FP8 --- */

struct fp8_a {
    _Alignas(64) double v[2][16][64];
};
struct fp8_b {
    _Alignas(64) double v[2][64][16];
};

/* Byte (byte) of eight dwords in binary32. */
TARGET INLINE __m256 fp8_to_f32(__m256i v, unsigned byte, bool bf8)
{
    __m256i one = _mm256_and_si256(_mm256_srli_epi32(v, (int)byte * 8), _mm256_set1_epi32(0xff));
    __m256i sign;

    if (bf8) /* the upper half of a binary16 */
        return half(_mm256_slli_epi32(one, 8), false);
    /* As a binary16 with the same fields it is 2^8 too small, denormals too. */
    sign = _mm256_and_si256(_mm256_slli_epi32(one, 8), _mm256_set1_epi32(0x8000));
    one = _mm256_and_si256(_mm256_slli_epi32(one, 7), _mm256_set1_epi32(0x3f80));
    return _mm256_mul_ps(half(_mm256_or_si256(one, sign), false), _mm256_set1_ps(256));
}

TARGET INLINE void store_doubles(double *to, __m256 v)
{
    _mm256_store_pd(to, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    _mm256_store_pd(to + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
}

TARGET INLINE void fp8_split(double *low, double *high, __m256 v, bool bf8)
{
    __m256 mag = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
    __m256 small = _mm256_cmp_ps(mag, _mm256_set1_ps(2), _CMP_LT_OQ);

    if (!bf8) {
        store_doubles(low, v);
        return;
    }
    store_doubles(low, _mm256_and_ps(small, v));
    store_doubles(high, _mm256_andnot_ps(small, v));
}

TARGET INLINE void fp8_widen_a(struct fp8_a *out, const amx_tile_t a, unsigned rows, bool bf8)
{
    for (unsigned i = 0; i < rows; i++) {
        for (unsigned part = 0; part < 2; part++) {
            __m256i v = load8(a[i], part);

            for (unsigned byte = 0; byte < 4; byte++) {
                unsigned at = byte * 16 + part * 8;

                fp8_split(&out->v[0][i][at], &out->v[1][i][at], fp8_to_f32(v, byte, bf8), bf8);
            }
        }
    }
}

TARGET INLINE void fp8_widen_b(struct fp8_b *out, const amx_tile_t b, unsigned k, bool bf8)
{
    for (unsigned x = 0; x < k; x++) {
        for (unsigned part = 0; part < 2; part++) {
            __m256i v = load8(b[x], part);

            for (unsigned byte = 0; byte < 4; byte++) {
                unsigned row = byte * 16 + x;

                fp8_split(&out->v[0][row][part * 8], &out->v[1][row][part * 8],
                          fp8_to_f32(v, byte, bf8), bf8);
            }
        }
    }
}

/* Does a row of the first (rows) have an infinity or NaN in its first (dwords)? */
TARGET INLINE bool fp8_special(const amx_tile_t t, unsigned rows, unsigned dwords, bool bf8)
{
    __m256i most = _mm256_set1_epi8(bf8 ? 0x7b : 0x7e), low7 = _mm256_set1_epi8(0x7f);
    __m256i found = _mm256_setzero_si256();

    for (unsigned part = 0; part < 2; part++) {
        __m256i live = columns(dwords, part);

        for (unsigned i = 0; i < rows; i++) {
            __m256i mag = _mm256_and_si256(load8(t[i], part), low7);

            found = _mm256_or_si256(found, _mm256_and_si256(live, _mm256_cmpgt_epi8(mag, most)));
        }
    }
    return !_mm256_testz_si256(found, found);
}

/* x + y, and what was lost. */
TARGET INLINE __m256d two_sum(__m256d x, __m256d y, __m256d *err)
{
    __m256d s = _mm256_add_pd(x, y), part = _mm256_sub_pd(s, x);

    *err = _mm256_add_pd(_mm256_sub_pd(x, _mm256_sub_pd(s, part)), _mm256_sub_pd(y, part));
    return s;
}

/* (s) + (err) to odd, (s) being the nearest double to that. */
TARGET INLINE __m256d to_odd(__m256d s, __m256d err)
{
    __m256i v = _mm256_castpd_si256(s), zero = _mm256_setzero_si256(), one = _mm256_set1_epi64x(1);
    __m256i off = _mm256_castpd_si256(_mm256_cmp_pd(err, _mm256_setzero_pd(), _CMP_NEQ_UQ));
    __m256i even = _mm256_cmpeq_epi64(_mm256_and_si256(v, one), zero);
    __m256i inward = _mm256_cmpgt_epi64(zero, _mm256_xor_si256(v, _mm256_castpd_si256(err)));
    __m256i step = _mm256_or_si256(inward, one); /* 1 or -1 */

    step = _mm256_and_si256(step, _mm256_and_si256(off, even));
    return _mm256_castsi256_pd(_mm256_add_epi64(v, step));
}

/* The sums of the parts, rounded once. */
TARGET INLINE __m128 fp8_round(const __m256d sum[3], unsigned sums)
{
    __m256d s = sum[0], err, lost;

    if (sums == 2) {
        s = two_sum(sum[1], sum[0], &err);
        s = to_odd(s, err);
    } else if (sums == 3) {
        s = two_sum(sum[1], sum[0], &lost);
        s = two_sum(sum[2], s, &err);
        s = two_sum(s, _mm256_add_pd(err, lost), &err); /* that addition is exact: 18 bits */
        s = to_odd(s, err);
    }
    return _mm256_cvtpd_ps(s);
}

#define FP8_ROWS 4

/* Columns [quarter * 4, quarter * 4 + 4) of rows [row, row + FP8_ROWS). */
TARGET INLINE void fp8_block(float out[16][16], const struct fp8_a *a, const struct fp8_b *b,
                             unsigned row, unsigned k, unsigned quarter, unsigned parts_a,
                             unsigned parts_b)
{
    __m256d sum[FP8_ROWS][3];
    unsigned sums = parts_a + parts_b - 1;

#pragma GCC unroll 4
    for (unsigned i = 0; i < FP8_ROWS; i++)
        sum[i][0] = sum[i][1] = sum[i][2] = _mm256_setzero_pd();
    for (unsigned byte = 0; byte < 64; byte += 16) {
        for (unsigned x = byte; x < byte + k; x++) {
            __m256d vb[2];

            vb[0] = _mm256_load_pd(&b->v[0][x][quarter * 4]);
            vb[1] = parts_b == 2 ? _mm256_load_pd(&b->v[1][x][quarter * 4]) : vb[0];
#pragma GCC unroll 4
            for (unsigned i = 0; i < FP8_ROWS; i++) {
#pragma GCC unroll 2
                for (unsigned pa = 0; pa < parts_a; pa++) {
                    __m256d va = _mm256_set1_pd(a->v[pa][row + i][x]);

                    sum[i][pa] = _mm256_fmadd_pd(va, vb[0], sum[i][pa]);
                    if (parts_b == 2)
                        sum[i][pa + 1] = _mm256_fmadd_pd(va, vb[1], sum[i][pa + 1]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < FP8_ROWS; i++)
        _mm_store_ps(&out[row + i][quarter * 4], fp8_round(sum[i], sums));
}

/* Add to (c), where a NaN becomes the indefinite one. */
TARGET INLINE void fp8_accumulate(amx_tile_t c, float product[16][16], unsigned m, unsigned n)
{
    __m256 indefinite = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffc00000));

    for (unsigned part = 0; part < 2; part++) {
        __m256 live = _mm256_castsi256_ps(columns(n, part));

        for (unsigned i = 0; i < m; i++) {
            float *dst = (float *)c[i] + part * 8;
            __m256 old = _mm256_load_ps(dst);
            __m256 sum = _mm256_add_ps(old, _mm256_load_ps(&product[i][part * 8]));

            sum = _mm256_blendv_ps(sum, indefinite, _mm256_cmp_ps(old, old, _CMP_UNORD_Q));
            _mm256_store_ps(dst, _mm256_and_ps(sum, live));
        }
    }
    zero_rows(c, m);
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
        for (unsigned quarter = 0; quarter < 4; quarter++)
            fp8_block(product, &wa, &wb, row, k, quarter, a_bf8 ? 2 : 1, b_bf8 ? 2 : 1);
    }
    fp8_accumulate(c, product, m, n);
}

#define FP8_KERNEL(name, op, a_bf8, b_bf8)                                                         \
    TARGET static __attribute__((noinline)) void name##_tile(                                      \
        amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k)  \
    {                                                                                              \
        fp8_tile(c, a, b, m, n, k, a_bf8, b_bf8);                                                  \
    }                                                                                              \
    TARGET void amx_avx2_##name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,  \
                                unsigned n, unsigned k)                                            \
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
