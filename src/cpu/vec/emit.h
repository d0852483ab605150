// SPDX-License-Identifier: MIT
// The few instructions that stubs are made of, beside the one they run.
#pragma once

#include "cpu/decode/insn.h"

#include <string.h>

struct emit {
    u8 *p;
    unsigned n;
};

static inline void emit_u8(struct emit *e, unsigned b)
{
    e->p[e->n++] = (u8)b;
}

static inline void emit_u32(struct emit *e, u32 v)
{
    memcpy(e->p + e->n, &v, 4);
    e->n += 4;
}

static inline void emit_bytes(struct emit *e, const void *b, size_t len)
{
    memcpy(e->p + e->n, b, len);
    e->n += (unsigned)len;
}

#define EMIT(e, ...)                                                                               \
    emit_bytes(e, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* ModRM for [rdi + disp32] with (reg). */
static inline void emit_rdi(struct emit *e, unsigned reg, u32 disp)
{
    emit_u8(e, 0x80 | (reg & 7) << 3 | REG_RDI);
    emit_u32(e, disp);
}

/* Move 16, 32 or 64 bytes between vector register (n) and [rdi + disp]. (n) above 15 needs width 64. */
static inline void emit_vec_move(struct emit *e, unsigned n, unsigned width, bool store, u32 disp)
{
    if (width == 64) /* vmovdqu64 */
        EMIT(e, 0x62, (~n >> 3 & 1) << 7 | 0x60 | (~n >> 4 & 1) << 4 | 1, 0xfe, 0x48);
    else if (width == 32) /* vmovdqu ymm */
        EMIT(e, 0xc5, (~n >> 3 & 1) << 7 | 0x7e);
    else { /* movups */
        if (n & 8)
            emit_u8(e, 0x44);
        EMIT(e, 0x0f, store ? 0x11 : 0x10);
        emit_rdi(e, n, disp);
        return;
    }
    emit_u8(e, store ? 0x7f : 0x6f);
    emit_rdi(e, n, disp);
}

/* kmovq between k(n) and [rdi + disp]. */
static inline void emit_mask_move(struct emit *e, unsigned n, bool store, u32 disp)
{
    EMIT(e, 0xc4, 0xe1, 0xf8, store ? 0x91 : 0x90);
    emit_rdi(e, n, disp);
}
