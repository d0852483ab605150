// SPDX-License-Identifier: MIT
// poll() where the kernel's answer for a Unix socket is not AF_VSOCK's.
#include "preload/raw.h"
#include "preload/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Where they differ:
 *
 *  - a connect() to a guest has not ended while the Unix socket is connected already;
 *  - a Unix socket that was never connected says POLLHUP, a vsock does not;
 *  - SO_RCVLOWAT is a matter of read() on a Unix socket, and of poll() too on a vsock;
 *  - the error queue is our own;
 *  - POLLERR when the peer closes with data unread.
 *
 * When the kernel would report at once, again and again, what is not to be reported, wait for
 * a change in an epoll set with edges (wait_for_change).
 */

#define ON_STACK 64

#define SAYS_READ  (POLLIN | POLLRDNORM)
#define SAYS_WRITE (POLLOUT | POLLWRNORM)

short vsk_poll_ask(u64 tag, short events)
{
    if (tag & VSK_CONNECTING)
        return POLLIN;
    return tag & VSK_LOWAT ? (short)(events | POLLRDHUP) : events;
}

static int pending_error(int fd)
{
    struct vsk_local *l;
    vsk_saved saved;
    int error;

    vsk_lock(&saved);
    l = vsk_local(fd, false);
    error = l ? l->error : 0;
    vsk_unlock(&saved);
    return error;
}

short vsk_poll_own(int fd)
{
    return vsk_zc_pending(fd) || (vsk_had_connecting && pending_error(fd)) ? POLLERR : 0;
}

static bool below_lowat(int fd)
{
    int lowat = 1;
    socklen_t len = sizeof(lowat);

    RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, &len);
    return vsk_readable(fd) < lowat;
}

/* The kernel's answer for the state that (fd) has now. */
static short ask_now(int fd, u64 tag, short events)
{
    struct pollfd p = {.fd = fd, .events = vsk_poll_ask(tag, events)};

    RAW(SYS_poll, &p, 1, 0);
    return p.revents;
}

bool vsk_poll_fix(int fd, short events, short *revents)
{
    short r = *revents;
    int error = 0;
    socklen_t len = sizeof(error);
    u64 tag;

    if (!vsk_peek(fd, &tag))
        return false;
    if (tag & VSK_CONNECTED && !(tag & VSK_LOWAT) && !vsk_had_zerocopy && !(r & POLLERR)) {
        *revents = r & ~POLLWRBAND; /* nothing else can be wrong: no need to ask */
        return false;
    }
    if (!vsk_get(fd, &tag))
        return false;
    if (tag & VSK_CONNECTING) {
        if (vsk_finish_later(fd, &tag) == -EAGAIN) {
            *revents = 0;
            return r;
        }
        if (!vsk_get(fd, &tag))
            return false;
        r = ask_now(fd, tag, events);
    }
    if (!(tag & (VSK_CONNECTED | VSK_LISTEN)))
        r = (short)((r & ~POLLHUP) | (events & SAYS_WRITE));
    if (r & POLLERR && tag & VSK_CONNECTED) {
        RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &len);
        r &= ~POLLERR;
    }
    if (tag & VSK_LOWAT && r & SAYS_READ && !(r & (POLLRDHUP | POLLHUP)) && below_lowat(fd))
        r &= ~SAYS_READ;
    r &= ~POLLWRBAND;
    r |= vsk_poll_own(fd);
    r &= events | POLLERR | POLLHUP | POLLNVAL;
    if (*revents && !r) {
        *revents = 0;
        return true;
    }
    *revents = r;
    return false;
}

/* --- the call --- */

struct wait {
    struct pollfd *fds, *asked; /* what the program wants, what the kernel is asked for */
    nfds_t n;
    const sigset_t *mask;
    u64 until; /* ns; UINT64_MAX: no end */
    u64 end;   /* the same, or the time of a connect() before it */
};

static const struct timespec *left(u64 until, struct timespec *t)
{
    u64 now;

    if (until == UINT64_MAX)
        return NULL;
    now = vsk_now();
    now = until > now ? until - now : 0;
    *t = (struct timespec){.tv_sec = (time_t)(now / 1000000000),
                           .tv_nsec = (long)(now % 1000000000)};
    return t;
}

