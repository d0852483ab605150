// SPDX-License-Identifier: MIT
// uvirt vsock-device: a vsock device for other VMMs, over vhost-user.
#include "cli/cli.h"
#include "cli/dump.h"
#include "cli/run_vsock.h"
#include "vhost/backend.h"
#include "vhost/memory.h"
#include "virtio/vsock.h"
#include "vsock/transport/unix.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char usage[] =
    "uvirt vsock-device --socket S --cid N --path P [--framing eom|marker] [--stats] [--verbose]";

struct options {
    const char *socket, *path;
    unsigned long cid;
    bool marker, stats, verbose;
};

static int set_socket(void *opaque, const char *value, const char **why)
{
    if (!*value || strlen(value) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        *why = "a Unix socket's name has 1 to 107 bytes";
        return -EINVAL;
    }
    ((struct options *)opaque)->socket = value;
    return 0;
}

static int set_cid(void *opaque, const char *value, const char **why)
{
    return cli_number(value, 3, UINT32_MAX - 1, &((struct options *)opaque)->cid);
}

static int set_path(void *opaque, const char *value, const char **why)
{
    ((struct options *)opaque)->path = value;
    return *value ? 0 : -EINVAL;
}

static int set_framing(void *opaque, const char *value, const char **why)
{
    struct options *o = opaque;

    o->marker = !strcmp(value, "marker");
    return o->marker || !strcmp(value, "eom") ? 0 : -EINVAL;
}

static int set_stats(void *opaque, const char *value, const char **why)
{
    ((struct options *)opaque)->stats = true;
    return 0;
}

static int set_verbose(void *opaque, const char *value, const char **why)
{
    ((struct options *)opaque)->verbose = true;
    return 0;
}

static const struct cli_option options[] = {
    {"socket", "S", "listen for the VMM at this Unix socket", set_socket},
    {"cid", "3 to 4294967294", "the guest's CID", set_cid},
    {"path", "P", "the guest's ports on the host: sockets P and P_PORT, or below the directory P",
     set_path},
    {"framing", "eom|marker", "how records travel (default eom, the standard's)", set_framing},
    {"stats", NULL, "print counters of all connections at the end", set_stats},
    {"verbose", NULL, "say when a VMM comes and goes", set_verbose},
    {0},
};

struct device {
    const struct options *o;
    struct uvirt_vsock *host;
    struct vsock_unix *bridge;
    struct vhost_backend *_Atomic backend;
};

/* The bridge has something for the guest. */
static void pump(void *opaque)
{
    struct vhost_backend *b = ((struct device *)opaque)->backend;

    if (b)
        vhost_backend_run(b);
}

static void connected(void *opaque)
{
    const struct options *o = ((struct device *)opaque)->o;

    if (o->verbose)
        fprintf(stderr, "uvirt: %s: a front end has connected\n", o->socket);
}

static void gone(void *opaque, const char *why)
{
    const struct options *o = ((struct device *)opaque)->o;

    if (why)
        fprintf(stderr, "uvirt: %s: disconnected a front end: %s\n", o->socket, why);
    else if (o->verbose)
        fprintf(stderr, "uvirt: %s: the front end has gone\n", o->socket);
}

/* A front end may cut its memory short while we use it: that costs it its data, not us. */
static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    if (!vhost_memory_mend(info->si_addr))
        signal(SIGBUS, SIG_DFL); /* ours after all; it happens again at once */
}

/* A descriptor that is readable once the program is to end, or -errno. */
static int catch_signals(void)
{
    struct sigaction bus = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigaction(SIGBUS, &bus, NULL) || sigprocmask(SIG_BLOCK, &set, NULL))
        return -errno;
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* A socket file that nobody listens at is left over from a device that was killed. */
static bool is_stale(const struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    bool yes;

    if (fd < 0)
        return false;
    yes = !lstat(a->sun_path, &st) && S_ISSOCK(st.st_mode) &&
          connect(fd, (const struct sockaddr *)a, sizeof(*a)) && errno == ECONNREFUSED;
    close(fd);
    return yes;
}

