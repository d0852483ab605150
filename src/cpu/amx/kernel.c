// SPDX-License-Identifier: MIT
// Choice of the AMX kernels by what the host can run.

#include "cpu/amx/kernel.h"

#include "cpu/cpu.h"
#include "cpu/sys/cpuid.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Best first. */
static const struct amx_kernels *const all[] = {&amx_kernels_amx,    &amx_kernels_vnni,
                                                &amx_kernels_avx512, &amx_kernels_avxvnni,
                                                &amx_kernels_avx2,   &amx_kernels_scalar};

static const struct amx_kernels *chosen;
/* Written once, with (chosen); whoever finds NULL here sees to that first. */
static _Atomic(amx_dp_fn *) chosen_dp[AMX_DP_COUNT];
static _Atomic(amx_rows_fn *) chosen_rows;
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

bool amx_kernels_usable(const struct amx_kernels *k)
{
    if (k == &amx_kernels_amx)
        return cpuid_host_has("amx_tile") && cpuid_host_has("amx_int8") &&
               cpuid_host_has("amx_bf16") && (cpuid_host_xcr0() & XCR0_AMX) == XCR0_AMX &&
               amx_host_request() == 0;
    if (k == &amx_kernels_vnni)
        return cpuid_host_has("avx512f") && cpuid_host_has("avx512bw") &&
               cpuid_host_has("avx512_vnni");
    if (k == &amx_kernels_avx512)
        return cpuid_host_has("avx512f") && cpuid_host_has("avx512bw");
    if (k == &amx_kernels_avxvnni)
        return cpuid_host_has("avx2") && cpuid_host_has("avx_vnni");
    if (k == &amx_kernels_avx2)
        return cpuid_host_has("avx2") && cpuid_host_has("fma") && cpuid_host_has("f16c");
    return k == &amx_kernels_scalar;
}

int amx_kernels_named(const char *name, const struct amx_kernels **ret)
{
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (name && *name && strcmp(name, all[i]->name))
            continue;
        if (amx_kernels_usable(all[i])) {
            *ret = all[i];
            return 0;
        }
        if (name && *name)
            return -ENOTSUP;
    }
    return -ENOENT;
}

/* Kernels that (chosen) lacks come from the best of those that are listed after it. */
static void choose_each(void)
{
    bool seen = false;

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        seen = seen || all[i] == chosen;
        if (!seen || !amx_kernels_usable(all[i]))
            continue;
        for (unsigned op = 0; op < AMX_DP_COUNT; op++) {
            if (!chosen_dp[op])
                chosen_dp[op] = all[i]->dp[op];
        }
        if (!chosen_rows)
            chosen_rows = all[i]->rows;
    }
}

static void choose(void)
{
    if (amx_kernels_named(getenv("UVIRT_AMX"), &chosen))
        amx_kernels_named(NULL, &chosen);
    choose_each();
}

const struct amx_kernels *amx_kernels(void)
{
    pthread_once(&chosen_once, choose);
    return chosen;
}

amx_dp_fn *amx_dp_kernel(enum amx_dp op)
{
    amx_dp_fn *dp = atomic_load_explicit(&chosen_dp[op], memory_order_relaxed);

    if (likely(dp))
        return dp;
    pthread_once(&chosen_once, choose);
    return chosen_dp[op];
}

amx_rows_fn *amx_rows_kernel(void)
{
    amx_rows_fn *rows = atomic_load_explicit(&chosen_rows, memory_order_relaxed);

    if (likely(rows))
        return rows;
    pthread_once(&chosen_once, choose);
    return chosen_rows;
}
