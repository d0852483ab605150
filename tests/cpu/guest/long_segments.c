// SPDX-License-Identifier: MIT
// Segment register loads, descriptor tables, far transfers at CPL 0, LAR and its kin. SDM 3A 3.4, 5.

#include "long.h"

#define LOAD(seg, sel, vector, error, what) FAULTS(vector, error, what, "movl %%ebx, %%" seg, "b"(sel))

static void test_loads(void)
{
    u64 absent = gdt[SEL_ABSENT / 8];

    LOAD("ds", SEL_UDATA, NONE, 0, "DS: data of an outer level");
    LOAD("ds", 0, NONE, 0, "DS: null");
    WORKS("and memory is reached without it", "movq (%%rbx), %%rcx", "b"(gdt));
    LOAD("es", SEL_ABSENT, 11, SEL_ABSENT, "ES: not present: #NP(selector)");
    LOAD("es", 0x1003, 13, 0x1000, "ES: past the GDT: #GP(selector)");
    LOAD("es", SEL_EXECONLY, 13, SEL_EXECONLY & ~3, "ES: code that cannot be read: #GP(selector)");
    LOAD("es", SEL_TSS, 13, SEL_TSS, "ES: a TSS: #GP(selector)");
    LOAD("es", SEL_DATA | 3, 13, SEL_DATA, "ES: RPL beyond the DPL: #GP(selector)");
    LOAD("es", SEL_CONFORMING | 3, NONE, 0, "ES: conforming code, any RPL");
    LOAD("es", 7, NONE, 0, "ES: from the LDT");
    LOAD("es", 0xf, 13, 0xc, "ES: from the LDT, RPL beyond the DPL: #GP(selector)");
    LOAD("es", 0x17, 13, 0x14, "ES: past the LDT: #GP(selector)");
    gdt[SEL_UDATA / 8] &= ~(1ull << 40);
    LOAD("es", SEL_UDATA, NONE, 0, "ES: a descriptor not accessed yet");
    is(gdt[SEL_UDATA / 8] >> 40 & 1, 1, "sets the accessed bit");

    LOAD("ss", SEL_UDATA, 13, SEL_UDATA & ~3, "SS: another level: #GP(selector)");
    LOAD("ss", SEL_READONLY & ~3, 13, SEL_READONLY & ~3, "SS: not writable: #GP(selector)");
    LOAD("ss", 3, 13, 0, "SS: null with another RPL: #GP(0)");
    gdt[SEL_ABSENT / 8] = 0x00cf13000000ffff;
    LOAD("ss", SEL_ABSENT, 12, SEL_ABSENT, "SS: not present: #SS(selector)");
    gdt[SEL_ABSENT / 8] = absent;
    FAULTS(0x80, 0, "SS: null at CPL 0", "movl %%ebx, %%ss\nint $0x80", "b"(0));
    is(last.ss, 0, "is what an interrupt then pushes");
    LOAD("ss", SEL_DATA, NONE, 0, "SS: back");
    FAULTS(13, 0x1000, "POP FS with a bad selector: #GP(selector)",
           "movq %%rsp, %%rdi\npushq $0x1000\nleaq 8f(%%rip), %%rax\nmovq %%rax, resume(%%rip)\n"
           "popq %%fs\n8: movq %%rsp, %%rcx\nmovq %%rdi, %%rsp\nsubq %%rcx, %%rdi\nmovq %%rdi, sys_state(%%rip)", "D"(0));
    is(sys_state[0], 8, "does not pop");
    FAULTS(NONE, 0, "LGS", "lgsl (%%rbx), %%ecx\nmovl %%ecx, sys_state(%%rip)", "b"("\x78\x56\x34\x12\x23"));
    is((u32)sys_state[0], 0x12345678, "loads the offset");
    LOAD("gs", 0, NONE, 0, "GS: null");
    WORKS("LSS", "lss (%%rbx), %%ecx\nmovl %%ecx, sys_state(%%rip)", "b"("\x44\x33\x22\x11\x10"));
    is((u32)sys_state[0], 0x11223344, "its offset");
    WORKS("POP DS, PUSH FS", "pushq $0x23\npopq %%fs\npushq %%fs\npopq %%rcx\nmovq %%rcx, sys_state(%%rip)");
    is(sys_state[0], SEL_UDATA, "the selector, zero-extended");
}

