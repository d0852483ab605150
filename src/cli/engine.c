// SPDX-License-Identifier: MIT
// Engines and CPU models.
#include "cli/engine.h"
#include "cpu/sys/cpuid.h"
#include "vmm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAF_XSTATE   0xd
#define LEAF_TILE     0x1d
#define LEAF_TMUL     0x1e
#define TMUL_REPEATED 0xfu /* bits of 1EH.1:EAX that leaf 7 has as well */
#define LEAF_PV_FIRST 0x40000000u
#define LEAF_PV_LAST  0x4fffffffu
#define XSTATE_LEGACY 576 /* FXSAVE area and header */

static u32 *feature_word(struct kvm_cpuid2 *t, const struct cpuid_feature *f)
{
    struct kvm_cpuid_entry2 *e = cpuid_row(t, f->leaf, f->index);

    return e ? &e->eax + f->reg : NULL;
}

static bool has(struct kvm_cpuid2 *t, const struct cpuid_feature *f)
{
    const u32 *w = feature_word(t, f);

    return w && (*w >> f->bit & 1);
}

bool engine_cpuid_has(const struct kvm_cpuid2 *t, const char *name)
{
    const struct cpuid_feature *f = cpuid_feature(name);

    return f && has((struct kvm_cpuid2 *)(uintptr_t)t, f);
}

static int supported_table(const struct kvm_backend *be, struct kvm_cpuid2 **ret)
{
    int fd = be->open(), rc;

    if (fd < 0)
        return -errno;
    rc = cpuid_supported(be, fd, ret);
    be->close(fd);
    return rc;
}

const struct kvm_backend *engine_find(const char *name)
{
    struct kvm_cpuid2 *t = NULL;
    bool amx;

    if (!strcmp(name, "soft"))
        return &kvm_backend_soft;
    if (!strcmp(name, "kvm"))
        return &kvm_backend_linux;
    if (strcmp(name, "auto"))
        return NULL;
    amx = supported_table(&kvm_backend_linux, &t) == 0 && engine_cpuid_has(t, "amx_tile");
    free(t);
    return amx ? &kvm_backend_linux : &kvm_backend_soft;
}

static void drop_row(struct kvm_cpuid2 *t, u32 leaf, u32 index, bool any_index)
{
    u32 n = 0;

    for (u32 i = 0; i < t->nent; i++)
        if (t->entries[i].function != leaf || (!any_index && t->entries[i].index != index))
            t->entries[n++] = t->entries[i];
    t->nent = n;
}

/* Without their state, features that need it go as well. */
static void drop_features(struct kvm_cpuid2 *t, u32 gone)
{
    for (const struct cpuid_feature *f = cpuid_features; f->name; f++)
        if ((f->xcr0 & gone) && has(t, f))
            *feature_word(t, f) &= ~(u32)BIT(f->bit);
}

/* The leaf of later AMX features is there if one of them is, and repeats bits of leaf 7. */
static void match_tmul(struct kvm_cpuid2 *t)
{
    struct kvm_cpuid_entry2 *tmul = cpuid_row(t, LEAF_TMUL, 0), *later = cpuid_row(t, LEAF_TMUL, 1);
    const struct kvm_cpuid_entry2 *e7 = cpuid_row(t, 7, 0), *e71 = cpuid_row(t, 7, 1);

    if (!tmul || !later)
        return;
    later->eax = cpuid_tmul_word(later->eax & ~TMUL_REPEATED, e7 ? e7->edx : 0, e71 ? e71->eax : 0,
                                 e71 ? e71->edx : 0);
    tmul->eax = later->eax != 0;
    if (!later->eax)
        drop_row(t, LEAF_TMUL, 1, false);
}

/* Leaf 0DH says which state there is: only that of features which are left. */
static void match_xstate(struct kvm_cpuid2 *t)
{
    struct kvm_cpuid_entry2 *e = cpuid_row(t, LEAF_XSTATE, 0);
    u32 gone = 0, size = XSTATE_LEGACY;

    if (!e)
        return;
    if (!engine_cpuid_has(t, "avx"))
        gone |= XCR0_AVX | XCR0_AVX512;
    if (!engine_cpuid_has(t, "avx512f"))
        gone |= XCR0_AVX512;
    if (!engine_cpuid_has(t, "amx_tile")) {
        gone |= (u32)XCR0_AMX;
        drop_row(t, LEAF_TILE, 0, true);
        drop_row(t, LEAF_TMUL, 0, true);
    }
    drop_features(t, gone);
    for (u32 i = 2; i < 32; i++)
        if (gone >> i & 1)
            drop_row(t, LEAF_XSTATE, i, false);
    for (u32 i = 0; i < t->nent; i++) {
        const struct kvm_cpuid_entry2 *c = &t->entries[i];

        if (c->function == LEAF_XSTATE && c->index >= 2 && !(c->ecx & 1) && c->ebx + c->eax > size)
            size = c->ebx + c->eax;
    }
    e = cpuid_row(t, LEAF_XSTATE, 0);
    e->eax &= ~gone;
    e->ecx = size;
}

