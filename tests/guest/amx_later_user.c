// SPDX-License-Identifier: MIT
// Instructions of later AMX generations in a guest: those of the features named on the command line work, the others are illegal.

#include "guest/tile.h"
#include "tap.h"

#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>

/* One row of one dword each: what it gives is known without a computer. */
static uint8_t cfg[64] __attribute__((aligned(64))), a[64], b[64], c[64], zmm[64];

static void load_row(const void *from, int tile)
{
    switch (tile) {
    case 0:
        TILE_LOAD(0, from);
        break;
    case 1:
        TILE_LOAD(1, from);
        break;
    default:
        TILE_LOAD(2, from);
        break;
    }
}

#define PRODUCT(name, bytes)                                                                       \
    static void name(void)                                                                         \
    {                                                                                              \
        __asm__ volatile(".byte " bytes);                                                          \
        TILE_STORE(0, c);                                                                          \
    }
PRODUCT(tdpfp16ps, "0xc4,0xe2,0x6b,0x5c,0xc1")
PRODUCT(tcmmimfp16ps, "0xc4,0xe2,0x69,0x6c,0xc1")
PRODUCT(tcmmrlfp16ps, "0xc4,0xe2,0x68,0x6c,0xc1")
PRODUCT(tdpbf8ps, "0xc4,0xe5,0x68,0xfd,0xc1")
PRODUCT(tdpbhf8ps, "0xc4,0xe5,0x6b,0xfd,0xc1")
PRODUCT(tdphbf8ps, "0xc4,0xe5,0x6a,0xfd,0xc1")
PRODUCT(tdphf8ps, "0xc4,0xe5,0x69,0xfd,0xc1")
PRODUCT(tmmultf32ps, "0xc4,0xe2,0x69,0x48,0xc1")

static void tileloaddrs(void)
{
    __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x4a,0x04,0x10" : : "a"(a), "d"(64L) : "memory");
    TILE_STORE(0, c);
}

/* tcvtrowps2bf16l zmm1, tmm1, ecx */
static void tcvtrow(void)
{
    __asm__ volatile(".byte 0x62,0xf2,0x76,0x48,0x6d,0xc9\n\tvmovdqu64 %%zmm1, %1"
                     :
                     : "c"(0), "m"(zmm)
                     : "memory");
    memcpy(c, zmm, 4);
}

static const struct {
    const char *feature, *name;
    void (*run)(void);
    uint32_t a, b, want;
} cases[] = {
    {"amx_fp16", "TDPFP16PS (1, 2) (3, 4)", tdpfp16ps, 0x40003c00, 0x44004200, 0x41300000},
    {"amx_complex", "TCMMIMFP16PS (1 + 2i) (3 + 4i)", tcmmimfp16ps, 0x40003c00, 0x44004200,
     0x41200000},
    {"amx_complex", "TCMMRLFP16PS (1 + 2i) (3 + 4i)", tcmmrlfp16ps, 0x40003c00, 0x44004200,
     0xc0a00000},
    {"amx_fp8", "TDPBF8PS (1, 2, -1, 1/2) (1, 1, 1, 4)", tdpbf8ps, 0x38bc403c, 0x443c3c3c,
     0x40800000},
    {"amx_fp8", "TDPBHF8PS (1, 2, 0, 0) (1, 448, 0, 0)", tdpbhf8ps, 0x0000403c, 0x00007e38,
     0x44604000},
    {"amx_fp8", "TDPHBF8PS (448, 1, 0, 0) (2, 1, 0, 0)", tdphbf8ps, 0x0000387e, 0x00003c40,
     0x44604000},
    {"amx_fp8", "TDPHF8PS (1, 1, 1, 1) (1, 1, 1, 1)", tdphf8ps, 0x38383838, 0x38383838, 0x40800000},
    {"amx_tf32", "TMMULTF32PS 3 * 4", tmmultf32ps, 0x40400fff, 0x40800000, 0x41400000},
    {"amx_movrs", "TILELOADDRS", tileloaddrs, 0x12345678, 0, 0x12345678},
    {"amx_avx512", "TCVTROWPS2BF16L 1.5", tcvtrow, 0x3fc00001, 0, 0x00003fc0},
};

/* In code that runs often enough to be translated: rows come among vector instructions that use them. */
static void hot(void)
{
    uint64_t sum[8] __attribute__((aligned(64))) = {0}, tile[128] __attribute__((aligned(64))),
                    bad = 0;
    long rounds = 100000;

    for (int i = 0; i < 128; i++)
        tile[i] = (uint64_t)i * 0x123456789abcdefu;
    tile_configure();
    TILE_LOAD(1, tile);
    __asm__ volatile("vpxorq %%zmm17, %%zmm17, %%zmm17\n"
                     "1:\tmov %k0, %%ecx\n\t"
                     ".byte 0x62,0xe2,0x75,0x48,0x4a,0xc1\n\t" /* tilemovrow zmm16, tmm1, ecx */
                     "vpaddq %%zmm16, %%zmm17, %%zmm17\n\t"
                     "dec %0\n\tjnz 1b\n\t"
                     "vmovdqa64 %%zmm17, %1"
                     : "+r"(rounds), "=m"(sum)
                     :
                     : "rcx", "memory", "cc");
    TILE_RELEASE();
    for (int column = 0; column < 8; column++) {
        uint64_t want = 0;

        for (long i = 100000; i; i--)
            want += tile[i % 16 * 8 + column];
        bad += sum[column] != want;
    }
    ok(!bad, "TILEMOVROW in a loop of 100000 rounds");
}

static sigjmp_buf back;

static void on_sigill(int sig)
{
    siglongjmp(back, 1);
}

static int wanted(const char *feature, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], feature))
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned eax = 0, ebx, ecx, edx;

    signal(SIGILL, on_sigill);
    if (!ok(tile_permission() == 0, "the kernel permits tiles"))
        return tap_done();
    __cpuid_count(0x1e, 0, eax, ebx, ecx, edx);
    if (eax)
        __cpuid_count(0x1e, 1, eax, ebx, ecx, edx);
    ok(!(eax & 0x10) == !wanted("amx_fp8", argc, argv), "CPUID.1E.1 has FP8 or not, as told");
    cfg[0] = 1;
    for (int t = 0; t < 3; t++) {
        cfg[16 + 2 * t] = 4;
        cfg[48 + t] = 1;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t got = 0;
        int ran = 0;

        memcpy(a, &cases[i].a, 4);
        memcpy(b, &cases[i].b, 4);
        memset(c, 0, 4);
        if (!sigsetjmp(back, 1)) {
            __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x00" : : "a"(cfg) : "memory");
            load_row(c, 0);
            load_row(a, 1);
            load_row(b, 2);
            cases[i].run();
            ran = 1;
        }
        memcpy(&got, c, 4);
        if (wanted(cases[i].feature, argc, argv))
            ok(ran && got == cases[i].want, "%s is %#x", cases[i].name, cases[i].want);
        else
            ok(!ran, "%s is illegal without %s", cases[i].name, cases[i].feature);
    }
    if (wanted("amx_avx512", argc, argv))
        hot();
    return tap_done();
}
