// SPDX-License-Identifier: MIT
// x87 and MMX instructions without FXRSTOR and FXSAVE, for the usual case of masked exceptions.
#pragma once

#include "cpu/vec/exec.h"

/* Fill in s->shape and generate (d)'s fast code into (buf). Its length, or 0 when it has none. */
unsigned x87_fast_build(const struct decoded *d, const struct vec_regs *r, struct vec_stub *s, u8 *buf);

/* Ops for stubs that have fast code; they fall back on the op_vec_frame ones. */
op_fn op_fast_reg, op_fast_load, op_fast_store;
