// SPDX-License-Identifier: MIT
// The options of `uvirt run`, one row each.
#include "cli/run.h"
#include "cli/runtime.h"
#include "cpu/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define USAGE "uvirt run [OPTIONS] [-- COMMAND ARG...]"

static int set_engine(void *opaque, const char *v, const char **why)
{
    struct run_options *o = opaque;

    o->engine = v;
    return !strcmp(v, "auto") || !strcmp(v, "soft") || !strcmp(v, "kvm") ? 0 : -EINVAL;
}

static int set_cpu(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->cpu = v;
    return 0;
}

static int set_cpus(void *opaque, const char *v, const char **why)
{
    return cli_number(v, 1, VM_CPUS_MAX, &((struct run_options *)opaque)->cpus);
}

static int set_memory(void *opaque, const char *v, const char **why)
{
    struct run_options *o = opaque;

    if (cli_size(v, &o->memory) || o->memory < VM_MEMORY_MIN || o->memory > VM_MEMORY_MAX)
        return -EINVAL;
    o->memory = ALIGN_UP(o->memory, 2ull << 20);
    return 0;
}

static int set_kernel(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->kernel = v;
    return 0;
}

static int set_initrd(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->initrd = v;
    return 0;
}

static int add_append(void *opaque, const char *v, const char **why)
{
    return strv_add(&((struct run_options *)opaque)->append, v);
}

static int add_disk(void *opaque, const char *v, const char **why)
{
    struct run_options *o = opaque;
    size_t len = strlen(v);
    struct run_disk *d;

    if (o->nr_disks == RUN_DISKS_MAX) {
        *why = "too many disks (accepted: 6)";
        return -EINVAL;
    }
    d = &o->disks[o->nr_disks];
    d->readonly = len > 3 && !strcmp(v + len - 3, ",ro");
    d->path = strndup(v, d->readonly ? len - 3 : len);
    if (!d->path || !*d->path)
        return -EINVAL;
    o->nr_disks++;
    return 0;
}

static int set_net(void *opaque, const char *v, const char **why)
{
    return run_net_parse(&((struct run_options *)opaque)->net, v, why);
}

static int set_vsock(void *opaque, const char *v, const char **why)
{
    return run_vsock_parse(&((struct run_options *)opaque)->vsock, v, why);
}

static int set_serial(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->serial = v;
    return !strcmp(v, "stdio") || !strcmp(v, "null") || (!strncmp(v, "file:", 5) && v[5]) ? 0
                                                                                          : -EINVAL;
}

static int add_path(void *opaque, const char *v, const char **why)
{
    return *v ? strv_add(&((struct run_options *)opaque)->add, v) : -EINVAL;
}

static int add_lib(void *opaque, const char *v, const char **why)
{
    return *v ? strv_add(&((struct run_options *)opaque)->libs, v) : -EINVAL;
}

static int add_env(void *opaque, const char *v, const char **why)
{
    const char *value = strchr(v, '=');
    char *text;
    int rc;

    if (value == v || !*v)
        return -EINVAL;
    if (value)
        return strv_add(&((struct run_options *)opaque)->env, v);
    value = getenv(v);
    if (!value) {
        *why = "it is not in the environment";
        return -ENOENT;
    }
    if (asprintf(&text, "%s=%s", v, value) < 0)
        return -ENOMEM;
    rc = strv_add(&((struct run_options *)opaque)->env, text);
    free(text);
    return rc;
}

static int set_stats(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->stats = cpu_counts_code = true;
    return 0;
}

static int set_trace(void *opaque, const char *v, const char **why)
{
    int rc = cpu_trace_open(v);

    if (rc && rc != -EINVAL)
        *why = "its file cannot be written";
    return rc;
}

static int set_id(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->id = v;
    return runtime_id_ok(v) ? 0 : -EINVAL;
}

static int set_verbose(void *opaque, const char *v, const char **why)
{
    ((struct run_options *)opaque)->verbose = true;
    return 0;
}

