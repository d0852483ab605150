// SPDX-License-Identifier: MIT
// User code: what it may not do, how its events arrive, and the ways down to it. SDM 3A 5, 6.12.

#include "long.h"

USER(u_nop, "nop")
USER(u_hlt, "hlt")
USER(u_cli, "cli")
USER(u_sti, "sti")
USER(u_clts, "clts")
USER(u_invd, "invd")
USER(u_wbinvd, "wbinvd")
USER(u_invlpg, "invlpg (%rax)")
USER(u_rdmsr, "movl $0xc0000080, %ecx\nrdmsr")
USER(u_wrmsr, "wrmsr")
USER(u_rdpmc, "rdpmc")
USER(u_mov_cr0, "movq %cr0, %rax")
USER(u_mov_cr3, "movq %rax, %cr3")
USER(u_mov_cr8, "movq %cr8, %rax")
USER(u_mov_dr, "movq %dr7, %rax")
USER(u_lgdt, "lgdt (%rsp)")
USER(u_lidt, "lidt (%rsp)")
USER(u_lldt, "lldt %ax")
USER(u_ltr, "ltr %ax")
USER(u_lmsw, "lmsw %ax")
USER(u_swapgs, "swapgs")
USER(u_sysret, "sysretq")
USER(u_sysexit, "sysexitq")
USER(u_stac, "stac")
USER(u_clac, "clac")
USER(u_iret_bad, "pushq $0x10\npushq %rsp\npushfq\npushq $0x8\npushq $0\niretq")
USER(u_ss_null, "xorl %eax, %eax\nmovl %eax, %ss")
USER(u_ds_kernel, "movl $0x10, %eax\nmovl %eax, %ds")
USER(u_read_kernel, "movq 0x8000, %rax")
USER(u_write_kernel, "movq %rax, 0x8000")
USER(u_call_kernel, "movl $0x8000, %eax\njmp *%rax")
USER(u_bad_rsp, "movl $1, %eax\nshlq $50, %rax\nmovq %rax, %rsp\npushq %rax")
USER(u_int_kernel, "int $0x20")
USER(u_into_gate81, "int $0x81")
USER(u_int3, "int3")
USER(u_ud2, "ud2")
USER(u_int1, ".byte 0xf1")
USER(u_iopl, "pushfq\norq $0x3200, (%rsp)\npopfq\npushfq\npopq %rax")
USER(u_iret_iopl, "movl %ss, %ecx\npushq %rcx\nleaq 8(%rsp), %rax\npushq %rax\npushfq\norq $0x3200, (%rsp)\n"
                  "movl %cs, %ecx\npushq %rcx\nleaq 1f(%rip), %rax\npushq %rax\niretq\n1: pushfq\npopq %rax")
USER(u_sels, "movl %ds, %eax\nmovl %es, %ebx\nmovl %fs, %ecx\nmovl %gs, %edx")
USER(u_rdtsc, "rdtsc")
USER(u_sgdt, "subq $16, %rsp\nsgdt (%rsp)")
USER(u_sidt, "subq $16, %rsp\nsidt (%rsp)")
USER(u_sldt, "sldt %eax")
USER(u_str, "str %eax")
USER(u_smsw, "smsw %eax")
USER(u_in, "movl %edi, %edx\ninb %dx, %al")
USER(u_inw, "movl %edi, %edx\ninw %dx, %ax")
USER(u_inl, "movl %edi, %edx\ninl %dx, %eax")
USER(u_gate, ".byte 0x48\nlcall *gate_ptr(%rip)\nnop")
USER(u_gate0, ".byte 0x48\nlcall *gate0_ptr(%rip)\nnop")
USER(u_far_same, ".byte 0x48\nlcall *ucode_ptr(%rip)")

