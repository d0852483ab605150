// SPDX-License-Identifier: MIT
// Integer instructions where the host is no oracle: legacy modes, faults, MMIO and code pages.

#include "op_cpu.h"

#define STACK 0x30000u
#define CODE  0x10000u /* where every instruction here stands */

#define R(reg) (c->r[REG_##reg])

/* Real-address mode, or with (vm86) virtual-8086 mode at CPL 3: bases are selectors times 16. */
static void mode_16(bool vm86)
{
    op_reset();
    c->efer = 0;
    c->cr4 = 0;
    c->cr0 = vm86 ? CR0_PE : 0;
    c->rflags = BIT(1) | (vm86 ? RFLAGS_VM : 0);
    c->cpl = vm86 ? 3 : 0;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        c->seg[i] = (struct cpu_seg){.limit = 0xffff, .ar = SEG_AR_P | SEG_AR_S | 3};
    c->seg[SEG_DS].base = DATA;
    c->seg[SEG_ES].base = DATA + 0x10000;
    c->seg[SEG_SS].base = STACK + 0x10000;
    c->rip = c->r[REG_IPBASE] = 0x100;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
    c->exc.pending = false;
}

static void mode_32(void)
{
    op_reset();
    op_mode_32();
    R(RSP) = STACK;
}

static void mode_64(void)
{
    op_reset();
    R(RSP) = STACK;
    memset(ram + DATA, 0, 0x10000);
}

static u32 get32(u64 at)
{
    return (u32)get64(at);
}
static u16 get16(u64 at)
{
    return (u16)get64(at);
}

/* Run to completion; the number of invocations in *times. */
static int finish(const u8 *code, unsigned len, unsigned *times)
{
    int rc;

    *times = 0;
    do {
        rc = op_run(code, len);
        ++*times;
    } while (rc == OP_AGAIN && *times < 100000);
    return rc;
}
#define FINISH(times, ...)                                                                         \
    ({                                                                                             \
        const u8 code_[] = {__VA_ARGS__};                                                          \
        finish(code_, sizeof(code_), times);                                                       \
    })

/* SDM 2A's examples and the corners of its pseudocode. */
static void test_bcd(void)
{
    static const struct {
        const char *name;
        u8 code[2];
        u16 ax, in, ax_out, out, mask; /* flags as CC_* */
    } t[] = {
        {"DAA of 79h + 35h",
         {0x27},
         0xae,
         CC_SF,
         0x14,
         CC_CF | CC_AF | CC_PF,
         CC_CF | CC_AF | CC_PF | CC_SF | CC_ZF},
        {"DAA leaves 42h", {0x27}, 0x42, 0, 0x42, CC_PF, CC_CF | CC_AF | CC_ZF | CC_SF | CC_PF},
        {"DAA with AF", {0x27}, 0x10, CC_AF, 0x16, CC_AF, CC_CF | CC_AF},
        {"DAA of 9ah is 0 and carries",
         {0x27},
         0x9a,
         0,
         0x00,
         CC_CF | CC_AF | CC_ZF | CC_PF,
         CC_CF | CC_AF | CC_ZF | CC_PF},
        {"DAA with CF", {0x27}, 0x01, CC_CF, 0x61, CC_CF, CC_CF | CC_AF},
        {"DAS of 35h - 47h",
         {0x2f},
         0xee,
         CC_CF | CC_AF,
         0x88,
         CC_CF | CC_AF | CC_SF | CC_PF,
         CC_CF | CC_AF | CC_SF | CC_PF | CC_ZF},
        {"DAS leaves 42h", {0x2f}, 0x42, 0, 0x42, 0, CC_CF | CC_AF},
        {"DAS borrows below 6", {0x2f}, 0x05, CC_AF, 0xff, CC_CF | CC_AF, CC_CF | CC_AF},
        {"AAA adjusts 0fh", {0x37}, 0x000f, 0, 0x0105, CC_CF | CC_AF, CC_CF | CC_AF},
        {"AAA clears the high nibble only", {0x37}, 0x0235, 0, 0x0205, 0, CC_CF | CC_AF},
        {"AAA with AF carries through AL",
         {0x37},
         0x00fb,
         CC_AF,
         0x0201,
         CC_CF | CC_AF,
         CC_CF | CC_AF},
        {"AAS adjusts with AF", {0x3f}, 0x0205, CC_AF, 0x000f, CC_CF | CC_AF, CC_CF | CC_AF},
        {"AAS leaves 03h", {0x3f}, 0x0103, CC_CF, 0x0103, 0, CC_CF | CC_AF},
        {"AAM of 79", {0xd4, 0x0a}, 0xff4f, 0, 0x0709, CC_PF, CC_ZF | CC_SF | CC_PF},
        {"AAM to base 16", {0xd4, 0x10}, 0x00b0, 0, 0x0b00, CC_ZF | CC_PF, CC_ZF | CC_SF | CC_PF},
        {"AAD of 7, 9", {0xd5, 0x0a}, 0x0709, 0, 0x004f, 0, CC_ZF | CC_SF | CC_PF},
        {"AAD to base 16", {0xd5, 0x10}, 0x0b01, 0, 0x00b1, CC_SF | CC_PF, CC_ZF | CC_SF | CC_PF},
        {"SALC with CF", {0xd6}, 0x1200, CC_CF, 0x12ff, CC_CF, CC_CF},
        {"SALC without CF", {0xd6}, 0x12ff, 0, 0x1200, 0, CC_CF},
    };

    mode_32();
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        R(RAX) = 0x55550000 | t[i].ax;
        c->cc = t[i].in;
        ok(op_run(t[i].code, t[i].code[0] >> 4 == 0xd && t[i].code[0] != 0xd6 ? 2 : 1) == OP_NEXT &&
               R(RAX) == (0x55550000 | t[i].ax_out) && (c->cc & t[i].mask) == t[i].out,
           "%s", t[i].name);
    }
    R(RAX) = 0x1234;
    ok(op_raised(OP(0xd4, 0x00), EXC_DE) && R(RAX) == 0x1234, "AAM of base 0 is #DE");
    mode_64();
    ok(op_raised(OP(0x27), EXC_UD), "no DAA in 64-bit mode");
}

