// SPDX-License-Identifier: MIT
// Tile loads, stores and products for translated code: the common cases of the ops.

#include "cpu/amx/amx.h"
#include "cpu/amx/direct.h"
#include "cpu/amx/form.h"
#include "cpu/mmu/access.h"

/* Does nothing short of the tile configuration stand in the way of an instruction on tile data with (feature)? */
static inline bool usable(const struct cpu *c, unsigned feature)
{
    return (c->xcr0 & XCR0_AMX) == XCR0_AMX && c->cr4 & CR4_OSXSAVE && !(c->xfd & XCR0_XTILEDATA) &&
           !(c->amx_missing >> feature & 1) && c->amx.tile;
}

/* A load or store of whole rows can begin. */
static inline bool can_move(const struct cpu *c, unsigned tile)
{
    const struct cpu_amx *a = &c->amx;

    return usable(c, AMX_TILE) && a->colsb[tile] == AMX_ROW_BYTES && a->start_row == 0;
}

/* Rows 0 to (rows) lie in one page. */
static inline bool in_page(u64 lin, u64 stride, unsigned rows)
{
    return stride < PAGE_SIZE &&
           (lin & ~PAGE_MASK) + (rows - 1) * stride <= PAGE_SIZE - AMX_ROW_BYTES;
}

int amx_direct_load(struct cpu *c, u64 lin, u64 stride, unsigned tile, amx_rows_fn *copy)
{
    struct cpu_amx *a = &c->amx;
    unsigned rows = a->rows[tile], row = 0;
    const u8 *src;

    if (unlikely(!can_move(c, tile)))
        return 1;
    a->tile_inuse = true;
    if (likely(in_page(lin, stride, rows))) {
        src = mmu_peek(c, lin, AMX_ROW_BYTES, false);
        if (unlikely(!src))
            return 1;
        copy(a->tile[tile][0], AMX_ROW_BYTES, src, stride, rows);
        row = rows;
    }
    for (; row < rows; row++, lin += stride) {
        src = mmu_peek(c, lin, AMX_ROW_BYTES, false);
        if (unlikely(!src)) {
            a->start_row = (u8)row;
            return 1;
        }
        memcpy(a->tile[tile][row], src, AMX_ROW_BYTES);
    }
    if (unlikely(rows < AMX_ROWS))
        memset(a->tile[tile][rows], 0, (AMX_ROWS - rows) * AMX_ROW_BYTES);
    return 0;
}

int amx_direct_store(struct cpu *c, u64 lin, u64 stride, unsigned tile, amx_rows_fn *copy)
{
    struct cpu_amx *a = &c->amx;
    unsigned rows = a->rows[tile], row = 0;
    u8 *dst;

    if (unlikely(!can_move(c, tile)))
        return 1;
    if (likely(in_page(lin, stride, rows))) {
        dst = mmu_peek(c, lin, AMX_ROW_BYTES, true);
        if (unlikely(!dst))
            return 1;
        copy(dst, stride, a->tile[tile][0], AMX_ROW_BYTES, rows);
        return 0;
    }
    for (; row < rows; row++, lin += stride) {
        dst = mmu_peek(c, lin, AMX_ROW_BYTES, true);
        if (unlikely(!dst)) {
            a->start_row = (u8)row;
            return 1;
        }
        memcpy(dst, a->tile[tile][row], AMX_ROW_BYTES);
    }
    return 0;
}

static const u8 zero_row[AMX_ROW_BYTES];

int amx_direct_zero(struct cpu *c, u64 unused, u64 unused_too, unsigned tile, amx_rows_fn *copy)
{
    struct cpu_amx *a = &c->amx;

    if (unlikely(!usable(c, AMX_TILE) || !a->rows[tile]))
        return 1;
    copy(a->tile[tile][0], AMX_ROW_BYTES, zero_row, 0, AMX_ROWS);
    a->start_row = 0;
    return 0;
}

int amx_direct_dp(struct cpu *c, u64 list, u64 feature, unsigned count, amx_dp_fn *kernel)
{
    struct cpu_amx *a = &c->amx;

    if (unlikely(!usable(c, (unsigned)feature)))
        return 1;
    for (unsigned i = 1; i <= count; i++, list >>= AMX_DIRECT_BITS) {
        unsigned d = list & 7, s1 = list >> 3 & 7, s2 = list >> 6 & 7;
        unsigned rows = a->rows[d], colsb = a->colsb[d], inner = a->rows[s2];

        if (unlikely(!rows || rows != a->rows[s1] || colsb != a->colsb[s2] || colsb & 3 ||
                     inner * 4 != a->colsb[s1]))
            return (int)i;
        a->tile_inuse = true;
        a->start_row = 0;
        kernel(a->tile[d], a->tile[s1], a->tile[s2], rows, colsb / 4, inner);
    }
    return 0;
}
