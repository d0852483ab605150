// SPDX-License-Identifier: MIT
// What the parts of the real-mode and 32-bit test program share.
#pragma once

#include "guest.h"

/* A test point taken in real mode, reported once there is a console routine that can run. */
struct real_result {
    u32 got, want;
    const char *what;
};
extern struct real_result real_results[128];
extern u32 real_count;
void real_main(void);

struct regs {
    u32 es, ds, edi, esi, ebp, esp_, ebx, edx, ecx, eax, vec, err, eip, cs, eflags, esp, ss, ves, vds, vfs, vgs;
};
#define NONE 0xffu

extern struct regs last;
extern u32 last_esp_in, last_cr2, last_flags_in;
extern u32 ss_in, gs_in, resume, stub16_state[4], gate_state[8], back_state[2];
extern u64 gdt[32];
extern u32 tss[26 + 9];
extern u8 stubs[], stub16[], gate_entry[], the_iret[], sysenter_entry[];

int on_event(struct regs *r);
void idt_set(unsigned vec, unsigned sel, unsigned type_attr, const void *target);
void set_desc(unsigned sel, u32 base, u32 limit, unsigned type_attr, unsigned flags);
void enter_frame(const u32 *frame, unsigned n);
void leave_user(void);
void back_to_real(void);
void load_tr(u32 limit);

enum {
    SEL_CODE = 0x08, SEL_DATA = 0x10, SEL_UCODE = 0x1b, SEL_UDATA = 0x23, SEL_TSS = 0x28, SEL_SMALL = 0x30,
    SEL_DOWN32 = 0x38, SEL_DOWN16 = 0x40, SEL_RO = 0x48, SEL_XO = 0x50, SEL_SHORT = 0x58, SEL_GATE = 0x60,
    SEL_GATE16 = 0x68, SEL_TASK = 0x70, SEL_TSS2 = 0x78, SEL_CODE16 = 0x80, SEL_DATA16 = 0x88,
    SEL_ABSENT = 0x90, SEL_CONFORMING = 0x98, SEL_STACK = 0xa0, SEL_STACK16 = 0xa8,
};

#define FLAG_TF 0x100u
#define FLAG_IF 0x200u
#define FLAG_IOPL3 0x3000u
#define FLAG_NT 0x4000u
#define FLAG_RF 0x10000u
#define FLAG_VM 0x20000u

/* As in long.h; (code) may use EAX, ECX, EDX. */
#define TRY(code, ...)                                                                             \
    ({                                                                                             \
        last.vec = NONE;                                                                           \
        __asm__ volatile("movl $9f, resume\n" code "\n9: movl $0, %%ss:resume"                     \
                         :                                                                         \
                         : __VA_ARGS__                                                             \
                         : "eax", "ecx", "edx", "memory", "cc");                                   \
        last.vec;                                                                                  \
    })
#define EVENT(vector, error) ((u64)(vector) << 32 | (u32)(error))
#define LAST() EVENT(last.vec, last.vec == NONE ? 0 : last.err)
#define FAULTS(vector, error, what, code, ...)                                                     \
    do {                                                                                           \
        TRY(code, __VA_ARGS__);                                                                    \
        is(LAST(), EVENT(vector, error), what);                                                    \
    } while (0)
#define WORKS(what, code, ...) FAULTS(NONE, 0, what, code, __VA_ARGS__)

void test_limits(void);
void test_gates(void);
void test_user(void);
void test_vm86(void);
void test_paging(void);
