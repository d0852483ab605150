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
}

const struct amx_kernels *amx_kernels(void)
{
    pthread_once(&chosen_once, choose);
    return chosen;
}
