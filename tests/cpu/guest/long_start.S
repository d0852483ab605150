// SPDX-License-Identifier: MIT
// From real mode through protected mode to 64-bit mode, and the entry points that 64-bit tests need.

#define CODE64 0x08
#define DATA 0x10
#define CODE32 0x40

    .section .start, "ax"
    .code16
    .globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    lgdtl boot_gdtr
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $protected
    .code32
protected:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $0x7000, %esp

    /* Tables from 0x100000: PML4, PDPT, then page directories of the first three GiB. */
    movl $0x100000, %edi
    xorl %eax, %eax
    movl $(8 * 4096 / 4), %ecx
    rep stosl
    movl $0x101007, 0x100000
    movl $0x102007, 0x101000        /* 0: identity, supervisor */
    movl $0x103007, 0x101008        /* 1 GiB: the same memory, user */
    movl $0x104007, 0x101010        /* 2 GiB: 4 KiB pages, up to the tests */
    movl $0x105007, 0x104000
    movl $8, %ecx                   /* 16 MiB */
    xorl %edi, %edi
    movl $0x83, %eax
1:  movl %eax, 0x102000(,%edi,8)
    leal 4(%eax), %edx
    movl %edx, 0x103000(,%edi,8)
    addl $0x200000, %eax
    incl %edi
    loop 1b

    movl %cr4, %eax
    orl $(1 << 5 | 1 << 9 | 1 << 10), %eax
    movl %eax, %cr4
    movl $0x100000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $(1 << 0 | 1 << 8 | 1 << 11), %eax
    wrmsr
    movl $0x80010033, %eax          /* PG WP NE ET MP PE */
    movl %eax, %cr0
    ljmpl $CODE64, $long_mode
    .code64
long_mode:
    movl $0x70000, %esp
    xorl %ebp, %ebp
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    call guest_main
1:  cli
    hlt
    jmp 1b

    .balign 16
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* 08 code64 */
    .quad 0x00cf93000000ffff        /* 10 data */
    .fill 5, 8, 0
    .quad 0x00cf9b000000ffff        /* 40 code32 */
boot_gdtr:
    .word . - boot_gdt - 1
    .long boot_gdt

    .text
/* One stub a vector; those without an error code push 0. */
    .globl stubs
    .balign 16
stubs:
    .set v, 0
    .rept 256
    .balign 16
    .if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
    pushq $0
    .endif
    pushq $v
    jmp common
    .set v, v + 1
    .endr

common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    cld
    call on_event                   /* returns 0: iret; 1: leave the user's run */
    testl %eax, %eax
    jnz leave_user
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

/* void enter_frame(const u64 frame[5], u64 arg): IRET to RIP, CS, RFLAGS, RSP, SS with RDI = arg. */
    .globl enter_frame
enter_frame:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, saved_rsp(%rip)
    pushq 32(%rdi)
    pushq 24(%rdi)
    pushq 16(%rdi)
    pushq 8(%rdi)
    pushq (%rdi)
    movq %rsi, %rdi
    .globl the_iretq
the_iretq:
    iretq

/* Back to whoever called enter_frame(), from any stack. */
    .globl leave_user
leave_user:
    movq saved_rsp(%rip), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* void syscall_entry(): note what SYSCALL did, then end the user's run. */
    .globl syscall_entry
syscall_entry:
    movq %rcx, sys_state(%rip)
    movq %r11, sys_state + 8(%rip)
    movq %rsp, sys_state + 16(%rip)
    movw %cs, %ax
    movzwl %ax, %eax
    movq %rax, sys_state + 24(%rip)
    movw %ss, %ax
    movzwl %ax, %eax
    movq %rax, sys_state + 32(%rip)
    movq saved_rsp(%rip), %rsp      /* room for PUSHF: above lie saved registers */
    pushfq
    popq %rax
    movq %rax, sys_state + 40(%rip)
    movq sys_action(%rip), %rax
    testq %rax, %rax
    jz leave_user
    jmp *%rax

/* void enter_sysret(u64 rip, u64 rflags, u64 wide): SYSRET there. */
    .globl enter_sysret
enter_sysret:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, saved_rsp(%rip)
    movq %rdi, %rcx
    movq %rsi, %r11
    movq user_rsp(%rip), %rsp
    testl %edx, %edx
    jz 1f
    .globl the_sysretq
the_sysretq:
    sysretq
1:  sysretl

/* void enter_sysexit(u64 rip, u64 rsp) */
    .globl enter_sysexit
enter_sysexit:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, saved_rsp(%rip)
    movq %rdi, %rdx
    movq %rsi, %rcx
    sysexitq

/* void enter_lret(u64 rip, u64 cs, u64 rsp, u64 ss): far RET to an outer level. */
    .globl enter_lret
enter_lret:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, saved_rsp(%rip)
    pushq %rcx
    pushq %rdx
    pushq $0x1111                   /* released by the immediate */
    pushq %rsi
    pushq %rdi
    lretq $8

    .bss
    .balign 16
    .globl saved_rsp, sys_state, sys_action, user_rsp
saved_rsp:  .skip 8
user_rsp:   .skip 8
sys_action: .skip 8
sys_state:  .skip 64
    .section .note.GNU-stack, "", @progbits
