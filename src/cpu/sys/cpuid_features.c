// SPDX-License-Identifier: MIT
// The feature bits that a guest can be offered, one row a bit.

#include "cpu/sys/cpuid.h"

#define AVX    (XCR0_SSE | XCR0_AVX)
#define AVX512 (AVX | XCR0_AVX512)
#define AMX    XCR0_AMX

/* Leaf, index, register. */
#define L1C  1, 0, CPUID_ECX
#define L1D  1, 0, CPUID_EDX
#define L7B  7, 0, CPUID_EBX
#define L7C  7, 0, CPUID_ECX
#define L7D  7, 0, CPUID_EDX
#define L71A 7, 1, CPUID_EAX
#define L71D 7, 1, CPUID_EDX
#define LDA  0xd, 1, CPUID_EAX
#define TMUL 0x1e, 1, CPUID_EAX
#define E1C  0x80000001, 0, CPUID_ECX
#define E1D  0x80000001, 0, CPUID_EDX
#define E7D  0x80000007, 0, CPUID_EDX
#define E8B  0x80000008, 0, CPUID_EBX
#define E21A 0x80000021, 0, CPUID_EAX
#define E21C 0x80000021, 0, CPUID_ECX

#define HOST  CPUID_HOST
#define SOFT  CPUID_SOFT
#define SPR   CPUID_SPR
#define GNR   CPUID_GNR
#define DMR   CPUID_DMR
#define INTEL CPUID_INTEL
#define AMD   CPUID_AMD

/*
 * Left out on purpose: MONITOR/MWAIT (a spinning guest would burn a host core), PKU, CET and
 * XSS components (no state for them), LA57, VMX and SVM, performance counters, TSX, PT, SGX,
 * ENQCMD, UINTR, WAITPKG, MPX; MISALIGNSSE, whose MXCSR bit guests do not have; FMA4, XOP, TBM,
 * 3DNow!; and what the decoder does not know (AVX-IFMA, AVX-VNNI-INT8 …).
 *
 * AMX-TF32 is in no model: Intel took it back before there was a CPU with it.
 */
