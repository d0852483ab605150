// SPDX-License-Identifier: MIT
// The bridge: its listeners, its thread and what wakes it up.

/*
 * Theory of operation
 *
 * A connection (unix_conn.c) is a descriptor and a socket of the core, and moves what one has
 * to the other (unix_carry.c) as far as it goes; then it waits until it is ready again.
 * What makes it ready: an edge of its descriptor, an event of its socket, or the end of its
 * turn with more to do. Ready connections stand in a queue, and each gets one bounded turn a
 * round, so that none starves the others.
 *
 *   client   HELLO ──CONNECT──> DIAL ──RESPONSE──> OPEN
 *   guest    CALL ──connected──> OPEN                      (to the host)
 *            CALL ──connected──> GREET ──OK──> OPEN        (to a sibling)
 *   HELLO, CALL and GREET have a deadline; DIAL has the core's.
 *
 * Events of sockets come from any thread with the context's lock held, the guest's REQUESTs
 * too: they only put something into a queue and write (event). That queue and the sockets are
 * all that is shared; everything else belongs to the thread.
 *
 * The owner of the rings is woken up by the device's kick. With (pump) set, that is us: the
 * kicks of a round, our own among them, end in one call.
 */
#include "vsock/transport/unix_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDSHAKE_MS 20000
#define RETRY_NS     10000000ull
#define EVENTS       64
#define ACCEPTS      32 /* in one round */

/* The bridge whose thread this is. */
static _Thread_local struct vsock_unix *self;

static void signal_thread(struct vsock_unix *u)
{
    u64 one = 1;
    ssize_t n;

    if (self == u || atomic_exchange(&u->signalled, true))
        return;
    n = write(u->event, &one, sizeof(one));
    (void)n; /* an eventfd fails only when it is readable already */
}

void vsock_unix_kick(void *opaque)
{
    struct vsock_unix *u = opaque;

    if (self == u) {
        u->self_kicked = !u->pumping; /* pumping goes on until nothing is left */
    } else {
        atomic_store(&u->kicked, true);
        signal_thread(u);
    }
}

void unix_conn_ready(struct unix_conn *c)
{
    struct vsock_unix *u = c->u;

    if (c->queued)
        return;
    c->queued = true;
    TAILQ_INSERT_TAIL(&u->ready, c, ready_link);
    u->nr_ready++;
    signal_thread(u);
}

/* struct vsock_relay's. */
static void on_request(struct vsock_relay *r, const struct vsock_hdr *h)
{
    struct vsock_unix *u = container_of(r, struct vsock_unix, relay);
    struct unix_request *q = u->nr_requests < VSOCK_UNIX_HANDSHAKES ? malloc(sizeof(*q)) : NULL;

    if (!q) {
        vsock_relay_refuse(u->ctx, h);
        return;
    }
    q->hdr = *h;
    TAILQ_INSERT_TAIL(&u->requests, q, link);
    u->nr_requests++;
    signal_thread(u);
}

void unix_retry(struct vsock_unix *u)
{
    if (u->retry == VSOCK_FOREVER)
        u->retry = vsock_deadline(u->ctx, RETRY_NS);
}

/* --- a round --- */

static struct vsock_addr who(const struct vsock_unix *u, const struct sockaddr_un *addr,
                             socklen_t len)
{
    struct vsock_addr a;

    if (vsock_unix_peer(addr, len, &a.cid, &a.port) || a.port == VMADDR_PORT_ANY ||
        (a.cid != VMADDR_CID_HOST && (!*u->dir || a.cid <= VMADDR_CID_HOST ||
                                      a.cid == VMADDR_CID_ANY || a.cid == u->config.guest_cid)))
        return (struct vsock_addr){u->ctx->cid, VMADDR_PORT_ANY};
    return a;
}

static void open_door(struct vsock_unix *u, struct unix_door *d)
{
    for (unsigned i = 0; i < ACCEPTS; i++) {
        struct sockaddr_un addr;
        socklen_t len = sizeof(addr);
        int fd = accept4(d->l.fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            unix_conn_hello(u, d->kind, fd, who(u, &addr, len), vsock_unix_takes_marks(&addr, len));
            continue;
        }
        if (errno == EAGAIN)
            d->open = false;
        else if (errno != EINTR && errno != ECONNABORTED)
            unix_retry(u); /* no descriptors left: they wait in the backlog */
        return;
    }
}

