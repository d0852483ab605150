// SPDX-License-Identifier: MIT
// Code that changes under the CPU's feet, in a guest: by its own stores, through aliases, from other threads, by DMA.

#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE   4096
#define ROUNDS 4000

typedef int function(void);

static uint8_t *pages(size_t n, int prot)
{
    uint8_t *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* mov eax, imm32; ret */
static void put_return(uint8_t *at, int value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static int call(const uint8_t *at)
{
    return ((function *)(uintptr_t)at)();
}

static bool patch_and_call(uint8_t *write, const uint8_t *run)
{
    put_return(write, -1);
    for (int i = 0; i < ROUNDS; i++) {
        memcpy(write + 1, &i, 4);
        if (call(run) != i)
            return false;
    }
    return true;
}

static void by_own_stores(void)
{
    uint8_t *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);

    ok(patch_and_call(p, p), "an immediate patched in place");
    ok(patch_and_call(p + PAGE - 3, p + PAGE - 3),
       "an instruction across two pages, patched in both");
}

static void through_alias(void)
{
    int fd = memfd_create("code", 0);
    uint8_t *rw, *rx;

    if (fd < 0 || ftruncate(fd, PAGE))
        return;
    rw = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rx = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    ok(patch_and_call(rw, rx), "patched through another mapping");
    ok(patch_and_call(rw + 64, rx + 64), "the same at another place of the page");
}

/*
 * A loop that patches the instruction that follows the store, in the same run of code:
 *     mov ecx, N; again: mov [rip + imm], ecx; mov eax, imm; cmp eax, ecx; jne out; dec ecx; jnz again; out: mov eax, ecx; ret
 */
static void in_the_same_block(void)
{
    static const uint8_t code[] = {
        0xb9, 0x10, 0x27, 0,    0,    0x89, 0x0d, 1,    0,    0,    0,    0xb8, 0,    0,
        0,    0,    0x39, 0xc8, 0x75, 4,    0xff, 0xc9, 0x75, 0xed, 0x89, 0xc8, 0xc3,
    };
    uint8_t *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);

    memcpy(p, code, sizeof(code));
    is_u64(call(p), 0, "a store to the next instruction takes effect at once");
}

/* As a JIT compiler with W^X does. */
static void under_mprotect(void)
{
    uint8_t *p = pages(1, PROT_READ | PROT_WRITE);
    bool good = true;

    for (int i = 0; i < 500 && good; i++) {
        mprotect(p, PAGE, PROT_READ | PROT_WRITE);
        put_return(p + (i & 7) * 16, i);
        mprotect(p, PAGE, PROT_READ | PROT_EXEC);
        good = call(p + (i & 7) * 16) == i;
    }
    ok(good, "rewritten between changes of protection");
}

/* The kernel's copies are somebody else's stores. */
static void by_system_calls(void)
{
    uint8_t *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC), code[6];
    bool good = true;
    int fd[2];

    if (pipe(fd))
        return;
    for (int i = 0; i < 2000 && good; i++) {
        put_return(code, i);
        good = write(fd[1], code, sizeof(code)) == sizeof(code) &&
               read(fd[0], p, sizeof(code)) == sizeof(code) && call(p) == i;
    }
    ok(good, "written by read()");
}

static uint8_t *shared_code;
static atomic_int wanted, seen;

static void *caller(void *arg)
{
    int last = 0;

    while (last < ROUNDS / 20) {
        int v = call(shared_code);

        if (v != last)
            atomic_store(&seen, v);
        last = v;
    }
    return NULL;
}

/* Cross-modifying code with the handshake that SDM 3A 8.1.3 wants, by membarrier(). */
static void from_another_thread(void)
{
    pthread_t t;

    shared_code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    put_return(shared_code + 3, 0); /* the immediate is aligned */
    shared_code += 3;
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0) ||
        pthread_create(&t, NULL, caller, NULL)) {
        skip("no membarrier or no thread", "patched by another thread");
        return;
    }
    for (int i = 1; i <= ROUNDS / 20; i++) {
        atomic_store(&wanted, i);
        __atomic_store_n((int *)(void *)(shared_code + 1), i, __ATOMIC_RELEASE);
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0);
        while (atomic_load(&seen) != i)
            sched_yield();
    }
    pthread_join(t, NULL);
    ok(true, "a loop in another thread sees every patch");
}

/* Each sector of the disk holds a function that returns the sector's number. */
static void by_dma(const char *disk)
{
    int fd = open(disk, O_RDONLY | O_DIRECT);
    uint8_t *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    bool good = true;

    if (fd < 0) {
        skip("no disk", "written by a device");
        return;
    }
    for (int i = 0; i < 200 && good; i++) {
        good = pread(fd, p, 512, i * 512L) == 512 && call(p) == i;
        if (!good)
            printf("# sector %d: %s\n", i, strerror(errno));
    }
    ok(good, "written by a device");
    close(fd);
}

/* make-disk FILE: the disk for by_dma(). */
static int make_disk(const char *path)
{
    FILE *f = fopen(path, "w");

    for (int i = 0; f && i < 256; i++) {
        uint8_t sector[512] = {0};

        put_return(sector, i);
        fwrite(sector, 1, sizeof(sector), f);
    }
    return !f || fclose(f);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "make-disk"))
        return make_disk(argv[2]);
    by_own_stores();
    through_alias();
    in_the_same_block();
    under_mprotect();
    by_system_calls();
    from_another_thread();
    by_dma("/dev/vda");
    return tap_done();
}
