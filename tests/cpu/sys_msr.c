// SPDX-License-Identifier: MIT
// The MSR table: order, what a guest and its host may write, gates by CPUID. SDM 4; facts of KVM's XFD MSRs.

#include "cpu/sys/msr.h"
#include "cpu/world.h"
#include "tap.h"

static int bus_calls;

static int bus_read(struct cpu *c, u32 index, u64 *val)
{
    bus_calls++;
    if (index != 0x1b)
        return OP_FAULT;
    *val = 0xfee00900;
    return OP_NEXT;
}

static int bus_write(struct cpu *c, u32 index, u64 val)
{
    bus_calls++;
    return index == 0x1b ? OP_STOP : OP_FAULT;
}

static const struct cpu_bus bus = {.msr_read = bus_read, .msr_write = bus_write};

static void is_gp(struct cpu *c, int rc, const char *what)
{
    ok(rc == OP_FAULT && c->exc.pending && c->exc.vector == EXC_GP && c->exc.error == 0, "%s: #GP(0)", what);
    c->exc.pending = false;
}

static void test_table(void)
{
    unsigned disordered = 0, nameless = 0, count;
    const u32 *list;
    bool sorted = true;

    for (unsigned i = 0; i < msr_row_count; i++) {
        const struct msr_row *r = &msr_rows[i];

        nameless += !r->name || !r->source || !r->count;
        disordered += i > 0 && r->index < msr_rows[i - 1].index + msr_rows[i - 1].count;
    }
    is_u64(disordered, 0, "rows are in order and do not overlap");
    is_u64(nameless, 0, "each has a name and a source");
    list = cpu_msr_index_list(&count);
    ok(count > 20, "the list of what makes up a vCPU has %u entries", count);
    for (unsigned i = 1; i < count; i++)
        sorted = sorted && list[i] > list[i - 1];
    ok(sorted, "in order");
}

/* Whatever is in the list can be read by the host and written back. */
static void test_save_restore(struct cpu *c)
{
    unsigned count, bad = 0;
    const u32 *list = cpu_msr_index_list(&count);

    for (unsigned i = 0; i < count; i++) {
        u64 val, again;

        if (cpu_msr_read(c, list[i], &val, true) || cpu_msr_write(c, list[i], val, true) ||
            cpu_msr_read(c, list[i], &again, true) || (again != val && list[i] != 0x10)) {
            printf("# MSR %x\n", list[i]);
            bad++;
        }
    }
    is_u64(bad, 0, "all of them can be saved and restored");
}

static void test_bus(struct cpu *c)
{
    u64 val = 7;

    is_u64(cpu_msr_read(c, 0x1b, &val, false), OP_NEXT, "an MSR of the bus: read");
    is_u64(val, 0xfee00900, "its value");
    is_u64(cpu_msr_write(c, 0x1b, 0, false), OP_STOP, "write: the bus's answer comes through");
    is_gp(c, cpu_msr_read(c, 0x12345, &val, false), "read of an MSR that nobody has");
    is_u64(val, 0xfee00900, "the output is untouched");
    is_gp(c, cpu_msr_write(c, 0x12345, 0, false), "write");
}

static const struct {
    u32 index;
    u64 val;
    bool guest_gp, host_gp;
    const char *what;
} writes[] = {
    {0xc0000082, 0xffff800000000000, false, false, "LSTAR, canonical"},
    {0xc0000082, 0x0000800000000000, true, true, "LSTAR, not canonical"},
    {0xc0000101, 1ull << 63, true, true, "GS base, not canonical"},
    {0xc0000103, 1ull << 32, true, true, "TSC_AUX of more than 32 bits"},
    {0x10a, 5, true, false, "ARCH_CAPABILITIES: the host's to write"},
    {0xce, 1ull << 31, true, false, "PLATFORM_INFO: the host's to write"},
    {0x277, 0x0606060606060606, false, false, "PAT, all write-back"},
    {0x277, 0x0206060606060606, true, true, "PAT, type 2"},
    {0x200, 0x6, false, false, "MTRR base, write-back"},
    {0x200, 0x2, true, true, "MTRR base, type 2"},
    {0x201, 0x800, false, false, "MTRR mask, valid"},
    {0x201, 0x400, true, true, "MTRR mask, reserved bit"},
    {0x201, 1ull << 60, true, true, "MTRR mask past MAXPHYADDR"},
    {0x2ff, 0xc06, false, false, "MTRR default type"},
    {0x2ff, 0x1006, true, true, "MTRR default type, reserved bit"},
    {0x26f, 0x0606060606060606, false, false, "the last fixed MTRR"},
    {0x26f, 0x0706060606060606, true, true, "the last fixed MTRR, type 7"},
    {0xda0, 0, false, false, "XSS of nothing"},
    {0xda0, 1 << 11, true, true, "XSS of a component that is not offered"},
    {0x1d9, 2, false, false, "DEBUGCTL.BTF"},
    {0x1d9, 1 << 6, true, true, "DEBUGCTL, a bit not there"},
    {0xc0000080, 0xd01, false, false, "EFER"},
    {0xc0000080, 0x2, true, true, "EFER, reserved bit"},
    {0x3a, 5, true, false, "FEATURE_CONTROL is locked"},
};

static void test_writes(struct cpu *c)
{
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        int guest = cpu_msr_write(c, writes[i].index, writes[i].val, false);
        int host = cpu_msr_write(c, writes[i].index, writes[i].val, true);

        c->exc.pending = false;
        ok((guest == OP_FAULT) == writes[i].guest_gp && (host == OP_FAULT) == writes[i].host_gp, "%s", writes[i].what);
    }
}

