// SPDX-License-Identifier: MIT
// Interrupts, NMIs, their shadows, and port I/O that leaves the CPU; on the test machine alone. SDM 3A 6.7, 6.8.

#include "long.h"

USER(i_loop, "1: jmp 1b")

extern const u8 at_sti[], at_ss[], at_popf[], at_hlt[];

static void test_shadow(void)
{
    u64 before = intr_count;

    outb(PORT_INTR, 0x30);
    __asm__ volatile("nop\nnop\nnop" : : : "memory");
    is(intr_count - before, 0, "IF clear holds an interrupt back");
    __asm__ volatile("sti\nnop\n.globl at_sti\nat_sti: nop\ncli" : : : "memory");
    is(intr_count - before, 1, "STI lets it in");
    is(last.rip, (u64)at_sti, "after one instruction");
    is(last.vec, 0x30, "its vector");
    outb(PORT_INTR, 0x31);
    __asm__ volatile("sti\ncli\nnop" : : : "memory");
    is(intr_count - before, 1, "STI, CLI lets nothing in");
    __asm__ volatile("movl %%ss, %%eax\nsti\nmovl %%eax, %%ss\nnop\n.globl at_ss\nat_ss: nop\ncli" : : : "memory", "rax");
    is(intr_count - before, 2, "STI, MOV SS");
    is(last.rip, (u64)at_ss, "waits for the instruction after MOV SS");
    outb(PORT_INTR, 0x32);
    __asm__ volatile("pushq $0x202\npopfq\n.globl at_popf\nat_popf: nop\ncli" : : : "memory", "cc");
    is(last.rip, (u64)at_popf, "POPF has no shadow");
    outb(PORT_INTR, 0x33);
    __asm__ volatile("sti\nhlt\n.globl at_hlt\nat_hlt: nop\ncli" : : : "memory");
    is(last.rip, (u64)at_hlt, "HLT wakes and is over");
    is(last.vec, 0x33, "by this vector");
    outb(PORT_INTR, 0x34);
    run_user(i_loop, FLAG_IF, 0);
    is(EVENT(last.vec, last.cs), EVENT(0x34, SEL_UCODE), "an interrupt of user code");
    is(last.rflags & FLAG_RF, 0, "RF is pushed clear");
}

static unsigned nmi_depth, nmi_deepest, nmi_total;

static int on_nmi(struct regs *r)
{
    if (r->vec != 2)
        return -1;
    nmi_depth++;
    nmi_total++;
    if (nmi_depth > nmi_deepest)
        nmi_deepest = nmi_depth;
    if (nmi_total == 1) {
        outb(PORT_NMI, 1);
        for (volatile int i = 0; i < 10; i++)
            ;
    }
    nmi_depth--;
    return 0;
}

static void test_nmi(void)
{
    hook = on_nmi;
    outb(PORT_NMI, 1);
    for (volatile int i = 0; i < 10; i++)
        ;
    hook = NULL;
    is(nmi_total, 2, "an NMI during an NMI comes in the end");
    is(nmi_deepest, 1, "but after IRET");
}

static void test_io(void)
{
    static u8 buf[8] = "ABCDEFG";
    u64 rcx = 5, rsi = (u64)buf, rdi = WINDOW + 4096 - 3;

    is(inb(PORT_EXITING), 0x5a, "IN that leaves the CPU and comes back");
    outb(PORT_EXITING, 1);
    is(inb(PORT_EXITING), 0x5a, "and OUT that does");
    __asm__ volatile("rep outsb" : "+S"(rsi), "+c"(rcx) : "d"(PORT_SCRATCH) : "memory");
    is(rcx << 32 | (rsi - (u64)buf), 5, "REP OUTS: RCX and RSI");
    is(inb(PORT_SCRATCH), 'A', "and the bytes, first");
    rcx = 3;
    rdi = (u64)buf;
    __asm__ volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(PORT_SCRATCH) : "memory");
    is(*(u32 *)buf, 'B' | 'C' << 8 | 'D' << 16 | (u32)'D' << 24, "REP INS");
    is(rcx << 32 | (rdi - (u64)buf), 3, "RCX and RDI");
    rcx = 0;
    rdi = 0;
    WORKS("REP INS of nothing touches nothing", "xorl %%ecx, %%ecx\nxorl %%edx, %%edx\nrep insb", "D"(1ull << 63));
    window[0] = WINDOW_PHYS | PTE_P | PTE_W;
    window[1] = 0;
    invlpg(WINDOW + 4096);
    rsi = (u64)buf;
    rcx = 8;
    __asm__ volatile("rep outsb" : "+S"(rsi), "+c"(rcx) : "d"(PORT_SCRATCH) : "memory");
    TRY("movl $8, %%ecx\nmovl $0xf8, %%edx\nrep insb", "D"(WINDOW + 4096 - 3));
    is(LAST(), EVENT(14, 2), "REP INS into a missing page: #PF");
    is(last.rcx << 32 | (last.rdi - WINDOW), 5ull << 32 | 4096, "RCX and RDI tell what is done");
    is(inb(PORT_SCRATCH), buf[3], "and no byte of the port is lost");
}

void test_interrupts(void)
{
    if (!on_test_machine()) {
        skip("interrupts", "needs the test machine");
        return;
    }
    test_shadow();
    test_nmi();
    test_io();
}
