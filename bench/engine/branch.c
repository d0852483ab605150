// SPDX-License-Identifier: MIT
// Branchy benchmarks: an interpreter, a sort, indirect and recursive calls, written code.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "gbench.h"

/* Register machine: sums Collatz lengths of 1..N. */
enum { I_LI, I_MOV, I_ADD, I_ADDI, I_MUL3, I_SHR1, I_ANDI, I_JZ, I_JNZ, I_JNE1, I_JMP, I_HALT };
struct ins {
    u8 op, a, b;
    short imm;
};
static const struct ins vm_prog[] = {
    {I_LI, 0, 0, 300},  /* 0  r0 = N            */
    {I_LI, 1, 0, 0},    /* 1  r1 = total        */
    {I_MOV, 2, 0, 0},   /* 2  r2 = x            */
    {I_ADDI, 1, 0, 1},  /* 3  total++           */
    {I_MOV, 3, 2, 0},   /* 4  r3 = x            */
    {I_ANDI, 3, 0, 1},  /* 5  r3 &= 1           */
    {I_JZ, 3, 0, 10},   /* 6  even -> 10        */
    {I_MUL3, 2, 2, 0},  /* 7  x = 3x            */
    {I_ADDI, 2, 0, 1},  /* 8  x++               */
    {I_JMP, 0, 0, 11},  /* 9                    */
    {I_SHR1, 2, 0, 0},  /* 10 x >>= 1           */
    {I_JNE1, 2, 0, 3},  /* 11 while x != 1      */
    {I_ADDI, 0, 0, -1}, /* 12 N--               */
    {I_JNE1, 0, 0, 2},  /* 13 while N != 1      */
    {I_HALT, 1, 0, 0},
};
static u64 vm_steps;

static NOINLINE u64 vm_run(const struct ins *pc0)
{
    u64 r[4] = {0}, steps = 0;
    const struct ins *pc = pc0;
    for (;;) {
        const struct ins *i = pc++;
        steps++;
        switch (i->op) {
        case I_LI:
            r[i->a] = (u64)i->imm;
            break;
        case I_MOV:
            r[i->a] = r[i->b];
            break;
        case I_ADD:
            r[i->a] += r[i->b];
            break;
        case I_ADDI:
            r[i->a] += (u64)(int64_t)i->imm;
            break;
        case I_MUL3:
            r[i->a] = r[i->b] * 3;
            break;
        case I_SHR1:
            r[i->a] >>= 1;
            break;
        case I_ANDI:
            r[i->a] &= (u64)i->imm;
            break;
        case I_JZ:
            if (!r[i->a])
                pc = pc0 + i->imm;
            break;
        case I_JNZ:
            if (r[i->a])
                pc = pc0 + i->imm;
            break;
        case I_JNE1:
            if (r[i->a] != 1)
                pc = pc0 + i->imm;
            break;
        case I_JMP:
            pc = pc0 + i->imm;
            break;
        case I_HALT:
            vm_steps = steps;
            return r[i->a];
        }
    }
}
#define VM_STEPS 95236 /* steps of one vm_run(vm_prog), checked in s_vm */
static void s_vm(void)
{
    vm_run(vm_prog);
    if (vm_steps != VM_STEPS)
        fprintf(stderr, "gbench: the interpreter took %llu steps\n", (unsigned long long)vm_steps);
}
static u64 b_interp(u64 n)
{
    u64 s = 0;
    while (n--)
        s += vm_run(vm_prog);
    return s;
}

#define QN 65536
static u32 q_src[QN], q_buf[QN];
static void s_qsort(void)
{
    rng_state = 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < QN; i++)
        q_src[i] = (u32)(rng() >> 16);
}
static int cmp_u32(const void *a, const void *b)
{
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return x < y ? -1 : x > y;
}
static u64 b_qsort(u64 n)
{
    u64 s = 0;
    while (n--) {
        memcpy(q_buf, q_src, sizeof q_buf);
        qsort(q_buf, QN, sizeof q_buf[0], cmp_u32);
        for (int i = 0; i < QN; i += 4096)
            s = s * 31 + q_buf[i];
    }
    return s;
}

#define F(k)                                                                                       \
    static NOINLINE u64 f##k(u64 x)                                                                \
    {                                                                                              \
        KEEP(x);                                                                                   \
        return x * (2 * k + 3) + k;                                                                \
    }
F(0)
F(1)
F(2)
F(3)
F(4)
F(5)
F(6)
F(7)
static u64 (*const volatile ftab[8])(u64) = {f0, f1, f2, f3, f4, f5, f6, f7};
static u64 b_icall(u64 n)
{
    u64 x = 1;
    while (n--)
        x = ftab[x >> 61](x);
    return x;
}

static NOINLINE u64 fib(u32 n)
{
    KEEP(n);
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
#define FIB_CALLS 57313 /* calls of fib(22) */
static u64 b_fib(u64 n)
{
    u64 s = 0;
    while (n--)
        s += fib(22);
    return s;
}

/* Write a fresh 6-byte function into an executable page and call it. */
static u8 *smc_page;
static void s_smc(void)
{
    if (!smc_page) {
        smc_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
        if (smc_page == MAP_FAILED)
            die("mmap rwx");
    }
}
static u64 b_smc(u64 n)
{
    u64 s = 0;
    while (n--) {
        u32 v = (u32)n * 2654435761u;
        smc_page[0] = 0xb8; /* mov eax, imm32 ; ret */
        memcpy(smc_page + 1, &v, 4);
        smc_page[5] = 0xc3;
        BARRIER();
        s += ((u32(*)(void))(uintptr_t)smc_page)();
    }
    return s;
}

const struct bench branch_benches[] = {
    {"br.interp", b_interp, s_vm, .per_iteration = VM_STEPS, .check_n = 1, .check = 0x3757},
    {"br.qsort64k", b_qsort, s_qsort, .per_iteration = QN, .check_n = 1,
     .check = 0x14a85603ce2a3eab},
    {"br.icall", b_icall, .per_iteration = 1, .check_n = 1000, .check = 0x6a4dc3748d60bc6f},
    {"br.fib", b_fib, .per_iteration = FIB_CALLS, .check_n = 1, .check = 0x452f},
    {"br.smc", b_smc, s_smc, .per_iteration = 1, .check_n = 500, .check = 0xf9bd66caee},
    {0},
};
