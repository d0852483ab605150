// SPDX-License-Identifier: MIT
// AMX kernels on AVX-512 (F, BW, VNNI).

#include "cpu/amx/kernel.h"
#include "cpu/amx/mxcsr.h"

#include <immintrin.h>

/*
 * Theory of operation. A row of (b) or (c) is one zmm register; a dword of (a) is broadcast
 * against it. Eight rows are accumulated at a time, which hides the latency of the
 * multiplier; rows that do not exist are computed from whatever (a) holds and not stored.
 *
 * VPDPBUSD multiplies unsigned by signed and does not saturate, so:
 *   USD  a is the unsigned operand
 *   SUD  b is the unsigned operand
 *   SSD  a + 128 is the unsigned operand, and 128 * (sum of b over k) is taken off
 *   UUD  a - 128 is the signed operand, and 128 * (sum of b over k) is added
 * all modulo 2^32. Adding or taking 128 flips bit 7 of each byte.
 *
 * VDPBF16PS is not TDPBF16PS (it rounds even and odd products into one sum), so BF16 is
 * done with FMAs on the two halves, widened by a shift.
 */

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define BLOCK 8

/* Columns below (n). */
static inline __mmask16 columns(unsigned n) { return (__mmask16)(0xffffu >> (16 - n)); }

/* Add (acc) and store BLOCK rows from (row) on, cut to (m) and (mask). */
TARGET static inline void store_rows(amx_tile_t c, const __m512i *acc, unsigned row, unsigned m,
                                     __mmask16 mask)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < BLOCK; i++) {
        __mmask16 live = row + i < m ? mask : 0;
        __m512i old = _mm512_maskz_load_epi32(live, c[row + i]);

        _mm512_store_epi32(c[row + i], _mm512_maskz_add_epi32(live, old, acc[i]));
    }
}

/* Rows [row, row + BLOCK): sums of a x b from (init) on. (a_unsigned): which operand VPDPBUSD takes as unsigned. */
TARGET static inline __attribute__((always_inline)) void
int8_block(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned row, unsigned m,
           unsigned k, __mmask16 mask, __m512i init, bool a_unsigned)
{
    __m512i acc[BLOCK];

#pragma GCC unroll 8
    for (unsigned i = 0; i < BLOCK; i++)
        acc[i] = init;
    for (unsigned x = 0; x < k; x++) {
        __m512i vb = _mm512_load_si512(b[x]);

#pragma GCC unroll 8
        for (unsigned i = 0; i < BLOCK; i++) {
            __m512i va = _mm512_set1_epi32(((const s32 *)a[row + i])[x]);

            acc[i] = a_unsigned ? _mm512_dpbusd_epi32(acc[i], va, vb)
                                : _mm512_dpbusd_epi32(acc[i], vb, va);
        }
    }
    store_rows(c, acc, row, m, mask);
}

TARGET static inline __attribute__((always_inline)) void
int8_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k,
          __m512i init, bool a_unsigned)
{
    __mmask16 mask = columns(n);

    int8_block(c, a, b, 0, m, k, mask, init, a_unsigned);
    if (m > BLOCK) {
        int8_block(c, a, b, BLOCK, m, k, mask, init, a_unsigned);
        return;
    }
    for (unsigned i = BLOCK; i < 16; i++)
        _mm512_store_si512(c[i], _mm512_setzero_si512());
}

/* (a) with bit 7 of each byte flipped. */
TARGET static inline void flip(amx_tile_t out, const amx_tile_t a, unsigned m)
{
    __m512i bit7 = _mm512_set1_epi8((char)0x80);

    for (unsigned i = 0; i < ALIGN_UP(m, BLOCK); i++)
        _mm512_store_si512(out[i], _mm512_xor_si512(_mm512_load_si512(a[i]), bit7));
}

TARGET static void dpbusd(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                          unsigned k)
{
    int8_tile(c, a, b, m, n, k, _mm512_setzero_si512(), true);
}

