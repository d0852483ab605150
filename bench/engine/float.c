// SPDX-License-Identifier: MIT
// Floating point benchmarks: bodies in motion, x87, matrix products from scalars to AVX-512.

#include <immintrin.h>
#include <string.h>

#include "gbench.h"

struct body {
    double x[3], v[3], m;
};
static u64 b_nbody(u64 n)
{
    struct body b[5] = {{{0, 0, 0}, {0, 0, 0}, 40.0},
                        {{4.8, -1.2, -0.1}, {0.6, 2.8, -0.02}, 0.04},
                        {{8.3, 4.1, -0.4}, {-1.0, 1.8, 0.01}, 0.01},
                        {{12.9, -15.1, -0.2}, {1.1, 0.9, -0.01}, 0.002},
                        {{15.4, -25.9, 0.2}, {1.0, 0.6, -0.03}, 0.002}};
    const double dt = 0.001;
    while (n--) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], r2 = 0;
                for (int k = 0; k < 3; k++) {
                    d[k] = b[i].x[k] - b[j].x[k];
                    r2 += d[k] * d[k];
                }
                double s;
                __asm__("sqrtsd %1, %0" : "=x"(s) : "x"(r2));
                double mag = dt / (r2 * s);
                for (int k = 0; k < 3; k++) {
                    b[i].v[k] -= d[k] * b[j].m * mag;
                    b[j].v[k] += d[k] * b[i].m * mag;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++)
                b[i].x[k] += dt * b[i].v[k];
    }
    u64 h = 0;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++) {
            u64 t;
            memcpy(&t, &b[i].x[k], 8);
            h = h * 31 + t;
        }
    return h;
}

static u64 b_x87(u64 n)
{
    long double a = 1.0L, s = 0.0L;
    while (n--) {
        a = a * 1.0000001L + 0.5L / (a + 1.0L);
        s += a;
        if (a > 1e6L)
            a = 1.0L;
    }
    return (u64)(s < 0 ? -s : s);
}

#define GN 192
static double ga[GN * GN] __attribute__((aligned(64)));
static double gb[GN * GN] __attribute__((aligned(64)));
static double gc[GN * GN] __attribute__((aligned(64)));
static void s_gemm(void)
{
    for (int i = 0; i < GN * GN; i++) {
        ga[i] = (double)((i * 7 + 3) % 13 - 6); /* small integers: the */
        gb[i] = (double)((i * 5 + 1) % 11 - 5); /* result is exact     */
        gc[i] = 0;
    }
}
static u64 gemm_hash(void)
{
    u64 h = 0;
    for (int i = 0; i < GN * GN; i++)
        h = h * 1099511628211ull + (u64)(int64_t)gc[i];
    return h;
}

/* C = A*B, 4 rows by 2 vectors of registers. */
#define GEMM(NAME, TARGET, V, W, ZERO, SET1, LOAD, STORE, FMA)                                     \
    __attribute__((target(TARGET))) static NOINLINE u64 NAME(u64 n)                                \
    {                                                                                              \
        while (n--) {                                                                              \
            for (int i = 0; i < GN; i += 4)                                                        \
                for (int j = 0; j < GN; j += 2 * W) {                                              \
                    V c00 = ZERO, c01 = ZERO, c10 = ZERO, c11 = ZERO;                              \
                    V c20 = ZERO, c21 = ZERO, c30 = ZERO, c31 = ZERO;                              \
                    const double *a = ga + i * GN, *b = gb + j;                                    \
                    for (int k = 0; k < GN; k++, b += GN) {                                        \
                        V b0 = LOAD(b), b1 = LOAD(b + W), t;                                       \
                        t = SET1(a[k]);                                                            \
                        c00 = FMA(t, b0, c00);                                                     \
                        c01 = FMA(t, b1, c01);                                                     \
                        t = SET1(a[GN + k]);                                                       \
                        c10 = FMA(t, b0, c10);                                                     \
                        c11 = FMA(t, b1, c11);                                                     \
                        t = SET1(a[2 * GN + k]);                                                   \
                        c20 = FMA(t, b0, c20);                                                     \
                        c21 = FMA(t, b1, c21);                                                     \
                        t = SET1(a[3 * GN + k]);                                                   \
                        c30 = FMA(t, b0, c30);                                                     \
                        c31 = FMA(t, b1, c31);                                                     \
                    }                                                                              \
                    double *c = gc + i * GN + j;                                                   \
                    STORE(c, c00);                                                                 \
                    STORE(c + W, c01);                                                             \
                    STORE(c + GN, c10);                                                            \
                    STORE(c + GN + W, c11);                                                        \
                    STORE(c + 2 * GN, c20);                                                        \
                    STORE(c + 2 * GN + W, c21);                                                    \
                    STORE(c + 3 * GN, c30);                                                        \
                    STORE(c + 3 * GN + W, c31);                                                    \
                }                                                                                  \
            BARRIER();                                                                             \
        }                                                                                          \
        return gemm_hash();                                                                        \
    }
