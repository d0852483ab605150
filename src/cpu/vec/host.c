// SPDX-License-Identifier: MIT
// Which vector instructions this host can run: CPUID and XCR0 against a table of instruction sets.

#include "cpu/vec/host.h"

#include <Zydis/SharedTypes.h>
#include <Zydis/MetaInfo.h>
#include <cpuid.h>
#include <pthread.h>

enum feature {
    MMX, SSE, SSE2, SSE3, SSSE3, SSE41, SSE42, SSE4A, AES, PCLMUL, SHA, GFNI, /* legacy forms */
    AVX, AVX2, F16C, FMA, VAES, VPCLMUL, AVX_VNNI,
    F, CD, DQ, BW, VL, IFMA, VBMI, VBMI2, VNNI, BITALG, VPOPCNT, BF16, FP16, VP2I,
    ALWAYS, FEATURES
};

/* Where CPUID reports a feature, and the XCR0 bits that it needs. */
struct cpuid_bit {
    u32 leaf, sub;
    u8 reg; /* 0 EAX … 3 EDX */
    u8 bit;
    u8 xcr0;
};

enum { EAX, EBX, ECX, EDX };
#define X_AVX 0x06
#define X_AVX512 0xe6

static const struct cpuid_bit where[FEATURES] = {
    [MMX] = {1, 0, EDX, 23, 0},       [SSE] = {1, 0, EDX, 25, 0},
    [SSE2] = {1, 0, EDX, 26, 0},      [SSE3] = {1, 0, ECX, 0, 0},
    [SSSE3] = {1, 0, ECX, 9, 0},      [SSE41] = {1, 0, ECX, 19, 0},
    [SSE42] = {1, 0, ECX, 20, 0},     [SSE4A] = {0x80000001, 0, ECX, 6, 0},
    [AES] = {1, 0, ECX, 25, 0},       [PCLMUL] = {1, 0, ECX, 1, 0},
    [SHA] = {7, 0, EBX, 29, 0},       [GFNI] = {7, 0, ECX, 8, 0},
    [AVX] = {1, 0, ECX, 28, X_AVX},   [AVX2] = {7, 0, EBX, 5, X_AVX},
    [F16C] = {1, 0, ECX, 29, X_AVX},  [FMA] = {1, 0, ECX, 12, X_AVX},
    [VAES] = {7, 0, ECX, 9, X_AVX},   [VPCLMUL] = {7, 0, ECX, 10, X_AVX},
    [AVX_VNNI] = {7, 1, EAX, 4, X_AVX},
    [F] = {7, 0, EBX, 16, X_AVX512},  [CD] = {7, 0, EBX, 28, X_AVX512},
    [DQ] = {7, 0, EBX, 17, X_AVX512}, [BW] = {7, 0, EBX, 30, X_AVX512},
    [VL] = {7, 0, EBX, 31, X_AVX512}, [IFMA] = {7, 0, EBX, 21, X_AVX512},
    [VBMI] = {7, 0, ECX, 1, X_AVX512},    [VBMI2] = {7, 0, ECX, 6, X_AVX512},
    [VNNI] = {7, 0, ECX, 11, X_AVX512},   [BITALG] = {7, 0, ECX, 12, X_AVX512},
    [VPOPCNT] = {7, 0, ECX, 14, X_AVX512}, [BF16] = {7, 1, EAX, 5, X_AVX512},
    [FP16] = {7, 0, EDX, 23, X_AVX512},   [VP2I] = {7, 0, EDX, 8, X_AVX512},
};

