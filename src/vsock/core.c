// SPDX-License-Identifier: MIT
// The context: its lock, waiting and waking, timers, and the transports that belong to it.

/*
 * Theory of operation
 *
 * Layers, top down: system calls (stream.c, seqpacket.c, connect.c, listen.c, close in
 * sock.c), one socket's protocol state (sock.c, input.c), credit and queues (credit.c,
 * queue.c), framing of records (framing/), transports (transport/). A call goes down to
 * transport->ops->send(); a packet comes up through vsock_receive().
 *
 * One lock per context protects all its sockets, tables and transports. Lock order: the
 * owner of a transport may call in with its own lock held (a device's, say); nothing here
 * calls out while the lock is held but event callbacks and a device's kick, which must do
 * no more than signal. A transport's flush() is called with the lock released, and may take
 * the owner's. Large payloads are copied without the lock. Then rx_busy or tx_busy
 * keeps other readers or writers of the socket out, and what is copied is not reachable by
 * anybody else: packets to send are not queued yet; a record to read has been taken off the
 * queue; and of a STREAM packet above VSOCK_MERGE_MAX, which stays queued, only a reader
 * changes anything.
 *
 * Loopback needs no thread: packets queue up in the context and are delivered when the lock
 * is let go or waited on. So no socket operation ever runs inside another.
 *
 * States of a socket, and what leads on:
 *
 *   CLOSE ──listen()──> LISTEN ──close()──> gone
 *   CLOSE ──connect()──> SYN_SENT ──RESPONSE──> ESTABLISHED
 *                        SYN_SENT ──RST, timeout, wrong packet──> CLOSE (may try again)
 *   (REQUEST at a listener makes a child in ESTABLISHED)
 *   ESTABLISHED ──RST, nothing to read──> CLOSING
 *   ESTABLISHED ──close()──> orphan; gone with the peer's RST, or our own after 8 s
 *
 * Invariants:
 *  (1) A socket in (connected) is SYN_SENT, ESTABLISHED or CLOSING and has a transport. A
 *      connect() that fails, in whatever way, takes it out before it returns.
 *  (2) The pair (local port, remote address) is unique in (connected).
 *  (3) A child counts in its listener's nr_children exactly while it is on its list.
 *  (4) References: the user's, one of each table and list of the context that the socket
 *      must survive in (an orphan has one of its own), one of each packet under way.
 */
#include "vsock/capture.h"
#include "vsock/sock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static u64 system_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

u64 vsock_now(struct vsock_ctx *ctx)
{
    return ctx->now ? ctx->now(ctx->opaque) : system_now();
}

u64 vsock_deadline(struct vsock_ctx *ctx, u64 ns)
{
    u64 now;

    if (!ns || ns == VSOCK_FOREVER)
        return ns;
    now = vsock_now(ctx);
    return ns < VSOCK_FOREVER - now ? now + ns : VSOCK_FOREVER;
}

void vsock_lock(struct vsock_ctx *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    if (ctx->next_timer != VSOCK_FOREVER)
        vsock_timers_run(ctx);
}

void vsock_lock_again(struct vsock_ctx *ctx)
{
    pthread_mutex_lock(&ctx->lock);
}

