// SPDX-License-Identifier: MIT
// AMX state: the tile configuration and the tiles, apart from the instructions that use them.
#pragma once

#include "cpu/cpu.h"

#define AMX_TILES       8
#define AMX_ROWS        16
#define AMX_ROW_BYTES   64
#define AMX_MAX_PALETTE 1

/*
 * Invariants: palette 0 means unconfigured, and then every other field of the
 * configuration is 0. tile == NULL or !tile_inuse means that all tiles are zero;
 * memory that exists holds those zeros too.
 */

/* The 64-byte memory form of TILECFG: SDM 1 18.2. */
void amx_cfg_pack(const struct cpu_amx *a, u8 *mem);

/*
 * Take the configuration at (mem) by LDTILECFG's rules, palette 0 included; tiles
 * stay. 0, or -EINVAL where LDTILECFG raises #GP; then nothing has changed.
 */
int amx_cfg_unpack(struct cpu_amx *a, const u8 *mem);
void amx_cfg_clear(struct cpu_amx *a);

/* Zero all tiles; keeps the memory. */
void amx_tiles_clear(struct cpu_amx *a);

/* Make (tile) non-NULL. 0 or -ENOMEM. */
int amx_tiles_alloc(struct cpu_amx *a);
