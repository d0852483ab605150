// SPDX-License-Identifier: MIT
// Virtual-8086 mode: the way in and out, and what IOPL decides. SDM 3A 20.2, 20.3.

#include "legacy.h"

#define VM_SEG 0x3000u

#define VM(name, code)                                                                             \
    __asm__(".pushsection .text\n.code16\n.globl " #name ", " #name "_end\n" #name ":\n" code       \
            "\nint $0x80\n" #name "_end:\n.code32\n.popsection");                                   \
    extern const u8 name[], name##_end[];

VM(v_nop, "movw %cs, %ax\nmovw %ds, %bx")
VM(v_cli, "cli")
VM(v_hlt, "hlt")
VM(v_in, "inb $0xf2, %al")
VM(v_in2, "inb $0xf1, %al")
VM(v_limit, "movw 0xffff, %ax")
VM(v_stack, "movw $1, %sp\npushw %ax")
VM(v_sldt, "sldt %ax")
VM(v_int, "int $0x30")
VM(v_load, "movw $0x3010, %ax\nmovw %ax, %es\nmovw %es:0, %bx\nmovw %es, %cx")
VM(v_far, ".skip 16, 0x90\nlcallw $0x3001, $(1f - v_far - 16)\njmp 2f\n1: movw %cs, %dx\nlretw\n2:")
VM(v_iret, "pushw $0x3000\npushw $0x3000\npushw $(1f - v_iret)\niretw\n1: pushfw\npopw %ax")
VM(v_ud, "ud2")

static void run_vm(const u8 *code, const u8 *end, u32 flags)
{
    u32 frame[9] = {0, VM_SEG, FLAG_VM | flags | 2, 0x8000, VM_SEG, 0x1111, VM_SEG, 0x2222, 0x3333};
    volatile u8 *to = (volatile u8 *)(VM_SEG << 4);

    for (u32 i = 0; code + i < end; i++)
        to[i] = code[i];
    *(volatile u16 *)0x30100 = 0xbeef;
    last.vec = NONE;
    enter_frame(frame, 9);
}
#define RUN_VM(name, flags) run_vm(name, name##_end, flags)

void test_vm86(void)
{
    RUN_VM(v_nop, 0);
    is(LAST(), EVENT(13, 0), "VM86: INT n with IOPL 0: #GP(0)");
    is(last.eip, 4, "at the INT");
    is(last.eflags & FLAG_VM, FLAG_VM, "VM is pushed");
    is(last.cs << 16 | last.ss, VM_SEG << 16 | VM_SEG, "CS and SS");
    is(last.ves << 16 | last.vds, 0x1111 << 16 | VM_SEG, "ES and DS");
    is(last.vfs << 16 | last.vgs, 0x22223333, "FS and GS");
    is(last.esp, 0x8000, "ESP");
    is(last_esp_in, 0x78000, "on ESP0");
    is(gs_in, 0, "with the data segments null");
    is(last_flags_in & FLAG_VM, 0, "and VM clear");
    is((last.eax & 0xffff) << 16 | (last.ebx & 0xffff), VM_SEG << 16 | VM_SEG, "CS and DS inside");
    RUN_VM(v_nop, FLAG_IOPL3);
    is(LAST(), EVENT(0x80, 0), "INT n with IOPL 3");
    is(last.eip, 6, "returns after it");
    RUN_VM(v_int, FLAG_IOPL3);
    is(LAST(), EVENT(13, 0x30 * 8 + 2), "INT through a gate of DPL 0: #GP(vector, IDT)");
    RUN_VM(v_cli, 0);
    is(EVENT(last.vec, last.eip), EVENT(13, 0), "CLI with IOPL 0: #GP(0)");
    RUN_VM(v_cli, FLAG_IOPL3 | FLAG_IF);
    is(EVENT(last.vec, last.eflags & FLAG_IF), EVENT(0x80, 0), "CLI with IOPL 3");
    RUN_VM(v_hlt, FLAG_IOPL3);
    is(LAST(), EVENT(13, 0), "HLT: #GP(0)");
    RUN_VM(v_in2, FLAG_IOPL3);
    is(EVENT(last.vec, last.eip), EVENT(13, 0), "IN looks at the bit map whatever IOPL is: #GP(0)");
    RUN_VM(v_in, FLAG_IOPL3);
    is(LAST(), EVENT(0x80, 0), "IN with its bit clear");
    RUN_VM(v_limit, FLAG_IOPL3);
    is(LAST(), EVENT(13, 0), "past 64 KiB: #GP(0)");
    RUN_VM(v_stack, FLAG_IOPL3);
    is(LAST(), EVENT(12, 0), "PUSH at SP 1: #SS(0)");
    RUN_VM(v_sldt, FLAG_IOPL3);
    is(LAST(), EVENT(6, 0), "SLDT: #UD");
    RUN_VM(v_load, FLAG_IOPL3);
    is(EVENT(last.vec, last.ebx & 0xffff), EVENT(0x80, 0xbeef), "a segment load, as in real mode");
    is(last.ecx & 0xffff, 0x3010, "its selector");
    RUN_VM(v_far, FLAG_IOPL3);
    is(EVENT(last.vec, last.edx & 0xffff), EVENT(0x80, 0x3001), "far CALL and RET");
    RUN_VM(v_iret, FLAG_IOPL3);
    is(EVENT(last.vec, last.eax & 0x3000), EVENT(0x80, 0x3000), "IRET with IOPL 3");
    RUN_VM(v_iret, 0);
    is(LAST(), EVENT(13, 0), "IRET with IOPL 0: #GP(0)");
    RUN_VM(v_ud, 0);
    is(LAST(), EVENT(6, 0), "an exception");
}
