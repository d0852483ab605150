// SPDX-License-Identifier: MIT
// The AMX instructions' table and their lowering.

#include "cpu/amx/amx.h"
#include "cpu/amx/form.h"
#include "cpu/amx/kernel.h"
#include "cpu/sys/cpuid.h"

#include <errno.h>

/* Bits of CPUID are where sys/cpuid_features.c says. */
const char *const amx_features[AMX_FEATURES] = {
    [AMX_TILE] = "amx_tile", [AMX_INT8] = "amx_int8",       [AMX_BF16] = "amx_bf16",
    [AMX_FP16] = "amx_fp16", [AMX_COMPLEX] = "amx_complex", [AMX_FP8] = "amx_fp8",
    [AMX_TF32] = "amx_tf32", [AMX_MOVRS] = "amx_movrs",     [AMX_AVX512] = "amx_avx512",
};

u32 amx_features_missing(const struct cpu *c)
{
    u32 missing = 0;

    for (unsigned i = 0; i < AMX_FEATURES; i++) {
        const struct cpuid_feature *f = cpuid_feature(amx_features[i]);

        if (!guest_cpuid_bit(c, f->leaf, f->index, f->reg, f->bit))
            missing |= (u32)BIT(i);
    }
    return missing;
}

/*
 * Name, mnemonic of Zydis (Z) or ours (M), encoding, map, pp, opcode, shape, feature, op and its
 * argument, exception class. SDM 2A to 2D; the ISA extensions reference (319433) for what the SDM
 * does not have yet.
 */
#define FORMS(_)                                                                                   \
    _(LDTILECFG, Z, VEX, MAP_0F38, NP, 0x49, MEM, TILE, ldtilecfg, 0, E1)                          \
    _(STTILECFG, Z, VEX, MAP_0F38, 66, 0x49, MEM, TILE, sttilecfg, 0, E2)                          \
    _(TILERELEASE, Z, VEX, MAP_0F38, NP, 0x49, NONE, TILE, tilerelease, 0, E6)                     \
    _(TILEZERO, Z, VEX, MAP_0F38, F2, 0x49, TILE, TILE, tilezero, 0, E5)                           \
    _(TILELOADD, Z, VEX, MAP_0F38, F2, 0x4b, SIB, TILE, tileload, 0, E3)                           \
    _(TILELOADDT1, Z, VEX, MAP_0F38, 66, 0x4b, SIB, TILE, tileload, 0, E3)                         \
    _(TILESTORED, Z, VEX, MAP_0F38, F3, 0x4b, SIB, TILE, tilestore, 0, E3)                         \
    _(TDPBSSD, Z, VEX, MAP_0F38, F2, 0x5e, TILES, INT8, dp, AMX_DPBSSD, E4)                        \
    _(TDPBSUD, Z, VEX, MAP_0F38, F3, 0x5e, TILES, INT8, dp, AMX_DPBSUD, E4)                        \
    _(TDPBUSD, Z, VEX, MAP_0F38, 66, 0x5e, TILES, INT8, dp, AMX_DPBUSD, E4)                        \
    _(TDPBUUD, Z, VEX, MAP_0F38, NP, 0x5e, TILES, INT8, dp, AMX_DPBUUD, E4)                        \
    _(TDPBF16PS, Z, VEX, MAP_0F38, F3, 0x5c, TILES, BF16, dp, AMX_DPBF16PS, E4)                    \
    _(TDPFP16PS, M, VEX, MAP_0F38, F2, 0x5c, TILES, FP16, dp, AMX_DPFP16PS, E4)                    \
    _(TCMMIMFP16PS, M, VEX, MAP_0F38, 66, 0x6c, TILES, COMPLEX, dp, AMX_CMMIMFP16PS, E4)           \
    _(TCMMRLFP16PS, M, VEX, MAP_0F38, NP, 0x6c, TILES, COMPLEX, dp, AMX_CMMRLFP16PS, E4)           \
    _(TDPBF8PS, M, VEX, MAP5, NP, 0xfd, TILES, FP8, dp, AMX_DPBF8PS, E4)                           \
    _(TDPBHF8PS, M, VEX, MAP5, F2, 0xfd, TILES, FP8, dp, AMX_DPBHF8PS, E4)                         \
    _(TDPHBF8PS, M, VEX, MAP5, F3, 0xfd, TILES, FP8, dp, AMX_DPHBF8PS, E4)                         \
    _(TDPHF8PS, M, VEX, MAP5, 66, 0xfd, TILES, FP8, dp, AMX_DPHF8PS, E4)                           \
    _(TMMULTF32PS, M, VEX, MAP_0F38, 66, 0x48, TILES, TF32, dp, AMX_MMULTF32PS, E4)                \
    _(TILELOADDRS, M, VEX, MAP_0F38, F2, 0x4a, SIB, MOVRS, tileload, 0, E3)                        \
    _(TILELOADDRST1, M, VEX, MAP_0F38, 66, 0x4a, SIB, MOVRS, tileload, 0, E3)                      \
    _(TCVTROWD2PS, M, EVEX, MAP_0F38, F3, 0x4a, ROW_REG, AVX512, row, AMX_ROW_D2PS, E8)            \
    _(TCVTROWD2PS, M, EVEX, MAP_0F3A, F3, 0x07, ROW_IMM, AVX512, row, AMX_ROW_D2PS, E7)            \
    _(TCVTROWPS2BF16H, M, EVEX, MAP_0F38, F2, 0x6d, ROW_REG, AVX512, row, AMX_ROW_PS2BF16H, E8)    \
    _(TCVTROWPS2BF16H, M, EVEX, MAP_0F3A, F2, 0x07, ROW_IMM, AVX512, row, AMX_ROW_PS2BF16H, E7)    \
    _(TCVTROWPS2BF16L, M, EVEX, MAP_0F38, F3, 0x6d, ROW_REG, AVX512, row, AMX_ROW_PS2BF16L, E8)    \
    _(TCVTROWPS2BF16L, M, EVEX, MAP_0F3A, F3, 0x77, ROW_IMM, AVX512, row, AMX_ROW_PS2BF16L, E7)    \
    _(TCVTROWPS2PHH, M, EVEX, MAP_0F38, NP, 0x6d, ROW_REG, AVX512, row, AMX_ROW_PS2PHH, E8)        \
    _(TCVTROWPS2PHH, M, EVEX, MAP_0F3A, NP, 0x07, ROW_IMM, AVX512, row, AMX_ROW_PS2PHH, E7)        \
    _(TCVTROWPS2PHL, M, EVEX, MAP_0F38, 66, 0x6d, ROW_REG, AVX512, row, AMX_ROW_PS2PHL, E8)        \
    _(TCVTROWPS2PHL, M, EVEX, MAP_0F3A, F2, 0x77, ROW_IMM, AVX512, row, AMX_ROW_PS2PHL, E7)        \
    _(TILEMOVROW, M, EVEX, MAP_0F38, 66, 0x4a, ROW_REG, AVX512, row, AMX_ROW_MOVE, E8)             \
    _(TILEMOVROW, M, EVEX, MAP_0F3A, 66, 0x07, ROW_IMM, AVX512, row, AMX_ROW_MOVE, E7)

