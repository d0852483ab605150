// SPDX-License-Identifier: MIT
// Answers requests for captures of vsock packets.
#include "cli/dump.h"
#include "cli/cli.h"
#include "cli/runtime.h"
#include "vsock/capture.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_MS 1000

bool dump_answer(struct uvirt_vsock *v, int conn, const char *request)
{
    unsigned long snaplen;
    int rc;

    if (!v) {
        runtime_send(conn, -1,
                     "error it has no vsock device (accepted: a VM with COMMAND or --vsock)");
        return false;
    }
    if (strncmp(request, "dump ", 5) ||
        cli_number(request + 5, VSOCK_CAPTURE_HEADERS, VSOCK_CAPTURE_WHOLE, &snaplen)) {
        runtime_send(conn, -1, "error this version of uvirt does not know '%.100s'", request);
        return false;
    }
    rc = vsock_capture_attach(v, conn, (u32)snaplen);
    if (rc)
        runtime_send(conn, -1, "error %s", rc == -EBUSY ? "too many captures" : strerror(-rc));
    return rc == 0;
}

struct dump_service {
    struct uvirt_vsock *v;
    struct sockaddr_un addr;
    int listener, stop;
    pthread_t thread;
};

static void serve_one(struct dump_service *s)
{
    char text[RUNTIME_MESSAGE_MAX];
    int conn = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

    if (conn < 0)
        return;
    if (runtime_receive(conn, REQUEST_MS, text, NULL) <= 0 || !dump_answer(s->v, conn, text))
        close(conn);
}

static void *thread_main(void *opaque)
{
    struct dump_service *s = opaque;
    struct pollfd p[] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->stop, .events = POLLIN}};

    while (poll(p, 2, -1) < 0 || !p[1].revents)
        if (p[0].revents)
            serve_one(s);
    return NULL;
}

/* 0 or -errno. A socket file that is left over was the device's own: its name is ours now. */
static int listen_at(struct dump_service *s, const char *path)
{
    int n;

    s->addr.sun_family = AF_UNIX;
    n = snprintf(s->addr.sun_path, sizeof(s->addr.sun_path), "%s" DUMP_SUFFIX, path);
    if (n < 0 || (size_t)n >= sizeof(s->addr.sun_path))
        return -ENAMETOOLONG;
    s->stop = eventfd(0, EFD_CLOEXEC);
    s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->stop < 0 || s->listener < 0)
        return -errno;
    unlink(s->addr.sun_path);
    if (bind(s->listener, (struct sockaddr *)&s->addr, sizeof(s->addr)))
        return -errno;
    return listen(s->listener, 4) ? -errno : 0;
}

static void release(struct dump_service *s)
{
    if (s->listener >= 0)
        close(s->listener);
    if (s->stop >= 0)
        close(s->stop);
    free(s);
}

struct dump_service *dump_serve(struct uvirt_vsock *v, const char *path)
{
    struct dump_service *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    *s = (struct dump_service){.v = v, .listener = -1, .stop = -1};
    if (listen_at(s, path) || pthread_create(&s->thread, NULL, thread_main, s)) {
        release(s);
        return NULL;
    }
    return s;
}

void dump_stop(struct dump_service *s)
{
    u64 one = 1;

    if (!s)
        return;
    if (write(s->stop, &one, sizeof(one)) == sizeof(one))
        pthread_join(s->thread, NULL);
    unlink(s->addr.sun_path);
    release(s);
}