/* Sleep until something changes at one of the descriptors, none of which has to be reported. */
static int wait_for_change(const struct wait *w)
{
    int ep = (int)RAW(SYS_epoll_create1, EPOLL_CLOEXEC);
    struct epoll_event e;
    struct timespec t;
    long rc = 0;

    if (ep < 0)
        return ep;
    for (nfds_t i = 0; i < w->n; i++) {
        e = (struct epoll_event){.events = (u32)w->asked[i].events | EPOLLRDHUP | EPOLLET};
        if (w->asked[i].fd >= 0)
            RAW(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, w->asked[i].fd, &e);
    }
    /* The first time, each tells what is there already; a change since then is not lost by it. */
    for (nfds_t i = 0; i < w->n && RAW(SYS_epoll_pwait, ep, &e, 1, 0, NULL, 0) > 0; i++)
        ;
    rc = RAW(SYS_ppoll, w->asked, w->n, &(struct timespec){0}, NULL, 0);
    for (nfds_t i = 0; rc > 0 && i < w->n; i++) {
        if (w->asked[i].revents &&
            !vsk_poll_fix(w->asked[i].fd, w->fds[i].events, &w->asked[i].revents))
            rc = -1;
    }
    if (rc >= 0) {
        struct pollfd p = {.fd = ep, .events = POLLIN};

        rc = RAW(SYS_ppoll, &p, 1, left(w->end, &t), w->mask, 8);
    }
    RAW(SYS_close, ep);
    return rc == -EINTR ? -EINTR : 0;
}

/* One look: the number of descriptors with something to say, *quiet: some had what is not said. */
static int look(struct wait *w, bool *quiet)
{
    bool own = false;
    struct timespec t;
    int count = 0;
    u64 tag, end;
    long rc;

    w->end = w->until;
    for (nfds_t i = 0; i < w->n; i++) {
        w->asked[i] = w->fds[i];
        if (!vsk_peek(w->fds[i].fd, &tag))
            continue;
        w->asked[i].events = vsk_poll_ask(tag, w->fds[i].events);
        own |= vsk_poll_own(w->fds[i].fd);
        end = tag & VSK_CONNECTING ? vsk_deadline(w->fds[i].fd) : 0;
        if (end && end < w->end)
            w->end = end;
    }
    rc = RAW(SYS_ppoll, w->asked, w->n, own ? &(struct timespec){0} : left(w->end, &t), w->mask, 8);
    if (rc < 0)
        return (int)rc;
    for (nfds_t i = 0; i < w->n; i++) {
        *quiet |= vsk_poll_fix(w->fds[i].fd, w->fds[i].events, &w->asked[i].revents);
        count += !!w->asked[i].revents;
    }
    return count;
}

static int poll_loop(struct wait *w)
{
    for (;;) {
        bool quiet = false;
        int rc = look(w, &quiet);

        if (!rc && w->until != UINT64_MAX && vsk_now() >= w->until)
            quiet = false;
        else if (!rc && !quiet)
            continue; /* the time of a connect() is over */
        if (rc || !quiet) {
            for (nfds_t i = 0; rc >= 0 && i < w->n; i++)
                w->fds[i].revents = w->asked[i].revents;
            return rc;
        }
        rc = wait_for_change(w);
        if (rc)
            return rc;
    }
}

int vsk_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    struct pollfd few[ON_STACK];
    struct wait w = {.fds = fds, .asked = few, .n = n, .mask = mask, .until = UINT64_MAX};
    size_t size = n * sizeof(few[0]);
    int rc;

    if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000))
        return -EINVAL;
    if (timeout && timeout->tv_sec < INT64_MAX / 2000000000)
        w.until = vsk_now() + (u64)timeout->tv_sec * 1000000000ull + (u64)timeout->tv_nsec;
    if (n > ON_STACK) {
        w.asked = (void *)RAW(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if ((unsigned long)w.asked > -4096ul)
            return -ENOMEM;
    }
    rc = poll_loop(&w);
    if (n > ON_STACK)
        RAW(SYS_munmap, w.asked, size);
    return rc;
}
