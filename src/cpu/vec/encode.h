// SPDX-License-Identifier: MIT
// Re-encoding of a decoded instruction for 64-bit mode, with operands where a stub wants them.
#pragma once

#include "cpu/decode/decode.h"

#define ENC_MEM_REG REG_RSI /* the memory operand becomes [RSI] */
#define ENC_GPR REG_R8      /* a general register operand becomes R8 */
#define ENC_MAX 15

/*
 * Write (d)'s instruction to (out) as 64-bit code means it: same opcode, vector and mask
 * registers, immediate; memory and general register operands replaced; segment and
 * address-size prefixes gone. Returns its length.
 */
unsigned vec_encode(const struct decoded *d, u8 out[ENC_MAX]);
