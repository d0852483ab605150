// SPDX-License-Identifier: MIT
// Segment limits and rights of memory accesses in protected mode. SDM 3A 5.3 to 5.5.

#include "legacy.h"

#define ES(sel) __asm__ volatile("movl %0, %%es" : : "r"(sel))

static void test_data(void)
{
    ES(SEL_SMALL);
    WORKS("the last dword of a segment", "movl %%es:0xffc, %%eax");
    FAULTS(13, 0, "one byte further: #GP(0)", "movl %%es:0xffd, %%eax");
    FAULTS(13, 0, "the first byte past it: #GP(0)", "movb %%es:0x1000, %%al");
    FAULTS(13, 0, "offsets that wrap: #GP(0)", "movl %%es:0xfffffffe, %%eax");
    ES(SEL_DOWN32);
    FAULTS(13, 0, "expand-down: the limit itself: #GP(0)", "movb %%es:0xfff, %%al");
    WORKS("expand-down: just above it", "movb %%es:0x1000, %%al");
    WORKS("expand-down: far above it", "movl %%es:0x7ffc, %%eax");
    ES(SEL_DOWN16);
    WORKS("expand-down, 16 bits: up to FFFFH", "movb %%es:0xffff, %%al");
    FAULTS(13, 0, "and not beyond: #GP(0)", "movl %%es:0xffff, %%eax");
    ES(SEL_RO);
    WORKS("read-only: read", "movl %%es:0x9000, %%eax");
    FAULTS(13, 0, "read-only: write: #GP(0)", "movl %%eax, %%es:0x9000");
    FAULTS(13, 0, "read-only: read-modify-write: #GP(0)", "addl $0, %%es:0x9000");
    WORKS("code: read through CS", "movl %%cs:0x9000, %%eax");
    FAULTS(13, 0, "code: write through CS: #GP(0)", "movl %%eax, %%cs:0x9000");
    FAULTS(13, SEL_XO, "execute-only in ES: #GP(selector)", "movl $0x50, %%eax\nmovl %%eax, %%es");
    ES(0);
    FAULTS(13, 0, "through a null selector: #GP(0)", "movl %%es:0x9000, %%eax");
    ES(SEL_DATA);
    FAULTS(13, 0, "LES of a pointer across the limit: #GP(0)", "movl $0x30, %%ecx\nmovl %%ecx, %%es\nles %%es:0xffb, %%eax");
    WORKS("LES", "les (%%ebx), %%eax\nmovl %%eax, gate_state", "b"("\x44\x33\x22\x11\x10\x00"));
    is(gate_state[0], 0x11223344, "its offset");
    ES(SEL_DATA);
}

/* The stack segment has base 0 and ends at 5FFFFH, so that the handler can run on it. */
static void test_stack(void)
{
    static const char *const what[] = {"the last dword of a stack", "one byte further: #SS(0)"};

    for (unsigned i = 0; i < 2; i++) {
        last.vec = NONE;
        __asm__ volatile("movl $8f, resume\nmovl %%esp, %%esi\nmovl %%ss, %%edi\nmovl %1, %%ss\nmovl $0x5f000, %%esp\n"
                         "pushl %%ebp\nmovl %0, %%ebp\nmovl 0(%%ebp), %%eax\n8: popl %%ebp\nmovl %%edi, %%ss\n"
                         "movl %%esi, %%esp\nmovl $0, resume"
                         : : "c"(i ? 0x5fffd : 0x5fffc), "d"(SEL_STACK) : "eax", "esi", "edi", "memory");
        is(LAST(), i ? EVENT(12, 0) : EVENT(NONE, 0), what[i]);
    }
    FAULTS(13, SEL_RO, "SS: read-only: #GP(selector)", "movl $0x48, %%eax\nmovl %%eax, %%ss");
    FAULTS(13, 0, "SS: null: #GP(0)", "xorl %%eax, %%eax\nmovl %%eax, %%ss");
    FAULTS(12, SEL_ABSENT, "SS: not present: #SS(selector)", "movl $0x90, %%eax\nmovl %%eax, %%ss");
}

static void test_code(void)
{
    extern u8 short_code[];

    set_desc(SEL_SHORT, (u32)short_code, 1, 0x9b, 4);
    FAULTS(13, 0, "far JMP past the limit of the target: #GP(0)", "ljmpl $0x58, $2");
    FAULTS(13, SEL_DATA, "far JMP to data: #GP(selector)", "ljmpl $0x10, $0x9000");
    FAULTS(13, SEL_TSS2, "far JMP to a TSS: no task switches, #GP(selector)", "ljmpl $0x78, $0");
    FAULTS(13, SEL_TASK, "far JMP to a task gate: #GP(selector)", "ljmpl $0x70, $0");
}

static void test_queries(void)
{
    u32 out, zf;

    __asm__ volatile("lar %w2, %0\nsetz %b1\nmovzbl %b1, %1" : "=r"(out), "=&q"(zf) : "r"(SEL_TASK));
    is(zf << 31 | out, 0x80008500, "LAR: task gate");
    __asm__ volatile("movl $7, %0\nlsl %w2, %0\nsetz %b1\nmovzbl %b1, %1" : "=&r"(out), "=&q"(zf) : "r"(SEL_TASK));
    is(zf << 31 | out, 7, "LSL: task gate: no");
    __asm__ volatile("lar %w2, %0\nsetz %b1\nmovzbl %b1, %1" : "=r"(out), "=&q"(zf) : "r"(SEL_GATE16));
    is(zf << 31 | out, 0x8000e400, "LAR: 16-bit call gate");
    __asm__ volatile("movl $0x10, %0\narpl %w2, %w0\nsetz %b1\nmovzbl %b1, %1" : "=&r"(out), "=&q"(zf) : "r"(3));
    is(zf << 31 | out, 0x80000013, "ARPL raises the RPL");
    __asm__ volatile("movl $0x13, %0\narpl %w2, %w0\nsetz %b1\nmovzbl %b1, %1" : "=&r"(out), "=&q"(zf) : "r"(1));
    is(zf << 31 | out, 0x13, "but does not lower it");
}

void test_limits(void)
{
    set_desc(SEL_TSS2, 0x9000, 0x67, 0x89, 0);
    gdt[SEL_TASK / 8] = 0x0000850000780000;
    gdt[SEL_GATE16 / 8] = ((u32)gate_entry & 0xffff) | SEL_CODE << 16 | 0x0000e40000000000;
    test_data();
    test_stack();
    test_code();
    test_queries();
}

__asm__(".text\n.globl short_code\nshort_code: nop\nnop\nnop\nnop\n");
