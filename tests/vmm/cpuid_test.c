// SPDX-License-Identifier: MIT
// APIC ids and topology in each vCPU's CPUID table, for both vendors' ways to say it.
#include "tap.h"
#include "vmm/cpuid.h"

static struct kvm_cpuid2 *table(bool amd)
{
    struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + CPUID_ENTRIES_MAX * sizeof(t->entries[0]));
    const struct kvm_cpuid_entry2 rows[] = {
        {.function = 0, .eax = 0x20, .ebx = amd ? 0x68747541u : 0x756e6547u},
        {.function = 1, .eax = 0x806f8, .ebx = 0x07120800, .ecx = 1},
        {.function = 4, .index = 0, .flags = 1, .eax = 0x0c000121},
        {.function = 4, .index = 3, .flags = 1, .eax = 0x0c000163},
        {.function = 4, .index = 4, .flags = 1},
        {.function = 7, .index = 0, .flags = 1, .ebx = 42},
        {.function = 0x1f, .index = 0, .flags = 1, .edx = 99},
        {.function = 0x80000001, .ecx = 0x21},
        {.function = 0x80000008, .eax = 0x3030, .ecx = 0xffff},
        {.function = 0x8000001e, .eax = 77, .ebx = 78, .ecx = 79},
    };

    t->nent = ARRAY_SIZE(rows);
    memcpy(t->entries, rows, sizeof(rows));
    return t;
}

/* The level that leaf 0BH describes with (index): APIC id's shift and logical CPUs. */
static void check_level(struct kvm_cpuid2 *t, u32 index, u32 shift, u32 cpus, u32 type, u32 id)
{
    const struct kvm_cpuid_entry2 *e = cpuid_row(t, 0xb, index);

    ok(e && e->eax == shift && e->ebx == cpus && e->ecx == (type << 8 | index) && e->edx == id,
       "0BH.%u: shift %u, %u CPUs, type %u, id %u", index, shift, cpus, type, id);
}

static void test_vendor(bool amd, unsigned cpus, unsigned id, unsigned bits)
{
    struct kvm_cpuid2 *t = table(amd);
    struct kvm_cpuid_entry2 *e;

    printf("# %s, CPU %u of %u\n", amd ? "AMD" : "Intel", id, cpus);
    cpuid_patch(t, id, cpus, true);
    e = cpuid_row(t, 1, 0);
    is_u64(e->ebx >> 24, id, "01H: APIC id");
    is_u64(e->ebx >> 16 & 0xff, cpus, "01H: logical CPUs");
    is_u64(e->ebx & 0xffff, 0x0800, "01H: the rest of EBX stays");
    ok(e->ecx >> 31 && (e->ecx >> 21 & 1) && (e->ecx >> 24 & 1) && (e->ecx & 1),
       "01H: hypervisor, x2APIC, TSC-deadline, and what was there");
    is_u64(e->edx >> 28 & 1, cpus > 1, "01H: HTT");
    check_level(t, 0, 0, 1, 1, id);
    check_level(t, 1, bits, cpus, 2, id);
    check_level(t, 2, 0, 0, 0, id);
    ok(!cpuid_row(t, 0x1f, 0), "1FH is gone");
    is_u64(cpuid_row(t, 7, 0)->ebx, 42, "07H is untouched");
    if (amd) {
        is_u64(cpuid_row(t, 0x80000008, 0)->ecx, bits << 12 | (cpus - 1), "80000008H: cores");
        e = cpuid_row(t, 0x8000001e, 0);
        ok(e->eax == id && e->ebx == id && e->ecx == 0, "8000001EH: ids");
    } else {
        is_u64(cpuid_row(t, 4, 0)->eax >> 14 & 0xfff, 0, "04H: the L1 is nobody else's");
        is_u64(cpuid_row(t, 4, 3)->eax >> 14 & 0xfff, (1u << bits) - 1, "04H: the L3 is shared");
        is_u64(cpuid_row(t, 4, 3)->eax >> 26, (1u << bits) - 1, "04H: core ids");
    }
    cpuid_patch(t, id, cpus, false);
    is_u64(cpuid_row(t, 1, 0)->ecx >> 24 & 1, 0, "no TSC-deadline where KVM has none");
    is_u64(t->nent, 12, "patching twice adds nothing");
    free(t);
}

int main(void)
{
    for (int amd = 0; amd < 2; amd++) {
        test_vendor(amd, 1, 0, 0);
        test_vendor(amd, 2, 1, 1);
        test_vendor(amd, 5, 4, 3);
        test_vendor(amd, 64, 63, 6);
    }
    return tap_done();
}
