// SPDX-License-Identifier: MIT
// Single-stepping, breakpoints, the debug registers. SDM 3B 17.

#include "long.h"

#define DR6_BITS 0xe00full
#define DR6_BD 0x2000ull
#define DR6_BS 0x4000ull

USER(s_nops, "nop\nnop")
USER(s_int, "int $0x81")
USER(s_int3, "int3")
USER(s_syscall, "syscall")
USER(s_ud2, "ud2")
USER(s_mov_ss, "movl %ss, %eax\nmovl %eax, %ss\nnop\nnop")
USER(s_popf_clear, "pushfq\nandl $~0x100, (%rsp)\npopfq\nnop")
USER(s_popf_set, "pushfq\norl $0x100, (%rsp)\npopfq\nnop\nnop")
USER(s_rep, "leaq -64(%rsp), %rdi\nmovl $3, %ecx\nxorl %eax, %eax\nrep stosb\nnop")
USER(s_jump, "jmp 1f\nnop\n1: nop")
USER(s_store, "movl %edi, (%rdi)\nnop")
USER(s_load, "movl (%rdi), %eax\nnop")

static u64 step_at[16];
static unsigned steps;

/* Note where each single step stopped, and go on. */
static int on_step(struct regs *r)
{
    if (r->vec != 1 || !(last_dr6 & DR6_BS))
        return -1;
    if (steps < 16)
        step_at[steps] = r->rip - USER_ALIAS;
    steps++;
    return steps < 40 ? 0 : 1;
}

/* Step through user code; the stops must be at these offsets. */
static void trace(const u8 *code, u64 flags, unsigned n, const u8 *at, const char *what)
{
    u64 got = 0, want = 0;

    steps = 0;
    hook = on_step;
    run_user(code, flags, 0);
    hook = NULL;
    for (unsigned i = 0; i < n; i++) {
        got = got << 6 | ((step_at[i] - (u64)code) & 63);
        want = want << 6 | at[i];
    }
    is((u64)steps << 56 | got, (u64)n << 56 | want, what);
}

#define TRACE(code, flags, what, ...)                                                              \
    do {                                                                                           \
        static const u8 at_[] = {__VA_ARGS__};                                                     \
        trace(code, flags, sizeof(at_), at_, what);                                                \
    } while (0)

static void test_step(void)
{
    run_user(s_nops, FLAG_TF, 0);
    is(LAST(), EVENT(1, 0), "TF: #DB after one instruction");
    is(last.rip, (u64)s_nops + USER_ALIAS + 1, "with the address of the next");
    is(last_dr6 & DR6_BITS, DR6_BS, "DR6.BS");
    is(last.rflags & (FLAG_TF | FLAG_RF), FLAG_TF, "TF is pushed, RF clear");
    is(last_flags_in & FLAG_TF, 0, "and TF is clear in the handler");
    TRACE(s_nops, FLAG_TF, "one step an instruction, none after INT", 1, 2);
    TRACE(s_jump, FLAG_TF, "a jump", 3, 4);
    TRACE(s_mov_ss, FLAG_TF, "no step after MOV SS", 2, 5, 6);
    TRACE(s_popf_clear, FLAG_TF, "POPF that clears TF is the last step", 1, 8, 9);
    TRACE(s_popf_set, 0, "POPF that sets TF: the next instruction is the first", 10, 11);
    TRACE(s_rep, FLAG_TF, "REP steps by element", 5, 10, 12, 12, 12, 14, 15);
    run_user(s_int, FLAG_TF, 0);
    is(LAST(), EVENT(0x81, 0), "INT n with TF: no step into the handler");
    is(last.rflags & FLAG_TF, FLAG_TF, "TF is pushed");
    run_user(s_int3, FLAG_TF, 0);
    is(LAST(), EVENT(3, 0), "INT3 with TF");
    run_user(s_ud2, FLAG_TF, 0);
    is(EVENT(last.vec, last.rflags & FLAG_TF), EVENT(6, FLAG_TF), "a fault with TF");
    run_user(s_syscall, FLAG_TF, 0);
    is(EVENT(last.vec, sys_state[1] & FLAG_TF), EVENT(NONE, FLAG_TF), "SYSCALL that masks TF: no step");
    FAULTS(1, 0, "INT1: #DB", ".byte 0xf1");
    is(last_dr6 & DR6_BITS, 0, "without a bit in DR6");
}

