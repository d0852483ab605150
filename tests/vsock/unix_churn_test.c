// SPDX-License-Identifier: MIT
// Many connections through a bridge at once: opened, used and ended at random, with every byte checked; nothing is left.

/*
 * usage: unix_churn_test [SECONDS]
 *
 * Host threads connect to guest threads and the other way round, as streams, records and
 * frames. A connection's first bytes say how much will come; both ends check what they get
 * and end in a way of their own. Runs for SECONDS, or 600 connections.
 */
#include "unix_host.h"
#include "vsock/transport/unix_priv.h"

#include <pthread.h>
#include <stdatomic.h>

#define CONNECTIONS 600
#define CLIENTS     6
#define PORT_GUEST  6000 /* STREAM, then SEQPACKET */
#define BYTES_MAX   200000
#define RECORD_MAX  20000

static struct wire wire;
static char paths[UNIX_KINDS][128];
static _Atomic unsigned done_connections, wrong;
static _Atomic bool stop;
static u64 until;

static u64 seconds_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec;
}

static bool enough(void)
{
    return until ? seconds_now() >= until : atomic_load(&done_connections) >= CONNECTIONS;
}

static u32 next_random(u32 *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* --- one end, whatever it is on --- */

struct end {
    int fd;    /* or */
    sock *vsk; /* one of them */
    enum unix_kind kind;
};

static ssize_t put(struct end *e, const void *data, size_t len)
{
    if (e->vsk)
        return do_send(e->vsk, data, len, MSG_NOSIGNAL);
    if (e->kind == UNIX_FRAMED) {
        send_frame(e->fd, data, (u32)len, VSOCK_FRAME_EOM);
        return (ssize_t)len;
    }
    return send(e->fd, data, len, MSG_NOSIGNAL);
}

static ssize_t get(struct end *e, void *data, size_t len)
{
    int eor;

    if (e->vsk)
        return do_recv(e->vsk, data, len, 0, NULL);
    if (e->kind == UNIX_FRAMED)
        return recv_frames(e->fd, data, len, &eor);
    return recv(e->fd, data, len, 0);
}

static void end_of(struct end *e)
{
    if (e->vsk)
        uvirt_vsock_close(e->vsk);
    else
        close(e->fd);
}

/* Send a number of bytes that depends on (seed), in pieces that do, too. False: it was cut off. */
static bool talk(struct end *e, u32 seed, bool all)
{
    static _Thread_local u8 buf[RECORD_MAX + 8];
    u32 left = 1 + next_random(&seed) % BYTES_MAX;
    u32 pieces = 1 + next_random(&seed) % 60;

    for (u32 i = 0; left && (all || i < pieces); i++) {
        u32 n = 1 + next_random(&seed) % RECORD_MAX, at = 0;

        n = n < left ? n : left;
        for (u32 j = 0; j < n; j++)
            buf[j] = (u8)((left - j) * 31 + n * (e->kind != UNIX_STREAM));
        while (at < n) {
            ssize_t put_now = put(e, buf + at, n - at);

            if (put_now <= 0)
                return false;
            at += (u32)put_now;
        }
        left -= n;
    }
    return !left;
}

/* Receive what talk(seed) sends; it may end early, but not be wrong. */
static void listen_to(struct end *e, u32 seed)
{
    static _Thread_local u8 buf[RECORD_MAX + 8];
    u32 left = 1 + next_random(&seed) % BYTES_MAX;
    ssize_t n;

    next_random(&seed); /* the number of pieces */
    while (left && (n = get(e, buf, sizeof(buf))) > 0) {
        u32 len = (u32)n;
        bool bad = len > left;

        if (e->kind != UNIX_STREAM) {
            u32 want = 1 + next_random(&seed) % RECORD_MAX;

            bad = bad || len != (want < left ? want : left);
        }
        for (u32 j = 0; j < len && !bad; j++)
            bad = buf[j] != (u8)((left - j) * 31 + len * (e->kind != UNIX_STREAM));
        if (bad) {
            atomic_fetch_add(&wrong, 1);
            return;
        }
        left -= len;
    }
}

/* --- who listens: says nothing, or sends back its own --- */

static void serve(struct end *e)
{
    u8 head[8];
    u32 seed;

    if (get(e, head, sizeof(head)) != sizeof(head)) {
        end_of(e); /* the client has gone already */
        return;
    }
    memcpy(&seed, head, sizeof(seed));
    if (head[4] & 1)
        listen_to(e, seed);
    if (head[4] & 2)
        talk(e, seed ^ 0x5a5a, !(head[4] & 4));
    end_of(e);
}

static void *guest_server(void *arg)
{
    sock *l = arg, *s;

    while (!uvirt_vsock_accept(l, false, &s)) {
        struct end e = {.fd = -1,
                        .vsk = s,
                        .kind = get_int(s, SO_TYPE) == SOCK_STREAM ? UNIX_STREAM : UNIX_SEQPACKET};

        if (atomic_load(&stop)) {
            uvirt_vsock_close(s);
            break;
        }
        serve(&e);
    }
    return NULL;
}

struct host_listener {
    int fd;
    enum unix_kind kind;
};

static void *host_server(void *arg)
{
    struct host_listener *l = arg;
    int fd;

    while ((fd = accept(l->fd, NULL, NULL)) >= 0) {
        struct end e = {.fd = fd, .kind = l->kind};

        serve(&e);
    }
    return NULL;
}

/* --- who connects --- */

static bool open_end(struct end *e, u32 *seed)
{
    u32 r = next_random(seed);

    e->vsk = NULL;
    e->kind = (enum unix_kind)(r % UNIX_KINDS);
    if (r & 0x100) {
        int type = e->kind == UNIX_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;

        e->kind = type == SOCK_STREAM ? UNIX_STREAM : UNIX_SEQPACKET;
        e->fd = -1;
        e->vsk = new_sock(wire.guest, type);
        if (do_connect(e->vsk, 2, type == SOCK_STREAM ? 7000 : 7001, false)) {
            uvirt_vsock_close(e->vsk);
            return false;
        }
        return true;
    }
    e->fd = dial(paths[e->kind], e->kind == UNIX_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM,
                 PORT_GUEST + (e->kind != UNIX_STREAM));
    return e->fd >= 0;
}

static void *client(void *arg)
{
    u32 seed = (u32)(uintptr_t)arg * 7919 + 1;

    while (!enough()) {
        struct end e;
        u8 head[8] = {0};
        u32 data_seed = next_random(&seed), how = next_random(&seed) % 16;

        if (!open_end(&e, &seed))
            continue;
        memcpy(head, &data_seed, sizeof(data_seed));
        head[4] = (u8)how;
        if (how != 15 && put(&e, head, sizeof(head)) == sizeof(head)) {
            if (how & 1)
                talk(&e, data_seed, how & 8);
            if (how & 2 && !(how & 1 && !(how & 8)))
                listen_to(&e, data_seed ^ 0x5a5a);
        }
        end_of(&e);
        atomic_fetch_add(&done_connections, 1);
    }
    return NULL;
}

static unsigned open_files(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static unsigned socks(struct uvirt_vsock *v)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    unsigned n;

    uvirt_vsock_run_timers(v);
    vsock_lock(ctx);
    n = ctx->nr_socks;
    vsock_unlock(ctx);
    return n;
}

int main(int argc, char **argv)
{
    static const char *const suffix[UNIX_KINDS] = {"", VSOCK_UNIX_SEQPACKET, VSOCK_UNIX_FRAMED};
    struct host_listener hosts[2];
    sock *guests[2], *s;
    pthread_t server[4], clients[CLIENTS];
    char why[VSOCK_UNIX_WHY];
    unsigned files;

    begin();
    alarm(argc > 1 ? (unsigned)atoi(argv[1]) + HANG_S : HANG_S);
    until = argc > 1 ? seconds_now() + (u64)atoi(argv[1]) : 0;
    if (!ok(!wire_open(&wire, 3, path_of("v", ""), 0, why), "a bridge"))
        return tap_done();
    hosts[0] =
        (struct host_listener){listen_at(path_of("v", "_7000"), SOCK_STREAM, 64), UNIX_STREAM};
    hosts[1] = (struct host_listener){listen_at(path_of("v", "_7001"), SOCK_SEQPACKET, 64),
                                      UNIX_SEQPACKET};
    guests[0] = listener(wire.guest, SOCK_STREAM, PORT_GUEST, 64);
    guests[1] = listener(wire.guest, SOCK_SEQPACKET, PORT_GUEST + 1, 64);
    for (unsigned i = 0; i < UNIX_KINDS; i++)
        snprintf(paths[i], sizeof(paths[i]), "%s", path_of("v", suffix[i]));
    files = open_files();
    for (unsigned i = 0; i < 2; i++) {
        pthread_create(&server[i], NULL, guest_server, guests[i]);
        pthread_create(&server[2 + i], NULL, host_server, &hosts[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_create(&clients[i], NULL, client, (void *)(uintptr_t)(i + 1));
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(clients[i], NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 2; i++) {
        s = new_sock(wire.guest, i ? SOCK_SEQPACKET : SOCK_STREAM);
        do_connect(s, VMADDR_CID_LOCAL, PORT_GUEST + i, false); /* wakes up its server */
        pthread_join(server[i], NULL);
        uvirt_vsock_close(s);
        shutdown(hosts[i].fd, SHUT_RDWR);
        pthread_join(server[2 + i], NULL);
        uvirt_vsock_close(guests[i]);
    }
    ok(atomic_load(&done_connections) >= (until ? 1 : CONNECTIONS), "%u connections",
       atomic_load(&done_connections));
    is_u64(atomic_load(&wrong), 0, "no byte or boundary was wrong");
    for (unsigned i = 0;
         i < 12000 && (socks(wire.host) || socks(wire.guest) || open_files() != files); i++)
        pause_ms(1);
    is_u64(socks(wire.host) + socks(wire.guest), 0, "no socket is left");
    is_u64(open_files(), files, "no descriptor is left");
    wire_close(&wire);
    close(hosts[0].fd);
    close(hosts[1].fd);
    end();
    return tap_done();
}