#define MNEMONIC_Z(name) ZYDIS_MNEMONIC_##name
#define MNEMONIC_M(name) MNEMONIC_##name
#define CLASS_VEX(exc)   "AMX-" #exc
#define CLASS_EVEX(exc)  "AMX-" #exc "-EVEX"

#define FORM(n, whose, e, m, p, opc, s, feat, o, a, exc)                                           \
    {.name = #n,                                                                                   \
     .mnemonic = MNEMONIC_##whose(n),                                                              \
     .enc = AMX_ENC_##e,                                                                           \
     .map = AMX_##m,                                                                               \
     .pp = AMX_##p,                                                                                \
     .opcode = (opc),                                                                              \
     .shape = AMX_SHAPE_##s,                                                                       \
     .feature = AMX_##feat,                                                                        \
     .arg = (a),                                                                                   \
     .op = amx_op_##o,                                                                             \
     .exceptions = CLASS_##e(exc)},

const struct amx_form amx_forms[] = {FORMS(FORM){0}};

static bool is_row(const struct amx_form *f)
{
    return f->shape == AMX_SHAPE_ROW_REG || f->shape == AMX_SHAPE_ROW_IMM;
}

/* How many tile operands a form has. */
static unsigned tile_count(const struct amx_form *f)
{
    switch (f->shape) {
    case AMX_SHAPE_MEM:
    case AMX_SHAPE_NONE:
        return 0;
    case AMX_SHAPE_TILES:
        return 3;
    default:
        return 1;
    }
}

/* #UD for what an encoding alone tells: SDM 2A 2.10. */
static int lower(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct amx_form *f = arg;
    u8 tile[3] = {0};
    unsigned n = 0;

    if (d->mode != MODE_64 || d->map != f->map || d->opcode != f->opcode || d->vex_w ||
        d->vl != (f->enc == AMX_ENC_EVEX ? 64 : 16) || (f->shape == AMX_SHAPE_SIB && !d->mem_sib))
        return -ENOENT;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind != OPND_TILE)
            continue;
        if (n == 3 || d->op[i].reg >= AMX_TILES)
            return -ENOENT;
        tile[n++] = d->op[i].reg;
    }
    if (n != tile_count(f))
        return -ENOENT;
    if (n == 3 && (tile[0] == tile[1] || tile[0] == tile[2] || tile[1] == tile[2]))
        return -ENOENT;
    in->op = f->op;
    in->x[0] = f->arg;
    in->x[1] = f->feature;
    if (is_row(f)) {
        in->reg = d->op[0].reg;
        in->rm = tile[0];
        in->x[2] = f->shape == AMX_SHAPE_ROW_IMM;
        in->imm = in->x[2] ? (u64)d->op[2].imm : 0;
    } else {
        in->reg = tile[0];
        in->rm = tile[1];
        in->vvvv = tile[2];
    }
    return 0;
}

/* One row for each form, in the same order. */
enum {
#define INDEX(n, whose, e, m, p, opc, s, feat, o, a, exc) INDEX_##n##_##s,
    FORMS(INDEX)
};
#define ROW(n, whose, e, m, p, opc, s, feat, o, a, exc)                                            \
    {MNEMONIC_##whose(n), lower, &amx_forms[INDEX_##n##_##s]},

const struct op_row ops_amx[] = {FORMS(ROW){0}};
