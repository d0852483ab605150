// SPDX-License-Identifier: MIT
// A CPU in a test: 2 MiB of RAM mapped one to one, and single instructions run from their bytes.
#pragma once

#include "cpu/cpu.h"
#include "cpu/decode/decode.h"
#include "cpu/mmu/access.h"
#include "cpu/sys/cpuid.h"
#include "cpu/world.h"
#include "tap.h"

#include <sys/mman.h>

#define RAM_SIZE 0x200000ul
#define PML4     0x1000u
#define PDPT     0x2000u
#define PD       0x3000u
#define PT       0x4000u
#define DATA     0x20000u /* test data lives from here on */

static struct cpu *c;
static struct mem *mem;
static struct cpu_world *world;
static u8 *ram;
static unsigned op_accessed; /* MMIO accesses seen */
static unsigned op_leave_at; /* the access, counted from 1, that leaves the CPU once */

static int op_mmio_read(struct cpu *cpu, gpa_t gpa, void *buf, unsigned size)
{
    if (++op_accessed == op_leave_at)
        return OP_EXIT;
    memset(buf, 0xee, size);
    return OP_NEXT;
}

static int op_mmio_write(struct cpu *cpu, gpa_t gpa, const void *buf, unsigned size)
{
    op_accessed++;
    return OP_STOP;
}

static int op_io_in(struct cpu *cpu, u16 port, unsigned size, u32 *val)
{
    *val = port;
    return OP_NEXT;
}

static int op_io_out(struct cpu *cpu, u16 port, unsigned size, u32 val)
{
    return OP_NEXT;
}

static int op_msr_read(struct cpu *cpu, u32 index, u64 *val)
{
    return OP_FAULT;
}

static int op_msr_write(struct cpu *cpu, u32 index, u64 val)
{
    return OP_FAULT;
}

static int op_intr_ack(struct cpu *cpu)
{
    return -1;
}

static bool op_intr_pending(struct cpu *cpu)
{
    return false;
}

static u8 op_cr8_read(struct cpu *cpu)
{
    return 0;
}

static void op_cr8_write(struct cpu *cpu, u8 tpr)
{
}

static int op_hypercall(struct cpu *cpu)
{
    return cpu_raise_ud(cpu);
}

static const struct cpu_bus op_bus = {
    .mmio_read = op_mmio_read, .mmio_write = op_mmio_write, .io_in = op_io_in, .io_out = op_io_out,
    .msr_read = op_msr_read, .msr_write = op_msr_write, .intr_ack = op_intr_ack,
    .intr_pending = op_intr_pending, .cr8_read = op_cr8_read, .cr8_write = op_cr8_write,
    .hypercall = op_hypercall,
};

static void put64(u64 at, u64 v)
{
    memcpy(ram + at, &v, 8);
}
static inline u64 get64(u64 at)
{
    u64 v;

    memcpy(&v, ram + at, 8);
    return v;
}

/* Present or not, writable or not: the page of linear address (lin). */
static inline void page_set(u64 lin, bool present, bool writable)
{
    put64(PT + (lin >> 12) * 8, (lin & PAGE_MASK) | (present ? 1 : 0) | (writable ? 2 : 0) | 4);
    tlb_flush(c);
}

/* The page of (lin) leads where there is no memory. */
static inline void page_mmio(u64 lin)
{
    put64(PT + (lin >> 12) * 8, RAM_SIZE | 7);
    tlb_flush(c);
    op_accessed = op_leave_at = 0;
}

/* Somebody has decoded instructions from the page of (lin). */
static inline void page_code(u64 lin)
{
    mmu_mark_code(c, mem_slot_find(mem, lin), lin, 1);
}

/* Back to 64-bit mode at CPL 0 with everything enabled and the state initial. */
static inline void op_reset(void)
{
    cpu_reset(c, false);
    for (u64 lin = 0; lin < RAM_SIZE; lin += PAGE_SIZE)
        put64(PT + (lin >> 12) * 8, lin | 7);
    c->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_WP | CR0_NE;
    c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT;
    c->efer = EFER_LME | EFER_LMA;
    c->cr3 = PML4;
    c->seg[SEG_CS].base = 0;
    c->seg[SEG_CS].ar |= SEG_AR_L;
    c->xcr0 = cpu_xcr0_supported();
    c->rip = 0x10000;
    c->r[REG_IPBASE] = c->rip;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
}

/* Every exception ends at the HLT at (handler), at CPL 0; descriptor tables at (idt) and (gdt). */
static inline void op_handler(u64 handler, u64 idt, u64 gdt)
{
    for (unsigned v = 0; v < 256; v++) {
        put64(idt + v * 16, (handler & 0xffff) | 8ull << 16 | 0x8e00ull << 32);
        put64(idt + v * 16 + 8, 0);
    }
    put64(gdt, 0);
    put64(gdt + 8, 0x00209b0000000000ull);
    c->idt = (struct cpu_dtable){idt, 0xfff};
    c->gdt = (struct cpu_dtable){gdt, 15};
    c->seg[SEG_CS].sel = 8;
    ram[handler] = 0xf4;
    mem_written(mem, handler, 1);
}

/* Flat 32-bit protected mode. */
static inline void op_mode_32(void)
{
    c->efer = 0;
    c->cr0 &= ~CR0_PG;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        c->seg[i] = (struct cpu_seg){.limit = 0xffffffff,
                                     .ar = SEG_AR_P | SEG_AR_S | SEG_AR_DB | SEG_AR_G | 3};
    c->seg[SEG_CS].ar |= 8;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
}

static inline bool op_create(void)
{
    static struct cpu_cpuid_entry table[CPU_CPUID_MAX];
    int n = cpu_cpuid_model("sapphirerapids", table, CPU_CPUID_MAX);

    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (n < 0 || ram == MAP_FAILED || mem_create(&mem) ||
        mem_slot_set(mem, 0, 0, RAM_SIZE, ram, 0) || cpu_world_create(&world) ||
        cpu_create(&c, world, mem, &op_bus, NULL) || cpu_cpuid_set(c, table, (unsigned)n))
        return false;
    put64(PML4, PDPT | 7);
    put64(PDPT, PD | 7);
    put64(PD, PT | 7);
    op_reset();
    return true;
}

static inline void op_destroy(void)
{
    cpu_free(c);
    cpu_world_free(world);
    mem_free(mem);
    munmap(ram, RAM_SIZE);
}

/* Run the instruction at (code); an op_result. */
static inline int op_run(const u8 *code, unsigned len)
{
    struct insn in = {0};
    u8 bytes[15] = {0};

    memcpy(bytes, code, len);
    c->exc.pending = false;
    if (decode_insn(bytes, sizeof(bytes), c->mode, true, 0, &in) < 0)
        return OP_EXIT;
    return in.op(c, &in);
}

/* OP(0xf, 0xae, …): run these bytes. */
#define OP(...)                                                                                    \
    ({                                                                                             \
        const u8 op_code_[] = {__VA_ARGS__};                                                       \
        op_run(op_code_, sizeof(op_code_));                                                        \
    })

/* Did (rc) come with exception (vector)? */
static inline bool op_raised(int rc, u8 vector)
{
    return rc == OP_FAULT && c->exc.pending && c->exc.vector == vector;
}

/* Did (rc) come with a page fault at (lin)? */
static inline bool op_page_fault(int rc, u64 lin)
{
    return op_raised(rc, EXC_PF) && c->exc.payload == lin;
}
