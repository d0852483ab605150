// SPDX-License-Identifier: MIT
// Tables and event handling of the 64-bit test programs.

#include "long.h"

struct regs last;
u64 last_cr2, last_dr6, last_flags_in, last_ss_in, last_rsp_in, last_cs_in, resume;
int (*hook)(struct regs *r);
volatile u64 event_count, intr_count;
volatile u64 *const window = (volatile u64 *)0x105000;

u64 gdt[SEL_END / 8] __attribute__((aligned(16))) = {
    [SEL_CODE / 8] = 0x00af9b000000ffff,
    [SEL_DATA / 8] = 0x00cf93000000ffff,
    [SEL_UCODE32 / 8] = 0x00cffb000000ffff,
    [SEL_UDATA / 8] = 0x00cff3000000ffff,
    [SEL_UCODE / 8] = 0x00affb000000ffff,
    [SEL_CODE32 / 8] = 0x00cf9b000000ffff,
    [SEL_ABSENT / 8] = 0x00cf73000000ffff,
    [SEL_CONFORMING / 8] = 0x00af9f000000ffff,
    [SEL_READONLY / 8] = 0x0040f10000001234,
    [SEL_EXECONLY / 8] = 0x00aff9000000ffff,
    [SEL_UDATA16 / 8] = 0x008ff3000000ffff,
    [SEL_BADCODE / 8] = 0x00ef9b000000ffff,
};
u8 tss[0x68 + 33] __attribute__((aligned(16)));
static u64 ldt[2] = {0x00cff3000000ffff, 0x00cf92000000ffff};
static u64 idt[256][2] __attribute__((aligned(16)));
static struct __attribute__((packed)) dtr { u16 limit; u64 base; } dtr;

void idt_set(unsigned vec, unsigned sel, unsigned type_attr, unsigned ist)
{
    u64 off = (u64)stubs + vec * 16;

    idt[vec][0] = (off & 0xffff) | (u64)sel << 16 | (u64)ist << 32 | (u64)type_attr << 40 | (off >> 16 & 0xffff) << 48;
    idt[vec][1] = off >> 32;
}

void idt_limit(unsigned limit)
{
    dtr.limit = (u16)limit;
    dtr.base = (u64)idt;
    __asm__ volatile("lidt %0" : : "m"(dtr));
}

void system_desc(unsigned sel, u64 base, u32 limit, unsigned type)
{
    gdt[sel / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)(0x80 | type) << 40 | (base >> 24 & 0xff) << 56;
    gdt[sel / 8 + 1] = base >> 32;
}

static void gate_desc(unsigned sel, u64 off, unsigned dpl)
{
    gdt[sel / 8] = (off & 0xffff) | (u64)SEL_CODE << 16 | (u64)(0x8c | dpl << 5) << 40 | (off >> 16 & 0xffff) << 48;
    gdt[sel / 8 + 1] = off >> 32;
}

extern u8 gate_entry[];

void setup(void)
{
    system_desc(SEL_TSS, (u64)tss, sizeof(tss) - 1, 9);
    system_desc(SEL_LDT, (u64)ldt, sizeof(ldt) - 1, 2);
    gate_desc(SEL_GATE, (u64)gate_entry, 3);
    gate_desc(SEL_GATE0, (u64)gate_entry, 0);
    *(u64 *)(tss + 4) = 0x78008;          /* RSP0: not aligned on purpose */
    *(u64 *)(tss + 0x24) = 0x7a000;       /* IST1 */
    *(u64 *)(tss + 0x2c) = 0x7c000;       /* IST2 */
    *(u16 *)(tss + 0x66) = 0x68;
    for (unsigned i = 0x68; i < sizeof(tss); i++)
        tss[i] = 0xff;
    dtr.limit = sizeof(gdt) - 1;
    dtr.base = (u64)gdt;
    __asm__ volatile("lgdt %0" : : "m"(dtr));
    for (unsigned i = 0; i < 256; i++)
        idt_set(i, SEL_CODE, 0x8e, 0);
    idt_set(0x80, SEL_CODE, 0xee, 0);
    idt_set(0x81, SEL_CODE, 0xef, 0);      /* trap gate */
    idt_set(3, SEL_CODE, 0xee, 0);
    idt_limit(sizeof(idt) - 1);
    __asm__ volatile("ltr %w0; lldt %w1" : : "r"(SEL_TSS), "r"(SEL_LDT));
    user_rsp = USER_ALIAS + 0x7f000;
}

int on_event(struct regs *r)
{
    u64 dr6;

    last = *r;
    event_count++;
    last_flags_in = rflags();
    last_rsp_in = (u64)&r->ss + 8;
    __asm__ volatile("mov %%cr2, %0" : "=r"(last_cr2));
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    last_dr6 = dr6;
    __asm__ volatile("mov %%ss, %0" : "=r"(last_ss_in));
    __asm__ volatile("mov %%cs, %0" : "=r"(last_cs_in));
    if (r->vec == 1)
        __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0ull));
    if (hook) {
        int rc = hook(r);

        if (rc >= 0)
            return rc;
    }
    if (r->vec >= 0x20 && r->vec < 0x80 && !resume && !(r->cs & 3)) {
        intr_count++;
        return 0;
    }
    if (r->cs & 3 && !resume)
        return 1;
    if (resume) {
        r->rip = resume;
        r->rflags &= ~(FLAG_TF | FLAG_RF);
        resume = 0;
        return 0;
    }
    print("Bail out! event ");
    print_hex(r->vec);
    print(" error ");
    print_hex(r->err);
    print(" at ");
    print_hex(r->rip);
    print("\n");
    outl(PORT_EXIT, 2);
    return 1;
}

void run_user(const void *code, u64 flags, u64 arg)
{
    u64 frame[5] = {(u64)code + USER_ALIAS, SEL_UCODE, flags | 2, user_rsp, SEL_UDATA};

    last.vec = NONE;
    enter_frame(frame, arg);
}

void guest_main(void);
void guest_main(void)
{
    setup();
    test_exceptions();
    test_paging();
    test_segments();
    test_user();
    test_syscall();
    test_debug();
    test_control();
    test_interrupts();
    test_double_fault();
    tap_exit();
}
