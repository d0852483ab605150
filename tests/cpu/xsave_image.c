// SPDX-License-Identifier: MIT
// The whole-state image of KVM_GET_XSAVE2 and KVM_SET_XSAVE: contents, and what is refused.

#include "cpu/xstate/layout.h"
#include "op_cpu.h"
#include "rand.h"

#include <errno.h>

static _Alignas(64) u8 img[XSTATE_MAX_SIZE], out[XSTATE_MAX_SIZE];

static void bv_set(u64 bv)
{
    memcpy(img + XSTATE_BV_OFFSET, &bv, 8);
}
static u64 bv_get(const u8 *p)
{
    u64 v;

    memcpy(&v, p + XSTATE_BV_OFFSET, 8);
    return v;
}

static void image(u64 bv)
{
    rnd_fill(img, sizeof(img));
    memset(img + 416, 0, 160);
    memcpy(img + XSTATE_MXCSR, &(u32){0x1fa0}, 4);
    memcpy(img, &(u16){0x37f}, 2);
    memset(img + 2, 0, 22);
    for (unsigned i = 0; i < 8; i++)
        memset(img + 32 + i * 16 + 10, 0, 6);
    memset(img + 832, 0, 1088 - 832);
    memset(img + 2688, 0, 64);
    memset(img + 2752, 0, 64);
    img[2752] = 1;
    img[2752 + 16] = 64;
    img[2752 + 48] = 16;
    bv_set(bv);
}

/* A guest without AMX: 4096-byte images. */
static void guest_without_amx(void)
{
    struct cpu_cpuid_entry e[2] = {{.leaf = 0xd, .flags = CPUID_FLAG_INDEX, .eax = 0xe7}};

    cpu_cpuid_set(c, e, 1);
}

static void guest_with_amx(void)
{
    static struct cpu_cpuid_entry e[CPU_CPUID_MAX];

    cpu_cpuid_set(c, e, (unsigned)cpu_cpuid_model("sapphirerapids", e, CPU_CPUID_MAX));
}

static void round_trip(void)
{
    u64 all = cpu_xcr0_supported();

    op_reset();
    image(all);
    memcpy(img + XSTATE_MXCSR + 4, &(u32){0xffff}, 4);
    memcpy(img + 464, &all, 8); /* where KVM_GET_XSAVE has the machine's components */
    for (unsigned id = 2; id < 17; id++) {
        if (!(all & BIT(id)))
            memset(img + xstate_components[id].offset, 0, xstate_components[id].size);
    }
    is_u64(xstate_set(c, img, sizeof(img)), 0, "an image with everything is taken");
    memset(out, 0xcc, sizeof(out));
    xstate_get(c, out, sizeof(out));
    is_u64(bv_get(out), all, "and reads back with the same XSTATE_BV");
    ok(!memcmp(out, img, sizeof(out)), "and the same bytes, gaps zero");

    bv_set(0);
    is_u64(xstate_set(c, img, sizeof(img)), 0, "an image with nothing is taken");
    xstate_get(c, out, sizeof(out));
    is_u64(bv_get(out), 0, "everything is initial after it");
    ok(c->vec.x87.fcw == 0x37f && c->vec.x87.mxcsr == 0x1f80 && !c->amx.palette &&
           !c->amx.tile_inuse,
       "x87, MXCSR, TILECFG and tiles too");
    c->vec.pkru = 0x1234;
    xstate_set(c, img, sizeof(img));
    is_u64(c->vec.pkru, 0x1234, "PKRU is left alone");
}

static void refusals(void)
{
    static const struct {
        u64 bv;
        unsigned byte;
        u8 value;
        bool ok;
        const char *what;
    } cases[] = {
        {BIT(3), 0, 0, false, "XSTATE_BV bit 3"},
        {BIT(9), 0, 0, false, "XSTATE_BV bit 9: PKRU is not supported"},
        {BIT(63), 0, 0, false, "XSTATE_BV bit 63"},
        {3, 520, 1, false, "XCOMP_BV not zero"},
        {3, 527, 0x80, false, "a compacted image"},
        {3, 528, 1, false, "first reserved header byte"},
        {3, 575, 1, false, "last reserved header byte"},
        {1, 26, 1, false, "reserved MXCSR bits with x87"},
        {2, 26, 1, false, "reserved MXCSR bits with SSE"},
        {4, 26, 1, false, "reserved MXCSR bits with AVX"},
        {XCR0_XTILECFG, 26, 1, true, "reserved MXCSR bits without any of them"},
        {XCR0_AMX, 2752, 9, true, "an invalid TILECFG: initial"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        static u8 before[XSTATE_MAX_SIZE];
        int want = cases[i].ok ? 0 : -EINVAL;

        op_reset();
        image(cpu_xcr0_supported());
        xstate_set(c, img, sizeof(img));
        xstate_get(c, before, sizeof(before));
        image(cases[i].bv & (cpu_xcr0_supported() | ~0xe7ull) ? cases[i].bv : 3);
        if (cases[i].byte)
            img[cases[i].byte] = cases[i].value;
        is_u64((u64)xstate_set(c, img, sizeof(img)), (u64)want, "%s", cases[i].what);
        xstate_get(c, out, sizeof(out));
        if (!cases[i].ok)
            ok(!memcmp(before, out, sizeof(out)), "%s: nothing has changed", cases[i].what);
    }
    is_u64(c->amx.palette, 0, "the invalid TILECFG became the initial one");
    is_u64((u64)xstate_set(c, img, 512), (u64)-EINVAL, "an image without a header");
}

static void xfd_order(void)
{
    op_reset();
    image(XCR0_AMX);
    xstate_set(c, img, sizeof(img));
    c->xfd = XCR0_XTILEDATA;
    xstate_get(c, out, sizeof(out));
    ok(!(bv_get(out) & XCR0_XTILEDATA) && bv_get(out) & XCR0_XTILECFG && !out[2816],
       "under XFD no tile data are given");
    is_u64(xstate_set(c, img, sizeof(img)), 0, "tile data set under XFD are accepted");
    c->xfd = 0;
    xstate_get(c, out, sizeof(out));
    is_u64(bv_get(out) & XCR0_AMX, XCR0_XTILECFG, "but dropped");

    guest_without_amx();
    image(XCR0_XTILEDATA);
    is_u64((u64)xstate_set(c, img, sizeof(img)), (u64)-EINVAL,
           "a guest without XTILEDATA: refused");
    c->xfd = XCR0_XTILEDATA;
    is_u64((u64)xstate_set(c, img, sizeof(img)), 0, "XFD is applied before that check");
    c->xfd = 0;
    image(XCR0_XTILECFG);
    is_u64((u64)xstate_set(c, img, 4096), 0,
           "what may be set is the engine's XCR0, not the guest's");
    memset(out, 0xcc, sizeof(out));
    xstate_get(c, out, 4096);
    ok(!(bv_get(out) & XCR0_AMX) && out[4096] == 0xcc,
       "what is given is the guest's, and fits 4096 bytes");
    guest_with_amx();
    image(XCR0_AMX);
    is_u64((u64)xstate_set(c, img, 4096), (u64)-EINVAL,
           "tile data past the end of the buffer are refused");
}

int main(void)
{
    if (!op_create())
        return 1;
    round_trip();
    refusals();
    xfd_order();
    op_destroy();
    return tap_done();
}
