// SPDX-License-Identifier: MIT
// Kernels for the floating-point forms after BF16, as entries for the tables of kernel.h.
#pragma once

#include "cpu/amx/kernel.h"

#define AMX_FP_DECLARE(set)                                                                        \
    amx_dp_fn amx_##set##_dpfp16ps, amx_##set##_cmmimfp16ps, amx_##set##_cmmrlfp16ps,              \
        amx_##set##_dpbf8ps, amx_##set##_dpbhf8ps, amx_##set##_dphbf8ps, amx_##set##_dphf8ps,      \
        amx_##set##_mmultf32ps

AMX_FP_DECLARE(avx2);   /* need AVX2, FMA and F16C */
AMX_FP_DECLARE(avx512); /* need AVX-512 F and BW */

/* What a struct amx_kernels has in (dp) for them. */
#define AMX_FP_ENTRIES(set)                                                                        \
    [AMX_DPFP16PS] = amx_##set##_dpfp16ps, [AMX_CMMIMFP16PS] = amx_##set##_cmmimfp16ps,            \
    [AMX_CMMRLFP16PS] = amx_##set##_cmmrlfp16ps, [AMX_DPBF8PS] = amx_##set##_dpbf8ps,              \
    [AMX_DPBHF8PS] = amx_##set##_dpbhf8ps, [AMX_DPHBF8PS] = amx_##set##_dphbf8ps,                  \
    [AMX_DPHF8PS] = amx_##set##_dphf8ps, [AMX_MMULTF32PS] = amx_##set##_mmultf32ps
