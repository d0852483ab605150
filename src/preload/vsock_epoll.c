// SPDX-License-Identifier: MIT
// epoll over AF_VSOCK sockets: the kernel watches, and what it says of a Unix socket is put right.
#include "preload/raw.h"
#include "preload/vsock.h"

#include <errno.h>
#include <string.h>

/*
 * A program's events and data go to the kernel as they are, so most waits need nothing. What
 * this process has added is remembered as well, because an event names its descriptor only
 * by the program's own data. An entry whose event is not to be reported is set to edges, or
 * the kernel would say it again at once; it goes back when something of it has been reported.
 */
struct entry {
    int ep, fd;
    struct epoll_event want;
    bool edges;
};

#define ENTRIES 4096

static struct entry entries[ENTRIES]; /* protected by the lock; fd -1: free */
static int nr_entries;

bool vsk_epoll_used(void)
{
    return nr_entries;
}

static struct entry *find(int ep, int fd)
{
    for (struct entry *e = entries; e < entries + nr_entries; e++) {
        if (e->ep == ep && e->fd == fd)
            return e;
    }
    return NULL;
}

static struct entry *add(int ep, int fd)
{
    struct entry *e = find(ep, fd);

    if (!e)
        e = find(-1, -1);
    if (!e && nr_entries < ENTRIES)
        e = &entries[nr_entries++];
    return e;
}

static int watch(const struct entry *e, bool edges)
{
    struct epoll_event ev = e->want;
    u64 tag;

    if (vsk_get(e->fd, &tag) && tag & VSK_CONNECTING)
        ev.events = (ev.events & ~(u32)(EPOLLOUT | EPOLLWRNORM)) | EPOLLIN;
    if (edges)
        ev.events |= EPOLLET;
    return (int)RAW(SYS_epoll_ctl, e->ep, EPOLL_CTL_MOD, e->fd, &ev);
}

int vsk_epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    struct epoll_event ev = {0};
    struct entry *e;
    vsk_saved saved;
    u64 tag = 0;
    int rc;

    vsk_get(fd, &tag);
    if (event)
        ev = *event;
    if (tag & VSK_CONNECTING && op != EPOLL_CTL_DEL)
        ev.events = (ev.events & ~(u32)(EPOLLOUT | EPOLLWRNORM)) | EPOLLIN;
    rc = (int)RAW(SYS_epoll_ctl, ep, op, fd, event ? &ev : NULL);
    if (rc)
        return rc;
    vsk_lock(&saved);
    if (op == EPOLL_CTL_DEL) {
        e = find(ep, fd);
        if (e)
            e->ep = e->fd = -1;
    } else {
        e = add(ep, fd);
        if (e)
            *e = (struct entry){.ep = ep, .fd = fd, .want = *event};
    }
    vsk_unlock(&saved);
    return 0;
}

static bool within(int fd, int first, int last)
{
    return fd >= first && fd <= last;
}

void vsk_epoll_forget(int first, int last)
{
    vsk_saved saved;

    if (!nr_entries || vsk_in_vfork())
        return;
    vsk_lock(&saved);
    for (struct entry *e = entries; e < entries + nr_entries; e++) {
        if (within(e->fd, first, last) || within(e->ep, first, last))
            e->ep = e->fd = -1;
    }
    vsk_unlock(&saved);
}

void vsk_epoll_update(int fd)
{
    vsk_saved saved;

    if (!nr_entries)
        return;
    vsk_lock(&saved);
    for (struct entry *e = entries; e < entries + nr_entries; e++) {
        /* replace() may have put a new socket there, which no set knows. */
        if (e->fd == fd && watch(e, false) == -ENOENT)
            RAW(SYS_epoll_ctl, e->ep, EPOLL_CTL_ADD, fd, &e->want);
    }
    vsk_unlock(&saved);
}

/* Does (events) have to be looked at? */
static bool doubtful(u32 events)
{
    return events & (EPOLLERR | EPOLLHUP) || vsk_had_connecting || vsk_had_lowat ||
           vsk_had_zerocopy;
}

