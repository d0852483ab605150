// SPDX-License-Identifier: MIT
// The guest's side of ./dev bench amx: a 64x64 matrix product with AMX, as often as it is told to.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Reads lines "int8 COUNT" or "bf16 COUNT", computes that many products and answers "done", or
 * "wrong" when the last one is not what plain C makes of it. A product has 64 tile operations of
 * 16x16x64 bytes: four accumulators, two tiles of each source a step, a TILELOADD for each.
 */

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILEDATA           18
#define K_BYTES             256

static _Alignas(4096) uint8_t a[64][K_BYTES];  /* rows of bytes, or of BF16 */
static _Alignas(4096) uint8_t b[4][4][16][64]; /* K blocks, N blocks, 16 rows of 16 dwords */
static _Alignas(4096) uint8_t c[64][256];

#define DP(pp, op, d, s1, s2)                                                                      \
    ".byte 0xc4,0xe2," #pp "|((~" #s2 "&15)<<3)," #op ",0xc0|(" #d "<<3)|" #s1 "\n\t"
#define QUAD(pp, op) DP(pp, op, 0, 4, 6) DP(pp, op, 1, 4, 7) DP(pp, op, 2, 5, 6) DP(pp, op, 3, 5, 7)
#define LOAD(t, p, stride)                                                                         \
    __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x4b,4|(" #t "<<3),0x10"                                \
                     :                                                                             \
                     : "a"(p), "d"((long)(stride))                                                 \
                     : "memory")
#define STORE(t, p, stride)                                                                        \
    __asm__ volatile(".byte 0xc4,0xe2,0x7a,0x4b,4|(" #t "<<3),0x10"                                \
                     :                                                                             \
                     : "a"(p), "d"((long)(stride))                                                 \
                     : "memory")
#define ZERO(t) ".byte 0xc4,0xe2,0x7b,0x49,0xc0|(" #t "<<3)\n\t"

static void product(int bf16)
{
    for (int m = 0; m < 64; m += 32) {
        for (int n = 0; n < 4; n += 2) {
            __asm__ volatile(ZERO(0) ZERO(1) ZERO(2) ZERO(3));
            for (int k = 0; k < 4; k++) {
                LOAD(4, &a[m][k * 64], K_BYTES);
                LOAD(5, &a[m + 16][k * 64], K_BYTES);
                LOAD(6, b[k][n], 64);
                LOAD(7, b[k][n + 1], 64);
                if (bf16)
                    __asm__ volatile(QUAD(2, 0x5c)); /* TDPBF16PS */
                else
                    __asm__ volatile(QUAD(1, 0x5e)); /* TDPBUSD */
            }
            STORE(0, &c[m][n * 64], 256);
            STORE(1, &c[m][n * 64 + 64], 256);
            STORE(2, &c[m + 16][n * 64], 256);
            STORE(3, &c[m + 16][n * 64 + 64], 256);
        }
    }
}

static float bf16_at(const uint8_t *p)
{
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;

    memcpy(&f, &bits, 4);
    return f;
}

/* Values for which every order of summation gives the same. */
static void fill(int bf16)
{
    static const uint8_t halves[3] = {0x3f, 0x40, 0xbf}; /* with 0x80 or 0: 1, 2, -1 */

    for (int i = 0; i < 64 * K_BYTES; i++) {
        uint8_t *pa = &a[0][0] + i, *pb = &b[0][0][0][0] + i;

        if (bf16) {
            *pa = i & 1 ? halves[i / 2 % 3] : i / 2 % 3 == 1 ? 0 : 0x80;
            *pb = i & 1 ? halves[i / 6 % 3] : i / 6 % 3 == 1 ? 0 : 0x80;
        } else {
            *pa = (uint8_t)(i * 37);
            *pb = (uint8_t)(i * 11 + 3);
        }
    }
}

static int right(int bf16)
{
    for (int i = 0; i < 64; i++) {
        for (int j = 0; j < 64; j++) {
            int32_t sum = 0;
            float fsum = 0;

            for (int k = 0; k < K_BYTES; k++) {
                const uint8_t *pb = &b[k / 64][j / 16][k % 64 / 4][j % 16 * 4 + k % 4];

                if (!bf16)
                    sum += a[i][k] * (int8_t)*pb;
                else if (!(k & 1))
                    fsum += bf16_at(&a[i][k]) * bf16_at(pb);
            }
            if (memcmp(&c[i][j * 4], bf16 ? (void *)&fsum : (void *)&sum, 4))
                return 0;
        }
    }
    return 1;
}

int main(void)
{
    static _Alignas(64) uint8_t cfg[64] = {1};
    char type[8];
    unsigned long count;

    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA)) {
        puts("no AMX");
        return 1;
    }
    for (int i = 0; i < 8; i++) {
        cfg[16 + 2 * i] = 64;
        cfg[48 + i] = 16;
    }
    __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x00" : : "a"(cfg), "m"(cfg)); /* LDTILECFG */
    puts("ready");
    fflush(stdout);
    while (scanf("%7s %lu", type, &count) == 2) {
        int bf16 = !strcmp(type, "bf16");

        fill(bf16);
        for (unsigned long i = 0; i < count; i++)
            product(bf16);
        puts(right(bf16) ? "done" : "wrong");
        fflush(stdout);
    }
    return 0;
}
