// SPDX-License-Identifier: MIT
// UVIRT_AMX: the choice of AMX kernels, checked before a guest starts.
#include "cli/cli.h"
#include "cpu/amx/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The names that this host can run, with commas. */
static void usable(char *out, size_t size)
{
    static const char *const names[] = {"scalar", "avx2", "avxvnni", "avx512", "vnni", "amx"};
    const struct amx_kernels *k;
    size_t at = 0;

    *out = 0;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (amx_kernels_named(names[i], &k) == 0 && at < size)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", names[i]);
}

int cli_check_amx(void)
{
    const char *name = getenv("UVIRT_AMX");
    const struct amx_kernels *k;
    char here[96];

    switch (amx_kernels_named(name, &k)) {
    case 0:
        return 0;
    case -ENOENT:
        return cli_error(
            "UVIRT_AMX=%s: there are no such kernels (accepted: " AMX_KERNELS_NAMES ")", name);
    default:
        usable(here, sizeof(here));
        return cli_error("UVIRT_AMX=%s: this host's CPU or system does not offer what they need "
                         "(accepted here: %s)",
                         name, here);
    }
}
