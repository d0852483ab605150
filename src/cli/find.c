// SPDX-License-Identifier: MIT
// Programs of the host by name, for the commands that run one.
#include "cli/cli.h"
#include "vmm/initramfs/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *cli_host_path(void)
{
    const char *path = getenv("PATH");

    return path && *path ? path : "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
}

int cli_find_program(const char *name, const char *cwd, char ret[PATH_MAX])
{
    int rc = pack_find(name, cwd, cli_host_path(), ret);

    if (rc == 0)
        return 0;
    if (rc == -ENOENT) {
        cli_error("%s: command not found", name);
        return EXIT_NOT_FOUND;
    }
    cli_error("%s: %s", name, strerror(rc == -EACCES ? EACCES : -rc));
    return EXIT_CANNOT_RUN;
}
