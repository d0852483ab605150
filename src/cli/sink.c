// SPDX-License-Identifier: MIT
// Writing to pipes, sockets, files and terminals without waiting.
#include "cli/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NULL_DEVICE makedev(1, 3)

void sink_open(struct sink *s, int fd)
{
    char path[32];
    struct stat st;

    *s = (struct sink){.fd = fd, .own = -1};
    if (fstat(fd, &st))
        return;
    if (S_ISFIFO(st.st_mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        s->own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (s->own >= 0)
            s->kind = SINK_PIPE;
    } else if (S_ISSOCK(st.st_mode)) {
        s->kind = SINK_SOCKET;
    } else if (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev == NULL_DEVICE)) {
        s->kind = SINK_FILE;
    }
}

void sink_close(struct sink *s)
{
    if (s->own >= 0)
        close(s->own);
    s->own = -1;
    s->kind = SINK_OTHER;
}

ssize_t sink_write(const struct sink *s, const void *data, size_t len)
{
    ssize_t n;

    switch (s->kind) {
    case SINK_PIPE:
        n = write(s->own, data, len);
        break;
    case SINK_SOCKET:
        n = send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case SINK_FILE:
        n = write(s->fd, data, len);
        break;
    default:
        n = write(s->fd, data, len < PIPE_BUF ? len : PIPE_BUF);
        break;
    }
    return n < 0 ? -errno : n;
}
