// SPDX-License-Identifier: MIT
// uvirt restore: build the VM of a snapshot again and go on with it.
#include "cli/engine.h"
#include "cli/engine_check.h"
#include "cli/run_vm.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USAGE "uvirt restore [OPTIONS] FILE"

/* What this command line says, to be added to the options that are in the snapshot. */
struct given {
    struct strv args;
    unsigned nr_disks;
};

struct restore {
    struct run run; /* what `uvirt run` has */
    struct given given;
    struct strv args; /* the snapshot's options and the given ones: all that run.o points to */
    const char *path;
    struct blob image;
    struct snapshot_file file;
    struct run_config config;
    struct snapshot_plan plan;
    char *argv[2]; /* of the command, as far as we know it */
};

/* --- options --- */

static int keep(struct given *g, const char *name, const char *value)
{
    return strv_add(&g->args, name) || (value && strv_add(&g->args, value)) ? -ENOMEM : 0;
}

static int set_engine(void *opaque, const char *v, const char **why)
{
    return keep(opaque, "--engine", v);
}

static int set_serial(void *opaque, const char *v, const char **why)
{
    return keep(opaque, "--serial", v);
}

static int set_id(void *opaque, const char *v, const char **why)
{
    return keep(opaque, "--id", v);
}

static int set_stats(void *opaque, const char *v, const char **why)
{
    return keep(opaque, "--stats", NULL);
}

static int add_disk(void *opaque, const char *v, const char **why)
{
    ((struct given *)opaque)->nr_disks++;
    return keep(opaque, "--disk", v);
}

static const struct cli_option options[] = {
    {"engine", "auto|soft|kvm", "who runs guest code; auto takes kvm if it has AMX", set_engine},
    {"disk", "FILE[,ro]", "the disks are here now; give it once for each, in their order",
     add_disk},
    {"serial", "stdio|null|file:FILE", "the guest's first serial port", set_serial},
    {"id", "ID", "what `uvirt ps` calls the VM (the process's number)", set_id},
    {"stats", NULL, "print what the run did when it has ended", set_stats},
    {NULL, NULL, NULL, NULL},
};

/* The snapshot's options, with the given disks in place of its own, then the given options. */
static int make_options(struct restore *s)
{
    int rc = strv_add(&s->args, "run");

    for (u32 i = 0; i < s->config.nr_options && rc == 0; i++) {
        const char *option = s->config.options[i], *value = strchr(option, '=');
        char name[32];

        if (!value || (s->given.nr_disks && !strncmp(option, "disk=", 5)))
            continue;
        snprintf(name, sizeof(name), "--%.*s", (int)(value - option), option);
        rc = strv_add(&s->args, name);
        if (rc == 0)
            rc = strv_add(&s->args, value + 1);
    }
    for (size_t i = 0; i < s->given.args.n && rc == 0; i++)
        rc = strv_add(&s->args, s->given.args.s[i]);
    if (rc)
        return cli_error("out of memory");
    return run_options_parse((int)s->args.n, s->args.s, &s->run.o) ? EXIT_UVIRT_FAILED : 0;
}

/* --- the file --- */

static int open_file(struct restore *s)
{
    struct vmm_error err = {{0}};
    int rc = blob_map(s->path, &s->image);

    if (rc)
        return cli_error("%s: %s", s->path, strerror(-rc));
    if (snapshot_parse(&s->image, &s->file, &err) || run_config_load(&s->file, &s->config, &err) ||
        snapshot_plan(&s->file, &s->plan, &err))
        return cli_error("%s: %s", s->path, err.text);
    return 0;
}

/* A disk must be there and be as large as it was. One that was written since then is worth a word. */
static int check_disk(const struct restore *s, unsigned i)
{
    const struct run_config_disk *was = &s->config.disks[i];
    const char *path = s->run.o.disks[i].path;
    bool readonly = s->run.o.disks[i].readonly;
    struct run_config_disk now;
    int rc = run_disk_look(path, &now);

    if (rc)
        return cli_error(
            "%s: disk %s: %s (accepted: --disk FILE[,ro], once for each of its %u disks)", s->path,
            path, strerror(-rc), s->config.nr_disks);
    if (now.size != was->size)
        return cli_error("%s: disk %s: it has %llu bytes, and had %llu", s->path, path,
                         (unsigned long long)now.size, (unsigned long long)was->size);
    if (readonly != was->readonly)
        return cli_error("%s: disk %s: it is %s now, and was not (accepted: FILE%s)", s->path, path,
                         readonly ? "read-only" : "writable", readonly ? "" : ",ro");
    if (!s->given.nr_disks && now.written_ns > was->written_ns)
        fprintf(stderr, "uvirt: %s: disk %s was written after the snapshot\n", s->path, path);
    return 0;
}

