// SPDX-License-Identifier: MIT
// System instructions with random operands over random tables, in every mode: the state must stay one that a CPU can be in.

#include "cpu/cpu.h"
#include "cpu/mmu/tlb.h"
#include "cpu/world.h"
#include "tap.h"

#include <sys/mman.h>

#define RAM_SIZE (1u << 20)
#define CASES 1500
#define STEPS 40

/* Where things lie. */
enum { GDT = 0x1000, IDT = 0x2000, CODE = 0x4000, CODE_SIZE = 0x1000, TSS = 0x10000, LDT = 0x11000, TABLES = 0x20000,
       STACK = 0x30000 };

enum start { START_REAL, START_PROTECTED, START_LONG, START_VM86, START_COUNT };

static u64 seed;

static u32 rnd(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (u32)(seed >> 32);
}

static u32 below(u32 n) { return rnd() % n; }

/* A value that is small, negative, or anything. */
static u64 value(void)
{
    u64 v = (u64)rnd() << 32 | rnd();

    switch (below(5)) {
    case 0:
        return v;
    case 1:
        return v & 0xfffff;
    case 2:
        return v & 0xff;
    case 3:
        return v >> 16;
    default:
        return (u64)(s64)(s32)v;
    }
}

static int io_in(struct cpu *c, u16 port, unsigned size, u32 *val)
{
    *val = rnd();
    return OP_NEXT;
}

static int io_out(struct cpu *c, u16 port, unsigned size, u32 val) { return below(8) ? OP_NEXT : OP_STOP; }

static int mmio_read(struct cpu *c, gpa_t gpa, void *buf, unsigned size)
{
    memset(buf, (int)rnd(), size);
    return below(8) ? OP_NEXT : OP_EXIT;
}

static int mmio_write(struct cpu *c, gpa_t gpa, const void *buf, unsigned size) { return OP_NEXT; }
static int msr_read(struct cpu *c, u32 index, u64 *val) { return OP_FAULT; }
static int msr_write(struct cpu *c, u32 index, u64 val) { return OP_FAULT; }
static bool intr_pending(struct cpu *c) { return below(2); }
static int intr_ack(struct cpu *c) { return below(2) ? (int)below(256) : -1; }
static u8 cr8_read(struct cpu *c) { return 3; }
static void cr8_write(struct cpu *c, u8 tpr) {}
static int hypercall(struct cpu *c) { return OP_NEXT; }

static const struct cpu_bus bus = {
    .io_in = io_in, .io_out = io_out, .mmio_read = mmio_read, .mmio_write = mmio_write, .msr_read = msr_read,
    .msr_write = msr_write, .intr_pending = intr_pending, .intr_ack = intr_ack, .cr8_read = cr8_read,
    .cr8_write = cr8_write, .hypercall = hypercall,
};

/* Beginnings of instructions; random bytes follow. */
static const struct {
    u8 len, bytes[4];
} starts[] = {
    {2, {0x0f, 0x00}}, {2, {0x0f, 0x01}}, {3, {0x0f, 0x02, 0xc1}}, {3, {0x0f, 0x03, 0xc1}}, {2, {0x0f, 0x20}},
    {2, {0x0f, 0x22}}, {2, {0x0f, 0x21}}, {2, {0x0f, 0x23}}, {2, {0x0f, 0x05}}, {3, {0x48, 0x0f, 0x07}},
    {2, {0x0f, 0x07}}, {2, {0x0f, 0x34}}, {2, {0x0f, 0x35}}, {1, {0xcf}}, {2, {0x48, 0xcf}}, {1, {0xcb}},
    {3, {0xca, 4, 0}}, {2, {0x48, 0xcb}}, {2, {0xff, 0x28}}, {2, {0xff, 0x18}}, {3, {0x48, 0xff, 0x28}}, {1, {0xcd}},
    {1, {0xcc}}, {1, {0xce}}, {1, {0xf1}}, {2, {0x8e, 0xd8}}, {2, {0x8e, 0xd0}}, {2, {0x8e, 0xe0}}, {1, {0x8e}},
    {1, {0x8c}}, {2, {0x0f, 0xa1}}, {2, {0x0f, 0xb2}}, {2, {0x0f, 0x30}}, {2, {0x0f, 0x32}}, {1, {0xf4}}, {1, {0xfa}},
    {1, {0xfb}}, {1, {0x6c}}, {1, {0x6f}}, {2, {0xf3, 0x6d}}, {2, {0xf3, 0x6e}}, {1, {0xe4}}, {1, {0xee}},
    {2, {0x0f, 0xa2}}, {3, {0x0f, 0x01, 0xd1}}, {2, {0x0f, 0x06}}, {1, {0xea}}, {1, {0x9a}}, {1, {0xc4}}, {1, {0xc5}},
    {4, {0xf3, 0x0f, 0xae, 0xd0}}, {1, {0x63}}, {1, {0x62}}, {1, {0x9d}}, {1, {0x17}}, {1, {0x07}},
    {3, {0x0f, 0xc7, 0xf0}}, {3, {0x0f, 0x01, 0xf8}}, {4, {0x66, 0x0f, 0x38, 0x82}}, {3, {0x0f, 0x01, 0xca}},
    {3, {0x0f, 0x01, 0xcb}}, {1, {0x58}}, {2, {0x89, 0xc4}},
};

