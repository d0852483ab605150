// SPDX-License-Identifier: MIT
// Sizes and offsets of XSAVE images, standard and compacted: SDM 1 13.4.

#include "cpu/xstate/layout.h"

#include "cpu/cpu.h"

#define IMAGE_SIZE 4096u /* struct kvm_xsave without tile data */

const struct xstate_component xstate_components[XSTATE_IDS] = {
    [XSTATE_AVX] = {256, 576, 0},
    [XSTATE_OPMASK] = {64, 1088, 0},
    [XSTATE_ZMM_HI256] = {512, 1152, 0},
    [XSTATE_HI16_ZMM] = {1024, 1664, 0},
    [XSTATE_PKRU] = {8, 2688, 0},
    [XSTATE_XTILECFG] = {64, 2752, XSTATE_ALIGN64},
    [XSTATE_XTILEDATA] = {8192, 2816, XSTATE_ALIGN64 | XSTATE_XFD},
};

/* Intel's alignment is what the components' flags say. */
const struct xstate_layout xstate_layout_intel = {
    .offset = {[XSTATE_AVX] = 576,
               [XSTATE_OPMASK] = 1088,
               [XSTATE_ZMM_HI256] = 1152,
               [XSTATE_HI16_ZMM] = 1664,
               [XSTATE_PKRU] = 2688,
               [XSTATE_XTILECFG] = 2752,
               [XSTATE_XTILEDATA] = 2816},
    .align64 = BIT(XSTATE_XTILECFG) | BIT(XSTATE_XTILEDATA),
};

/* Where component (id) begins when the areas of (xcomp) below it are packed. */
static u32 packed_offset(const struct xstate_layout *l, u64 xcomp, unsigned id)
{
    u32 at = XSTATE_EXT_OFFSET;

    for (unsigned i = 2; i <= id && i < XSTATE_IDS; i++) {
        if (!(xcomp & BIT(i)) && i != id)
            continue;
        if (l->align64 & BIT(i))
            at = ALIGN_UP(at, 64u);
        if (i != id)
            at += xstate_components[i].size;
    }
    return at;
}

u32 xstate_offset_in(const struct xstate_layout *l, u64 xcomp, bool compacted, unsigned id)
{
    return compacted ? packed_offset(l, xcomp, id) : l->offset[id];
}

u32 xstate_size_in(const struct xstate_layout *l, u64 xcomp, bool compacted)
{
    u32 size = XSTATE_EXT_OFFSET;

    for (unsigned i = 2; i < XSTATE_IDS; i++) {
        u32 end;

        if (!(xcomp & BIT(i)) || !xstate_components[i].size)
            continue;
        end = xstate_offset_in(l, xcomp, compacted, i) + xstate_components[i].size;
        if (end > size)
            size = end;
    }
    return size;
}

u32 xstate_offset(u64 xcomp, bool compacted, unsigned id)
{
    return xstate_offset_in(&xstate_layout_intel, xcomp, compacted, id);
}

u32 xstate_size(u64 xcomp, bool compacted)
{
    return xstate_size_in(&xstate_layout_intel, xcomp, compacted);
}

/* --- a layout from CPUID --- */

/* The component that (e) describes and (xcr0) offers, or 0. */
static unsigned component_of(const struct cpu_cpuid_entry *e, u64 xcr0)
{
    bool ours = e->leaf == 0xd && e->index >= 2 && e->index < XSTATE_IDS &&
                xstate_components[e->index].size;

    return ours && xcr0 & BIT(e->index) ? e->index : 0;
}

static bool usable(const struct cpu_cpuid_entry *e)
{
    u32 size = xstate_components[e->index].size;
    u32 room = e->index == XSTATE_XTILEDATA ? XSTATE_MAX_SIZE : IMAGE_SIZE;

    return e->eax == size && e->ebx >= XSTATE_EXT_OFFSET && e->ebx <= room - size;
}

static bool overlap(const struct xstate_layout *l, u64 xcr0)
{
    for (unsigned a = 2; a < XSTATE_IDS; a++) {
        for (unsigned b = a + 1; b < XSTATE_IDS; b++) {
            if (xcr0 & BIT(a) && xcr0 & BIT(b) &&
                l->offset[a] < l->offset[b] + xstate_components[b].size &&
                l->offset[b] < l->offset[a] + xstate_components[a].size)
                return true;
        }
    }
    return false;
}

/* Let the table say what (l) is, where it says anything. */
static void describe(const struct xstate_layout *l, u64 xcr0, struct cpu_cpuid_entry *e, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned id = component_of(&e[i], xcr0);
        u32 align = id && l->align64 & BIT(id) ? XSTATE_ALIGN64 : 0;

        if (e[i].leaf == 0xd && e[i].index == 0 && e[i].ecx < xstate_size_in(l, xcr0, false))
            e[i].ecx = xstate_size_in(l, xcr0, false);
        if (!id ||
            (usable(&e[i]) && e[i].ebx == l->offset[id] && (e[i].ecx & XSTATE_ALIGN64) == align))
            continue;
        e[i].eax = xstate_components[id].size;
        e[i].ebx = l->offset[id];
        e[i].ecx = (xstate_components[id].flags & ~(u32)XSTATE_ALIGN64) | align;
        e[i].edx = 0;
    }
}

void xstate_layout_from(struct xstate_layout *l, u64 xcr0, struct cpu_cpuid_entry *e, unsigned n)
{
    *l = xstate_layout_intel;
    for (unsigned i = 0; i < n; i++) {
        unsigned id = component_of(&e[i], xcr0);

        if (!id || !usable(&e[i]))
            continue;
        l->offset[id] = e[i].ebx;
        l->align64 &= ~(u32)BIT(id);
        if (e[i].ecx & XSTATE_ALIGN64)
            l->align64 |= (u32)BIT(id);
    }
    if (overlap(l, xcr0))
        *l = xstate_layout_intel;
    describe(l, xcr0, e, n);
}