static void open_doors(struct vsock_unix *u)
{
    for (unsigned i = 0; i < UNIX_KINDS; i++)
        if (u->doors[i].open)
            open_door(u, &u->doors[i]);
}

static void take_requests(struct vsock_unix *u)
{
    struct unix_request *q;

    for (;;) {
        vsock_lock(u->ctx);
        q = TAILQ_FIRST(&u->requests);
        if (q) {
            TAILQ_REMOVE(&u->requests, q, link);
            u->nr_requests--;
        }
        vsock_unlock(u->ctx);
        if (!q)
            return;
        unix_conn_call(u, &q->hdr);
        free(q);
    }
}

/* Everything that is ready now gets its turn; what becomes so meanwhile has the next round. */
static void take_turns(struct vsock_unix *u)
{
    struct unix_conn *c;
    unsigned n;

    vsock_lock(u->ctx);
    n = u->nr_ready;
    vsock_unlock(u->ctx);
    while (n--) {
        vsock_lock(u->ctx);
        c = TAILQ_FIRST(&u->ready);
        if (c) {
            TAILQ_REMOVE(&u->ready, c, ready_link);
            u->nr_ready--;
            c->queued = false;
        }
        vsock_unlock(u->ctx);
        if (!c)
            return;
        unix_conn_step(c);
    }
}

static void expire(struct vsock_unix *u, struct unix_conns *list, u64 now)
{
    struct unix_conn *c;

    while ((c = TAILQ_FIRST(list)) && c->deadline <= now)
        unix_conn_free(c);
}

static void run_timers(struct vsock_unix *u)
{
    u64 now = vsock_now(u->ctx);
    struct unix_conn *c;

    expire(u, &u->hellos, now);
    expire(u, &u->calls, now);
    if (u->retry > now)
        return;
    u->retry = VSOCK_FOREVER;
    for (unsigned i = 0; i < UNIX_KINDS; i++)
        if (u->doors[i].open)
            open_door(u, &u->doors[i]);
    vsock_lock(u->ctx);
    TAILQ_FOREACH(c, &u->calls, timed)
    {
        if (c->state == UNIX_CALL)
            unix_conn_ready(c);
    }
    vsock_unlock(u->ctx);
}

/* Milliseconds until the next timer, at most (ms). */
static int wait_ms(struct vsock_unix *u, int ms)
{
    u64 next = u->retry, now;
    int core = uvirt_vsock_run_timers((struct uvirt_vsock *)u->ctx);
    bool ready;

    vsock_lock(u->ctx);
    ready = u->nr_ready || u->nr_requests;
    vsock_unlock(u->ctx);
    if (ready || u->self_kicked)
        return 0;
    if (!TAILQ_EMPTY(&u->hellos) && TAILQ_FIRST(&u->hellos)->deadline < next)
        next = TAILQ_FIRST(&u->hellos)->deadline;
    if (!TAILQ_EMPTY(&u->calls) && TAILQ_FIRST(&u->calls)->deadline < next)
        next = TAILQ_FIRST(&u->calls)->deadline;
    if (core >= 0 && (ms < 0 || core < ms))
        ms = core;
    if (next == VSOCK_FOREVER)
        return ms;
    now = vsock_now(u->ctx);
    next = next > now ? (next - now) / 1000000 + 1 : 0;
    return ms < 0 || next < (u64)ms ? (int)next : ms;
}

static void take_event(struct vsock_unix *u, const struct epoll_event *e)
{
    struct unix_conn *c = e->data.ptr;
    u64 count;
    ssize_t n;

    if (e->data.ptr == u) {
        n = read(u->event, &count, sizeof(count));
        (void)n;
        atomic_store(&u->signalled, false);
        return;
    }
    for (unsigned i = 0; i < UNIX_KINDS; i++) {
        if (e->data.ptr == &u->doors[i]) {
            u->doors[i].open = true;
            return;
        }
    }
    c->can_read = c->can_read || e->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    c->can_write = c->can_write || e->events & (EPOLLOUT | EPOLLHUP | EPOLLERR);
    c->hung_up = c->hung_up || e->events & EPOLLHUP;
    c->look = c->look || e->events & EPOLLOUT;
    vsock_lock(u->ctx);
    unix_conn_ready(c);
    vsock_unlock(u->ctx);
}

