// SPDX-License-Identifier: MIT
// What bit.c and bmi.c share: the VEX-encoded bit instructions.
#pragma once

#include "cpu/interp/alu.h"

/* One of BMI1 and BMI2: handlers by [memory][64 bits], and whether it is BMI2's. */
struct bmi {
    op_fn *op[2][2];
    bool bmi2;
};

#define BMI_LIST(macro)                                                                            \
    macro(ANDN) macro(BEXTR) macro(BLSI) macro(BLSMSK) macro(BLSR) macro(BZHI) macro(MULX)         \
        macro(PDEP) macro(PEXT) macro(RORX) macro(SARX) macro(SHLX) macro(SHRX)

#define BMI_DECLARE(name) extern const struct bmi bmi_##name;
BMI_LIST(BMI_DECLARE)
#undef BMI_DECLARE

/* -ENOENT where the host has no BMI. */
lower_fn lower_bmi;
