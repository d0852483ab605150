// SPDX-License-Identifier: MIT
// Real mode first, then 32-bit protected mode, and the entry points that its tests need.

    .section .start, "ax"
    .code16
    .globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x7000, %esp
    calll real_main                 /* real.c */
    lgdtl gdt_pointer
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $protected

/* Events of real mode: note the frame, go on at (real_resume). */
    .globl real_stubs
    .balign 8
real_stubs:
    .set v, 0
    .rept 256
    .balign 8
    pushw $v
    jmp real_event
    .set v, v + 1
    .endr
real_event:                         /* SP: vector, IP, CS, FLAGS */
    pushl %eax
    pushl %ebp
    movl %esp, %ebp
    pushfl
    popl %eax
    movl %eax, real_last + 20
    movzwl 8(%bp), %eax
    movl %eax, real_last
    movzwl 10(%bp), %eax
    movl %eax, real_last + 4
    movzwl 12(%bp), %eax
    movl %eax, real_last + 8
    movzwl 14(%bp), %eax
    movl %eax, real_last + 12
    leal 16(%ebp), %eax
    movl %eax, real_last + 16
    movl real_resume, %eax
    movw %ax, 10(%bp)
    movw $0, 12(%bp)
    popl %ebp
    popl %eax
    addw $2, %sp
    iretw

    .code32
protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $0x70000, %esp
    call legacy_main
1:  hlt
    jmp 1b

    .globl stubs
    .balign 16
stubs:
    .set v, 0
    .rept 256
    .balign 16
    .if !(v == 8 || (v >= 10 && v <= 14) || v == 17)
    pushl $0
    .endif
    pushl $v
    jmp common
    .set v, v + 1
    .endr
common:
    pushal
    pushl %ds
    pushl %es
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %ss, %eax
    movl %eax, ss_in
    movl %gs, %eax
    movl %eax, gs_in
    movl %esp, %eax
    pushl %eax
    cld
    call on_event                   /* 0: IRET; 1: back to the caller of enter_frame() */
    addl $4, %esp
    testl %eax, %eax
    jnz leave_user
    popl %es
    popl %ds
    popal
    addl $8, %esp
    iretl

/* A 16-bit interrupt gate: note three words, go on at (resume). */
    .globl stub16
stub16:
    movl %esp, stub16_state
    movzwl (%esp), %eax
    movl %eax, stub16_state + 4
    movzwl 2(%esp), %eax
    movl %eax, stub16_state + 8
    addl $6, %esp
    jmp *%cs:resume

/* void enter_frame(const u32 *frame, unsigned n): IRET with these n words, the first on top. */
    .globl enter_frame
enter_frame:
    movl 4(%esp), %edx
    movl 8(%esp), %ecx
    pushl %ebx
    pushl %ebp
    pushl %esi
    pushl %edi
    movl %esp, saved_esp
1:  pushl -4(%edx,%ecx,4)
    loop 1b
    .globl the_iret
the_iret:
    iretl
    .globl leave_user
leave_user:
    movl $0x10, %eax
    movl %eax, %ss
    movl saved_esp, %esp
    movl %eax, %ds
    movl %eax, %es
    popl %edi
    popl %esi
    popl %ebp
    popl %ebx
    ret

/* The call gate's code: two parameters, 32 bits each. */
    .globl gate_entry
gate_entry:
    pushl %ds
    pushl $0x10
    popl %ds
    movl %cs, %eax
    movl %eax, gate_state
    movl %ss, %eax
    movl %eax, gate_state + 4
    movl %esp, %eax
    movl %eax, gate_state + 8
    movl 12(%esp), %eax
    movl %eax, gate_state + 12
    movl 16(%esp), %eax
    movl %eax, gate_state + 16
    popl %ds
    lretl $8

/* void sysenter_entry(): note the state SYSENTER makes, leave by SYSEXIT. */
    .globl sysenter_entry
sysenter_entry:
    movl %esp, %ss:gate_state
    movl %cs, %eax
    movl %eax, %ss:gate_state + 4
    movl %ss, %eax
    movl %eax, %ss:gate_state + 8
    movl %esi, %edx
    movl %edi, %ecx
    sysexit

/* The way back: protected mode, 16-bit code, real mode, and shutdown there. void back_to_real(void) */
    .globl back_to_real
back_to_real:
    pushal
    movl %esp, saved_esp
    ljmpl $0x80, $1f
    .code16
1:  movw $0x88, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andl $~1, %eax
    movl %eax, %cr0
    ljmpw $0, $2f
2:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    movw $0x1234, %ax
    movw %ax, %es
    movw %es, back_state
    movl %cs, %eax
    movl %eax, back_state + 4
    lgdtl gdt_pointer
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $3f
    .code32
3:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl saved_esp, %esp
    popal
    ret

    .data
    .globl gdt_pointer
gdt_pointer:
    .word 0xff
    .long gdt
    .balign 4
    .globl real_last, real_resume, ss_in, gs_in, stub16_state, saved_esp, gate_state, back_state
real_last:    .skip 24
real_resume:  .skip 4
ss_in:        .skip 4
gs_in:        .skip 4
stub16_state: .skip 16
saved_esp:    .skip 4
gate_state:   .skip 32
back_state:   .skip 8
    .section .note.GNU-stack, "", @progbits
