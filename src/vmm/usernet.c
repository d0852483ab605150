// SPDX-License-Identifier: MIT
// Carries frames between a virtio-net device and libslirp, and runs libslirp's sockets and timers.

/*
 * Theory of operation
 *
 * One thread per network. It holds the device lock except while it sleeps in poll(), so libslirp
 * and the device never see two callers: a kick by the guest only writes (wake), and the frames are
 * fetched here. libslirp answers through send_packet(), from within slirp_input() or slirp_pollfds_poll();
 * the pump at the start of each round tells the driver of all that came since.
 */
#include "vmm/usernet.h"
#include "virtio/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/*
 * As on Ethernet with jumbo frames: there is no wire between here and the guest, and the guest pays by the
 * frame. With 64 KiB libslirp's windows would hold two frames, and wait for each other.
 */
#define MTU        9000
#define NS_PER_MS  1000000
#define TIMERS_MAX SLIRP_TIMER_NUM

/* A timer of libslirp's; it has one of each kind. */
struct timer {
    SlirpTimerId id;
    void *opaque;
    bool used;
    s64 expires_ms; /* -1: not set */
};

struct usernet {
    struct virtio_device *dev;
    Slirp *slirp;
    struct usernet_forward *forwards;
    unsigned nr_forwards;
    struct timer timers[TIMERS_MAX];

    struct pollfd *fds; /* [0] is (wake) */
    unsigned nr_fds, max_fds;

    int wake;
    pthread_mutex_t *lock; /* the device lock; protects all of this while the thread runs */
    pthread_t thread;
    bool started, stopping;
};

static void wake(struct usernet *u)
{
    u64 one = 1;
    ssize_t n = write(u->wake, &one, sizeof(one));

    (void)n; /* fails only when the counter is full, and then it is readable */
}

/* --- the device's wire --- */

static void kick(void *opaque)
{
    wake(opaque);
}

static void transmit(void *opaque, const void *frame, size_t len)
{
    struct usernet *u = opaque;

    slirp_input(u->slirp, frame, (int)len);
}

/* --- what libslirp asks for --- */

/* A lost frame is TCP's to send again. */
static ssize_t send_packet(const void *frame, size_t len, void *opaque)
{
    struct usernet *u = opaque;

    virtio_net_receive(u->dev, frame, len);
    return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque)
{
}

static s64 clock_ns(void *opaque)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (s64)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void *timer_new(SlirpTimerId id, void *timer_opaque, void *opaque)
{
    struct usernet *u = opaque;

    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (u->timers[i].used)
            continue;
        u->timers[i] = (struct timer){id, timer_opaque, true, -1};
        return &u->timers[i];
    }
    return NULL;
}

static void timer_free(void *timer, void *opaque)
{
    ((struct timer *)timer)->used = false;
}

static void timer_mod(void *timer, s64 expires_ms, void *opaque)
{
    ((struct timer *)timer)->expires_ms = expires_ms;
}

/* The descriptors are collected anew in each round. */
static void poll_fd(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
    wake(opaque);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_ns,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = poll_fd,
    .unregister_poll_fd = poll_fd,
    .notify = notify,
    .timer_new_opaque = timer_new,
};

/* --- the thread --- */

static const struct {
    short poll;
    int slirp;
} events[] = {
    {POLLIN, SLIRP_POLL_IN},   {POLLOUT, SLIRP_POLL_OUT}, {POLLPRI, SLIRP_POLL_PRI},
    {POLLERR, SLIRP_POLL_ERR}, {POLLHUP, SLIRP_POLL_HUP},
};

static int add_poll(int fd, int wanted, void *opaque)
{
    struct usernet *u = opaque;
    short ask = 0;

    if (u->nr_fds == u->max_fds) {
        struct pollfd *more = reallocarray(u->fds, u->max_fds, 2 * sizeof(*more));

        if (!more)
            return -1;
        u->fds = more;
        u->max_fds *= 2;
    }
    for (size_t i = 0; i < ARRAY_SIZE(events); i++)
        ask |= wanted & events[i].slirp ? events[i].poll : 0;
    u->fds[u->nr_fds] = (struct pollfd){.fd = fd, .events = ask};
    return (int)u->nr_fds++;
}

static int get_events(int index, void *opaque)
{
    struct usernet *u = opaque;
    int got = 0;

    if (index < 0) /* there was no memory to ask for it */
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(events); i++)
        got |= u->fds[index].revents & events[i].poll ? events[i].slirp : 0;
    return got;
}

/* Run what is due; returns poll()'s timeout, at most (ms), for the rest. */
static u32 run_timers(struct usernet *u, u32 ms)
{
    s64 now = clock_ns(NULL) / NS_PER_MS;

    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct timer *t = &u->timers[i];

        if (t->used && t->expires_ms >= 0 && t->expires_ms <= now) {
            t->expires_ms = -1;
            slirp_handle_timer(u->slirp, t->id, t->opaque);
        }
        if (t->used && t->expires_ms >= 0 && t->expires_ms - now < ms)
            ms = (u32)(t->expires_ms > now ? t->expires_ms - now : 0);
    }
    return ms;
}

