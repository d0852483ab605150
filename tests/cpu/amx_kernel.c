// SPDX-License-Identifier: MIT
// Every AMX kernel that runs here against the scalar one, and the scalar one against plain sums.

#include "cpu/amx/kernel.h"
#include "cpu/amx/mxcsr.h"
#include "cpu/amx/softfloat.h"
#include "rand.h"
#include "tap.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct tiles {
    _Alignas(64) amx_tile_t c, a, b;
};

/* The later ones are in amx_exact.c, with these. */
static const char *const dp_name[] = {"TDPBSSD", "TDPBSUD", "TDPBUSD", "TDPBUUD", "TDPBF16PS"};
static const struct amx_kernels *const all[] = {&amx_kernels_scalar,  &amx_kernels_avx2,
                                                &amx_kernels_avxvnni, &amx_kernels_avx512,
                                                &amx_kernels_vnni,    &amx_kernels_amx};

static bool is_nan(u32 v)
{
    return (v & 0x7fffffff) > 0x7f800000;
}

static u32 dword(const u8 *p)
{
    u32 v;

    memcpy(&v, p, 4);
    return v;
}

/* Equal, a NaN being as good as another in floating-point results. */
static bool tile_same(const amx_tile_t x, const amx_tile_t y, bool fp)
{
    for (unsigned i = 0; i < 1024; i += 4) {
        u32 a = dword((const u8 *)x + i), b = dword((const u8 *)y + i);

        if (a != b && !(fp && is_nan(a) && is_nan(b)))
            return false;
    }
    return true;
}

static u16 bf16(void)
{
    static const u16 special[] = {0,      0x8000, 0x7f80, 0xff80, 0x7fc0,
                                  0xff81, 1,      0x807f, 0x0080, 0x7f7f};
    u64 r = rnd();

    switch (r >> 61) {
    case 0:
        return (r >> 32 & 7) ? (u16)(0x3f80 + (r & 0x80ff))
                             : special[(r >> 8) % ARRAY_SIZE(special)];
    case 1:
    case 2:
        return (u16)((r & 0x807f) | (60 + (r >> 20) % 10)
                                        << 7); /* products near the flush boundary */
    default:
        return (u16)((r & 0x807f) | (120 + (r >> 20) % 16) << 7);
    }
}

/* Fill a whole tile, what lies outside its shape too. */
static void fill(amx_tile_t t, bool fp, bool acc)
{
    static const u8 extreme[] = {0x80, 0x7f, 0xff, 0x00, 0x81, 0x01};
    unsigned kind = rnd() % 4;
    u8 *byte = (u8 *)t;

    for (unsigned i = 0; i < 1024; i++)
        byte[i] = kind ? (u8)rnd() : extreme[rnd() % sizeof(extreme)];
    if (!fp)
        return;
    for (unsigned i = 0; i < 1024; i += 2) {
        u16 v = bf16();

        if (!acc || i & 2)
            memcpy(byte + i, &v, 2);
    }
}

static void fill_all(struct tiles *t, bool fp)
{
    fill(t->a, fp, false);
    fill(t->b, fp, false);
    fill(t->c, fp, true);
}

/* The sums again, written another way: 64-bit, element by element, from the formats' definition. */
static void plain_int8(struct tiles *t, enum amx_dp op, unsigned m, unsigned n, unsigned k)
{
    bool as = op == AMX_DPBSSD || op == AMX_DPBSUD, bs = op == AMX_DPBSSD || op == AMX_DPBUSD;
    amx_tile_t out = {0};

    for (unsigned i = 0; i < m * n; i++) {
        unsigned row = i / n, col = i % n;
        s64 sum = (s32)dword(t->c[row] + col * 4);

        for (unsigned x = 0; x < k * 4; x++) {
            s64 a = t->a[row][x], b = t->b[x / 4][col * 4 + x % 4];

            a -= as && a > 127 ? 256 : 0;
            b -= bs && b > 127 ? 256 : 0;
            sum += a * b;
        }
        memcpy(out[row] + col * 4, &(u32){(u32)sum}, 4);
    }
    memcpy(t->c, out, sizeof(out));
}

