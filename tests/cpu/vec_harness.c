// SPDX-License-Identifier: MIT
// Run one instruction natively on a given register state; the oracle of the vector tests.

#include "vec_harness.h"

#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* Referenced by name from the assembly below. */
__attribute__((used)) static struct native_state native_cur;
__attribute__((used)) static u64 native_rsp, native_level;
__attribute__((used)) static u32 native_mx;
__attribute__((used)) static void *native_slot;

void native_enter(void);

#define STR_(x) #x
#define STR(x) STR_(x)
#define Z(n) "vmovups native_cur+512+64*" #n "(%rip), %zmm" #n "\n"
#define ZS(n) "vmovups %zmm" #n ", native_cur+512+64*" #n "(%rip)\n"
#define Y(n) "vmovups native_cur+512+64*" #n "(%rip), %ymm" #n "\n"
#define YS(n) "vmovups %ymm" #n ", native_cur+512+64*" #n "(%rip)\n"
#define X(n) "movups native_cur+512+64*" #n "(%rip), %xmm" #n "\n"
#define XS(n) "movups %xmm" #n ", native_cur+512+64*" #n "(%rip)\n"
#define K(n) "kmovq native_cur+2560+8*" #n "(%rip), %k" #n "\n"
#define KS(n) "kmovq %k" #n ", native_cur+2560+8*" #n "(%rip)\n"
#define R(n, r) "mov native_cur+2624+8*" #n "(%rip), %" #r "\n"
#define RS(n, r) "mov %" #r ", native_cur+2624+8*" #n "(%rip)\n"
#define LOW16(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define HIGH16(M) M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23) M(24) M(25) M(26) M(27) M(28) M(29) M(30) M(31)
#define MASKS(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define GPRS(M)                                                                                    \
    M(0, rax) M(1, rcx) M(2, rdx) M(3, rbx) M(5, rbp) M(6, rsi) M(7, rdi) M(8, r8) M(9, r9)        \
    M(10, r10) M(11, r11) M(12, r12) M(13, r13) M(14, r14) M(15, r15)

_Static_assert(offsetof(struct native_state, zmm) == 512 && offsetof(struct native_state, k) == 2560 &&
               offsetof(struct native_state, r) == 2624 && offsetof(struct native_state, rflags) == 2752 &&
               offsetof(struct native_state, mxcsr) == 2760, "offsets in the assembly");

__asm__(".pushsection .text\n"
        ".globl native_enter\n"
        ".type native_enter, @function\n"
        "native_enter:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, native_rsp(%rip)\n"
        "stmxcsr native_mx(%rip)\n"
        "fxrstor64 native_cur(%rip)\n"
        "cmpl $1, native_level(%rip)\n"
        "ja 3f\n je 2f\n" LOW16(X) "jmp 4f\n"
        "2:\n" LOW16(Y) "jmp 4f\n"
        "3:\n" LOW16(Z) HIGH16(Z) MASKS(K)
        "4:\n"
        "ldmxcsr native_cur+2760(%rip)\n"
        "push native_cur+2752(%rip)\n popfq\n" GPRS(R)
        "call *native_slot(%rip)\n" GPRS(RS)
        "pushfq\n pop native_cur+2752(%rip)\n"
        "mov native_rsp(%rip), %rsp\n"
        "cld\n"
        "stmxcsr native_cur+2760(%rip)\n"
        "cmpl $1, native_level(%rip)\n"
        "ja 3f\n je 2f\n" LOW16(XS) "jmp 4f\n"
        "2:\n" LOW16(YS) "vzeroupper\n jmp 4f\n"
        "3:\n" LOW16(ZS) HIGH16(ZS) MASKS(KS) "vzeroupper\n"
        "4:\n"
        "fxsave64 native_cur(%rip)\n"
        "fninit\n"
        "ldmxcsr native_mx(%rip)\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n"
        ".popsection\n");

static sigjmp_buf escape;
static bool armed; /* outside native_run() a signal is a bug of ours: die of it */
static u64 fault_addr;
static u32 fault_mxcsr;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
    ucontext_t *uc = ctx;

    if (!armed) {
        signal(sig, SIG_DFL);
        return;
    }
    armed = false;
    fault_addr = (u64)(uintptr_t)si->si_addr;
    fault_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
    siglongjmp(escape, sig);
}

static int host_level(void)
{
    unsigned a, b, c, d, lo, hi;

    __cpuid(1, a, b, c, d);
    if (!(c & BIT(27)))
        return LEVEL_SSE;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    if ((lo & 6) != 6 || !(c & BIT(28)))
        return LEVEL_SSE;
    __cpuid_count(7, 0, a, b, c, d);
    return (lo & 0xe6) == 0xe6 && b & BIT(16) && b & BIT(30) ? LEVEL_AVX512 : LEVEL_AVX;
}

int native_init(void)
{
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static u8 stack[1 << 17];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};

    if (sigaltstack(&ss, NULL))
        return -1;
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &sa, NULL);
    native_slot = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (native_slot == MAP_FAILED)
        return -1;
    native_level = (u64)host_level();
    return (int)native_level;
}

int native_run(struct native_state *s, const u8 *bytes, unsigned len, u64 *addr)
{
    int sig;

    memcpy(native_slot, bytes, len);
    ((u8 *)native_slot)[len] = 0xc3;
    native_cur = *s;
    sig = sigsetjmp(escape, 0);
    if (sig) {
        s->mxcsr = fault_mxcsr;
        *addr = fault_addr;
        return sig;
    }
    armed = true;
    native_enter();
    armed = false;
    *s = native_cur;
    return 0;
}
