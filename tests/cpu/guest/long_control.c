// SPDX-License-Identifier: MIT
// Control registers and MSRs: what may be written. SDM 3A 2.5, SDM 4.

#include "long.h"

#define CR(n, val, vector, what) FAULTS(vector, 0, what, "movq %%rbx, %%cr" #n, "b"(val))
#define WRMSR(index, val, vector, what)                                                            \
    FAULTS(vector, 0, what, "movl %%ebx, %%ecx\nmovl %%esi, %%eax\nmovq %%rsi, %%rdx\nshrq $32, %%rdx\nwrmsr",  \
           "b"(index), "S"(val))

static void test_cr(void)
{
    u64 cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4(), val;

    CR(0, cr0 & 0x7fffffff, 13, "CR0.PG cleared in 64-bit mode: #GP(0)");
    CR(0, cr0 & ~1ull, 13, "CR0.PE cleared with PG set: #GP(0)");
    CR(0, cr0 | 0x20000000, 13, "CR0.NW without CD: #GP(0)");
    CR(0, cr0 | 1ull << 32, 13, "CR0's upper half: #GP(0)");
    CR(0, cr0 | 8, NONE, "CR0.TS");
    is(read_cr0(), cr0 | 8, "is set");
    __asm__ volatile("clts");
    is(read_cr0(), cr0, "and cleared by CLTS");
    __asm__ volatile("lmsw %w0" : : "r"(0));
    is(read_cr0() & 0xf, 1, "LMSW clears MP, EM, TS, not PE");
    write_cr0(cr0);
    if (on_test_machine())
        CR(3, cr3 | 1ull << 60, 13, "CR3 past MAXPHYADDR: #GP(0)");
    CR(4, cr4 & ~0x20ull, 13, "CR4.PAE cleared in long mode: #GP(0)");
    CR(4, cr4 | 1ull << 31, 13, "CR4, reserved bit: #GP(0)");
    CR(4, cr4 | 1ull << 63, 13, "CR4's upper half: #GP(0)");
    CR(8, 16, 13, "CR8 past 15: #GP(0)");
    CR(8, 9, NONE, "CR8");
    __asm__ volatile("movq %%cr8, %0" : "=r"(val));
    is(val, 9, "reads back");
    CR(8, 0, NONE, "and down again");
    CR(2, 0x123456789a, NONE, "CR2");
    __asm__ volatile("movq %%cr2, %0" : "=r"(val));
    is(val, 0x123456789a, "reads back");
    FAULTS(6, 0, "MOV to CR1: #UD", ".byte 0x0f, 0x22, 0xc8");
    FAULTS(6, 0, "XGETBV without CR4.OSXSAVE: #UD", "xorl %%ecx, %%ecx\nxgetbv");
    FAULTS(6, 0, "RSM outside SMM: #UD", "rsm");
}

static void test_msr(void)
{
    u64 efer = rdmsr(0xc0000080);

    is(efer & 0xd00, 0xd00, "EFER: LME, LMA, NXE");
    WRMSR(0xc0000080, efer & ~0x100ull, 13, "EFER.LME cleared under paging: #GP(0)");
    WRMSR(0xc0000080, efer | 1ull << 40, 13, "EFER, reserved bit: #GP(0)");
    WRMSR(0xc0000080, efer & ~0x400ull, NONE, "EFER.LMA cannot be written");
    is(rdmsr(0xc0000080), efer, "and stays");
    WRMSR(0xc0000082, 1ull << 63, 13, "LSTAR, not canonical: #GP(0)");
    WRMSR(0x277, 0x0007040600070402, 13, "PAT with a reserved type: #GP(0)");
    WRMSR(0x277, 0x0007040600070401, NONE, "PAT");
    is(rdmsr(0x277), 0x0007040600070401, "reads back");
    if (!on_test_machine())
        return;
    FAULTS(13, 0, "RDMSR of nothing: #GP(0)", "movl $0x12345, %%ecx\nrdmsr");
    WRMSR(0x12345, 0, 13, "WRMSR of nothing: #GP(0)");
    WRMSR(0x10, 0x100000000, NONE, "TSC");
    is(rdmsr(0x10) >> 32, 1, "goes on from there");
    WRMSR(0x3b, rdmsr(0x3b) + (5ull << 32), NONE, "TSC_ADJUST");
    is(rdmsr(0x10) >> 32, 6, "moves the TSC");
}

