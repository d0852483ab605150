// SPDX-License-Identifier: MIT
// The memory map that every boot protocol passes.
#include "vmm/boot.h"
#include "vmm/board.h"

#define MAP_RAM      1
#define MAP_RESERVED 2

unsigned boot_map(const struct boot_config *cfg, struct boot_map_entry map[BOOT_MAP_MAX])
{
    unsigned n = 0;

    map[n++] = (struct boot_map_entry){0, BOARD_LOW_RAM_END, MAP_RAM};
    map[n++] = (struct boot_map_entry){BOARD_LOW_RAM_END, BOARD_HIGH_RAM - BOARD_LOW_RAM_END,
                                       MAP_RESERVED};
    map[n++] = (struct boot_map_entry){BOARD_HIGH_RAM, cfg->ram_low - BOARD_HIGH_RAM, MAP_RAM};
    if (cfg->ram_high)
        map[n++] = (struct boot_map_entry){BOARD_RAM_ABOVE, cfg->ram_high, MAP_RAM};
    return n;
}
