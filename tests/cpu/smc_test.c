// SPDX-License-Identifier: MIT
// Code that changes under the block cache: stores of its own, through an alias, from outside, and across modes.

#include "op_cpu.h"

#define CODE 0x10000u
#define NEXT (CODE + PAGE_SIZE)
#define HLT  0xf4

/* mov eax, (v); hlt. Written behind the CPU's back, so ask for a recheck. */
static void put_mov(u64 at, u32 v)
{
    ram[at] = 0xb8;
    memcpy(ram + at + 1, &v, 4);
    ram[at + 5] = HLT;
    cpu_request(c, CPU_REQ_RECHECK);
}

static u64 run_at(u64 rip)
{
    c->rip = rip;
    c->halted = false;
    return cpu_run(c) == CPU_EXIT_HLT ? c->r[REG_RAX] : ~0ull;
}

/* One instruction at (rip) with (cpl): RAX afterwards. */
static u64 step_at(u64 rip, u8 cpl)
{
    c->cpl = cpl;
    c->rip = rip;
    cpu_mode_update(c);
    cpu_step(c);
    return c->r[REG_RAX];
}

static void test_store(void)
{
    /* mov dword [rbx], ecx; then the immediate it has just changed, in the same block */
    static const u8 store[] = {0x89, 0x0b, 0xb8, 1, 0, 0, 0, HLT};

    op_reset();
    memcpy(ram + CODE, store, sizeof(store));
    c->r[REG_RBX] = CODE + 3;
    c->r[REG_RCX] = 7;
    is_u64(run_at(CODE), 7, "a store to the next instruction of its own block");
    c->r[REG_RCX] = 8;
    is_u64(run_at(CODE), 8, "and again");
}

static void test_alias(void)
{
    static const u8 store[] = {0x89, 0x0b, HLT}; /* mov dword [rbx], ecx */
    const u64 alias = CODE + 2 * PAGE_SIZE;

    op_reset();
    put_mov(CODE, 1);
    memcpy(ram + NEXT, store, sizeof(store));
    put64(PT + (alias >> 12) * 8, CODE | 7);
    is_u64(run_at(CODE), 1, "before");
    c->r[REG_RBX] = alias + 1;
    c->r[REG_RCX] = 0x55;
    run_at(NEXT);
    is_u64(run_at(CODE), 0x55, "a store through another linear address");
    is_u64(run_at(alias), 0x55, "and the alias runs the same code");
}

static void test_outside(void)
{
    u32 v = 0x66;

    op_reset();
    put_mov(CODE, 1);
    is_u64(run_at(CODE), 1, "before");
    mem_write(mem, CODE + 1, &v, sizeof(v));
    is_u64(run_at(CODE), 0x66, "a device writes through the memory's door");
    v = 0x77;
    memcpy(ram + CODE + 1, &v, sizeof(v)); /* as a KVM client does, unseen */
    cpu_request(c, CPU_REQ_RECHECK);
    is_u64(run_at(CODE), 0x77, "somebody writes behind it, and a recheck is asked for");
}

/* A page whose code changes all the time, and then no more, and then again. */
static void test_hot(void)
{
    static const u8 store[] = {0x89, 0x0b, 0xb8, 1, 0, 0, 0, HLT}; /* as in test_store() */
    struct mem_page *page = mem_slot_page(mem_slot_at(mem, 0), CODE);
    unsigned good = 0, steady = 0, again = 0;
    u64 built;

    op_reset();
    memcpy(ram + CODE, store, sizeof(store));
    mem_written(mem, CODE, sizeof(store));
    c->r[REG_RBX] = CODE + 3;
    for (unsigned i = 0; i < 1000; i++) {
        c->r[REG_RCX] = i;
        good += run_at(CODE) == i;
    }
    is_u64(good, 1000, "every one of many stores to the next instruction");
    ok(mem_page_hot(page), "which makes the page hot");
    c->r[REG_RBX] = DATA;
    for (unsigned i = 0; i < 2000; i++)
        steady += run_at(CODE) == 999;
    ok(steady == 2000 && !mem_page_hot(page), "it cools when the stores go elsewhere");
    built = c->stats.blocks_built;
    steady = 0;
    for (unsigned i = 0; i < 100; i++)
        steady += run_at(CODE) == 999;
    ok(steady == 100 && c->stats.blocks_built - built < 3, "and its blocks stay");
    c->r[REG_RBX] = CODE + 3;
    for (unsigned i = 0; i < 1000; i++) {
        c->r[REG_RCX] = ~i;
        again += (u32)run_at(CODE) == ~i;
    }
    is_u64(again, 1000, "until they come back");
}