/* TDPBF16PS by the host's scalar FMA, one element at a time. */
__attribute__((target("fma"), noinline)) static float fma1(float a, float b, float c)
{
    __asm__("vfmadd231ss %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
}

static float half(const u8 *p)
{
    u32 v = (u32)p[0] << 16 | (u32)p[1] << 24;
    float f;

    memcpy(&f, &v, 4);
    return f;
}

__attribute__((noinline)) static void plain_bf16(struct tiles *t, unsigned m, unsigned n,
                                                 unsigned k)
{
    amx_tile_t out = {0};

    for (unsigned i = 0; i < m * n; i++) {
        unsigned row = i / n, col = i % n;
        float even = 0, odd = 0, acc;

        for (unsigned x = 0; x < k; x++) {
            even = fma1(half(t->a[row] + x * 4), half(t->b[x] + col * 4), even);
            odd = fma1(half(t->a[row] + x * 4 + 2), half(t->b[x] + col * 4 + 2), odd);
        }
        memcpy(&acc, t->c[row] + col * 4, 4);
        acc = acc + (even + odd);
        memcpy(out[row] + col * 4, &acc, 4);
    }
    memcpy(t->c, out, sizeof(out));
}

static void scalar_is_right(void)
{
    for (unsigned op = 0; op < ARRAY_SIZE(dp_name); op++) {
        bool fp = op == AMX_DPBF16PS;
        unsigned bad = 0;

        if (fp && !__builtin_cpu_supports("fma")) {
            skip("the host has no FMA", "TDPBF16PS scalar against the host's FMA");
            continue;
        }
        for (unsigned i = 0; i < 60; i++) {
            unsigned m = 1 + rnd() % 16, n = 1 + rnd() % 16, k = 1 + rnd() % 16;
            struct tiles x, y;

            fill_all(&x, fp);
            y = x;
            amx_kernels_scalar.dp[op](x.c, x.a, x.b, m, n, k);
            if (fp) {
                u32 mxcsr = mxcsr_enter();

                plain_bf16(&y, m, n, k);
                mxcsr_leave(mxcsr);
            } else {
                plain_int8(&y, op, m, n, k);
            }
            bad += !tile_same(x.c, y.c, fp);
        }
        is_u64(bad, 0, "%s scalar: 60 random tiles equal a second formulation", dp_name[op]);
    }
}

static void kernel_equals_scalar(const struct amx_kernels *k, unsigned op)
{
    unsigned bad = 0, cases = 400;

    for (unsigned i = 0; i < cases; i++) {
        /* every shape's edges, then random ones */
        unsigned m = i < 16 ? i + 1 : 1 + rnd() % 16, n = i < 32 ? i % 16 + 1 : 1 + rnd() % 16;
        unsigned depth = i & 1 ? 16 : 1 + rnd() % 16;
        struct tiles x, y;

        fill_all(&x, op == AMX_DPBF16PS);
        y = x;
        amx_kernels_scalar.dp[op](x.c, x.a, x.b, m, n, depth);
        k->dp[op](y.c, y.a, y.b, m, n, depth);
        if (!tile_same(x.c, y.c, op == AMX_DPBF16PS) || memcmp(x.a, y.a, 2048)) {
            if (!bad++)
                printf("# first at case %u: m %u n %u k %u\n", i, m, n, depth);
        }
    }
    is_u64(bad, 0, "%s %s: %u random tiles equal the scalar kernel", dp_name[op], k->name, cases);
}

static u32 mxcsr_get(void)
{
    u32 v;

    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}

/* With every exception unmasked and another rounding, nothing traps and nothing changes. */
static void mxcsr_untouched(const struct amx_kernels *k)
{
    const u32 strict = 0x6000, normal = mxcsr_get();
    struct tiles t, want;
    u32 after;

    fill_all(&t, true);
    memcpy(t.a[0], "\x80\xff\x80\x7f", 4); /* -inf, +inf */
    memcpy(t.b[0], "\x80\x7f\x01\x00", 4);
    want = t;
    amx_kernels_scalar.dp[AMX_DPBF16PS](want.c, want.a, want.b, 16, 16, 16);
    mxcsr_leave(strict);
    k->dp[AMX_DPBF16PS](t.c, t.a, t.b, 16, 16, 16);
    after = mxcsr_get();
    mxcsr_leave(normal);
    is_u64(after, strict, "%s: MXCSR is as it was, no flag raised, none trapped", k->name);
    ok(tile_same(t.c, want.c, true), "%s: and its rounding mode does not matter", k->name);
}

/* A minus B near the flush boundary that an emulator with a wrong subtract turns into zero. */
static void mistake_10_subtract_near_ftz(const struct amx_kernels *k)
{
    struct tiles t = {0};

    memcpy(t.a, &(u32){0x9fcea02e}, 4);
    memcpy(t.b, &(u32){0x1ae12049}, 4);
    memcpy(t.c, &(u32){0x015e4339}, 4);
    k->dp[AMX_DPBF16PS](t.c, t.a, t.b, 1, 1, 1);
    is_u64(dword(t.c[0]), 0x00ab4a72, "mistake 10, %s: a subtract near FTZ keeps a normal result",
           k->name);
}

static void mistake_3_signed_bytes(const struct amx_kernels *k)
{
    static const u32 want[4] = {(u32)-2, (u32)-2, 510, 510};
    static const u32 want_b[4] = {(u32)-2, 510, (u32)-2, 510};

    for (unsigned op = AMX_DPBSSD; op <= AMX_DPBUUD; op++) {
        struct tiles t = {0}, u = {0};

        t.a[0][0] = 0xff;
        t.b[0][0] = 2;
        u.a[0][0] = 2;
        u.b[0][0] = 0xff;
        k->dp[op](t.c, t.a, t.b, 1, 1, 1);
        k->dp[op](u.c, u.a, u.b, 1, 1, 1);
        ok(dword(t.c[0]) == want[op] && dword(u.c[0]) == want_b[op],
           "mistake 3, %s %s: signed bytes are sign-extended", dp_name[op], k->name);
    }
}

/* VDPBF16PS has one sum for even and odd products; TDPBF16PS has two. */
static void two_chains(const struct amx_kernels *k)
{
    struct tiles t = {0};

    /* even: 2^24; odd: 1 three times. One chain loses each 1; two chains keep the 3. */
    memcpy(t.a[0], "\x80\x4b\x80\x3f\x00\x00\x80\x3f\x00\x00\x80\x3f", 12);
    for (unsigned i = 0; i < 3; i++)
        memcpy(t.b[i], "\x80\x3f\x80\x3f", 4);
    k->dp[AMX_DPBF16PS](t.c, t.a, t.b, 1, 1, 3);
    is_u64(dword(t.c[0]), 0x4b800002, "%s: even and odd products have a sum each", k->name);
}

/* Rows apart, against each other and on one place, the sources likewise. */
static void rows_in_order(const struct amx_kernels *k)
{
    static const u64 strides[] = {64, 0, 1, 65, 256, (u64)-64};
    u8 from[16 * 256 + 64], to[16 * 256 + 64], want[16 * 256 + 64];
    unsigned bad = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(strides) * ARRAY_SIZE(strides) * 2; i++) {
        u64 d = strides[i % ARRAY_SIZE(strides)], s = strides[i / ARRAY_SIZE(strides) % 6];
        unsigned count = i % 2 ? 16 : 1 + i % 15;
        size_t at_d = d > 256 ? 1024 : 0, at_s = s > 256 ? 1024 : 0;

        for (unsigned b = 0; b < sizeof(from); b++)
            from[b] = (u8)rnd();
        memset(to, 0, sizeof(to));
        memset(want, 0, sizeof(want));
        k->rows(to + at_d, d, from + at_s, s, count);
        for (unsigned r = 0; r < count; r++)
            memcpy(want + at_d + r * d, from + at_s + r * s, 64);
        bad += memcmp(to, want, sizeof(to)) != 0;
    }
    is_u64(bad, 0, "%s: rows are copied in order", k->name);
}