static void make_code(u8 *ram)
{
    static const u8 prefixes[] = {0x66, 0x67, 0x48, 0xf3, 0x36, 0x64, 0x41, 0xf0};
    u8 *p = ram + CODE, *end = p + CODE_SIZE - 8;

    while (p < end) {
        u32 i = below(ARRAY_SIZE(starts));

        if (!below(4))
            *p++ = prefixes[below(sizeof(prefixes))];
        memcpy(p, starts[i].bytes, starts[i].len);
        p += starts[i].len;
        for (u32 n = below(3); n-- > 0;)
            *p++ = (u8)rnd();
    }
}

/* Descriptors and gates, mostly of a sensible kind. */
static void make_tables(u8 *ram, enum start start)
{
    for (u32 i = 1; i < 64; i++) {
        u64 d = 0x00cf93000000ffff ^ (u64)(rnd() & 0x6f) << 40 ^ (u64)(rnd() & 0x60) << 48;

        if (!below(3))
            d = value() ^ (u64)rnd() << 32;
        memcpy(ram + GDT + 8 * i, &d, 8);
    }
    for (u32 i = 0; i < 256; i++) {
        u64 d = (CODE + below(CODE_SIZE)) | (u64)(8 * below(32) | below(4)) << 16 |
                (u64)(0x80 | (rnd() & 0x60) | (below(2) ? 14 : below(32))) << 40;

        if (start == START_LONG) {
            d |= (u64)below(8) << 32;
            memcpy(ram + IDT + 16 * i, (u64[]){d, 0}, 16);
        } else {
            memcpy(ram + IDT + 8 * i, &d, 8);
        }
    }
}

static void make_paging(struct cpu *c, u8 *ram)
{
    u64 entry;

    memset(ram + TABLES, 0, 0x3000);
    memcpy(ram + TABLES, (u64[]){TABLES + 0x1007}, 8);
    memcpy(ram + TABLES + 0x1000, (u64[]){TABLES + 0x2007}, 8);
    for (u32 i = 0; i < 4; i++) {
        entry = (u64)i << 21 | 0x83 | (below(2) ? 4 : 0);
        memcpy(ram + TABLES + 0x2000 + 8 * i, &entry, 8);
    }
    c->cr0 |= CR0_PG;
    c->cr4 = CR4_PAE | (rnd() & (CR4_TSD | CR4_DE | CR4_PGE | CR4_UMIP | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP));
    c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    c->cr3 = TABLES;
}

static void make_segments(struct cpu *c, enum start start)
{
    bool paragraph = start == START_REAL || start == START_VM86;
    u32 dpl = (u32)c->cpl << SEG_AR_DPL_SHIFT;

    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        u16 sel = (u16)(paragraph ? rnd() & 0xffff : (8 * below(64) | c->cpl));

        c->seg[i] = (struct cpu_seg){.sel = sel, .base = paragraph ? (u64)sel << 4 : 0,
                                     .limit = paragraph ? 0xffff : ~0u, .ar = 0x93 | dpl | (paragraph ? 0 : 0xc000)};
    }
    c->seg[SEG_CS].ar = 0x9b | dpl;
    if (paragraph)
        c->seg[SEG_CS] = (struct cpu_seg){.limit = 0xffff, .ar = c->seg[SEG_CS].ar};
    else
        c->seg[SEG_CS].ar |= start == START_LONG && below(4) ? SEG_AR_L : below(2) ? SEG_AR_DB : 0;
    c->seg[SEG_TR] = (struct cpu_seg){.base = TSS, .limit = below(256), .ar = 0x8b};
    c->seg[SEG_LDTR] = (struct cpu_seg){.base = LDT, .limit = 255, .ar = (u32)(below(2) ? 0x82 : SEG_AR_UNUSABLE)};
}

