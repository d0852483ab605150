// SPDX-License-Identifier: MIT
// What the files behind ops_mov share: handlers of the flags and of the conditional moves.
#pragma once

#include "cpu/interp/alu.h"

/* flag.c: SDM 2A/2B CLC … STD, LAHF, SAHF; SALC sets AL to 0xff or 0 by CF. */
op_fn flag_lahf, flag_sahf, flag_salc, flag_cmc, flag_clc, flag_stc, flag_cld, flag_std;

/* cond.c: SETcc and CMOVcc by condition number. */
extern op_fn *const setcc_ops[16][2];   /* [memory] */
extern op_fn *const cmov_ops[16][4][2]; /* [size][memory] */
lower_fn lower_setcc, lower_cmov;
