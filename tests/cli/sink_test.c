// SPDX-License-Identifier: MIT
// Writes to a user's stdout: what it takes, and never a wait, whatever kind of file it is.
#include "cli/sink.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static char data[1 << 18];

/* Write until nothing fits, as nobody reads: all bytes. A write that waits is ended by SIGALRM. */
static size_t fill(const struct sink *s, ssize_t *last)
{
    size_t sum = 0;

    while ((*last = sink_write(s, data, sizeof(data))) > 0)
        sum += (size_t)*last;
    return sum;
}

int main(void)
{
    struct sink s;
    ssize_t n;
    int p[2], fd;

    alarm(60);
    signal(SIGPIPE, SIG_IGN);
    if (pipe(p))
        return 1;
    sink_open(&s, p[1]);
    ok(s.kind == SINK_PIPE && fill(&s, &n) == 65536 && n == -EAGAIN,
       "a pipe is filled in one go, and no more");
    ok(!(fcntl(p[1], F_GETFL) & O_NONBLOCK), "without a flag that others would see");
    ok(read(p[0], data, 8192) == 8192 && sink_write(&s, data, sizeof(data)) == 8192,
       "what is read fits again");
    close(p[0]);
    is_u64(-sink_write(&s, data, 1), EPIPE, "nobody reads it any more");
    sink_close(&s);
    close(p[1]);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, p))
        return 1;
    sink_open(&s, p[1]);
    ok(s.kind == SINK_SOCKET && fill(&s, &n) > 4096 && n == -EAGAIN, "a socket");
    close(p[0]);
    is_u64(-sink_write(&s, data, 1), EPIPE, "nobody reads that");
    sink_close(&s);
    close(p[1]);
    fd = open("/dev/null", O_WRONLY);
    sink_open(&s, fd);
    ok(s.kind == SINK_FILE && sink_write(&s, data, sizeof(data)) == sizeof(data),
       "/dev/null takes all");
    sink_close(&s);
    close(fd);
    fd = open("/dev/zero", O_WRONLY);
    sink_open(&s, fd);
    is_u64((unsigned long long)sink_write(&s, data, sizeof(data)), 4096,
           "anything else gets PIPE_BUF at a time");
    close(fd);
    return tap_done();
}
