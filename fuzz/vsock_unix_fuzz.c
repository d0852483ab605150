// SPDX-License-Identifier: MIT
// Fuzzes the bridge to Unix sockets: handshakes, streams, records, frames and marks from hostile clients.

/*
 * The input is a list of operations (see enum op) on a few clients of a bridge and on the
 * guest behind it, which really listens. Clients send whatever the input says, in pieces, or
 * a proper CONNECT. Invariants: no sanitizer report; what the guest reads from a STREAM is
 * what its client sent behind the first newline; at the end no socket, connection or
 * descriptor is left.
 */
#include "fuzz.h"
#include "vsock/transport/unix_priv.h"
#include "wire.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define OPS_MAX    200
#define CLIENTS    6
#define PORT_FIRST 5000 /* STREAM, then SEQPACKET */
#define CHUNK_MAX  3000
#define LOG_MAX    65536

enum op {
    OP_OPEN,
    OP_CONNECT,
    OP_BYTES,
    OP_FRAME,
    OP_MARKED,
    OP_READ,
    OP_SHUTDOWN,
    OP_CLOSE,
    OP_ROUND,
    OP_ACCEPT,
    OP_GUEST_SEND,
    OP_GUEST_RECV,
    OP_GUEST_CLOSE,
    OP_GUEST_CALL,
    OP_GUEST_RESET,
    OP_TIME,
    OP_COUNT,
};

struct client {
    int fd;
    enum unix_kind kind;
    sock *guest;
    u8 *sent;
    size_t nr_sent, nr_got;
    bool marked; /* what it sent is not in (sent) */
};

struct state {
    struct wire w;
    sock *listeners[2], *caller;
    struct client clients[CLIENTS];
    u32 opened;
    u32 port_of[CLIENTS]; /* that each says it has */
};

static u8 chunk[LOG_MAX];

static void set_up(struct state *s, bool marker)
{
    struct vsock_device_config device = {.guest_cid = 3, .kick = vsock_unix_kick};
    struct vsock_unix_config config = {
        .guest_cid = 3, .pump = wire_pump, .opaque = &s->w, .marker = marker};
    char why[VSOCK_UNIX_WHY];
    struct wire *w = &s->w;

    test_clock = 1000000000;
    pthread_mutex_init(&w->lock, NULL);
    TAILQ_INIT(&w->queue);
    w->t.ops = &wire_ops;
    w->t.local_cid = 3;
    w->t.seqpacket = marker ? &vsock_framing_marker : &vsock_framing_eom;
    w->host = context(VMADDR_CID_HOST, true, marker);
    w->guest = context(3, true, marker);
    device.marker = marker;
    if (unix_new(w->host, &config, why, &w->u))
        abort();
    device.opaque = w->u;
    if (vsock_device_create(w->host, &device, &w->dev))
        abort();
    vsock_lock((struct vsock_ctx *)w->guest);
    vsock_transport_add((struct vsock_ctx *)w->guest, &w->t);
    vsock_unlock((struct vsock_ctx *)w->guest);
    vsock_device_start(w->dev, true, true);
    s->listeners[0] = listener(w->guest, SOCK_STREAM, PORT_FIRST, 8);
    s->listeners[1] = listener(w->guest, SOCK_SEQPACKET, PORT_FIRST + 1, 8);
    for (unsigned i = 0; i < CLIENTS; i++)
        s->clients[i].fd = -1;
}

static void log_sent(struct client *c, const void *data, ssize_t n)
{
    if (n <= 0 || c->kind != UNIX_STREAM)
        return;
    if (c->nr_sent + (size_t)n > LOG_MAX) {
        c->marked = true;
        return;
    }
    memcpy(c->sent + c->nr_sent, data, (size_t)n);
    c->nr_sent += (size_t)n;
}

static void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->guest)
        uvirt_vsock_close(c->guest);
    free(c->sent);
    *c = (struct client){.fd = -1};
}

static void op_open(struct state *s, unsigned i, u8 bits)
{
    struct client *c = &s->clients[i];
    int pair[2];

    client_close(c);
    c->kind = (enum unix_kind)(bits % UNIX_KINDS);
    if (c->kind == UNIX_FRAMED && s->w.u->config.marker)
        c->kind = UNIX_STREAM;
    if (socketpair(AF_UNIX,
                   (c->kind == UNIX_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK |
                       SOCK_CLOEXEC,
                   0, pair))
        return;
    c->fd = pair[0];
    c->sent = malloc(LOG_MAX);
    s->port_of[i] = 10000 + s->opened++;
    unix_conn_hello(s->w.u, c->kind, pair[1], (struct vsock_addr){2, s->port_of[i]}, bits & 0x80);
}

static void op_connect(struct state *s, struct client *c)
{
    char line[32];
    int n = snprintf(line, sizeof(line), "CONNECT %u\n", PORT_FIRST + (c->kind != UNIX_STREAM));

    log_sent(c, line, send(c->fd, line, (size_t)n, MSG_NOSIGNAL));
}

static void op_bytes(struct client *c, struct fuzz_input *in)
{
    size_t n = fuzz_u8(in);
    u8 how = fuzz_u8(in);

    if (how & 1)
        n = n * 12 % CHUNK_MAX;
    fuzz_bytes(in, chunk, how & 1 ? 8 : n); /* the rest is what was there before */
    log_sent(c, chunk, send(c->fd, chunk, n, MSG_NOSIGNAL));
}

static void op_frame(struct client *c, struct fuzz_input *in)
{
    u32 v = htole32(fuzz_u16(in) % CHUNK_MAX | (u32)(fuzz_u8(in) & 3) << 30);
    ssize_t n;

    memcpy(chunk, &v, sizeof(v));
    n = send(c->fd, chunk, VSOCK_FRAME_HDR + (le32toh(v) & VSOCK_FRAME_LENGTH), MSG_NOSIGNAL);
    log_sent(c, chunk, n);
}

/* A record with descriptors beside it. */
static void op_marked(struct client *c, struct fuzz_input *in)
{
    char control[CMSG_SPACE(8 * sizeof(int))] = {0};
    u8 bits = fuzz_u8(in);
    size_t len = fuzz_u8(in) % 8, count = 1 + bits % 6;
    struct iovec v = {chunk, len};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    int fd = bits & 0x40 ? eventfd(0, EFD_CLOEXEC) : memfd_create("fuzz", MFD_CLOEXEC);

    if (!(bits & 0x40) && ftruncate(fd, bits & 0x20 ? fuzz_u16(in) : 1ll << (bits & 0x1f)))
        abort();
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (size_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(h) + i * sizeof(int), &fd, sizeof(fd));
    log_sent(c, chunk, sendmsg(c->fd, &m, MSG_NOSIGNAL));
    close(fd);
}

static void op_accept(struct state *s, unsigned which)
{
    struct sockaddr_vm a;
    sock *g;

    if (uvirt_vsock_accept(s->listeners[which & 1], true, &g))
        return;
    uvirt_vsock_getpeername(g, &a);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *c = &s->clients[i];

        if (c->fd >= 0 && s->port_of[i] == a.svm_port && !c->guest) {
            c->guest = g;
            return;
        }
    }
    uvirt_vsock_close(g); /* its client has gone already */
}

