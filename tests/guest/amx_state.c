// SPDX-License-Identifier: MIT
// Live tiles as signals and debuggers meet them: the frame of a signal, PTRACE_GETREGSET and SETREGSET.

#include "guest/tile.h"
#include "tap.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>

#define XSTATE_BV 512 /* in an XSAVE image: SDM 1 13.4.2 */
#define TILES     (1ull << XTILECFG | 1ull << XTILEDATA)

static tile_t a, b, c;

static void fill(tile_t t, unsigned seed)
{
    for (int i = 0; i < 16 * 64; i++)
        t[i / 64][i % 64] = (uint8_t)(i * 37 + seed * 101 + (i >> 3));
}

static uint64_t xstate_bv(const void *image)
{
    uint64_t v;

    memcpy(&v, (const uint8_t *)image + XSTATE_BV, 8);
    return v;
}

static void set_xstate_bv(void *image, uint64_t v)
{
    memcpy((uint8_t *)image + XSTATE_BV, &v, 8);
}

/* --- signals --- */

static struct {
    volatile sig_atomic_t count;
    uint64_t bv;
    tile_t frame, inside;
    uint8_t cfg[64];
    int change;
} seen;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    uint8_t *image = (uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs;
    uint8_t *tiles = image + xstate_offset(XTILEDATA);
    tile_t mine;

    seen.bv = xstate_bv(image);
    memcpy(seen.cfg, image + xstate_offset(XTILECFG), 64);
    memcpy(seen.frame, tiles, sizeof(seen.frame));
    if (seen.change == 1)
        tiles[3 * 64 + 5] ^= 0xff;
    if (seen.change == 2)
        set_xstate_bv(image, seen.bv & ~TILES);
    tile_configure();
    TILE_STORE(0, seen.inside);
    fill(mine, (unsigned)seen.count);
    TILE_LOAD(0, mine);
    TILE_LOAD(1, mine);
    seen.count++;
}

static int is_zero(tile_t t)
{
    for (int i = 0; i < 16 * 64; i++)
        if (t[i / 64][i % 64])
            return 0;
    return 1;
}

static void signal_frame(void)
{
    tile_configure();
    fill(a, 1);
    TILE_LOAD(0, a);
    raise(SIGUSR1);
    TILE_STORE(0, c);
    ok((seen.bv & TILES) == TILES, "a signal's frame has both tile components");
    ok(seen.cfg[0] == 1 && seen.cfg[16] == 64 && seen.cfg[48] == 16, "with the configuration");
    ok(!memcmp(seen.frame, a, sizeof(a)), "and the tiles");
    ok(is_zero(seen.inside), "the handler itself starts without tiles");
    ok(!memcmp(a, c, sizeof(a)), "and after it they are as before");

    seen.change = 1;
    raise(SIGUSR1);
    TILE_STORE(0, c);
    a[3][5] ^= 0xff;
    ok(!memcmp(a, c, sizeof(a)), "a byte changed in the frame is changed in the tile");
    seen.change = 2;
    raise(SIGUSR1);
    tile_configure();
    TILE_STORE(0, c);
    ok(is_zero(c), "a frame without the components leaves initial tiles");
    seen.change = 0;
}

static long product_errors(unsigned seed)
{
    long bad = 0;

    fill(a, seed);
    fill(b, seed * 7 + 1);
    TILE_ZERO(0);
    TILE_LOAD(1, a);
    TILE_LOAD(2, b);
    TDPBSSD_0_1_2();
    TILE_STORE(0, c);
    for (int i = 0; i < 16; i += 5) {
        for (int j = 0; j < 16; j++) {
            int32_t sum = 0, out;

            for (int k = 0; k < 64; k++)
                sum += (int8_t)a[i][k] * (int8_t)b[k / 4][j * 4 + k % 4];
            memcpy(&out, &c[i][j * 4], 4);
            bad += out != sum;
        }
    }
    return bad;
}

