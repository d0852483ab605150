// SPDX-License-Identifier: MIT
// A descriptor of the user's that is written to in pieces as large as it takes, and that no write ever waits for.
#pragma once

#include "base/types.h"

#include <sys/types.h>

/*
 * Its open file is shared with whoever has started us, so O_NONBLOCK is not ours to set. Pipes are opened anew, with
 * flags of our own; sockets have MSG_DONTWAIT; a file's write does not wait for anybody. All else, terminals above all,
 * gets at most PIPE_BUF bytes after POLLOUT.
 */
struct sink {
    int fd;
    int own; /* the pipe's other open file, or -1 */
    enum { SINK_OTHER, SINK_PIPE, SINK_SOCKET, SINK_FILE } kind;
};

void sink_open(struct sink *s, int fd);
void sink_close(struct sink *s);

/* After POLLOUT of (fd): as write(), but -errno; -EAGAIN: it was no more true. */
ssize_t sink_write(const struct sink *s, const void *data, size_t len);