static void test_stack_legacy(void)
{
    static const u32 saved[8] = {0x66666666, 0x55555555, 0x44444444, STACK,
                                 0x33333333, 0x22222222, 0x11111111, 0x11110000};
    bool same = true;

    mode_32();
    for (unsigned i = 0; i < 8; i++)
        c->r[i] = i == REG_RSP ? STACK : i == REG_RAX ? 0x11110000 : saved[7 - i];
    ok(OP(0x60) == OP_NEXT && R(RSP) == STACK - 32, "PUSHAD");
    for (unsigned i = 0; i < 8; i++)
        same &= get32(STACK - 32 + i * 4) == (u32)(7 - i == REG_RSP ? STACK : c->r[7 - i]);
    ok(same, "PUSHAD stores EDI lowest, EAX highest, the old ESP between");
    memset(c->r, 0, 8 * sizeof(u64));
    R(RSP) = STACK - 32;
    ok(OP(0x61) == OP_NEXT && R(RSP) == STACK && R(RAX) == 0x11110000 && R(RDI) == saved[0],
       "POPAD");
    ok(OP(0x66, 0x60) == OP_NEXT && R(RSP) == STACK - 16 && get16(STACK - 2) == 0,
       "PUSHA with 66h");
    R(RBX) = 0xaaaaaaaa;
    ok(OP(0x66, 0x61) == OP_NEXT && R(RSP) == STACK && R(RBX) == (0xaaaa0000 | (u16)saved[4]),
       "POPA merges words");

    ok(OP(0x6a, 0xff) == OP_NEXT && get32(STACK - 4) == 0xffffffff && R(RSP) == STACK - 4,
       "PUSH imm8 of 32 bits");
    ok(OP(0x66, 0x6a, 0xfe) == OP_NEXT && get16(STACK - 6) == 0xfffe && R(RSP) == STACK - 6,
       "PUSH imm8 of 16 bits");

    /* ENTER 16, 2: pushes EBP, copies one outer frame pointer, adds its own. */
    R(RSP) = STACK;
    R(RBP) = STACK + 0x100;
    memcpy(ram + STACK + 0xfc, "\x78\x56\x34\x12", 4);
    ok(OP(0xc8, 16, 0, 2) == OP_NEXT && R(RBP) == STACK - 4 && R(RSP) == STACK - 12 - 16 &&
           get32(STACK - 4) == STACK + 0x100 && get32(STACK - 8) == 0x12345678 &&
           get32(STACK - 12) == STACK - 4,
       "ENTER 16, 2");
    ok(OP(0xc9) == OP_NEXT && R(RSP) == STACK && R(RBP) == STACK + 0x100, "LEAVE undoes it");

    /* A 16-bit stack segment: SP wraps, the upper half of ESP stays. */
    c->seg[SEG_SS].ar &= ~(u32)SEG_AR_DB;
    c->seg[SEG_SS].base = STACK;
    R(RSP) = 0xabcd0002;
    R(RAX) = 0xcafef00d;
    ok(OP(0x50) == OP_NEXT && R(RSP) == 0xabcdfffe && get32(STACK + 0xfffe) == 0xcafef00d,
       "PUSH EAX wraps SP");
    ok(OP(0x5b) == OP_NEXT && R(RSP) == 0xabcd0002 && R(RBX) == 0xcafef00d, "POP EBX wraps back");
    c->seg[SEG_SS].limit = 0xfff;
    R(RSP) = 0x2000;
    ok(op_raised(OP(0x50), EXC_SS) && R(RSP) == 0x2000, "PUSH past the limit of SS is #SS");
    ok(op_raised(OP(0x60), EXC_SS) && R(RSP) == 0x2000, "so is PUSHAD");
}