TARGET static void dpbsud(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                          unsigned k)
{
    int8_tile(c, a, b, m, n, k, _mm512_setzero_si512(), false);
}

TARGET static void dpbssd(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                          unsigned k)
{
    _Alignas(64) amx_tile_t flipped;
    __m512i sum = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);

    flip(flipped, a, m);
    for (unsigned x = 0; x < k; x++)
        sum = _mm512_dpbusd_epi32(sum, one, _mm512_load_si512(b[x]));
    sum = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7));
    int8_tile(c, flipped, b, m, n, k, sum, true);
}

TARGET static void dpbuud(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                          unsigned k)
{
    _Alignas(64) amx_tile_t flipped;
    __m512i sum = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);

    flip(flipped, a, m);
    for (unsigned x = 0; x < k; x++)
        sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(b[x]), one);
    int8_tile(c, flipped, b, m, n, k, _mm512_slli_epi32(sum, 7), false);
}

/* The two BF16 halves of every dword, widened to FP32. */
TARGET static inline void widen(__m512i v, float *even, float *odd)
{
    _mm512_store_si512(even, _mm512_slli_epi32(v, 16));
    _mm512_store_si512(odd, _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)));
}

struct halves {
    _Alignas(64) float even[16][16], odd[16][16];
};

TARGET static inline __attribute__((always_inline)) void
bf16_block(amx_tile_t c, const struct halves *a, const struct halves *b, unsigned row, unsigned m,
           unsigned k, __mmask16 mask)
{
    __m512 even[BLOCK], odd[BLOCK];

#pragma GCC unroll 8
    for (unsigned i = 0; i < BLOCK; i++)
        even[i] = odd[i] = _mm512_setzero_ps();
    for (unsigned x = 0; x < k; x++) {
        __m512 be = _mm512_load_ps(b->even[x]), bo = _mm512_load_ps(b->odd[x]);

#pragma GCC unroll 8
        for (unsigned i = 0; i < BLOCK; i++) {
            even[i] = _mm512_fmadd_ps(_mm512_set1_ps(a->even[row + i][x]), be, even[i]);
            odd[i] = _mm512_fmadd_ps(_mm512_set1_ps(a->odd[row + i][x]), bo, odd[i]);
        }
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < BLOCK; i++) {
        __mmask16 live = row + i < m ? mask : 0;
        __m512 old = _mm512_maskz_load_ps(live, c[row + i]);

        _mm512_store_ps(c[row + i],
                        _mm512_maskz_add_ps(live, old, _mm512_add_ps(even[i], odd[i])));
    }
}

TARGET static __attribute__((noinline)) void bf16_tile(amx_tile_t c, const amx_tile_t a,
                                                       const amx_tile_t b, unsigned m, unsigned n,
                                                       unsigned k)
{
    struct halves wa, wb;

    for (unsigned i = 0; i < ALIGN_UP(m, BLOCK); i++)
        widen(_mm512_load_si512(a[i]), wa.even[i], wa.odd[i]);
    for (unsigned i = 0; i < k; i++)
        widen(_mm512_load_si512(b[i]), wb.even[i], wb.odd[i]);
    bf16_block(c, &wa, &wb, 0, m, k, columns(n));
    if (m > BLOCK) {
        bf16_block(c, &wa, &wb, BLOCK, m, k, columns(n));
        return;
    }
    for (unsigned i = BLOCK; i < 16; i++)
        _mm512_store_si512(c[i], _mm512_setzero_si512());
}

static void dpbf16ps(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                     unsigned k)
{
    u32 mxcsr = mxcsr_enter();

    bf16_tile(c, a, b, m, n, k);
    mxcsr_leave(mxcsr);
}

const struct amx_kernels amx_kernels_vnni = {"vnni", {dpbssd, dpbsud, dpbusd, dpbuud, dpbf16ps}};