static const struct {
    const u8 *code;
    unsigned vec, err;
    const char *what;
} forbidden[] = {
    {u_nop, 0x80, 0, "CPL 3 runs at all"},
    {u_hlt, 13, 0, "HLT at CPL 3: #GP(0)"},
    {u_cli, 13, 0, "CLI"},
    {u_sti, 13, 0, "STI"},
    {u_clts, 13, 0, "CLTS"},
    {u_invd, 13, 0, "INVD"},
    {u_wbinvd, 13, 0, "WBINVD"},
    {u_invlpg, 13, 0, "INVLPG"},
    {u_rdmsr, 13, 0, "RDMSR"},
    {u_wrmsr, 13, 0, "WRMSR"},
    {u_rdpmc, 13, 0, "RDPMC"},
    {u_mov_cr0, 13, 0, "MOV from CR0"},
    {u_mov_cr3, 13, 0, "MOV to CR3"},
    {u_mov_cr8, 13, 0, "MOV from CR8"},
    {u_mov_dr, 13, 0, "MOV from DR7"},
    {u_lgdt, 13, 0, "LGDT"},
    {u_lidt, 13, 0, "LIDT"},
    {u_lldt, 13, 0, "LLDT"},
    {u_ltr, 13, 0, "LTR"},
    {u_lmsw, 13, 0, "LMSW"},
    {u_swapgs, 13, 0, "SWAPGS"},
    {u_sysret, 13, 0, "SYSRET"},
    {u_stac, 6, 0, "STAC: #UD"},
    {u_clac, 6, 0, "CLAC: #UD"},
    {u_iret_bad, 13, SEL_CODE, "IRET inwards: #GP(selector)"},
    {u_ss_null, 13, 0, "SS: null at CPL 3: #GP(0)"},
    {u_ds_kernel, 13, SEL_DATA, "DS: the kernel's: #GP(selector)"},
    {u_read_kernel, 14, 5, "read of a supervisor page: #PF(5)"},
    {u_write_kernel, 14, 7, "write: #PF(7)"},
    {u_call_kernel, 14, 0x15, "fetch: #PF(15H)"},
    {u_bad_rsp, 12, 0, "PUSH at a non-canonical RSP: #SS(0)"},
    {u_int_kernel, 13, 0x20 * 8 + 2, "INT through a gate of DPL 0: #GP(vector, IDT)"},
    {u_int3, 3, 0, "INT3 through a gate of DPL 3"},
    {u_ud2, 6, 0, "#UD is delivered through a gate of DPL 0"},
    {u_int1, 1, 0, "so is INT1"},
    {u_rdtsc, 0x80, 0, "RDTSC"},
    {u_gate0, 13, SEL_GATE0, "call gate of DPL 0: #GP(selector)"},
    {u_far_same, 0x80, 0, "far CALL to code of its own level"},
};

static void test_forbidden(void)
{
    for (unsigned i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        run_user(forbidden[i].code, 0, 0);
        is(LAST(), EVENT(forbidden[i].vec, forbidden[i].err), forbidden[i].what);
    }
}

static void test_arrival(void)
{
    run_user(u_nop, 0, 0);
    is(last.rip, (u64)u_nop + USER_ALIAS + 3, "INT n pushes the address after it");
    is(last.cs << 16 | last.ss, SEL_UCODE << 16 | SEL_UDATA, "CS and SS");
    is(last.rsp, user_rsp, "RSP");
    is(last_rsp_in, 0x78000, "the handler's stack is RSP0, aligned to 16");
    is(last_ss_in, 0, "its SS is null");
    is(last_cs_in, SEL_CODE, "its CS");
    run_user(u_into_gate81, FLAG_IF, 0);
    is(last_flags_in & FLAG_IF, FLAG_IF, "a trap gate leaves IF set");
    run_user(u_ud2, 0, 0);
    is(last.rip, (u64)u_ud2 + USER_ALIAS, "a fault pushes the address of the instruction");
    run_user(u_iopl, 0, 0);
    is(last.rax & (FLAG_IOPL3 | FLAG_IF), 0, "POPF at CPL 3 does not change IOPL and IF");
    run_user(u_iret_iopl, 0, 0);
    is(last.rax & (FLAG_IOPL3 | FLAG_IF), 0, "nor does IRET");
    run_user(u_cli, FLAG_IOPL3 | FLAG_IF, 0);
    is(EVENT(last.vec, last.rflags & FLAG_IF), EVENT(0x80, 0), "CLI with IOPL 3");
    __asm__ volatile("movl %0, %%ds\nmovl %1, %%es\nmovl %0, %%fs\nmovl %1, %%gs" : : "r"(SEL_DATA), "r"(SEL_UDATA));
    run_user(u_sels, 0, 0);
    is(last.rax, 0, "IRET outwards nulls DS of DPL 0");
    is(last.rbx, SEL_UDATA, "keeps ES of DPL 3");
    is(last.rcx, 0, "nulls FS");
    is(last.rdx, SEL_UDATA, "keeps GS");
    write_cr4(read_cr4() | 4);
    run_user(u_rdtsc, 0, 0);
    is(LAST(), EVENT(13, 0), "RDTSC with CR4.TSD: #GP(0)");
    write_cr4(read_cr4() & ~4ull);
}