static void speed(const struct amx_kernels *k, unsigned op)
{
    unsigned rounds = k == &amx_kernels_scalar ? 20 : 20000;
    double best = 1e9;
    struct tiles t;

    fill_all(&t, op == AMX_DPBF16PS);
    for (unsigned i = 0; i < 5; i++) {
        struct timespec a, b;
        double ns;

        clock_gettime(CLOCK_MONOTONIC, &a);
        for (unsigned r = 0; r < rounds; r++)
            k->dp[op](t.c, t.a, t.b, 16, 16, 16);
        clock_gettime(CLOCK_MONOTONIC, &b);
        ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / rounds;
        best = ns < best ? ns : best;
    }
    printf("# %-9s %-6s %9.1f ns a tile, %7.1f GOPS\n", dp_name[op], k->name, best,
           2.0 * 16 * 16 * (op == AMX_DPBF16PS ? 32 : 64) / best);
}

/*
 * What UVIRT_AMX=(name) takes. A child, because the choice is made once in a process. Linux grants no tiles
 * where a signal stack is too small for them: (refuse).
 */
static const char *chosen_with(const char *name, bool refuse)
{
    static char small[4096];

    static char out[16];
    ssize_t n = 0;
    int fd[2];
    pid_t pid;

    fflush(stdout);
    if (pipe(fd) || (pid = fork()) < 0)
        return "no child";
    if (pid == 0) {
        if (refuse)
            sigaltstack(&(stack_t){.ss_sp = small, .ss_size = sizeof(small)}, NULL);
        setenv("UVIRT_AMX", name, 1);
        _exit(write(fd[1], amx_kernels()->name, strlen(amx_kernels()->name)) < 0);
    }
    waitpid(pid, NULL, 0);
    n = read(fd[0], out, sizeof(out) - 1);
    close(fd[0]);
    close(fd[1]);
    out[n > 0 ? n : 0] = 0;
    return out;
}

