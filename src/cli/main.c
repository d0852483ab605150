// SPDX-License-Identifier: MIT
// The uvirt program: the table of its subcommands.
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const struct cli_command commands[] = {
    {"run", "uvirt run [OPTIONS] [-- COMMAND ARG...]",
     "boot a Linux kernel in a VM and run COMMAND there", cmd_run, true},
    {"exec", "uvirt exec [--kvm] [--vsock DIR] -- PROGRAM", "run PROGRAM with a /dev/kvm or AF_VSOCK sockets of uvirt's",
     cmd_exec, true},
    {"snapshot", "uvirt snapshot [--stop] ID FILE", "save a running VM in FILE", cmd_snapshot},
    {"restore", "uvirt restore [OPTIONS] FILE", "go on with a VM from a snapshot", cmd_restore, true},
    {"ps", "uvirt ps", "the VMs that run", cmd_ps},
    {"stop", "uvirt stop [--timeout SECONDS] ID", "end a running VM", cmd_stop},
    {"probe", "uvirt probe", "what this host offers: engines, features, AMX", cmd_probe, true},
    {"cpuid", "uvirt cpuid [--engine E] [--cpu MODEL]", "the CPUID table of a guest", cmd_cpuid},
    {"vsock-device", "uvirt vsock-device --socket S --cid N --path P", "a vsock device for other VMMs, over vhost-user",
     cmd_vsock_device},
    {"vsock-dump", "uvirt vsock-dump [--write FILE] ID|SOCKET", "write down the vsock packets of a VM or device that runs",
     cmd_vsock_dump},
    {"version", "uvirt version", "the version of uvirt", cmd_version},
};

static int help(FILE *to)
{
    fprintf(to, "uvirt: Linux VMs with Intel AMX, with or without /dev/kvm\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(to, "  %-42s %s\n", commands[i].usage, commands[i].summary);
    fprintf(to, "\nuvirt COMMAND --help lists the options of a command.\n");
    return 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!*name) {
        help(stderr);
        return EXIT_UVIRT_FAILED;
    }
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h"))
        return help(stdout);
    if (!strcmp(name, "--version"))
        return cmd_version(1, argv);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(name, commands[i].name))
            continue;
        if (commands[i].guest && cli_check_amx())
            return EXIT_UVIRT_FAILED;
        return commands[i].run(argc - 1, argv + 1);
    }
    return cli_error("%s: unknown command (accepted: run, exec, snapshot, restore, ps, stop, probe, cpuid, vsock-device, vsock-dump, version, help)",
                     name);
}