#define SET_DR(n, v) __asm__ volatile("movq %0, %%dr" #n : : "r"((u64)(v)))
#define GET_DR(n) ({ u64 v_; __asm__ volatile("movq %%dr" #n ", %0" : "=r"(v_)); v_; })

static void test_breakpoints(void)
{
    u64 at = (u64)s_nops + USER_ALIAS + 1;
    static u32 cell[4];

    SET_DR(0, at);
    SET_DR(7, 1);
    run_user(s_nops, 0, 0);
    is(LAST(), EVENT(1, 0), "instruction breakpoint: #DB");
    is(last.rip, at, "before the instruction");
    is(last_dr6 & DR6_BITS, 1, "DR6.B0");
    is(last.rflags & FLAG_RF, 0, "RF is pushed clear");
    run_user(s_nops + 1, FLAG_RF, 0);
    is(LAST(), EVENT(0x80, 0), "RF steps over it");
    SET_DR(1, (u64)&cell[1]);
    SET_DR(7, 4 | 0xd << 20); /* write, 4 bytes */
    FAULTS(1, 0, "data breakpoint, write: #DB", "movl %%ecx, (%%rbx)\n.globl after_store\nafter_store: nop", "b"(&cell[1]));
    extern const u8 after_store[];
    is(last.rip, (u64)after_store, "after the store");
    is(last_dr6 & DR6_BITS, 2, "DR6.B1");
    FAULTS(1, 0, "a store that touches the last byte", "movw %%cx, (%%rbx)", "b"((u64)&cell[1] + 3));
    WORKS("a store beside it", "movl %%ecx, (%%rbx)", "b"(&cell[2]));
    WORKS("a load from it", "movl (%%rbx), %%ecx", "b"(&cell[1]));
    SET_DR(7, 4 | 0xf << 20); /* read or write */
    FAULTS(1, 0, "data breakpoint, read", "movl (%%rbx), %%ecx", "b"(&cell[1]));
    SET_DR(7, 0);
}

static void test_registers(void)
{
    is(GET_DR(7), 0x400, "DR7 reads with bit 10 set");
    SET_DR(6, 0);
    is(GET_DR(6), 0xffff0ff0, "DR6 reads with its fixed bits set");
    SET_DR(2, 0x123456789abcdef0);
    is(GET_DR(2), 0x123456789abcdef0, "DR2 holds 64 bits");
    FAULTS(13, 0, "DR7 with upper bits: #GP(0)", "movq %%rbx, %%dr7", "b"(1ull << 32));
    FAULTS(13, 0, "DR6 with upper bits: #GP(0)", "movq %%rbx, %%dr6", "b"(1ull << 40));
    WORKS("DR4 is DR6 without CR4.DE", ".byte 0x0f, 0x21, 0xe1");
    write_cr4(read_cr4() | 8);
    FAULTS(6, 0, "DR4 with CR4.DE: #UD", ".byte 0x0f, 0x21, 0xe1");
    write_cr4(read_cr4() & ~8ull);
    SET_DR(7, 0x2000);
    FAULTS(1, 0, "DR7.GD: #DB", "movq %%dr0, %%rcx");
    is(last_dr6 & DR6_BITS, DR6_BD, "DR6.BD");
    is(GET_DR(7), 0x400, "and GD is clear from the handler on");
}

void test_debug(void)
{
    test_step();
    test_breakpoints();
    test_registers();
}
