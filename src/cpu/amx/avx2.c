// SPDX-License-Identifier: MIT
// AMX kernels on AVX2 and FMA.

#include "cpu/amx/fp.h"
#include "cpu/amx/kernel.h"
#include "cpu/amx/mxcsr.h"

#include <immintrin.h>

/*
 * Theory of operation. Bytes are widened to 16 bits, even and odd ones apart, in both
 * sources beforehand. VPMADDWD then multiplies and adds pairs without overflow (the
 * largest sum is 2 * 255 * 255); VPMADDUBSW would saturate. BF16: as the AVX-512 kernels.
 * A row is two registers; (half) below is which of them.
 */

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))
#define BLOCK  4

/* A source with the even and the odd part of every dword apart, each filling a dword. */
struct halves {
    _Alignas(64) u32 even[16][16], odd[16][16];
};

enum widening { WIDEN_SIGNED, WIDEN_UNSIGNED, WIDEN_BF16 };

TARGET INLINE void widen_row(struct halves *out, const amx_tile_t in, unsigned row,
                             enum widening how)
{
    for (unsigned half = 0; half < 2; half++) {
        __m256i v = _mm256_load_si256((const __m256i *)in[row] + half), even, odd;

        if (how == WIDEN_BF16) {
            even = _mm256_slli_epi32(v, 16);
            odd = _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000));
        } else if (how == WIDEN_SIGNED) {
            even = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
            odd = _mm256_srai_epi16(v, 8);
        } else {
            even = _mm256_and_si256(v, _mm256_set1_epi16(0xff));
            odd = _mm256_srli_epi16(v, 8);
        }
        _mm256_store_si256((__m256i *)out->even[row] + half, even);
        _mm256_store_si256((__m256i *)out->odd[row] + half, odd);
    }
}

/* All ones in the columns below (n). */
TARGET INLINE __m256i columns(unsigned n, unsigned half)
{
    __m256i index = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                     _mm256_set1_epi32((int)half * 8));

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), index);
}

TARGET INLINE void zero_row(amx_tile_t c, unsigned row)
{
    _mm256_store_si256((__m256i *)c[row], _mm256_setzero_si256());
    _mm256_store_si256((__m256i *)c[row] + 1, _mm256_setzero_si256());
}

/* One half of rows [row, row + BLOCK). */
TARGET INLINE void int8_block(amx_tile_t c, const struct halves *a, const struct halves *b,
                              unsigned row, unsigned m, unsigned k, unsigned half, __m256i mask)
{
    __m256i acc[BLOCK];

#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i++)
        acc[i] = _mm256_setzero_si256();
    for (unsigned x = 0; x < k; x++) {
        __m256i be = _mm256_load_si256((const __m256i *)b->even[x] + half);
        __m256i bo = _mm256_load_si256((const __m256i *)b->odd[x] + half);

#pragma GCC unroll 4
        for (unsigned i = 0; i < BLOCK; i++) {
            __m256i ae = _mm256_set1_epi32((int)a->even[row + i][x]);
            __m256i ao = _mm256_set1_epi32((int)a->odd[row + i][x]);

            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(ae, be));
            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(ao, bo));
        }
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i++) {
        __m256i *dst = (__m256i *)c[row + i] + half;
        __m256i sum = _mm256_add_epi32(_mm256_load_si256(dst), acc[i]);

        _mm256_store_si256(dst, row + i < m ? _mm256_and_si256(sum, mask) : _mm256_setzero_si256());
    }
}

TARGET INLINE void bf16_block(amx_tile_t c, const struct halves *a, const struct halves *b,
                              unsigned row, unsigned m, unsigned k, unsigned half, __m256i mask)
{
    __m256 even[BLOCK], odd[BLOCK];

#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i++)
        even[i] = odd[i] = _mm256_setzero_ps();
    for (unsigned x = 0; x < k; x++) {
        __m256 be = _mm256_load_ps((const float *)b->even[x] + half * 8);
        __m256 bo = _mm256_load_ps((const float *)b->odd[x] + half * 8);

#pragma GCC unroll 4
        for (unsigned i = 0; i < BLOCK; i++) {
            __m256 ae = _mm256_castsi256_ps(_mm256_set1_epi32((int)a->even[row + i][x]));
            __m256 ao = _mm256_castsi256_ps(_mm256_set1_epi32((int)a->odd[row + i][x]));

            even[i] = _mm256_fmadd_ps(ae, be, even[i]);
            odd[i] = _mm256_fmadd_ps(ao, bo, odd[i]);
        }
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i++) {
        float *dst = (float *)c[row + i] + half * 8;
        __m256 sum = _mm256_add_ps(_mm256_load_ps(dst), _mm256_add_ps(even[i], odd[i]));

        _mm256_store_ps(dst, row + i < m ? _mm256_and_ps(sum, _mm256_castsi256_ps(mask))
                                         : _mm256_setzero_ps());
    }
}

TARGET INLINE void tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                        unsigned n, unsigned k, enum widening wa, enum widening wb)
{
    struct halves ha, hb;

    for (unsigned i = 0; i < ALIGN_UP(m, BLOCK); i++)
        widen_row(&ha, a, i, wa);
    for (unsigned i = 0; i < k; i++)
        widen_row(&hb, b, i, wb);
    for (unsigned half = 0; half < 2; half++) {
        __m256i mask = columns(n, half);

        for (unsigned row = 0; row < m; row += BLOCK) {
            if (wa == WIDEN_BF16)
                bf16_block(c, &ha, &hb, row, m, k, half, mask);
            else
                int8_block(c, &ha, &hb, row, m, k, half, mask);
        }
    }
    for (unsigned i = ALIGN_UP(m, BLOCK); i < 16; i++)
        zero_row(c, i);
}

#define INT8_KERNEL(name, wa, wb)                                                                  \
    TARGET static void name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,      \
                            unsigned n, unsigned k)                                                \
    {                                                                                              \
        tile(c, a, b, m, n, k, wa, wb);                                                            \
    }

INT8_KERNEL(dpbssd, WIDEN_SIGNED, WIDEN_SIGNED)
INT8_KERNEL(dpbsud, WIDEN_SIGNED, WIDEN_UNSIGNED)
INT8_KERNEL(dpbusd, WIDEN_UNSIGNED, WIDEN_SIGNED)
INT8_KERNEL(dpbuud, WIDEN_UNSIGNED, WIDEN_UNSIGNED)

TARGET static __attribute__((noinline)) void
bf16_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k)
{
    tile(c, a, b, m, n, k, WIDEN_BF16, WIDEN_BF16);
}

static void dpbf16ps(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                     unsigned k)
{
    u32 mxcsr = mxcsr_enter();

    bf16_tile(c, a, b, m, n, k);
    mxcsr_leave(mxcsr);
}

TARGET static void rows(u8 *dst, u64 dst_stride, const u8 *src, u64 src_stride, unsigned count)
{
    for (; count; count--, dst += dst_stride, src += src_stride) {
        __m256i low = _mm256_loadu_si256((const __m256i *)src);

        _mm256_storeu_si256((__m256i *)dst + 1, _mm256_loadu_si256((const __m256i *)src + 1));
        _mm256_storeu_si256((__m256i *)dst, low);
    }
}

const struct amx_kernels amx_kernels_avx2 = {
    "avx2", {dpbssd, dpbsud, dpbusd, dpbuud, dpbf16ps, AMX_FP_ENTRIES(avx2)}, rows};