static void test_umip(void)
{
    static const struct {
        const u8 *code;
        const char *what;
    } row[] = {{u_sgdt, "SGDT"}, {u_sidt, "SIDT"}, {u_sldt, "SLDT"}, {u_str, "STR"}, {u_smsw, "SMSW"}};

    for (unsigned i = 0; i < 5; i++) {
        run_user(row[i].code, 0, 0);
        is(LAST(), EVENT(0x80, 0), row[i].what);
        write_cr4(read_cr4() | 1 << 11);
        run_user(row[i].code, 0, 0);
        is(LAST(), EVENT(13, 0), "  with CR4.UMIP: #GP(0)");
        write_cr4(read_cr4() & ~(1ull << 11));
    }
}

static void test_io(void)
{
    run_user(u_in, 0, PORT_IDENT);
    is(LAST(), EVENT(13, 0), "IN against the bit map: #GP(0)");
    tss[0x68 + PORT_IDENT / 8] &= ~(1 << PORT_IDENT % 8);
    run_user(u_in, 0, PORT_IDENT);
    is(LAST(), EVENT(0x80, 0), "IN with its bit clear");
    run_user(u_inw, 0, PORT_IDENT);
    is(LAST(), EVENT(13, 0), "16 bits look at two bits");
    tss[0x68 + PORT_IDENT / 8] &= ~(2 << PORT_IDENT % 8);
    run_user(u_inw, 0, PORT_IDENT);
    is(LAST(), EVENT(0x80, 0), "both clear");
    run_user(u_inl, 0, PORT_IDENT);
    is(LAST(), EVENT(13, 0), "32 bits at four");
    tss[0x68 + 31] = 0;
    run_user(u_in, 0, 0xff);
    is(LAST(), EVENT(0x80, 0), "the last byte of the map that has one after it");
    tss[0x68 + 32] = 0;
    run_user(u_in, 0, 0x100);
    is(LAST(), EVENT(13, 0), "past the TSS's limit: #GP(0)");
    run_user(u_in, FLAG_IOPL3, 0x100);
    is(LAST(), EVENT(0x80, 0), "IOPL 3 needs no map");
    tss[0x68 + 32] = 0xff;
}

/* Ways down that must not be taken: the fault is the IRET's or RET's own, at CPL 0. */
static void bad_iret(u64 rip, u64 cs, u64 rsp, u64 ss, u64 event, const char *what)
{
    u64 frame[5] = {rip, cs, 2, rsp, ss};

    resume = (u64)leave_user;
    last.vec = NONE;
    enter_frame(frame, 0);
    resume = 0;
    is(LAST(), event, what);
    if (last.vec != NONE)
        is(last.rip << 8 | (last.cs & 3), (u64)the_iretq << 8, "  at the IRET, CPL 0");
}

