// SPDX-License-Identifier: MIT
// AMX state: the tile configuration's memory form and the tiles' memory.

#include "cpu/amx/amx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 *   0        1          2..15     16..31          32..47    48..55      56..63
 *   palette  start_row  reserved  colsb, 8 words  reserved  rows, 8 B   reserved
 */
#define CFG_COLSB 16
#define CFG_ROWS  48

void amx_cfg_pack(const struct cpu_amx *a, u8 *mem)
{
    memset(mem, 0, 64);
    mem[0] = a->palette;
    mem[1] = a->start_row;
    memcpy(mem + CFG_COLSB, a->colsb, sizeof(a->colsb));
    memcpy(mem + CFG_ROWS, a->rows, sizeof(a->rows));
}

static bool all_zero(const u8 *p, unsigned from, unsigned to)
{
    while (from < to) {
        if (p[from++])
            return false;
    }
    return true;
}

int amx_cfg_unpack(struct cpu_amx *a, const u8 *mem)
{
    u16 colsb[AMX_TILES];

    if (mem[0] == 0) {
        amx_cfg_clear(a);
        return 0;
    }
    if (mem[0] > AMX_MAX_PALETTE || !all_zero(mem, 2, 16) || !all_zero(mem, 32, 48) ||
        !all_zero(mem, 56, 64))
        return -EINVAL;
    memcpy(colsb, mem + CFG_COLSB, sizeof(colsb));
    for (unsigned i = 0; i < AMX_TILES; i++) {
        u8 rows = mem[CFG_ROWS + i];

        if (rows > AMX_ROWS || colsb[i] > AMX_ROW_BYTES || !rows != !colsb[i])
            return -EINVAL;
    }
    a->palette = mem[0];
    a->start_row = mem[1];
    memcpy(a->colsb, colsb, sizeof(colsb));
    memcpy(a->rows, mem + CFG_ROWS, sizeof(a->rows));
    return 0;
}

void amx_cfg_clear(struct cpu_amx *a)
{
    a->palette = a->start_row = 0;
    memset(a->rows, 0, sizeof(a->rows));
    memset(a->colsb, 0, sizeof(a->colsb));
}

void amx_tiles_clear(struct cpu_amx *a)
{
    if (a->tile_inuse)
        memset(a->tile, 0, AMX_TILES * sizeof(*a->tile));
    a->tile_inuse = false;
}

int amx_tiles_alloc(struct cpu_amx *a)
{
    if (a->tile)
        return 0;
    a->tile = aligned_alloc(64, AMX_TILES * sizeof(*a->tile));
    if (!a->tile)
        return -ENOMEM;
    memset(a->tile, 0, AMX_TILES * sizeof(*a->tile));
    return 0;
}
