// SPDX-License-Identifier: MIT
// amx_stress SECONDS: threads and processes with and without tiles take turns on too few CPUs; all results are checked.

#include "guest/tile.h"
#include "tap.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/*
 * Kinds of task: products with tiles that are live across every switch; tiles that are only
 * held; vector and x87 registers without tiles; tasks that have never touched a tile and
 * come and go. Each knows what it must find and counts what it does not.
 */

#define THREADS   8 /* in the first process; more than the test's guests have CPUs */
#define PROCESSES 6
#define ROUNDS    10 /* of each task at least, however slow the machine is */

enum kind { PRODUCTS, HELD, VECTORS, SHORT_LIVED, KINDS };

static const char *const kind_name[KINDS] = {"products", "held tiles", "vectors", "short-lived"};

struct counts {
    long rounds[KINDS], bad[KINDS], switches;
};

static struct counts *shared; /* added to by all processes */
static time_t end;

static uint32_t next(uint32_t *seed)
{
    return *seed = *seed * 1664525 + 1013904223;
}

static void give_way(uint32_t *seed)
{
    struct timespec nap = {0, 50000};

    if (next(seed) >> 28)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

/* One element of a x b, in plain C. */
static int32_t element(tile_t a, tile_t b, int i, int j)
{
    int32_t sum = 0;

    for (int k = 0; k < 64; k++)
        sum += (int8_t)a[i][k] * (int8_t)b[k / 4][j * 4 + k % 4];
    return sum;
}

/* The sources are loaded, the CPU is given away, they are multiplied, and so on: errors of a sample. */
static long products(uint32_t *seed)
{
    tile_t a, b, c;
    long bad = 0;

    for (int i = 0; i < 16 * 64; i++) {
        a[i / 64][i % 64] = (uint8_t)(next(seed) >> 24);
        b[i / 64][i % 64] = (uint8_t)(next(seed) >> 16);
    }
    tile_configure();
    TILE_LOAD(1, a);
    give_way(seed);
    TILE_LOAD(2, b);
    for (int n = 1; n <= 3; n++) {
        give_way(seed);
        TDPBSSD_0_1_2();
        give_way(seed);
        TILE_STORE(0, c);
        for (int s = 0; s < 8; s++) {
            int i = (int)(next(seed) >> 28), j = (int)(next(seed) >> 28);
            int32_t got;

            memcpy(&got, &c[i][j * 4], 4);
            bad += got != n * element(a, b, i, j);
        }
    }
    if (next(seed) >> 31)
        TILE_RELEASE();
    return bad;
}

/* Tiles 3 and 7 through many turns; registers of each other's are no neighbours. */
static long held(uint32_t *seed)
{
    tile_t a, b, c;
    long bad = 0;

    memset(a, (int)(next(seed) >> 24), sizeof(a));
    memset(b, (int)(next(seed) >> 24), sizeof(b));
    tile_configure();
    TILE_LOAD(3, a);
    TILE_LOAD(7, b);
    for (int n = 0; n < 5; n++) {
        give_way(seed);
        TILE_STORE(3, c);
        bad += memcmp(a, c, sizeof(a)) != 0;
        TILE_STORE(7, c);
        bad += memcmp(b, c, sizeof(b)) != 0;
        TILE_STORE(5, c);
        bad += c[0][0] || c[15][63];
    }
    return bad;
}

/* SSE and x87 registers over turns. */
static long vectors(uint32_t *seed)
{
    uint64_t in[8], out[8];
    long double x = (long double)(next(seed) >> 8), y;
    long bad = 0;

    for (int i = 0; i < 8; i++)
        in[i] = (uint64_t)next(seed) << 32 | next(seed);
    for (int n = 0; n < 3; n++) {
        __asm__ volatile("fldt %2\n\t"
                         "movdqu (%3), %%xmm8\n\tmovdqu 16(%3), %%xmm9\n\t"
                         "movdqu 32(%3), %%xmm14\n\tmovdqu 48(%3), %%xmm15\n\t"
                         "mov $24, %%eax\n\tsyscall\n\t" /* sched_yield */
                         "movdqu %%xmm8, (%4)\n\tmovdqu %%xmm9, 16(%4)\n\t"
                         "movdqu %%xmm14, 32(%4)\n\tmovdqu %%xmm15, 48(%4)\n\t"
                         "fstpt %0"
                         : "=m"(y), "=m"(out)
                         : "m"(x), "r"(in), "r"(out), "m"(in)
                         : "rax", "rcx", "r11", "xmm8", "xmm9", "xmm14", "xmm15", "memory");
        bad += x != y || memcmp(in, out, sizeof(in));
    }
    return bad;
}

/* A child that uses tiles once. Its first tile is a page of the kernel's to allocate and to free. */
static long short_lived(uint32_t *seed)
{
    pid_t pid = fork();
    int status = 1;

    if (pid == 0)
        _exit(held(seed) != 0);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return status != 0;
}

static void work(enum kind kind, uint32_t seed)
{
    static long (*const run[KINDS])(uint32_t *) = {products, held, vectors, short_lived};
    struct timespec now;
    int rounds = 0;

    do {
        __atomic_fetch_add(&shared->bad[kind], run[kind](&seed), __ATOMIC_RELAXED);
        __atomic_fetch_add(&shared->rounds[kind], 1, __ATOMIC_RELAXED);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (++rounds < ROUNDS || now.tv_sec < end);
}

static void *thread(void *arg)
{
    uint32_t number = (uint32_t)(uintptr_t)arg;

    work(number % 3 == 2 ? VECTORS : number % 3 == 1 ? HELD : PRODUCTS, number * 77 + 1);
    return NULL;
}

static void add_switches(int who)
{
    struct rusage ru;

    getrusage(who, &ru);
    __atomic_fetch_add(&shared->switches, ru.ru_nvcsw + ru.ru_nivcsw, __ATOMIC_RELAXED);
}

static void process(uint32_t number)
{
    work((enum kind)(number % KINDS), number * 1001 + 5);
    add_switches(RUSAGE_SELF);
    _exit(0);
}

int main(int argc, char **argv)
{
    pthread_t t[THREADS];
    struct timespec now;
    int status, lost = 0;

    setvbuf(stdout, NULL, _IONBF, 0);
    if (!ok(tile_permission() == 0, "permission is given"))
        return tap_done();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    end = now.tv_sec + (argc > 1 ? atol(argv[1]) : 3);
    for (uint32_t i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            process(i);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, thread, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    while (wait(&status) > 0)
        lost += status != 0;
    add_switches(RUSAGE_SELF);
    ok(lost == 0, "all processes came to their end");
    for (int k = 0; k < KINDS; k++)
        ok(shared->rounds[k] >= ROUNDS && shared->bad[k] == 0, "%s: %ld rounds, %ld wrong",
           kind_name[k], shared->rounds[k], shared->bad[k]);
    ok(shared->switches > 100, "%ld CPUs, %ld context switches", sysconf(_SC_NPROCESSORS_ONLN),
       shared->switches);
    return tap_done();
}