static void pump(struct vsock_unix *u)
{
    bool kicked = atomic_exchange(&u->kicked, false);

    if (!kicked && !u->self_kicked)
        return;
    u->self_kicked = false;
    if (!u->config.pump)
        return;
    u->pumping = u->restless = true;
    u->config.pump(u->config.opaque);
    u->pumping = false;
}

/* Nothing is ready: may the thread wait? */
static bool may_rest(struct vsock_unix *u)
{
    if (!u->restless || !u->config.rest)
        return true;
    u->self_kicked = u->config.rest(u->config.opaque);
    u->restless = u->self_kicked;
    return !u->self_kicked;
}

void unix_round(struct vsock_unix *u, int ms)
{
    struct epoll_event events[EVENTS];
    struct vsock_unix *outer = self;
    int n;

    self = u;
    ms = wait_ms(u, ms);
    if (ms && !may_rest(u))
        ms = 0;
    n = epoll_wait(u->epoll, events, EVENTS, ms);
    for (int i = 0; i < n; i++)
        take_event(u, &events[i]);
    open_doors(u);
    take_requests(u);
    take_turns(u);
    run_timers(u);
    pump(u);
    self = outer;
}

static void *thread_main(void *opaque)
{
    struct vsock_unix *u = opaque;

    while (!atomic_load(&u->stopping))
        unix_round(u, -1);
    return NULL;
}

/* --- creation and end --- */

static int fail(char *why, int rc, const char *what)
{
    snprintf(why, VSOCK_UNIX_WHY, "%s: %s", what, strerror(-rc));
    return rc;
}

static int set_paths(struct vsock_unix *u, char *why)
{
    const char *path = u->config.path;
    struct stat st;
    int n;

    if (!path)
        return 0;
    if (strlen(path) <= VSOCK_UNIX_PATH_MAX && !stat(path, &st) && S_ISDIR(st.st_mode)) {
        snprintf(u->dir, sizeof(u->dir), "%s", path);
        n = snprintf(u->base, sizeof(u->base), "%s/%u", path, u->config.guest_cid);
    } else {
        n = snprintf(u->base, sizeof(u->base), "%s", path);
    }
    if (n <= 0)
        return fail(why, -EINVAL, "the path is empty");
    if (n > VSOCK_UNIX_PATH_MAX) {
        snprintf(why, VSOCK_UNIX_WHY, "the path has %d bytes, sockets can have names of %d", n,
                 VSOCK_UNIX_PATH_MAX);
        return -ENAMETOOLONG;
    }
    return 0;
}

