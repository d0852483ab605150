// SPDX-License-Identifier: MIT
// Time of one 16x16 tile operation in each set of AMX kernels, and the host's own peak rates.

#include "cpu/amx/kernel.h"
#include "cpu/sys/cpuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Prints lines "peak NAME OPS-PER-NS" and "kernel SET OPERATION NS PEAK SHARE", the last being the
 * kernel's rate over that peak's. All loops take turns, so that a change of the machine's load
 * meets every one of them; a share is of one turn, and what is printed a median. Time is the
 * thread's CPU time. A multiplication and its addition count as two operations.
 */

#define TURNS     51
#define SAMPLE_NS 2e5
#define ARRAY_MAX 64

struct loop {
    char name[32];
    double (*run)(const struct loop *l,
                  unsigned long n); /* (n) passes; their operations, or 1 each */
    const struct amx_kernels *kernels;
    enum amx_dp op;
    const struct loop *peak; /* what (kernels) could reach at most */
    unsigned long passes;
    double value[TURNS]; /* ns per operation, or per pass */
    double share[TURNS];
};

static struct loop loops[ARRAY_MAX];
static unsigned nr_loops;
static _Alignas(64) amx_tile_t tile_a, tile_b, tile_c;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* --- peaks: independent accumulators and nothing else --- */

#define FOR_16(X)                                                                                  \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define CLOBBER                                                                                    \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

#define DPBUSD(n)  "vpdpbusd %%zmm31, %%zmm31, %%zmm" #n "\n\t"
#define FMA512(n)  "vfmadd231ps %%zmm31, %%zmm31, %%zmm" #n "\n\t"
#define ZERO512(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

#define PEAK_512(name, insn, ops)                                                                  \
    __attribute__((target("avx512f"))) static double name(const struct loop *l, unsigned long n)   \
    {                                                                                              \
        double total = (double)n * 16 * (ops);                                                     \
                                                                                                   \
        __asm__ volatile(FOR_16(ZERO512) ZERO512(31) "1:\n\t" FOR_16(insn) "dec %0\n\tjnz 1b"      \
                         : "+r"(n)                                                                 \
                         :                                                                         \
                         : CLOBBER, "xmm31", "cc");                                                \
        return total;                                                                              \
    }

PEAK_512(peak_vnni, DPBUSD, 128)
PEAK_512(peak_fma512, FMA512, 32)

/* On AVX2 registers 0-7 accumulate, 8-15 hold products before they are added. */
#define FOR_8(X)   X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define VNNI256(n) "%{vex%} vpdpbusd %%ymm15, %%ymm15, %%ymm" #n "\n\t"
#define FMA256(n)  "vfmadd231ps %%ymm15, %%ymm15, %%ymm" #n "\n\t"
#define MADD256(n)                                                                                 \
    "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n\tvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n\t"
#define ZERO256(n) "vpxor %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n\t"

#define PEAK_256(name, insn, each, ops)                                                            \
    __attribute__((target("avx2,fma,avxvnni"))) static double name(const struct loop *l,           \
                                                                   unsigned long n)                \
    {                                                                                              \
        double total = (double)n * (ops);                                                          \
                                                                                                   \
        __asm__ volatile(FOR_16(ZERO256) "1:\n\t" each(insn) "dec %0\n\tjnz 1b"                    \
                         : "+r"(n)                                                                 \
                         :                                                                         \
                         : CLOBBER, "cc");                                                         \
        return total;                                                                              \
    }

#define FOR_13(X) FOR_8(X) X(8) X(9) X(10) X(11) X(12)
PEAK_256(peak_madd, MADD256, FOR_8, 8 * 32)
PEAK_256(peak_fma256, FMA256, FOR_13, 13 * 16)
PEAK_256(peak_avxvnni, VNNI256, FOR_13, 13 * 64)

/* --- kernels --- */

static double kernel(const struct loop *l, unsigned long n)
{
    amx_dp_fn *dp = l->kernels->dp[l->op];

    for (unsigned long i = 0; i < n; i++)
        dp(tile_c, tile_a, tile_b, 16, 16, 16);
    return (double)n;
}

static void fill(bool bf16)
{
    for (unsigned i = 0; i < 1024; i++) {
        ((u8 *)tile_a)[i] = bf16 ? (i & 1 ? 0x3f : (u8)(i * 3)) : (u8)(i * 37);
        ((u8 *)tile_b)[i] = bf16 ? (i & 1 ? 0xbf : (u8)(i * 5)) : (u8)(i * 11 + 3);
        ((u8 *)tile_c)[i] = 0;
    }
}

