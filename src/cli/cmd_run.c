// SPDX-License-Identifier: MIT
// uvirt run: boot a kernel, run a command in it, end as the command ends.
#include "cli/engine.h"
#include "cli/kernels.h"
#include "cli/run_vm.h"
#include "cli/term.h"
#include "virtio/blk.h"
#include "virtio/rng.h"
#include "vmm/initramfs/pack.h"
#include "vmm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TAIL_LINES  12
#define DEFAULT_CID 3

/* The init program, from guest/meson.build. */
extern const u8 guest_init[], guest_init_end[];

void run_free(struct run *r)
{
    if (r->vm)
        vm_stop(r->vm);
    run_control_close(r->control);
    usernet_free(r->net);
    vm_vsock_stop(r->vsock);
    session_hang_up(r->session);
    vm_free(r->vm);
    vm_vsock_free(r->vsock);
    session_free(r->session);
    run_serial_close(&r->serial);
    blob_free(&r->kernel);
    blob_free(&r->initrd);
    blob_free(&r->own_initrd);
    free(r->cpuid);
    run_options_free(&r->o);
}

static double seconds_since(struct timespec t)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t.tv_sec) + (double)(now.tv_nsec - t.tv_nsec) / 1e9;
}

/* --- what to run --- */

/* The guest's environment: these of the host's variables, then --env. */
static int collect_env(const struct run_options *o, struct strv *env)
{
    static const char *const passed[] = {"TERM", "LANG", "LANGUAGE", "TZ", "COLORTERM", "NO_COLOR"};
    extern char **environ;
    char path[PATH_MAX];
    int rc;

    snprintf(path, sizeof(path), "PATH=%.3500s:%s", cli_host_path(), PACK_TOOLS);
    rc = strv_add(env, path);
    if (rc == 0)
        rc = strv_add(env, "HOME=/root");
    for (char **e = environ; *e && rc == 0; e++) {
        size_t len = strcspn(*e, "=");
        bool pass = !strncmp(*e, "LC_", 3);

        for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
            pass = pass || (strlen(passed[i]) == len && !memcmp(*e, passed[i], len));
        if (pass)
            rc = strv_add(env, *e);
    }
    for (size_t i = 0; i < o->env.n && rc == 0; i++)
        rc = strv_add(env, o->env.s[i]);
    return rc;
}

static int load_modules(struct run *r, struct modules *m)
{
    const char *names[6] = {"virtio_mmio", "vmw_vsock_virtio_transport", "virtio_rng"};
    unsigned n = 3;
    struct vmm_error err = {{0}};
    char dir[PATH_MAX];

    *m = (struct modules){0};
    if (kernels_modules(r->kernel_path, &r->kernel, dir))
        return 0; /* a kernel with all of them built in; if not, init will say so */
    if (r->o.nr_disks)
        names[n++] = "virtio_blk";
    if (r->o.net.user)
        names[n++] = "virtio_net";
    if (modules_load(dir, names, n, m, &err))
        return cli_error("%s", err.text);
    return 0;
}

static int pack(struct run *r, const char *cwd)
{
    struct vmm_error err = {{0}};
    struct modules modules;
    struct strv env = {0};
    struct pack_config cfg = {
        .command = r->command,
        .argv = r->o.command,
        .cwd = cwd,
        .env = &env,
        .add = &r->o.add,
        .libs = &r->o.libs,
        .path = cli_host_path(),
        .tty = r->tty,
        .errtty = r->errtty,
        .cols = 80,
        .rows = 24,
        .net = r->o.net.user,
        .modules = &modules,
        .init = guest_init,
        .init_size = (size_t)(guest_init_end - guest_init),
    };
    int rc = load_modules(r, &modules);

    term_size(STDOUT_FILENO, &cfg.cols, &cfg.rows);
    if (rc == 0 && collect_env(&r->o, &env))
        rc = cli_error("out of memory");
    if (rc == 0 && pack_build(&cfg, &r->own_initrd, &err)) {
        cli_error("%s", err.text);
        rc = EXIT_CANNOT_RUN;
    }
    strv_free(&env);
    modules_free(&modules);
    return rc;
}

static int open_files(struct run *r)
{
    int rc;

    if (r->o.kernel)
        snprintf(r->kernel_path, sizeof(r->kernel_path), "%s", r->o.kernel);
    else if (kernels_newest(r->kernel_path))
        return cli_error("no kernel: ./dev setup has unpacked none, and /boot has none "
                         "(accepted: --kernel FILE)");
    rc = blob_map(r->kernel_path, &r->kernel);
    if (rc)
        return cli_error("--kernel %s: %s", r->kernel_path, strerror(-rc));
    if (r->o.initrd) {
        rc = blob_map(r->o.initrd, &r->initrd);
        if (rc)
            return cli_error("--initrd %s: %s", r->o.initrd, strerror(-rc));
    }
    return 0;
}

