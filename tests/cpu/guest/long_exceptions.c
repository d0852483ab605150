// SPDX-License-Identifier: MIT
// Exceptions and INT n at CPL 0 in 64-bit mode, good gates and bad ones. SDM 3A 6.

#include "long.h"

static void test_faults(void)
{
    FAULTS(0, 0, "DIV by zero: #DE", "xorl %%edx, %%edx\nxorl %%ecx, %%ecx\ndivl %%ecx");
    FAULTS(6, 0, "UD2: #UD", "ud2");
    is(last.rflags & FLAG_RF, FLAG_RF, "a fault pushes RF set");
    is(last_flags_in & (FLAG_RF | FLAG_IF | FLAG_TF), 0, "and the handler runs with RF, IF and TF clear");
    is(last.cs, SEL_CODE, "CS as pushed");
    is(last.ss, SEL_DATA, "SS as pushed");
    FAULTS(6, 0, "LOCK where it is not allowed: #UD", ".byte 0xf0, 0x90");
    FAULTS(13, 0, "load from a non-canonical address: #GP(0)", "movq (%%rbx), %%rcx", "b"(1ull << 63));
    FAULTS(12, 0, "the same with RBP as base: #SS(0)",
           "movq %%rbp, %%r8\nmovq %%rbx, %%rbp\nleaq 8f(%%rip), %%rax\nmovq %%rax, resume(%%rip)\n"
           "movq (%%rbp), %%rcx\n8: movq %%r8, %%rbp", "b"(1ull << 63));
    FAULTS(13, 0, "store to a non-canonical address: #GP(0)", "movq %%rcx, (%%rbx)", "b"(1ull << 47));
    FAULTS(13, 0, "jump to a non-canonical address: #GP(0)", "jmp *%%rbx", "b"(1ull << 62));
}

static void test_int(void)
{
    u64 flags;

    FAULTS(3, 0, "INT3: #BP", "int3\n.globl after_int3\nafter_int3:");
    extern u8 after_int3[];
    is(last.rip, (u64)after_int3, "INT3 pushes the address after it");
    is(last.rflags & FLAG_RF, 0, "and RF clear");
    TRY("sti\nint $0x80");
    is(EVENT(last.vec, last_flags_in & FLAG_IF), EVENT(0x80, 0), "INT through an interrupt gate clears IF");
    is(last.rflags & FLAG_IF, FLAG_IF, "and pushes it set");
    TRY("int $0x81");
    is(EVENT(last.vec, last_flags_in & FLAG_IF), EVENT(0x81, FLAG_IF), "INT through a trap gate leaves IF");
    TRY("cli\npushfq\norl $0x4000, (%%rsp)\npopfq\nint $0x80");
    is(last.rflags & FLAG_NT, FLAG_NT, "NT is pushed as it was");
    is(last_flags_in & FLAG_NT, 0, "and clear in the handler");
    flags = rflags();
    is(flags & FLAG_NT, FLAG_NT, "and comes back by IRET");
    TRY("iretq");
    is(EVENT(last.vec, last.err), EVENT(13, 0), "IRET with NT set in long mode: #GP(0)");
    __asm__ volatile("pushfq\nandl $~0x4000, (%%rsp)\npopfq" : : : "cc", "memory");
    TRY("leaq 8f(%%rip), %%rax\nmovq %%rax, resume(%%rip)\npushq $1\nint $0x82\n8: popq %%rcx");
    is((last.rsp & 7) | (last_rsp_in > last.rsp), 0, "RSP is pushed as it was");
    is(last_rsp_in & 15, 0, "and the frame begins at a multiple of 16");
}

static void test_gates(void)
{
    u64 code = gdt[SEL_CODE / 8];

    idt_set(0x90, 0, 0x8e, 0);
    FAULTS(13, 0, "gate with a null selector: #GP(0)", "int $0x90");
    idt_set(0x90, SEL_DATA, 0x8e, 0);
    FAULTS(13, SEL_DATA, "gate to a data segment: #GP(selector)", "int $0x90");
    idt_set(0x90, SEL_CODE32, 0x8e, 0);
    FAULTS(13, SEL_CODE32, "gate to a 32-bit code segment: #GP(selector)", "int $0x90");
    idt_set(0x90, SEL_UCODE, 0x8e, 0);
    FAULTS(13, SEL_UCODE & ~3, "gate to code of an outer level: #GP(selector)", "int $0x90");
    idt_set(0x90, 0x1000, 0x8e, 0);
    FAULTS(13, 0x1000, "gate to a selector past the GDT: #GP(selector)", "int $0x90");
    idt_set(0x90, SEL_CODE | 3, 0x8e, 0);
    FAULTS(0x90, 0, "the RPL in a gate does not matter", "int $0x90");
    is(last_cs_in, SEL_CODE, "and CS.RPL is the CPL");
    idt_set(0x90, SEL_CONFORMING, 0x8e, 0);
    FAULTS(0x90, 0, "a conforming segment is a fine handler", "int $0x90");
    idt_set(0x90, SEL_CODE, 0x8c, 0);
    FAULTS(13, 0x482, "a call gate in the IDT: #GP(vector, IDT)", "int $0x90");
    idt_set(0x90, SEL_CODE, 0x85, 0);
    FAULTS(13, 0x482, "a task gate in long mode: #GP(vector, IDT)", "int $0x90");
    idt_set(0x90, SEL_CODE, 0x0e, 0);
    FAULTS(11, 0x482, "a gate that is not present: #NP(vector, IDT)", "int $0x90");
    idt_set(6, SEL_CODE, 0x0e, 0);
    FAULTS(11, 0x33, "the same for an exception: EXT is set", "ud2");
    idt_set(6, SEL_CODE, 0x8e, 0);
    idt_set(0x90, SEL_CODE, 0x8e, 0);
    idt_limit(0x90 * 16 + 14);
    FAULTS(13, 0x482, "a vector past the IDT's limit: #GP(vector, IDT)", "int $0x90");
    idt_limit(256 * 16 - 1);
    gdt[SEL_CONFORMING / 8] &= ~(1ull << 47);
    idt_set(0x90, SEL_CONFORMING, 0x8e, 0);
    FAULTS(11, SEL_CONFORMING, "gate to code that is not present: #NP(selector)", "int $0x90");
    gdt[SEL_CONFORMING / 8] = code | 4ull << 40;
    idt_set(0x90, SEL_CODE, 0x8e, 0);
}

static void test_ist(void)
{
    idt_set(0x90, SEL_CODE, 0x8e, 2);
    FAULTS(0x90, 0, "gate with an IST", "int $0x90");
    is(last_rsp_in, 0x7c000, "runs on that stack");
    is(last_ss_in, SEL_DATA, "and leaves SS alone at the same level");
    is(last.ss, SEL_DATA, "SS in its frame");
    gdt[SEL_TSS / 8] = 0;
    system_desc(SEL_TSS, (u64)tss, 0x2d, 9);
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
    FAULTS(10, SEL_TSS, "a TSS too short for the IST: #TS(TR)", "int $0x90");
    system_desc(SEL_TSS, (u64)tss, sizeof(u8[0x68 + 33]) - 1, 9);
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
    *(u64 *)(tss + 0x2c) = 1ull << 50;
    FAULTS(12, 0, "a non-canonical IST: #SS(0)", "int $0x90");
    *(u64 *)(tss + 0x2c) = 0x7c000;
    idt_set(0x90, SEL_CODE, 0x8e, 0);
}

void test_exceptions(void)
{
    test_faults();
    test_int();
    test_gates();
    test_ist();
}
