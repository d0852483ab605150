// SPDX-License-Identifier: MIT
// Options and errors of the command line.
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_error(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    fputs("uvirt: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return EXIT_UVIRT_FAILED;
}

static void print_help(const char *usage, const struct cli_option *o)
{
    printf("usage: %s\n", usage);
    for (; o->name; o++) {
        int n = printf("  --%s%s%s", o->name, o->form ? " " : "", o->form ? o->form : "");

        printf("%*s%s\n", n < 30 ? 30 - n : 1, "", o->help);
    }
}

static const struct cli_option *find(const struct cli_option *o, const char *name, size_t len)
{
    for (; o->name; o++)
        if (strlen(o->name) == len && !memcmp(o->name, name, len))
            return o;
    return NULL;
}

static int apply(const struct cli_option *o, const char *value, void *opaque)
{
    const char *why = NULL;
    int rc = o->set(opaque, value, &why);

    if (rc == 0)
        return 0;
    if (why)
        cli_error("--%s %s: %s", o->name, value ? value : "", why);
    else
        cli_error("--%s %s: not possible (accepted: --%s %s: %s)", o->name, value ? value : "",
                  o->name, o->form ? o->form : "", o->help);
    return -EINVAL;
}

int cli_parse(int argc, char **argv, const char *usage, const struct cli_option *options,
              void *opaque)
{
    int i = 1;

    while (i < argc && argv[i][0] == '-' && argv[i][1]) {
        const char *name = argv[i] + 2, *value;
        const struct cli_option *o;
        size_t len;

        if (!strcmp(argv[i], "--"))
            return i + 1;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(usage, options);
            exit(0);
        }
        len = strcspn(name, "=");
        o = argv[i][1] == '-' ? find(options, name, len) : NULL;
        if (!o) {
            cli_error("%s: unknown option (uvirt %s --help lists them)", argv[i], argv[0]);
            return -EINVAL;
        }
        value = name[len] == '=' ? name + len + 1 : NULL;
        if (!o->form && value) {
            cli_error("--%s takes no value", o->name);
            return -EINVAL;
        }
        if (o->form && !value) {
            if (++i == argc) {
                cli_error("--%s needs a value (accepted: --%s %s)", o->name, o->name, o->form);
                return -EINVAL;
            }
            value = argv[i];
        }
        if (apply(o, value, opaque))
            return -EINVAL;
        i++;
    }
    return i;
}

int cli_size(const char *text, u64 *ret)
{
    unsigned shift = 20;
    char *end;
    unsigned long long v;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno)
        return -EINVAL;
    if (*end == 'K' || *end == 'k')
        shift = 10;
    else if (*end == 'G' || *end == 'g')
        shift = 30;
    else if (*end && *end != 'M' && *end != 'm')
        return -EINVAL;
    if ((*end && end[1]) || v > UINT64_MAX >> shift)
        return -EINVAL;
    *ret = v << shift;
    return 0;
}

int cli_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret)
{
    unsigned long v;
    char *end;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    v = strtoul(text, &end, 10);
    if (errno || *end || v < min || v > max)
        return -EINVAL;
    *ret = v;
    return 0;
}