#define N(f) BIT(f)
#define SET_VL(name, need)                                                                         \
    [ZYDIS_ISA_SET_##name##_128] = (need) | N(VL) | N(F) | N(BW),                                  \
    [ZYDIS_ISA_SET_##name##_256] = (need) | N(VL) | N(F) | N(BW),                                  \
    [ZYDIS_ISA_SET_##name##_512] = (need) | N(F) | N(BW)

/* Features an instruction set needs; 0: not ours. BW stands in all AVX-512 rows because stubs move masks by KMOVQ. */
static const u64 needs[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
    [ZYDIS_ISA_SET_X87] = N(ALWAYS), [ZYDIS_ISA_SET_FCMOV] = N(ALWAYS), [ZYDIS_ISA_SET_PPRO] = N(ALWAYS),
    [ZYDIS_ISA_SET_SSE3X87] = N(SSE3),
    [ZYDIS_ISA_SET_PENTIUMMMX] = N(MMX), [ZYDIS_ISA_SET_SSE2MMX] = N(SSE2), [ZYDIS_ISA_SET_SSSE3MMX] = N(SSSE3),
    [ZYDIS_ISA_SET_SSE] = N(SSE), [ZYDIS_ISA_SET_SSE2] = N(SSE2), [ZYDIS_ISA_SET_SSE3] = N(SSE3),
    [ZYDIS_ISA_SET_SSSE3] = N(SSSE3), [ZYDIS_ISA_SET_SSE4] = N(SSE41), [ZYDIS_ISA_SET_SSE42] = N(SSE42),
    [ZYDIS_ISA_SET_SSE4A] = N(SSE4A), [ZYDIS_ISA_SET_AES] = N(AES), [ZYDIS_ISA_SET_PCLMULQDQ] = N(PCLMUL),
    [ZYDIS_ISA_SET_SHA] = N(SHA), [ZYDIS_ISA_SET_GFNI] = N(GFNI),
    [ZYDIS_ISA_SET_AVX] = N(AVX), [ZYDIS_ISA_SET_AVX2] = N(AVX2), [ZYDIS_ISA_SET_AVX2GATHER] = N(AVX2),
    [ZYDIS_ISA_SET_F16C] = N(F16C), [ZYDIS_ISA_SET_FMA] = N(FMA), [ZYDIS_ISA_SET_AVXAES] = N(AVX) | N(AES),
    [ZYDIS_ISA_SET_AVX_GFNI] = N(AVX) | N(GFNI), [ZYDIS_ISA_SET_AVX_VNNI] = N(AVX_VNNI),
    [ZYDIS_ISA_SET_VAES] = N(VAES), [ZYDIS_ISA_SET_VPCLMULQDQ] = N(VPCLMUL),
    SET_VL(AVX512F, 0), SET_VL(AVX512CD, N(CD)), SET_VL(AVX512DQ, N(DQ)), SET_VL(AVX512BW, N(BW)),
    [ZYDIS_ISA_SET_AVX512F_128N] = N(F) | N(BW), [ZYDIS_ISA_SET_AVX512F_SCALAR] = N(F) | N(BW),
    [ZYDIS_ISA_SET_AVX512F_KOP] = N(F) | N(BW), [ZYDIS_ISA_SET_AVX512DQ_128N] = N(DQ) | N(BW),
    [ZYDIS_ISA_SET_AVX512DQ_SCALAR] = N(DQ) | N(BW), [ZYDIS_ISA_SET_AVX512DQ_KOP] = N(DQ) | N(BW),
    [ZYDIS_ISA_SET_AVX512BW_128N] = N(BW), [ZYDIS_ISA_SET_AVX512BW_KOP] = N(BW),
    SET_VL(AVX512_IFMA, N(IFMA)), SET_VL(AVX512_VBMI, N(VBMI)), SET_VL(AVX512_VBMI2, N(VBMI2)),
    SET_VL(AVX512_VNNI, N(VNNI)), SET_VL(AVX512_BITALG, N(BITALG)), SET_VL(AVX512_BF16, N(BF16)),
    SET_VL(AVX512_VPOPCNTDQ, N(VPOPCNT)), SET_VL(AVX512_VP2INTERSECT, N(VP2I)), SET_VL(AVX512_GFNI, N(GFNI)),
    SET_VL(AVX512_VAES, N(VAES)), SET_VL(AVX512_VPCLMULQDQ, N(VPCLMUL)), SET_VL(AVX512_FP16, N(FP16)),
    [ZYDIS_ISA_SET_AVX512_FP16_128N] = N(FP16) | N(BW), [ZYDIS_ISA_SET_AVX512_FP16_SCALAR] = N(FP16) | N(BW),
};

static u64 features; /* written once under (once) */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static u32 xcr0_now(void)
{
    u32 lo, hi, a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & BIT(27)))
        return 0;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

static void init(void)
{
    u32 xcr0 = xcr0_now();
    u64 have = N(ALWAYS);

    for (unsigned i = 0; i < ALWAYS; i++) {
        const struct cpuid_bit *w = &where[i];
        u32 r[4];

        if (!__get_cpuid_count(w->leaf, w->sub, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
            continue;
        if (r[w->reg] & BIT(w->bit) && (xcr0 & w->xcr0) == w->xcr0)
            have |= N(i);
    }
    features = have;
}

static bool has(u64 need)
{
    pthread_once(&once, init);
    return (features & need) == need;
}

bool host_runs(u16 isa_set)
{
    return isa_set <= ZYDIS_ISA_SET_MAX_VALUE && needs[isa_set] && has(needs[isa_set]);
}

bool host_has_avx(void)
{
    return has(N(AVX));
}

bool host_has_avx512(void)
{
    return has(N(F) | N(BW));
}
