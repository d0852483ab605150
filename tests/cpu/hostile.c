// SPDX-License-Identifier: MIT
// Code that no compiler makes: overlapping instructions, too long ones, ones that end in no page, endless changes and faults.

/*
 * Each case runs often enough to be translated, and the program once with each engine (meson.build). What must come out is
 * the architecture's exception, an error that the VMM hears of, or slow execution that a request ends.
 */

#include "op_cpu.h"

#include <pthread.h>

#define CODE    0x10000u
#define NEXT    (CODE + PAGE_SIZE)
#define HANDLER 0x8000u /* vector n ends at the HLT at HANDLER + n */
#define IDT     0x6000u
#define GDT     0x7000u
#define TSS     0x9000u
#define STACK   (DATA + 0x8000)
#define AWAY    0x1f0000u /* linear: leads where a test wants it */
#define ROM     0x400000u /* guest-physical */
#define RUNS    40
#define HLT     0xf4

#define NO_EXCEPTION (-1) /* it came to a HLT of its own */
#define LEFT(why)    (-100 - (why))

static void put(u64 at, const void *code, size_t n)
{
    memcpy(ram + at, code, n);
    mem_written(mem, at, n);
    cpu_request(c, CPU_REQ_RECHECK);
}
#define PUT(at, ...) put(at, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void gate(unsigned v, u64 handler, unsigned ist)
{
    put64(IDT + v * 16, (handler & 0xffff) | 8ull << 16 | (u64)ist << 32 | 0x8e00ull << 32);
    put64(IDT + v * 16 + 8, 0);
}

static void reset(void)
{
    op_reset();
    op_handler(HANDLER, IDT, GDT);
    for (unsigned v = 0; v < 256; v++)
        gate(v, HANDLER + v, 0);
    memset(ram + HANDLER, HLT, 256);
    memset(ram + CODE, HLT, 2 * PAGE_SIZE);
    mem_written(mem, 0, RAM_SIZE);
    for (u64 page = 0; page < RAM_SIZE; page += PAGE_SIZE)
        mem_slot_page(mem_slot_at(mem, 0), page)->hits = 0;
    cpu_request(c, CPU_REQ_RECHECK);
}

/* Run from (rip) on: the vector of the exception that came, NO_EXCEPTION, or LEFT(reason). */
static int run_at(u64 rip)
{
    int why;

    c->rip = rip;
    c->r[REG_RSP] = STACK;
    c->halted = false;
    why = cpu_run(c);
    if (why != CPU_EXIT_HLT)
        return LEFT(why);
    return c->rip > HANDLER && c->rip <= HANDLER + 256 ? (int)(c->rip - HANDLER - 1) : NO_EXCEPTION;
}

/* What an exception with an error code has pushed. */
static u64 pushed_error(void)
{
    return get64(c->r[REG_RSP]);
}
static u64 pushed_rip(void)
{
    return get64(c->r[REG_RSP] + 8);
}

static void test_middle(void)
{
    bool good = true;

    reset();
    PUT(CODE, 0xb8, 0xfe, 0xc0, 0xc3, 0); /* mov eax, 0xc3c0fe; or from its middle: inc al; ret */
    PUT(CODE + 0x40, 0xeb, 0xff, 0xc0, 0xc3); /* jmp to its own second byte: inc eax; ret */
    /* mov ecx, 50; again: call [CODE + 1]; call [CODE + 0x40]; dec ecx; jnz again; call [CODE]; hlt */
    PUT(NEXT, 0xb9, 50, 0, 0, 0, 0xe8, 0xf7, 0xef, 0xff, 0xff, 0xe8, 0x31, 0xf0, 0xff, 0xff, 0xff,
        0xc9, 0x75, 0xf2, HLT);
    for (unsigned i = 0; i < RUNS && good; i++) {
        c->r[REG_RAX] = 0;
        good = run_at(NEXT) == NO_EXCEPTION && c->r[REG_RAX] == 100;
    }
    ok(good, "jumps into the middle of instructions, and of the jump itself");
    for (unsigned i = 0; i < RUNS && good; i++)
        good = run_at(CODE) == NO_EXCEPTION && c->r[REG_RAX] == 0xc3c0fe;
    ok(good, "the instruction that was jumped into still is one");
}

/* (prefixes) of 66H before a NOP at (at). */
static int run_long(u64 at, unsigned prefixes)
{
    u8 code[32];

    memset(code, 0x66, prefixes);
    code[prefixes] = 0x90;
    code[prefixes + 1] = HLT;
    put(at, code, prefixes + 2);
    return run_at(at);
}

