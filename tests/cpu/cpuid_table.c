// SPDX-License-Identifier: MIT
// CPUID: models and supported table, the instruction's dynamic bits, leaves that do not exist.

#include "cpu/xstate/layout.h"
#include "op_cpu.h"

#include <cpuid.h>
#include <errno.h>

static struct cpu_cpuid_entry table[CPU_CPUID_MAX];
static u32 r[4];

static int model(const char *name)
{
    int n = cpu_cpuid_model(name, table, CPU_CPUID_MAX);

    if (n > 0)
        cpu_cpuid_set(c, table, (unsigned)n);
    return n;
}

static const u32 *ask(u32 leaf, u32 index)
{
    cpu_cpuid(c, leaf, index, r);
    return r;
}

static bool leaf_is(u32 leaf, u32 index, u32 a, u32 b, u32 cx, u32 d)
{
    ask(leaf, index);
    if (r[0] == a && r[1] == b && r[2] == cx && r[3] == d)
        return true;
    printf("# %x.%x: %08x %08x %08x %08x\n", leaf, index, r[0], r[1], r[2], r[3]);
    return false;
}

/* A table must be well formed whatever it says. */
static void well_formed(const char *name, int n)
{
    unsigned twice = 0, unnamed = 0;

    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++)
            twice += table[i].leaf == table[j].leaf &&
                     (!(table[i].flags & CPUID_FLAG_INDEX) || table[i].index == table[j].index);
    }
    is_u64(twice, 0, "%s: no leaf is there twice (%d entries)", name, n);
    for (int i = 0; i < n; i++) {
        for (unsigned reg = 0; reg < 4 && table[i].leaf == 7 && table[i].index == 0; reg++) {
            u32 named = 0;

            for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
                if (f->leaf == 7 && f->index == 0 && f->reg == reg)
                    named |= BIT(f->bit);
            }
            if (reg)
                unnamed |= (&table[i].eax)[reg] & ~named;
        }
    }
    is_u64(unnamed, 0, "%s: every bit of leaf 7 has a row", name);
}

/* CPUID.1EH.1:EAX with every AMX feature: the four of leaf 7, FP8, TF32, AVX512 where there is AVX-512, MOVRS. */
static u32 all_tmul(void)
{
    return 0x15f | (cpu_xcr0_supported() & XCR0_AVX512 ? BIT(7) : 0);
}

static void amx_leaves(const char *name, u32 tmul)
{
    u64 xcr0 = cpu_xcr0_supported();

    ok(leaf_is(0x1d, 0, 1, 0, 0, 0), "%s: 1D.0", name);
    ok(leaf_is(0x1d, 1, 0x04002000, 0x00080040, 0x10, 0), "%s: 1D.1", name);
    ok(leaf_is(0x1e, 0, tmul != 0, 0x4010, 0, 0), "%s: 1E.0", name);
    ok(leaf_is(0x1e, 1, tmul, 0, 0, 0), "%s: 1E.1", name);
    ok(leaf_is(0xd, 17, 64, 2752, 2, 0), "%s: D.17", name);
    ok(leaf_is(0xd, 18, 8192, 2816, 6, 0), "%s: D.18", name);
    ask(7, 0);
    is_u64(r[CPUID_EDX] >> 22 & 0xd, 0xd, "%s: AMX-BF16, AMX-TILE, AMX-INT8", name);
    ask(0xd, 0);
    is_u64(r[CPUID_EAX], xcr0, "%s: D.0 names XCR0", name);
    is_u64(r[CPUID_ECX], 11008, "%s: D.0:ECX is the size of it all", name);
    ask(0xd, 1);
    is_u64(r[CPUID_EAX], 0x1f, "%s: D.1: XSAVEOPT, XSAVEC, XGETBV1, XSAVES, XFD", name);
    ok(c->cpuid_xcr0 == xcr0 && c->cpuid_has_xfd, "%s: the CPU knows", name);
}