static void test_flow_legacy(void)
{
    mode_32();
    c->seg[SEG_CS].limit = 0x10fff;
    ok(OP(0xe9, 0xfa, 0x0f, 0, 0) == OP_END && c->rip == CODE + 0xfff,
       "JMP to the last byte of CS");
    c->rip = 1;
    ok(op_raised(OP(0xe9, 0xfb, 0x0f, 0, 0), EXC_GP) && c->rip == 1,
       "JMP past the limit of CS is #GP");
    ok(op_raised(OP(0xe8, 0xfb, 0x0f, 0, 0), EXC_GP) && R(RSP) == STACK,
       "CALL past it pushes nothing");
    c->cc = CC_ZF;
    ok(op_raised(OP(0x0f, 0x84, 0xfa, 0x0f, 0, 0), EXC_GP), "JZ past it, taken");
    c->cc = 0;
    ok(OP(0x0f, 0x84, 0xfa, 0x0f, 0, 0) == OP_NEXT, "JZ past it, not taken");
    put64(STACK, 0x11000);
    ok(op_raised(OP(0xc3), EXC_GP) && R(RSP) == STACK, "RET past it leaves ESP");
    put64(STACK, 0x10abc);
    ok(OP(0xc2, 8, 0) == OP_END && c->rip == 0x10abc && R(RSP) == STACK + 12, "RET 8");

    ok(OP(0xe8, 0x0b, 0, 0, 0) == OP_END && c->rip == CODE + 16 && R(RSP) == STACK + 8 &&
           get32(STACK + 8) == CODE + 5,
       "CALL pushes 32 bits");
    ok(OP(0x66, 0xe8, 0x0c, 0) == OP_END && c->rip == 0x10 && R(RSP) == STACK + 6 &&
           get16(STACK + 6) == 4,
       "CALL with 66h pushes IP and cuts the target to 16 bits");
    R(RCX) = 0x10000;
    ok(OP(0x67, 0xe3, 0x10) == OP_END && c->rip == CODE + 0x13, "JCXZ looks at CX");
    ok(OP(0xe3, 0x10) == OP_NEXT, "JECXZ at ECX");
    ok(OP(0x67, 0xe2, 0x10) == OP_END && R(RCX) == 0x1ffff, "LOOP with 67h counts CX alone");
    ok(OP(0x40) == OP_NEXT && R(RAX) == 1, "40h is INC EAX");
    ok(OP(0x48) == OP_NEXT && R(RAX) == 0 && c->cc & CC_ZF, "48h is DEC EAX");
}

