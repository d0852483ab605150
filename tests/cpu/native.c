// SPDX-License-Identifier: MIT
// The stub around the natively run instruction, and the signal handler that ends its faults.

#include "native.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define NATIVE_TAKEN     (NATIVE_BASE + 0xa00)
#define NATIVE_FALL      (NATIVE_BASE + 0xb00)
#define NATIVE_FAULT     (NATIVE_BASE + 0xe00)
#define NATIVE_AT(field) ((u32)(NATIVE_BASE + 0x1000 + offsetof(struct native, field)))

static u8 *native_put(u8 *p, const void *bytes, unsigned n)
{
    memcpy(p, bytes, n);
    return p + n;
}
#define NATIVE_EMIT(p, ...)                                                                        \
    do {                                                                                           \
        const u8 emit_[] = {__VA_ARGS__};                                                          \
        (p) = native_put((p), emit_, sizeof(emit_));                                               \
    } while (0)

/* mov reg, [abs] (load) or mov [abs], reg. */
static u8 *native_mov(u8 *p, unsigned reg, u32 at, bool load)
{
    NATIVE_EMIT(p, (u8)(0x48 | (reg >> 3) << 2), load ? 0x8b : 0x89, (u8)(0x04 | (reg & 7) << 3),
                0x25);
    return native_put(p, &at, 4);
}

static void native_jmp(u8 *p, u64 to)
{
    s32 rel = (s32)(to - (u64)(p + 5));

    NATIVE_EMIT(p, 0xe9);
    native_put(p, &rel, 4);
}

/* pop callee-saved; ret */
static u8 *native_leave(u8 *p)
{
    p = native_mov(p, 4, NATIVE_AT(host_rsp), true);
    NATIVE_EMIT(p, 0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
    return p;
}

static u8 *native_epilogue(u8 *p, u32 where)
{
    u32 at = NATIVE_AT(where), flags = NATIVE_AT(out_flags);

    NATIVE_EMIT(p, 0xc7, 0x04, 0x25);
    p = native_put(p, &at, 4);
    p = native_put(p, &where, 4);
    for (unsigned i = 0; i < 16; i++)
        p = native_mov(p, i, NATIVE_AT(out) + i * 8, false);
    p = native_mov(p, 4, NATIVE_AT(host_rsp), true);
    NATIVE_EMIT(p, 0x9c, 0x8f, 0x04, 0x25); /* pushfq; pop [out_flags] */
    p = native_put(p, &flags, 4);
    return native_leave(p);
}

static void native_signal(int sig, siginfo_t *si, void *context)
{
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

    for (unsigned i = 0; i < 16; i++)
        NATIVE->out[i] = (u64)g[order[i]];
    NATIVE->out_flags = (u64)g[REG_EFL];
    NATIVE->where = NATIVE_FAULTED;
    NATIVE->sig = (u32)sig;
    g[REG_RIP] = (greg_t)NATIVE_FAULT;
    g[REG_RSP] =
        (greg_t)NATIVE->host_rsp; /* some hypervisors do not return to a non-canonical RSP */
    g[REG_EFL] &= ~0x40500ll;     /* TF, DF, AC */
}

bool native_init(void)
{
    static u8 stack[65536];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_sigaction = native_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    u8 *p = mmap((void *)NATIVE_BASE, 0x2000, PROT_READ | PROT_WRITE | PROT_EXEC,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    void *scratch = mmap((void *)NATIVE_SCRATCH, NATIVE_SCRATCH_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    u32 flags = NATIVE_AT(in_flags);

    if (p == MAP_FAILED || scratch == MAP_FAILED)
        return false;
    NATIVE_EMIT(p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);
    p = native_mov(p, 4, NATIVE_AT(host_rsp), false);
    NATIVE_EMIT(p, 0xff, 0x34, 0x25); /* push [in_flags]; popfq */
    p = native_put(p, &flags, 4);
    NATIVE_EMIT(p, 0x9d);
    for (unsigned i = 0; i < 16; i++)
        p = native_mov(p, i, NATIVE_AT(in) + i * 8, true);
    native_jmp(p, NATIVE_INSN);
    native_jmp((u8 *)NATIVE_NEAR, NATIVE_TAKEN);
    native_epilogue((u8 *)NATIVE_TAKEN, NATIVE_JUMPED);
    native_epilogue((u8 *)NATIVE_FALL, NATIVE_WENT_ON);
    native_leave((u8 *)NATIVE_FAULT);
    sigaltstack(&ss, NULL);
    return !sigaction(SIGFPE, &sa, NULL) && !sigaction(SIGSEGV, &sa, NULL) &&
           !sigaction(SIGILL, &sa, NULL) && !sigaction(SIGBUS, &sa, NULL);
}

void native_set(const u8 *insn, unsigned len)
{
    native_jmp(native_put((u8 *)NATIVE_INSN, insn, len), NATIVE_FALL);
}

void native_run(void)
{
    __asm__ volatile("" ::: "memory");
    ((void (*)(void))NATIVE_BASE)();
    __asm__ volatile("" ::: "memory");
}