#define FMA_SSE2(a, b, c) _mm_add_pd(_mm_mul_pd(a, b), c)
GEMM(b_gemm_sse2, "sse2", __m128d, 2, _mm_setzero_pd(), _mm_set1_pd, _mm_load_pd, _mm_store_pd,
     FMA_SSE2)
GEMM(b_gemm_avx2, "avx2,fma", __m256d, 4, _mm256_setzero_pd(), _mm256_set1_pd, _mm256_load_pd,
     _mm256_store_pd, _mm256_fmadd_pd)
GEMM(b_gemm_avx512, "avx512f", __m512d, 8, _mm512_setzero_pd(), _mm512_set1_pd, _mm512_load_pd,
     _mm512_store_pd, _mm512_fmadd_pd)

__attribute__((optimize("no-tree-vectorize"))) static NOINLINE u64 b_gemm_scalar(u64 n)
{
    while (n--) {
        for (int i = 0; i < GN; i++)
            for (int j = 0; j < GN; j += 4) {
                double c0 = 0, c1 = 0, c2 = 0, c3 = 0;
                const double *a = ga + i * GN, *b = gb + j;
                for (int k = 0; k < GN; k++, b += GN) {
                    double t = a[k], u = t * b[0];
                    c0 += u;
                    c1 += t * b[1];
                    c2 += t * b[2];
                    c3 += t * b[3];
                }
                double *c = gc + i * GN + j;
                c[0] = c0;
                c[1] = c1;
                c[2] = c2;
                c[3] = c3;
            }
        BARRIER();
    }
    return gemm_hash();
}

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

#define FLOPS    (2.0 * GN * GN * GN)
#define GEMM_SUM 0xe370447bedef3967
const struct bench float_benches[] = {
    {"fp.nbody", b_nbody, .per_iteration = 1, .check_n = 100, .check = 0x17112486fa1a3923},
    {"fp.x87", b_x87, .per_iteration = 1, .check_n = 1000, .check = 0x4f17},
    {"fp.dgemm.scalar", b_gemm_scalar, s_gemm, .kind = MFLOPS, .per_iteration = FLOPS, .check_n = 1,
     .check = GEMM_SUM},
    {"fp.dgemm.sse2", b_gemm_sse2, s_gemm, .kind = MFLOPS, .per_iteration = FLOPS, .check_n = 1,
     .check = GEMM_SUM},
    {"fp.dgemm.avx2", b_gemm_avx2, s_gemm, .need = has_avx2, .kind = MFLOPS, .per_iteration = FLOPS,
     .check_n = 1, .check = GEMM_SUM},
    {"fp.dgemm.avx512", b_gemm_avx512, s_gemm, .need = has_avx512, .kind = MFLOPS,
     .per_iteration = FLOPS, .check_n = 1, .check = GEMM_SUM},
    {0},
};