static void test_segments(void)
{
    mode_32();
    c->seg[SEG_DS].limit = 0xffff;
    R(RBX) = 0xfffd;
    ok(op_raised(OP(0x8b, 0x03), EXC_GP), "a load across the limit of DS is #GP");
    R(RBX) = 0xfffc;
    ok(OP(0x8b, 0x03) == OP_NEXT, "one up to it works");
    R(RBX) = DATA;
    put64(DATA, 0x12345678);
    ok(OP(0x26, 0x8b, 0x03) == OP_NEXT && R(RAX) == 0x12345678,
       "an override to ES reaches further");
    c->seg[SEG_DS].ar = SEG_AR_P | SEG_AR_S | SEG_AR_DB | 1;
    R(RBX) = 0x100;
    ok(op_raised(OP(0x01, 0x03), EXC_GP) && op_raised(OP(0x88, 0x03), EXC_GP),
       "stores to a read-only segment are #GP");
    ok(OP(0x39, 0x03) == OP_NEXT, "CMP only reads it");
    c->seg[SEG_SS].limit = 0xfff;
    R(RBP) = 0x1000;
    ok(op_raised(OP(0x8b, 0x45, 0x00), EXC_SS), "EBP addresses SS: #SS");
    c->seg[SEG_ES].ar |= SEG_AR_UNUSABLE;
    ok(op_raised(OP(0xaa), EXC_GP), "STOSB to a null ES is #GP");
}

static void test_real_mode(void)
{
    unsigned times;

    mode_16(false);
    R(RBX) = 0xfff0;
    R(RSI) = 0x20;
    put64(DATA + 0x10, 0xbeef);
    ok(OP(0x8b, 0x00) == OP_NEXT && (u16)R(RAX) == 0xbeef, "[BX+SI] wraps at 64 KiB");
    R(RBX) = 0xffff;
    ok(op_raised(OP(0x8b, 0x07), EXC_GP), "a word at 0ffffh is #GP");
    R(RDI) = 0x7777fffe;
    R(RCX) = 0x88880004;
    R(RAX) = 0x5a;
    ok(FINISH(&times, 0xf3, 0xaa) == OP_NEXT && R(RDI) == 0x77770002 && R(RCX) == 0x88880000 &&
           ram[DATA + 0x1ffff] == 0x5a && ram[DATA + 0x10001] == 0x5a &&
           ram[DATA + 0x10002] != 0x5a,
       "REP STOSB wraps DI and touches neither upper half");
    R(RSI) = 0x12;
    R(RDI) = 0x40;
    R(RCX) = 2;
    put64(STACK + 0x10012, 0x1122334455667788);
    ok(FINISH(&times, 0x36, 0xf3, 0xa5) == OP_NEXT && get32(DATA + 0x10040) == 0x55667788 &&
           R(RSI) == 0x16,
       "REP MOVSW with SS as its source");
    R(RBX) = 0x100;
    R(RAX) = 5;
    ram[DATA + 0x10105] = 0x99;
    ok(OP(0x26, 0xd7) == OP_NEXT && R(RAX) == 0x99, "XLAT in ES");
    R(RSP) = 0x100;
    ok(OP(0xe8, 0x00, 0xff) == OP_END && c->rip == 3 && get16(STACK + 0x100fe) == 0x103,
       "CALL cuts IP to 16 bits");
    ok(OP(0x66, 0x50) == OP_NEXT && R(RSP) == 0xfa, "PUSH EAX with 66h");
    ok(OP(0x66, 0x67, 0x8b, 0x05, 0x10, 0, 0, 0) == OP_NEXT && (u16)R(RAX) == 0xbeef,
       "67h gives 32-bit addressing");
    R(RBX) = 0xff34;
    ok(OP(0x66, 0x98) == OP_NEXT && OP(0x8d, 0x47, 0x01) == OP_NEXT && (u16)R(RAX) == 0xff35,
       "LEA of 16 bits");
}