/* --- measuring --- */

static struct loop *add(const char *name, double (*run)(const struct loop *, unsigned long))
{
    struct loop *l = &loops[nr_loops++];

    snprintf(l->name, sizeof(l->name), "%s", name);
    l->run = run;
    return l;
}

static double timed(const struct loop *l, unsigned long n)
{
    double t = now(), count = l->run(l, n);

    return (now() - t) / count;
}

/* How many passes take about SAMPLE_NS, at the best of some tries: others may have the CPU in one. */
static void calibrate(struct loop *l)
{
    double t, best = 0;

    for (l->passes = 1; best < SAMPLE_NS / 2; l->passes *= 2) {
        best = 1e12;
        for (unsigned i = 0; i < 5; i++) {
            t = now();
            l->run(l, l->passes);
            t = now() - t;
            best = t < best ? t : best;
        }
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static const struct loop *find(const char *name)
{
    for (unsigned i = 0; i < nr_loops; i++) {
        if (!strcmp(loops[i].name, name))
            return &loops[i];
    }
    return NULL;
}

/* The loop that (k) is measured by: of the units that it uses. */
static const char *peak_of(const struct amx_kernels *k, bool bf16)
{
    if (k == &amx_kernels_avx2)
        return bf16 ? "FMA-256" : "VPMADDWD-256";
    if (k == &amx_kernels_avxvnni)
        return "VPDPBUSD-256";
    return bf16 ? "FMA-512" : "VPDPBUSD-512";
}

static double ops_of(enum amx_dp op)
{
    return op == AMX_DPBF16PS ? 2 * 16 * 16 * 32 : 2 * 16 * 16 * 64;
}

static double median(const double *values)
{
    double v[TURNS];

    memcpy(v, values, sizeof(v));
    qsort(v, TURNS, sizeof(double), compare);
    return v[TURNS / 2];
}

static void add_all(void)
{
    static const struct {
        enum amx_dp op;
        const char *name;
    } ops[] = {{AMX_DPBUSD, "TDPBUSD"},
               {AMX_DPBSUD, "TDPBSUD"},
               {AMX_DPBSSD, "TDPBSSD"},
               {AMX_DPBUUD, "TDPBUUD"},
               {AMX_DPBF16PS, "TDPBF16PS"}};
    static const char *const sets[] = {"amx", "vnni", "avxvnni", "avx2"};
    const struct amx_kernels *k;

    if (cpuid_host_has("avx512_vnni"))
        add("VPDPBUSD-512", peak_vnni);
    if (cpuid_host_has("avx512f"))
        add("FMA-512", peak_fma512);
    if (cpuid_host_has("avx2")) {
        add("VPMADDWD-256", peak_madd);
        add("FMA-256", peak_fma256);
    }
    if (cpuid_host_has("avx_vnni"))
        add("VPDPBUSD-256", peak_avxvnni);
    for (unsigned s = 0; s < ARRAY_SIZE(sets); s++) {
        for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
            struct loop *l;

            if (amx_kernels_named(sets[s], &k) || !k->dp[ops[i].op])
                continue;
            l = add(ops[i].name, kernel);
            l->kernels = k;
            l->op = ops[i].op;
            l->peak = find(peak_of(k, ops[i].op == AMX_DPBF16PS));
        }
    }
}

int main(void)
{
    add_all();
    for (unsigned t = 0; t <= TURNS; t++) {
        for (struct loop *l = loops; l < loops + nr_loops; l++) {
            fill(l->op == AMX_DPBF16PS);
            if (t == 0)
                calibrate(l);
            else
                l->value[t - 1] = timed(l, l->passes);
        }
    }
    for (struct loop *l = loops; l < loops + nr_loops; l++) {
        if (!l->peak) {
            printf("peak %s %.2f\n", l->name, 1 / median(l->value));
            continue;
        }
        for (unsigned t = 0; t < TURNS; t++)
            l->share[t] = ops_of(l->op) / l->value[t] * l->peak->value[t];
        printf("kernel %s %s %.2f %s %.4f\n", l->kernels->name, l->name, median(l->value),
               l->peak->name, median(l->share));
    }
    return 0;
}
