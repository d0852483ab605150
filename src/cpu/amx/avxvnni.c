// SPDX-License-Identifier: MIT
// AMX kernels for integers on AVX-VNNI, for hosts without AVX-512.

#include "cpu/amx/kernel.h"

#include <immintrin.h>

/*
 * Theory of operation. As vnni.c, where the uses of VPDPBUSD are explained, but a row is two
 * registers. Six rows, or four, accumulate at once: twelve registers, which leaves enough for the sources, and
 * fewer loads than multiplications.
 */

#define TARGET __attribute__((target("avx2,avxvnni")))
#define INLINE static inline __attribute__((always_inline))
#define BLOCK  6 /* or 4, for what is left of sixteen */

/* acc += unsigned bytes of (u) times signed bytes of (s). */
TARGET INLINE __m256i dpbusd(__m256i acc, __m256i u, __m256i s)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u), "x"(s));
    return acc;
}

/* All ones in the columns of (half) below (n). */
TARGET INLINE __m256i columns(unsigned n, unsigned half)
{
    __m256i index = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                     _mm256_set1_epi32((int)half * 8));

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), index);
}

/* The rows [row, row + block), which get (more) besides, a register for each half. */
TARGET INLINE void rows(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned row,
                        unsigned block, unsigned m, unsigned n, unsigned k, const __m256i more[2],
                        bool a_unsigned)
{
    __m256i acc[BLOCK][2];

#pragma GCC unroll 6
    for (unsigned i = 0; i < block; i++) {
        acc[i][0] = more[0];
        acc[i][1] = more[1];
    }
    for (unsigned x = 0; x < k; x++) {
        __m256i low = _mm256_load_si256((const __m256i *)b[x]);
        __m256i high = _mm256_load_si256((const __m256i *)b[x] + 1);

#pragma GCC unroll 6
        for (unsigned i = 0; i < block; i++) {
            __m256i va = _mm256_set1_epi32(((const s32 *)a[row + i])[x]);

            acc[i][0] = a_unsigned ? dpbusd(acc[i][0], va, low) : dpbusd(acc[i][0], low, va);
            acc[i][1] = a_unsigned ? dpbusd(acc[i][1], va, high) : dpbusd(acc[i][1], high, va);
        }
    }
#pragma GCC unroll 6
    for (unsigned i = 0; i < block; i++) {
        for (unsigned half = 0; half < 2; half++) {
            __m256i *dst = (__m256i *)c[row + i] + half;
            __m256i sum = _mm256_add_epi32(_mm256_load_si256(dst), acc[i][half]);

            sum = _mm256_and_si256(sum, columns(n, half));
            _mm256_store_si256(dst, row + i < m ? sum : _mm256_setzero_si256());
        }
    }
}

/* 128 times the sum of (b) over k, for bytes of (a) that are off by 128: less it or plus it. */
TARGET INLINE __m256i correction(const amx_tile_t b, unsigned half, unsigned k, bool a_unsigned)
{
    __m256i sum = _mm256_setzero_si256(), one = _mm256_set1_epi8(1);

    for (unsigned x = 0; x < k; x++) {
        __m256i vb = _mm256_load_si256((const __m256i *)b[x] + half);

        sum = a_unsigned ? dpbusd(sum, one, vb) : dpbusd(sum, vb, one);
    }
    sum = _mm256_slli_epi32(sum, 7);
    return a_unsigned ? _mm256_sub_epi32(_mm256_setzero_si256(), sum) : sum;
}

/* (correct): a's other signedness is wanted; then a copy of (a) with bit 7 of each byte flipped is used. */
TARGET INLINE void tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                        unsigned n, unsigned k, bool a_unsigned, bool correct)
{
    __m256i more[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    _Alignas(64) amx_tile_t flipped;
    unsigned row = 0;

    if (correct) {
        for (unsigned i = 0; i < 32; i++)
            _mm256_store_si256((__m256i *)flipped + i,
                               _mm256_xor_si256(_mm256_load_si256((const __m256i *)a + i),
                                                _mm256_set1_epi8((char)0x80)));
        a = (const u8(*)[64])flipped;
        for (unsigned half = 0; half < 2; half++)
            more[half] = correction(b, half, k, a_unsigned);
    }
    for (; row + 4 < m; row += BLOCK)
        rows(c, a, b, row, BLOCK, m, n, k, more, a_unsigned);
    if (row < m) {
        rows(c, a, b, row, 4, m, n, k, more, a_unsigned);
        row += 4;
    }
    for (unsigned i = row * 2; i < 32; i++)
        _mm256_store_si256((__m256i *)c + i, _mm256_setzero_si256());
}

#define KERNEL(name, a_unsigned, correct)                                                          \
    TARGET static void name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,      \
                            unsigned n, unsigned k)                                                \
    {                                                                                              \
        tile(c, a, b, m, n, k, a_unsigned, correct);                                               \
    }

KERNEL(tdpbusd, true, false)
KERNEL(tdpbsud, false, false)
KERNEL(tdpbssd, true, true)
KERNEL(tdpbuud, false, true)

const struct amx_kernels amx_kernels_avxvnni = {"avxvnni", {tdpbssd, tdpbsud, tdpbusd, tdpbuud}};
