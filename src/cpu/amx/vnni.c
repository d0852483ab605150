// SPDX-License-Identifier: MIT
// AMX kernels on AVX-512: integers with VNNI, BF16 with F and BW alone.

#include "cpu/amx/fp.h"
#include "cpu/amx/kernel.h"
#include "cpu/amx/mxcsr.h"

#include <immintrin.h>

/*
 * Theory of operation. A row of (b) or (c) is one zmm register; a dword of (a) is broadcast
 * against it. All rows are accumulated at once, in 8 or 16 registers, which hides the
 * latency of the multiplier; rows that do not exist are computed from whatever (a) holds and
 * not stored. VPDPBUSD is written in assembly: compilers copy its accumulator around.
 *
 * VPDPBUSD multiplies unsigned by signed and does not saturate, so:
 *   USD  a is the unsigned operand
 *   SUD  b is the unsigned operand
 *   SSD  a + 128 is the unsigned operand, and 128 * (sum of b over k) is taken off
 *   UUD  a - 128 is the signed operand, and 128 * (sum of b over k) is added
 * all modulo 2^32. Adding or taking 128 flips bit 7 of each byte.
 *
 * VDPBF16PS is not TDPBF16PS (it rounds even and odd products into one sum), so BF16 is
 * done with FMAs on the two halves, widened on the way: units that FMAs leave idle do that.
 */

#define TARGET   __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define TARGET_F __attribute__((target("avx512f,avx512bw"))) /* what BF16 needs */
#define INLINE   static inline __attribute__((always_inline))
#define ROWS_MAX 16

/* Columns below (n). */
static inline __mmask16 columns(unsigned n)
{
    return (__mmask16)(0xffffu >> (16 - n));
}

/* How many rows are computed for (m): a constant in each specialisation below. */
static inline unsigned rows_for(unsigned m)
{
    return m > 8 ? 16 : 8;
}

TARGET_F INLINE void zero_rows(amx_tile_t c, unsigned from)
{
#pragma GCC unroll 16
    for (unsigned i = from; i < ROWS_MAX; i++)
        _mm512_store_si512(c[i], _mm512_setzero_si512());
}

/* acc += unsigned bytes of (u) times signed bytes of (s). */
TARGET INLINE __m512i dpbusd_vv(__m512i acc, __m512i u, __m512i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
    return acc;
}

/* The same with one dword of signed bytes for all columns. */
TARGET INLINE __m512i dpbusd_vm(__m512i acc, __m512i u, const u8 *s)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(u), "m"(*(const u32 *)s));
    return acc;
}

/*
 * (c) += sums of a x b, (rows) of them computed. (a_unsigned): which operand is taken as
 * unsigned. (correct): bytes of (a) are off by 128 and the sum of (b) makes up for it.
 */
TARGET INLINE void int8_rows(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                             unsigned n, unsigned k, bool a_unsigned, bool correct, unsigned rows)
{
    __m512i acc[ROWS_MAX], sum = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
    __mmask16 mask = columns(n);

#pragma GCC unroll 16
    for (unsigned i = 0; i < rows; i++)
        acc[i] = _mm512_setzero_si512();
    for (unsigned x = 0; x < k; x++) {
        __m512i vb = _mm512_load_si512(b[x]);

        if (correct)
            sum = a_unsigned ? dpbusd_vv(sum, one, vb) : dpbusd_vv(sum, vb, one);
#pragma GCC unroll 16
        for (unsigned i = 0; i < rows; i++) {
            const u8 *dword = a[i] + x * 4;

            if (a_unsigned)
                acc[i] = dpbusd_vv(acc[i], _mm512_set1_epi32(*(const s32 *)dword), vb);
            else
                acc[i] = dpbusd_vm(acc[i], vb, dword);
        }
    }
    sum = _mm512_slli_epi32(sum, 7);
    if (a_unsigned)
        sum = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
#pragma GCC unroll 16
    for (unsigned i = 0; i < rows; i++) {
        __mmask16 live = i < m ? mask : 0;

        if (correct)
            acc[i] = _mm512_add_epi32(acc[i], sum);
        _mm512_store_epi32(c[i], _mm512_maskz_add_epi32(live, acc[i], _mm512_load_epi32(c[i])));
    }
    zero_rows(c, rows);
}