/* A loop that calls NEXT, run until the call is a jump from translation to translation. */
static void put_caller(void)
{
    static const u8 loop[] = {0xb9, 100, 0,    0,    0,    0xe8, 0xf6, 0x0f,
                              0,    0,   0xff, 0xc9, 0x75, 0xf7, HLT};
    static const u8 callee[] = {0xb8, 1, 0, 0, 0, 0xc3};

    memcpy(ram + CODE, loop, sizeof(loop));
    memcpy(ram + NEXT, callee, sizeof(callee));
    mem_written(mem, CODE, 2 * PAGE_SIZE);
    cpu_request(c, CPU_REQ_RECHECK);
    c->r[REG_RSP] = DATA + 0x1000;
    run_at(CODE);
    run_at(CODE);
}

static void test_linked(void)
{
    u32 v = 0x1234;
    u64 links;

    op_reset();
    put_caller();
    is_u64(run_at(CODE), 1, "a function in another page");
    mem_write(mem, NEXT + 1, &v, sizeof(v));
    cpu_request(c, CPU_REQ_RECHECK);
    is_u64(run_at(CODE), v, "a device writes what a linked call leads to");

    op_reset();
    put_caller();
    mem_write(mem, NEXT + 1, &v, sizeof(v));
    cpu_world_code_written(world, NEXT, NULL);
    is_u64(run_at(CODE), v, "another CPU does");

    op_reset();
    put_caller();
    mem_write(mem, NEXT + 1, &v, sizeof(v));
    for (unsigned i = 0; i < 2 * CPU_WORLD_CODES; i++)
        cpu_world_code_written(world, i ? DATA + i * PAGE_SIZE : NEXT, NULL);
    is_u64(run_at(CODE), v, "another CPU does, and to many other pages");

    op_reset();
    put_caller();
    links = c->stats.code_links;
    cpu_world_code_written(world, DATA, NULL);
    is_u64(run_at(CODE), 1, "another CPU writes code elsewhere");
    is_u64(c->stats.code_links, links, "and what is linked stays so");
}

/* Only 32 vCPUs have bits of their own that say who may write a page at once. */
static void test_many(void)
{
    static struct cpu *more[33];
    u64 v = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(more); i++) {
        if (cpu_create(&more[i], world, mem, &op_bus, NULL))
            exit(99);
    }
    mmu_store(more[30], DATA + PAGE_SIZE, &v, sizeof(v), 0);
    ok(tlb_slot(more[30]->tlb, DATA + PAGE_SIZE, true)->tag == DATA + PAGE_SIZE,
       "vCPU %u stores to a page at once", more[30]->index);
    cpu_world_enter(more[32]);
    mmu_mark_code(more[32], mem_slot_find(mem, DATA), DATA + PAGE_SIZE, 1);
    cpu_world_leave(more[32]);
    ok(tlb_slot(more[30]->tlb, DATA + PAGE_SIZE, true)->tag != DATA + PAGE_SIZE,
       "and no longer when vCPU %u has found code there", more[32]->index);
    for (unsigned i = 0; i < ARRAY_SIZE(more); i++)
        cpu_free(more[i]);
}

static void test_modes(void)
{
    u32 v = 0x88;

    op_reset();
    put_mov(CODE, 1);
    is_u64(step_at(CODE, 0), 1, "CPL 0");
    is_u64(step_at(CODE, 3), 1, "CPL 3 has a block of its own");
    c->cpl = 0;
    cpu_mode_update(c);
    mmu_store(c, CODE + 1, &v, sizeof(v), 0);
    is_u64(step_at(CODE, 0), 0x88, "after a store: CPL 0");
    is_u64(step_at(CODE, 3), 0x88, "after a store: CPL 3, though its key differs");
}

static void test_crossing(void)
{
    const u64 at = NEXT - 3; /* opcode and two bytes here, two bytes there */
    u16 v = 0x9999;

    op_reset();
    put_mov(at, 0x11112222);
    is_u64(run_at(at), 0x11112222, "an instruction across two pages");
    mmu_store(c, NEXT, &v, sizeof(v), 0);
    is_u64(run_at(at), 0x99992222, "its second page is written");
    memcpy(ram + NEXT + 2 * PAGE_SIZE, "\x44\x44\xf4", 3);
    put64(PT + (NEXT >> 12) * 8, (NEXT + 2 * PAGE_SIZE) | 7);
    tlb_flush(c);
    is_u64(run_at(at), 0x44442222, "its second page is another one");
}

