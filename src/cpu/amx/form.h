// SPDX-License-Identifier: MIT
// The AMX instructions as data: encoding, CPUID feature, exception class, operation.
#pragma once

#include "cpu/decode/decode.h"

/* CPUID features of the instructions; sys/cpuid_features.c has their bits, amx_features[] the names. */
enum amx_feature {
    AMX_TILE,
    AMX_INT8,
    AMX_BF16,
    AMX_FP16,
    AMX_COMPLEX,
    AMX_FP8,
    AMX_TF32,
    AMX_MOVRS,
    AMX_AVX512,
    AMX_FEATURES
};
extern const char *const amx_features[AMX_FEATURES]; /* "amx_tile", … */

/* Features (bits by enum amx_feature) that the guest's CPUID does not offer. */
u32 amx_features_missing(const struct cpu *c);

/* What ModRM holds, and the rest of the encoding that depends on it. */
enum amx_shape {
    AMX_SHAPE_MEM,     /* !(11):000:bbb */
    AMX_SHAPE_SIB,     /* !(11):rrr:100, tile in reg */
    AMX_SHAPE_NONE,    /* 11:000:000 */
    AMX_SHAPE_TILE,    /* 11:rrr:000 */
    AMX_SHAPE_TILES,   /* 11:rrr:bbb, and a third tile in VEX.vvvv */
    AMX_SHAPE_ROW_REG, /* 11:rrr:bbb, zmm from tile, row number in the register of EVEX.vvvv */
    AMX_SHAPE_ROW_IMM, /* 11:rrr:bbb ib, the same with the row number in an immediate */
};

enum amx_enc { AMX_ENC_VEX = 3, AMX_ENC_EVEX = 4 }; /* as struct decoded has them */
enum amx_map { AMX_MAP_0F38 = 2, AMX_MAP_0F3A = 3, AMX_MAP5 = 5 };
enum amx_pp { AMX_NP, AMX_66, AMX_F3, AMX_F2 };

/* One encoding. All are W0; VEX ones 128 bits long, EVEX ones 512. */
struct amx_form {
    const char *name;
    u16 mnemonic;
    u8 enc, map, pp, opcode; /* enum amx_enc, amx_map, amx_pp */
    u8 shape;                /* enum amx_shape */
    u8 feature;              /* enum amx_feature */
    u8 arg;                  /* of the op: enum amx_dp or amx_row */
    op_fn *op;
    const char *exceptions; /* class in SDM 2A 2.10 and the ISA extensions reference */
};

/* Ends with name == NULL. */
extern const struct amx_form amx_forms[];

/* The ops. in->x[0]: the form's (arg), x[1]: its (feature). Tiles: (reg), (rm), (vvvv). */
op_fn amx_op_ldtilecfg, amx_op_sttilecfg, amx_op_tilerelease, amx_op_tilezero;
op_fn amx_op_tileload, amx_op_tilestore, amx_op_dp;

/* reg: zmm, rm: tile; the row's number is the immediate if x[2], else the register at (vvvv) in cpu->r. */
op_fn amx_op_row;

/* What happens to each dword of a row on its way to a zmm register. */
enum amx_row {
    AMX_ROW_MOVE,
    AMX_ROW_D2PS,
    AMX_ROW_PS2BF16H,
    AMX_ROW_PS2BF16L,
    AMX_ROW_PS2PHH,
    AMX_ROW_PS2PHL
};