static void test_vm86_flags(void)
{
    mode_16(true);
    R(RSP) = 0x100;
    put64(STACK + 0x10100, RFLAGS_IF | RFLAGS_CF | 2);
    ok(op_raised(OP(0x9c), EXC_GP) && op_raised(OP(0x9d), EXC_GP) && R(RSP) == 0x100,
       "PUSHF and POPF are #GP in virtual-8086 mode below IOPL 3");
    c->rflags |= RFLAGS_IOPL;
    ok(OP(0x9d) == OP_STOP && c->rflags & RFLAGS_IF && c->cc & CC_CF && c->rflags & RFLAGS_VM,
       "with IOPL 3 POPF sets IF");
    ok(OP(0x66, 0x9c) == OP_NEXT && !(get32(STACK + 0x100fe) & RFLAGS_VM), "PUSHFD shows VM as 0");

    mode_16(true);
    c->cr4 |= CR4_VME;
    R(RSP) = 0x100;
    put64(STACK + 0x10100, RFLAGS_IF | 2);
    ok(OP(0x9d) >= 0 && !(c->rflags & RFLAGS_IF) && c->rflags & RFLAGS_VIF,
       "VME: POPF sets VIF for IF");
    ok(OP(0x9c) == OP_NEXT &&
           (get16(STACK + 0x10100) & (RFLAGS_IF | RFLAGS_IOPL)) == (RFLAGS_IF | RFLAGS_IOPL),
       "VME: PUSHF shows VIF as IF and IOPL as 3");
    c->rflags |= RFLAGS_VIP;
    ok(op_raised(OP(0x9d), EXC_GP), "VME: setting VIF with VIP pending is #GP");
    ok(op_raised(OP(0x66, 0x9d), EXC_GP), "VME helps the 16-bit form only");
}

static void test_popf(void)
{
    mode_64();
    put64(STACK, RFLAGS_IF | RFLAGS_IOPL | RFLAGS_VIF | RFLAGS_ID | RFLAGS_SF | 2);
    ok(OP(0x9d) == OP_STOP && c->rflags & RFLAGS_IF && (c->rflags & RFLAGS_IOPL) == RFLAGS_IOPL &&
           !(c->rflags & RFLAGS_VIF) && c->rflags & RFLAGS_ID,
       "POPFQ at CPL 0 sets IF and IOPL, not VIF");
    c->cpl = 3;
    c->rflags = BIT(1) | RFLAGS_IF;
    put64(STACK + 8, RFLAGS_IOPL | RFLAGS_DF | 2);
    ok(OP(0x9d) == OP_NEXT && c->rflags & RFLAGS_IF && !(c->rflags & RFLAGS_IOPL) &&
           c->rflags & RFLAGS_DF,
       "at CPL 3 it leaves IF and IOPL");
    R(RSP) = STACK;
    put64(STACK, RFLAGS_AC | 2);
    ok(OP(0x9d) == OP_STOP && c->rflags & RFLAGS_AC, "changing AC stops the block");
    R(RSP) = STACK;
    put64(STACK, RFLAGS_TF | 2);
    ok(OP(0x66, 0x9d) == OP_STOP && c->rflags & RFLAGS_TF && c->rflags & RFLAGS_AC &&
           R(RSP) == STACK + 2,
       "POPF of 16 bits reaches TF, not AC");
}

static void test_canonical(void)
{
    mode_64();
    R(RAX) = 0x800000000000;
    c->rip = 1;
    ok(op_raised(OP(0xff, 0xe0), EXC_GP) && c->rip == 1, "JMP to a non-canonical address is #GP");
    ok(op_raised(OP(0xff, 0xd0), EXC_GP) && R(RSP) == STACK, "CALL to one pushes nothing");
    put64(STACK, 0x800000000000);
    ok(op_raised(OP(0xc3), EXC_GP) && R(RSP) == STACK, "RET to one leaves RSP");
    R(RAX) = 0xffff800000000000;
    ok(OP(0xff, 0xe0) == OP_END && c->rip == 0xffff800000000000, "the upper half begins there");
    R(RSP) = 0x800000000010;
    ok(op_raised(OP(0x50), EXC_SS), "PUSH to one is #SS");
    R(RBX) = 0x800000000000;
    ok(op_raised(OP(0x8b, 0x03), EXC_GP), "a load from one is #GP");
    R(RBP) = 0x800000000000;
    ok(op_raised(OP(0x8b, 0x45, 0), EXC_SS), "through RBP it is #SS");
    R(RSP) = STACK;
    ok(OP(0x66, 0xe8, 0, 0, 0, 0) == OP_END && R(RSP) == STACK - 8 && get64(STACK - 8) == CODE + 6,
       "66h does nothing to CALL");
}

