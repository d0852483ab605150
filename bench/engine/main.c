// SPDX-License-Identifier: MIT
// The program of ./dev bench engine: does as many iterations of a benchmark as it is told to.

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "gbench.h"

/*
 * The same binary runs on the host and in guests; bench/engine.py talks to each over stdin/stdout:
 *
 *     begin NAME    set it up and check its result: "@ready", "@skip" (cannot run here), "@wrong"
 *     run N W       N iterations in each of W processes: "@done CPU WALL", in ns
 *     end           "@ended"
 *
 * CPU is that of this process and the children it waited for, or for W > 1 that of the child that
 * used most. It says what the work costs natively; in a guest it is the caller that knows what the
 * virtual machine used. Nothing is timed here to find out how many iterations to do: a guest's
 * clock runs on while its machine waits for the host. Answers begin with '@', so that lines of a
 * kernel on the same console are told apart.
 */

pid_t bench_partner;
u64 rng_state;
static volatile u64 sink;
static const struct bench *const files[] = {integer_benches, branch_benches, memory_benches,
                                            float_benches,   system_benches, job_benches};
static const char *const units[] = {[NS] = "ns", [MBS] = "MB/s", [MFLOPS] = "Mflop/s"};

void die(const char *what)
{
    fprintf(stderr, "gbench: %s: %s\n", what, strerror(errno));
    exit(1);
}

void *map_anon(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

u64 rng(void)
{
    u64 x = rng_state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return rng_state = x;
}

static u64 clock_ns(clockid_t id)
{
    struct timespec t = {0};
    clock_gettime(id, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* CPU time of this process, its partner, and the children that are gone. */
static u64 cpu_ns(void)
{
    struct rusage r;
    clockid_t partner;
    u64 ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (bench_partner && !clock_getcpuclockid(bench_partner, &partner))
        ns += clock_ns(partner);
    getrusage(RUSAGE_CHILDREN, &r);
    return ns + (u64)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000 +
           (u64)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000;
}

/* Stay on one CPU: the index'th of those that this process began with. */
static void use_cpu(const cpu_set_t *all, int index)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, all) && index-- == 0)
            CPU_SET(cpu, &one);
    }
    if (CPU_COUNT(&one))
        sched_setaffinity(0, sizeof(one), &one);
}

/* fn(n) in each of `workers` processes; the CPU time of the one that used most. */
static u64 run_parallel(const struct bench *b, u64 n, int workers, const cpu_set_t *all)
{
    int result[2];
    u64 ns, most = 0;
    if (pipe(result))
        die("pipe");
    for (int i = 0; i < workers; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            use_cpu(all, i % CPU_COUNT(all));
            ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            sink += b->fn(n);
            ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - ns;
            _exit(write(result[1], &ns, sizeof(ns)) != sizeof(ns));
        }
    }
    close(result[1]);
    while (read(result[0], &ns, sizeof(ns)) == sizeof(ns))
        most = ns > most ? ns : most;
    close(result[0]);
    while (wait(NULL) > 0)
        ;
    return most;
}

static void run(const struct bench *b, u64 n, int workers, const cpu_set_t *all)
{
    u64 cpu, wall = clock_ns(CLOCK_MONOTONIC);
    if (workers > 1) {
        cpu = run_parallel(b, n, workers, all);
    } else {
        cpu = cpu_ns();
        sink += b->fn(n);
        cpu = cpu_ns() - cpu;
    }
    wall = clock_ns(CLOCK_MONOTONIC) - wall;
    printf("@done %llu %llu\n", (unsigned long long)cpu, (unsigned long long)wall);
}

static const struct bench *find(const char *name)
{
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        for (const struct bench *b = files[f]; b->name; b++) {
            if (!strcmp(b->name, name))
                return b;
        }
    }
    return NULL;
}

static const struct bench *begin(const char *name)
{
    const struct bench *b = find(name);
    if (!b || (b->need && !b->need())) {
        puts("@skip");
        return NULL;
    }
    if (b->setup)
        b->setup();
    puts(b->check_n && b->fn(b->check_n) != b->check ? "@wrong" : "@ready");
    return b;
}

static void serve(const cpu_set_t *all)
{
    const struct bench *b = NULL;
    char line[256], name[64];
    unsigned long long n;
    int workers;

    puts("@hello");
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "begin %63s", name) == 1) {
            b = begin(name);
        } else if (b && sscanf(line, "run %llu %d", &n, &workers) == 2) {
            run(b, n, workers, all);
        } else if (b && !strncmp(line, "end", 3)) {
            if (b->teardown)
                b->teardown();
            b = NULL;
            puts("@ended");
        } else {
            puts("@what?");
        }
    }
}

static int list(void)
{
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        for (const struct bench *b = files[f]; b->name; b++)
            printf("%s %s %.0f\n", b->name, units[b->kind], b->per_iteration);
    }
    return 0;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/gbench-XXXXXX";
    struct termios t;
    cpu_set_t all;
    int o;

    if (argc > 1 && !strcmp(argv[1], "--exit")) /* os.forkexec runs this program */
        return 0;
    while ((o = getopt(argc, argv, "lb:p:s:")) != -1) {
        switch (o) {
        case 'l':
            return list();
        case 'b':
            job_busybox = optarg;
            break;
        case 'p':
            job_python = optarg;
            break;
        case 's':
            job_scripts = optarg;
            break;
        default:
            fprintf(stderr, "usage: gbench [-l] [-b BUSYBOX] [-p PYTHON] [-s SCRIPTS]\n");
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!tcgetattr(0, &t)) {
        cfmakeraw(&t);
        tcsetattr(0, TCSANOW, &t);
    }
    sched_getaffinity(0, sizeof(all), &all);
    use_cpu(&all, 0); /* both ends of os.pipe on one CPU, as in a guest that has one */
    if (!mkdtemp(dir) || chdir(dir))
        die(dir);
    serve(&all);
    if (chdir("/") || rmdir(dir))
        die(dir);
    return 0;
}
