// SPDX-License-Identifier: MIT
// AMX kernels on AVX-512: integers with VNNI, BF16 with F and BW alone.

#include "cpu/amx/fp.h"
#include "cpu/amx/kernel.h"
#include "cpu/amx/mxcsr.h"

#include <immintrin.h>

/*
 * Theory of operation. A row of (b) or (c) is one zmm register; a dword of (a) is broadcast
 * against it. All rows are accumulated at once, which hides the latency of the multiplier; rows that do
 * not exist are computed from whatever (a) holds and not stored.
 *
 * A broadcast for each VPDPBUSD would keep the load units busier than the multipliers. So eight rows take two dwords of
 * (a) in one broadcast, against two rows of (b) interleaved: lanes in turn sum up what the one and the other
 * dword gave, and meet at the end. For all rows the registers would not suffice.
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
#define PAIRED   8

/* Columns below (n). */
static inline __mmask16 columns(unsigned n)
{
    return (__mmask16)(0xffffu >> (16 - n));
}

TARGET_F INLINE void zero_rows(amx_tile_t c, unsigned from)
{
#pragma GCC unroll 16
    for (unsigned i = from; i < ROWS_MAX; i++)
        _mm512_store_si512(c[i], _mm512_setzero_si512());
}

/* acc += unsigned bytes of (u) times signed bytes of (s). Compilers copy the accumulator of the intrinsic around. */
TARGET INLINE __m512i dpbusd_512(__m512i acc, __m512i u, __m512i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
    return acc;
}

/* acc += a x b, where (a_unsigned) says which of the two is taken as unsigned. */
TARGET INLINE __m512i dp_512(__m512i acc, __m512i a, __m512i b, bool a_unsigned)
{
    return a_unsigned ? dpbusd_512(acc, a, b) : dpbusd_512(acc, b, a);
}

/* Sums so far: (low), (high) of the rows that are done in pairs, (single) of the others. */
struct int8_sums {
    __m512i low[PAIRED], high[PAIRED], single[ROWS_MAX - PAIRED];
};

/* Add dwords (x) and x + 1 of (a) times rows (b0) and (b1) of b. */
TARGET INLINE void int8_step(struct int8_sums *s, const amx_tile_t a, unsigned x, __m512i b0,
                             __m512i b1, bool a_unsigned, unsigned rows)
{
    __m512i low = _mm512_unpacklo_epi32(b0, b1), high = _mm512_unpackhi_epi32(b0, b1);

#pragma GCC unroll 16
    for (unsigned i = PAIRED; i < rows; i++) {
        __m512i *sum = &s->single[i - PAIRED];

        *sum = dp_512(*sum, _mm512_set1_epi32(((const s32 *)a[i])[x]), b0, a_unsigned);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < PAIRED; i++) {
        __m512i pair = _mm512_set1_epi64(((const s64 *)a[i])[x / 2]);

        s->low[i] = dp_512(s->low[i], pair, low, a_unsigned);
        s->high[i] = dp_512(s->high[i], pair, high, a_unsigned);
    }
#pragma GCC unroll 16
    for (unsigned i = PAIRED; i < rows; i++) {
        __m512i *sum = &s->single[i - PAIRED];

        *sum = dp_512(*sum, _mm512_set1_epi32(((const s32 *)a[i])[x + 1]), b1, a_unsigned);
    }
}

/* The sum of a row that was done in pairs: what even and odd dwords of (a) gave is side by side. */
TARGET_F INLINE __m512i int8_pairs(__m512i low, __m512i high)
{
    __m512 l = _mm512_castsi512_ps(low), h = _mm512_castsi512_ps(high);

    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(l, h, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(l, h, 0xdd)));
}

/* 128 times the sum of each column of (b), in four chains because one would wait for itself. */
TARGET INLINE __m512i int8_columns(const amx_tile_t b, unsigned k, bool b_signed)
{
    __m512i sum[4], one = _mm512_set1_epi8(1);

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        sum[i] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (unsigned x = 0; x < 16; x++) {
        if (x < k)
            sum[x % 4] = dp_512(sum[x % 4], one, _mm512_load_si512(b[x]), b_signed);
    }
    return _mm512_slli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3])), 7);
}

/*
 * (c) += sums of a x b, (rows) of them computed, and (extra) to each. (a_unsigned): which operand is taken
 * as unsigned.
 */
