// SPDX-License-Identifier: MIT
// Choice of the AMX kernels by what the host can run.

#include "cpu/amx/kernel.h"

#include "cpu/sys/cpuid.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Best first. */
static const struct amx_kernels *const all[] = {&amx_kernels_vnni, &amx_kernels_avx2,
                                                &amx_kernels_scalar};

static const struct amx_kernels *chosen;
static amx_dp_fn *chosen_dp[AMX_DP_COUNT]; /* written once, with (chosen) */
static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;

bool amx_kernels_usable(const struct amx_kernels *k)
{
    if (k == &amx_kernels_vnni)
        return cpuid_host_has("avx512f") && cpuid_host_has("avx512bw") &&
               cpuid_host_has("avx512_vnni");
    if (k == &amx_kernels_avx2)
        return cpuid_host_has("avx2") && cpuid_host_has("fma");
    return k == &amx_kernels_scalar;
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
    }
}

static void choose(void)
{
    const char *name = getenv("UVIRT_AMX");

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        if (!amx_kernels_usable(all[i]))
            continue;
        if (!chosen)
            chosen = all[i];
        if (name && !strcmp(name, all[i]->name))
            chosen = all[i];
    }
    choose_each();
}

const struct amx_kernels *amx_kernels(void)
{
    pthread_once(&chosen_once, choose);
    return chosen;
}

amx_dp_fn *amx_dp_kernel(enum amx_dp op)
{
    pthread_once(&chosen_once, choose);
    return chosen_dp[op];
}