static void test_length(void)
{
    bool longest = true, longer = true, across = true, absent = true;

    reset();
    for (unsigned i = 0; i < RUNS; i++) {
        longest &= run_long(CODE, 14) == NO_EXCEPTION;
        longer &=
            run_long(CODE + 0x80, 15) == EXC_GP && pushed_rip() == CODE + 0x80 && !pushed_error();
        across &= run_long(NEXT - 7, 15) == EXC_GP && pushed_rip() == NEXT - 7;
    }
    ok(longest, "15 bytes are an instruction");
    ok(longer, "16 are #GP(0) at its first");
    ok(across, "also across two pages");
    page_set(NEXT, false, false);
    for (unsigned i = 0; i < RUNS; i++) {
        absent &= run_long(NEXT - 15, 13) == NO_EXCEPTION;
        memset(ram + NEXT - 15, 0x66, 15);
        mem_written(mem, CODE, PAGE_SIZE);
        cpu_request(c, CPU_REQ_RECHECK);
        absent &= run_at(NEXT - 15) == EXC_GP && pushed_rip() == NEXT - 15;
    }
    ok(absent,
       "15 bytes of prefixes before a page that is absent are #GP(0): the 16th is not asked for");
}

/* What is no instruction becomes one by a change behind its first byte, and back. */
static void test_undefined(void)
{
    bool good = true;

    reset();
    for (unsigned i = 0; i < RUNS; i++) {
        PUT(CODE + 0x90, 0x90, 0x66, 0x0f, 0x04, 0x00, HLT);
        good &= run_at(CODE + 0x90) == EXC_UD && get64(c->r[REG_RSP]) == CODE + 0x91;
        PUT(CODE + 0x93, 0x1f); /* nop word [rax] */
        good &= run_at(CODE + 0x90) == NO_EXCEPTION;
    }
    ok(good, "bytes that are no instruction become one when a later byte changes");
}

static void test_second_page(void)
{
    bool runs = true, faults = true, ends = true;

    reset();
    PUT(NEXT - 3, 0xb8, 1, 2, 3, 4, HLT); /* mov eax, 0x04030201 */
    for (unsigned round = 0; round < 4; round++) {
        page_set(NEXT, true, true);
        for (unsigned i = 0; i < RUNS; i++)
            runs &= run_at(NEXT - 3) == NO_EXCEPTION && c->r[REG_RAX] == 0x04030201;
        page_set(NEXT, false, false);
        c->r[REG_RAX] = 77;
        for (unsigned i = 0; i < RUNS; i++)
            faults &= run_at(NEXT - 3) == EXC_PF && c->cr2 == NEXT && pushed_rip() == NEXT - 3 &&
                      !pushed_error() && c->r[REG_RAX] == 77;
    }
    ok(runs, "an instruction across two pages");
    ok(faults, "is #PF at its own address, for the second page's, while that is absent");
    PUT(NEXT - 5, 0xb8, 1, 0, 0, 0);
    for (unsigned i = 0; i < RUNS; i++)
        ends &= run_at(NEXT - 5) == EXC_PF && c->cr2 == NEXT && pushed_rip() == NEXT &&
                c->r[REG_RAX] == 1;
    ok(ends, "one that ends with its page runs before the next page is missed");
    PUT(NEXT - 2, 0x90, HLT);
    ok(run_at(NEXT - 2) == NO_EXCEPTION, "and a HLT there does not miss it");
}

/* Ask for an end again and again, until (arg) says that it has come. */
static void *ask_for_end(void *arg)
{
    while (!atomic_load((atomic_bool *)arg)) {
        cpu_request(c, CPU_REQ_EXIT);
        sched_yield();
    }
    return NULL;
}

/* Run what never ends by itself until another thread has asked often enough. (*rounds): how often it was let go on. */
static bool is_interrupted(u64 rip, unsigned *rounds)
{
    atomic_bool done = false;
    bool good = true;
    pthread_t t;

    c->rip = rip;
    c->r[REG_RSP] = STACK;
    c->halted = false;
    if (pthread_create(&t, NULL, ask_for_end, &done))
        return false;
    for (*rounds = 0; *rounds < 300 && good; ++*rounds) {
        good = cpu_run(c) == CPU_EXIT_INTR;
        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_EXIT);
    }
    atomic_store(&done, true);
    pthread_join(t, NULL);
    atomic_fetch_and(&c->request, ~(u32)CPU_REQ_EXIT);
    return good;
}