TARGET INLINE void int8_rows(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                             unsigned n, unsigned k, bool a_unsigned, __m512i extra, unsigned rows)
{
    struct int8_sums s;
    __mmask16 mask = columns(n);
    unsigned x;

#pragma GCC unroll 16
    for (unsigned i = 0; i < PAIRED; i++)
        s.low[i] = s.high[i] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (unsigned i = PAIRED; i < rows; i++)
        s.single[i - PAIRED] = _mm512_setzero_si512();
    for (x = 0; x + 1 < k; x += 2)
        int8_step(&s, a, x, _mm512_load_si512(b[x]), _mm512_load_si512(b[x + 1]), a_unsigned, rows);
    if (x < k)
        int8_step(&s, a, x, _mm512_load_si512(b[x]), _mm512_setzero_si512(), a_unsigned, rows);
#pragma GCC unroll 16
    for (unsigned i = 0; i < rows; i++) {
        __m512i sum = i < PAIRED ? int8_pairs(s.low[i], s.high[i]) : s.single[i - PAIRED];

        sum = _mm512_add_epi32(sum, extra);

        _mm512_store_epi32(c[i],
                           _mm512_maskz_add_epi32(i < m ? mask : 0, sum, _mm512_load_epi32(c[i])));
    }
    zero_rows(c, rows);
}

TARGET INLINE void int8_tile(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                             unsigned n, unsigned k, bool a_unsigned, __m512i extra)
{
    if (likely(m == ROWS_MAX && n == 16)) /* most are: nothing to mask */
        int8_rows(c, a, b, ROWS_MAX, 16, k, a_unsigned, extra, ROWS_MAX);
    else if (m > PAIRED)
        int8_rows(c, a, b, m, n, k, a_unsigned, extra, ROWS_MAX);
    else
        int8_rows(c, a, b, m, n, k, a_unsigned, extra, PAIRED);
}

/* (a) with bit 7 of each byte flipped. */
TARGET INLINE void flip(amx_tile_t out, const amx_tile_t a)
{
    __m512i bit7 = _mm512_set1_epi8((char)0x80);

#pragma GCC unroll 16
    for (unsigned i = 0; i < ROWS_MAX; i++)
        _mm512_store_si512(out[i], _mm512_xor_si512(_mm512_load_si512(a[i]), bit7));
}

TARGET static void dpbusd(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    int8_tile(c, a, b, m, n, k, true, _mm512_setzero_si512());
}

TARGET static void dpbsud(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    int8_tile(c, a, b, m, n, k, false, _mm512_setzero_si512());
}

TARGET static void dpbssd(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    _Alignas(64) amx_tile_t flipped;

    flip(flipped, a);
    int8_tile(c, flipped, b, m, n, k, true,
              _mm512_sub_epi32(_mm512_setzero_si512(), int8_columns(b, k, true)));
}

TARGET static void dpbuud(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m,
                          unsigned n, unsigned k)
{
    _Alignas(64) amx_tile_t flipped;

    flip(flipped, a);
    int8_tile(c, flipped, b, m, n, k, false, int8_columns(b, k, false));
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

/* Eight rows: what is not in the cache yet arrives together when it is asked for at once. */
TARGET_F INLINE void eight_rows(u8 *dst, u64 dst_stride, const u8 *src, u64 src_stride)
{
    __m512i v[8];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        v[i] = _mm512_loadu_si512(src + i * src_stride);
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        _mm512_storeu_si512(dst + i * dst_stride, v[i]);
}

/* Whole tiles have a stride of 64 on one side. */
TARGET_F static void rows(u8 *dst, u64 dst_stride, const u8 *src, u64 src_stride, unsigned count)
{
    if (count == ROWS_MAX && dst_stride == 64) {
        eight_rows(dst, 64, src, src_stride);
        eight_rows(dst + 8 * 64, 64, src + 8 * src_stride, src_stride);
        return;
    }
    if (count == ROWS_MAX && src_stride == 64) {
        eight_rows(dst, dst_stride, src, 64);
        eight_rows(dst + 8 * dst_stride, dst_stride, src + 8 * 64, 64);
        return;
    }
    for (; count; count--, dst += dst_stride, src += src_stride)
        _mm512_storeu_si512(dst, _mm512_loadu_si512(src));
}

const struct amx_kernels amx_kernels_avx512 = {
    "avx512", {[AMX_DPBF16PS] = dpbf16ps, AMX_FP_ENTRIES(avx512)}, rows};

const struct amx_kernels amx_kernels_vnni = {
    "vnni", {dpbssd, dpbsud, dpbusd, dpbuud, dpbf16ps, AMX_FP_ENTRIES(avx512)}, rows};
