// SPDX-License-Identifier: MIT
// CPL 3 in 32-bit protected mode: stacks from the TSS, gates inwards, SYSENTER. SDM 3A 5.8.5, 6.12.1.

#include "legacy.h"

#define USER_STACK 0x7f000u

#define USER(name, code)                                                                           \
    __asm__(".pushsection .text\n.globl " #name "\n" #name ":\n" code "\nint $0x80\n.popsection");  \
    extern const u8 name[];

USER(u_nop, "nop")
USER(u_hlt, "hlt")
USER(u_cli, "cli")
USER(u_in, "inb $0xf2, %al")
USER(u_ud2, "ud2")
USER(u_gate, "pushl $0x22\npushl $0x11\nlcall $0x63, $0\nmovl %esp, %ebx")
USER(u_sysenter, "movl $1f, %esi\nmovl $0x7e000, %edi\nsysenter\n1: movl %cs, %eax\nmovl %ss, %ebx")
USER(u_ret_in, "pushl $0x8\npushl $0\nlret")
USER(u_str, "str %eax")

static void run_user(const void *code, u32 flags)
{
    u32 frame[5] = {(u32)code, SEL_UCODE, flags | 2, USER_STACK, SEL_UDATA};

    last.vec = NONE;
    enter_frame(frame, 5);
}

static void test_events(void)
{
    run_user(u_nop, 0);
    is(LAST(), EVENT(0x80, 0), "CPL 3 and back");
    is(last.eip, (u32)u_nop + 3, "EIP");
    is(last.cs << 16 | last.ss, SEL_UCODE << 16 | SEL_UDATA, "CS and SS");
    is(last.esp, USER_STACK, "ESP");
    is(last_esp_in, 0x78000, "the handler's stack is ESP0");
    is(ss_in, SEL_DATA, "and SS0");
    run_user(u_hlt, 0);
    is(LAST(), EVENT(13, 0), "HLT: #GP(0)");
    run_user(u_cli, 0);
    is(LAST(), EVENT(13, 0), "CLI: #GP(0)");
    run_user(u_cli, FLAG_IOPL3 | FLAG_IF);
    is(EVENT(last.vec, last.eflags & FLAG_IF), EVENT(0x80, 0), "CLI with IOPL 3");
    run_user(u_in, 0);
    is(LAST(), EVENT(13, 0), "IN against the bit map: #GP(0)");
    tss[26 + 0xf2 / 32] &= ~(1u << (0xf2 % 32));
    run_user(u_in, 0);
    is(LAST(), EVENT(0x80, 0), "IN with its bit clear");
    run_user(u_ret_in, 0);
    is(LAST(), EVENT(13, SEL_CODE), "RET inwards: #GP(selector)");
    run_user(u_str, 0);
    is(EVENT(last.vec, last.eax & 0xffff), EVENT(0x80, SEL_TSS), "STR");
}

static const struct {
    u32 ss, vec, err;
    const char *what;
} bad_stacks[] = {
    {0, 10, 0, "SS0 null: #TS(0)"},
    {SEL_UDATA, 10, SEL_UDATA & ~3u, "SS0 of another level: #TS(selector)"},
    {SEL_RO, 10, SEL_RO, "SS0 read-only: #TS(selector)"},
    {0x1000, 10, 0x1000, "SS0 past the GDT: #TS(selector)"},
    {SEL_ABSENT, 12, SEL_ABSENT, "SS0 not present: #SS(selector)"},
};

/* With a bad SS0 no event can leave CPL 3, so the faults of a CALL inwards are caught there, in conforming code. */
static void test_stacks(void)
{
    extern const u8 catch_ts[], catch_ss[];

    idt_set(10, SEL_CONFORMING, 0x8e, catch_ts);
    idt_set(12, SEL_CONFORMING, 0x8e, catch_ss);
    for (unsigned i = 0; i < sizeof(bad_stacks) / sizeof(bad_stacks[0]); i++) {
        tss[2] = bad_stacks[i].ss;
        run_user(u_gate, 0);
        is(EVENT(last.ebx, last.eax), EVENT(bad_stacks[i].vec, bad_stacks[i].err), bad_stacks[i].what);
    }
    idt_set(10, SEL_CODE, 0x8e, NULL);
    idt_set(12, SEL_CODE, 0x8e, NULL);
}

/* In the conforming handler, CPL 3: note the error code, repair SS0 and the TSS, leave. */
__asm__(".text\n.globl catch_ts, catch_ss\n"
        "catch_ts: movl $10, %ebx\njmp 1f\ncatch_ss: movl $12, %ebx\n1: popl %eax\n"
        "movl $0x10, %ss:tss + 8\nint $0x80\n");

static void test_gate(void)
{
    run_user(u_gate, 0);
    is(LAST(), EVENT(0x80, 0), "call gate from CPL 3 and back");
    is(gate_state[0] << 16 | gate_state[1], SEL_CODE << 16 | SEL_DATA, "CS and SS in its code");
    is(gate_state[3] << 8 | gate_state[4], 0x1122, "the parameters are copied");
    is(gate_state[2], 0x78000 - 28, "SS, ESP, two parameters, CS, EIP are pushed (and DS)");
    is(last.ebx, USER_STACK, "RET releases them on both stacks");
    gdt[SEL_GATE / 8] &= ~(3ull << 45);
    run_user(u_gate, 0);
    is(LAST(), EVENT(13, SEL_GATE), "a gate of DPL 0: #GP(selector)");
    gdt[SEL_GATE / 8] |= 3ull << 45;
}

static void wrmsr(u32 i, u32 v)
{
    __asm__ volatile("wrmsr" : : "c"(i), "a"(v), "d"(0));
}

static void test_sysenter(void)
{
    u64 user[2] = {gdt[SEL_UCODE / 8], gdt[SEL_UDATA / 8]};

    wrmsr(0x174, SEL_CODE);
    wrmsr(0x175, 0x7a000);
    wrmsr(0x176, (u32)sysenter_entry);
    run_user(u_sysenter, 0);
    is(LAST(), EVENT(0x80, 0), "SYSENTER and SYSEXIT");
    is(gate_state[0], 0x7a000, "ESP in the kernel");
    is(gate_state[1] << 16 | gate_state[2], SEL_CODE << 16 | SEL_DATA, "CS and SS");
    is(last.eax << 16 | last.ebx, SEL_UCODE << 16 | SEL_UDATA, "CS and SS after");
    is(last.esp, 0x7e000, "ESP after");
    is(gdt[SEL_UCODE / 8] ^ gdt[SEL_UDATA / 8], user[0] ^ user[1], "without a look at the GDT");
}

void test_user(void)
{
    test_events();
    test_stacks();
    test_gate();
    test_sysenter();
}
