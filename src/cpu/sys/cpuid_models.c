// SPDX-License-Identifier: MIT
// Whole CPUID tables: everything that can be offered, the host's own model, and named models.

#include "cpu/sys/cpuid.h"

#include "cpu/xstate/layout.h"

#include <errno.h>
#include <string.h>

#define MAX_BASIC     0x1e
#define MAX_EXT_INTEL 0x80000008
#define MAX_EXT_AMD   0x80000021
#define VIRTUAL_BITS  48 /* no LA57 */
#define CLFLUSH_SIZE  8  /* in units of 8 bytes */

/* Who a table says that the CPU is. The features come from cpuid_features[]. */
struct identity {
    char vendor[12];
    char brand[48];
    u32 signature; /* CPUID.1:EAX */
    u32 physical_bits;
    bool amd;
    u8 only;    /* CPUID_*: rows need one of these, if there are any */
    u8 without; /* rows of another vendor stay out */
};

struct table {
    struct cpu_cpuid_entry *e;
    unsigned n, max;
};

static void add(struct table *t, u32 leaf, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
    if (t->n < t->max)
        t->e[t->n] = (struct cpu_cpuid_entry){leaf, 0, 0, eax, ebx, ecx, edx};
    t->n++;
}

static void add_index(struct table *t, u32 leaf, u32 index, u32 eax, u32 ebx, u32 ecx, u32 edx)
{
    if (t->n < t->max)
        t->e[t->n] = (struct cpu_cpuid_entry){leaf, index, CPUID_FLAG_INDEX, eax, ebx, ecx, edx};
    t->n++;
}

/* One register of features. */
static u32 word(const struct identity *id, u32 leaf, u8 index, enum cpuid_reg reg)
{
    u32 val = 0;

    for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
        if (f->leaf != leaf || f->index != index || f->reg != reg)
            continue;
        if ((!id->only || f->models & id->only) && !(f->models & id->without) &&
            cpuid_feature_supported(f))
            val |= BIT(f->bit);
    }
    return val;
}

/* Deterministic cache parameters of Sapphire Rapids: 48K, 32K, 2M, 30M. SDM 2A CPUID leaf 4. */
static const u32 intel_caches[][4] = {
    {0x121, 0x02c0003f, 63, 0},
    {0x122, 0x01c0003f, 63, 0},
    {0x143, 0x03c0003f, 2047, 0},
    {0x163, 0x0380003f, 32767, 0},
};

static void add_basic(struct table *t, const struct identity *id)
{
    u32 v[3];

    memcpy(v, id->vendor, sizeof(v));
    add(t, 0, MAX_BASIC, v[0], v[2], v[1]);
    add(t, 1, id->signature, 1 << 16 | CLFLUSH_SIZE << 8, word(id, 1, 0, CPUID_ECX),
        word(id, 1, 0, CPUID_EDX));
    if (!id->amd) {
        add(t, 2, 0x00feff01, 0, 0, 0); /* "ask leaf 4" */
        for (u32 i = 0; i < ARRAY_SIZE(intel_caches); i++)
            add_index(t, 4, i, intel_caches[i][0], intel_caches[i][1], intel_caches[i][2],
                      intel_caches[i][3]);
        add_index(t, 4, ARRAY_SIZE(intel_caches), 0, 0, 0, 0);
    }
    add(t, 5, 0, 0, 0, 0);
    add(t, 6, BIT(2), 0, 0, 0); /* ARAT: the APIC timer never stops */
    add_index(t, 7, 0, 1, word(id, 7, 0, CPUID_EBX), word(id, 7, 0, CPUID_ECX),
              word(id, 7, 0, CPUID_EDX));
    add_index(t, 7, 1, word(id, 7, 1, CPUID_EAX), 0, 0, word(id, 7, 1, CPUID_EDX));
    add(t, 0xa, 0, 0, 0, 0);
    add_index(t, 0xb, 0, 0, 1, 0x100, 0); /* one thread a core, one core: the VMM knows better */
    add_index(t, 0xb, 1, 0, 1, 0x201, 0);
}

static void add_xstate(struct table *t, const struct identity *id)
{
    u64 xcr0 = cpu_xcr0_supported();
    u32 size = xstate_size(xcr0, false);

    add_index(t, 0xd, 0, (u32)xcr0, size, size, (u32)(xcr0 >> 32));
    add_index(t, 0xd, 1, word(id, 0xd, 1, CPUID_EAX), xstate_size(xcr0, true), 0, 0);
    for (unsigned i = 2; i < XSTATE_IDS; i++) {
        const struct xstate_component *x = &xstate_components[i];

        if (xcr0 & BIT(i))
            add_index(t, 0xd, i, x->size, x->offset, x->flags, 0);
    }
}

/* Palette 1 and the TMUL unit: SDM 2A CPUID leaves 1DH, 1EH. */
static void add_amx(struct table *t, const struct identity *id)
{
    u32 tmul = cpuid_tmul_word(word(id, 0x1e, 1, CPUID_EAX), word(id, 7, 0, CPUID_EDX),
                               word(id, 7, 1, CPUID_EAX), word(id, 7, 1, CPUID_EDX));

    add_index(t, 0x14, 0, 0, 0, 0, 0);
    add_index(t, 0x1d, 0, 1, 0, 0, 0);
    add_index(t, 0x1d, 1, 8192 | 1024 << 16, 64 | 8 << 16, 16, 0);
    add_index(t, 0x1e, 0, tmul ? 1 : 0, 16 | 64 << 8, 0, 0);
    if (tmul)
        add_index(t, 0x1e, 1, tmul, 0, 0, 0);
}