/* A timer interrupts products wherever it does; the handler uses the same tiles. */
static void timer_signals(void)
{
    struct itimerval every = {{0, 700}, {0, 700}}, off = {{0, 0}, {0, 0}};
    int from = seen.count, rounds = 0;
    long bad = 0;

    tile_configure();
    setitimer(ITIMER_REAL, &every, NULL);
    while (seen.count - from < 500 || rounds < 500) {
        bad += product_errors((unsigned)rounds);
        rounds++;
    }
    setitimer(ITIMER_REAL, &off, NULL);
    ok(bad == 0, "%d products between %d signals are right", rounds, seen.count - from);
}

/* --- ptrace --- */

static uint8_t image[16384] __attribute__((aligned(64)));

static size_t get_image(pid_t pid)
{
    struct iovec iov = {image, sizeof(image)};

    return ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov) ? 0 : iov.iov_len;
}

static int set_image(pid_t pid, size_t size)
{
    struct iovec iov = {image, size};

    return ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov) ? errno : 0;
}

/* The traced child stops twice with tile 0 loaded (amx), and ends with 0 if byte [3][5] has been flipped by then. */
static void child(int amx)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    if (amx) {
        tile_configure();
        fill(a, 9);
        TILE_LOAD(0, a);
    }
    raise(SIGSTOP);
    TILE_STORE(0, c);
    raise(SIGSTOP); /* by another way into the kernel, tiles still live */
    TILE_STORE(0, c);
    a[3][5] ^= 0xff;
    _exit(memcmp(a, c, sizeof(a)) != 0);
}

static pid_t start(int amx)
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        child(amx);
    waitpid(pid, &status, 0);
    return pid;
}

/* Let it run on; what it ends in, its second stop being passed over. */
static int finish(pid_t pid)
{
    int status;

    do {
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
    } while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        ptrace(PTRACE_CONT, pid, 0, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return status;
}

static void step(pid_t pid, int count)
{
    int status;

    while (count-- > 0) {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
    }
}

static void traced(void)
{
    unsigned at = xstate_offset(XTILEDATA);
    pid_t pid = start(1);
    size_t size = get_image(pid);
    int status;

    fill(a, 9);
    ok(size >= at + 8192, "NT_X86_XSTATE has %zu bytes", size);
    ok((xstate_bv(image) & TILES) == TILES && image[xstate_offset(XTILECFG)] == 1,
       "a debugger finds both tile components");
    ok(!memcmp(image + at, a, sizeof(a)), "and what is in the tile");
    image[at + 3 * 64 + 5] ^= 0xff;
    ok(set_image(pid, size) == 0, "it may change the tile");
    step(pid, 40);
    ok(get_image(pid) == size && (image[at + 3 * 64 + 5] ^ a[3][5]) == 0xff,
       "single steps keep that");
    status = finish(pid);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "and the program sees it");

    pid = start(1);
    size = get_image(pid);
    set_xstate_bv(image, xstate_bv(image) & ~TILES);
    ok(set_image(pid, size) == 0, "it may take the tiles away");
    status = finish(pid);
    ok(WIFSTOPPED(status) && WSTOPSIG(status) == SIGILL,
       "then TILESTORED is illegal, unconfigured");

    pid = start(0);
    size = get_image(pid);
    ok(size && !(xstate_bv(image) & 1ull << XTILEDATA), "a program without tiles shows none");
    status = finish(pid);
    ok(WIFSTOPPED(status) && WSTOPSIG(status) == SIGILL, "and has none");
}

int main(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

    setvbuf(stdout, NULL, _IONBF, 0);
    if (!ok(tile_permission() == 0, "permission is given"))
        return tap_done();
    sigaction(SIGUSR1, &sa, NULL);
    sigaction(SIGALRM, &sa, NULL);
    signal_frame();
    timer_signals();
    TILE_RELEASE();
    traced();
    return tap_done();
}