/* Listen at (path); a stale socket file is replaced. The socket, or -errno. */
static int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

    if (fd < 0)
        return -errno;
    strcpy(a.sun_path, path);
    rc = bind(fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
    if (rc == -EADDRINUSE && is_stale(&a) && !unlink(path))
        rc = bind(fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
    if (!rc && listen(fd, 8))
        rc = -errno;
    if (rc) {
        close(fd);
        return rc;
    }
    return fd;
}

static int create_backend(struct device *d)
{
    struct virtio_vsock_options dev = {.guest_cid = d->o->cid,
                                       .marker = d->o->marker,
                                       .kick = vsock_unix_kick,
                                       .opaque = d->bridge};
    struct vhost_backend_config config = {
        .pump = virtio_vsock_pump, .connected = connected, .gone = gone, .opaque = d};
    struct vhost_backend *b;
    int rc = virtio_vsock_create(d->host, &dev, &config.dev);

    if (rc)
        return rc;
    rc = vhost_backend_create(&config, &b);
    if (rc)
        virtio_device_free(config.dev);
    else
        d->backend = b;
    return rc;
}

/* With the listener and signals in place: everything else, until a signal. The exit code. */
static int serve(const struct options *o, int listener, int stop)
{
    struct uvirt_vsock_config config = {
        .size = sizeof(config), .cid = VMADDR_CID_HOST, .privileged = true, .marker = o->marker};
    struct device d = {.o = o};
    struct vsock_unix_config bridge = {
        .guest_cid = (u32)o->cid, .path = o->path, .marker = o->marker, .pump = pump, .opaque = &d};
    char why[VSOCK_UNIX_WHY];
    struct dump_service *dumps;
    int rc, code = EXIT_UVIRT_FAILED;

    if (uvirt_vsock_create(&config, &d.host))
        return cli_error("vsock-device: %s", strerror(errno));
    if (vsock_unix_create(d.host, &bridge, why, &d.bridge)) {
        cli_error("vsock-device: --path: %s", why);
        goto out_host;
    }
    rc = create_backend(&d);
    if (rc) {
        cli_error("vsock-device: %s", strerror(-rc));
        goto out_bridge;
    }
    dumps = dump_serve(d.host, o->socket);
    rc = vhost_backend_serve(d.backend, listener, stop);
    if (rc)
        cli_error("vsock-device: %s: %s", o->socket, strerror(-rc));
    else
        code = 0;
    if (o->stats)
        run_vsock_print_stats(d.host);
    dump_stop(dumps);
out_bridge:
    vsock_unix_stop(d.bridge);
    vhost_backend_free(d.backend);
    vsock_unix_free(d.bridge);
out_host:
    uvirt_vsock_free(d.host);
    return code;
}

int cmd_vsock_device(int argc, char **argv)
{
    struct options o = {0};
    int at = cli_parse(argc, argv, usage, options, &o), listener, stop, code;

    if (at < 0)
        return EXIT_UVIRT_FAILED;
    if (at < argc)
        return cli_error("vsock-device: %s: what is this? (accepted: %s)", argv[at], usage);
    if (!o.socket || !o.cid || !o.path)
        return cli_error("vsock-device: %s is missing (accepted: %s)",
                         !o.socket ? "--socket"
                         : !o.cid  ? "--cid"
                                   : "--path",
                         usage);
    stop = catch_signals();
    if (stop < 0)
        return cli_error("vsock-device: signals: %s", strerror(-stop));
    listener = listen_at(o.socket);
    if (listener < 0)
        return cli_error("vsock-device: --socket %s: %s", o.socket,
                         listener == -EADDRINUSE ? "somebody listens there, or it is no socket"
                                                 : strerror(-listener));
    code = serve(&o, listener, stop);
    unlink(o.socket);
    close(listener);
    close(stop);
    return code;
}