static int add(struct vsock_unix *u, int fd, void *what, u32 events)
{
    struct epoll_event e = {.events = events, .data.ptr = what};

    return epoll_ctl(u->epoll, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

static int listen_all(struct vsock_unix *u, char *why)
{
    static const struct {
        const char *suffix;
        int type;
    } rows[UNIX_KINDS] = {
        [UNIX_STREAM] = {"", SOCK_STREAM},
        [UNIX_SEQPACKET] = {VSOCK_UNIX_SEQPACKET, SOCK_SEQPACKET},
        [UNIX_FRAMED] = {VSOCK_UNIX_FRAMED, SOCK_STREAM},
    };
    const char *slash = strrchr(u->base, '/'), *name = slash ? slash + 1 : u->base;
    char path[VSOCK_UNIX_PATH_MAX + 20];
    int rc = 0;

    for (unsigned i = 0; i < UNIX_KINDS && rc == 0 && u->config.path; i++) {
        if (i == UNIX_FRAMED && u->config.marker)
            continue;
        /* "/./" says that marked records are welcome. */
        snprintf(path, sizeof(path), "%.*s%s%s%s", (int)(name - u->base), u->base,
                 i != UNIX_SEQPACKET ? ""
                 : name > u->base    ? "./"
                                     : "././",
                 name, rows[i].suffix);
        rc = vsock_unix_listen(path, rows[i].type, &u->doors[i].l, why, VSOCK_UNIX_WHY);
        if (rc == 0 && add(u, u->doors[i].l.fd, &u->doors[i], EPOLLIN | EPOLLET))
            rc = fail(why, -errno, path);
    }
    return rc;
}

int unix_new(struct uvirt_vsock *v, const struct vsock_unix_config *config,
             char why[VSOCK_UNIX_WHY], struct vsock_unix **ret)
{
    struct vsock_unix *u;
    int rc;

    if (config->guest_cid <= VMADDR_CID_HOST || config->guest_cid == VMADDR_CID_ANY)
        return fail(why, -EINVAL, "no guest can have that CID");
    u = calloc(1, sizeof(*u));
    if (!u)
        return fail(why, -ENOMEM, "bridge");
    u->ctx = (struct vsock_ctx *)v;
    u->config = *config;
    if (!u->config.handshake_ms)
        u->config.handshake_ms = HANDSHAKE_MS;
    u->retry = VSOCK_FOREVER;
    TAILQ_INIT(&u->requests);
    TAILQ_INIT(&u->ready);
    TAILQ_INIT(&u->conns);
    TAILQ_INIT(&u->hellos);
    TAILQ_INIT(&u->calls);
    for (unsigned i = 0; i < UNIX_KINDS; i++)
        u->doors[i] = (struct unix_door){.l.fd = -1, .kind = (enum unix_kind)i};
    u->epoll = epoll_create1(EPOLL_CLOEXEC);
    u->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    u->mark = eventfd(0, EFD_CLOEXEC);
    u->relay = (struct vsock_relay){.guest_cid = config->guest_cid, .request = on_request};
    vsock_relay_add(u->ctx, &u->relay);
    rc = set_paths(u, why);
    if (rc == 0 && (u->epoll < 0 || u->event < 0 || u->mark < 0 || add(u, u->event, u, EPOLLIN)))
        rc = fail(why, -errno, "bridge");
    if (rc == 0)
        rc = listen_all(u, why);
    if (rc) {
        vsock_unix_stop(u);
        vsock_unix_free(u);
        return rc;
    }
    u->relay.foreign = *u->dir;
    *ret = u;
    return 0;
}

int vsock_unix_create(struct uvirt_vsock *v, const struct vsock_unix_config *config,
                      char why[VSOCK_UNIX_WHY], struct vsock_unix **ret)
{
    struct vsock_unix *u;
    sigset_t all, old;
    int rc = unix_new(v, config, why, &u);

    if (rc)
        return rc;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = -pthread_create(&u->thread, NULL, thread_main, u);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        vsock_unix_stop(u);
        vsock_unix_free(u);
        return fail(why, rc, "bridge");
    }
    u->started = true;
    *ret = u;
    return 0;
}

void vsock_unix_stop(struct vsock_unix *u)
{
    struct unix_conn *c;
    struct unix_request *q;

    if (!u || atomic_exchange(&u->stopping, true))
        return;
    atomic_store(&u->signalled, false);
    signal_thread(u);
    if (u->started)
        pthread_join(u->thread, NULL);
    vsock_relay_remove(u->ctx, &u->relay);
    while ((q = TAILQ_FIRST(&u->requests))) {
        TAILQ_REMOVE(&u->requests, q, link);
        free(q);
    }
    while ((c = TAILQ_FIRST(&u->conns)))
        unix_conn_free(c);
    for (unsigned i = 0; i < UNIX_KINDS; i++)
        vsock_unix_unlisten(&u->doors[i].l);
}

void vsock_unix_free(struct vsock_unix *u)
{
    if (!u)
        return;
    vsock_pkt_free(u->spare);
    if (u->epoll >= 0)
        close(u->epoll);
    if (u->event >= 0)
        close(u->event);
    if (u->mark >= 0)
        close(u->mark);
    free(u);
}