static void test_xcr0(void)
{
    write_cr4(read_cr4() | 1 << 18);
    WORKS("XGETBV", "xorl %%ecx, %%ecx\nxgetbv\nmovq %%rax, sys_state(%%rip)");
    is(sys_state[0] & 1, 1, "XCR0 has bit 0");
    WORKS("XSETBV", "xorl %%ecx, %%ecx\nxgetbv\nxsetbv");
    FAULTS(13, 0, "XSETBV without x87: #GP(0)", "xorl %%ecx, %%ecx\nxorl %%eax, %%eax\nxorl %%edx, %%edx\nxsetbv");
    FAULTS(13, 0, "XSETBV of XCR1: #GP(0)", "movl $1, %%ecx\nmovl $1, %%eax\nxorl %%edx, %%edx\nxsetbv");
    FAULTS(13, 0, "XGETBV of XCR2: #GP(0)", "movl $2, %%ecx\nxgetbv");
    WORKS("XGETBV of XCR1", "movl $1, %%ecx\nxgetbv");
    write_cr4(read_cr4() & ~(1ull << 18));
}

static void test_others(void)
{
    u64 a = 0, b = 0;
    u32 c, d;
    u8 cf;

    wrmsr(0xc0000103, 0x12345);
    __asm__ volatile("rdtscp" : "=a"(a), "=c"(c), "=d"(d));
    is(c, 0x12345, "RDTSCP gives TSC_AUX");
    FAULTS(6, 0, "RDPKRU without CR4.PKE: #UD", "xorl %%ecx, %%ecx\n.byte 0x0f, 0x01, 0xee");
    FAULTS(6, 0, "WRPKRU", "xorl %%ecx, %%ecx\nxorl %%edx, %%edx\n.byte 0x0f, 0x01, 0xef");
    FAULTS(13, 0, "RDPMC: there are no counters: #GP(0)", "xorl %%ecx, %%ecx\nrdpmc");
    __asm__ volatile("rdrand %0\nsetc %1" : "=r"(a), "=qm"(cf) : : "cc");
    __asm__ volatile("rdrand %0" : "=r"(b) : : "cc");
    is(cf && a != b, 1, "RDRAND gives numbers");
    __asm__ volatile("movq $-1, %0\nrdseed %k0\nsetc %1" : "=&r"(a), "=qm"(cf) : : "cc");
    is(cf ? a >> 32 : 0, 0, "RDSEED of 32 bits zero-extends");
    if (!on_test_machine())
        return;
    __asm__ volatile("vmmcall" : "=a"(a) : "a"(5ull));
    is(a, ~5ull, "VMMCALL");
    __asm__ volatile("vmcall" : "=a"(a) : "a"(6ull));
    is(a, ~6ull, "VMCALL");
    WORKS("RDPID", "rdpid %%rcx\nmovq %%rcx, sys_state(%%rip)");
    is(sys_state[0], 0x12345, "gives TSC_AUX");
    WORKS("WBINVD, INVD", "wbinvd\ninvd");
}

/* The test machine's CPU models have no MONITOR; a CPU without a CPUID table has everything. */
static void test_monitor(void)
{
    u32 a = 0, b, c = 0, d, leaves;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    leaves = a;
    a = 1;
    c = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (leaves && !(c >> 3 & 1)) {
        FAULTS(6, 0, "MONITOR without its CPUID bit: #UD", "xorl %%ecx, %%ecx\nxorl %%edx, %%edx\nmonitor");
        FAULTS(6, 0, "MWAIT", "xorl %%ecx, %%ecx\nmwait");
        return;
    }
    WORKS("MONITOR, MWAIT", "leaq last(%%rip), %%rax\nxorl %%ecx, %%ecx\nxorl %%edx, %%edx\nmonitor\nxorl %%eax, %%eax\nmwait");
    FAULTS(13, 0, "MONITOR with extensions: #GP(0)", "movl $1, %%ecx\nxorl %%edx, %%edx\nmonitor");
}

void test_control(void)
{
    test_cr();
    test_msr();
    test_xcr0();
    test_others();
    test_monitor();
}
