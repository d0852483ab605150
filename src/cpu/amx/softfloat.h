// SPDX-License-Identifier: MIT
// Single-precision arithmetic as TMUL does it: round to nearest even, DAZ, FTZ, no exceptions.
#pragma once

#include "base/types.h"

/*
 * Operands and results are binary32 encodings. Denormal operands count as zeros of
 * their sign. A result is flushed to a zero of its sign when it is tiny after rounding:
 * its value, rounded to 24 bits as if the exponent had no lower end, is below 2^-126.
 */
u32 amx_f32_fma(u32 a, u32 b, u32 c); /* a * b + c, rounded once */
u32 amx_f32_add(u32 a, u32 b);

/* The same with denormal operands taken for what they are (DAZ = 0); results are flushed as above. */
u32 amx_f32_fma_denormal(u32 a, u32 b, u32 c);
u32 amx_f32_add_denormal(u32 a, u32 b);

/* Exact, denormals too; a NaN keeps its payload and becomes quiet. */
u32 amx_f16_to_f32(u16 v);

/* (v) * 2^exp, rounded once; the magnitude of a result is at least 2^-126, and 0 gives +0. */
u32 amx_f32_from_fixed(s128 v, int exp);
u32 amx_f32_from_s32(s32 v);

/*
 * To the narrower formats: nearest even, denormal operands are zeros of their sign, a NaN keeps what fits
 * of its payload and becomes quiet. Of the results only binary16 has denormals: bfloat16's exponent is binary32's.
 */
u16 amx_f32_to_bf16(u32 v);
u16 amx_f32_to_f16(u32 v);