static void test_bases(void)
{
    u64 base = ~0ull;

    wrmsr(0xc0000100, 0xffff800012345678);
    is(rdmsr(0xc0000100), 0xffff800012345678, "FS base by MSR");
    wrmsr(0xc0000100, (u64)gdt);
    __asm__ volatile("movq %%fs:8, %0" : "=r"(base));
    is(base, gdt[1], "is where FS leads");
    LOAD("fs", SEL_UDATA, NONE, 0, "FS: a selector");
    is(rdmsr(0xc0000100), 0, "takes the descriptor's base");
    wrmsr(0xc0000100, 0x1234);
    LOAD("fs", 0, NONE, 0, "FS: null");
    if (!is_amd())
        is(rdmsr(0xc0000100), 0, "clears the base");
    FAULTS(13, 0, "a non-canonical base: #GP(0)", "movl $0xc0000100, %%ecx\nxorl %%eax, %%eax\nmovl $0x8000, %%edx\nwrmsr");
    FAULTS(6, 0, "RDFSBASE without CR4.FSGSBASE: #UD", "rdfsbase %%rcx");
    write_cr4(read_cr4() | 1 << 16);
    WORKS("WRFSBASE, RDFSBASE", "wrfsbase %%rbx\nrdfsbase %%rcx\nmovq %%rcx, sys_state(%%rip)", "b"(0x123456789abc));
    is(sys_state[0], 0x123456789abc, "the base");
    FAULTS(13, 0, "WRGSBASE, not canonical: #GP(0)", "wrgsbase %%rbx", "b"(1ull << 47));
    WORKS("WRGSBASE of 32 bits", "movl $0xffffffff, %%ecx\nwrgsbase %%ecx\nrdgsbase %%rcx\nmovq %%rcx, sys_state(%%rip)");
    is(sys_state[0], 0xffffffff, "zero-extends");
    wrmsr(0xc0000102, 0xabc000);
    WORKS("SWAPGS", "swapgs");
    is(rdmsr(0xc0000101), 0xabc000, "GS base");
    is(rdmsr(0xc0000102), 0xffffffff, "and the other one");
}

static void test_system_registers(void)
{
    struct __attribute__((packed)) { u16 limit; u64 base; } dtr = {0}, bad = {0xff, 1ull << 63};
    u64 val;

    __asm__ volatile("sgdt %0" : "=m"(dtr));
    is(dtr.base, (u64)gdt, "SGDT: base");
    if (on_test_machine())
        FAULTS(13, 0, "LGDT, not canonical: #GP(0)", "lgdt (%%rbx)", "b"(&bad));
    FAULTS(13, SEL_TSS, "LTR of a busy TSS: #GP(selector)", "movl $0x30, %%ecx\nltr %%cx");
    is(gdt[SEL_TSS / 8] >> 40 & 0xf, 11, "LTR has set the busy bit");
    if (on_test_machine())
        FAULTS(13, 0, "LTR, null: #GP(0)", "xorl %%ecx, %%ecx\nltr %%cx");
    FAULTS(13, 4, "LTR from the LDT: #GP(selector)", "movl $4, %%ecx\nltr %%cx");
    FAULTS(13, SEL_TSS, "LLDT of a TSS: #GP(selector)", "movl $0x30, %%ecx\nlldt %%cx");
    WORKS("LLDT, null", "xorl %%ecx, %%ecx\nlldt %%cx");
    LOAD("es", 7, 13, 4, "then the LDT is empty: #GP(selector)");
    WORKS("LLDT", "movl $0x48, %%ecx\nlldt %%cx");
    __asm__ volatile("movq $-1, %0\nstr %w0" : "=r"(val));
    is(val & 0xffff, SEL_TSS, "STR");
    __asm__ volatile("movq $-1, %%rax\nsldt %%eax\nmovq %%rax, %0" : "=r"(val) : : "rax");
    is(val, SEL_LDT, "SLDT to a 32-bit register");
    __asm__ volatile("smsw %0" : "=r"(val));
    is(val, read_cr0(), "SMSW to a 64-bit register");
}

