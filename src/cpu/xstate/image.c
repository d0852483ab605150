// SPDX-License-Identifier: MIT
// The whole extended state as a standard-format image: KVM_GET_XSAVE2 and KVM_SET_XSAVE.

#include "cpu/xstate/component.h"

#include <errno.h>
#include <string.h>

#define SW_XCR0_OFFSET 464u /* what the kernel keeps there in the images that it gives out */

static bool area_fits(const struct cpu *c, unsigned id, u32 size)
{
    return xstate_components[id].size && c->xlayout.offset[id] + xstate_components[id].size <= size;
}

void xstate_get(const struct cpu *c, void *buf, u32 size)
{
    u64 bv = xstate_inuse_mode(c, true) & (c->cpuid_xcr0 | XCR0_X87 | XCR0_SSE) & ~c->xfd;
    u64 known = cpu_xcr0_supported();
    u8 *img = buf;

    memset(img, 0, size);
    if (size < XSTATE_EXT_OFFSET)
        return;
    xstate_pack_x87(c, true, img);
    xstate_pack_mxcsr(c, img);
    xstate_pack_xmm(c, true, img);
    memcpy(img + SW_XCR0_OFFSET, &known, 8);
    if (c->vec.x87.mxcsr != MXCSR_INIT)
        bv |=
            XCR0_SSE; /* as XSAVES has it: without that bit the other side would take the initial MXCSR */
    for (unsigned id = 2; id < XSTATE_IDS; id++) {
        if (!(bv & BIT(id)))
            continue;
        if (area_fits(c, id, size))
            xstate_pack(c, id, true, img + c->xlayout.offset[id]);
        else
            bv &= ~BIT(id);
    }
    memcpy(img + XSTATE_BV_OFFSET, &bv, 8);
}

/* The rules of KVM_SET_XSAVE, in its order. */
static int image_check(const struct cpu *c, const u8 *img, u64 bv)
{
    u64 user = cpu_xcr0_supported();
    u32 mxcsr;

    if (bv & ~user)
        return -EINVAL;
    if (!(c->cpuid_xcr0 & XCR0_XTILEDATA))
        user &= ~XCR0_XTILEDATA; /* the vCPU has no room for it */
    if (bv & ~user || xstate_nonzero(img + XSTATE_XCOMP_OFFSET, 56))
        return -EINVAL;
    memcpy(&mxcsr, img + XSTATE_MXCSR, 4);
    if (bv & (XCR0_X87 | XCR0_SSE | XCR0_AVX) && mxcsr & ~MXCSR_VALID)
        return -EINVAL;
    return 0;
}

int xstate_set(struct cpu *c, const void *buf, u32 size)
{
    const u8 *img = buf;
    u64 bv;
    u32 mxcsr;
    int rc;

    if (size < XSTATE_EXT_OFFSET)
        return -EINVAL;
    memcpy(&bv, img + XSTATE_BV_OFFSET, 8);
    bv &= ~c->xfd;
    rc = image_check(c, img, bv);
    if (rc)
        return rc;
    for (unsigned id = 2; id < XSTATE_IDS; id++) {
        if (bv & BIT(id) && !area_fits(c, id, size))
            return -EINVAL;
    }
    rc = xstate_reserve(c, bv);
    if (rc)
        return rc;

    memcpy(&mxcsr, img + XSTATE_MXCSR, 4);
    xstate_unpack_x87(c, true, bv & XCR0_X87 ? img : NULL);
    xstate_unpack_xmm(c, true, bv & XCR0_SSE ? img : NULL);
    c->vec.x87.mxcsr = bv & (XCR0_X87 | XCR0_SSE | XCR0_AVX) ? mxcsr : MXCSR_INIT;
    for (unsigned id = 2; id < XSTATE_IDS; id++) {
        if (id != XSTATE_PKRU)
            xstate_unpack(c, id, true, bv & BIT(id) ? img + c->xlayout.offset[id] : NULL);
    }
    return 0;
}