static void add_extended(struct table *t, const struct identity *id)
{
    u32 v[12], out[4], edx = word(id, 0x80000001, 0, CPUID_EDX);

    memcpy(v, id->vendor, 12);
    if (id->amd)
        edx |= word(id, 1, 0, CPUID_EDX) & 0x0183f3ff; /* AMD repeats these of leaf 1 */
    add(t, 0x80000000, id->amd ? MAX_EXT_AMD : MAX_EXT_INTEL, id->amd ? v[0] : 0,
        id->amd ? v[2] : 0, id->amd ? v[1] : 0);
    add(t, 0x80000001, id->amd ? id->signature : 0, 0, word(id, 0x80000001, 0, CPUID_ECX), edx);
    memcpy(v, id->brand, 48);
    for (unsigned i = 0; i < 3; i++)
        add(t, 0x80000002 + i, v[i * 4], v[i * 4 + 1], v[i * 4 + 2], v[i * 4 + 3]);
    if (id->amd) {
        cpuid_host(0x80000005, 0, out);
        add(t, 0x80000005, out[0], out[1], out[2], out[3]);
        cpuid_host(0x80000006, 0, out);
        add(t, 0x80000006, out[0], out[1], out[2], out[3]);
    } else {
        add(t, 0x80000005, 0, 0, 0, 0);
        add(t, 0x80000006, 0, 0, 2048u << 16 | 8 << 12 | 64, 0);
    }
    add(t, 0x80000007, 0, 0, 0, word(id, 0x80000007, 0, CPUID_EDX));
    add(t, 0x80000008, VIRTUAL_BITS << 8 | id->physical_bits, word(id, 0x80000008, 0, CPUID_EBX), 0,
        0);
    if (id->amd)
        add(t, 0x80000021, word(id, 0x80000021, 0, CPUID_EAX), 0,
            word(id, 0x80000021, 0, CPUID_ECX), 0);
}

static int build(const struct identity *id, struct cpu_cpuid_entry *e, unsigned max)
{
    struct table t = {e, 0, max};

    add_basic(&t, id);
    add_xstate(&t, id);
    add_amx(&t, id);
    add_extended(&t, id);
    return t.n <= max ? (int)t.n : -E2BIG;
}

static void identity_host(struct identity *id)
{
    u32 out[4];

    memset(id, 0, sizeof(*id));
    cpuid_host(0, 0, out);
    memcpy(id->vendor, &out[CPUID_EBX], 4);
    memcpy(id->vendor + 4, &out[CPUID_EDX], 4);
    memcpy(id->vendor + 8, &out[CPUID_ECX], 4);
    id->amd = !memcmp(id->vendor, "AuthenticAMD", 12) || !memcmp(id->vendor, "HygonGenuine", 12);
    cpuid_host(1, 0, out);
    id->signature = out[CPUID_EAX];
    for (unsigned i = 0; i < 3; i++) {
        cpuid_host(0x80000002 + i, 0, out);
        memcpy(id->brand + i * 16, out, 16);
    }
    cpuid_host(0x80000008, 0, out);
    id->physical_bits = out[CPUID_EAX] & 0xff;
    if (id->physical_bits < 36 || id->physical_bits > 52)
        id->physical_bits = 46;
}

/* Everything, for whatever vendor a client may then claim. */
int cpu_cpuid_supported(struct cpu_cpuid_entry *e, unsigned max)
{
    struct identity id;

    identity_host(&id);
    return build(&id, e, max);
}

#define XEON(model, eax, generations)                                                              \
    {                                                                                              \
        .vendor = {'G', 'e', 'n', 'u', 'i', 'n', 'e', 'I', 'n', 't', 'e', 'l'},                    \
        .brand = "Intel Xeon Processor (" model ")", .signature = (eax), .physical_bits = 46,      \
        .only = (generations), .without = CPUID_AMD                                                \
    }

static const struct {
    const char *name;
    struct identity id;
} models[] = {
    /* family 6, model 143, stepping 8 */
    {"sapphirerapids", XEON("SapphireRapids", 0x000806f8, CPUID_SPR)},
    /* family 6, model 173 */
    {"graniterapids", XEON("GraniteRapids", 0x000a06d0, CPUID_SPR | CPUID_GNR)},
    /* family 19, model 1 */
    {"diamondrapids", XEON("DiamondRapids", 0x00400f10, CPUID_SPR | CPUID_GNR | CPUID_DMR)},
};

int cpu_cpuid_model(const char *model, struct cpu_cpuid_entry *e, unsigned max)
{
    struct identity id;

    if (!strcmp(model, "host")) {
        identity_host(&id);
        id.without = id.amd ? CPUID_INTEL : CPUID_AMD;
        return build(&id, e, max);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        if (!strcmp(model, models[i].name))
            return build(&models[i].id, e, max);
    }
    return -ENOENT;
}
