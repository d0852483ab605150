// SPDX-License-Identifier: MIT
// Whole programs as benchmarks: busybox' gzip, gunzip, sha256sum and shell, python3, and SQLite in it.

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gbench.h"

#define DATA_MIB 4

const char *job_busybox, *job_python, *job_scripts;

static int have_busybox(void)
{
    return job_busybox && job_scripts;
}

static int have_python(void)
{
    return job_python && job_scripts;
}

/* Runs a program n times with stdout in the file `output`. */
static void run(u64 n, const char *output, char *const argv[])
{
    char *envp[] = {"PATH=/bin:/usr/bin", "PYTHONDONTWRITEBYTECODE=1", NULL};

    while (n--) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
            if (fd < 0 || dup2(fd, 1) < 0)
                _exit(126);
            execve(argv[0], argv, envp);
            _exit(127);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status) {
            fprintf(stderr, "gbench: %s %s: status 0x%x\n", argv[0], argv[1], status);
            _exit(1);
        }
    }
}

/* The size of a file; as a checksum it tells whether a job did its work. */
static u64 size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (u64)st.st_size;
}

/* Text of a few hundred made-up words, some frequent, in ./data. */
static void write_text(void)
{
    static char out[1 << 20], words[512][12];
    FILE *f = fopen("data", "w");
    if (!f)
        die("data");
    rng_state = 0x853c49e6748fea9bull;
    for (int i = 0; i < 512; i++) {
        int length = 2 + (int)(rng() % 9);
        for (int k = 0; k < length; k++)
            words[i][k] = (char)('a' + rng() % 26);
        words[i][length] = 0;
    }
    for (int m = 0; m < DATA_MIB; m++) {
        size_t at = 0;
        while (at < sizeof(out)) {
            u64 r = rng();
            for (const char *w = words[(r & 511) & ((r >> 20) & 511)]; *w && at < sizeof(out); w++)
                out[at++] = *w;
            if (at < sizeof(out))
                out[at++] = (r >> 40) % 11 ? ' ' : '\n';
        }
        if (fwrite(out, 1, sizeof(out), f) != sizeof(out))
            die("data");
    }
    if (fclose(f))
        die("data");
}

static u64 b_gzip(u64 n)
{
    run(n, "data.gz", (char *[]){(char *)job_busybox, "gzip", "-c", "data", NULL});
    return 0;
}

static void s_gunzip(void)
{
    write_text();
    b_gzip(1);
}

static void t_data(void)
{
    unlink("data");
    unlink("data.gz");
    unlink("data.out");
}

static u64 b_gunzip(u64 n)
{
    run(n, "data.out", (char *[]){(char *)job_busybox, "gzip", "-dc", "data.gz", NULL});
    return size_of("data.out");
}

static u64 b_sha256sum(u64 n)
{
    run(n, "data.out", (char *[]){(char *)job_busybox, "sha256sum", "data", NULL});
    return size_of("data.out");
}

/* A script of ours n times; its own argument is the path of busybox. */
static void run_script(u64 n, const char *program, char *option, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", job_scripts, name);
    run(n, "/dev/null",
        (char *[]){(char *)program, option, path, (char *)(job_busybox ? job_busybox : ""), NULL});
}

static u64 b_shloop(u64 n)
{
    run_script(n, job_busybox, "sh", "shloop.sh");
    return 0;
}

static u64 b_shfork(u64 n)
{
    run_script(n, job_busybox, "sh", "shfork.sh");
    return 0;
}

static u64 b_pystart(u64 n)
{
    run(n, "/dev/null", (char *[]){(char *)job_python, "-IS", "-c", "pass", NULL});
    return 0;
}

static u64 b_pybench(u64 n)
{
    run_script(n, job_python, "-IS", "pybench.py");
    return 0;
}

static u64 b_sqlite(u64 n)
{
    run_script(n, job_python, "-IS", "sqlbench.py");
    return 0;
}

const struct bench job_benches[] = {
    {"macro.gzip4m", b_gzip, write_text, t_data, have_busybox, .kind = MBS,
     .per_iteration = DATA_MIB << 20},
    {"macro.gunzip4m", b_gunzip, s_gunzip, t_data, have_busybox, .kind = MBS,
     .per_iteration = DATA_MIB << 20, .check_n = 1, .check = DATA_MIB << 20},
    {"macro.sha256sum4m", b_sha256sum, write_text, t_data, have_busybox, .kind = MBS,
     .per_iteration = DATA_MIB << 20, .check_n = 1, .check = 71},
    {"macro.shloop", b_shloop, .need = have_busybox, .per_iteration = 1},
    {"macro.shfork100", b_shfork, .need = have_busybox, .per_iteration = 1},
    {"macro.pystart", b_pystart, .need = have_python, .per_iteration = 1},
    {"macro.pybench", b_pybench, .need = have_python, .per_iteration = 1},
    {"macro.sqlite", b_sqlite, .need = have_python, .per_iteration = 1},
    {0},
};
