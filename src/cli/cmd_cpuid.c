// SPDX-License-Identifier: MIT
// uvirt cpuid: the CPUID table that a guest gets, with the features in it by name.
#include "cli/cli.h"
#include "cli/engine.h"
#include "cpu/sys/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cpuid_options {
    const char *engine, *cpu;
};

static int set_engine(void *opaque, const char *v, const char **why)
{
    ((struct cpuid_options *)opaque)->engine = v;
    return engine_find(v) ? 0 : -EINVAL;
}

static int set_cpu(void *opaque, const char *v, const char **why)
{
    ((struct cpuid_options *)opaque)->cpu = v;
    return 0;
}

static const struct cli_option options[] = {
    {"engine", "auto|soft|kvm", "whose table", set_engine},
    {"cpu", "MODEL[,+F,-F]",
     "host (default), sapphirerapids, graniterapids, diamondrapids; features", set_cpu},
    {NULL, NULL, NULL, NULL},
};

int cmd_cpuid(int argc, char **argv)
{
    struct cpuid_options o = {.engine = "auto"};
    struct vmm_error err = {{0}};
    struct kvm_cpuid2 *t;
    int i = cli_parse(argc, argv, "uvirt cpuid [OPTIONS]", options, &o), col = 0;

    if (i < 0)
        return EXIT_UVIRT_FAILED;
    if (i < argc)
        return cli_error("cpuid: unexpected argument '%s'", argv[i]);
    if (engine_cpuid(engine_find(o.engine), o.cpu, &t, &err))
        return cli_error("--%s %s: %s", o.cpu ? "cpu" : "engine", o.cpu ? o.cpu : o.engine,
                         err.text);
    printf("leaf       index  eax        ebx        ecx        edx\n");
    for (u32 n = 0; n < t->nent; n++) {
        const struct kvm_cpuid_entry2 *e = &t->entries[n];

        printf("0x%08x %5u  0x%08x 0x%08x 0x%08x 0x%08x\n", e->function, e->index, e->eax, e->ebx,
               e->ecx, e->edx);
    }
    printf("features:");
    for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
        if (!engine_cpuid_has(t, f->name))
            continue;
        col += (int)strlen(f->name) + 1;
        if (col > 90) {
            printf("\n         ");
            col = (int)strlen(f->name) + 1;
        }
        printf(" %s", f->name);
    }
    printf("\n");
    free(t);
    return 0;
}
