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