static void futex_wake(_Atomic u32 *futex)
{
    syscall(SYS_futex, futex, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void vsock_lock_let_go(struct vsock_ctx *ctx)
{
    _Atomic u32 *wakes[VSOCK_WAKES];
    unsigned nr = ctx->nr_wakes;

    memcpy(wakes, ctx->wakes, nr * sizeof(wakes[0]));
    ctx->nr_wakes = 0;
    pthread_mutex_unlock(&ctx->lock);
    for (unsigned i = 0; i < nr; i++)
        futex_wake(wakes[i]);
}

void vsock_unlock(struct vsock_ctx *ctx)
{
    vsock_loopback_run(&ctx->loopback);
    vsock_lock_let_go(ctx);
}

void vsock_wake_waiters(struct vsock_sock *sk, struct vsock_waiters *w)
{
    struct vsock_ctx *ctx = sk->ctx;

    if (!w->nr)
        return;
    w->nr = 0;
    w->wakes++;
    atomic_fetch_add_explicit(w->futex, 1, memory_order_relaxed);
    for (unsigned i = 0; i < ctx->nr_wakes; i++) {
        if (ctx->wakes[i] == w->futex)
            return;
    }
    if (ctx->nr_wakes < VSOCK_WAKES)
        ctx->wakes[ctx->nr_wakes++] = w->futex;
    else
        futex_wake(w->futex);
}

/* This thread is about to wait: others first. */
static void wake_now(struct vsock_ctx *ctx)
{
    while (ctx->nr_wakes)
        futex_wake(ctx->wakes[--ctx->nr_wakes]);
}

/* Until (w) is woken up, or a time of CLOCK_MONOTONIC; NULL: however long that is. */
static void sleep_among(struct vsock_ctx *ctx, struct vsock_waiters *w,
                        const struct timespec *until)
{
    u32 wakes = w->wakes, seen = atomic_load_explicit(w->futex, memory_order_relaxed);

    w->nr++;
    pthread_mutex_unlock(&ctx->lock);
    syscall(SYS_futex, w->futex, FUTEX_WAIT_BITSET_PRIVATE, seen, until, NULL,
            FUTEX_BITSET_MATCH_ANY);
    pthread_mutex_lock(&ctx->lock);
    w->nr -= w->wakes == wakes;
}

void vsock_flush_later(struct vsock_transport *t)
{
    t->flush_due = t->ctx->flush_due = true;
}

bool vsock_flush(struct vsock_ctx *ctx)
{
    struct vsock_transport *t;

    if (!ctx->flush_due)
        return false;
    ctx->flush_due = false;
    LIST_FOREACH(t, &ctx->transports, link)
    {
        if (!t->flush_due)
            continue;
        t->flush_due = false;
        t->flushing++;
        vsock_lock_let_go(ctx);
        t->ops->flush(t);
        vsock_lock_again(ctx);
        if (!--t->flushing)
            pthread_cond_broadcast(&ctx->idle);
        break; /* the list may have changed */
    }
    LIST_FOREACH(t, &ctx->transports, link)
    {
        ctx->flush_due |= t->flush_due;
    }
    return true;
}

void vsock_leave(struct vsock_ctx *ctx)
{
    while (vsock_flush(ctx))
        ;
    vsock_unlock(ctx);
}

int vsock_wait(struct vsock_sock *sk, struct vsock_waiters *w, u64 deadline)
{
    struct vsock_ctx *ctx = sk->ctx;
    u64 now, until;
    struct timespec ts;

    if (!deadline)
        return -EAGAIN;
    if (!TAILQ_EMPTY(&ctx->loopback.queue)) {
        vsock_loopback_run(&ctx->loopback);
        return 0; /* that may have been what the caller waits for */
    }
    if (vsock_flush(ctx))
        return 0;
    wake_now(ctx);
    until = deadline < ctx->next_timer ? deadline : ctx->next_timer;
    if (until == VSOCK_FOREVER) {
        sleep_among(ctx, w, NULL);
        return 0;
    }
    now = vsock_now(ctx);
    if (deadline <= now)
        return -EAGAIN;
    if (now < until) {
        until = system_now() + (until - now);
        ts.tv_sec = until / 1000000000;
        ts.tv_nsec = until % 1000000000;
        sleep_among(ctx, w, &ts);
    }
    vsock_timers_run(ctx);
    return 0;
}

void vsock_wake(struct vsock_sock *sk, unsigned events)
{
    if (events & (POLLIN | POLLHUP | POLLERR))
        vsock_wake_waiters(sk, &sk->rx_wait);
    if (events & (POLLOUT | POLLHUP | POLLERR))
        vsock_wake_waiters(sk, &sk->tx_wait);
    if (sk->event)
        sk->event(sk->event_opaque, events);
}

static u64 earliest(const struct vsock_sock *sk)
{
    u64 min = VSOCK_FOREVER;

    for (unsigned i = 0; i < VSOCK_NR_TIMERS; i++)
        min = sk->timer[i] < min ? sk->timer[i] : min;
    return min;
}

void vsock_timer_set(struct vsock_sock *sk, enum vsock_timer which, u64 deadline)
{
    bool want;

    sk->timer[which] = deadline;
    if (deadline < sk->ctx->next_timer)
        sk->ctx->next_timer = deadline;
    want = earliest(sk) != VSOCK_FOREVER;
    if (want && !sk->in_timers)
        LIST_INSERT_HEAD(&sk->ctx->timers, sk, timer_link);
    else if (!want && sk->in_timers)
        LIST_REMOVE(sk, timer_link);
    sk->in_timers = want;
}

static void fire(struct vsock_sock *sk, enum vsock_timer which)
{
    switch (which) {
    case VSOCK_TIMER_CONNECT:
        vsock_connect_failed(sk, ETIMEDOUT);
        break;
    case VSOCK_TIMER_CLOSE:
        vsock_sock_reset(sk, 0);
        break;
    default:
        if (sk->state == VSOCK_ESTABLISHED) {
            /* Whatever still waits to be sent will be answered as well. */
            if (!sk->pkts_unsent)
                vsock_sock_control(sk, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
            vsock_timer_set(sk, which, vsock_deadline(sk->ctx, VSOCK_CREDIT_ASK_NS));
        }
        break;
    }
}

/* The first socket whose timer is due at (now), or NULL. */
static struct vsock_sock *due(struct vsock_ctx *ctx, u64 now)
{
    struct vsock_sock *sk;

    LIST_FOREACH(sk, &ctx->timers, timer_link)
    {
        if (earliest(sk) <= now)
            return sk;
    }
    return NULL;
}

void vsock_timers_run(struct vsock_ctx *ctx)
{
    u64 now;
    struct vsock_sock *sk;

    if (ctx->next_timer == VSOCK_FOREVER || ctx->next_timer > (now = vsock_now(ctx)))
        return;
    while ((sk = due(ctx, now))) {
        vsock_sock_get(sk);
        for (unsigned i = 0; i < VSOCK_NR_TIMERS; i++) {
            if (sk->timer[i] > now)
                continue;
            vsock_timer_set(sk, i, VSOCK_FOREVER);
            fire(sk, i);
        }
        vsock_sock_put(sk);
    }
    ctx->next_timer = VSOCK_FOREVER;
    LIST_FOREACH(sk, &ctx->timers, timer_link)
    {
        u64 at = earliest(sk);

        ctx->next_timer = at < ctx->next_timer ? at : ctx->next_timer;
    }
}

void vsock_transport_add(struct vsock_ctx *ctx, struct vsock_transport *t)
{
    t->ctx = ctx;
    LIST_INIT(&t->socks);
    LIST_INSERT_HEAD(&ctx->transports, t, link);
}

void vsock_transport_gone(struct vsock_transport *t, int err)
{
    struct vsock_sock *sk, *next;

    for (sk = LIST_FIRST(&t->socks); sk; sk = next) {
        next = LIST_NEXT(sk, transport_link);
        vsock_sock_get(sk);
        t->ops->cancel(t, sk);
        if (sk->connecting)
            vsock_connect_failed(sk, err);
        else if (sk->connected)
            vsock_sock_over(sk, err);
        vsock_sock_put(sk);
    }
}

void vsock_transport_remove(struct vsock_transport *t)
{
    vsock_transport_gone(t, ECONNRESET);
    while (!LIST_EMPTY(&t->socks))
        vsock_assign(LIST_FIRST(&t->socks), NULL);
    LIST_REMOVE(t, link);
    while (t->flushing)
        pthread_cond_wait(&t->ctx->idle, &t->ctx->lock);
}

/* Held for moments only, but for copies of a few KiB: whoever finds it taken had better spin. */
static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t a;

    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(lock, &a);
    pthread_mutexattr_destroy(&a);
}

static void init_lists(struct vsock_ctx *ctx)
{
    for (unsigned i = 0; i < VSOCK_HASH; i++) {
        LIST_INIT(&ctx->bound[i]);
        LIST_INIT(&ctx->connected[i]);
    }
    LIST_INIT(&ctx->timers);
    LIST_INIT(&ctx->transports);
}

int uvirt_vsock_create(const struct uvirt_vsock_config *config, struct uvirt_vsock **ret)
{
    struct vsock_ctx *ctx;
    u32 port = 0;

    if (config->size != sizeof(*config) || config->cid < VMADDR_CID_HOST ||
        config->cid == VMADDR_CID_ANY) {
        errno = EINVAL;
        return -1;
    }
    ctx = calloc(1, sizeof(*ctx));
    if (!ctx)
        return -1;
    init_lock(&ctx->lock);
    pthread_cond_init(&ctx->idle, NULL);
    ctx->cid = config->cid;
    ctx->privileged = config->privileged;
    ctx->now = config->now;
    ctx->opaque = config->opaque;
    ctx->next_timer = VSOCK_FOREVER;
    if (getrandom(&port, sizeof(port), GRND_NONBLOCK) != sizeof(port))
        port = vsock_now(ctx);
    ctx->next_port = VSOCK_RESERVED_PORT + 1 + port % 0x40000000;
    init_lists(ctx);
    vsock_pool_init(&ctx->pool);
    vsock_loopback_init(&ctx->loopback, ctx);
    if (config->marker)
        ctx->loopback.t.seqpacket = &vsock_framing_marker;
    *ret = (struct uvirt_vsock *)ctx;
    return 0;
}

void uvirt_vsock_free(struct uvirt_vsock *v)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;

    if (!ctx)
        return;
    /* Orphans still wait for their peers; there is nobody left to hear of it. */
    vsock_lock(ctx);
    while (!LIST_EMPTY(&ctx->transports))
        vsock_transport_remove(LIST_FIRST(&ctx->transports));
    vsock_loopback_purge(&ctx->loopback);
    pthread_mutex_unlock(&ctx->lock);
    pthread_mutex_destroy(&ctx->lock);
    pthread_cond_destroy(&ctx->idle);
    vsock_pool_fini(&ctx->pool);
    vsock_capture_free(ctx->capture);
    free(ctx);
}

int uvirt_vsock_run_timers(struct uvirt_vsock *v)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    int ms = -1;

    vsock_lock(ctx);
    if (ctx->next_timer != VSOCK_FOREVER) {
        u64 now = vsock_now(ctx);
        u64 wait = ctx->next_timer > now ? (ctx->next_timer - now + 999999) / 1000000 : 0;

        ms = wait < INT32_MAX ? wait : INT32_MAX;
    }
    vsock_leave(ctx);
    return ms;
}
