// SPDX-License-Identifier: MIT
// uvirt vsock-dump: a capture of the vsock packets of a VM or device that runs.
#include "cli/cli.h"
#include "cli/dump.h"
#include "cli/runtime.h"
#include "vsock/capture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define USAGE     "uvirt vsock-dump [--write FILE] [--count N] [--snaplen BYTES] ID|SOCKET"
#define COUNT_MAX 1000000000000ul

struct dump {
    const char *target, *path;
    unsigned long count, snaplen;

    int conn, signals, error;
    FILE *f;
    unsigned long packets;
    u64 dropped;
    u8 record[sizeof(u64) + 16 + VSOCK_CAPTURE_WHOLE];
};

static int set_write(void *opaque, const char *v, const char **why)
{
    ((struct dump *)opaque)->path = v;
    return *v ? 0 : -EINVAL;
}

static int set_count(void *opaque, const char *v, const char **why)
{
    return cli_number(v, 1, COUNT_MAX, &((struct dump *)opaque)->count);
}

static int set_snaplen(void *opaque, const char *v, const char **why)
{
    return cli_number(v, VSOCK_CAPTURE_HEADERS, VSOCK_CAPTURE_WHOLE,
                      &((struct dump *)opaque)->snaplen);
}

static const struct cli_option options[] = {
    {"write", "FILE", "where the capture goes (-: standard output, the default)", set_write},
    {"count", "N", "end after N packets", set_count},
    {"snaplen", "BYTES",
     "keep so much of each packet, 76 (its headers) to 65612 (everything, the default)",
     set_snaplen},
    {NULL, NULL, NULL, NULL},
};

/* --- the VM's, or the device's, end --- */

static int connect_device(const char *socket_path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s" DUMP_SUFFIX, socket_path), fd, rc;

    if (n < 0 || (size_t)n >= sizeof(a.sun_path))
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    rc = -errno;
    close(fd);
    return rc;
}

/* 0, with pcap's file header in (record), or an exit code after an error. */
static int ask(struct dump *d, size_t *len)
{
    bool device = strchr(d->target, '/');
    ssize_t n;
    int rc;

    d->conn = device ? connect_device(d->target) : runtime_connect(d->target);
    if (d->conn < 0 && device)
        return cli_error("%s: no vsock-device listens there: %s (accepted: an ID of uvirt ps, or "
                         "what --socket of a "
                         "uvirt vsock-device says, with a /)",
                         d->target, strerror(-d->conn));
    if (d->conn < 0)
        return cli_error("%s: no such VM (accepted: an ID of uvirt ps, or the socket of a uvirt "
                         "vsock-device, with a /)",
                         d->target);
    rc = runtime_send(d->conn, -1, "dump %lu", d->snaplen);
    n = rc ? rc : recv(d->conn, d->record, sizeof(d->record) - 1, 0);
    if (n <= 0)
        return cli_error("%s: %s", d->target, n ? strerror(rc ? -rc : errno) : "it ended");
    d->record[n] = 0;
    if (!strncmp((char *)d->record, "error ", 6))
        return cli_error("%s: %s", d->target, (char *)d->record + 6);
    *len = (size_t)n;
    return 0;
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int open_file(struct dump *d)
{
    if (d->path && strcmp(d->path, "-")) {
        d->f = fopen(d->path, "we");
        return d->f ? 0 : cli_error("--write %s: %s", d->path, strerror(errno));
    }
    if (isatty(STDOUT_FILENO))
        return cli_error("standard output is a terminal (accepted: --write FILE, or a pipe)");
    d->path = "standard output";
    d->f = stdout;
    return 0;
}

/* --- the capture --- */

/* What cannot be written ends the capture; (error) keeps why. */
static void put(struct dump *d, const void *data, size_t len)
{
    if (fwrite(data, 1, len, d->f) != len)
        d->error = errno;
}

static void flush(struct dump *d)
{
    if (fflush(d->f))
        d->error = errno;
}

/* A record has come. False: it was the last one that is wanted. */
static bool take(struct dump *d, size_t len)
{
    if (len <= sizeof(d->dropped))
        return true;
    memcpy(&d->dropped, d->record, sizeof(d->dropped));
    put(d, d->record + sizeof(d->dropped), len - sizeof(d->dropped));
    return ++d->packets != d->count;
}

/* Until a signal, the other's end, the count, or a file that takes no more. */
static void carry(struct dump *d)
{
    struct pollfd p[] = {{.fd = d->conn, .events = POLLIN}, {.fd = d->signals, .events = POLLIN}};
    bool more = true;

    while (more && !d->error) {
        ssize_t n = recv(d->conn, d->record, sizeof(d->record), MSG_DONTWAIT);

        if (n > 0) {
            more = take(d, (size_t)n);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            more = false;
        } else {
            flush(d); /* whoever reads a pipe sees what there is */
            p[0].revents = p[1].revents = 0;
            poll(p, 2, -1);
            more = !p[1].revents;
        }
    }
}

static int dump(struct dump *d)
{
    size_t len = 0;
    int rc = ask(d, &len);

    if (rc == 0)
        rc = open_file(d);
    if (rc)
        return rc;
    put(d, d->record, len);
    flush(d);
    carry(d);
    if (!d->error)
        flush(d);
    if (d->error && d->error != EPIPE) /* a reader that has seen enough is fine */
        rc = cli_error("%s: %s", d->path, strerror(d->error));
    fprintf(stderr, "uvirt: %lu packets, %llu dropped\n", d->packets,
            (unsigned long long)d->dropped);
    return rc;
}

int cmd_vsock_dump(int argc, char **argv)
{
    struct dump *d = calloc(1, sizeof(*d));
    int i, rc;

    if (!d)
        return cli_error("out of memory");
    d->conn = -1;
    d->snaplen = VSOCK_CAPTURE_WHOLE;
    d->signals = open_signals();
    i = cli_parse(argc, argv, USAGE, options, d);
    if (i < 0) {
        rc = EXIT_UVIRT_FAILED;
    } else if (argc - i != 1) {
        rc = cli_error("vsock-dump needs one ID or SOCKET (accepted: %s)", USAGE);
    } else {
        d->target = argv[i];
        rc = dump(d);
    }
    if (d->conn >= 0)
        close(d->conn);
    if (d->f && d->f != stdout)
        fclose(d->f);
    if (d->signals >= 0)
        close(d->signals);
    free(d);
    return rc;
}
