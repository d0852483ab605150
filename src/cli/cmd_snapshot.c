// SPDX-License-Identifier: MIT
// uvirt snapshot: have a running VM write itself into a file, and put the file in place.

/*
 * The file is made here, beside its final name, and its descriptor goes to the VM, which writes and syncs it. Then it
 * gets its name. With --stop the VM stands still until we say so: there is always one that can go on, it or the file.
 */
#include "cli/cli.h"
#include "cli/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USAGE "uvirt snapshot [--stop] [--compress zstd|none] ID FILE"

struct options {
    bool stop, raw;
};

static char unfinished[PATH_MAX]; /* removed when a signal ends us */

static void on_signal(int sig)
{
    unlink(unfinished);
    _exit(128 + sig);
}

static int set_stop(void *opaque, const char *v, const char **why)
{
    ((struct options *)opaque)->stop = true;
    return 0;
}

static int set_compress(void *opaque, const char *v, const char **why)
{
    ((struct options *)opaque)->raw = !strcmp(v, "none");
    return !strcmp(v, "zstd") || !strcmp(v, "none") ? 0 : -EINVAL;
}

static const struct cli_option options[] = {
    {"stop", NULL, "end the VM when the file is there; it goes on in `uvirt restore`", set_stop},
    {"compress", "zstd|none", "how guest memory is packed (zstd)", set_compress},
    {NULL, NULL, NULL, NULL},
};

/* The name must be on the disk too. */
static int sync_dir(const char *file)
{
    char copy[PATH_MAX];
    int fd, rc;

    snprintf(copy, sizeof(copy), "%s", file);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = fsync(fd) && errno != EINVAL ? -errno : 0;
    close(fd);
    return rc;
}

/* Ask for it, and wait for the answer: 0, or an exit code after an error. */
static int save(int conn, const char *id, int fd, const struct options *o)
{
    char text[RUNTIME_MESSAGE_MAX];
    int rc =
        runtime_send(conn, fd, "snapshot%s%s", o->stop ? " stop" : "", o->raw ? "" : " compress");

    if (rc == 0)
        rc = runtime_receive(conn, -1, text, NULL);
    if (rc < 0)
        return cli_error("%s: %s", id, strerror(-rc));
    if (rc == 0)
        return cli_error("%s: the VM ended before it was saved", id);
    if (strncmp(text, "saved ", 6))
        return cli_error("%s: %s", id, strncmp(text, "error ", 6) ? text : text + 6);
    return 0;
}

static int put_in_place(int conn, const char *file, const struct options *o)
{
    char text[RUNTIME_MESSAGE_MAX];
    int rc;

    if (rename(unfinished, file) < 0)
        return cli_error("%s: %s", file, strerror(errno));
    rc = sync_dir(file);
    if (rc)
        return cli_error("%s: %s", file, strerror(-rc));
    if (o->stop) {
        runtime_send(conn, -1, "commit");
        while (runtime_receive(conn, -1, text, NULL) > 0)
            ; /* until it is gone */
    }
    return 0;
}

static int snapshot(int conn, const char *id, const char *file, const struct options *o)
{
    int fd, rc;

    if (snprintf(unfinished, sizeof(unfinished), "%s.XXXXXX", file) >= (int)sizeof(unfinished))
        return cli_error("%s: %s", file, strerror(ENAMETOOLONG));
    fd = mkostemp(unfinished, O_CLOEXEC); /* 0600: the guest's secrets are in it */
    if (fd < 0)
        return cli_error("%s: %s", file, strerror(errno));
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGHUP, on_signal);
    rc = save(conn, id, fd, o);
    close(fd);
    if (rc == 0)
        rc = put_in_place(conn, file, o);
    if (rc)
        unlink(unfinished);
    return rc;
}

int cmd_snapshot(int argc, char **argv)
{
    struct options o = {false};
    int i = cli_parse(argc, argv, USAGE, options, &o), conn, rc;

    if (i < 0)
        return EXIT_UVIRT_FAILED;
    if (argc - i != 2)
        return cli_error("snapshot needs an ID and a FILE (accepted: %s)", USAGE);
    conn = runtime_connect(argv[i]);
    if (conn < 0)
        return cli_error("%s: no such VM (uvirt ps lists them)", argv[i]);
    rc = snapshot(conn, argv[i], argv[i + 1], &o);
    close(conn);
    return rc;
}
