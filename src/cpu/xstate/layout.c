// SPDX-License-Identifier: MIT
// Sizes and offsets of XSAVE images, standard and compacted: SDM 1 13.4.

#include "cpu/xstate/layout.h"

#include "cpu/cpu.h"

const struct xstate_component xstate_components[XSTATE_IDS] = {
    [XSTATE_AVX] = {256, 576, 0},
    [XSTATE_OPMASK] = {64, 1088, 0},
    [XSTATE_ZMM_HI256] = {512, 1152, 0},
    [XSTATE_HI16_ZMM] = {1024, 1664, 0},
    [XSTATE_PKRU] = {8, 2688, 0},
    [XSTATE_XTILECFG] = {64, 2752, XSTATE_ALIGN64},
    [XSTATE_XTILEDATA] = {8192, 2816, XSTATE_ALIGN64 | XSTATE_XFD},
};

/* Where component (id) begins when the areas of (xcomp) below it are packed. */
static u32 packed_offset(u64 xcomp, unsigned id)
{
    u32 at = XSTATE_EXT_OFFSET;

    for (unsigned i = 2; i <= id && i < XSTATE_IDS; i++) {
        if (!(xcomp & BIT(i)) && i != id)
            continue;
        if (xstate_components[i].flags & XSTATE_ALIGN64)
            at = ALIGN_UP(at, 64u);
        if (i != id)
            at += xstate_components[i].size;
    }
    return at;
}

u32 xstate_offset(u64 xcomp, bool compacted, unsigned id)
{
    return compacted ? packed_offset(xcomp, id) : xstate_components[id].offset;
}

u32 xstate_size(u64 xcomp, bool compacted)
{
    u32 size = XSTATE_EXT_OFFSET;

    for (unsigned i = 2; i < XSTATE_IDS; i++) {
        u32 end;

        if (!(xcomp & BIT(i)) || !xstate_components[i].size)
            continue;
        end = xstate_offset(xcomp, compacted, i) + xstate_components[i].size;
        if (end > size)
            size = end;
    }
    return size;
}