static const struct cli_option options[] = {
    {"engine", "auto|soft|kvm", "who runs guest code; auto takes kvm if it has AMX", set_engine},
    {"cpu", "MODEL[,+F,-F]",
     "host (default), sapphirerapids, graniterapids, diamondrapids; features", set_cpu},
    {"cpus", "1..64", "virtual CPUs (1)", set_cpus},
    {"mem", "SIZE", "memory, 32M to 1024G; a number alone is MiB (512M)", set_memory},
    {"kernel", "FILE", "bzImage or vmlinux; else the newest that ./dev setup unpacked, or /boot's",
     set_kernel},
    {"initrd", "FILE", "initramfs; COMMAND's own files come on top of it", set_initrd},
    {"append", "TEXT", "more words for the kernel's command line; may be repeated", add_append},
    {"disk", "FILE[,ro]", "a virtio disk; may be repeated", add_disk},
    {"net", RUN_NET_FORM, "a network card on libslirp; forward ports of this host to the guest",
     set_net},
    {"vsock", RUN_VSOCK_FORM, "a vsock device; P is a Unix socket, or a directory for several VMs",
     set_vsock},
    {"serial", "stdio|null|file:FILE", "the guest's first serial port, the kernel's console",
     set_serial},
    {"add", "PATH", "a file or directory that COMMAND needs; may be repeated", add_path},
    {"lib", "DIR", "as --add, and COMMAND's shared libraries are looked for there", add_lib},
    {"env", "NAME[=VALUE]", "set or pass an environment variable; may be repeated", add_env},
    {"id", "ID", "what `uvirt ps` calls the VM: letters, digits, _ - and . (the process's number)",
     set_id},
    {"stats", NULL, "print what the run did when it has ended", set_stats},
    {"trace", "[dtxce]...[,FILE]",
     "soft engine: decoding, translation, exits, code changes, events, to stderr or FILE",
     set_trace},
    {"verbose", NULL, "show the kernel's console on stderr", set_verbose},
    {NULL, NULL, NULL, NULL},
};

/* Options that make devices are in a snapshot as they were given; a disk's has its full path there. */
static int keep_device(struct run_options *o, const char *arg, const char *next)
{
    static const char *const names[] = {"net", "vsock"};
    const char *name = arg + 2, *value;
    size_t len;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        len = strlen(names[i]);
        if (strncmp(arg, "--", 2) || strncmp(name, names[i], len))
            continue;
        value = name[len] == '=' ? name + len + 1 : !name[len] ? next : NULL;
        if (value && (strv_add(&o->devices, names[i]) || strv_add(&o->devices, value)))
            return -ENOMEM;
    }
    return 0;
}

int run_options_parse(int argc, char **argv, struct run_options *ret)
{
    int i;

    *ret = (struct run_options){.engine = "auto", .cpus = 1, .memory = 512ull << 20};
    i = cli_parse(argc, argv, USAGE, options, ret);
    if (i < 0)
        return i;
    for (int k = 1; k < i; k++)
        if (keep_device(ret, argv[k], k + 1 < i ? argv[k + 1] : NULL))
            return cli_error("out of memory"), -ENOMEM;
    if (i < argc)
        ret->command = argv + i;
    return 0;
}

void run_options_free(struct run_options *o)
{
    strv_free(&o->append);
    strv_free(&o->add);
    strv_free(&o->libs);
    strv_free(&o->env);
    strv_free(&o->devices);
    for (unsigned i = 0; i < o->nr_disks; i++)
        free(o->disks[i].path);
    run_net_free(&o->net);
    run_vsock_free(&o->vsock);
}

/*
 * Defaults, each for a reason:
 *   console=ttyS0      the serial port is the console
 *   panic=-1           a panic ends the VM at once
 *   8250.nr_uarts=1    there is one port: do not probe for more
 *   pci=off            there is no PCI: do not probe for it
 *   tsc=reliable       the virtual TSC needs no watchdog
 *   no_timer_check     nor does the virtual timer interrupt need a test
 *   random.trust_cpu=on, cryptomgr.notests: no waiting for entropy, no self-tests at boot
 *   mitigations=off    soft engine only: it does not speculate, so there is nothing to mitigate
 *   quiet              unless --verbose
 */
#define CMDLINE                                                                                    \
    "console=ttyS0 panic=-1 8250.nr_uarts=1 pci=off tsc=reliable no_timer_check "                  \
    "random.trust_cpu=on cryptomgr.notests"

char *run_cmdline(const struct run_options *o, bool soft)
{
    char *text = NULL, *more;

    if (asprintf(&text, "%s%s%s", CMDLINE, soft ? " mitigations=off" : "",
                 o->verbose || !o->command ? "" : " quiet") < 0)
        return NULL;
    for (size_t i = 0; i < o->append.n; i++) {
        int n = asprintf(&more, "%s %s", text, o->append.s[i]);

        free(text);
        if (n < 0)
            return NULL;
        text = more;
    }
    return text;
}
