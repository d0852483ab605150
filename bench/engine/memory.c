// SPDX-License-Identifier: MIT
// Memory benchmarks: 64 MiB copied and filled, and pointers followed in and out of the cache.

#include <string.h>
#include <sys/mman.h>

#include "gbench.h"

#define BIG (64u << 20)
static u8 *big_a, *big_b;
static void s_big(void)
{
    if (!big_a) {
        big_a = map_anon(BIG);
        big_b = map_anon(BIG);
    }
    memset(big_a, 0x5a, BIG);
    memset(big_b, 0xa5, BIG);
}
static void t_big(void)
{
    if (big_a) {
        munmap(big_a, BIG);
        munmap(big_b, BIG);
        big_a = big_b = NULL;
    }
}
static u64 b_memcpy(u64 n)
{
    while (n--) {
        memcpy(big_b, big_a, BIG);
        BARRIER();
    }
    return big_b[12345];
}
static u64 b_memset(u64 n)
{
    while (n--) {
        memset(big_b, (int)n, BIG);
        BARRIER();
    }
    return big_b[12345];
}
static u64 b_copy8(u64 n)
{
    while (n--) {
        volatile u64 *d = (volatile u64 *)big_b;
        const volatile u64 *s = (const volatile u64 *)big_a;
        for (size_t i = 0; i < BIG / 8; i++)
            d[i] = s[i];
    }
    return big_b[12345];
}
static u64 b_movsb(u64 n)
{
    while (n--) {
        void *d = big_b;
        const void *s = big_a;
        size_t c = BIG;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c)::"memory");
    }
    return big_b[12345];
}

static u64 b_stosb(u64 n)
{
    while (n--) {
        void *d = big_b;
        size_t c = BIG;
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(c) : "a"((u8)n) : "memory");
    }
    return big_b[12345];
}

struct line {
    struct line *next;
    u64 pad[7];
};
static struct line *chase_mem, *chase_pos;
static size_t chase_bytes;
static void chase_make(size_t bytes)
{
    size_t n = bytes / sizeof(struct line);
    chase_mem = map_anon(bytes);
    chase_bytes = bytes;
    u32 *perm = map_anon(n * sizeof *perm);
    for (size_t i = 0; i < n; i++)
        perm[i] = (u32)i;
    rng_state = 0x2545f4914f6cdd1dull;
    for (size_t i = n - 1; i > 0; i--) { /* one cycle: Sattolo */
        size_t j = rng() % i;
        u32 t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
    for (size_t i = 0; i < n; i++)
        chase_mem[i].next = &chase_mem[perm[i]];
    munmap(perm, n * sizeof *perm);
    chase_pos = chase_mem;
}
static void s_chase64m(void)
{
    chase_make(64u << 20);
}
static void s_chase32k(void)
{
    chase_make(32u << 10);
}
static void t_chase(void)
{
    munmap(chase_mem, chase_bytes);
}
static u64 b_chase(u64 n)
{
    struct line *p = chase_pos; /* go on where the last sample ended, or */
    while (n--)                 /* short samples would stay in the cache */
        p = p->next;
    chase_pos = p;
    return (u64)(p - chase_mem);
}

const struct bench memory_benches[] = {
    {"mem.memcpy64m", b_memcpy, s_big, t_big, .kind = MBS, .per_iteration = BIG, .check_n = 1,
     .check = 0x5a},
    {"mem.memset64m", b_memset, s_big, t_big, .kind = MBS, .per_iteration = BIG, .check_n = 1,
     .check = 0},
    {"mem.repmovsb64m", b_movsb, s_big, t_big, .kind = MBS, .per_iteration = BIG, .check_n = 1,
     .check = 0x5a},
    {"mem.repstosb64m", b_stosb, s_big, t_big, .kind = MBS, .per_iteration = BIG, .check_n = 1,
     .check = 0},
    {"mem.copy8-64m", b_copy8, s_big, t_big, .kind = MBS, .per_iteration = BIG, .check_n = 1,
     .check = 0x5a},
    {"mem.chase32k", b_chase, s_chase32k, t_chase, .per_iteration = 1, .check_n = 100,
     .check = 0x34},
    {"mem.chase64m", b_chase, s_chase64m, t_chase, .per_iteration = 1, .check_n = 100,
     .check = 0xa2c82},
    {0},
};