extern u8 gate_entry[], compat_code[], same_ret[];
extern u32 compat_result;
static struct __attribute__((packed)) far64 { u64 off; u16 sel; } far64;
static struct __attribute__((packed)) far32 { u32 off; u16 sel; } far32;

#define FAR_CALL(selector, offset, vector, error, what)                                            \
    do {                                                                                           \
        far64 = (struct far64){(u64)(offset), selector};                                           \
        FAULTS(vector, error, what, "rex.w lcall *(%%rbx)", "b"(&far64));                          \
    } while (0)

static void test_far(void)
{
    FAR_CALL(SEL_CODE, same_ret, NONE, 0, "far CALL and RET");
    FAR_CALL(SEL_CONFORMING, same_ret, NONE, 0, "to conforming code");
    FAR_CALL(0, same_ret, 13, 0, "null selector: #GP(0)");
    FAR_CALL(SEL_DATA, same_ret, 13, SEL_DATA, "data: #GP(selector)");
    FAR_CALL(SEL_UCODE, same_ret, 13, SEL_UCODE & ~3, "code of an outer level: #GP(selector)");
    FAR_CALL(SEL_BADCODE, same_ret, 13, SEL_BADCODE, "code with L and D: #GP(selector)");
    FAR_CALL(SEL_TSS, same_ret, 13, SEL_TSS, "a TSS in long mode: #GP(selector)");
    FAR_CALL(0x1000, same_ret, 13, 0x1000, "past the GDT: #GP(selector)");
    FAR_CALL(SEL_CODE, 1ull << 60, 13, 0, "not canonical: #GP(0)");
    gdt[SEL_CONFORMING / 8] &= ~(1ull << 47);
    FAR_CALL(SEL_CONFORMING, same_ret, 11, SEL_CONFORMING, "not present: #NP(selector)");
    gdt[SEL_CONFORMING / 8] |= 1ull << 47;
    sys_state[0] = 0;
    FAR_CALL(SEL_GATE0, 0xdead, NONE, 0, "through a call gate");
    is(sys_state[0], SEL_CODE, "its code ran");
    gdt[SEL_GATE0 / 8] &= ~(1ull << 47);
    FAR_CALL(SEL_GATE0, 0, 11, SEL_GATE0, "gate not present: #NP(selector)");
    gdt[SEL_GATE0 / 8] |= 1ull << 47;
    FAR_CALL(SEL_GATE0 | 3, 0, 13, SEL_GATE0, "RPL beyond the gate's DPL: #GP(selector)");
    gdt[SEL_GATE0 / 8 + 1] |= 1ull << 40;
    FAR_CALL(SEL_GATE0, 0, 13, SEL_GATE0, "gate with a bad upper half: #GP(selector)");
    gdt[SEL_GATE0 / 8 + 1] &= 0xffffffff;
    __asm__ volatile("movl %0, %%ds" : : "r"(SEL_DATA));
    far32 = (struct far32){(u32)(u64)compat_code, SEL_CODE32};
    compat_result = 0;
    WORKS("far JMP to compatibility mode and back", "leaq 7f(%%rip), %%rdi\nljmpl *(%%rbx)\n7:", "b"(&far32), "D"(0));
    is(compat_result, 0xfffffffe, "32-bit code ran there");
}

