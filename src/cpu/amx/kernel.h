// SPDX-License-Identifier: MIT
// The arithmetic of AMX on plain memory: one interface, several implementations, all bit-exact.
#pragma once

#include "base/types.h"

/* A tile register: 16 rows of 64 bytes, 64-byte aligned. */
typedef u8 amx_tile_t[16][64];

/*
 * (c) += (a) x (b) for (m) rows of (n) dwords with (k) dwords in each row of (a); each
 * 1-16. (b) has (k) rows of (n) dwords. All other bytes of (c) become zero. What lies outside
 * (m), (n) and (k) in the sources has no influence. (c) aliases neither source; (a) and (b)
 * may alias. MXCSR is neither used nor changed. SDM 2 TDPBSSD, TDPBF16PS.
 */
typedef void amx_dp_fn(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n,
                       unsigned k);

/*
 * Copy (rows) rows of 64 bytes in order, first to last; from one to the next (dst) and (src) go on by their
 * strides. No alignment is needed.
 */
typedef void amx_rows_fn(u8 *dst, u64 dst_stride, const u8 *src, u64 src_stride, unsigned rows);

enum amx_dp {
    AMX_DPBSSD,
    AMX_DPBSUD,
    AMX_DPBUSD,
    AMX_DPBUUD,
    AMX_DPBF16PS,
    AMX_DPFP16PS,
    AMX_CMMIMFP16PS,
    AMX_CMMRLFP16PS,
    AMX_DPBF8PS,
    AMX_DPBHF8PS,
    AMX_DPHBF8PS,
    AMX_DPHF8PS,
    AMX_MMULTF32PS,
    AMX_DP_COUNT
};

struct amx_kernels {
    const char *name;            /* as UVIRT_AMX has it */
    amx_dp_fn *dp[AMX_DP_COUNT]; /* NULL: none that is faster than the next best kernels' */
    amx_rows_fn *rows;           /* NULL: likewise */
};

extern const struct amx_kernels
    amx_kernels_scalar; /* the reference: SDM pseudocode, soft floating point */
extern const struct amx_kernels amx_kernels_avx2;    /* needs AVX2, FMA and F16C */
extern const struct amx_kernels amx_kernels_avxvnni; /* needs AVX2 and AVX-VNNI; INT8 forms alone */
extern const struct amx_kernels amx_kernels_avx512;  /* needs AVX-512 F and BW; no INT8 forms */
extern const struct amx_kernels amx_kernels_vnni;    /* needs AVX-512 F, BW and VNNI */
extern const struct amx_kernels
    amx_kernels_amx; /* needs AMX-TILE, INT8 and BF16, and the host system's permission */

/* True if this host can run (k). For amx_kernels_amx this asks the host's system for permission. */
bool amx_kernels_usable(const struct amx_kernels *k);

/* Ask the host's system to let this process use tiles. 0, or -1: it will not. host.c. */
int amx_host_request(void);

/* Names that UVIRT_AMX takes, for messages. */
#define AMX_KERNELS_NAMES "scalar, avx2, avxvnni, avx512, vnni, amx"

/*
 * The kernels named (name), or this host's best where it is NULL or empty. 0, -ENOENT when no
 * kernels are named so, -ENOTSUP when this host cannot run them.
 */
int amx_kernels_named(const char *name, const struct amx_kernels **ret);

/*
 * The kernels that UVIRT_AMX names, or the best where it names none that this host can run.
 * Chosen at the first call. Any thread.
 */
const struct amx_kernels *amx_kernels(void);

/* The kernel for (op) among those of amx_kernels(), or else of the next best. */
amx_dp_fn *amx_dp_kernel(enum amx_dp op);
amx_rows_fn *amx_rows_kernel(void);
