// SPDX-License-Identifier: MIT
// Faults of other bridges between vsock and Unix sockets, each by its name: spinning, stalls, leaks, lost words.

/*
 * The bridge here has no thread: the test makes its rounds, so it can say when nothing is left to
 * do. A bridge that would spin is one that never gets there. SIGPIPE has its default: it kills.
 */
#include "unix_host.h"
#include "vsock/transport/unix_priv.h"

#define GUEST  3
#define GPORT  1052 /* where the guest listens */
#define ROUNDS 300

static struct wire w;
static sock *guest_listener;
static u8 chunk[65536];

static void nothing(void *opaque)
{
}

/* (path): NULL, or where its names are. */
static void open_bridge(const char *path)
{
    struct vsock_unix_config config = {
        .guest_cid = GUEST, .path = path, .pump = wire_pump, .opaque = &w};
    struct vsock_device_config device = {.guest_cid = GUEST, .kick = vsock_unix_kick};
    char why[VSOCK_UNIX_WHY];

    memset(&w, 0, sizeof(w));
    pthread_mutex_init(&w.lock, NULL);
    TAILQ_INIT(&w.queue);
    w.t.ops = &wire_ops;
    w.t.local_cid = GUEST;
    w.t.seqpacket = &vsock_framing_eom;
    w.host = context(VMADDR_CID_HOST, true, false);
    w.guest = context(GUEST, true, false);
    if (unix_new(w.host, &config, why, &w.u))
        exit(99);
    device.opaque = w.u;
    if (vsock_device_create(w.host, &device, &w.dev))
        exit(99);
    vsock_transport_add((struct vsock_ctx *)w.guest, &w.t);
    vsock_device_start(w.dev, true, true);
    guest_listener = listener(w.guest, SOCK_STREAM, GPORT, 64);
}

static bool idle(void)
{
    struct epoll_event e;

    return !w.u->nr_ready && !w.u->nr_requests && !w.u->self_kicked && !w.u->kicked &&
           epoll_wait(w.u->epoll, &e, 1, 0) == 0;
}

/* Rounds until nothing is left to do: false if that does not come. */
static bool settle(void)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        unix_round(w.u, 0);
        if (idle())
            return true;
    }
    return false;
}

static void close_bridge(const char *what)
{
    uvirt_vsock_close(guest_listener);
    for (unsigned i = 0; i < 30; i++) {
        advance_ms(1000);
        settle();
    }
    is_u64(w.u->nr_conns, 0, "%s: no connection is left", what);
    wire_pump(&w);
    uvirt_vsock_run_timers(w.guest);
    uvirt_vsock_run_timers(w.host);
    is_u64(((struct vsock_ctx *)w.host)->nr_socks, 0, "%s: no socket is left", what);
    wire_close(&w);
}

/* A client that says it is port (port) of the host, and nothing else yet. */
static int client(u32 port)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
        exit(99);
    unix_conn_hello(w.u, UNIX_STREAM, pair[1], (struct vsock_addr){VMADDR_CID_HOST, port}, false);
    return pair[0];
}