static int check_disks(const struct restore *s)
{
    const struct run_options *o = &s->run.o;
    int rc = 0;

    if (o->nr_disks != s->config.nr_disks)
        return cli_error("%s: it has %u disks, and --disk was given for %u", s->path,
                         s->config.nr_disks, o->nr_disks);
    for (unsigned i = 0; i < o->nr_disks && rc == 0; i++)
        rc = check_disk(s, i);
    return rc;
}

/* --- the machine --- */

static int create_vm(struct restore *s)
{
    struct run *r = &s->run;
    struct vm_config cfg = {
        .cpus = s->plan.cpus,
        .memory = s->plan.memory,
        .cpu_cpuid = (const struct kvm_cpuid2 *const *)s->plan.cpuid,
        .serial_output = run_serial_output,
        .serial_opaque = &r->serial,
    };
    struct vmm_error err = {{0}};

    r->o.cpus = s->plan.cpus;
    r->o.memory = s->plan.memory;
    r->be = engine_find(r->o.engine);
    cfg.backend = r->be;
    if (engine_check(r->be, s->plan.cpuid[0], &err))
        return cli_error("%s: %s, which --engine %s does not have on this host", s->path, err.text,
                         r->be->name);
    return vm_create(&cfg, &r->vm, &err) ? cli_error("%s: %s", s->path, err.text) : 0;
}

/* The devices that were made must be those that were saved. */
static int check_devices(struct restore *s)
{
    struct board *b = vm_board(s->run.vm);

    if (b->nr_virtio != s->plan.nr_devices)
        return cli_error("%s: section machine 0: %u devices, and its options make %u", s->path,
                         s->plan.nr_devices, b->nr_virtio);
    for (unsigned i = 0; i < b->nr_virtio; i++) {
        u32 id = virtio_mmio_device(b->virtio[i].transport)->ops->id;

        if (id != s->plan.devices[i])
            return cli_error("%s: section device %u: a virtio device of type %u, and its options "
                             "make one of type %u",
                             s->path, i, s->plan.devices[i], id);
    }
    return 0;
}

static int load(struct restore *s)
{
    struct vmm_error err = {{0}};
    struct run *r = &s->run;
    struct state st;
    int rc;

    pthread_mutex_lock(&vm_board(r->vm)->lock);
    rc = snapshot_load_vm(r->vm, &s->file, &err);
    if (rc == 0)
        rc = snapshot_section_load(&s->file, SNAPSHOT_SESSION, 0, &st, &err);
    if (rc == 0) {
        session_state(r->session, &st);
        rc = snapshot_section_done(&st, SNAPSHOT_SESSION, 0, &err);
    }
    pthread_mutex_unlock(&vm_board(r->vm)->lock);
    if (rc)
        return cli_error("%s: %s", s->path, err.text);
    snapshot_file_free(&s->file);
    blob_free(&s->image);
    if (vm_run(r->vm, &err))
        return cli_error("%s", err.text);
    if (r->vsock)
        vm_vsock_restored(r->vsock);
    return 0;
}

static int restore(struct restore *s)
{
    struct run *r = &s->run;
    struct session_config cfg = {0};
    int rc = open_file(s);

    if (rc == 0)
        rc = make_options(s);
    if (rc == 0)
        rc = check_disks(s);
    if (rc)
        return rc;
    s->argv[0] = s->config.name;
    r->o.command = s->config.command ? s->argv : NULL;
    r->tty = s->config.tty;
    r->errtty = s->config.errtty;
    cfg.command = s->config.command;
    cfg.tty = r->tty && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    cfg.serial_input = !r->o.serial || !strcmp(r->o.serial, "stdio");
    snprintf(r->kernel_path, sizeof(r->kernel_path), "%s", s->config.name);
    rc = run_serial_open(&r->serial, &r->o);
    if (rc == 0)
        rc = run_control_open(r, &cfg);
    if (rc)
        return rc;
    rc = session_create(&cfg, &r->session);
    if (rc)
        return cli_error("cannot connect to the guest: %s", strerror(-rc));
    rc = create_vm(s);
    if (rc == 0)
        rc = run_add_devices(r);
    if (rc == 0)
        rc = check_devices(s);
    if (rc == 0)
        rc = load(s);
    return rc ? rc : run_to_end(r);
}

int cmd_restore(int argc, char **argv)
{
    struct restore *s = calloc(1, sizeof(*s));
    int i, rc = EXIT_UVIRT_FAILED;

    if (!s)
        return cli_error("out of memory");
    clock_gettime(CLOCK_MONOTONIC, &s->run.start);
    s->run.serial.fd = -1;
    i = cli_parse(argc, argv, USAGE, options, &s->given);
    if (i >= 0 && argc - i != 1) {
        cli_error("restore needs one FILE (accepted: %s)", USAGE);
    } else if (i >= 0) {
        s->path = argv[i];
        rc = restore(s);
    }
    run_free(&s->run);
    snapshot_plan_free(&s->plan);
    run_config_free(&s->config);
    snapshot_file_free(&s->file);
    blob_free(&s->image);
    strv_free(&s->args);
    strv_free(&s->given.args);
    free(s);
    return rc;
}