/* A copy of the entry of (ep) that has (data); false: there is none, or no single one. */
static bool find_data(int ep, epoll_data_t data, struct entry *ret)
{
    struct entry *found = NULL;
    bool only = true;
    vsk_saved saved;

    vsk_lock(&saved);
    for (struct entry *e = entries; e < entries + nr_entries; e++) {
        if (e->ep == ep && e->want.data.u64 == data.u64) {
            only = !found;
            found = e;
        }
    }
    if (found)
        *ret = *found;
    vsk_unlock(&saved);
    return found && only;
}

static void set_edges(const struct entry *e, bool edges)
{
    struct entry *now;
    vsk_saved saved;

    vsk_lock(&saved);
    now = find(e->ep, e->fd);
    if (now && now->edges != edges) {
        now->edges = edges;
        watch(now, edges);
    }
    vsk_unlock(&saved);
}

/* Put right one event. False: there is nothing to report. */
static bool fix(int ep, struct epoll_event *ev)
{
    struct entry e;
    short r;

    if (!doubtful(ev->events) || !find_data(ep, ev->data, &e))
        return true;
    r = (short)(ev->events & 0x3fff);
    if (vsk_had_lowat && r & (POLLIN | POLLRDNORM)) {
        struct pollfd p = {.fd = e.fd, .events = POLLRDHUP};

        RAW(SYS_poll, &p, 1, 0);
        r |= p.revents & POLLRDHUP;
    }
    vsk_poll_fix(e.fd, (short)(e.want.events & 0x3fff), &r);
    ev->events = (u32)(u16)r;
    if (!(e.want.events & EPOLLET) && e.edges != !r)
        set_edges(&e, !r);
    return r;
}

static bool is_among(const struct epoll_event *events, int n, u64 data)
{
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == data)
            return true;
    }
    return false;
}

/*
 * What the kernel does not know of: errors and completions of (ep)'s entries, put behind the
 * (n) events that there are already; the new number. A connect() whose time is over ends;
 * *until becomes the first such time to come.
 */
static int own_events(int ep, struct epoll_event *events, int n, int max, u64 *until)
{
    vsk_saved saved;
    struct entry e;
    u64 tag, end;
    short own;

    if (!vsk_had_zerocopy && !vsk_had_connecting)
        return n;
    for (int i = 0; i < nr_entries; i++) {
        vsk_lock(&saved);
        e = entries[i];
        vsk_unlock(&saved);
        if (e.ep != ep || !vsk_get(e.fd, &tag))
            continue;
        end = tag & VSK_CONNECTING ? vsk_deadline(e.fd) : 0;
        if (end && vsk_now() >= end)
            vsk_finish_later(e.fd, &tag);
        else if (end && end < *until)
            *until = end;
        own = vsk_poll_own(e.fd);
        if (!own || n == max || is_among(events, n, e.want.data.u64))
            continue;
        if (!(tag & VSK_CONNECTED))
            own |= (short)(e.want.events & EPOLLOUT);
        events[n++] = (struct epoll_event){.events = (u32)(u16)own, .data = e.want.data};
    }
    return n;
}

/* Milliseconds until (end), rounded up, for epoll_wait(). */
static int ms_until(u64 end)
{
    u64 now, ms;

    if (end == UINT64_MAX)
        return -1;
    now = vsk_now();
    ms = end > now ? (end - now + 999999) / 1000000 : 0;
    return ms > 1000000 ? 1000000 : (int)ms;
}

int vsk_epoll_wait(int ep, struct epoll_event *events, int max, const struct timespec *timeout,
                   const sigset_t *mask)
{
    u64 until = UINT64_MAX;

    if (timeout && timeout->tv_sec < INT64_MAX / 2000000000)
        until = vsk_now() + (u64)timeout->tv_sec * 1000000000ull + (u64)timeout->tv_nsec;
    for (;;) {
        u64 end = until;
        bool own = max > 0 && own_events(ep, events, 0, max, &end);
        int n = (int)RAW(SYS_epoll_pwait, ep, events, max, own ? 0 : ms_until(end), mask, 8);
        int kept = 0;

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++) {
            if (fix(ep, &events[i]))
                events[kept++] = events[i];
        }
        kept = own_events(ep, events, kept, max, &end);
        if (kept || (until != UINT64_MAX && vsk_now() >= until))
            return kept;
    }
}