/* A loop that calls the function with an instruction across two pages: what it returns. */
static u64 run_crossing_loop(void)
{
    static const u8 loop[] = {0xb9, 100, 0,    0,    0,    0xe8, 0xf3, 0x1f,
                              0,    0,   0xff, 0xc9, 0x75, 0xf7, HLT};

    memcpy(ram + CODE - PAGE_SIZE, loop, sizeof(loop));
    c->r[REG_RSP] = DATA + 0x8000;
    return run_at(CODE - PAGE_SIZE);
}

/* The same in translated code, which is linked. */
static void test_crossing_linked(void)
{
    const u64 at = NEXT - 3; /* opcode and two bytes here, two bytes and the RET there */
    const u64 other = NEXT + 3 * PAGE_SIZE;
    u16 v = 0x9999;
    u64 insns;
    u8 b = 0x77;

    op_reset();
    memcpy(ram + at, "\xb8\x22\x22\x11\x11\xc3", 6);
    memcpy(ram + other, "\x44\x44\xc3", 3);
    mem_written(mem, CODE - PAGE_SIZE, 6 * PAGE_SIZE);
    for (u64 page = CODE - PAGE_SIZE; page <= other; page += PAGE_SIZE)
        mem_slot_page(mem_slot_at(mem, 0), page)->hits = 0;
    cpu_request(c, CPU_REQ_RECHECK);
    run_crossing_loop();
    is_u64(run_crossing_loop(), 0x11112222, "a loop with an instruction across two pages");
    insns = c->insn_count;
    run_crossing_loop();
    ok(c->insn_count - insns < 50, "it runs translated");
    mmu_store(c, NEXT, &v, sizeof(v), 0);
    is_u64(run_crossing_loop(), 0x99992222, "its second page is written");
    run_crossing_loop();
    mmu_store(c, at + 1, &v, sizeof(v), 0);
    is_u64(run_crossing_loop(), 0x99999999, "its first page is written");
    run_crossing_loop();
    mem_write(mem, NEXT, &b, 1);
    cpu_request(c, CPU_REQ_RECHECK);
    is_u64(run_crossing_loop(), 0x99779999, "a device writes its second page");
    run_crossing_loop();
    b = 0x66;
    mem_write(mem, NEXT + 1, &b, 1);
    cpu_world_code_written(world, NEXT, NULL);
    is_u64(run_crossing_loop(), 0x66779999, "another CPU does");
    run_crossing_loop();
    put64(PT + (NEXT >> 12) * 8, other | 7);
    tlb_flush_page(c, NEXT);
    is_u64(run_crossing_loop(), 0x44449999, "its second page is another one");
    run_crossing_loop();
    mmu_store(c, other, &v, sizeof(v), 0);
    is_u64(run_crossing_loop(), 0x99999999, "which is written");
    run_crossing_loop();
    put64(PT + (NEXT >> 12) * 8, NEXT | 7);
    tlb_flush_page(c, NEXT);
    is_u64(run_crossing_loop(), 0x66779999, "and the first one again");
}

static void test_crossing_undefined(void)
{
    const u64 at =
        NEXT - 2; /* a prefix and half of an opcode here, no instruction whatever comes there */
    u64 built;

    for (unsigned round = 0; round < 2; round++) {
        op_reset();
        memcpy(ram + at, "\x66\x0f\x04", 3);
        built = c->stats.blocks_built;
        c->rip = at;
        is_u64(cpu_step(c), CPU_EXIT_SHUTDOWN, "#UD across two pages, without an IDT");
        is_u64(c->stats.blocks_built - built, round == 0, "it is decoded once");
    }
    op_reset();
    memcpy(ram + NEXT, "\x1f\x00", 2); /* nop word [rax] */
    c->rip = at;
    is_u64(cpu_step(c), CPU_EXIT_NONE, "its second page turns it into an instruction");
    is_u64(c->rip, at + 4, "which runs");
}

int main(void)
{
    if (!op_create())
        return tap_skip_all("no memory");
    test_store();
    test_alias();
    test_outside();
    test_hot();
    test_linked();
    test_many();
    test_modes();
    test_crossing();
    test_crossing_linked();
    test_crossing_undefined();
    op_destroy();
    return tap_done();
}
