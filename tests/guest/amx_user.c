// SPDX-License-Identifier: MIT
// AMX as a Linux program sees it: permission, signals of each illegal use, tiles across switches, results.

#include "guest/tile.h"
#include "tap.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

static uint8_t cfg[64] __attribute__((aligned(64)));
static uint8_t a[16][64] __attribute__((aligned(64))), b[16][64], c[16][64];

static void ldtilecfg(void)
{
    __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x00" : : "a"(cfg) : "memory");
}
static void sttilecfg(void)
{
    __asm__ volatile(".byte 0xc4,0xe2,0x79,0x49,0x00" : : "a"(c) : "memory");
}
static void tilerelease(void)
{
    TILE_RELEASE();
}
static void tilezero(void)
{
    TILE_ZERO(0);
}
static void tdpbssd(void)
{
    TDPBSSD_0_1_2();
}
static void tdp_same(void)
{
    __asm__ volatile(".byte 0xc4,0xe2,0x73,0x5e,0xc1");
}
static void load0(const void *p)
{
    TILE_LOAD(0, p);
}
static void load1(const void *p)
{
    TILE_LOAD(1, p);
}
static void load2(const void *p)
{
    TILE_LOAD(2, p);
}
static void store0(void *p)
{
    TILE_STORE(0, p);
}
static void load_c(void)
{
    load0(c);
}

static void configure(void)
{
    memset(cfg, 0, sizeof(cfg));
    cfg[0] = 1;
    for (int i = 0; i < 8; i++) {
        cfg[16 + i * 2] = 64;
        cfg[48 + i] = 16;
    }
    ldtilecfg();
}

static sigjmp_buf back;
static struct {
    int sig, code, trap;
} got;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    got.sig = sig;
    got.code = info->si_code;
    got.trap = (int)((ucontext_t *)context)->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(back, 1);
}

/* Does (fn) raise signal (sig) with (code) and (trap)? sig 0: none. A signal leaves AMX state initial. */
static int raises(void (*fn)(void), int sig, int code, int trap)
{
    memset(&got, 0, sizeof(got));
    if (!sigsetjmp(back, 1))
        fn();
    if (got.sig == sig && got.code == code && got.trap == trap)
        return 1;
    printf("# signal %d, code %d, trap %d\n", got.sig, got.code, got.trap);
    return 0;
}

static void without_permission(void)
{
    unsigned long perm = 0;

    ok(raises(configure, 0, 0, 0), "without permission LDTILECFG works");
    ok(raises(sttilecfg, 0, 0, 0) && !memcmp(cfg, c, 64), "and STTILECFG gives it back");
    ok(raises(tilezero, SIGILL, ILL_ILLOPC, 0), "TILEZERO: SIGILL, ILL_ILLOPC, no trap");
    configure();
    ok(raises(load_c, SIGILL, ILL_ILLOPC, 0), "so TILELOADD");
    configure();
    ok(raises(tdpbssd, SIGILL, ILL_ILLOPC, 0), "so TDPBSSD");
    ok(raises(tilerelease, 0, 0, 0), "TILERELEASE works");
    ok(syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0, "permission is given");
    syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &perm);
    ok(perm >> 17 == 3, "and says so");
}

static void bad_config(void)
{
    cfg[2] = 1;
    ldtilecfg();
}

static void bad_palette(void)
{
    cfg[0] = 2;
    ldtilecfg();
}

static void illegal_uses(void)
{
    ok(raises(tilezero, SIGILL, ILL_ILLOPN, 6), "unconfigured: SIGILL, ILL_ILLOPN, #UD");
    configure();
    ok(raises(tilezero, 0, 0, 0), "configured: legal");
    ok(raises(tdp_same, SIGILL, ILL_ILLOPN, 6), "a register twice: #UD");
    configure();
    ok(raises(bad_config, SIGSEGV, SI_KERNEL, 13), "a reserved byte: SIGSEGV, SI_KERNEL, #GP");
    configure();
    ok(raises(bad_palette, SIGSEGV, SI_KERNEL, 13), "palette 2: the same");
}

static void *other_thread(void *arg)
{
    uint8_t mine[16][64], seen[16][64];
    long bad = 0;

    configure();
    memset(mine, (int)(intptr_t)arg, sizeof(mine));
    load0(mine);
    for (int i = 0; i < 200; i++) {
        sched_yield();
        store0(seen);
        bad += memcmp(mine, seen, sizeof(mine)) != 0;
    }
    return (void *)bad;
}

static volatile sig_atomic_t handled;

static void on_usr1(int sig)
{
    configure();
    memset(b, 0x22, sizeof(b));
    load0(b);
    handled = sig;
}

static void state_is_kept(void)
{
    pthread_t t[4];
    long bad = 0;
    int status;

    for (long i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, other_thread, (void *)(i + 1));
    for (int i = 0; i < 4; i++) {
        void *ret;

        pthread_join(t[i], &ret);
        bad += (long)ret;
    }
    ok(bad == 0, "four threads keep their tiles through 200 yields each");

    configure();
    memset(a, 0x11, sizeof(a));
    load0(a);
    signal(SIGUSR1, on_usr1);
    raise(SIGUSR1);
    store0(c);
    ok(handled && !memcmp(a, c, sizeof(a)), "a signal handler's tiles are its own");
    if (fork() == 0) {
        configure();
        store0(c);
        _exit(c[0][0] || c[15][63]);
    }
    wait(&status);
    ok(status == 0, "a child starts with zero tiles");
    store0(c);
    ok(!memcmp(a, c, sizeof(a)), "its parent keeps them");
}

static void products(void)
{
    unsigned bad = 0;

    for (int i = 0; i < 16 * 64; i++) {
        a[i / 64][i % 64] = (uint8_t)(i * 37);
        b[i / 64][i % 64] = (uint8_t)(i * 11 + 3);
    }
    configure();
    tilezero();
    load1(a);
    load2(b);
    tdpbssd();
    store0(c);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 16; j++) {
            int32_t sum = 0, out;

            for (int k = 0; k < 64; k++)
                sum += (int8_t)a[i][k] * (int8_t)b[k / 4][j * 4 + k % 4];
            memcpy(&out, &c[i][j * 4], 4);
            bad += out != sum;
        }
    }
    ok(bad == 0, "TDPBSSD computes the product");
}

int main(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};

    setvbuf(stdout, NULL, _IONBF, 0);
    sigaction(SIGILL, &sa, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    without_permission();
    illegal_uses();
    state_is_kept();
    products();
    return tap_done();
}
