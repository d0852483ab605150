// SPDX-License-Identifier: MIT
// State components of struct cpu, moved to and from their areas of an XSAVE image.

#include "cpu/xstate/component.h"

#include "cpu/amx/amx.h"

#include <string.h>

#define FCW_INIT       0x37f
#define FCW_MASK       0x1f3f
#define FCW_ONE        0x40
#define FSW_EXCEPTIONS 0x3f
#define FSW_ES_B       0x8080
#define FOP_MASK       0x7ff

bool xstate_nonzero(const void *p, unsigned len)
{
    const u8 *b = p;
    u64 any = 0, v;

    for (unsigned i = 0; i < len; i += 8) {
        memcpy(&v, b + i, 8);
        any |= v;
    }
    return any;
}

u32 xstate_live_size(unsigned id, bool long_mode)
{
    if (long_mode)
        return xstate_components[id].size;
    switch (id) {
    case XSTATE_AVX:
    case XSTATE_ZMM_HI256:
        return xstate_components[id].size / 2;
    case XSTATE_HI16_ZMM:
        return 0;
    default:
        return xstate_components[id].size;
    }
}

static bool x87_inuse(const struct cpu_x87 *f)
{
    bool plain = f->fcw == FCW_INIT && !f->fsw && !f->ftw && !f->fop && !f->fip && !f->fdp;

    return !plain || xstate_nonzero(f->st, sizeof(f->st));
}

/* OR together bytes [from, to) of the vector registers [first, last]. */
static bool zmm_inuse(const struct cpu *c, unsigned first, unsigned last, unsigned from,
                      unsigned to)
{
    for (unsigned i = first; i <= last; i++) {
        if (xstate_nonzero(c->vec.zmm[i] + from, to - from))
            return true;
    }
    return false;
}

u64 xstate_inuse_mode(const struct cpu *c, bool long_mode)
{
    unsigned last = long_mode ? 15 : 7;
    u64 inuse = 0;

    if (x87_inuse(&c->vec.x87))
        inuse |= XCR0_X87;
    if (zmm_inuse(c, 0, last, 0, 16))
        inuse |= XCR0_SSE;
    if (zmm_inuse(c, 0, last, 16, 32))
        inuse |= XCR0_AVX;
    if (xstate_nonzero(c->vec.k, sizeof(c->vec.k)))
        inuse |= XCR0_OPMASK;
    if (zmm_inuse(c, 0, last, 32, 64))
        inuse |= XCR0_ZMM_HI256;
    if (long_mode && zmm_inuse(c, 16, 31, 0, 64))
        inuse |= XCR0_HI16_ZMM;
    if (c->amx.palette)
        inuse |= XCR0_XTILECFG;
    if (c->amx.tile_inuse)
        inuse |= XCR0_XTILEDATA;
    return inuse;
}

u64 xstate_inuse(const struct cpu *c)
{
    return xstate_inuse_mode(c, c->mode == MODE_64) & c->xcr0;
}

void xstate_pack(const struct cpu *c, unsigned id, bool long_mode, u8 *area)
{
    unsigned n = long_mode ? 16 : 8;

    switch (id) {
    case XSTATE_AVX:
        for (unsigned i = 0; i < n; i++)
            memcpy(area + i * 16, c->vec.zmm[i] + 16, 16);
        break;
    case XSTATE_OPMASK:
        memcpy(area, c->vec.k, sizeof(c->vec.k));
        break;
    case XSTATE_ZMM_HI256:
        for (unsigned i = 0; i < n; i++)
            memcpy(area + i * 32, c->vec.zmm[i] + 32, 32);
        break;
    case XSTATE_HI16_ZMM:
        if (long_mode)
            memcpy(area, c->vec.zmm[16], 1024);
        break;
    case XSTATE_XTILECFG:
        amx_cfg_pack(&c->amx, area);
        break;
    case XSTATE_XTILEDATA:
        if (c->amx.tile_inuse)
            memcpy(area, c->amx.tile, 8192);
        else
            memset(area, 0, 8192);
        break;
    default:
        break;
    }
}

/* Copy (len) bytes, or zeros without a source. */
static void take(void *dst, const u8 *src, unsigned len)
{
    if (src)
        memcpy(dst, src, len);
    else
        memset(dst, 0, len);
}

int xstate_reserve(struct cpu *c, u64 mask)
{
    return mask & XCR0_XTILEDATA ? amx_tiles_alloc(&c->amx) : 0;
}

