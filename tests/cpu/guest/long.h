// SPDX-License-Identifier: MIT
// 64-bit test programs: descriptor tables, events, and ways down to user code.
#pragma once

#include "guest.h"

enum {
    SEL_CODE = 0x08, SEL_DATA = 0x10, SEL_UCODE32 = 0x1b, SEL_UDATA = 0x23, SEL_UCODE = 0x2b, SEL_TSS = 0x30,
    SEL_CODE32 = 0x40, SEL_LDT = 0x48, SEL_GATE = 0x58, SEL_ABSENT = 0x68, SEL_CONFORMING = 0x70,
    SEL_READONLY = 0x7b, SEL_EXECONLY = 0x83, SEL_UDATA16 = 0x8b, SEL_BADCODE = 0x90, SEL_GATE0 = 0x98,
    SEL_END = 0xa8,
};

#define USER_ALIAS 0x40000000ull /* linear address of user mappings of the same memory */
#define WINDOW 0x80000000ull     /* 4 KiB pages mapped by window[] */
#define WINDOW_PHYS 0x400000ull  /* RAM for them */

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)

#define FLAG_TF 0x100ull
#define FLAG_IF 0x200ull
#define FLAG_IOPL3 0x3000ull
#define FLAG_NT 0x4000ull
#define FLAG_RF 0x10000ull
#define FLAG_AC 0x40000ull

struct regs {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vec, err, rip, cs, rflags, rsp, ss;
};

#define NONE 0xffffull /* vec: nothing happened */

extern struct regs last;        /* the latest event */
extern u64 last_cr2, last_dr6, last_flags_in, last_ss_in, last_rsp_in, last_cs_in;
extern volatile u64 event_count, intr_count;
extern int (*hook)(struct regs *r); /* sees events first: 0 IRET, 1 leave the user's run, -1 not interested */
extern u64 resume;              /* where an event at CPL 0 goes on; 0: it must not happen */
extern volatile u64 *const window;
extern u64 gdt[];
extern u8 tss[];
extern u8 stubs[];
extern u64 user_rsp, sys_state[8], sys_action;
extern u8 the_iretq[], the_sysretq[];

/* C entry of every vector. */
int on_event(struct regs *r);

void setup(void);
void system_desc(unsigned sel, u64 base, u32 limit, unsigned type);
void idt_set(unsigned vec, unsigned sel, unsigned type_attr, unsigned ist);
void idt_limit(unsigned limit);

void enter_frame(const u64 frame[5], u64 arg);
void enter_sysret(u64 rip, u64 rflags, u64 wide);
void enter_sysexit(u64 rip, u64 rsp);
void enter_lret(u64 rip, u64 cs, u64 rsp, u64 ss);
void leave_user(void);
void syscall_entry(void);

/* Run user code (a label in the program) until an event; the event is in (last). */
void run_user(const void *code, u64 rflags, u64 arg);

/* User code: ends with INT 80H, which is open to it. */
#define USER(name, code)                                                                           \
    __asm__(".pushsection .text\n.globl " #name "\n" #name ":\n" code "\nint $0x80\n.popsection");  \
    extern const u8 name[];

/*
 * Run (code) at CPL 0; an event in it ends it, and gives last.vec. The rest are inputs, in registers other than
 * RAX, RCX, RDX and R8 to R11, which (code) may use.
 */
#define TRY(code, ...)                                                                             \
    ({                                                                                             \
        last.vec = NONE;                                                                           \
        __asm__ volatile("leaq 9f(%%rip), %%rax\nmovq %%rax, resume(%%rip)\n" code                 \
                         "\n9: movq $0, resume(%%rip)"                                             \
                         :                                                                         \
                         : __VA_ARGS__                                                             \
                         : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");         \
        last.vec;                                                                                  \
    })

/* One number for vector and error code. */
#define EVENT(vector, error) ((u64)(vector) << 32 | (error))
#define LAST() EVENT(last.vec, last.vec == NONE ? 0 : last.err)

/* (code) faults with this vector and error code. */
#define FAULTS(vector, error, what, code, ...)                                                     \
    do {                                                                                           \
        TRY(code, __VA_ARGS__);                                                                    \
        is(LAST(), EVENT(vector, error), what);                                                    \
    } while (0)

#define WORKS(what, code, ...) FAULTS(NONE, 0, what, code, __VA_ARGS__)

static inline u64 rdmsr(u32 i)
{
    u32 a, d;

    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(i));
    return (u64)d << 32 | a;
}
static inline void wrmsr(u32 i, u64 v)
{
    __asm__ volatile("wrmsr" : : "c"(i), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 read_cr0(void) { u64 v; __asm__ volatile("mov %%cr0, %0" : "=r"(v)); return v; }
static inline u64 read_cr3(void) { u64 v; __asm__ volatile("mov %%cr3, %0" : "=r"(v)); return v; }
static inline u64 read_cr4(void) { u64 v; __asm__ volatile("mov %%cr4, %0" : "=r"(v)); return v; }
static inline void write_cr0(u64 v) { __asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }
static inline void write_cr3(u64 v) { __asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
static inline void write_cr4(u64 v) { __asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }
static inline void invlpg(u64 a) { __asm__ volatile("invlpg (%0)" : : "r"(a) : "memory"); }
static inline u64 rflags(void) { u64 v; __asm__ volatile("pushfq; popq %0" : "=r"(v)); return v; }
static inline bool is_amd(void)
{
    u32 a = 0, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b == 0x68747541;
}
static inline bool on_test_machine(void) { return inb(PORT_IDENT) == IDENT; }

/* The test groups, a file each. */
void test_exceptions(void);
void test_paging(void);
void test_user(void);
void test_segments(void);
void test_syscall(void);
void test_debug(void);
void test_control(void);
void test_interrupts(void);
void test_double_fault(void);