static void test_down(void)
{
    u64 rip = (u64)u_nop + USER_ALIAS;

    bad_iret(1ull << 55, SEL_UCODE, user_rsp, SEL_UDATA, EVENT(13, 0), "IRET to a non-canonical RIP: #GP(0)");
    bad_iret(rip, 0, user_rsp, SEL_UDATA, EVENT(13, 0), "to a null CS: #GP(0)");
    bad_iret(rip, SEL_UDATA, user_rsp, SEL_UDATA, EVENT(13, SEL_UDATA & ~3), "to data: #GP(selector)");
    bad_iret(rip, SEL_CODE | 3, user_rsp, SEL_UDATA, EVENT(13, SEL_CODE), "RPL not the DPL: #GP(selector)");
    bad_iret(rip, 0x1003, user_rsp, SEL_UDATA, EVENT(13, 0x1000), "past the GDT: #GP(selector)");
    bad_iret(rip, SEL_UCODE, user_rsp, 0, EVENT(13, 0), "with a null SS to CPL 3: #GP(0)");
    bad_iret(rip, SEL_UCODE, user_rsp, SEL_DATA, EVENT(13, SEL_DATA), "with the kernel's SS: #GP(selector)");
    bad_iret(rip, SEL_UCODE, user_rsp, SEL_ABSENT | 3, EVENT(12, SEL_ABSENT), "with an absent SS: #SS(selector)");
    bad_iret(rip, SEL_UCODE, user_rsp, SEL_READONLY, EVENT(13, SEL_READONLY & ~3), "a read-only SS: #GP(selector)");
    bad_iret(1ull << 32, SEL_UCODE32, user_rsp, SEL_UDATA, EVENT(13, 0), "to 32-bit code past its limit: #GP(0)");
    enter_lret(rip, SEL_UCODE, user_rsp - 8, SEL_UDATA);
    is(EVENT(last.vec, last.cs), EVENT(0x80, SEL_UCODE), "far RET outwards");
    is(last.rsp, user_rsp, "releases the immediate on the outer stack too");
}

/* 32-bit user code and what it looks like from here. */
static void test_compat(void)
{
    extern const u8 c32_code[];
    u64 frame[5] = {(u64)c32_code + USER_ALIAS, SEL_UCODE32, 2, user_rsp, SEL_UDATA};

    __asm__ volatile("movl %0, %%ds\nmovl %0, %%es" : : "r"(SEL_UDATA));
    enter_frame(frame, 0);
    is(EVENT(last.vec, last.cs), EVENT(0x80, SEL_UCODE32), "32-bit user code");
    is(last.rax, 0xfffffffe, "decodes as such");
    is(last.rsp, user_rsp - 4, "pushes 4 bytes");
    frame[4] = SEL_UDATA16;
    frame[3] = 0x12345678;
    frame[0] = (u64)c32_code + USER_ALIAS + 2 + 5 + 1;
    enter_frame(frame, 0);
    is(last.rsp & 0xffff, 0x5678, "a 16-bit stack takes SP from IRET");
}

static void test_gate(void)
{
    run_user(u_gate, 0, 0);
    is(EVENT(last.vec, last.cs), EVENT(0x80, SEL_UCODE), "call gate from CPL 3 and back");
    is(sys_state[0], SEL_CODE, "CS in the gate's code");
    is(sys_state[1], 0, "SS null there");
    is(sys_state[2], 0x78008 - 32, "on RSP0, four values pushed, not aligned");
    is(last.rsp, user_rsp, "RSP is back");
}

void test_user(void)
{
    test_forbidden();
    test_arrival();
    test_umip();
    test_io();
    test_down();
    test_compat();
    test_gate();
}

__asm__(".pushsection .text\n.globl c32_code\n.code32\n"
        "c32_code: pushl %eax\nnop\nmovl $0xffffffff, %eax\n.byte 0x48\nint $0x80\n.code64\n.popsection\n"
        ".data\ngate_ptr: .quad 0\n.word 0x5b\ngate0_ptr: .quad 0\n.word 0x98\nucode_ptr: .quad u_nop + 0x40000000\n.word 0x2b\n.text\n");
