// SPDX-License-Identifier: MIT
// What the subcommands of uvirt share: their table, option parsing, one-line errors.
#pragma once

#include "base/types.h"

#include <limits.h>

/* uvirt's own exit codes; anything else is the command's. */
#define EXIT_UVIRT_FAILED 125
#define EXIT_CANNOT_RUN   126
#define EXIT_NOT_FOUND    127
#define EXIT_SUSPENDED    148 /* the VM is in a snapshot: what a shell says of a job that SIGTSTP stopped */

struct cli_command {
    const char *name, *usage, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand; returns the exit code */
    bool guest;                        /* guest code runs: UVIRT_AMX must name what can be had */
};

int cmd_run(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_cpuid(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_vsock_device(int argc, char **argv);
int cmd_vsock_dump(int argc, char **argv);

/* Does UVIRT_AMX name kernels that this host can run, or nothing? 0, or the exit code after an error was printed. */
int cli_check_amx(void);

/* Print "uvirt: " and one line to stderr. Returns EXIT_UVIRT_FAILED. */
__attribute__((format(printf, 1, 2))) int cli_error(const char *fmt, ...);

/*
 * An option. (form) is what its value looks like, for help and errors; NULL: it has none.
 * (set) gets the value (NULL without one) and returns 0, or -errno after cli_error() was called
 * or with (*why) pointing to a reason; with neither, "accepted: form" is the error.
 */
struct cli_option {
    const char *name, *form, *help;
    int (*set)(void *opaque, const char *value, const char **why);
};

/*
 * Parse --name VALUE, --name=VALUE and --flag up to "--" or the first argument that is no
 * option. Returns the index of what follows, or -EINVAL after an error was printed. "--help"
 * prints (usage) and the options and ends the program.
 */
int cli_parse(int argc, char **argv, const char *usage, const struct cli_option *options,
              void *opaque);

/* "512M", "2G", "4096K"; a number alone is MiB. 0 or -EINVAL. */
int cli_size(const char *text, u64 *ret);

/* The host's PATH, or what a shell takes without one. */
const char *cli_host_path(void);

/* Find (name) as a shell in (cwd) does: 0 with its path in (ret), or uvirt's exit code after an error was printed. */
int cli_find_program(const char *name, const char *cwd, char ret[PATH_MAX]);

/* A decimal number from min to max. 0 or -EINVAL. */
int cli_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret);