static int prepare_command(struct run *r)
{
    char cwd[PATH_MAX];
    int rc;

    if (!r->o.command)
        return 0;
    if (!getcwd(cwd, sizeof(cwd)))
        return cli_error("the working directory: %s", strerror(errno));
    rc = cli_find_program(r->o.command[0], cwd, r->command);
    return rc ? rc : pack(r, cwd);
}

/* --- the machine --- */

static int create_vm(struct run *r)
{
    struct vmm_error err = {{0}};
    struct vm_config cfg = {
        .cpus = (unsigned)r->o.cpus,
        .memory = r->o.memory,
        .serial_output = run_serial_output,
        .serial_opaque = &r->serial,
    };

    r->be = engine_find(r->o.engine);
    cfg.backend = r->be;
    if (engine_cpuid(r->be, r->o.cpu, &r->cpuid, &err))
        return r->o.cpu ? cli_error("--cpu %s: %s", r->o.cpu, err.text)
                        : cli_error("--engine %s: %s", r->o.engine, err.text);
    cfg.cpuid = r->cpuid;
    if (vm_create(&cfg, &r->vm, &err))
        return cli_error("%s", err.text);
    if (vm_load_kernel(r->vm, &r->kernel, &err))
        return cli_error("--kernel %s: %s", r->kernel_path, err.text);
    return 0;
}

static int load_initrd(struct run *r)
{
    struct blob parts[2];
    struct vmm_error err = {{0}};
    unsigned n = 0;

    if (r->initrd.size)
        parts[n++] = r->initrd;
    if (r->own_initrd.size)
        parts[n++] = r->own_initrd;
    if (vm_load_initrd(r->vm, parts, n, &err) == 0) {
        blob_free(&r->kernel); /* all of it is in the guest's memory now */
        blob_free(&r->initrd);
        blob_free(&r->own_initrd);
        return 0;
    }
    if (r->o.initrd)
        return cli_error("--initrd %s: %s (--mem gives more)", r->o.initrd, err.text);
    return cli_error("the files for %s: %s (--mem gives more)", r->o.command[0], err.text);
}

static int add_device(struct run *r, int rc, struct virtio_device *d, const char *what)
{
    if (rc == 0) {
        rc = vm_add_virtio(r->vm, d);
        if (rc)
            virtio_device_free(d);
    }
    if (rc == -ENOSPC)
        return cli_error("%s: too many devices (accepted: %d of virtio, disks and all)", what,
                         BOARD_VIRTIO_MAX);
    return rc ? cli_error("%s: %s", what, strerror(-rc)) : 0;
}