static void choice(void)
{
    const struct amx_kernels *best = NULL, *k = NULL;

    ok(amx_kernels_named(NULL, &best) == 0 && amx_kernels_usable(best),
       "the best kernels here (%s) can run here", best ? best->name : "none");
    ok(amx_kernels_named("", &k) == 0 && k == best, "an empty name stands for them");
    ok(amx_kernels_named("avx3", &k) == -ENOENT && k == best, "an unknown name is refused");
    ok(!strcmp(chosen_with("avx3", false), best->name), "and falls back to the best");
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        bool usable = amx_kernels_usable(all[i]);
        int rc = amx_kernels_named(all[i]->name, &k);

        ok(strstr(AMX_KERNELS_NAMES, all[i]->name) && rc == (usable ? 0 : -ENOTSUP) &&
               (!usable || k == all[i]),
           "%s is known, and %s here", all[i]->name, usable ? "runs" : "does not run");
        ok(!strcmp(chosen_with(all[i]->name, false), usable ? all[i]->name : best->name),
           "UVIRT_AMX=%s takes %s", all[i]->name, usable ? "it" : "the best");
    }
}

int main(int argc, char **argv)
{
    /* First, because permission once given stays. */
    ok(strcmp(chosen_with("amx", true), "amx"), "UVIRT_AMX=amx without permission takes %s",
       chosen_with("amx", true));
    scalar_is_right();
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (!amx_kernels_usable(all[i])) {
            skip("this host cannot run them", "%s kernels", all[i]->name);
            continue;
        }
        if (all[i]->rows)
            rows_in_order(all[i]);
        if (all[i]->dp[AMX_DPBSSD])
            mistake_3_signed_bytes(all[i]);
        if (all[i]->dp[AMX_DPBF16PS]) {
            mistake_10_subtract_near_ftz(all[i]);
            two_chains(all[i]);
            mxcsr_untouched(all[i]);
        }
        for (unsigned op = 0; op < ARRAY_SIZE(dp_name); op++) {
            if (!all[i]->dp[op])
                continue;
            if (all[i] != &amx_kernels_scalar)
                kernel_equals_scalar(all[i], op);
            if (argc > 1 && !strcmp(argv[1], "--speed"))
                speed(all[i], op);
        }
    }
    choice();
    return tap_done();
}
