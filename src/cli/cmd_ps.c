// SPDX-License-Identifier: MIT
// uvirt ps: the VMs of this user that run.
#include "cli/cli.h"
#include "cli/runtime.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 2000

static const struct cli_option options[] = {{NULL, NULL, NULL, NULL}};

/* The value behind (name) in lines of "name value"; "?" if there is none. Cuts (text) up. */
static const char *value(char *text, const char *name)
{
    size_t len = strlen(name);

    for (char *line = text; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, len) && line[len] == ' ')
            return line + len + 1;
    return "?";
}

/* Length of the line at (p). */
static int line(const char *p)
{
    return (int)strcspn(p, "\n");
}

static void show(void *opaque, const char *id)
{
    char text[RUNTIME_MESSAGE_MAX] = "";
    const char *pid, *cpus, *memory, *engine, *seconds, *command;
    int conn = runtime_connect(id);

    if (conn == -ECONNREFUSED)
        runtime_forget(id);
    if (conn < 0)
        return;
    if (runtime_send(conn, -1, "info") || runtime_receive(conn, ANSWER_MS, text, NULL) <= 0)
        strcpy(text, "command (busy)\n");
    close(conn);
    pid = value(text, "pid");
    cpus = value(text, "cpus");
    memory = value(text, "memory");
    engine = value(text, "engine");
    seconds = value(text, "seconds");
    command = value(text, "command");
    printf("%-12s %8.*s %4.*s %8.*s %-6.*s %8.*s  %.*s\n", id, line(pid), pid, line(cpus), cpus,
           line(memory), memory, line(engine), engine, line(seconds), seconds, line(command),
           command);
}

int cmd_ps(int argc, char **argv)
{
    int i = cli_parse(argc, argv, "uvirt ps", options, NULL), rc;

    if (i < 0)
        return EXIT_UVIRT_FAILED;
    if (i < argc)
        return cli_error("ps takes no arguments");
    printf("%-12s %8s %4s %8s %-6s %8s  %s\n", "ID", "PID", "CPUS", "MEM/MiB", "ENGINE", "SECONDS",
           "COMMAND");
    rc = runtime_each(show, NULL);
    return rc && rc != -ENOENT ? cli_error("the runtime directory: %s", strerror(-rc)) : 0;
}
