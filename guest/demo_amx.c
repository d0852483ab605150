// SPDX-License-Identifier: MIT
// The demo's guest program: matrices multiplied with AMX, int8 and bf16, and checked against plain C.

/*
 * Build: gcc -O2 -static -mamx-tile -mamx-int8 -mamx-bf16 guest/demo_amx.c
 *
 * C (M x N) = A (M x K) * B (K x N), in tiles of 16 rows of 64 bytes. B is stored as the tile
 * instructions want it: groups of 4 bytes of K (4 int8, 2 bf16) side by side for each column. The
 * bf16 numbers are small multiples of 1/8, so that every sum is exact and the results must be equal.
 */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

#define M         64
#define N         64
#define K         256
#define ROWS      16
#define ROW_BYTES 64

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};

static const struct tile_config config = {
    .palette = 1,
    .colsb = {ROW_BYTES, ROW_BYTES, ROW_BYTES},
    .rows = {ROWS, ROWS, ROWS},
};

static int8_t a8[M][K], b8[K][N], b8_packed[K / 4][N * 4];
static int32_t c8[M][N];
static uint16_t a16[M][K], b16[K][N], b16_packed[K / 2][N * 2];
static float c16[M][N];

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 16;
}

/* The upper half of the float's bits; exact for the numbers used here. */
static uint16_t to_bf16(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return (uint16_t)(bits >> 16);
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

static void fill(void)
{
    for (int i = 0; i < M; i++) {
        for (int k = 0; k < K; k++) {
            a8[i][k] = (int8_t)next_random();
            a16[i][k] = to_bf16((float)((int)(next_random() % 64) - 32) / 8);
        }
    }
    for (int k = 0; k < K; k++) {
        for (int j = 0; j < N; j++) {
            b8[k][j] = (int8_t)next_random();
            b16[k][j] = to_bf16((float)((int)(next_random() % 64) - 32) / 8);
            b8_packed[k / 4][4 * j + k % 4] = b8[k][j];
            b16_packed[k / 2][2 * j + k % 2] = b16[k][j];
        }
    }
}

static void multiply_int8(void)
{
    for (int i = 0; i < M; i += ROWS) {
        for (int j = 0; j < N; j += 16) {
            _tile_zero(0);
            for (int k = 0; k < K; k += 64) {
                _tile_loadd(1, &a8[i][k], K);
                _tile_loadd(2, &b8_packed[k / 4][4 * j], N * 4);
                _tile_dpbssd(0, 1, 2);
            }
            _tile_stored(0, &c8[i][j], sizeof(c8[0]));
        }
    }
}

static void multiply_bf16(void)
{
    for (int i = 0; i < M; i += ROWS) {
        for (int j = 0; j < N; j += 16) {
            _tile_zero(0);
            for (int k = 0; k < K; k += 32) {
                _tile_loadd(1, &a16[i][k], K * 2);
                _tile_loadd(2, &b16_packed[k / 2][2 * j], N * 4);
                _tile_dpbf16ps(0, 1, 2);
            }
            _tile_stored(0, &c16[i][j], sizeof(c16[0]));
        }
    }
}

static int check(void)
{
    int bad = 0;

    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            int32_t s8 = 0;
            float s16 = 0;

            for (int k = 0; k < K; k++) {
                s8 += a8[i][k] * b8[k][j];
                s16 += from_bf16(a16[i][k]) * from_bf16(b16[k][j]);
            }
            bad += s8 != c8[i][j];
            bad += s16 != c16[i][j];
        }
    }
    return bad;
}

static double milliseconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

int main(void)
{
    double start;
    int bad;

    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) {
        perror("ARCH_REQ_XCOMP_PERM");
        return 1;
    }
    fill();
    _tile_loadconfig(&config);
    start = milliseconds();
    multiply_int8();
    printf("int8  %dx%dx%d  TDPBSSD    %7.2f ms  c[0][0] = %d\n", M, N, K, milliseconds() - start,
           c8[0][0]);
    start = milliseconds();
    multiply_bf16();
    printf("bf16  %dx%dx%d  TDPBF16PS  %7.2f ms  c[0][0] = %g\n", M, N, K, milliseconds() - start,
           (double)c16[0][0]);
    _tile_release();
    bad = check();
    printf("checked against plain C: %s\n", bad ? "DIFFERENT" : "all equal");
    return bad != 0;
}
