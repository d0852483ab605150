// SPDX-License-Identifier: MIT
// Real-address mode: interrupts through the IVT, limits, far transfers, what is undefined there. SDM 3A 20.1.

__asm__(".code16gcc"); /* the rest of the file runs in real mode */

#include "legacy.h"

struct real_result real_results[128];
u32 real_count;

extern u32 real_last[6], real_resume; /* vector, IP, CS, FLAGS, SP before, flags in the handler */
extern u8 real_stubs[];

static void note(u32 got, u32 want, const char *what)
{
    if (real_count < 128)
        real_results[real_count++] = (struct real_result){got, want, what};
}

#define RTRY(code, ...)                                                                            \
    ({                                                                                             \
        real_last[0] = NONE;                                                                       \
        __asm__ volatile("movl $9f, real_resume\n" code "\n9:"                                     \
                         :                                                                         \
                         : __VA_ARGS__                                                             \
                         : "eax", "ecx", "edx", "memory", "cc");                                   \
        real_last[0];                                                                              \
    })
#define REVENT(vector, what, code, ...) note(RTRY(code, __VA_ARGS__), vector, what)

static void test_interrupts(void)
{
    extern u8 after_int[], at_div[];

    REVENT(0x55, "real mode: INT n", "sti\nint $0x55\n.globl after_int\nafter_int: nop");
    note(real_last[1], (u32)after_int, "IP after the instruction");
    note(real_last[2], 0, "CS");
    note(real_last[3] & FLAG_IF, FLAG_IF, "IF is pushed set");
    note(real_last[5] & (FLAG_IF | FLAG_TF), 0, "and clear in the handler");
    __asm__ volatile("cli");
    REVENT(0, "#DE", "xorl %%edx, %%edx\nxorl %%ecx, %%ecx\n.globl at_div\nat_div: divl %%ecx");
    note(real_last[1], (u32)at_div, "IP of the instruction");
    __asm__ volatile("movl $9f, real_resume\nmovl %%esp, %%esi\nmovw $2, %%sp\nint $0x56\n9: movl %%esi, %%esp"
                     : : : "esi", "memory", "cc");
    *(volatile u32 *)0 = (u32)real_stubs; /* the frame began in the IVT */
    note(real_last[0] << 16 | (real_last[4] & 0xffff), 0x560002, "a frame that wraps around the stack's end");
    REVENT(6, "#UD", "ud2");
    REVENT(3, "INT3", "int3");
    REVENT(4, "INTO with OF", "movb $0x7f, %%al\naddb $1, %%al\ninto");
    REVENT(NONE, "INTO without", "xorl %%eax, %%eax\ninto");
    REVENT(1, "INT1", ".byte 0xf1");
    REVENT(5, "BOUND outside", "movw $11, %%ax\nboundw %%ax, (%%ebx)", "b"(&(const short[2]){-5, 10}));
    REVENT(NONE, "BOUND inside", "movw $-5, %%ax\nboundw %%ax, (%%ebx)", "b"(&(const short[2]){-5, 10}));
}

static void test_real_limits(void)
{
    REVENT(13, "a word at FFFFH: #GP", "movw (%%ebx), %%ax", "b"(0xffff));
    REVENT(NONE, "a byte there", "movb (%%ebx), %%al", "b"(0xffff));
    REVENT(13, "past 64 KiB: #GP", "movb (%%ebx), %%al", "b"(0x10000));
    REVENT(12, "the same through SS: #SS", "movb %%ss:(%%ebx), %%al", "b"(0x10000));
    REVENT(13, "far JMP past the limit: #GP", "ljmpl $0, $0x12345");
    note(real_last[2], 0, "CS stays");
}

static void test_undefined(void)
{
    REVENT(6, "LLDT in real mode: #UD", "xorl %%eax, %%eax\nlldt %%ax");
    REVENT(6, "LTR", "ltr %%ax");
    REVENT(6, "STR", "str %%ax");
    REVENT(6, "SLDT", "sldt %%ax");
    REVENT(6, "LAR", "lar %%ax, %%cx");
    REVENT(6, "VERR", "verr %%ax");
    REVENT(6, "ARPL", "arpl %%ax, %%cx");
    REVENT(13, "SYSENTER in real mode: #GP", "sysenter");
    REVENT(NONE, "SMSW, CLTS, CPUID and MOV CR are fine",
           "smsw %%ax\nclts\npushl %%ebx\nxorl %%eax, %%eax\ncpuid\npopl %%ebx\nmovl %%cr0, %%eax\nmovl %%eax, %%cr0\nsti\ncli");
}

static void test_far(void)
{
    u32 sp, cs;

    __asm__ volatile("movl %%esp, %%ecx\npushw $0x7777\nlcallw $0x10, $(7f - 0x100)\njmp 8f\n"
                     "7: movl %%cs, %%eax\nlretw $2\n8: subl %%esp, %%ecx"
                     : "=a"(cs), "=c"(sp) : : "edx", "memory", "cc");
    note(cs, 0x10, "far CALL: CS");
    note(sp, 0, "far RET releases its immediate");
    __asm__ volatile("pushl $0\npopfl\npushw $0x46\npushw $0\npushw $7f\niretw\n7: pushfl\npopl %0" : "=r"(cs) : : "memory", "cc");
    note(cs & 0xffff, 0x46, "IRET pops FLAGS");
    __asm__ volatile("pushl $0x40046\npushl $0\npushl $7f\niretl\n7: pushfl\npopl %0" : "=r"(cs) : : "memory", "cc");
    note(cs & 0x40000, 0x40000, "32-bit IRET pops AC");
    __asm__ volatile("pushl $2\npopfl" : : : "cc");
    __asm__ volatile("movw $0x1234, %%ax\nmovw %%ax, %%fs\nmovw %%fs, %w0\npushw %%fs\npopw %%gs\nmovw %%gs, %w1"
                     : "=&r"(cs), "=&r"(sp) : : "eax");
    note((cs & 0xffff) << 16 | (sp & 0xffff), 0x12341234, "segment registers hold what is loaded");
    *(volatile u8 *)0x9004 = 0xa5;
    __asm__ volatile("movw $0x900, %%ax\nmovw %%ax, %%fs\nmovb %%fs:4, %%al\nmovzbl %%al, %0" : "=r"(cs) : : "eax");
    note(cs, 0xa5, "and their base is 16 times that");
}

/* DS with a limit of 4 GiB, kept in real mode. */
static void test_unreal(void)
{
    __asm__ volatile("lgdtl gdt_pointer\nmovl %%cr0, %%eax\norb $1, %%al\nmovl %%eax, %%cr0\nmovw $0x10, %%cx\n"
                     "movw %%cx, %%fs\nandb $0xfe, %%al\nmovl %%eax, %%cr0\nxorw %%cx, %%cx\nmovw %%cx, %%fs"
                     : : : "eax", "ecx", "memory");
    REVENT(NONE, "unreal mode: a load from 2 MiB", "movl %%fs:(%%ebx), %%eax", "b"(0x200000));
}

void real_main(void)
{
    volatile u32 *ivt = (volatile u32 *)0;

    for (u32 v = 0; v < 256; v++)
        ivt[v] = (u32)real_stubs + v * 8;
    test_interrupts();
    test_real_limits();
    test_undefined();
    test_far();
    test_unreal();
}
