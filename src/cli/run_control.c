// SPDX-License-Identifier: MIT
// The running VM's end of its control socket: info, snapshot, stop, dump.

/*
 * Everything happens in the session's thread, one connection at a time; its caller is this user's own program
 * (runtime.h), so waiting a second for its request is no hardship. A connection that asked for the end is kept open
 * until the process is gone: that is how its caller learns of it.
 */
#include "cli/dump.h"
#include "cli/run_vm.h"
#include "cli/runtime.h"
#include "vmm/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MS 1000
#define COMMIT_MS  60000 /* the caller renames a file in between */

struct run_control {
    struct run *run;
    int fd;
    int last; /* the connection that hears of our end, or -1 */
    char path[PATH_MAX];
};

static void info(struct run_control *c, int conn)
{
    const struct run *r = c->run;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    runtime_send(conn, -1,
                 "pid %ld\ncpus %lu\nmemory %llu\nengine %s\nseconds %lld\ncommand %.1000s\n",
                 (long)getpid(), r->o.cpus, (unsigned long long)r->o.memory >> 20, r->be->name,
                 (long long)(now.tv_sec - r->start.tv_sec),
                 r->o.command ? r->o.command[0] : "(serial console)");
}

/* The caller has put the file in place, or has given up: true for the first. */
static bool committed(int conn)
{
    char text[RUNTIME_MESSAGE_MAX];

    return runtime_receive(conn, COMMIT_MS, text, NULL) > 0 && !strcmp(text, "commit");
}

static void snapshot(struct run_control *c, int *conn, const char *request, int fd)
{
    bool stop = strstr(request, " stop") != NULL, compress = strstr(request, " compress") != NULL;
    struct vmm_error err = {{0}};
    off_t size;

    if (fd < 0) {
        runtime_send(*conn, -1, "error no file came with the request");
        return;
    }
    if (run_snapshot_save(c->run, fd, compress, &err)) {
        runtime_send(*conn, -1, "error %s", err.text);
        return;
    }
    size = lseek(fd, 0, SEEK_END);
    if (!stop)
        vm_resume(c->run->vm);
    runtime_send(*conn, -1, "saved %lld", (long long)size);
    if (!stop)
        return;
    if (!committed(*conn)) {
        vm_resume(c->run->vm);
        return;
    }
    session_suspend(c->run->session);
    c->last = *conn;
    *conn = -1;
}

static void stop(struct run_control *c, int *conn, const char *request)
{
    unsigned seconds = (unsigned)strtoul(request + strlen("stop"), NULL, 10);

    runtime_send(*conn, -1, "stopping");
    session_stop(c->run->session, seconds);
    if (c->last >= 0)
        return;
    c->last = *conn;
    *conn = -1;
}

static void dump(struct run_control *c, int *conn, const char *request)
{
    struct uvirt_vsock *v = c->run->vsock ? vm_vsock_context(c->run->vsock) : NULL;

    if (dump_answer(v, *conn, request))
        *conn = -1;
}

static void serve(void *opaque)
{
    struct run_control *c = opaque;
    char text[RUNTIME_MESSAGE_MAX];
    int conn = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC), fd = -1;

    if (conn < 0)
        return;
    if (runtime_receive(conn, REQUEST_MS, text, &fd) > 0) {
        if (!strcmp(text, "info"))
            info(c, conn);
        else if (!strncmp(text, "snapshot", 8))
            snapshot(c, &conn, text, fd);
        else if (!strncmp(text, "stop", 4))
            stop(c, &conn, text);
        else if (!strncmp(text, "dump ", 5))
            dump(c, &conn, text);
        else
            runtime_send(conn, -1, "error this version of uvirt does not know '%.100s'", text);
    }
    if (fd >= 0)
        close(fd);
    if (conn >= 0)
        close(conn);
}

int run_control_open(struct run *r, struct session_config *cfg)
{
    struct run_control *c = calloc(1, sizeof(*c));
    char why[256] = "out of memory";
    int rc = -ENOMEM;

    if (c) {
        *c = (struct run_control){.run = r, .last = -1};
        c->fd = rc = runtime_listen(r->o.id, c->path, why);
    }
    if (rc < 0) {
        free(c);
        return r->o.id ? cli_error("--id %s: %s", r->o.id, why) : 0;
    }
    cfg->control = serve;
    cfg->control_opaque = c;
    cfg->control_fd = c->fd;
    r->control = c;
    return 0;
}

void run_control_close(struct run_control *c)
{
    if (!c)
        return;
    unlink(c->path);
    close(c->fd);
    if (c->last >= 0)
        close(c->last);
    free(c);
}
