// SPDX-License-Identifier: MIT
// The interposed poll, select and epoll calls: sets with an AF_VSOCK socket go to vsock_poll.c and vsock_epoll.c.

/* Here are the definitions of what fortified programs call. */
#undef _FORTIFY_SOURCE

#include "preload/libc.h"
#include "preload/preload.h"
#include "preload/raw.h"
#include "preload/vsock.h"

#include <sys/mman.h>
#include <sys/select.h>

#define ON_STACK 64

#define SELECT_READ  (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_WRITE (POLLWRNORM | POLLWRBAND | POLLOUT | POLLERR)

PRELOAD_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
PRELOAD_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                               const sigset_t *mask, size_t size);

static const struct timespec *from_ms(int ms, struct timespec *t)
{
    *t = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};
    return ms < 0 ? NULL : t;
}

static bool any_of_ours(const struct pollfd *fds, nfds_t n)
{
    u64 tag;

    for (nfds_t i = 0; vsk_dir && i < n; i++) {
        if (vsk_peek(fds[i].fd, &tag))
            return true;
    }
    return false;
}

PRELOAD_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct timespec t;

    if (!any_of_ours(fds, n))
        return LIBC(poll)(fds, n, timeout);
    return (int)libc_done(vsk_poll(fds, n, from_ms(timeout, &t), NULL));
}

PRELOAD_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                         const sigset_t *mask)
{
    if (!any_of_ours(fds, n))
        return LIBC(ppoll)(fds, n, timeout, mask);
    return (int)libc_done(vsk_poll(fds, n, timeout, mask));
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    return size / sizeof(*fds) < n ? LIBC(__poll_chk)(fds, n, timeout, size)
                                   : poll(fds, n, timeout);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size)
{
    return size / sizeof(*fds) < n ? LIBC(__ppoll_chk)(fds, n, timeout, mask, size)
                                   : ppoll(fds, n, timeout, mask);
}

/* --- select --- */

/* The sets of select(), of (n) descriptors, which may be more than FD_SETSIZE. */
struct sets {
    int n;
    unsigned long *read, *write, *except;
};

#define WORD (8 * sizeof(unsigned long))

static bool has(const unsigned long *set, int fd)
{
    return set && set[(size_t)fd / WORD] >> ((size_t)fd % WORD) & 1;
}

static bool sets_have_ours(const struct sets *s)
{
    u64 tag;

    for (int fd = 0; vsk_dir && fd < s->n; fd++) {
        if ((has(s->read, fd) || has(s->write, fd) || has(s->except, fd)) && vsk_peek(fd, &tag))
            return true;
    }
    return false;
}

static int fill(const struct sets *s, struct pollfd *p)
{
    int count = 0;

    for (int fd = 0; fd < s->n; fd++) {
        int events = (has(s->read, fd) ? SELECT_READ : 0) | (has(s->write, fd) ? SELECT_WRITE : 0) |
                     (has(s->except, fd) ? POLLPRI : 0);

        if (events)
            p[count++] =
                (struct pollfd){.fd = fd, .events = (short)(events & ~(POLLHUP | POLLERR))};
    }
    return count;
}

/* Bits of what is to be reported, in the place of what was asked. */
static int report(const struct sets *s, const struct pollfd *p, int n)
{
    struct {
        unsigned long *set;
        int events;
    } kinds[] = {{s->read, SELECT_READ}, {s->write, SELECT_WRITE}, {s->except, POLLPRI}};
    int count = 0;

    for (int i = 0; i < n; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
            unsigned long bit = 1ul << ((size_t)p[i].fd % WORD);
            unsigned long *word = kinds[k].set ? &kinds[k].set[(size_t)p[i].fd / WORD] : NULL;

            if (!word || !(*word & bit))
                continue;
            if (p[i].revents & kinds[k].events)
                count++;
            else
                *word &= ~bit;
        }
    }
    return count;
}

static int select_any(const struct sets *s, const struct timespec *timeout, const sigset_t *mask)
{
    struct pollfd few[ON_STACK], *p = few;
    size_t size = (size_t)s->n * sizeof(few[0]);
    int n, rc;

    if (s->n > ON_STACK) {
        p = (void *)RAW(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);
        if ((unsigned long)p > -4096ul)
            return -ENOMEM;
    }
    n = fill(s, p);
    rc = vsk_poll(p, (nfds_t)n, timeout, mask);
    for (int i = 0; i < n && rc > 0; i++) {
        if (p[i].revents & POLLNVAL)
            rc = -EBADF;
    }
    if (rc >= 0)
        rc = report(s, p, n);
    if (s->n > ON_STACK)
        RAW(SYS_munmap, p, size);
    return rc;
}

PRELOAD_EXPORT int select(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
                          struct timeval *restrict timeout)
{
    const struct sets s = {n, (void *)r, (void *)w, (void *)e};
    struct timespec t;
    u64 start, spent, total;
    int rc;

    if (n <= 0 || !sets_have_ours(&s))
        return LIBC(select)(n, r, w, e, timeout);
    if (!timeout)
        return (int)libc_done(select_any(&s, NULL, NULL));
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
        return (int)libc_done(-EINVAL);
    start = vsk_now();
    t = (struct timespec){.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000,
                          .tv_nsec = timeout->tv_usec % 1000000 * 1000};
    rc = select_any(&s, &t, NULL);
    /* As Linux does: what is left of the time. */
    spent = (vsk_now() - start) / 1000;
    total = (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
    total = total > spent ? total - spent : 0;
    timeout->tv_sec = (time_t)(total / 1000000);
    timeout->tv_usec = (suseconds_t)(total % 1000000);
    return (int)libc_done(rc);
}

PRELOAD_EXPORT int pselect(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
                           const struct timespec *restrict timeout, const sigset_t *restrict mask)
{
    const struct sets s = {n, (void *)r, (void *)w, (void *)e};

    if (n <= 0 || !sets_have_ours(&s))
        return LIBC(pselect)(n, r, w, e, timeout, mask);
    return (int)libc_done(select_any(&s, timeout, mask));
}

/* --- epoll --- */

PRELOAD_EXPORT int epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    u64 tag;

    if (!vsk_peek(fd, &tag))
        return LIBC(epoll_ctl)(ep, op, fd, event);
    return (int)libc_done(vsk_epoll_ctl(ep, op, fd, event));
}

PRELOAD_EXPORT int epoll_wait(int ep, struct epoll_event *events, int max, int timeout)
{
    struct timespec t;

    if (!vsk_epoll_used())
        return LIBC(epoll_wait)(ep, events, max, timeout);
    return (int)libc_done(vsk_epoll_wait(ep, events, max, from_ms(timeout, &t), NULL));
}

PRELOAD_EXPORT int epoll_pwait(int ep, struct epoll_event *events, int max, int timeout,
                               const sigset_t *mask)
{
    struct timespec t;

    if (!vsk_epoll_used())
        return LIBC(epoll_pwait)(ep, events, max, timeout, mask);
    return (int)libc_done(vsk_epoll_wait(ep, events, max, from_ms(timeout, &t), mask));
}

PRELOAD_EXPORT int epoll_pwait2(int ep, struct epoll_event *events, int max,
                                const struct timespec *timeout, const sigset_t *mask)
{
    if (!vsk_epoll_used())
        return LIBC(epoll_pwait2)(ep, events, max, timeout, mask);
    return (int)libc_done(vsk_epoll_wait(ep, events, max, timeout, mask));
}
