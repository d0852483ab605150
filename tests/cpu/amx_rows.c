// SPDX-License-Identifier: MIT
// AMX-AVX512: rows of tiles to zmm registers, converted, against the formats' definitions.

#include "amx_codes.h"
#include "amx_model.h"

/*
 * amx_rows         some rows of each form
 * amx_rows --long  a million of each
 */

static u32 as_bits(__float128 v, unsigned exp_bits, unsigned frac_bits)
{
    __float128 mag = v < 0 ? -v : v;
    int bias = (1 << (exp_bits - 1)) - 1, exp = (int)(model_bits(mag) >> 112 & 0x7fff) - 16383;
    u32 sign = (u32)(model_bits(v) >> 127) << (exp_bits + frac_bits);

    if (mag == 0)
        return sign;
    if (exp > bias)
        return sign | ((1u << exp_bits) - 1) << frac_bits;
    if (exp < 1 - bias)
        return sign | (u32)(mag / model_power(1 - bias - (int)frac_bits));
    return sign | (u32)(exp + bias) << frac_bits |
           ((u32)(mag / model_power(exp - (int)frac_bits)) & ((1u << frac_bits) - 1));
}

/* One dword, converted by the definition: nearest even, denormal operands zero, quiet NaNs. */
static u32 converted(enum amx_row how, u32 v)
{
    bool nan = (v & 0x7fffffff) > 0x7f800000, infinite = (v & 0x7fffffff) == 0x7f800000;
    u32 half;

    if (how == AMX_ROW_MOVE)
        return v;
    if (how == AMX_ROW_D2PS)
        return as_bits(model_nearest((s32)v, 23, -126), 8, 23);
    if (how == AMX_ROW_PS2BF16H || how == AMX_ROW_PS2BF16L) {
        half = nan        ? v >> 16 | 0x40
               : infinite ? v >> 16
                          : as_bits(model_nearest(model_value(v, &model_f32_daz), 7, -126), 8, 7);
        return how == AMX_ROW_PS2BF16H ? half << 16 : half;
    }
    half = (v >> 31) << 15;
    if (nan)
        half |= 0x7e00 | (v >> 13 & 0x3ff);
    else if (infinite)
        half |= 0x7c00;
    else
        half = as_bits(model_nearest(model_value(v, &model_f32_daz), 10, -14), 5, 10);
    return how == AMX_ROW_PS2PHH ? half << 16 : half;
}

/* Numbers around everything that rounding and narrowing know. */
static u32 any_f32(void)
{
    static const u32 special[] = {0,          1,          0x7fffff,   0x800000,   0x7f800000,
                                  0x7f800001, 0x7fc01234, 0x7f7fffff, 0x477fe000, 0x477fefff,
                                  0x477ff000, 0x33000000, 0x33000001, 0x33800000, 0x387fc000,
                                  0x387fe000, 0x387fffff, 0x38800000, 0x7f7f7fff, 0x7f7f8000,
                                  0x3f808000, 0x3f818000};
    u64 r = rnd();
    u32 sign = (u32)(r >> 63) << 31;

    switch (r % 4) {
    case 0:
        return sign ^ special[(r >> 8) % ARRAY_SIZE(special)];
    case 1: /* binary16's normals and denormals, ties often */
        return sign | (u32)(100 + (r >> 8) % 45) << 23 |
               ((u32)(r >> 16) & 0x7fffff & ~(r >> 40 & 1 ? 0xfffu : 0));
    case 2:
        return sign | (u32)(r >> 8) % 0x7f800000 >> (r >> 40 & 1 ? 15 : 0)
                                                        << (r >> 40 & 1 ? 15 : 0);
    default:
        return (u32)(r >> 8);
    }
}

/* New numbers for the whole of tile (t), what lies outside its shape too. */
static void refill(unsigned t)
{
    for (unsigned d = 0; d < 256; d++) {
        u32 v = any_f32();

        memcpy(tile(t) + d * 4, &v, 4);
    }
}

/* What row (number) of tile (t) must become. */
static void expected(enum amx_row how, unsigned t, u32 number, u32 want[16])
{
    unsigned row = number & 15;

    memset(want, 0, 64);
    for (unsigned d = 0; row < c->amx.rows[t] && d < c->amx.colsb[t] / 4u; d++) {
        u32 v;

        memcpy(&v, tile(t) + row * 64 + d * 4, 4);
        want[d] = converted(how, v);
    }
}

/* Random rows of random shapes by one instruction: how many are wrong. */
static unsigned wrong_rows(const struct code *k, unsigned cases)
{
    const struct amx_form *f = form_of(k);
    unsigned bad = 0, other = (k->reg + 1) % 32;
    u8 bytes[9];

    fresh(16, 64);
    load(k->rm);
    memcpy(bytes, k->byte, 9);
    memset(c->vec.zmm[other], 0xa5, 64);
    for (unsigned i = 0; i < cases; i++) {
        u32 want[16], number = (u32)rnd();

        if (i % 32 == 0)
            refill(k->rm);
        c->amx.rows[k->rm] = 1 + (u8)(rnd() % 16);
        c->amx.colsb[k->rm] = 4 * (1 + (u16)(rnd() % 16));
        c->amx.start_row = 7;
        if (f->shape == AMX_SHAPE_ROW_IMM)
            bytes[6] = (u8)number;
        else
            c->r[k->vvvv] = rnd() << 32 | number;
        memset(c->vec.zmm[k->reg], 0xa5, 64);
        expected(f->arg, k->rm, number, want);
        bad += op_run(bytes, k->len) != OP_NEXT || c->amx.start_row ||
               memcmp(c->vec.zmm[k->reg], want, 64);
    }
    for (unsigned i = 0; i < 64; i++)
        bad += c->vec.zmm[other][i] != 0xa5;
    return bad;
}

static void random_rows(unsigned cases)
{
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        if (is_row(form_of(&codes[i])))
            is_u64(wrong_rows(&codes[i], cases), 0, "%s %s: %u random rows", codes[i].name,
                   codes[i].len == 7 ? "imm8" : "r32", cases);
    }
}

static void directed(void)
{
    fresh(16, 64);
    memset(c->vec.zmm[22], 0xff, 64);
    c->amx.tile_inuse = false;
    run_code(&codes[ARRAY_SIZE(codes) - 1]);
    ok(!memcmp(c->vec.zmm[22], (u8[64]){0}, 64), "a row of a tile never written is zero");
    fresh(16, 62);
    ok(op_raised(run_code(&codes[ARRAY_SIZE(codes) - 1]), EXC_UD), "a row of 62 bytes is #UD");
}

int main(int argc, char **argv)
{
    bool lengthy = argc == 2 && !strcmp(argv[1], "--long");

    if (!op_create())
        return 1;
    if (cpu_xcr0_supported() & XCR0_AVX512) {
        directed();
        random_rows(lengthy ? 1000000 : 4000);
    } else {
        skip("the host has no AVX-512, so its guests have no AMX-AVX512", "rows to zmm");
    }
    op_destroy();
    return tap_done();
}