static void test_faults(void)
{
    u64 page = DATA + 0x2000;

    mode_64();
    page_set(page, false, false);
    R(RSP) = page + 8;
    R(RBP) = STACK;
    R(RBX) = page;
    ok(op_raised(OP(0x50), EXC_PF) && R(RSP) == page + 8, "PUSH");
    ok(op_raised(OP(0x58), EXC_PF) && R(RSP) == page + 8, "POP");
    ok(op_raised(OP(0xc8, 0x10, 0, 0), EXC_PF) && R(RSP) == page + 8 && R(RBP) == STACK, "ENTER");
    R(RSP) = page + 0x1008;
    ok(op_raised(OP(0xc8, 0x10, 0x0, 0), EXC_PF) && R(RSP) == page + 0x1008,
       "ENTER that reserves into the page");
    R(RSP) = STACK;
    ok(op_raised(OP(0x8f, 0x03), EXC_PF) && R(RSP) == STACK, "POP to memory");
    ok(op_raised(OP(0xe8, 0, 0, 0, 0), EXC_PF) == false, "CALL with a good stack");
    R(RSP) = page + 8;
    ok(op_raised(OP(0xe8, 0, 0, 0, 0), EXC_PF) && R(RSP) == page + 8, "CALL");
    c->cc = 0;
    ok(op_raised(OP(0x0f, 0x44, 0x03), EXC_PF), "CMOV reads though its condition fails");
    R(RAX) = 7;
    ok(op_raised(OP(0x0f, 0xb1, 0x03), EXC_PF) && R(RAX) == 7, "CMPXCHG");
    R(RAX) = 7;
    ok(op_raised(OP(0x87, 0x03), EXC_PF) && R(RAX) == 7, "XCHG");
    ok(op_raised(OP(0x0f, 0xae, 0x3b), EXC_PF), "CLFLUSH probes");
    ok(OP(0x0f, 0x18, 0x0b) == OP_NEXT, "PREFETCH does not");
    page_set(page, true, false);
    c->cc = CC_CF;
    ok(op_raised(OP(0x01, 0x03), EXC_PF) && c->cc == CC_CF && c->exc.error & 2,
       "ADD to a read-only page keeps the flags");
    ok(op_raised(OP(0xf0, 0x0f, 0xba, 0x2b, 1), EXC_PF), "LOCK BTS");
    ok(op_raised(OP(0xd1, 0x23), EXC_PF), "SHL");
    ok(OP(0x03, 0x03) == OP_NEXT, "ADD from it");
    R(RBX) = DATA + 8;
    ok(op_raised(OP(0x48, 0x0f, 0xc7, 0x0b), EXC_GP), "CMPXCHG16B off its alignment is #GP");
    ok(op_raised(OP(0x66, 0x0f, 0x38, 0xf8, 0x1b), EXC_GP), "MOVDIR64B likewise");
    ok(op_raised(OP(0xf0, 0x01, 0xc0), EXC_UD) && op_raised(OP(0xf0, 0x8b, 0x03), EXC_UD),
       "LOCK where it may not be");
    R(RCX) = 0;
    R(RAX) = 1;
    ok(op_raised(OP(0x48, 0xf7, 0xf1), EXC_DE) && R(RAX) == 1, "DIV by 0");
    R(RAX) = 0x8000000000000000;
    R(RDX) = ~0ull;
    R(RCX) = ~0ull;
    ok(op_raised(OP(0x48, 0xf7, 0xf9), EXC_DE) && R(RDX) == ~0ull,
       "IDIV of the least number by -1");
    ok(op_raised(OP(0x0f, 0x0b), EXC_UD) && op_raised(OP(0x0f, 0xff, 0xc0), EXC_UD), "UD2 and UD0");
}

static void test_segment_base(void)
{
    mode_64();
    c->seg[SEG_FS].base = DATA;
    c->seg[SEG_DS].base = 0x1000; /* means nothing in 64-bit mode */
    put64(DATA + 0x40, 0x1122334455667788);
    ok(OP(0x64, 0x48, 0x8b, 0x04, 0x25, 0x40, 0, 0, 0) == OP_NEXT && R(RAX) == 0x1122334455667788,
       "FS:[abs]");
    R(RBX) = 0x38;
    ok(OP(0x64, 0x48, 0x8d, 0x43, 8) == OP_NEXT && R(RAX) == 0x40, "LEA ignores FS");
    R(RSI) = 0x40;
    R(RDI) = DATA + 0x80;
    ok(OP(0x64, 0x48, 0xa5) == OP_NEXT && get64(DATA + 0x80) == 0x1122334455667788,
       "MOVSQ from FS, to flat ES");
    R(RAX) = 0x46;
    R(RBX) = 0;
    ok(OP(0x64, 0xd7) == OP_NEXT && R(RAX) == 0x22, "XLAT in FS");
    ok(OP(0x64, 0xa1, 0x40, 0, 0, 0, 0, 0, 0, 0) == OP_NEXT && R(RAX) == 0x55667788,
       "MOV EAX, FS:moffs");
    ok(OP(0x8b, 0x05, 0xfa, 0xff, 0, 0) == OP_NEXT && R(RAX) == get32(CODE + 0x10000),
       "RIP-relative");
}

