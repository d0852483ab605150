// SPDX-License-Identifier: MIT
// Interrupt gates of both sizes, and calls through gates, in 32-bit protected mode. SDM 3A 5.8, 6.11.

#include "legacy.h"

static void test_idt(void)
{
    extern u8 after16[];

    FAULTS(0x80, 0, "INT through a 32-bit gate", "int $0x80");
    idt_set(0x90, SEL_CODE, 0x86, stub16);
    __asm__ volatile("movl $after16, resume\nmovl %%esp, gate_state\nint $0x90\n.globl after16\nafter16: movl $0, resume"
                     : : : "eax", "ecx", "edx", "memory", "cc");
    is(gate_state[0] - stub16_state[0], 6, "a 16-bit gate pushes 6 bytes");
    is(stub16_state[1], (u32)after16 & 0xffff, "IP");
    is(stub16_state[2], SEL_CODE, "CS");
    idt_set(0x90, SEL_TSS2, 0x85, NULL);
    FAULTS(13, 0x482, "a task gate: not done, #GP(vector, IDT)", "int $0x90");
    set_desc(SEL_SHORT, 0, 0x10, 0x9b, 4);
    idt_set(0x90, SEL_SHORT, 0x8e, NULL);
    FAULTS(13, 0, "a handler past its segment's limit: #GP(0)", "int $0x90");
    idt_set(0x90, SEL_DATA, 0x8e, NULL);
    FAULTS(13, SEL_DATA, "a gate to data: #GP(selector)", "int $0x90");
    idt_set(0x90, SEL_CODE, 0x0e, NULL);
    FAULTS(11, 0x482, "an absent gate: #NP(vector, IDT)", "int $0x90");
    idt_set(0x90, SEL_CODE, 0x8e, NULL);
    FAULTS(4, 0, "INTO", "movb $0x7f, %%al\naddb $1, %%al\ninto");
    FAULTS(5, 0, "BOUND", "movl $-1, %%eax\nboundl %%eax, (%%ebx)", "b"(&(const u32[2]){0, 5}));
    FAULTS(6, 0, "BOUND with a register: #UD", ".byte 0x62, 0xc0");
    WORKS("16-bit code and back",
          "ljmpl $0x80, $7f\n.code16\n7: movl $8f, %%eax\nljmpl $8, $8f\n.code32\n8:");
}

static void test_call(void)
{
    u32 eax;

    WORKS("far CALL to conforming code and RET", "lcall $0x98, $7f\njmp 8f\n7: lret\n8:");
    __asm__ volatile("pushl $0x22\npushl $0x11\nlcall $0x60, $0\n" : "=a"(eax) : : "ecx", "edx", "memory");
    is(gate_state[3] << 8 | gate_state[4], 0x1122, "call gate at the same level: parameters stay where they are");
    is(gate_state[0], SEL_CODE, "its CS");
    FAULTS(13, 0, "IRET with NT: no task switches, #GP(0)",
           "pushfl\norl $0x4000, (%%esp)\npopfl\niretl");
    __asm__ volatile("pushfl\nandl $~0x4000, (%%esp)\npopfl" : : : "cc", "memory");
}

void test_gates(void)
{
    u32 off = (u32)gate_entry;

    gdt[SEL_GATE / 8] = (off & 0xffff) | SEL_CODE << 16 | (u64)(0xec02 | (off & 0xffff0000)) << 32;
    test_idt();
    test_call();
}
