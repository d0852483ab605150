// SPDX-License-Identifier: MIT
// System instructions in translated code: CPUID's remembered answers, and interrupts that wait for IF.

#include "op_cpu.h"

#define CODE    0x10000u
#define NEXT    (CODE + PAGE_SIZE)
#define HANDLER 0x8000u
#define IDT     0x6000u
#define GDT     0x7000u
#define VECTOR  0x40
#define RUNS    40 /* of everything: more than it takes to be translated */

static bool waiting; /* an interrupt, at the bus */

static int one_intr_ack(struct cpu *cpu)
{
    int vector = waiting ? VECTOR : -1;

    waiting = false;
    return vector;
}

static bool one_intr_pending(struct cpu *cpu)
{
    return waiting;
}

static void put_code(u64 at, const u8 *code, size_t n)
{
    memcpy(ram + at, code, n);
    mem_written(mem, at, n);
    cpu_request(c, CPU_REQ_RECHECK);
}

static bool runs_to_hlt(u64 rip)
{
    c->rip = rip;
    c->halted = false;
    return cpu_run(c) == CPU_EXIT_HLT;
}

/* CPUID in a loop, and once more by the book. */
static bool answers_right(u32 leaf, u32 index)
{
    u32 out[4];

    c->r[REG_R8] = leaf;
    c->r[REG_R9] = index;
    c->r[REG_RBP] = RUNS;
    if (!runs_to_hlt(CODE))
        return false;
    cpu_cpuid(c, leaf, index, out);
    return c->r[REG_RAX] == out[0] && c->r[REG_RBX] == out[1] && c->r[REG_RCX] == out[2] &&
           c->r[REG_RDX] == out[3];
}

static bool all_answers_right(void)
{
    static const u32 leaves[][2] = {
        {0, 0},          {0x80000000, 0}, {1, 0},          {2, 0},      {4, 0},          {4, 1},
        {7, 0},          {7, 1},          {0xb, 0},        {0xb, 5},    {0xd, 0},        {0xd, 1},
        {0x80000002, 0}, {0x80000003, 0}, {0x40000000, 0}, {0x1234, 0}, {0xffffffff, 7}, {0, 1}};
    bool good = true;

    for (size_t i = 0; i < 2 * ARRAY_SIZE(leaves); i++) {
        const u32 *l = leaves[i % ARRAY_SIZE(leaves)];

        if (!answers_right(l[0], l[1])) {
            printf("# leaf %x, index %x\n", l[0], l[1]);
            good = false;
        }
    }
    return good;
}

static void test_cpuid(void)
{
    /* again: mov eax, r8d; mov ecx, r9d; cpuid; dec ebp; jnz again; hlt */
    static const u8 code[] = {0x44, 0x89, 0xc0, 0x44, 0x89, 0xc9, 0x0f,
                              0xa2, 0xff, 0xcd, 0x75, 0xf4, 0xf4};
    struct cpu_cpuid_entry table[CPU_CPUID_MAX];
    unsigned n = c->cpuid_count;
    u64 insns;

    op_reset();
    put_code(CODE, code, sizeof(code));
    ok(all_answers_right(), "CPUID says what it says to the interpreter");
    insns = c->insn_count;
    answers_right(0, 0);
    ok(c->insn_count - insns < RUNS, "in translated code");
    c->cr4 &= ~CR4_OSXSAVE;
    c->xcr0 = XCR0_X87;
    ok(all_answers_right(), "also after CR4 and XCR0 have changed");
    memcpy(table, c->cpuid, n * sizeof(*table));
    for (unsigned i = 0; i < n; i++)
        table[i].edx ^= 0x12345678;
    ok(!cpu_cpuid_set(c, table, n) && all_answers_right(), "and with another table");
    for (unsigned i = 0; i < n; i++)
        table[i].edx ^= 0x12345678;
    cpu_cpuid_set(c, table, n);
}

/*
 * With IF clear and an interrupt waiting 100 calls of a function, then (tail), which sets IF: the interrupt comes
 * there, with RAX what (tail) has left in it when it is due, and not before.
 */
static void held_until(const u8 *tail, size_t n, u64 rax, const char *what)
{
    /* cli; mov ecx, 100; again: call NEXT; dec ecx; jnz again */
    static const u8 loop[] = {0xfa, 0xb9, 100, 0,    0,    0,    0xe8, 0xf5,
                              0x0f, 0,    0,   0xff, 0xc9, 0x75, 0xf7};
    static const u8 callee[] = {0xb8, 1, 0, 0, 0, 0xc3}; /* mov eax, 1; ret */
    u64 request = c->stats.left[JIT_LEFT_REQUEST];
    bool good = true;

    op_reset();
    op_handler(HANDLER, IDT, GDT);
    put_code(CODE, loop, sizeof(loop));
    put_code(CODE + sizeof(loop), tail, n);
    put_code(NEXT, callee, sizeof(callee));
    for (unsigned i = 0; i < RUNS && good; i++) {
        c->r[REG_RSP] = DATA + 0x1000;
        waiting = true;
        cpu_request(c, CPU_REQ_INTR);
        good = runs_to_hlt(CODE) && !waiting && c->rip == HANDLER + 1 && !c->r[REG_RCX] &&
               c->r[REG_RAX] == rax;
        if (!good)
            printf("# run %u: RIP %llx, RCX %llx, RAX %llx\n", i, (unsigned long long)c->rip,
                   (unsigned long long)c->r[REG_RCX], (unsigned long long)c->r[REG_RAX]);
    }
    ok(good, "an interrupt waits for %s", what);
    request = c->stats.left[JIT_LEFT_REQUEST] - request;
    ok(request < 4 * RUNS, "and translated code is not left for it before (%llu times)",
       (unsigned long long)request);
}

static void test_held(void)
{
    static const u8 sti[] = {0xfb, 0xb8, 2, 0, 0, 0, 0xb8, 3, 0, 0, 0, 0xf4};
    static const u8 popf[] = {0x68, 2, 2, 0, 0, 0x9d, 0xb8, 2, 0, 0, 0, 0xf4};
    /* push 0; push rsp; push 0x202; push 8; push the address of the MOV; iretq */
    static const u8 iret[] = {0x6a, 0,    0x54, 0x68, 2, 2, 0,    0,    0x6a,
                              8,    0x68, 0x24, 0,    1, 0, 0x48, 0xcf, 0xf4,
                              0xf4, 0xf4, 0xf4, 0xb8, 2, 0, 0,    0,    0xf4};
    struct cpu_bus bus = *c->bus;
    const struct cpu_bus *old = c->bus;

    bus.intr_ack = one_intr_ack;
    bus.intr_pending = one_intr_pending;
    c->bus = &bus;
    held_until(sti, sizeof(sti), 2, "STI and one instruction more");
    held_until(popf, sizeof(popf), 1, "POPF");
    held_until(iret, sizeof(iret), 1, "IRET");
    c->bus = old;
}

int main(void)
{
    if (!op_create()) {
        ok(false, "a CPU");
        return tap_done();
    }
    test_cpuid();
    test_held();
    op_destroy();
    return tap_done();
}
