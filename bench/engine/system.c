// SPDX-License-Identifier: MIT
// Benchmarks of the kernel's work and of single instructions that an engine must treat with care.

#include <cpuid.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "gbench.h"

static u64 b_cpuid(u64 n)
{
    u64 s = 0;
    while (n--) {
        u32 a, b, c, d;
        __cpuid(0, a, b, c, d);
        s += a + b;
    }
    return s;
}

static u64 b_rdtsc(u64 n)
{
    u64 s = 0;
    while (n--)
        s ^= __rdtsc();
    return s;
}

static u64 b_lockadd(u64 n)
{
    static u64 x;
    while (n--)
        __atomic_fetch_add(&x, 1, __ATOMIC_SEQ_CST);
    return x;
}

/* ------------------------------------------------------------------- os.* */

static u64 b_getpid(u64 n)
{
    u64 s = 0;
    while (n--)
        s += (u64)syscall(SYS_getpid);
    return s;
}

static u64 b_clock(u64 n)
{
    struct timespec t;
    while (n--)
        clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_nsec;
}

#define PF_PAGES 1024
static u64 b_pagefault(u64 n)
{
    while (n--) {
        volatile u8 *p = map_anon(PF_PAGES * 4096);
        madvise((void *)p, PF_PAGES * 4096, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < PF_PAGES; i++)
            p[i * 4096] = 1;
        munmap((void *)p, PF_PAGES * 4096);
    }
    return 0;
}

static u64 b_fork(u64 n)
{
    while (n--) {
        pid_t p = fork();
        if (p < 0)
            die("fork");
        if (p == 0)
            _exit(0);
        waitpid(p, NULL, 0);
    }
    return 0;
}

static char self_path[4096] = "/proc/self/exe";
static u64 b_forkexec(u64 n)
{
    char *argv[] = {self_path, "--exit", NULL}, *envp[] = {NULL};
    while (n--) {
        pid_t p = fork();
        if (p < 0)
            die("fork");
        if (p == 0) {
            execve(self_path, argv, envp);
            _exit(127);
        }
        int st;
        waitpid(p, &st, 0);
        if (st)
            die("exec of /proc/self/exe (is /proc mounted?)");
    }
    return 0;
}

static int ping[2], pong[2];
static void s_pipe(void)
{
    char c;
    if (pipe(ping) || pipe(pong))
        die("pipe");
    bench_partner = fork();
    if (bench_partner < 0)
        die("fork");
    if (bench_partner == 0) {
        close(ping[1]);
        close(pong[0]);
        while (read(ping[0], &c, 1) == 1)
            if (write(pong[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    close(ping[0]);
    close(pong[1]);
}
static void t_pipe(void)
{
    close(ping[1]);
    close(pong[0]);
    waitpid(bench_partner, NULL, 0);
    bench_partner = 0;
}
static u64 b_pipe(u64 n)
{
    char c = 'x';
    while (n--)
        if (write(ping[1], &c, 1) != 1 || read(pong[0], &c, 1) != 1)
            die("pipe io");
    return 0;
}

static volatile u64 sig_count;
static void on_sig(int s)
{
    (void)s;
    sig_count++;
}

static u64 b_signal(u64 n)
{
    struct sigaction sa = {.sa_handler = on_sig};
    sigaction(SIGUSR1, &sa, NULL);
    pid_t me = getpid();
    sig_count = 0;
    for (u64 i = 0; i < n; i++)
        kill(me, SIGUSR1);
    return sig_count - n; /* 0 if every signal arrived */
}

static u64 b_devzero(u64 n)
{
    static int fd = -1;
    static u8 b[65536];
    if (fd < 0)
        fd = open("/dev/zero", O_RDONLY);
    if (fd < 0)
        die("/dev/zero");
    while (n--)
        if (read(fd, b, sizeof b) != sizeof b)
            die("read");
    return 0;
}

const struct bench system_benches[] = {
    {"cpu.cpuid", b_cpuid, .per_iteration = 1},
    {"cpu.rdtsc", b_rdtsc, .per_iteration = 1},
    {"cpu.lockadd", b_lockadd, .per_iteration = 1},
    {"os.getpid", b_getpid, .per_iteration = 1},
    {"os.clock", b_clock, .per_iteration = 1},
    {"os.pagefault", b_pagefault, .per_iteration = PF_PAGES},
    {"os.fork", b_fork, .per_iteration = 1},
    {"os.forkexec", b_forkexec, .per_iteration = 1},
    {"os.pipe", b_pipe, s_pipe, t_pipe, .per_iteration = 1},
    {"os.signal", b_signal, .per_iteration = 1, .check_n = 100, .check = 0},
    {"os.devzero", b_devzero, .kind = MBS, .per_iteration = 65536},
    {0},
};