TARGET INLINE void int8_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                             unsigned n, unsigned k, bool a_unsigned, bool correct)
{
    if (rows_for(m) == 16)
        int8_rows(c, a, b, m, n, k, a_unsigned, correct, 16);
    else
        int8_rows(c, a, b, m, n, k, a_unsigned, correct, 8);
}

/* (a) with bit 7 of each byte flipped. */
TARGET INLINE void flip(amx_tile_t out, const amx_tile_t a, unsigned m)
{
    __m512i bit7 = _mm512_set1_epi8((char)0x80);

    for (unsigned i = 0; i < rows_for(m); i++)
        _mm512_store_si512(out[i], _mm512_xor_si512(_mm512_load_si512(a[i]), bit7));
}

TARGET static void dpbusd(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    int8_tile(c, a, b, m, n, k, true, false);
}

TARGET static void dpbsud(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    int8_tile(c, a, b, m, n, k, false, false);
}

TARGET static void dpbssd(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    _Alignas(64) amx_tile_t flipped;

    flip(flipped, a, m);
    int8_tile(c, flipped, b, m, n, k, true, true);
}

TARGET static void dpbuud(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    _Alignas(64) amx_tile_t flipped;

    flip(flipped, a, m);
    int8_tile(c, flipped, b, m, n, k, false, true);
}

/* The two BF16 halves of every dword, widened to FP32. */
TARGET_F INLINE __m512 even_half(__m512i v)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}
TARGET_F INLINE __m512 odd_half(__m512i v)
{
    return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)));
}

#define BF16_ROWS 8

/* Rows [row, row + BF16_ROWS). */
TARGET_F INLINE void bf16_rows(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned row,
                               unsigned m, unsigned n, unsigned k)
{
    __m512 even[BF16_ROWS], odd[BF16_ROWS];
    __mmask16 mask = columns(n);

#pragma GCC unroll 8
    for (unsigned i = 0; i < BF16_ROWS; i++)
        even[i] = odd[i] = _mm512_setzero_ps();
    for (unsigned x = 0; x < k; x++) {
        __m512i v = _mm512_load_si512(b[x]);
        __m512 be = even_half(v), bo = odd_half(v);

#pragma GCC unroll 8
        for (unsigned i = 0; i < BF16_ROWS; i++) {
            __m512i va = _mm512_set1_epi32(((const s32 *)a[row + i])[x]);

            even[i] = _mm512_fmadd_ps(even_half(va), be, even[i]);
            odd[i] = _mm512_fmadd_ps(odd_half(va), bo, odd[i]);
        }
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < BF16_ROWS; i++) {
        __mmask16 live = row + i < m ? mask : 0;
        __m512 sum = _mm512_add_ps(even[i], odd[i]);

        _mm512_store_ps(c[row + i], _mm512_maskz_add_ps(live, _mm512_load_ps(c[row + i]), sum));
    }
}

TARGET_F static __attribute__((noinline)) void
bf16_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, unsigned k)
{
    bf16_rows(c, a, b, 0, m, n, k);
    if (m > BF16_ROWS)
        bf16_rows(c, a, b, BF16_ROWS, m, n, k);
    else
        zero_rows(c, BF16_ROWS);
}

static void dpbf16ps(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                     unsigned k)
{
    u32 mxcsr = mxcsr_enter();

    bf16_tile(c, a, b, m, n, k);
    mxcsr_leave(mxcsr);
}

TARGET_F static void rows(u8 *dst, u64 dst_stride, const u8 *src, u64 src_stride, unsigned count)
{
    for (; count; count--, dst += dst_stride, src += src_stride)
        _mm512_storeu_si512(dst, _mm512_loadu_si512(src));
}

const struct amx_kernels amx_kernels_avx512 = {
    "avx512", {[AMX_DPBF16PS] = dpbf16ps, AMX_FP_ENTRIES(avx512)}, rows};

const struct amx_kernels amx_kernels_vnni = {
    "vnni", {dpbssd, dpbsud, dpbusd, dpbuud, dpbf16ps, AMX_FP_ENTRIES(avx512)}, rows};