static void test_endless_change(void)
{
    u64 start = CODE + 0x100;
    unsigned rounds;
    u32 imm;

    reset();
    /* again: inc ecx; mov [rip + imm], ecx; mov eax, imm; cmp eax, ecx; je again; hlt */
    PUT(start, 0xff, 0xc1, 0x89, 0x0d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0x39, 0xc8, 0x74, 0xef, HLT);
    c->r[REG_RCX] = 0;
    ok(is_interrupted(start, &rounds),
       "code that changes itself for ever runs, and is interrupted");
    memcpy(&imm, ram + start + 9, sizeof(imm));
    ok(imm == (u32)c->r[REG_RCX] || imm + 1 == (u32)c->r[REG_RCX],
       "with each change seen (%u of them)", imm);
    ok(c->rip >= start && c->rip < start + 17, "and has not come to its HLT");
}

static void test_no_ram(void)
{
    static u8 *rom;
    bool device = true, across = true, runs = true, same = true;
    static const u8 code[] = {0xb8, 7, 0, 0, 0, 0x88, 0x05, 0xf5, 0xff, 0xff, 0xff, 0xc3};

    reset();
    page_mmio(AWAY);
    PUT(AWAY - 3, 0xb8, 1, 2);
    for (unsigned i = 0; i < RUNS; i++) {
        device &= run_at(AWAY) == LEFT(CPU_EXIT_INTERNAL_ERROR) && c->rip == AWAY;
        across &= run_at(AWAY - 3) == LEFT(CPU_EXIT_INTERNAL_ERROR) && c->rip == AWAY - 3;
    }
    ok(device, "code where a device is: an internal error, with RIP there");
    ok(across, "an instruction that ends there");
    ok(!op_accessed, "and the device hears nothing of it");

    rom = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(rom, code, sizeof(code)); /* mov eax, 7; mov [rip - 11], al: the first byte; ret */
    if (rom == MAP_FAILED || mem_slot_set(mem, 1, ROM, PAGE_SIZE, rom, MEM_READONLY)) {
        ok(false, "a ROM");
        return;
    }
    cpu_request(c, CPU_REQ_SLOTS);
    put64(PT + (AWAY >> 12) * 8, ROM | 7);
    tlb_flush(c);
    /* mov ecx, 50; again: call [AWAY]; dec ecx; jnz again; hlt */
    PUT(CODE, 0xb9, 50, 0, 0, 0, 0xe8, 0xf6, 0xff, 0x1d, 0, 0xff, 0xc9, 0x75, 0xf7, HLT);
    op_accessed = 0;
    for (unsigned i = 0; i < RUNS; i++) {
        runs &= run_at(CODE) == NO_EXCEPTION && c->r[REG_RAX] == 7;
        same &= !memcmp(rom, code, sizeof(code));
    }
    ok(runs, "code in ROM runs");
    ok(same && op_accessed == 50 * RUNS,
       "its stores to itself go to the bus (%u), and change nothing", op_accessed);
}

static void test_recursion(void)
{
    unsigned rounds;
    bool good = true;

    reset();
    PUT(HANDLER + EXC_UD, 0x0f, 0x0b); /* the handler of #UD is #UD */
    PUT(CODE, 0x0f, 0x0b);
    page_set(STACK - 2 * PAGE_SIZE, false, false);
    for (unsigned i = 0; i < RUNS; i++)
        good &= run_at(CODE) == LEFT(CPU_EXIT_SHUTDOWN) && c->r[REG_RSP] < STACK - PAGE_SIZE + 48;
    ok(good, "a handler that faults for ever shuts down when its stack ends");

    reset();
    gate(EXC_UD, HANDLER + EXC_UD, 1);
    put64(TSS + 0x24, STACK);
    c->seg[SEG_TR].base = TSS;
    c->seg[SEG_TR].limit = 0x67;
    PUT(HANDLER + EXC_UD, 0x0f, 0x0b);
    PUT(CODE, 0x0f, 0x0b);
    ok(is_interrupted(CODE, &rounds),
       "on a stack of its own it goes on for ever, and is interrupted");
    ok(c->stats.exceptions > 1000, "after %llu exceptions",
       (unsigned long long)c->stats.exceptions);

    reset();
    gate(EXC_PF, HANDLER + EXC_PF, 0);
    page_set(IDT, false, false);
    PUT(CODE, 0x0f, 0x0b);
    ok(run_at(CODE) == LEFT(CPU_EXIT_SHUTDOWN), "an IDT that is absent is a triple fault");
    page_set(IDT, true, true);
}

int main(void)
{
    if (!op_create()) {
        ok(false, "a CPU");
        return tap_done();
    }
    test_middle();
    test_length();
    test_undefined();
    test_second_page();
    test_endless_change();
    test_no_ram();
    test_recursion();
    op_destroy();
    return tap_done();
}
