// SPDX-License-Identifier: MIT
// The ops behind ops_far, over their three files.
#pragma once

#include "cpu/sys/desc.h"

/* far.c */
op_fn op_far_jmp, op_far_call;

/* far_ret.c */
op_fn op_far_ret, op_iret;

/* softint.c */
op_fn op_int, op_int1, op_int3, op_into, op_bound;