static void say(int fd, const char *text, size_t len)
{
    if (send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
        exit(98);
}

static void say_connect(int fd)
{
    say(fd, "CONNECT 1052\n", 13);
}

/* The port in the OK that came; 0: none did. */
static u32 ok_port(int fd)
{
    char line[64];
    ssize_t n = recv(fd, line, sizeof(line) - 1, MSG_PEEK);
    char *end;

    if (n < 5 || memcmp(line, "OK ", 3) || !(end = memchr(line, '\n', (size_t)n)))
        return 0;
    *end = 0;
    n = recv(fd, line, (size_t)(end - line) + 1, 0);
    return (u32)strtoul(line + 3, NULL, 10);
}

/* Both ends of a connection. */
static int connected(u32 port, sock **guest)
{
    int fd = client(port);

    say_connect(fd);
    settle();
    *guest = do_accept(guest_listener);
    if (!*guest || !ok_port(fd))
        exit(99);
    return fd;
}

static void test_no_buffers(void)
{
    size_t sent = 0, got = 0;
    bool calm = true;
    ssize_t n;
    sock *g;
    int fd;

    open_bridge(NULL);
    fd = connected(10000, &g);
    w.u->config.pump = nothing;
    while ((n = send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL)) > 0 || sent == 0) {
        sent += n > 0 ? (size_t)n : 0;
        calm = calm && settle();
    }
    for (unsigned i = 0; i < 100; i++) {
        advance_ms(21); /* its sender asks for credit */
        calm = calm && settle();
    }
    ok(calm && sent < 4 << 20,
       "Firecracker #6031, #6041, libkrun #344: a guest that posts no buffers costs no CPU");
    w.u->config.pump = wire_pump;
    vsock_unix_kick(w.u);
    while (got < sent) {
        settle();
        n = do_recv(g, chunk, sizeof(chunk), MSG_DONTWAIT, NULL);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    is_u64(got, sent, "and gets all bytes later");
    close(fd);
    uvirt_vsock_close(g);
    close_bridge("no buffers");
}

static void test_dead_peer(void)
{
    size_t sent = 0;
    bool calm = true;
    ssize_t n;
    sock *g;
    int fd;

    open_bridge(NULL);
    fd = connected(10000, &g);
    while ((n = do_send(g, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0) {
        sent += (size_t)n;
        calm = calm && settle();
    }
    ok(calm && sent < 4 << 20, "a client that reads nothing costs no CPU");
    close(fd);
    ok(settle() && !w.u->nr_conns, "Firecracker 65c2ec4, vhost-device 99ec307: nor one that died");
    ok(do_send(g, "x", 1, MSG_DONTWAIT) < 0, "and the guest hears of it");
    uvirt_vsock_close(g);
    fd = connected(10000, &g);
    do_send(g, "x", 1, MSG_DONTWAIT);
    wire_pump(&w); /* the byte is there, and nobody to read it */
    shutdown(fd, SHUT_RD);
    settle();
    close(fd);
    ok(settle() && !w.u->nr_conns, "Firecracker #2464: no SIGPIPE ends the bridge");
    uvirt_vsock_close(g);
    fd = connected(10001, &g);
    shutdown(fd, SHUT_WR);
    ok(settle() && !do_recv(g, chunk, 9, MSG_DONTWAIT, NULL),
       "microvm.nix #493, kata: a half-close gets through at once, and costs no CPU either");
    ok(do_send(g, "rest", 4, MSG_DONTWAIT) == 4 && settle() && recv(fd, chunk, 9, 0) == 4,
       "vhost-device #874, propolis #1102: the other half goes on");
    uvirt_vsock_shutdown(g, SHUT_WR);
    ok(settle() && recv(fd, chunk, 9, 0) == 0 && !w.u->nr_conns,
       "iperf-vsock #4: both halves closed, nothing of it stays");
    close(fd);
    uvirt_vsock_close(g);
    close_bridge("dead peers");
}

/* A client that goes after each number of bytes of its first line, with pieces or in one. */
static void test_partial(void)
{
    static const char line[] = "CONNECT 1052\nx";
    bool good = true;
    sock *g;

    open_bridge(NULL);
    for (size_t cut = 0; cut < sizeof(line); cut++) {
        for (unsigned how = 0; how < 3; how++) {
            int fd = client(10000 + (u32)cut);

            if (how == 2)
                settle();
            say(fd, line, cut);
            if (how == 1)
                settle();
            close(fd);
            good = good && settle();
            while ((g = do_accept(guest_listener)))
                uvirt_vsock_close(g);
            good = good && settle() && !w.u->nr_conns;
        }
    }
    ok(good,
       "Cloud Hypervisor #6621, #6798, #7310, vhost-device: clients gone at each byte of CONNECT");
    close_bridge("partial lines");
}

/* OK, and what follows it, for clients that have closed their half already. */
static void test_early_end(void)
{
    char back[32];
    sock *g;
    int fd;

    open_bridge(NULL);
    fd = client(10000);
    say(fd, "CONNECT 1052\nearly", 18);
    shutdown(fd, SHUT_WR);
    settle();
    g = do_accept(guest_listener);
    ok(g && do_recv(g, back, 9, MSG_DONTWAIT, NULL) == 5 && !memcmp(back, "early", 5),
       "vhost-device: bytes behind CONNECT in one write are not lost");
    ok(!do_recv(g, back, 9, MSG_DONTWAIT, NULL), "nor the end behind them");
    do_send(g, "late", 4, MSG_DONTWAIT);
    settle();
    ok(ok_port(fd) == 10000 && recv(fd, back, 9, 0) == 4,
       "Cloud Hypervisor #3485: OK and the answer come after the client's half-close");
    close(fd);
    uvirt_vsock_close(g);
    close_bridge("early ends");
}

/* The guest is not there yet, or does not answer. */
static void test_absent(void)
{
    int fd;

    open_bridge(NULL);
    vsock_device_stop(w.dev);
    fd = client(10000);
    say_connect(fd);
    ok(settle() && is_closed(fd), "kata #8291, Firecracker #1253: no guest yet: refused at once");
    close(fd);
    vsock_device_start(w.dev, true, true);
    w.u->config.pump = nothing;
    fd = client(10000);
    say_connect(fd);
    settle();
    advance_ms(1999);
    ok(settle() && !is_closed(fd), "a guest that does not answer");
    advance_ms(2);
    ok(settle() && is_closed(fd), "kata #8291: ends the wait after two seconds");
    close(fd);
    w.u->config.pump = wire_pump;
    vsock_unix_kick(w.u);
    close_bridge("absent guests");
}

/* A restored guest: its connections are gone, its listeners are there. */
static void test_restored(void)
{
    u32 ports[2];
    sock *g, *h;
    int fd, next;

    open_bridge(NULL);
    fd = connected(VMADDR_PORT_ANY, &g);
    vsock_device_reset(w.dev);
    ok(settle() && is_closed(fd), "a restored guest: the connection is over");
    next = connected(VMADDR_PORT_ANY, &h);
    ok(do_send(h, "first", 5, MSG_DONTWAIT) == 5 && settle() && recv(next, chunk, 9, 0) == 5,
       "Cloud Hypervisor #7263: the first connection after that works");
    close(fd);
    close(next);
    uvirt_vsock_close(g);
    uvirt_vsock_close(h);
    close_bridge("restored");
    for (unsigned i = 0; i < 2; i++) {
        open_bridge(NULL);
        fd = client(VMADDR_PORT_ANY);
        say_connect(fd);
        settle();
        ports[i] = ok_port(fd);
        close(fd);
        close_bridge("ports");
    }
    ok(ports[0] && ports[1] && ports[0] != ports[1],
       "Firecracker #5688: a restored VM does not begin at the ports that it had: %u, %u", ports[0],
       ports[1]);
}

/* Ports belong to connections: one that got another than it wanted gives back that one. */
static void test_owners(void)
{
    int fd[4];
    u32 port[4];
    sock *g[4];

    open_bridge(NULL);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 3)
            close(fd[0]);
        if (i == 2 || i == 3) {
            close(fd[1]);
            fd[1] = -1;
            settle();
            if (i == 3) {
                uvirt_vsock_close(g[0]);
                settle();
            }
        }
        fd[i] = client(7777);
        say_connect(fd[i]);
        settle();
        g[i] = do_accept(guest_listener);
        port[i] = ok_port(fd[i]);
    }
    ok(port[0] == 7777 && port[1] && port[1] != 7777, "a port that is taken: another");
    ok(port[2] && port[2] != 7777,
       "Cloud Hypervisor 8bd96078a: the end of that one does not free the first one's");
    is_u64(port[3], 7777, "its own end does");
    ok(do_send(g[2], "x", 1, MSG_DONTWAIT) == 1 && settle() && recv(fd[2], chunk, 9, 0) == 1,
       "iperf-vsock #7: and bytes go where they belong");
    for (unsigned i = 1; i < 4; i++) {
        if (fd[i] >= 0)
            close(fd[i]);
        uvirt_vsock_close(g[i]);
    }
    close_bridge("ports");
}

/* A guest that asks and asks, at a host's listener that has no room and where nobody is. */
static void test_flood(void)
{
    static sock *c[1000];
    unsigned refused = 0, waiting = 0, most = 0, queued = 0;
    int l;

    open_bridge(path_of("v", ""));
    l = listen_at(path_of("v", "_6000"), SOCK_STREAM, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        c[i] = new_sock(w.guest, SOCK_STREAM);
        do_connect(c[i], VMADDR_CID_HOST, i % 2 ? 6000 : 6001, true);
        wire_pump(&w);
        if (i % 500 == 499)
            settle();
        most = w.u->nr_conns > most ? w.u->nr_conns : most;
        queued = w.u->nr_requests > queued ? w.u->nr_requests : queued;
    }
    settle();
    for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
        refused += get_int(c[i], SO_ERROR) == ECONNRESET;
        waiting += !uvirt_vsock_poll(c[i]);
    }
    ok(most <= VSOCK_UNIX_HANDSHAKES + 2 && queued <= VSOCK_UNIX_HANDSHAKES &&
           refused + waiting > 990 && refused > 700,
       "mvm #1861: of 1000 requests %u wait, %u are refused at once, %u have state", waiting,
       refused, most);
    for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
        uvirt_vsock_close(c[i]);
    close(l);
    close_bridge("a flood of requests");
}

static unsigned pumps, rests;

static void count_pump(void *opaque)
{
    pumps++;
    wire_pump(&w);
}

static bool count_rest(void *opaque)
{
    return ++rests <= 3;
}

/* A bridge that has pumped asks before it waits whether it may. */
static void test_rest(void)
{
    open_bridge(NULL);
    w.u->config.pump = count_pump;
    w.u->config.rest = count_rest;
    vsock_unix_kick(w.u);
    for (unsigned i = 0; i < 10; i++)
        unix_round(w.u, 1);
    ok(pumps == 4 && rests == 4,
       "a device that is not done yet is pumped again, and no more: %u, %u", pumps, rests);
    close_bridge("rest");
}

int main(void)
{
    begin();
    signal(SIGPIPE, SIG_DFL);
    test_no_buffers();
    test_dead_peer();
    test_partial();
    test_early_end();
    test_absent();
    test_restored();
    test_owners();
    test_flood();
    test_rest();
    end();
    return tap_done();
}