static void never_offered(const char *name)
{
    static const struct {
        u32 leaf, index;
        u8 reg, bit;
        const char *what;
    } never[] = {
        {1, 0, CPUID_ECX, 3, "MONITOR"}, {1, 0, CPUID_ECX, 5, "VMX"},
        {1, 0, CPUID_ECX, 15, "PDCM"},   {7, 0, CPUID_EBX, 2, "SGX"},
        {7, 0, CPUID_EBX, 4, "HLE"},     {7, 0, CPUID_EBX, 11, "RTM"},
        {7, 0, CPUID_EBX, 14, "MPX"},    {7, 0, CPUID_EBX, 25, "PT"},
        {7, 0, CPUID_ECX, 3, "PKU"},     {7, 0, CPUID_ECX, 5, "WAITPKG"},
        {7, 0, CPUID_ECX, 7, "SHSTK"},   {7, 0, CPUID_ECX, 16, "LA57"},
        {7, 0, CPUID_ECX, 29, "ENQCMD"}, {7, 0, CPUID_EDX, 5, "UINTR"},
        {7, 0, CPUID_EDX, 20, "IBT"},    {0x80000001, 0, CPUID_ECX, 2, "SVM"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(never); i++) {
        ask(never[i].leaf, never[i].index);
        ok(!(r[never[i].reg] & BIT(never[i].bit)), "%s: no %s", name, never[i].what);
    }
    ok(leaf_is(0xa, 0, 0, 0, 0, 0), "%s: no performance counters", name);
}

/* A feature that the host's units must execute is there exactly when the host can. */
static void follows_host(const char *name, u8 generations)
{
    unsigned bad = 0;

    for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
        bool have;

        ask(f->leaf, f->index);
        /* A leaf past the end reads as another one. */
        have = guest_cpuid_find(c, f->leaf, f->index) && r[f->reg] & BIT(f->bit);
        if (have && !cpuid_feature_supported(f))
            bad++;
        if (generations && have != (f->models & generations && cpuid_feature_supported(f))) {
            printf("# %s\n", f->name);
            bad++;
        }
    }
    is_u64(bad, 0, "%s: features are those of the table that this host allows", name);
}

static void dynamic(void)
{
    model("sapphirerapids");
    op_reset();
    c->cr4 &= ~CR4_OSXSAVE;
    ok(!(ask(1, 0)[CPUID_ECX] & BIT(27)), "OSXSAVE follows CR4: clear");
    c->cr4 |= CR4_OSXSAVE;
    ok(ask(1, 0)[CPUID_ECX] & BIT(27), "and set");
    c->xcr0 = 3;
    is_u64(ask(0xd, 0)[CPUID_EBX], 576, "D.0:EBX follows XCR0: SSE");
    c->xcr0 = 0x60003;
    is_u64(ask(0xd, 0)[CPUID_EBX], 11008, "D.0:EBX follows XCR0: AMX");
    is_u64(ask(0xd, 1)[CPUID_EBX], 576 + 64 + 8192, "D.1:EBX is the compacted size of it");
    is_u64(ask(0xd, 0)[CPUID_ECX], 11008, "D.0:ECX does not move");
    is_u64(c->maxphyaddr, 46, "the physical address width goes to the CPU");
}