int xstate_unpack(struct cpu *c, unsigned id, bool long_mode, const u8 *area)
{
    unsigned n = long_mode ? 16 : 8;
    int rc;

    switch (id) {
    case XSTATE_AVX:
        for (unsigned i = 0; i < n; i++)
            take(c->vec.zmm[i] + 16, area ? area + i * 16 : NULL, 16);
        break;
    case XSTATE_OPMASK:
        take(c->vec.k, area, sizeof(c->vec.k));
        break;
    case XSTATE_ZMM_HI256:
        for (unsigned i = 0; i < n; i++)
            take(c->vec.zmm[i] + 32, area ? area + i * 32 : NULL, 32);
        break;
    case XSTATE_HI16_ZMM:
        if (long_mode)
            take(c->vec.zmm[16], area, 1024);
        break;
    case XSTATE_XTILECFG:
        if (!area || amx_cfg_unpack(&c->amx, area))
            amx_cfg_clear(&c->amx);
        break;
    case XSTATE_XTILEDATA:
        if (!area) {
            amx_tiles_clear(&c->amx);
            break;
        }
        rc = amx_tiles_alloc(&c->amx);
        if (rc)
            return rc;
        memcpy(c->amx.tile, area, 8192);
        c->amx.tile_inuse = true;
        break;
    default:
        break;
    }
    return 0;
}

static void put16(u8 *p, u16 v)
{
    memcpy(p, &v, 2);
}
static void put32(u8 *p, u32 v)
{
    memcpy(p, &v, 4);
}
static void put64(u8 *p, u64 v)
{
    memcpy(p, &v, 8);
}

static u16 get16(const u8 *p)
{
    u16 v;

    memcpy(&v, p, 2);
    return v;
}

static u64 get64(const u8 *p)
{
    u64 v;

    memcpy(&v, p, 8);
    return v;
}

void xstate_pack_x87(const struct cpu *c, bool wide, u8 *img)
{
    const struct cpu_x87 *f = &c->vec.x87;

    put16(img, f->fcw);
    put16(img + 2, f->fsw);
    put16(img + 4, f->ftw);
    put16(img + 6, f->fop);
    /* The 32-bit form has 16-bit CS and DS above the offsets: zero, as CPUID says. */
    put64(img + 8, wide ? f->fip : (u32)f->fip);
    put64(img + 16, wide ? f->fdp : (u32)f->fdp);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(img + 32 + i * 16, f->st[i], 10);
        memset(img + 32 + i * 16 + 10, 0, 6);
    }
}

static u64 pointer_from(const u8 *p, bool wide)
{
    u64 v = get64(p);

    return wide ? (u64)((s64)(v << 16) >> 16) : (u32)v;
}

void xstate_unpack_x87(struct cpu *c, bool wide, const u8 *img)
{
    struct cpu_x87 *f = &c->vec.x87;

    if (!img) {
        u32 mxcsr = f->mxcsr, mask = f->mxcsr_mask;

        *f = (struct cpu_x87){.fcw = FCW_INIT, .mxcsr = mxcsr, .mxcsr_mask = mask};
        return;
    }
    f->fcw = (get16(img) & FCW_MASK) | FCW_ONE;
    f->fsw = get16(img + 2) & (u16)~FSW_ES_B;
    if (f->fsw & ~f->fcw & FSW_EXCEPTIONS)
        f->fsw |= FSW_ES_B;
    f->ftw = img[4];
    f->rsvd = 0;
    f->fop = get16(img + 6) & FOP_MASK;
    f->fip = pointer_from(img + 8, wide);
    f->fdp = pointer_from(img + 16, wide);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(f->st[i], img + 32 + i * 16, 10);
        memset(f->st[i] + 10, 0, 6);
    }
}

void xstate_pack_xmm(const struct cpu *c, bool long_mode, u8 *img)
{
    for (unsigned i = 0; i < (long_mode ? 16u : 8u); i++)
        memcpy(img + XSTATE_XMM + i * 16, c->vec.zmm[i], 16);
}

void xstate_unpack_xmm(struct cpu *c, bool long_mode, const u8 *img)
{
    for (unsigned i = 0; i < (long_mode ? 16u : 8u); i++)
        take(c->vec.zmm[i], img ? img + XSTATE_XMM + i * 16 : NULL, 16);
}

void xstate_pack_mxcsr(const struct cpu *c, u8 *img)
{
    put32(img + XSTATE_MXCSR, c->vec.x87.mxcsr);
    put32(img + XSTATE_MXCSR + 4, MXCSR_VALID);
}