static void make_state(struct cpu *c, u8 *ram, enum start start)
{
    for (u32 i = 0; i < 0x200; i += 4)
        memcpy(ram + TSS + i, (u32[]){below(2) ? STACK : rnd()}, 4);
    make_tables(ram, start);
    make_code(ram);
    cpu_reset(c, false);
    c->cr0 = CR0_ET | (start == START_REAL ? 0 : CR0_PE);
    c->cpl = start == START_REAL ? 0 : start == START_VM86 ? 3 : (u8)(below(2) * 3);
    c->rflags = BIT(1) | (rnd() & (RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_AC));
    if (start == START_VM86)
        c->rflags |= RFLAGS_VM;
    if (start == START_LONG)
        make_paging(c, ram);
    c->gdt = (struct cpu_dtable){.base = GDT, .limit = (u16)below(512)};
    c->idt = (struct cpu_dtable){.base = IDT, .limit = 0xfff};
    make_segments(c, start);
    for (unsigned i = 0; i < 16; i++)
        c->r[i] = value();
    if (below(2))
        c->r[REG_RSP] = STACK;
    c->star = (u64)rnd() << 32;
    c->lstar = c->cstar = c->sysenter_eip = CODE;
    c->sysenter_cs = 8 * below(3);
    c->sysenter_esp = STACK;
    c->dr7 = 0x400 | (below(8) ? 0 : rnd() & 0xffff);
    c->rip = CODE + below(CODE_SIZE);
    cpu_mode_update(c);
    cpu_mmu_changed(c);
    cpu_request(c, CPU_REQ_SLOTS | (below(2) ? CPU_REQ_INTR : 0));
}

/* What is wrong with the state, or NULL. */
static const char *wrong(const struct cpu *c)
{
    bool vm = c->rflags & RFLAGS_VM, pe = c->cr0 & CR0_PE, pg = c->cr0 & CR0_PG, lma = c->efer & EFER_LMA;

    if (c->cpl > 3 || (vm && c->cpl != 3))
        return "CPL";
    if (pe && !vm && !lma && (c->seg[SEG_CS].sel & 3) != c->cpl && c->seg[SEG_CS].sel)
        return c->cpl ? "CS.RPL is not the CPL" : NULL; /* just after MOV CR0 CS is still real mode's */
    if (pg && !pe)
        return "CR0.PG without PE";
    if (lma != (pg && c->efer & EFER_LME) || (lma && (vm || !(c->cr4 & CR4_PAE))))
        return "EFER.LMA";
    if ((c->mode == MODE_64) != (lma && c->seg[SEG_CS].ar & SEG_AR_L))
        return "mode";
    if (!(c->rflags & BIT(1)) || c->rflags & RFLAGS_ARITH || c->rflags & BIT(15))
        return "RFLAGS";
    if (c->seg[SEG_NONE].base || c->r[REG_ZERO])
        return "what is always 0";
    if ((c->cpl == 3) != (c->tlb == c->tlbs[TLB_USER] || c->tlb == c->tlbs[TLB_USER_AC]))
        return "TLB view";
    if (c->mode != MODE_64 && c->rip >> 32)
        return "RIP outside 64-bit mode";
    if (c->dr6 >> 32 || c->dr7 >> 32 || !(c->dr7 & 0x400))
        return "debug registers";
    return NULL;
}

/* One case; what went wrong, or NULL. */
static const char *run_case(struct cpu *c, u8 *ram, enum start start)
{
    const char *bad = NULL;

    make_state(c, ram, start);
    for (unsigned i = 0; i < STEPS && !bad; i++) {
        int why = cpu_step(c);

        bad = wrong(c);
        if (why == CPU_EXIT_SHUTDOWN || why == CPU_EXIT_INTERNAL_ERROR)
            break;
        c->halted = false;
    }
    return bad;
}

int main(void)
{
    static const char *const names[] = {"real mode", "protected mode", "long mode", "VM86 mode"};
    u8 *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct cpu_world *world;
    struct mem *mem;
    struct cpu *c;

    if (ram == MAP_FAILED || mem_create(&mem) || mem_slot_set(mem, 0, 0, RAM_SIZE, ram, 0) ||
        cpu_world_create(&world) || cpu_create(&c, world, mem, &bus, NULL))
        return 1;
    for (enum start s = START_REAL; s < START_COUNT; s++) {
        const char *bad = NULL;
        u64 at = 0;

        for (u64 n = 0; n < CASES && !bad; n++) {
            at = seed = (u64)s << 32 | n;
            bad = run_case(c, ram, s);
        }
        ok(!bad, "%u cases from %s keep the state sound", CASES, names[s]);
        if (bad)
            printf("# seed %llx: %s; rip %llx mode %u cpl %u cs %x\n", (unsigned long long)at, bad,
                   (unsigned long long)c->rip, c->mode, c->cpl, c->seg[SEG_CS].sel);
    }
    cpu_free(c);
    cpu_world_free(world);
    mem_free(mem);
    munmap(ram, RAM_SIZE);
    return tap_done();
}
