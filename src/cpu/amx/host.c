// SPDX-License-Identifier: MIT
// AMX kernels on the host's own AMX.

#include "cpu/amx/kernel.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Theory of operation. Each call configures three tiles to its shape, loads them, computes,
 * stores and releases. So between calls the thread's tiles are in their initial state: nothing
 * of the guest stays in the host's registers, the host's system has nothing to save at its
 * context switches, and whatever else the thread runs finds no tiles in use.
 *
 * The system must be asked once for the process before a tile is touched (Linux'
 * Documentation/arch/x86/xstate.rst). It refuses when a thread's signal stack is too small.
 */

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

int amx_host_request(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) ? -1 : 0;
}

/* The memory form of TILECFG: SDM 1 18.2. */
struct tilecfg {
    u8 palette, start_row, reserved[14];
    u16 colsb[16];
    u8 rows[16];
};
_Static_assert(sizeof(struct tilecfg) == 64, "LDTILECFG reads 64 bytes");

/* Rows and columns that the shape does not have. */
static void zero_rest(amx_tile_t c, unsigned m, unsigned n)
{
    if (n < 16) {
        for (unsigned i = 0; i < m; i++)
            memset(c[i] + n * 4, 0, 64 - n * 4);
    }
    memset(c[m], 0, (16 - m) * 64);
}

/* Encodings: older assemblers know no AMX. Tiles 0, 1 and 2 are (c), (a) and (b); the row distance is in RDX. */
#define LDTILECFG_RAX ".byte 0xc4,0xe2,0x78,0x49,0x00\n\t"
#define TILELOADD_C   ".byte 0xc4,0xe2,0x7b,0x4b,0x04,0x17\n\t" /* (%rdi,%rdx) to tmm0 */
#define TILELOADD_A   ".byte 0xc4,0xe2,0x7b,0x4b,0x0c,0x16\n\t" /* (%rsi,%rdx) to tmm1 */
#define TILELOADD_B   ".byte 0xc4,0xe2,0x7b,0x4b,0x14,0x11\n\t" /* (%rcx,%rdx) to tmm2 */
#define TILESTORED_C  ".byte 0xc4,0xe2,0x7a,0x4b,0x04,0x17\n\t"
#define TILERELEASE   ".byte 0xc4,0xe2,0x78,0x49,0xc0"

/* (pp): the VEX byte of the operand sizes; (op): the opcode. tmm0 += tmm1 x tmm2. */
#define KERNEL(name, pp, op)                                                                       \
    static void name(amx_tile_t c, const amx_tile_t a, const amx_tile_t b, unsigned m, unsigned n, \
                     unsigned k)                                                                   \
    {                                                                                              \
        struct tilecfg cfg = {.palette = 1,                                                        \
                              .colsb = {(u16)(n * 4), (u16)(k * 4), (u16)(n * 4)},                 \
                              .rows = {(u8)m, (u8)m, (u8)k}};                                      \
                                                                                                   \
        __asm__ volatile(LDTILECFG_RAX TILELOADD_C TILELOADD_A TILELOADD_B                         \
                         ".byte 0xc4,0xe2," pp "," op ",0xc1\n\t" TILESTORED_C TILERELEASE         \
                         :                                                                         \
                         : "a"(&cfg), "D"(c), "S"(a), "c"(b), "d"(64l), "m"(cfg)                   \
                         : "memory");                                                              \
        zero_rest(c, m, n);                                                                        \
    }

KERNEL(dpbssd, "0x6b", "0x5e")
KERNEL(dpbsud, "0x6a", "0x5e")
KERNEL(dpbusd, "0x69", "0x5e")
KERNEL(dpbuud, "0x68", "0x5e")
KERNEL(dpbf16ps, "0x6a", "0x5c")

const struct amx_kernels amx_kernels_amx = {"amx", {dpbssd, dpbsud, dpbusd, dpbuud, dpbf16ps}};