static void test_machine_check(struct cpu *c)
{
    u64 val;

    is_gp(c, cpu_msr_read(c, 0x400, &val, false), "a bank that MCG_CAP does not count");
    c->mcg_cap = 2;
    is_u64(cpu_msr_write(c, 0x404, ~0ull, false), OP_NEXT, "the control register of one that it does");
    is_u64(cpu_msr_write(c, 0x405, 0, false), OP_NEXT, "clearing its status");
    is_gp(c, cpu_msr_write(c, 0x405, 1, false), "setting it, from the guest");
    is_u64(cpu_msr_write(c, 0x405, 1, true), OP_NEXT, "from the host");
    is_gp(c, cpu_msr_read(c, 0x17b, &val, false), "MCG_CTL without MCG_CTL_P");
}

static void set_cpuid(struct cpu *c, const struct cpu_cpuid_entry *e, unsigned n)
{
    ok(cpu_cpuid_set(c, e, n) == 0, "a CPUID table of %u", n);
}

static void test_gates(struct cpu *c)
{
    struct cpu_cpuid_entry e[] = {
        {.leaf = 0, .eax = 0xd, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e},
        {.leaf = 0xd, .index = 0, .flags = 1, .eax = 0xe7 | 0x60000},
        {.leaf = 0xd, .index = 1, .flags = 1, .eax = 0x1f},
        {.leaf = 0x80000001, .edx = 1u << 29 | 1 << 20},
    };
    u64 val;

    set_cpuid(c, e, 4);
    is_u64(cpu_msr_write(c, 0x1c4, BIT(18), false), OP_NEXT, "XFD of tile data");
    is_gp(c, cpu_msr_write(c, 0x1c4, BIT(17), false), "XFD of tile configuration");
    is_gp(c, cpu_msr_write(c, 0x1c4, BIT(17), true), "from the host as well");
    is_u64(cpu_msr_write(c, 0x1c5, BIT(18), false), OP_NEXT, "XFD_ERR");
    is_gp(c, cpu_msr_read(c, 0xc0000103, &val, false), "TSC_AUX without RDTSCP and RDPID");
    is_u64(cpu_msr_read(c, 0xc0000103, &val, true), OP_NEXT, "the host does not mind");
    is_gp(c, cpu_msr_write(c, 0xc0000080, EFER_SCE, false), "EFER.SCE without SYSCALL");
    is_u64(cpu_msr_write(c, 0xc0000080, EFER_NXE, false), OP_NEXT, "EFER.NXE with NX");
    is_gp(c, cpu_msr_read(c, 0xc0010015, &val, false), "HWCR on an Intel CPU");
    is_gp(c, cpu_msr_write(c, 0x49, 1, false), "PRED_CMD without its bits");
    e[1].eax = 7;
    e[2].eax = 0xf;
    e[0].ebx = 0x68747541;
    e[0].edx = 0x69746e65;
    e[0].ecx = 0x444d4163;
    set_cpuid(c, e, 4);
    is_gp(c, cpu_msr_write(c, 0x1c4, 0, false), "XFD without its CPUID bit");
    is_gp(c, cpu_msr_read(c, 0x1c5, &val, false), "XFD_ERR");
    is_u64(cpu_msr_read(c, 0x1c4, &val, true), OP_NEXT, "the host may look");
    is_u64(cpu_msr_write(c, 0xc0010015, BIT(24) | BIT(18) | BIT(3), true), OP_NEXT, "HWCR on an AMD CPU");
    is_u64(cpu_msr_read(c, 0xc0010015, &val, false), OP_NEXT, "its read");
    is_u64(val, BIT(24) | BIT(18), "keeps TscFreqSel and McStatusWrEn");
    is_gp(c, cpu_msr_write(c, 0xc0010015, BIT(30), true), "and has no IRPerfEn");
    is_gp(c, cpu_msr_read(c, 0x9e, &val, false), "SMBASE from the guest");
}

static void test_tsc(struct cpu *c)
{
    u64 val;

    set_cpuid(c, NULL, 0);
    c->tsc_adjust = 0;
    cpu_msr_write(c, 0x10, 1ull << 40, false);
    cpu_msr_read(c, 0x10, &val, false);
    is_u64(val >> 36, 16, "TSC goes on from what was written");
    ok(c->tsc_adjust != 0, "a guest's write moves TSC_ADJUST");
    val = (u64)c->tsc_adjust;
    cpu_msr_write(c, 0x10, 1ull << 41, true);
    is_u64((u64)c->tsc_adjust, val, "the host's does not");
    cpu_msr_write(c, 0x3b, val + (1ull << 41), false);
    is_u64(cpu_tsc(c) >> 36, 64, "a write to TSC_ADJUST moves the TSC");
    cpu_msr_write(c, 0x3b, 0, true);
    is_u64(cpu_tsc(c) >> 36, 64, "from the host it does not");
}

int main(void)
{
    struct cpu_world *world;
    struct mem *mem;
    struct cpu *c;

    if (mem_create(&mem) || cpu_world_create(&world) || cpu_create(&c, world, mem, &bus, NULL))
        return 1;
    test_table();
    test_save_restore(c);
    test_bus(c);
    test_writes(c);
    test_machine_check(c);
    test_gates(c);
    test_tsc(c);
    cpu_free(c);
    cpu_world_free(world);
    mem_free(mem);
    return tap_done();
}