/* REP: bounded, restartable, registers at the failing element. */
static void test_rep(void)
{
    u64 page = DATA + 0x2000;
    unsigned times;

    mode_64();
    for (unsigned i = 0; i < 0x40000; i++)
        ram[0x100000 + i] = (u8)(i * 7 + (i >> 8));
    for (unsigned asked = 0; asked < 2; asked++) {
        memset(ram + 0x140000, 0, 0x40000);
        R(RSI) = 0x100000;
        R(RDI) = 0x140000;
        R(RCX) = 0x40000;
        if (asked)
            cpu_request(c, CPU_REQ_TICK);
        ok(FINISH(&times, 0xf3, 0xa4) == OP_NEXT && !R(RCX) && R(RDI) == 0x180000 &&
               !memcmp(ram + 0x100000, ram + 0x140000, 0x40000),
           "256 KiB of REP MOVSB%s", asked ? " with a request" : "");
    }
    R(RDI) = 0x100000;
    R(RCX) = 0xc0000;
    ok(OP(0xf3, 0xaa) == OP_AGAIN && R(RCX) && R(RDI) + R(RCX) == 0x1c0000,
       "a long REP STOSB looks for requests");
    atomic_fetch_and(&c->request, ~(u32)CPU_REQ_TICK);

    put64(PT + (0x101000 >> 12) * 8, 0x102000 | 7);
    put64(PT + (0x102000 >> 12) * 8, 0x101000 | 7);
    tlb_flush(c);
    for (unsigned i = 0; i < 0x3000; i++)
        ram[0x100000 + i] = (u8)(i * 7 + (i >> 8));
    R(RSI) = 0x100000;
    R(RDI) = 0x140004;
    R(RCX) = 0x3000 / 8;
    ok(FINISH(&times, 0xf3, 0x48, 0xa5) == OP_NEXT &&
           !memcmp(ram + 0x140004, ram + 0x100000, 0x1000) &&
           !memcmp(ram + 0x141004, ram + 0x102000, 0x1000) &&
           !memcmp(ram + 0x142004, ram + 0x101000, 0x1000),
       "REP MOVSQ through pages in another order");
    put64(PT + (0x101000 >> 12) * 8, 0x101000 | 7);
    put64(PT + (0x102000 >> 12) * 8, 0x102000 | 7);
    tlb_flush(c);

    page_set(page, false, false);
    R(RSI) = DATA;
    R(RDI) = page - 0x18;
    R(RCX) = 8;
    ok(op_raised(FINISH(&times, 0xf3, 0x48, 0xa5), EXC_PF) && R(RCX) == 5 && R(RDI) == page &&
           R(RSI) == DATA + 0x18 && c->exc.payload == page,
       "REP MOVSQ stops before the missing page");
    R(RDI) = page - 4;
    R(RCX) = 8;
    ok(op_raised(FINISH(&times, 0xf3, 0x48, 0xab), EXC_PF) && R(RCX) == 8 && R(RDI) == page - 4,
       "REP STOSQ across its beginning does nothing");
    R(RDI) = page + 0x1010;
    R(RCX) = 0x30;
    c->rflags |= RFLAGS_DF;
    ok(op_raised(FINISH(&times, 0xf3, 0xaa), EXC_PF) && R(RCX) == 0x30 - 0x11 &&
           R(RDI) == page + 0xfff,
       "REP STOSB downwards stops after its end");
    c->rflags &= ~RFLAGS_DF;
    page_set(page, true, true);

    R(RCX) = 0;
    R(RDI) = page;
    c->cc = CC_ZF;
    ok(FINISH(&times, 0xf3, 0xae) == OP_NEXT && c->cc == CC_ZF && R(RDI) == page,
       "a count of 0 changes nothing");
    memset(ram + DATA, 0x20, 0x3000);
    ram[page + 0x123] = 0x21;
    R(RDI) = DATA + 0x800;
    R(RAX) = 0x20;
    R(RCX) = ~0ull;
    ok(FINISH(&times, 0xf3, 0xae) == OP_NEXT && R(RDI) == page + 0x124 && !(c->cc & CC_ZF),
       "REPE SCASB over three pages");
    R(RAX) = 0x21;
    R(RDI) = DATA;
    R(RCX) = ~0ull;
    ok(FINISH(&times, 0xf2, 0xae) == OP_NEXT && R(RDI) == page + 0x124 && R(RCX) == ~0ull - 0x2124,
       "REPNE SCASB");

    R(RDI) = page;
    R(RAX) = 0x90;
    R(RCX) = 0x40;
    page_code(page);
    c->stats.smc = 0;
    ok(FINISH(&times, 0xf3, 0xaa) == OP_NEXT && times > 1 && c->stats.smc == 1 &&
           ram[page + 0x3f] == 0x90,
       "REP STOSB over code looks up after the store that hits it");
    page_mmio(page);
    R(RSI) = page;
    R(RDI) = DATA;
    R(RCX) = 16;
    ok(FINISH(&times, 0xf3, 0xa4) == OP_NEXT && ram[DATA + 15] == 0xee && op_accessed == 16,
       "REP MOVSB from MMIO");
    R(RSI) = DATA;
    R(RDI) = page;
    R(RCX) = 3;
    ok(FINISH(&times, 0xf3, 0xa4) == OP_STOP && times == 3 && op_accessed == 19,
       "REP MOVSB to MMIO leaves after each");
    c->rflags |= RFLAGS_TF;
    R(RSI) = DATA;
    R(RDI) = DATA + 0x100;
    R(RCX) = 5;
    ok(FINISH(&times, 0xf3, 0xa4) == OP_NEXT && times == 5,
       "with TF each iteration is one invocation");
}