static int add_disk(struct run *r, const struct run_disk *disk)
{
    struct virtio_blk_backend cfg = {.readonly = disk->readonly};
    struct virtio_device *d = NULL;
    char what[PATH_MAX + 16];
    int rc;

    snprintf(what, sizeof(what), "--disk %s", disk->path);
    cfg.fd = open(disk->path, (disk->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (cfg.fd < 0) {
        rc = errno;
        return cli_error("%s: %s%s", what, strerror(rc),
                         (rc == EACCES || rc == EROFS) && !disk->readonly
                             ? " (accepted: FILE,ro for a disk that is not written)"
                             : "");
    }
    rc = virtio_blk_create(&cfg, &d);
    if (rc)
        close(cfg.fd);
    if (rc == -EINVAL)
        return cli_error("%s: neither a file nor a block device", what);
    return add_device(r, rc, d, what);
}

static int add_net(struct run *r)
{
    const struct run_net *net = &r->o.net;
    struct usernet_options o = {net->restricted, net->forwards, net->nr_forwards};
    struct virtio_device *d = NULL;
    struct vmm_error err = {{0}};
    unsigned bad;
    int rc;

    if (usernet_create(&o, &r->net, &d, &err))
        return cli_error("--net: %s", err.text);
    rc = add_device(r, 0, d, "--net");
    if (rc == 0 && usernet_start(r->net, &vm_board(r->vm)->lock, &bad, &err))
        rc = cli_error("--net %s: %s", bad < net->nr_forwards ? net->words[bad] : "user", err.text);
    return rc;
}

static int add_vsock(struct run *r)
{
    const struct run_vsock *o = &r->o.vsock;
    struct vm_vsock_options options = {.cid = o->cid ? o->cid : DEFAULT_CID,
                                       .path = o->path,
                                       .marker = o->marker,
                                       .dump = o->dump};
    struct virtio_device *d = NULL;
    struct vmm_error err = {{0}};
    int rc;

    if (vm_vsock_create(r->vm, &options, &d, &r->vsock, &err))
        return cli_error("--vsock: %s", err.text);
    rc = add_device(r, 0, d, "--vsock");
    if (rc == 0 && r->o.command)
        rc = session_listen(r->session, vm_vsock_context(r->vsock));
    return rc < 0 ? cli_error("cannot connect to the guest: %s", strerror(-rc)) : rc;
}

int run_add_devices(struct run *r)
{
    struct virtio_device *d = NULL;
    int rc = 0;

    if (r->o.command || r->o.vsock.cid)
        rc = add_vsock(r);
    if (rc == 0) {
        rc = virtio_rng_create(&d);
        rc = add_device(r, rc, d, "virtio-rng");
    }
    for (unsigned i = 0; i < r->o.nr_disks && rc == 0; i++)
        rc = add_disk(r, &r->o.disks[i]);
    if (rc == 0 && r->o.net.user)
        rc = add_net(r);
    return rc;
}

/* --- running, and how it ended --- */

/*
 * What the console said about the end, if it is not on the screen already: a panic or init's
 * complaint with what follows, or just the last lines when nothing ended the guest in order.
 */
static void print_tail(const struct run *r, bool orderly)
{
    const char *p = r->serial.tail, *end = p + r->serial.tail_len, *from, *at;
    int lines = 0;

    if (r->serial.fd == STDERR_FILENO || r->serial.fd == STDOUT_FILENO)
        return;
    from = memmem(p, r->serial.tail_len, "Kernel panic", 12);
    at = memmem(p, r->serial.tail_len, "uvirt init:", 11);
    if (at && (!from || at < from))
        from = at;
    if (!from && orderly)
        return;
    if (!from) {
        for (from = end; from > p; from--)
            if (from[-1] == '\n' && ++lines > TAIL_LINES)
                break;
    }
    for (lines = 0; from < end && lines < TAIL_LINES; from++) {
        if (*from != '\r')
            fputc(*from, stderr);
        lines += *from == '\n';
    }
    if (from == end && end > p && end[-1] != '\n')
        fputc('\n', stderr);
}

static int guest_ended(struct run *r)
{
    struct vmm_error why = {{0}};
    enum vm_end end = vm_ended(r->vm, &why);

    if (!r->o.command && (end == VM_POWERED_OFF || end == VM_RESET))
        return 0;
    print_tail(r, end == VM_POWERED_OFF || end == VM_RESET);
    switch (end) {
    case VM_POWERED_OFF:
        return cli_error("the guest powered off before %s ended", r->o.command[0]);
    case VM_RESET:
        return cli_error("the guest restarted before %s ended: a panic, or a call of reboot",
                         r->o.command[0]);
    case VM_TRIPLE_FAULT:
        return cli_error("the guest ended with a triple fault");
    default:
        return cli_error("%s", why.text);
    }
}

static int result_code(struct run *r, const struct session_result *res)
{
    switch (res->how) {
    case SESSION_EXITED:
        return res->status;
    case SESSION_CANNOT_EXEC:
        cli_error("%s: %s", r->o.command[0], strerror(res->status));
        return res->status == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
    case SESSION_SIGNAL:
        return 128 + res->status;
    case SESSION_SUSPENDED:
        return EXIT_SUSPENDED;
    default:
        return guest_ended(r);
    }
}

int run_to_end(struct run *r)
{
    struct session_result res;
    int rc;

    session_run(r->session, r->vm, &res);
    vm_stop(r->vm);
    rc = result_code(r, &res);
    if (r->o.stats) {
        run_print_stats(r->vm, r->be, (unsigned)r->o.cpus, seconds_since(r->start));
        run_vsock_print_stats(r->vsock ? vm_vsock_context(r->vsock) : NULL);
    }
    return rc;
}

static int start(struct run *r)
{
    char *cmdline = run_cmdline(&r->o, r->be == &kvm_backend_soft);
    struct vmm_error err = {{0}};
    int rc = cmdline ? vm_start(r->vm, cmdline, &err) : -ENOMEM;

    free(cmdline);
    if (rc)
        return cli_error("%s%s", r->o.append.n ? "--append: " : "",
                         err.text[0] ? err.text : strerror(-rc));
    return 0;
}

static int run(struct run *r)
{
    struct session_config cfg = {
        .command = r->o.command != NULL,
        .tty = r->tty,
        .serial_input = !r->o.serial || !strcmp(r->o.serial, "stdio"),
    };
    int rc = open_files(r);

    if (rc == 0)
        rc = prepare_command(r);
    if (rc == 0)
        rc = run_serial_open(&r->serial, &r->o);
    if (rc == 0)
        rc = run_control_open(r, &cfg);
    if (rc)
        return rc;
    rc = session_create(&cfg, &r->session);
    if (rc)
        return cli_error("cannot connect to the guest: %s", strerror(-rc));
    rc = create_vm(r);
    if (rc == 0)
        rc = run_add_devices(r);
    if (rc == 0)
        rc = load_initrd(r);
    if (rc == 0)
        rc = start(r);
    if (rc)
        return rc;
    return run_to_end(r);
}

int cmd_run(int argc, char **argv)
{
    struct run *r = calloc(1, sizeof(*r));
    int rc;

    if (!r)
        return cli_error("out of memory");
    clock_gettime(CLOCK_MONOTONIC, &r->start);
    r->serial.fd = -1;
    if (run_options_parse(argc, argv, &r->o)) {
        run_options_free(&r->o);
        free(r);
        return EXIT_UVIRT_FAILED;
    }
    r->tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    r->errtty = r->tty && isatty(STDERR_FILENO);
    rc = run(r);
    run_free(r);
    free(r);
    return rc;
}