/* Replace the rows of (t) by the model's, without what (t) does not have. KVM's own leaves stay. */
static int apply_model(struct kvm_cpuid2 *t, const char *model, struct vmm_error *err)
{
    struct cpu_cpuid_entry m[CPU_CPUID_MAX];
    struct kvm_cpuid2 *old = malloc(sizeof(*t) + t->nent * sizeof(t->entries[0]));
    int n = cpu_cpuid_model(model, m, CPU_CPUID_MAX);

    if (n < 0 || !old) {
        free(old);
        return vmm_fail(err, n < 0 ? n : -ENOMEM,
                        "%s is not a CPU model (accepted: host, sapphirerapids, graniterapids, "
                        "diamondrapids; with ,+FEATURE or ,-FEATURE)",
                        model);
    }
    memcpy(old, t, sizeof(*t) + t->nent * sizeof(t->entries[0]));
    t->nent = 0;
    for (int i = 0; i < n && t->nent < CPUID_ENTRIES_MAX; i++)
        t->entries[t->nent++] = (struct kvm_cpuid_entry2){.function = m[i].leaf,
                                                          .index = m[i].index,
                                                          .flags = m[i].flags,
                                                          .eax = m[i].eax,
                                                          .ebx = m[i].ebx,
                                                          .ecx = m[i].ecx,
                                                          .edx = m[i].edx};
    for (u32 i = 0; i < old->nent && t->nent < CPUID_ENTRIES_MAX; i++)
        if (old->entries[i].function >= LEAF_PV_FIRST && old->entries[i].function <= LEAF_PV_LAST)
            t->entries[t->nent++] = old->entries[i];
    for (const struct cpuid_feature *f = cpuid_features; f->name; f++)
        if (has(t, f) && !has(old, f))
            *feature_word(t, f) &= ~(u32)BIT(f->bit);
    free(old);
    return 0;
}

static int apply_feature(struct kvm_cpuid2 *t, struct kvm_cpuid2 *all, const char *word,
                         struct vmm_error *err)
{
    const struct cpuid_feature *f = cpuid_feature(word + 1);
    u32 *w;

    if ((word[0] != '+' && word[0] != '-') || !f)
        return vmm_fail(err, -EINVAL,
                        "'%s' is not a feature (accepted: +NAME or -NAME with a name "
                        "of /proc/cpuinfo)",
                        word);
    w = feature_word(t, f);
    if (word[0] == '-') {
        if (w)
            *w &= ~(u32)BIT(f->bit);
        return 0;
    }
    if (!w && has(all, f) &&
        t->nent < CPUID_ENTRIES_MAX) { /* a leaf that the model does not have */
        t->entries[t->nent++] = (struct kvm_cpuid_entry2){
            .function = f->leaf, .index = f->index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
        w = feature_word(t, f);
    }
    if (!w || !has(all, f))
        return vmm_fail(err, -EOPNOTSUPP, "%s is not available with this engine on this host",
                        f->name);
    *w |= (u32)BIT(f->bit);
    return 0;
}

static int apply(struct kvm_cpuid2 *t, struct kvm_cpuid2 *all, const char *model,
                 struct vmm_error *err)
{
    char *copy = strdup(model), *save, *word;
    int rc = copy ? 0 : -ENOMEM;

    word = copy ? strtok_r(copy, ",", &save) : NULL;
    if (rc == 0 && (!word || (strcmp(word, "host") && *word != '+' && *word != '-')))
        rc = apply_model(t, word ? word : "", err);
    if (word && *word != '+' && *word != '-')
        word = strtok_r(NULL, ",", &save);
    for (; word && rc == 0; word = strtok_r(NULL, ",", &save))
        rc = apply_feature(t, all, word, err);
    free(copy);
    if (rc == 0) {
        match_xstate(t);
        match_tmul(t);
    }
    return rc;
}

int engine_cpuid(const struct kvm_backend *be, const char *model, struct kvm_cpuid2 **ret,
                 struct vmm_error *err)
{
    struct kvm_cpuid2 *t, *all;
    int rc = supported_table(be, &t);

    if (rc)
        return vmm_fail(err, rc, "engine %s cannot be opened: %s", be->name, strerror(-rc));
    if (!model || !strcmp(model, "host")) {
        *ret = t;
        return 0;
    }
    rc = supported_table(be, &all);
    if (rc == 0) {
        rc = apply(t, all, model, err);
        free(all);
    }
    if (rc) {
        free(t);
        return rc;
    }
    *ret = t;
    return 0;
}
