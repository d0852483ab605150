// SPDX-License-Identifier: MIT
// Compares the CPUID of a guest with what an engine supports here, and names the difference.
#include "cli/engine_check.h"
#include "cpu/sys/cpuid.h"
#include "vmm/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 240 /* bytes of names in the message; more are counted */

/*
 * Words of feature bits. (given): bits that do not come from the host, but from the VMM or the guest's own doing:
 * OSXSAVE, APIC, x2APIC, TSC deadline, hypervisor, HTT, CmpLegacy.
 */
static const struct word {
    u32 leaf, index;
    u8 reg;
    u32 given;
} words[] = {
    {1, 0, CPUID_ECX, BIT(27) | BIT(21) | BIT(24) | BIT(31)},
    {1, 0, CPUID_EDX, BIT(9) | BIT(28)},
    {7, 0, CPUID_EBX, 0},
    {7, 0, CPUID_ECX, BIT(4) /* OSPKE */},
    {7, 0, CPUID_EDX, 0},
    {7, 1, CPUID_EAX, 0},
    {7, 1, CPUID_EBX, 0},
    {7, 1, CPUID_ECX, 0},
    {7, 1, CPUID_EDX, 0},
    {7, 2, CPUID_EDX, 0},
    {0xd, 1, CPUID_EAX, 0},
    {0x19, 0, CPUID_EBX, 0},
    {0x1e, 1, CPUID_EAX, 0},
    {0x80000001, 0, CPUID_ECX, BIT(1)},
    {0x80000001, 0, CPUID_EDX, BIT(9)},
    {0x80000008, 0, CPUID_EBX, 0},
    {0x80000021, 0, CPUID_EAX, 0},
    {0x40000001, 0, CPUID_EAX, 0},
};

struct list {
    char text[NAMES_MAX];
    size_t len;
    unsigned n, unnamed;
};

static void add(struct list *l, const char *name)
{
    size_t len = strlen(name) + (l->n ? 2 : 0);

    if (l->len + len + 1 > sizeof(l->text)) {
        l->unnamed++;
    } else {
        l->len += (size_t)sprintf(l->text + l->len, "%s%s", l->n ? ", " : "", name);
        l->n++;
    }
}

static void add_bit(struct list *l, const struct word *w, unsigned bit)
{
    static const char *const regs[] = {"EAX", "EBX", "ECX", "EDX"};
    char text[48];

    for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
        if (f->leaf == w->leaf && f->index == w->index && f->reg == w->reg && f->bit == bit) {
            add(l, f->name);
            return;
        }
    }
    snprintf(text, sizeof(text), "CPUID.%x.%u:%s[%u]", w->leaf, w->index, regs[w->reg], bit);
    add(l, text);
}

static u32 word_of(struct kvm_cpuid2 *t, u32 leaf, u32 index, unsigned reg)
{
    struct kvm_cpuid_entry2 *e = cpuid_row(t, leaf, index);

    return e ? (&e->eax)[reg] : 0;
}

static void compare_features(struct kvm_cpuid2 *guest, struct kvm_cpuid2 *here, struct list *l)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const struct word *w = &words[i];
        u32 lacking = word_of(guest, w->leaf, w->index, w->reg) &
                      ~word_of(here, w->leaf, w->index, w->reg) & ~w->given;

        for (; lacking; lacking &= lacking - 1)
            add_bit(l, w, (unsigned)__builtin_ctz(lacking));
    }
}

/* State components, and where KVM's images have them: the kernel's KVM uses the host's own layout. */
static void compare_xstate(const struct kvm_backend *be, struct kvm_cpuid2 *guest,
                           struct kvm_cpuid2 *here, struct list *l)
{
    u32 lacking = word_of(guest, 0xd, 0, CPUID_EAX) & ~word_of(here, 0xd, 0, CPUID_EAX);
    char text[96];

    for (u32 i = 0; i < 32; i++) {
        u32 there = word_of(guest, 0xd, i, CPUID_EBX), ours = word_of(here, 0xd, i, CPUID_EBX);

        if (lacking & BIT(i)) {
            snprintf(text, sizeof(text), "XCR0 component %u", i);
            add(l, text);
        } else if (be == &kvm_backend_linux && i >= 2 && there != ours) {
            snprintf(text, sizeof(text), "XSAVE component %u at offset %u (here it is at %u)", i,
                     there, ours);
            add(l, text);
        }
    }
}

static void compare_width(struct kvm_cpuid2 *guest, struct kvm_cpuid2 *here, struct list *l)
{
    u32 there = word_of(guest, 0x80000008, 0, CPUID_EAX) & 0xff;
    u32 ours = word_of(here, 0x80000008, 0, CPUID_EAX) & 0xff;
    char text[64];

    if (there <= ours)
        return;
    snprintf(text, sizeof(text), "physical addresses of %u bits (here: %u)", there, ours);
    add(l, text);
}

int engine_check(const struct kvm_backend *be, const struct kvm_cpuid2 *guest,
                 struct vmm_error *err)
{
    struct kvm_cpuid2 *g = (struct kvm_cpuid2 *)(uintptr_t)guest, *here;
    struct list l = {.len = 0};
    int fd = be->open(), rc = fd < 0 ? -errno : cpuid_supported(be, fd, &here);

    if (fd >= 0)
        be->close(fd);
    if (rc)
        return vmm_fail(err, rc, "engine %s cannot be opened: %s", be->name, strerror(-rc));
    compare_features(g, here, &l);
    compare_xstate(be, g, here, &l);
    compare_width(g, here, &l);
    free(here);
    if (!l.n)
        return 0;
    if (l.unnamed)
        return vmm_fail(err, -EOPNOTSUPP, "the guest needs %s and %u more", l.text, l.unnamed);
    return vmm_fail(err, -EOPNOTSUPP, "the guest needs %s", l.text);
}
