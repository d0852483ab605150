// SPDX-License-Identifier: MIT
// AMX-AVX512: one row of a tile to a zmm register, as it is or converted.

#include "cpu/amx/check.h"
#include "cpu/amx/softfloat.h"

#include <string.h>

#define XCR0_ZMM (XCR0_SSE | XCR0_AVX | XCR0_AVX512)

/*
 * The row's number is in the low four bits of the register or immediate; the others are ignored. A row
 * that the tile does not have reads as zeros, as columns that it does not have do. Conversions round to
 * nearest even, do not look at MXCSR and raise nothing. ISA extensions reference, TILEMOVROW ff.
 */

static u32 convert(enum amx_row how, u32 v)
{
    switch (how) {
    case AMX_ROW_D2PS:
        return amx_f32_from_s32((s32)v);
    case AMX_ROW_PS2BF16H:
        return (u32)amx_f32_to_bf16(v) << 16;
    case AMX_ROW_PS2BF16L:
        return amx_f32_to_bf16(v);
    case AMX_ROW_PS2PHH:
        return (u32)amx_f32_to_f16(v) << 16;
    case AMX_ROW_PS2PHL:
        return amx_f32_to_f16(v);
    default:
        return v;
    }
}

static int check(struct cpu *c, const struct insn *in)
{
    int rc = amx_check_enabled(c, in);

    if (rc)
        return rc;
    if ((c->xcr0 & XCR0_ZMM) != XCR0_ZMM)
        return cpu_raise_ud(c);
    if (c->cr0 & CR0_TS)
        return cpu_raise(c, EXC_NM);
    rc = amx_check_xfd(c);
    if (rc)
        return rc;
    return amx_tile_dwords(&c->amx, in->rm) ? OP_NEXT : cpu_raise_ud(c);
}

int amx_op_row(struct cpu *c, const struct insn *in)
{
    struct cpu_amx *a = &c->amx;
    u64 number = in->x[2] ? in->imm : *insn_reg32(c, in->vvvv);
    unsigned row = number % AMX_ROWS;
    u32 out[AMX_ROW_BYTES / 4] = {0}, v;
    int rc = check(c, in);

    if (rc)
        return rc;
    if (a->tile_inuse && row < a->rows[in->rm]) {
        for (unsigned i = 0; i < a->colsb[in->rm] / 4u; i++) {
            memcpy(&v, a->tile[in->rm][row] + i * 4, 4);
            out[i] = convert(in->x[0], v);
        }
    }
    memcpy(c->vec.zmm[in->reg], out, sizeof(out));
    a->start_row = 0;
    return OP_NEXT;
}
