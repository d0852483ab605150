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

/* Even and odd products go into two sums over k, each from +0, which meet only at the end. */
static void dpbf16ps(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                     unsigned k)
{
    for (unsigned i = 0; i < m; i++) {
        for (unsigned j = 0; j < n; j++) {
            u32 even = 0, odd = 0;

            for (unsigned x = 0; x < k; x++) {
                const u8 *pa = a[i] + x * 4, *pb = b[x] + j * 4;

                even = amx_f32_fma((u32)get16(pa) << 16, (u32)get16(pb) << 16, even);
                odd = amx_f32_fma((u32)get16(pa + 2) << 16, (u32)get16(pb + 2) << 16, odd);
            }
            put32(c[i] + j * 4, amx_f32_add(get32(c[i] + j * 4), amx_f32_add(even, odd)));
        }
    }
    zero_rest(c, m, n);
}

const struct amx_kernels amx_kernels_scalar = {"scalar",
                                               {dpbssd, dpbsud, dpbusd, dpbuud, dpbf16ps}};
