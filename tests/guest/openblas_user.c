// SPDX-License-Identifier: MIT
// OpenBLAS' bfloat16 product of its SAPPHIRERAPIDS core against sums in double precision.

#include "tap.h"

#include <cblas.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILEDATA           18

/*
 * OpenBLAS 0.3.21 stores the last column of an odd K to one place and loads it from another,
 * but where K is a multiple of 32 and one more. So no other odd K is here.
 */
static const struct shape {
    int m, n, k;
} shapes[] = {{128, 128, 128}, {256, 192, 320}, {100, 77, 210}, {333, 65, 129}, {32, 512, 64}};

static uint32_t seed = 99;

static bfloat16 *matrix(size_t n)
{
    bfloat16 *m = malloc(n * sizeof(*m));

    for (size_t i = 0; i < n; i++) {
        float f;
        uint32_t bits;

        seed = seed * 1664525 + 1013904223;
        f = (float)(int32_t)(seed >> 8 & 0xffff) / 65536 - 0.5f;
        memcpy(&bits, &f, 4);
        m[i] = (bfloat16)(bits >> 16);
    }
    return m;
}

static double value(bfloat16 v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;

    memcpy(&f, &bits, 4);
    return (double)f;
}

/* Largest error of (c), over the sum of the products' magnitudes. */
static double error(const struct shape *s, int ta, int tb, const bfloat16 *a, const bfloat16 *b,
                    const float *c)
{
    double worst = 0;

    for (int i = 0; i < s->m; i++) {
        for (int j = 0; j < s->n; j++) {
            double sum = 0, magnitude = 1e-30, e;

            for (int x = 0; x < s->k; x++) {
                double p = value(a[ta ? x * s->m + i : i * s->k + x]) *
                           value(b[tb ? j * s->k + x : x * s->n + j]);

                sum += p;
                magnitude += fabs(p);
            }
            e = fabs(sum - (double)c[i * s->n + j]) / magnitude;
            worst = e > worst || isnan(e) ? e : worst;
        }
    }
    return worst;
}

static void product(const struct shape *s, int ta, int tb)
{
    bfloat16 *a = matrix((size_t)(s->m * s->k)), *b = matrix((size_t)(s->k * s->n));
    float *c = calloc((size_t)(s->m * s->n), sizeof(*c));
    double e;

    cblas_sbgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                 s->m, s->n, s->k, 1, a, ta ? s->m : s->k, b, tb ? s->k : s->n, 0, c, s->n);
    e = error(s, ta, tb, a, b, c);
    ok(e < 1e-6, "sbgemm %d x %d x %d, %s %s: off by %.2g of the products' sum", s->m, s->n, s->k,
       ta ? "transposed" : "plain", tb ? "transposed" : "plain", e);
    free(a);
    free(b);
    free(c);
}

int main(void)
{
    const struct shape *s = &shapes[0];
    int status = 0;

    setvbuf(stdout, NULL, _IONBF, 0);
    ok(!strcmp(openblas_get_corename(), "SAPPHIRERAPIDS"), "the core is %s",
       openblas_get_corename());
    if (fork() == 0) {
        bfloat16 *m = matrix((size_t)(s->m * s->k));
        float *c = calloc((size_t)(s->m * s->n), sizeof(*c));

        openblas_set_num_threads(1);
        cblas_sbgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s->m, s->n, s->k, 1, m, s->k, m,
                     s->n, 0, c, s->n);
        _exit(0);
    }
    wait(&status);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL,
       "it uses tiles: without permission it ends in SIGILL");
    if (!ok(syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0, "permission is given"))
        return tap_done();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int t = 0; t < 4; t++)
            product(&shapes[i], t & 1, t >> 1);
    return tap_done();
}
