// SPDX-License-Identifier: MIT
// Faults during the delivery of faults, to the end. SDM 3A table 6-5.

#include "long.h"

USER(d_ud2, "ud2")

void test_double_fault(void)
{
    idt_set(8, SEL_CODE, 0x8e, 1);
    idt_set(13, SEL_CODE, 0x0e, 0);
    FAULTS(8, 0, "#GP, its gate absent: #DF", "movq (%%rbx), %%rcx", "b"(1ull << 63));
    is(last_rsp_in, 0x7a000, "on its IST");
    is(last.rflags & FLAG_RF, 0, "RF is pushed as it was");
    idt_set(13, SEL_CODE, 0x8e, 0);
    idt_set(14, SEL_CODE, 0x0e, 0);
    FAULTS(8, 0, "#PF, its gate absent: #DF", "movq (%%rbx), %%rcx", "b"(0xc0000000));
    is(last_cr2, 0xc0000000, "CR2 is the page fault's");
    idt_set(14, SEL_CODE, 0x8e, 2);
    *(u64 *)(tss + 4) = 0xc0001000;
    run_user(d_ud2, 0, 0);
    is(LAST(), EVENT(14, 2), "#UD, RSP0 in a missing page: #PF");
    is(last_cr2, 0xc0000ff8, "CR2 is where SS was to be pushed");
    is(EVENT(last.cs, last.rip == (u64)d_ud2 + USER_ALIAS), EVENT(SEL_UCODE, 1), "and its frame is the user's");
    idt_set(14, SEL_CODE, 0x8e, 0);
    run_user(d_ud2, 0, 0);
    is(LAST(), EVENT(8, 0), "the same with #PF on RSP0 too: #DF");
    *(u64 *)(tss + 4) = 0x78008;
    if (!on_test_machine())
        return;
    tap_shutdown();
    idt_limit(0);
    __asm__ volatile("ud2");
}