#define QUERY(insn, sel, zf, val, what)                                                            \
    do {                                                                                           \
        u64 out_ = 0x5555555555555555;                                                             \
        u8 z_;                                                                                     \
        __asm__ volatile(insn " %w2, %k0\nsetz %1" : "+r"(out_), "=qm"(z_) : "r"(sel) : "cc");     \
        is((u64)z_ << 63 | out_, (u64)(zf) << 63 | ((zf) ? (val) : 0x5555555555555555), what);     \
    } while (0)

#define VERIFY(insn, sel, zf, what)                                                                \
    do {                                                                                           \
        u8 z_;                                                                                     \
        __asm__ volatile(insn " %w1\nsetz %0" : "=qm"(z_) : "r"(sel) : "cc");                      \
        is(z_, zf, what);                                                                          \
    } while (0)

static void test_queries(void)
{
    QUERY("lar", SEL_DATA, 1, 0xcf9300, "LAR: data");
    QUERY("lar", SEL_CODE, 1, 0xaf9b00, "LAR: code");
    QUERY("lar", SEL_DATA | 3, 0, 0, "LAR: RPL beyond the DPL");
    QUERY("lar", SEL_CONFORMING | 3, 1, 0xaf9f00, "LAR: conforming code, any RPL");
    QUERY("lar", SEL_ABSENT, 1, 0xcf7300, "LAR does not mind absence");
    QUERY("lar", 0, 0, 0, "LAR: null");
    QUERY("lar", 0x1000, 0, 0, "LAR: past the GDT");
    QUERY("lar", SEL_GATE, 1, 0xec00, "LAR: call gate");
    QUERY("lsl", SEL_DATA, 1, 0xffffffff, "LSL: 4 GiB");
    QUERY("lsl", SEL_READONLY, 1, 0x1234, "LSL: bytes");
    QUERY("lsl", SEL_TSS, 1, 0x68 + 32, "LSL: TSS");
    QUERY("lsl", SEL_GATE, 0, 0, "LSL: call gate");
    gdt[SEL_ABSENT / 8] = 0x0000830000000067;
    QUERY("lar", SEL_ABSENT, 0, 0, "LAR: a 16-bit TSS in long mode");
    gdt[SEL_ABSENT / 8] = 0x00cf73000000ffff;
    VERIFY("verr", SEL_READONLY, 1, "VERR: data");
    VERIFY("verw", SEL_READONLY, 0, "VERW: read-only data");
    VERIFY("verw", SEL_DATA, 1, "VERW: data");
    VERIFY("verr", SEL_EXECONLY, 0, "VERR: code that cannot be read");
    VERIFY("verr", SEL_CODE, 1, "VERR: code that can");
    VERIFY("verw", SEL_CODE, 0, "VERW: code");
    VERIFY("verr", SEL_TSS, 0, "VERR: TSS");
    VERIFY("verr", 0, 0, "VERR: null");
}

void test_segments(void)
{
    test_loads();
    test_bases();
    test_system_registers();
    test_far();
    test_queries();
}

/* The call gate's code, code of one RETF, and 32-bit code: (EDI) is where to go back. */
__asm__(".text\n.globl gate_entry, same_ret, compat_code, compat_result\n"
        "gate_entry: pushq %rax\nmovl %cs, %eax\nmovq %rax, sys_state(%rip)\nmovl %ss, %eax\n"
        "movq %rax, sys_state + 8(%rip)\nleaq 8(%rsp), %rax\nmovq %rax, sys_state + 16(%rip)\npopq %rax\nlretq\n"
        "same_ret: lretq\n"
        ".code32\ncompat_code:\nmovl $0xffffffff, %eax\n.byte 0x48\n" /* DEC EAX here, a REX prefix in 64-bit mode */
        "nop\nmovl %eax, compat_result\npushl $8\npushl %edi\nlretl\n.code64\n"
        ".data\n.balign 8\ncompat_result: .long 0\n.text\n");