static void missing_leaves(void)
{
    struct cpu_cpuid_entry e[] = {
        {.leaf = 0, .eax = 0xd, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
        {.leaf = 0xb, .index = 0, .flags = CPUID_FLAG_INDEX, .ebx = 1, .ecx = 0x100, .edx = 5},
        {.leaf = 0xb, .index = 1, .flags = CPUID_FLAG_INDEX, .ebx = 2, .ecx = 0x201, .edx = 5},
        {.leaf = 0xd, .index = 0, .flags = CPUID_FLAG_INDEX, .eax = 7, .ecx = 832},
        {.leaf = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b},
        {.leaf = 0x80000000, .eax = 0x80000008},
        {.leaf = 0x80000008, .eax = 0x3028},
    };

    op_reset();
    cpu_cpuid_set(c, e, ARRAY_SIZE(e));
    c->xcr0 = 7;
    ok(leaf_is(0x1f, 0, 7, 832, 832, 0),
       "Intel: a basic leaf past the end reads the highest one, live");
    ok(leaf_is(0x1f, 5, 0, 0, 0, 0), "and its indices end where they end");
    ok(leaf_is(0x80000009, 0, 7, 832, 832, 0), "so does an extended one");
    ok(leaf_is(0x40000002, 0, 7, 832, 832, 0), "and one of the hypervisor's");
    ok(leaf_is(3, 0, 0, 0, 0, 0), "one inside the range is zero");
    ok(leaf_is(0xb, 7, 0, 0, 7, 5), "a topology level past the end echoes itself and the APIC id");
    is_u64(c->maxphyaddr, 40, "40 bits of physical address");
    e[0].ebx = 0x68747541;
    e[0].edx = 0x69746e65;
    e[0].ecx = 0x444d4163;
    cpu_cpuid_set(c, e, ARRAY_SIZE(e));
    ok(leaf_is(0x1f, 0, 0, 0, 0, 0), "AMD: past the end is zero");
    cpu_cpuid_set(c, NULL, 0);
    ok(leaf_is(0, 0, 0, 0, 0, 0) && c->cpuid_xcr0 == 0, "without a table all is zero");
    is_u64((u64)cpu_cpuid_set(c, table, CPU_CPUID_MAX + 1), (u64)-E2BIG,
           "a table too long is refused");
}

static void host_model(void)
{
    u32 a, b, cx, d;
    int n = model("host");

    well_formed("host", n);
    amx_leaves("host", all_tmul());
    never_offered("host");
    follows_host("host", 0);
    __cpuid(0, a, b, cx, d);
    ask(0, 0);
    ok(r[1] == b && r[2] == cx && r[3] == d, "host: the host's vendor");
    __cpuid(1, a, b, cx, d);
    is_u64(ask(1, 0)[0], a, "host: the host's family, model, stepping");
    __cpuid(0x80000002, a, b, cx, d);
    ok(leaf_is(0x80000002, 0, a, b, cx, d), "host: the host's brand");
}

/* SDM 2A CPUID leaves 7 and 1EH; SDM 4 table 2-1 for the families. */
static void later_models(void)
{
    u32 no_tf32 = all_tmul() & ~(u32)BIT(6);
    int n = model("graniterapids");

    well_formed("graniterapids", n);
    amx_leaves("graniterapids", 0);
    never_offered("graniterapids");
    follows_host("graniterapids", CPUID_SPR | CPUID_GNR);
    is_u64(ask(1, 0)[CPUID_EAX] & 0x0fff0ff0, 0x000a06d0, "graniterapids: family 6, model 173");
    ok(ask(7, 1)[CPUID_EAX] & BIT(21) && !(ask(7, 1)[CPUID_EDX] & BIT(8)),
       "graniterapids: AMX-FP16, no AMX-COMPLEX");
    n = model("diamondrapids");
    well_formed("diamondrapids", n);
    amx_leaves("diamondrapids", no_tf32);
    never_offered("diamondrapids");
    follows_host("diamondrapids", CPUID_SPR | CPUID_GNR | CPUID_DMR);
    is_u64(ask(1, 0)[CPUID_EAX] & 0x0fff0ff0, 0x00400f10, "diamondrapids: family 19, model 1");
    ok(ask(7, 1)[CPUID_EAX] & BIT(21) && ask(7, 1)[CPUID_EDX] & BIT(8),
       "diamondrapids: AMX-FP16 and AMX-COMPLEX");
    ok(cpuid_feature("amx-fp16") == cpuid_feature("amx_fp16") && !cpuid_feature("amx_fp1") &&
           !cpuid_feature("amx_fp16x"),
       "names may have '-' for '_', and are whole");
}

static void arch_capabilities(void)
{
    u64 v = cpu_arch_capabilities();

    ok(v & BIT(0) && v & BIT(5) && v & BIT(8) && v & BIT(26) && v & BIT(27) && v & BIT(62),
       "RDCL, MDS, TAA, GDS, RFDS, ITS: not affected");
    ok(!(v & (BIT(1) | BIT(7) | BIT(10) | BIT(11) | BIT(12) | BIT(23))),
       "no bit that promises an MSR which is not there");
}

int main(void)
{
    int n;

    if (!op_create())
        return 1;
    n = model("sapphirerapids");
    well_formed("sapphirerapids", n);
    amx_leaves("sapphirerapids", 0);
    never_offered("sapphirerapids");
    follows_host("sapphirerapids", CPUID_SPR);
    is_u64(ask(1, 0)[0] & 0x0fff0ff0, 0x000806f0, "sapphirerapids: family 6, model 143");
    ok(ask(7, 0)[CPUID_EDX] & BIT(29), "sapphirerapids: ARCH_CAPABILITIES");
    host_model();
    later_models();
    n = cpu_cpuid_supported(table, CPU_CPUID_MAX);
    cpu_cpuid_set(c, table, (unsigned)n);
    well_formed("supported", n);
    amx_leaves("supported", all_tmul());
    never_offered("supported");
    ok(ask(7, 0)[CPUID_EDX] & BIT(29), "supported: what a client may want for either vendor");
    is_u64((u64)cpu_cpuid_supported(table, 10), (u64)-E2BIG, "a table too small is told");
    is_u64((u64)cpu_cpuid_model("k6", table, CPU_CPUID_MAX), (u64)-ENOENT,
           "an unknown model is told");
    dynamic();
    missing_leaves();
    arch_capabilities();
    op_destroy();
    return tap_done();
}
