// SPDX-License-Identifier: MIT
// The workload that snapshots are taken of: sums that live in tiles, a disk, lines on stdout, short sleeps.

/*
 * Each worker's accumulator tile is loaded once and then only added to: whatever happens to it between two
 * instructions shows in every line from there on. So does a block of the disk that does not read as it was written,
 * and a clock that goes back. Lines do not depend on timing, only their order among workers does.
 *
 * Usage: snapshot_user DISK WORKERS [ROUNDS-OF-EACH...]; without rounds they work until a byte comes on stdin, so that a
 * run that was disturbed can be repeated undisturbed with as many.
 */
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

#define BLOCK       4096
#define BLOCKS      64 /* of a worker's part of the disk */
#define PRODUCTS    400
#define WORKERS_MAX 16

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};

struct worker {
    pthread_t thread;
    unsigned index, rounds;
    int disk;
    uint64_t sum, random;
    double real;
    uint64_t written[BLOCKS]; /* what is in each block; 0: nothing yet */
};

static volatile int stop;

static void die(const struct worker *w, const char *what)
{
    printf("worker %u: %s\n", w->index, what);
    fflush(stdout);
    _exit(3);
}

static uint64_t next(struct worker *w)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return w->random >> 16;
}

static uint64_t mix(uint64_t sum, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ p[i]) * 0x100000001b3u;
    return sum;
}

static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Add many products to tile 0, which nobody else ever writes. */
static void multiply(struct worker *w)
{
    static _Thread_local int8_t a[16][64], b[16][64];

    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < 64; k += 4) {
            uint32_t r = (uint32_t)next(w);

            memcpy(&a[i][k], &r, 4);
            r ^= r << 7;
            memcpy(&b[i][k], &r, 4);
        }
    }
    _tile_loadd(1, a, 64);
    _tile_loadd(2, b, 64);
    for (int i = 0; i < PRODUCTS; i++) {
        _tile_dpbssd(0, 1, 2);
        w->real = w->real * 0.999 + 1.0 / (1 + i);
    }
}

static void fill(uint8_t *block, uint64_t seed)
{
    for (size_t i = 0; i < BLOCK; i += 8) {
        uint64_t v = seed * (i + 1) + 0x9e3779b97f4a7c15u;

        memcpy(block + i, &v, 8);
    }
}

/* Write one block, read another and compare. */
static void use_disk(struct worker *w, uint8_t *block, uint8_t *want)
{
    unsigned to = (unsigned)(next(w) % BLOCKS), from = (unsigned)(next(w) % BLOCKS);
    off_t base = (off_t)w->index * BLOCKS * BLOCK;

    w->written[to] = next(w) | 1;
    fill(block, w->written[to]);
    if (pwrite(w->disk, block, BLOCK, base + (off_t)to * BLOCK) != BLOCK)
        die(w, "cannot write");
    if (!w->written[from])
        return;
    if (pread(w->disk, block, BLOCK, base + (off_t)from * BLOCK) != BLOCK)
        die(w, "cannot read");
    fill(want, w->written[from]);
    if (memcmp(block, want, BLOCK))
        die(w, "the disk has changed");
    w->sum = mix(w->sum, block, 64);
}

static void *work(void *arg)
{
    static const struct tile_config config = {
        .palette = 1, .colsb = {64, 64, 64}, .rows = {16, 16, 16}};
    static const int32_t zero[16][16];
    struct worker *w = arg;
    int32_t c[16][16];
    uint8_t *block, *want;
    uint64_t before = now(), after;

    if (posix_memalign((void **)&block, BLOCK, 2 * BLOCK))
        die(w, "no memory");
    want = block + BLOCK;
    _tile_loadconfig(&config);
    _tile_loadd(0, zero, 64);
    for (unsigned i = 0; w->rounds ? i < w->rounds : !stop; i++) {
        struct timespec nap = {.tv_nsec = (long)(next(w) % 2000000)};

        multiply(w);
        use_disk(w, block, want);
        if (i % 16 == 0)
            nanosleep(&nap, NULL);
        _tile_stored(0, c, 64);
        w->sum = mix(mix(w->sum, c, sizeof(c)), &w->real, sizeof(w->real));
        after = now();
        if (after < before)
            die(w, "the clock went back");
        before = after;
        printf("worker %u round %u sum %016llx\n", w->index, i, (unsigned long long)w->sum);
        fflush(stdout);
    }
    _tile_release();
    free(block);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[WORKERS_MAX];
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    uint64_t sum = 0;
    char c;

    if (!n || n > WORKERS_MAX || (argc > 3 && argc != 3 + (int)n))
        return 2;
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) {
        perror("ARCH_REQ_XCOMP_PERM");
        return 1;
    }
    for (unsigned i = 0; i < n; i++) {
        workers[i] = (struct worker){
            .index = i, .rounds = argc > 3 ? (unsigned)atoi(argv[3 + i]) : 0, .random = i + 1};
        workers[i].disk = open(argv[1], O_RDWR | O_DIRECT);
        if (workers[i].disk < 0) {
            perror(argv[1]);
            return 1;
        }
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            return 1;
    }
    if (argc == 3)
        stop = read(STDIN_FILENO, &c, 1) == 1;
    for (unsigned i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
        sum = mix(sum, &workers[i].sum, sizeof(workers[i].sum));
    }
    printf("final %016llx\n", (unsigned long long)sum);
    return 42;
}
