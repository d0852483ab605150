// SPDX-License-Identifier: MIT
// SYSCALL, SYSRET, SYSENTER, SYSEXIT. SDM 3A 5.8.7, 5.8.8.

#include "long.h"

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_EFER 0xc0000080

USER(u_syscall, "movl $0x11, %ecx\nsyscall\nu_after_syscall:")
USER(u_sysenter, "sysenter")
USER(u_flags, "pushfq\npopq %rax\nmovl %cs, %ebx\nmovl %ss, %ecx")
extern const u8 u_after_syscall[], compat_user[], after_compat[];

static void test_in(void)
{
    u64 frame[5] = {(u64)compat_user + USER_ALIAS, SEL_UCODE32, 2, user_rsp, SEL_UDATA};

    wrmsr(MSR_STAR, (u64)(SEL_UCODE32) << 48 | (u64)SEL_CODE << 32);
    wrmsr(MSR_LSTAR, (u64)syscall_entry);
    wrmsr(MSR_CSTAR, (u64)syscall_entry);
    wrmsr(MSR_SFMASK, FLAG_IF | FLAG_TF | 1);
    run_user(u_syscall, FLAG_IF | 1, 0);
    is(sys_state[0], (u64)u_after_syscall + USER_ALIAS, "SYSCALL: RCX is the next address");
    is(sys_state[1] & 0xffd7, FLAG_IF | 3, "R11 is RFLAGS");
    is(sys_state[2], user_rsp, "RSP stays");
    is(sys_state[3] << 16 | sys_state[4], SEL_CODE << 16 | SEL_DATA, "CS and SS");
    is(sys_state[5] & (FLAG_IF | 3), 2, "FMASK is applied");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~1ull);
    run_user(u_syscall, 0, 0);
    is(LAST(), EVENT(6, 0), "SYSCALL without EFER.SCE: #UD");
    FAULTS(6, 0, "SYSRET without EFER.SCE: #UD", "sysretq");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1);
    sys_state[0] = 0;
    last.vec = NONE;
    enter_frame(frame, 0);
    if (is_amd())
        is(sys_state[0], (u64)after_compat + USER_ALIAS, "SYSCALL in compatibility mode goes to CSTAR");
    else
        is(LAST(), EVENT(6, 0), "SYSCALL in compatibility mode: #UD");
}

static void test_out(void)
{
    u64 rip = (u64)u_flags + USER_ALIAS;

    enter_sysret(rip, FLAG_IOPL3 | FLAG_IF | FLAG_RF | 1, 1);
    is(EVENT(last.vec, last.cs), EVENT(0x80, SEL_UCODE), "SYSRET to 64-bit code");
    is(last.ss, SEL_UDATA, "SS");
    is(last.rax & 0x13fff, FLAG_IOPL3 | FLAG_IF | 3, "RFLAGS from R11, RF clear");
    is(last.rsp, user_rsp, "RSP stays");
    enter_sysret((u64)compat_user + USER_ALIAS + 2, 2, 0);
    is(EVENT(last.vec, last.cs), EVENT(0x80, SEL_UCODE32), "SYSRET to 32-bit code");
    if (is_amd()) {
        skip("SYSRET to a non-canonical RCX", "on AMD's the user's fetch faults");
        return;
    }
    resume = (u64)leave_user;
    user_rsp -= 64;
    last.vec = NONE;
    __asm__ volatile("" ::: "memory");
    enter_sysret(1ull << 47, 2, 1);
    resume = 0;
    user_rsp += 64;
    is(LAST(), EVENT(13, 0), "SYSRET to a non-canonical RCX: #GP(0)");
    is(last.cs & 3, 0, "at CPL 0");
    is(last.rsp, user_rsp - 64, "with the user's RSP");
}

static void test_sysenter(void)
{
    if (is_amd()) {
        run_user(u_sysenter, 0, 0);
        is(LAST(), EVENT(6, 0), "SYSENTER in long mode: #UD");
        return;
    }
    wrmsr(0x174, 0);
    run_user(u_sysenter, 0, 0);
    is(LAST(), EVENT(13, 0), "SYSENTER without a CS: #GP(0)");
    wrmsr(0x174, SEL_CODE);
    wrmsr(0x175, 0x7e000);
    wrmsr(0x176, (u64)syscall_entry);
    run_user(u_sysenter, FLAG_IF, 0);
    is(sys_state[2], 0x7e000, "SYSENTER: RSP");
    is(sys_state[3] << 16 | sys_state[4], SEL_CODE << 16 | SEL_DATA, "CS and SS");
    is(sys_state[5] & FLAG_IF, 0, "IF is clear");
    FAULTS(13, 0, "IA32_SYSENTER_EIP wants a canonical address: #GP(0)",
           "movl $0x176, %%ecx\nxorl %%eax, %%eax\nmovl $0x80000000, %%edx\nwrmsr");
    wrmsr(0x174, 0x08);
    enter_sysexit((u64)u_flags + USER_ALIAS, user_rsp);
    is(EVENT(last.vec, last.cs), EVENT(0x80, SEL_UCODE), "SYSEXIT to 64-bit code");
    is(last.rsp << 16 | last.ss, user_rsp << 16 | 0x33, "RSP and SS");
}

void test_syscall(void)
{
    u64 tr[2] = {gdt[SEL_TSS / 8], gdt[SEL_TSS / 8 + 1]};

    test_in();
    test_out();
    /* SYSEXIT's selectors are not looked up, but IRET out of a handler is: 33H is never popped here. */
    test_sysenter();
    gdt[SEL_TSS / 8] = tr[0];
    gdt[SEL_TSS / 8 + 1] = tr[1];
}

__asm__(".pushsection .text\n.globl compat_user, after_compat\n.code32\n"
        "compat_user: syscall\nafter_compat: int $0x80\n.code64\n.popsection\n");
