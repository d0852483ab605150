// SPDX-License-Identifier: MIT
// Guest arithmetic on the host's own ALU: inline-asm pieces that carry the flags in and out.
#pragma once

#include "cpu/interp/operand.h"

/*
 * cc is AX after `lahf; seto al`. Loading it back: 0x7f added to the OF bit in AL
 * overflows exactly when it is set, then SAHF restores the other five.
 */
#define CC_LOAD    "addb $0x7f, %%al\n\tsahf\n\t"
#define CC_LOAD_CF "btw $8, %%ax\n\t"
#define CC_SAVE    "\n\tlahf\n\tseto %%al"

/* (d) op (s), flags set from scratch. */
#define EXEC_BINARY(name, bits, mod, mnem)                                                         \
    static ALWAYS_INLINE u##bits name##bits(struct cpu *c, u##bits d, u##bits s)                   \
    {                                                                                              \
        u16 cc;                                                                                    \
        __asm__(mnem " %" mod "[s], %" mod "[d]" CC_SAVE                                           \
                : [d] "+q"(d), "=a"(cc)                                                            \
                : [s] "q"(s)                                                                       \
                : "cc");                                                                           \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }

/* (d) op (s) with the guest's flags as input: (load) is CC_LOAD or CC_LOAD_CF. */
#define EXEC_BINARY_CC(name, bits, mod, mnem, load)                                                \
    static ALWAYS_INLINE u##bits name##bits(struct cpu *c, u##bits d, u##bits s)                   \
    {                                                                                              \
        u16 cc = c->cc;                                                                            \
        __asm__(load mnem " %" mod "[s], %" mod "[d]" CC_SAVE                                      \
                : [d] "+q"(d), "+a"(cc)                                                            \
                : [s] "q"(s)                                                                       \
                : "cc");                                                                           \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }

#define EXEC_UNARY(name, bits, mod, mnem, load)                                                    \
    static ALWAYS_INLINE u##bits name##bits(struct cpu *c, u##bits d)                              \
    {                                                                                              \
        u16 cc = c->cc;                                                                            \
        __asm__(load mnem " %" mod "[d]" CC_SAVE : [d] "+q"(d), "+a"(cc) : : "cc");                \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }

#define EXEC_SIZES(macro, name, ...)                                                               \
    macro(name, 8, "b", __VA_ARGS__) macro(name, 16, "w", __VA_ARGS__)                             \
        macro(name, 32, "k", __VA_ARGS__) macro(name, 64, "q", __VA_ARGS__)

/* What several files need. */
EXEC_SIZES(EXEC_BINARY, exec_sub, "sub")

/* Compare: flags of (d) - (s). */
#define EXEC_CMP(bits)                                                                             \
    static ALWAYS_INLINE void exec_cmp##bits(struct cpu *c, u##bits d, u##bits s)                  \
    {                                                                                              \
        (void)exec_sub##bits(c, d, s);                                                             \
    }
EXEC_CMP(8)
EXEC_CMP(16)
EXEC_CMP(32)
EXEC_CMP(64)

/* The sixteen conditions by number: SDM 2D appendix B.1.4.7. (n) is a constant where this is used. */
static ALWAYS_INLINE bool cc_test(u16 cc, unsigned n)
{
    bool v;

    switch (n >> 1) {
    case 0:
        v = cc & CC_OF;
        break;
    case 1:
        v = cc & CC_CF;
        break;
    case 2:
        v = cc & CC_ZF;
        break;
    case 3:
        v = cc & (CC_CF | CC_ZF);
        break;
    case 4:
        v = cc & CC_SF;
        break;
    case 5:
        v = cc & CC_PF;
        break;
    case 6:
        v = ((cc >> 15) ^ cc) & 1;
        break;
    default:
        v = ((cc >> 15) ^ cc) & 1 || cc & CC_ZF;
        break;
    }
    return v != (n & 1);
}

/* Expands macro(suffix, number) for the conditions, under Zydis' names. */
#define CONDITIONS(macro)                                                                          \
    macro(O, 0) macro(NO, 1) macro(B, 2) macro(NB, 3) macro(Z, 4) macro(NZ, 5) macro(BE, 6)        \
        macro(NBE, 7) macro(S, 8) macro(NS, 9) macro(P, 10) macro(NP, 11) macro(L, 12)             \
            macro(NL, 13) macro(LE, 14) macro(NLE, 15)