const struct cpuid_feature cpuid_features[] = {
    {L1C, 0, HOST, SPR, 0, "pni"},
    {L1C, 1, HOST, SPR, 0, "pclmulqdq"},
    {L1C, 9, HOST, SPR, 0, "ssse3"},
    {L1C, 12, HOST, SPR, AVX, "fma"},
    {L1C, 13, HOST, SPR, 0, "cx16"},
    {L1C, 17, SOFT, SPR, 0, "pcid"},
    {L1C, 19, HOST, SPR, 0, "sse4_1"},
    {L1C, 20, HOST, SPR, 0, "sse4_2"},
    {L1C, 21, SOFT, SPR, 0, "x2apic"},
    {L1C, 22, SOFT, SPR, 0, "movbe"},
    {L1C, 23, HOST, SPR, 0, "popcnt"},
    {L1C, 24, SOFT, SPR, 0, "tsc_deadline_timer"},
    {L1C, 25, HOST, SPR, 0, "aes"},
    {L1C, 26, SOFT, SPR, 0, "xsave"},
    {L1C, 28, HOST, SPR, AVX, "avx"},
    {L1C, 29, HOST, SPR, AVX, "f16c"},
    {L1C, 30, SOFT, SPR, 0, "rdrand"},
    {L1C, 31, SOFT, SPR, 0, "hypervisor"},

    {L1D, 0, SOFT, SPR, 0, "fpu"},
    {L1D, 2, SOFT, SPR, 0, "de"},
    {L1D, 3, SOFT, SPR, 0, "pse"},
    {L1D, 4, SOFT, SPR, 0, "tsc"},
    {L1D, 5, SOFT, SPR, 0, "msr"},
    {L1D, 6, SOFT, SPR, 0, "pae"},
    {L1D, 7, SOFT, SPR, 0, "mce"},
    {L1D, 8, SOFT, SPR, 0, "cx8"},
    {L1D, 9, SOFT, SPR, 0, "apic"},
    {L1D, 11, SOFT, SPR, 0, "sep"},
    {L1D, 12, SOFT, SPR, 0, "mtrr"},
    {L1D, 13, SOFT, SPR, 0, "pge"},
    {L1D, 14, SOFT, SPR, 0, "mca"},
    {L1D, 15, SOFT, SPR, 0, "cmov"},
    {L1D, 16, SOFT, SPR, 0, "pat"},
    {L1D, 17, SOFT, SPR, 0, "pse36"},
    {L1D, 19, SOFT, SPR, 0, "clflush"},
    {L1D, 23, HOST, SPR, 0, "mmx"},
    {L1D, 24, SOFT, SPR, 0, "fxsr"},
    {L1D, 25, HOST, SPR, 0, "sse"},
    {L1D, 26, HOST, SPR, 0, "sse2"},

    {L7B, 0, SOFT, SPR, 0, "fsgsbase"},
    {L7B, 1, SOFT, SPR, 0, "tsc_adjust"},
    {L7B, 3, HOST, SPR, 0, "bmi1"},
    {L7B, 5, HOST, SPR, AVX, "avx2"},
    {L7B, 7, SOFT, SPR, 0, "smep"},
    {L7B, 8, HOST, SPR, 0, "bmi2"},
    {L7B, 9, SOFT, SPR, 0, "erms"},
    {L7B, 10, SOFT, SPR, 0, "invpcid"},
    {L7B, 13, SOFT, SPR, 0, "zero_fcs_fds"},
    {L7B, 16, HOST, SPR, AVX512, "avx512f"},
    {L7B, 17, HOST, SPR, AVX512, "avx512dq"},
    {L7B, 18, SOFT, SPR, 0, "rdseed"},
    {L7B, 19, HOST, SPR, 0, "adx"},
    {L7B, 20, SOFT, SPR, 0, "smap"},
    {L7B, 21, HOST, SPR, AVX512, "avx512ifma"},
    {L7B, 23, SOFT, SPR, 0, "clflushopt"},
    {L7B, 24, SOFT, SPR, 0, "clwb"},
    {L7B, 28, HOST, SPR, AVX512, "avx512cd"},
    {L7B, 29, HOST, SPR, 0, "sha_ni"},
    {L7B, 30, HOST, SPR, AVX512, "avx512bw"},
    {L7B, 31, HOST, SPR, AVX512, "avx512vl"},

    {L7C, 1, HOST, SPR, AVX512, "avx512vbmi"},
    {L7C, 2, SOFT, SPR, 0, "umip"},
    {L7C, 6, HOST, SPR, AVX512, "avx512_vbmi2"},
    {L7C, 8, HOST, SPR, 0, "gfni"},
    {L7C, 9, HOST, SPR, AVX, "vaes"},
    {L7C, 10, HOST, SPR, AVX, "vpclmulqdq"},
    {L7C, 11, HOST, SPR, AVX512, "avx512_vnni"},
    {L7C, 12, HOST, SPR, AVX512, "avx512_bitalg"},
    {L7C, 14, HOST, SPR, AVX512, "avx512_vpopcntdq"},
    {L7C, 22, SOFT, SPR, 0, "rdpid"},
    {L7C, 27, SOFT, SPR, 0, "movdiri"},
    {L7C, 28, SOFT, SPR, 0, "movdir64b"},

    {L7D, 4, SOFT, SPR, 0, "fsrm"},
    {L7D, 8, HOST, 0, AVX512, "avx512_vp2intersect"},
    {L7D, 22, SOFT, SPR, AMX, "amx_bf16"},
    {L7D, 23, HOST, SPR, AVX512, "avx512_fp16"},
    {L7D, 24, SOFT, SPR, AMX, "amx_tile"},
    {L7D, 25, SOFT, SPR, AMX, "amx_int8"},
    {L7D, 29, SOFT, SPR | INTEL, 0, "arch_capabilities"},

    {L71A, 4, HOST, SPR, AVX, "avx_vnni"},
    {L71A, 5, HOST, SPR, AVX512, "avx512_bf16"},
    {L71A, 10, SOFT, SPR, 0, "fzrm"},
    {L71A, 11, SOFT, SPR, 0, "fsrs"},
    {L71A, 12, SOFT, SPR, 0, "fsrc"},
    {L71A, 21, SOFT, GNR, AMX, "amx_fp16"},
    {L71D, 8, SOFT, DMR, AMX, "amx_complex"},

    {TMUL, 4, SOFT, DMR, AMX, "amx_fp8"},
    {TMUL, 6, SOFT, 0, AMX, "amx_tf32"},
    {TMUL, 7, SOFT, DMR, AMX | AVX512, "amx_avx512"},
    {TMUL, 8, SOFT, DMR, AMX, "amx_movrs"},

    {LDA, 0, SOFT, SPR, 0, "xsaveopt"},
    {LDA, 1, SOFT, SPR, 0, "xsavec"},
    {LDA, 2, SOFT, SPR, 0, "xgetbv1"},
    {LDA, 3, SOFT, SPR, 0, "xsaves"},
    {LDA, 4, SOFT, SPR, AMX, "xfd"},

    {E1C, 0, SOFT, SPR, 0, "lahf_lm"},
    {E1C, 5, HOST, SPR, 0, "abm"},
    {E1C, 6, HOST, AMD, 0, "sse4a"},
    {E1C, 8, SOFT, SPR, 0, "3dnowprefetch"},

    {E1D, 11, SOFT, SPR, 0, "syscall"},
    {E1D, 20, SOFT, SPR, 0, "nx"},
    {E1D, 22, HOST, AMD, 0, "mmxext"},
    {E1D, 26, SOFT, SPR, 0, "pdpe1gb"},
    {E1D, 27, SOFT, SPR, 0, "rdtscp"},
    {E1D, 29, SOFT, SPR, 0, "lm"},

    {E7D, 8, HOST, SPR, 0, "constant_tsc"},

    {E8B, 2, SOFT, AMD, 0, "xsaveerptr"},
    {E8B, 26, SOFT, AMD, 0, "amd_ssb_no"},
    {E8B, 29, SOFT, AMD, 0, "btc_no"},

    {E21A, 0, SOFT, AMD, 0, "no_nested_data_bp"},
    {E21A, 2, SOFT, AMD, 0, "lfence_rdtsc"},
    {E21A, 6, SOFT, AMD, 0, "null_sel_clr_base"},
    {E21A, 29, SOFT, AMD, 0, "srso_no"},
    {E21A, 30, SOFT, AMD, 0, "srso_user_kernel_no"},
    {E21C, 1, SOFT, AMD, 0, "tsa_sq_no"},
    {E21C, 2, SOFT, AMD, 0, "tsa_l1_no"},
    {E21C, 7, SOFT, AMD, 0, "tsa_fill_no"},
    {0},
};

/* Are the names equal, where '-' is as good as '_'? */
static bool same_name(const char *a, const char *b)
{
    while (*a && (*a == *b || (*a == '_' && *b == '-'))) {
        a++;
        b++;
    }
    return *a == *b;
}

const struct cpuid_feature *cpuid_feature(const char *name)
{
    for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
        if (same_name(f->name, name))
            return f;
    }
    return NULL;
}

u32 cpuid_tmul_word(u32 own, u32 edx7_0, u32 eax7_1, u32 edx7_1)
{
    if (!own)
        return 0;
    return own | (edx7_0 >> 25 & 1) | (edx7_0 >> 22 & 1) << 1 | (edx7_1 >> 8 & 1) << 2 |
           (eax7_1 >> 21 & 1) << 3;
}
