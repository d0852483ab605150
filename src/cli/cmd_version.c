// SPDX-License-Identifier: MIT
// uvirt version
#include "cli/cli.h"

#include <stdio.h>

int cmd_version(int argc, char **argv)
{
    if (argc > 1)
        return cli_error("version takes no arguments, but there is '%s'", argv[1]);
    printf("uvirt %s\n", UVIRT_VERSION);
    return 0;
}