/* Lock held, but for the sleep. */
static void round_once(struct usernet *u)
{
    u32 ms;
    u64 count;
    int rc;

    virtio_net_pump(u->dev);
    ms = run_timers(u, UINT32_MAX);
    u->nr_fds = 1;
    slirp_pollfds_fill(u->slirp, &ms, add_poll, u);
    pthread_mutex_unlock(u->lock);
    rc = poll(u->fds, u->nr_fds, ms > INT32_MAX ? -1 : (int)ms);
    if (rc > 0 && u->fds[0].revents && read(u->wake, &count, sizeof(count)) < 0)
        rc = -1;
    pthread_mutex_lock(u->lock);
    slirp_pollfds_poll(u->slirp, rc < 0, get_events, u);
}

static void *run(void *arg)
{
    struct usernet *u = arg;

    pthread_mutex_lock(u->lock);
    while (!u->stopping)
        round_once(u);
    pthread_mutex_unlock(u->lock);
    return NULL;
}

/* --- making and freeing it --- */

static Slirp *open_slirp(struct usernet *u, bool restricted)
{
    SlirpConfig cfg = {
        .version = 4,
        .restricted = restricted,
        .in_enabled = true,
        .if_mtu = MTU,
        .if_mru = MTU,
        .vnetwork.s_addr = inet_addr("10.0.2.0"),
        .vnetmask.s_addr = inet_addr("255.255.255.0"),
        .vhost.s_addr = inet_addr("10.0.2.2"),
        .vdhcp_start.s_addr = inet_addr("10.0.2.15"),
        .vnameserver.s_addr = inet_addr("10.0.2.3"),
        .in6_enabled = true,
        .vprefix_len = 64,
    };

    inet_pton(AF_INET6, "fec0::", &cfg.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &cfg.vhost6);
    inet_pton(AF_INET6, "fec0::3", &cfg.vnameserver6);
    return slirp_new(&cfg, &callbacks, u);
}

int usernet_create(const struct usernet_options *o, struct usernet **ret,
                   struct virtio_device **ret_dev, struct vmm_error *err)
{
    struct usernet *u = calloc(1, sizeof(*u));
    struct virtio_net_options net = {
        .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
        .mtu = MTU,
        .kick = kick,
        .transmit = transmit,
        .opaque = u,
    };
    int rc = -ENOMEM;

    if (!u)
        return vmm_fail(err, rc, "out of memory");
    u->max_fds = 16;
    u->fds = calloc(u->max_fds, sizeof(*u->fds));
    u->forwards = calloc(o->nr_forwards + 1, sizeof(*u->forwards));
    u->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!u->fds || !u->forwards || u->wake < 0)
        goto err_free;
    u->fds[0] = (struct pollfd){.fd = u->wake, .events = POLLIN};
    memcpy(u->forwards, o->forwards, o->nr_forwards * sizeof(*u->forwards));
    u->nr_forwards = o->nr_forwards;
    u->slirp = open_slirp(u, o->restricted);
    if (!u->slirp)
        goto err_free;
    rc = virtio_net_create(&net, &u->dev);
    if (rc)
        goto err_free;
    *ret = u;
    *ret_dev = u->dev;
    return 0;

err_free:
    usernet_free(u);
    return vmm_fail(err, rc, "no user network: %s", strerror(-rc));
}

static int add_forward(struct usernet *u, const struct usernet_forward *f)
{
    union usernet_address guest = f->guest;
    socklen_t len = f->host.sa.sa_family == AF_INET ? sizeof(f->host.in) : sizeof(f->host.in6);

    if (guest.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&guest.in6.sin6_addr))
        inet_pton(AF_INET6, USERNET_GUEST6, &guest.in6.sin6_addr);
    if (slirp_add_hostxfwd(u->slirp, &f->host.sa, len, &guest.sa, len,
                           f->udp ? SLIRP_HOSTFWD_UDP : 0) < 0)
        return errno ? -errno : -EADDRNOTAVAIL;
    return 0;
}

int usernet_start(struct usernet *u, pthread_mutex_t *lock, unsigned *ret_bad,
                  struct vmm_error *err)
{
    sigset_t all, old;
    int rc;

    for (unsigned i = 0; i < u->nr_forwards; i++) {
        rc = add_forward(u, &u->forwards[i]);
        if (rc) {
            *ret_bad = i;
            return vmm_fail(err, rc, "%s", strerror(-rc));
        }
    }
    u->lock = lock;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&u->thread, NULL, run, u);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        *ret_bad = u->nr_forwards;
        return vmm_fail(err, -rc, "no thread: %s", strerror(rc));
    }
    u->started = true;
    return 0;
}

void usernet_free(struct usernet *u)
{
    if (!u)
        return;
    if (u->started) {
        pthread_mutex_lock(u->lock);
        u->stopping = true;
        pthread_mutex_unlock(u->lock);
        wake(u);
        pthread_join(u->thread, NULL);
    }
    if (u->slirp)
        slirp_cleanup(u->slirp);
    if (u->wake >= 0)
        close(u->wake);
    free(u->forwards);
    free(u->fds);
    free(u);
}
