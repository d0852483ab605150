// SPDX-License-Identifier: MIT
// What the host's CPUID and XCR0 say, asked once.

#include "cpu/sys/cpuid.h"

#include <cpuid.h>
#include <pthread.h>
#include <string.h>

/*
 * Theory of operation. CPUID costs microseconds on virtual machines, so the leaves that
 * matter are read into a table on first use and never again. Vector features count only
 * where XCR0 enables their registers: raw CPUID speaks for the silicon, not for the
 * system that runs on it.
 */

struct cached {
    u32 leaf, index, out[4];
};

static struct cached cache[64];
static unsigned cached;
static u64 xcr0;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Leaves, and how many indices of each. */
static const struct {
    u32 leaf, count;
} wanted[] = {
    {1, 1},          {4, 5},          {7, 2},          {0xd, 2},        {0x80000001, 1},
    {0x80000002, 1}, {0x80000003, 1}, {0x80000004, 1}, {0x80000005, 1}, {0x80000006, 1},
    {0x80000007, 1}, {0x80000008, 1}, {0x8000001d, 5}, {0x80000021, 1},
};

static const u32 *ask(u32 leaf, u32 index)
{
    struct cached *e = &cache[cached++];

    e->leaf = leaf;
    e->index = index;
    __cpuid_count(leaf, index, e->out[0], e->out[1], e->out[2], e->out[3]);
    return e->out;
}

static void read_host(void)
{
    u32 max_basic = ask(0, 0)[0], max_ext = ask(0x80000000, 0)[0], lo, hi;

    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
        u32 leaf = wanted[i].leaf;

        if (leaf > (leaf & 0x80000000 ? max_ext : max_basic))
            continue;
        for (u32 index = 0; index < wanted[i].count; index++) {
            const u32 *out = ask(leaf, index);

            if (wanted[i].count > 2 && !(out[0] & 0x1f))
                break; /* cache leaves: no more caches */
        }
    }
    for (unsigned i = 0; i < cached; i++) {
        if (cache[i].leaf == 1 && cache[i].out[CPUID_ECX] & bit_OSXSAVE) {
            __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
            xcr0 = (u64)hi << 32 | lo;
        }
    }
}

void cpuid_host(u32 leaf, u32 index, u32 out[4])
{
    pthread_once(&once, read_host);
    memset(out, 0, 16);
    for (unsigned i = 0; i < cached; i++) {
        if (cache[i].leaf == leaf && cache[i].index == index)
            memcpy(out, cache[i].out, 16);
    }
}

u64 cpuid_host_xcr0(void)
{
    pthread_once(&once, read_host);
    return xcr0;
}

static bool host_bit(const struct cpuid_feature *f)
{
    u32 out[4];

    cpuid_host(f->leaf, f->index, out);
    return out[f->reg] & BIT(f->bit) && (cpuid_host_xcr0() & f->xcr0) == f->xcr0;
}

bool cpuid_host_has(const char *name)
{
    const struct cpuid_feature *f = cpuid_feature(name);

    return f && host_bit(f);
}

bool cpuid_feature_supported(const struct cpuid_feature *f)
{
    if (f->how == CPUID_HOST && !host_bit(f))
        return false;
    return (cpu_xcr0_supported() & f->xcr0) == f->xcr0;
}

/* AVX-512 without BW (Xeon Phi) is of no use here: mask registers are moved as 64 bits. */
u64 cpu_xcr0_supported(void)
{
    u64 val = XCR0_X87 | XCR0_SSE | XCR0_AMX;

    if (cpuid_host_has("avx"))
        val |= XCR0_AVX;
    if (val & XCR0_AVX && cpuid_host_has("avx512f") && cpuid_host_has("avx512bw"))
        val |= XCR0_AVX512;
    return val;
}
