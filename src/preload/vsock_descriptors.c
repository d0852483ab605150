// SPDX-License-Identifier: MIT
// The interposed libc calls that make descriptors out of others, or close them by another way than close().

/* The headers would give fcntl() the name of fcntl64(), which is defined here too. */
#undef _FILE_OFFSET_BITS

#include "preload/libc.h"
#include "preload/preload.h"
#include "preload/raw.h"
#include "preload/vsock.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

PRELOAD_EXPORT int dup(int fd)
{
    int rc = LIBC(dup)(fd);

    vsk_note(rc);
    return rc;
}

/* A descriptor that something else than close() closes: what is to be done afterwards. */
struct closing {
    struct sockaddr_un addr;
    bool bound;
};

static void before_close(int fd, struct closing *c)
{
    u64 tag;

    c->bound = false;
    if (!vsk_dir || fd < 0)
        return;
    vsk_epoll_forget(fd, fd);
    if (!vsk_peek(fd, &tag))
        return;
    c->bound = vsk_own_path(fd, &c->addr);
    vsk_stale(fd);
}

static void after_close(const struct closing *c)
{
    if (c->bound)
        vsk_remove_dead(&c->addr);
}

PRELOAD_EXPORT int dup3(int fd, int to, int flags)
{
    struct closing c;
    int rc;

    if (!vsk_dir || fd == to || RAW(SYS_fcntl, fd, F_GETFD) < 0) /* then it closes nothing */
        return LIBC(dup3)(fd, to, flags);
    before_close(to, &c);
    rc = LIBC(dup3)(fd, to, flags);
    vsk_note(rc);
    after_close(&c);
    return rc;
}

PRELOAD_EXPORT int dup2(int fd, int to)
{
    return fd == to ? LIBC(dup2)(fd, to) : dup3(fd, to, 0);
}

PRELOAD_EXPORT int fcntl(int fd, int command, ...)
{
    va_list ap;
    void *arg;
    int rc;

    va_start(ap, command);
    arg = va_arg(ap, void *);
    va_end(ap);
    rc = LIBC(fcntl64)(fd, command, arg);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        vsk_note(rc);
    return rc;
}

PRELOAD_EXPORT int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));

static void close_ours(unsigned first, unsigned last)
{
    u64 tag;

    vsk_epoll_forget((int)first, (int)last);
    for (unsigned fd = first; fd <= last && fd < VSK_CACHED; fd++) {
        if (vsk_peek((int)fd, &tag) && vsk_get((int)fd, &tag))
            vsk_close((int)fd);
    }
}

PRELOAD_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (vsk_dir && !(flags & CLOSE_RANGE_CLOEXEC) && first <= last && first <= INT_MAX)
        close_ours(first, last < INT_MAX ? last : INT_MAX);
    return LIBC(close_range)(first, last, flags);
}

PRELOAD_EXPORT void closefrom(int first)
{
    if (vsk_dir)
        close_ours(first > 0 ? (unsigned)first : 0, INT_MAX);
    LIBC(closefrom)(first);
}

PRELOAD_EXPORT int fclose(FILE *f)
{
    int saved = errno, fd = vsk_dir ? fileno(f) : -1, rc;
    struct closing c;

    errno = saved;
    before_close(fd, &c);
    rc = LIBC(fclose)(f);
    saved = errno;
    after_close(&c);
    errno = saved;
    return rc;
}
