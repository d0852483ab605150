// SPDX-License-Identifier: MIT
// What the files of the engine benchmark share: types, macros, the description of a benchmark.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define NOINLINE  __attribute__((noinline))
#define KEEP(x)   __asm__ volatile("" : "+r"(x))
#define BARRIER() __asm__ volatile("" ::: "memory")

enum kind { NS, MBS, MFLOPS };

/* One benchmark. Only `name` and `fn` must be there. */
struct bench {
    const char *name;
    u64 (*fn)(u64 n);       /* does n iterations; the result is a checksum */
    void (*setup)(void);    /* before the first fn(), not measured */
    void (*teardown)(void); /* after the last */
    int (*need)(void);      /* whether this machine can run it */
    enum kind kind;         /* how people read it: ns, MB/s or Mflop/s */
    double per_iteration;   /* operations, bytes or flops in one iteration */
    u64 check_n, check;     /* fn(check_n) == check right after setup(); check_n 0: no check */
};

/* Each file's benchmarks, up to one without a name. */
extern const struct bench integer_benches[], branch_benches[], memory_benches[], float_benches[],
    system_benches[], job_benches[];

/* The other end of a benchmark between processes, whose CPU time counts too; 0: none. */
extern pid_t bench_partner;

/* What the jobs need, from the command line; NULL: not there. */
extern const char *job_busybox, *job_python, *job_scripts;

/* Prints `what` and errno's text, and ends the program. */
void die(const char *what) __attribute__((noreturn));

/* n bytes of zeroed anonymous memory. */
void *map_anon(size_t n);

/* Marsaglia's xorshift64; seed it with anything but 0. */
extern u64 rng_state;
u64 rng(void);