static void test_rmw_places(void)
{
    u64 page = DATA + 0x2000;

    mode_64();
    R(RBX) = page - 3;
    R(RAX) = 1;
    put64(page - 3, 0xffffffff);
    ok(OP(0xf0, 0x01, 0x03) == OP_NEXT && get32(page - 3) == 0 && c->cc & CC_CF,
       "LOCK ADD across pages");
    put64(page - 3, 5);
    R(RAX) = 5;
    R(RCX) = 0x77;
    ok(OP(0xf0, 0x0f, 0xb1, 0x0b) == OP_NEXT && get32(page - 3) == 0x77 && c->cc & CC_ZF,
       "LOCK CMPXCHG across pages");
    page_code(page);
    R(RBX) = page + 4;
    ok(OP(0xff, 0x03) == OP_STOP, "INC on a page with code stops the block");
    page_code(page);
    ok(OP(0xf0, 0xff, 0x03) == OP_STOP, "LOCK INC as well");
    page_code(page);
    ok(OP(0x89, 0x03) == OP_STOP, "and MOV");
    page_code(page);
    R(RSP) = page + 0x10;
    ok(OP(0x50) == OP_STOP && R(RSP) == page + 8, "and PUSH, which is complete");
    page_mmio(page);
    ok(OP(0x01, 0x03) == OP_STOP && op_accessed == 2, "ADD to MMIO reads and writes once each");
    ok(OP(0x87, 0x03) == OP_STOP && R(RAX) == 0xeeeeeeee, "XCHG with MMIO");
    ok(OP(0x39, 0x03) == OP_NEXT && op_accessed == 5, "CMP with MMIO only reads");
}

int main(void)
{
    if (!op_create())
        return tap_skip_all("no memory");
    cpu_world_enter(c);
    test_bcd();
    test_stack_legacy();
    test_flow_legacy();
    test_segments();
    test_real_mode();
    test_vm86_flags();
    test_popf();
    test_canonical();
    test_faults();
    test_segment_base();
    test_rep();
    test_rmw_places();
    cpu_world_leave(c);
    op_destroy();
    return tap_done();
}
