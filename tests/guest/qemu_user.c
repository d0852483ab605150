// SPDX-License-Identifier: MIT
// Init of a guest: vector registers across signals and in signal frames, where CPUID says they are; then power off.

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { AVX = 2, HI16_ZMM = 7 };

static uint8_t in[64], ymm15[32], zmm31[64];
static volatile int bad, signals;
static int wide;

static unsigned offset(unsigned component)
{
    unsigned a, b, c, d;

    __cpuid_count(0xd, component, a, b, c, d);
    return b;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    const uint8_t *image = (const uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs;

    bad += memcmp(image + offset(AVX) + 15 * 16, in + 16, 16) != 0;
    bad += wide && memcmp(image + offset(HI16_ZMM) + 15 * 64, in, 64);
    __asm__ volatile("vpxor %%ymm15, %%ymm15, %%ymm15" ::: "xmm15");
    if (wide)
        __asm__ volatile("vpxord %zmm31, %zmm31, %zmm31");
    signals++;
}

/* One signal between loading the registers and storing them. */
static void around_signal(long tid)
{
    long nr = 200 /* tkill */, sig = SIGUSR1;

    if (wide)
        __asm__ volatile("vmovdqu64 %[in], %%zmm31\n\tvmovdqu %[in], %%ymm15\n\tsyscall\n\t"
                         "vmovdqu64 %%zmm31, %[z]\n\tvmovdqu %%ymm15, %[y]"
                         : "+a"(nr), [z] "=m"(zmm31), [y] "=m"(ymm15)
                         : "D"(tid), "S"(sig), [in] "m"(in)
                         : "rcx", "r11", "memory", "xmm15");
    else
        __asm__ volatile("vmovdqu %[in], %%ymm15\n\tsyscall\n\tvmovdqu %%ymm15, %[y]"
                         : "+a"(nr), [y] "=m"(ymm15)
                         : "D"(tid), "S"(sig), [in] "m"(in)
                         : "rcx", "r11", "memory", "xmm15");
    bad += memcmp(ymm15, in, sizeof(ymm15)) != 0;
    bad += wide && memcmp(zmm31, in, sizeof(zmm31));
}

static int vectors(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

    wide = !!__builtin_cpu_supports("avx512f");
    sigaction(SIGUSR1, &sa, NULL);
    for (int i = 0; i < 50; i++) {
        for (unsigned b = 0; b < sizeof(in); b++)
            in[b] = (uint8_t)(i * 7 + b + 1);
        around_signal(gettid());
    }
    return signals == 50 && !bad ? 42 : 1;
}

int main(void)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(vectors());
    waitpid(pid, &status, 0);
    printf("offsets: AVX %u, ZMM16-31 %u\n", offset(AVX), offset(HI16_ZMM));
    printf("user program: %s\n", WIFEXITED(status) && WEXITSTATUS(status) == 42 ? "good" : "bad");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
