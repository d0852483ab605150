// SPDX-License-Identifier: MIT
// uvirt stop: SIGTERM for a VM's command, and the end of the VM if that does not help.
#include "cli/cli.h"
#include "cli/runtime.h"

#include <string.h>
#include <unistd.h>

#define USAGE       "uvirt stop [--timeout SECONDS] ID"
#define TIMEOUT_MAX 86400

static int set_timeout(void *opaque, const char *v, const char **why)
{
    return cli_number(v, 0, TIMEOUT_MAX, opaque);
}

static const struct cli_option options[] = {
    {"timeout", "SECONDS", "how long the command has to end by itself, 0 to 86400 (10)",
     set_timeout},
    {NULL, NULL, NULL, NULL},
};

int cmd_stop(int argc, char **argv)
{
    unsigned long seconds = 10;
    char text[RUNTIME_MESSAGE_MAX];
    int i = cli_parse(argc, argv, USAGE, options, &seconds), conn, rc;

    if (i < 0)
        return EXIT_UVIRT_FAILED;
    if (argc - i != 1)
        return cli_error("stop needs an ID (accepted: %s)", USAGE);
    conn = runtime_connect(argv[i]);
    if (conn < 0)
        return cli_error("%s: no such VM (uvirt ps lists them)", argv[i]);
    rc = runtime_send(conn, -1, "stop %lu", seconds);
    while (rc == 0 && runtime_receive(conn, -1, text, NULL) > 0)
        ; /* its end of the connection goes with it */
    close(conn);
    return rc ? cli_error("%s: %s", argv[i], strerror(-rc)) : 0;
}
