// SPDX-License-Identifier: MIT
// uvirt probe: what this host offers.
#include "cli/cli.h"
#include "cli/engine.h"
#include "cli/kernels.h"
#include "cpu/amx/kernel.h"
#include "cpu/sys/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void print_features(const struct kvm_cpuid2 *t, const char *prefix)
{
    bool any = false;

    for (const struct cpuid_feature *f = cpuid_features; f->name; f++) {
        if (strncmp(f->name, prefix, strlen(prefix)) || !engine_cpuid_has(t, f->name))
            continue;
        printf(" %s", f->name);
        any = true;
    }
    printf("%s\n", any ? "" : " none");
}

static void print_engine(const struct kvm_backend *be, const char *label)
{
    struct vmm_error err = {{0}};
    struct kvm_cpuid2 *t;

    if (engine_cpuid(be, NULL, &t, &err)) {
        printf("%-14s not available: %s\n", label, err.text);
        return;
    }
    printf("%-14s available; AMX:", label);
    print_features(t, "amx");
    printf("%-14s AVX-512:", "");
    print_features(t, "avx512");
    free(t);
}

static void print_host(void)
{
    u32 r[4], name[13] = {0};
    struct utsname u;

    for (u32 i = 0; i < 3; i++)
        cpuid_host(0x80000002 + i, 0, &name[4 * i]);
    if (uname(&u) == 0)
        printf("%-14s %s %s\n", "kernel", u.sysname, u.release);
    cpuid_host(1, 0, r);
    printf("%-14s %s%s\n", "CPU", (const char *)name,
           r[CPUID_ECX] >> 31 & 1 ? " (this host is a VM itself)" : "");
    printf("%-14s %ld online\n", "CPUs", sysconf(_SC_NPROCESSORS_ONLN));
    printf("%-14s avx2 %s, avx512f %s, avx512_vnni %s, amx_tile %s\n", "host features",
           cpuid_host_has("avx2") ? "yes" : "no", cpuid_host_has("avx512f") ? "yes" : "no",
           cpuid_host_has("avx512_vnni") ? "yes" : "no", cpuid_host_has("amx_tile") ? "yes" : "no");
}

int cmd_probe(int argc, char **argv)
{
    char kernel[PATH_MAX];

    if (argc > 1)
        return cli_error("probe takes no arguments, but there is '%s'", argv[1]);
    print_host();
    printf("%-14s %s (UVIRT_AMX takes " AMX_KERNELS_NAMES ")\n", "AMX kernels",
           amx_kernels()->name);
    print_engine(&kvm_backend_linux, "engine kvm");
    print_engine(&kvm_backend_soft, "engine soft");
    printf("%-14s %s\n", "engine auto", engine_find("auto")->name);
    printf("%-14s %s\n", "guest kernel",
           kernels_newest(kernel) ? "none found (./dev setup unpacks some)" : kernel);
    return 0;
}
