// SPDX-License-Identifier: MIT
// The serial console of `uvirt run`: where its text goes, and its tail.
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int run_serial_open(struct run_serial *s, const struct run_options *o)
{
    const char *mode = o->serial;
    int fd;

    *s = (struct run_serial){.fd = -1};
    if (!mode)
        mode = !o->command || o->verbose ? "stdio" : "null";
    if (!strcmp(mode, "stdio")) {
        s->fd = o->command ? STDERR_FILENO : STDOUT_FILENO;
    } else if (!strncmp(mode, "file:", 5)) {
        fd = open(mode + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
        if (fd < 0)
            return cli_error("--serial %s: %s", mode, strerror(errno));
        s->fd = fd;
        s->owned = true;
    }
    return 0;
}

void run_serial_close(struct run_serial *s)
{
    if (s->owned)
        close(s->fd);
    s->fd = -1;
}

/* Bytes come one at a time: the older half goes when there is no room. */
static void keep_tail(struct run_serial *s, const char *data, size_t len)
{
    const size_t half = sizeof(s->tail) / 2;

    for (size_t i = 0; i < len; i++) {
        if (s->tail_len == sizeof(s->tail)) {
            memcpy(s->tail, s->tail + half, half);
            s->tail_len = half;
        }
        s->tail[s->tail_len++] = data[i];
    }
}

void run_serial_output(void *opaque, const void *data, size_t len)
{
    struct run_serial *s = opaque;
    const char *p = data;

    keep_tail(s, p, len);
    while (s->fd >= 0 && len) {
        ssize_t n = write(s->fd, p, len);

        if (n < 0 && errno != EINTR)
            break;
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
}
