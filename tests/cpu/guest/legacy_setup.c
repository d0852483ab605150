// SPDX-License-Identifier: MIT
// Tables and event handling of the 32-bit test program.

#include "legacy.h"

struct regs last;
u32 last_esp_in, last_cr2, last_flags_in, resume;
u64 gdt[32] __attribute__((aligned(16))) = {
    [SEL_CODE / 8] = 0x00cf9b000000ffff,   [SEL_DATA / 8] = 0x00cf93000000ffff,
    [SEL_UCODE / 8] = 0x00cffb000000ffff,  [SEL_UDATA / 8] = 0x00cff3000000ffff,
    [SEL_SMALL / 8] = 0x0040930000000fff,  [SEL_DOWN32 / 8] = 0x0040970000000fff,
    [SEL_DOWN16 / 8] = 0x0000970000000fff, [SEL_RO / 8] = 0x00cf91000000ffff,
    [SEL_XO / 8] = 0x00cf99000000ffff,     [SEL_CODE16 / 8] = 0x00009b000000ffff,
    [SEL_DATA16 / 8] = 0x000093000000ffff, [SEL_ABSENT / 8] = 0x00cf13000000ffff,
    [SEL_CONFORMING / 8] = 0x00cf9f000000ffff, [SEL_STACK / 8] = 0x004593000000ffff,
    [SEL_STACK16 / 8] = 0x000093060000ffff,
};
u32 tss[26 + 9] __attribute__((aligned(16)));
static u64 idt[256] __attribute__((aligned(16)));

void idt_set(unsigned vec, unsigned sel, unsigned type_attr, const void *target)
{
    u32 off = target ? (u32)target : (u32)stubs + vec * 16;

    idt[vec] = (off & 0xffff) | sel << 16 | (u64)(type_attr << 8 | (off & 0xffff0000)) << 32;
}

void set_desc(unsigned sel, u32 base, u32 limit, unsigned type_attr, unsigned flags)
{
    gdt[sel / 8] = (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)type_attr << 40 |
                   (u64)(limit >> 16 & 0xf) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

void load_tr(u32 limit)
{
    set_desc(SEL_TSS, (u32)tss, limit, 0x89, 0);
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

static void setup(void)
{
    struct __attribute__((packed)) { u16 limit; u32 base; } dtr = {sizeof(idt) - 1, (u32)idt};

    for (unsigned v = 0; v < 256; v++)
        idt_set(v, SEL_CODE, 0x8e, NULL);
    idt_set(0x80, SEL_CODE, 0xee, NULL);
    idt_set(3, SEL_CODE, 0xee, NULL);
    __asm__ volatile("lidt %0" : : "m"(dtr));
    tss[1] = 0x78000; /* ESP0 */
    tss[2] = SEL_DATA;
    tss[25] = 0x68 << 16;
    for (unsigned i = 26; i < 35; i++)
        tss[i] = ~0u;
    load_tr(sizeof(tss) - 1);
}

int on_event(struct regs *r)
{
    bool outer = r->cs & 3 || r->eflags & FLAG_VM;

    last = *r;
    last_esp_in = (u32)(r->eflags & FLAG_VM ? &r->vgs + 1 : outer ? &r->ss + 1 : &r->eflags + 1);
    __asm__ volatile("movl %%cr2, %0" : "=r"(last_cr2));
    __asm__ volatile("pushfl\npopl %0" : "=r"(last_flags_in));
    if (outer)
        return 1;
    if (resume) {
        r->eip = resume;
        r->cs = SEL_CODE;
        r->eflags &= ~FLAG_RF;
        resume = 0;
        return 0;
    }
    print("Bail out! event ");
    print_hex(r->vec);
    print(" error ");
    print_hex(r->err);
    print(" at ");
    print_hex(r->eip);
    print("\n");
    outl(PORT_EXIT, 2);
    return 1;
}

void legacy_main(void);
void legacy_main(void)
{
    for (u32 i = 0; i < real_count; i++)
        is(real_results[i].got, real_results[i].want, real_results[i].what);
    setup();
    test_limits();
    test_gates();
    test_user();
    test_vm86();
    test_paging();
    back_to_real();
    is(back_state[0] & 0xffff, 0x1234, "back in real mode");
    is(back_state[1] & 0xffff, 0, "with its CS");
    tap_exit();
}