static void op_guest_recv(struct client *c)
{
    static u8 buf[LOG_MAX];
    ssize_t n = do_recv(c->guest, buf, sizeof(buf), MSG_DONTWAIT, NULL);
    const u8 *line;
    size_t at;

    if (n <= 0 || c->kind != UNIX_STREAM || c->marked)
        return;
    line = memchr(c->sent, '\n', c->nr_sent);
    at = line ? (size_t)(line - c->sent) + 1 + c->nr_got : SIZE_MAX;
    if (!line || at + (size_t)n > c->nr_sent || memcmp(c->sent + at, buf, (size_t)n))
        abort();
    c->nr_got += (size_t)n;
}

static void on_client(struct state *s, struct client *c, enum op op, struct fuzz_input *in)
{
    static u8 buf[LOG_MAX];
    ssize_t n;

    if (c->fd < 0)
        return;
    switch (op) {
    case OP_CONNECT:
        op_connect(s, c);
        break;
    case OP_BYTES:
        op_bytes(c, in);
        break;
    case OP_FRAME:
        op_frame(c, in);
        break;
    case OP_MARKED:
        op_marked(c, in);
        break;
    case OP_READ:
        n = recv(c->fd, buf, sizeof(buf), 0);
        (void)n;
        break;
    case OP_SHUTDOWN:
        shutdown(c->fd, fuzz_u8(in) % 3);
        break;
    case OP_CLOSE:
        client_close(c);
        break;
    default:
        break;
    }
    if (!c->guest)
        return;
    if (op == OP_GUEST_SEND)
        do_send(c->guest, chunk, 1 + fuzz_u16(in) % CHUNK_MAX * 4u,
                MSG_DONTWAIT | MSG_NOSIGNAL | (fuzz_u8(in) & 1 ? MSG_EOR : 0));
    else if (op == OP_GUEST_RECV)
        op_guest_recv(c);
    else if (op == OP_GUEST_CLOSE && fuzz_u8(in) & 1)
        uvirt_vsock_shutdown(c->guest, fuzz_u8(in) % 3);
    else if (op == OP_GUEST_CLOSE && !uvirt_vsock_close(c->guest))
        c->guest = NULL;
}

static void step(struct state *s, struct fuzz_input *in)
{
    enum op op = fuzz_u8(in) % OP_COUNT;
    unsigned i = fuzz_u8(in) % CLIENTS;

    switch (op) {
    case OP_OPEN:
        op_open(s, i, fuzz_u8(in));
        break;
    case OP_ROUND:
        unix_round(s->w.u, 0);
        break;
    case OP_ACCEPT:
        op_accept(s, i);
        break;
    case OP_GUEST_CALL:
        if (s->caller)
            uvirt_vsock_close(s->caller);
        s->caller = new_sock(s->w.guest, i & 1 ? SOCK_STREAM : SOCK_SEQPACKET);
        do_connect(s->caller, i & 2 ? 2 : 7, i, true);
        break;
    case OP_GUEST_RESET:
        vsock_device_reset(s->w.dev);
        break;
    case OP_TIME:
        test_clock += fuzz_u16(in) * 1000000ull;
        break;
    default:
        on_client(s, &s->clients[i], op, in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct state s = {0};

    set_up(&s, fuzz_u8(&in) & 1);
    for (unsigned i = 0; i < OPS_MAX && in.size; i++)
        step(&s, &in);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(&s.clients[i]);
    if (s.caller)
        uvirt_vsock_close(s.caller);
    uvirt_vsock_close(s.listeners[0]);
    uvirt_vsock_close(s.listeners[1]);
    for (unsigned i = 0; i < 50 && s.w.u->nr_conns; i++) {
        test_clock += 1000000000;
        unix_round(s.w.u, 0);
    }
    if (s.w.u->nr_conns)
        abort(); /* all clients have gone: nothing may be left */
    wire_pump(&s.w);
    test_clock += 10000000000ull;
    uvirt_vsock_run_timers(s.w.host);
    uvirt_vsock_run_timers(s.w.guest);
    if (((struct vsock_ctx *)s.w.host)->nr_socks)
        abort();
    wire_close(&s.w);
    return 0;
}
