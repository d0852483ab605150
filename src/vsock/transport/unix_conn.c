// SPDX-License-Identifier: MIT
// Life of a bridged connection: the client's CONNECT, the guest's request, and the end.
#include "vsock/transport/unix_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where records above a datagram's size can go. */
#define RECORD_BUFFER (4ull << 20)

static u64 buffer_of(const struct unix_conn *c)
{
    return c->kind == UNIX_FRAMED || c->marks ? RECORD_BUFFER : 0;
}

static u16 type_of(enum unix_kind kind)
{
    return kind == UNIX_STREAM ? VIRTIO_VSOCK_TYPE_STREAM : VIRTIO_VSOCK_TYPE_SEQPACKET;
}

/* Context's lock held, whoever holds it: no more than taking note. */
static void on_event(void *opaque, short events)
{
    struct unix_conn *c = opaque;

    if (events != POLLOUT || c->starved)
        unix_conn_ready(c);
}

static struct unix_conn *conn_new(struct vsock_unix *u, enum unix_state state)
{
    struct unix_conn *c = u->nr_conns < UNIX_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

    if (!c)
        return NULL;
    c->u = u;
    c->fd = c->file = -1;
    c->state = state;
    c->starved = true; /* of an answer, first */
    TAILQ_INIT(&c->out);
    TAILQ_INSERT_TAIL(&u->conns, c, link);
    u->nr_conns++;
    c->deadline = vsock_deadline(u->ctx, u->config.handshake_ms * 1000000ull);
    if (state == UNIX_HELLO) {
        TAILQ_INSERT_TAIL(&u->hellos, c, timed);
        u->nr_hellos++;
    } else {
        TAILQ_INSERT_TAIL(&u->calls, c, timed);
        u->nr_calls++;
    }
    return c;
}

/* On to a state that has no deadline of ours. */
static void advance(struct unix_conn *c, enum unix_state state)
{
    struct vsock_unix *u = c->u;

    if (c->state == UNIX_HELLO) {
        TAILQ_REMOVE(&u->hellos, c, timed);
        u->nr_hellos--;
    } else if (c->state == UNIX_CALL || c->state == UNIX_GREET) {
        TAILQ_REMOVE(&u->calls, c, timed);
        u->nr_calls--;
    }
    c->state = state;
}

static int watch(struct unix_conn *c)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};

    c->can_read = c->can_write = true;
    return epoll_ctl(c->u->epoll, EPOLL_CTL_ADD, c->fd, &e) ? -errno : 0;
}

void unix_conn_free(struct unix_conn *c)
{
    struct vsock_unix *u = c->u;

    vsock_lock(u->ctx);
    if (c->queued) {
        TAILQ_REMOVE(&u->ready, c, ready_link);
        u->nr_ready--;
    }
    if (c->state == UNIX_CALL || c->state == UNIX_GREET)
        vsock_relay_refuse(u->ctx, &c->request);
    if (c->sk) {
        c->sk->event = NULL;
        if (c->sk->state == VSOCK_ESTABLISHED)
            vsock_sock_reset(c->sk, 0);
        vsock_close(c->sk, false);
    }
    vsock_unlock(u->ctx);
    vsock_pkts_free(&c->out);
    advance(c, UNIX_OPEN);
    if (c->fd >= 0)
        close(c->fd);
    if (c->file >= 0)
        close(c->file);
    TAILQ_REMOVE(&u->conns, c, link);
    u->nr_conns--;
    free(c);
}

/* Both directions have ended: the guest gets what close() says. */
static void conn_close(struct unix_conn *c)
{
    vsock_lock(c->u->ctx);
    vsock_close(c->sk, false);
    c->sk = NULL;
    vsock_unlock(c->u->ctx);
    unix_conn_free(c);
}

/* --- a client --- */

struct unix_conn *unix_conn_hello(struct vsock_unix *u, enum unix_kind kind, int fd,
                                  struct vsock_addr peer, bool marks)
{
    struct unix_conn *c;

    if (u->nr_hellos == VSOCK_UNIX_HANDSHAKES)
        unix_conn_free(TAILQ_FIRST(&u->hellos)); /* the oldest has had its time */
    c = conn_new(u, UNIX_HELLO);
    if (!c) {
        close(fd);
        return NULL;
    }
    c->fd = fd;
    c->kind = kind;
    c->peer = peer;
    c->marks = marks && kind == UNIX_SEQPACKET;
    vsock_unix_prepare(fd);
    if (watch(c)) {
        unix_conn_free(c);
        return NULL;
    }
    vsock_lock(u->ctx);
    unix_conn_ready(c);
    vsock_unlock(u->ctx);
    return c;
}

/*
 * Read the first line, and not a byte beyond it. 1: it is in c->line without its end, 0: not
 * yet, -errno: it will not come.
 */
static int read_line(struct unix_conn *c)
{
    size_t room = sizeof(c->line) - c->line_len, take;
    bool record = c->kind == UNIX_SEQPACKET;
    char *at = c->line + c->line_len, *end;
    ssize_t n;

    if (!c->can_read)
        return 0;
    n = recv(c->fd, at, room, MSG_DONTWAIT | (record ? MSG_TRUNC : MSG_PEEK));
    if (n < 0 && errno == EAGAIN) {
        c->can_read = false;
        return 0;
    }
    if (n <= 0 || (record && (size_t)n > room))
        return n < 0 ? -errno : -EPIPE;
    end = memchr(at, '\n', (size_t)n);
    if (record) {
        c->line_len = end == at + n - 1 ? (u32)n - 1 : (u32)n;
        return 1;
    }
    take = end ? (size_t)(end - at) + 1 : (size_t)n;
    n = recv(c->fd, at, take, MSG_DONTWAIT);
    if (n != (ssize_t)take)
        return -EIO;
    c->line_len += (u32)take;
    if (end) {
        c->line_len--;
        return 1;
    }
    return c->line_len == sizeof(c->line) ? -EMSGSIZE : read_line(c);
}

static int hello(struct unix_conn *c)
{
    struct vsock_unix *u = c->u;
    struct vsock_addr to = {.cid = u->config.guest_cid};
    int rc = read_line(c);

    if (rc <= 0)
        return rc;
    rc = vsock_unix_parse_connect(c->line, c->line_len, &to.port);
    if (rc)
        return rc;
    vsock_lock(u->ctx);
    rc = vsock_relay_connect(u->ctx, type_of(c->kind), c->peer, to, buffer_of(c), &c->sk);
    if (!rc) {
        c->sk->event = on_event;
        c->sk->event_opaque = c;
    }
    vsock_unlock(u->ctx);
    if (!rc)
        advance(c, UNIX_DIAL);
    return rc;
}

static int dial(struct unix_conn *c)
{
    char text[VSOCK_UNIX_LINE];
    bool connected, connecting;
    u32 port;
    int n;

    vsock_lock(c->u->ctx);
    connected = c->sk->connected;
    connecting = c->sk->connecting;
    port = c->sk->local.port;
    vsock_unlock(c->u->ctx);
    if (!connected)
        return connecting ? 0 : -ECONNREFUSED;
    n = snprintf(text, sizeof(text), "OK %u\n", port);
    /* The first bytes on this socket always fit; a client that is gone already is seen later. */
    if (send(c->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
        return -EAGAIN;
    advance(c, UNIX_OPEN);
    return 0;
}

/* --- a guest's request --- */

/* The guest gets its RESPONSE. */
static int answer(struct unix_conn *c)
{
    struct vsock_unix *u = c->u;

    vsock_lock(u->ctx);
    c->sk = vsock_relay_accept(u->ctx, &c->request, buffer_of(c));
    if (c->sk) {
        c->sk->event = on_event;
        c->sk->event_opaque = c;
    }
    vsock_unlock(u->ctx);
    advance(c, UNIX_OPEN);
    return c->sk ? 0 : -ECONNREFUSED;
}

static int call(struct unix_conn *c)
{
    char text[VSOCK_UNIX_LINE];
    struct sockaddr_un addr;
    socklen_t len = sizeof(addr);
    int rc = unix_dial(c), n;

    if (rc == -EAGAIN) {
        unix_retry(c->u);
        return 0;
    }
    if (!rc)
        rc = watch(c);
    if (rc)
        return rc;
    c->marks = c->kind == UNIX_SEQPACKET && !getpeername(c->fd, (struct sockaddr *)&addr, &len) &&
               vsock_unix_takes_marks(&addr, len);
    if (!unix_to_sibling(c))
        return answer(c);
    n = snprintf(text, sizeof(text), "CONNECT %u\n", c->request.dst_port);
    if (send(c->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
        return -EPIPE;
    c->state = UNIX_GREET; /* its deadline stays */
    return 0;
}

static int greet(struct unix_conn *c)
{
    u32 port;
    int rc = read_line(c);

    if (rc <= 0)
        return rc;
    rc = vsock_unix_parse_ok(c->line, c->line_len, &port);
    return rc ? rc : answer(c);
}

/* The guest asks again, between the same ports: it has given up what it asked before. */
static void forget_same(struct vsock_unix *u, const struct vsock_hdr *h)
{
    struct unix_conn *c;

    TAILQ_FOREACH(c, &u->calls, timed)
    {
        if (c->request.dst_cid == h->dst_cid && c->request.dst_port == h->dst_port &&
            c->request.src_port == h->src_port)
            break;
    }
    if (!c)
        return;
    advance(c, UNIX_OPEN); /* without an answer */
    unix_conn_free(c);
}

void unix_conn_call(struct vsock_unix *u, const struct vsock_hdr *h)
{
    bool sibling = h->dst_cid != VMADDR_CID_HOST;
    struct unix_conn *c = NULL;

    forget_same(u, h);
    if (u->nr_calls < VSOCK_UNIX_HANDSHAKES &&
        (!sibling || (*u->dir && h->dst_cid > VMADDR_CID_HOST && h->dst_cid != h->src_cid)))
        c = conn_new(u, UNIX_CALL);
    vsock_lock(u->ctx);
    if (!c)
        vsock_relay_refuse(u->ctx, h);
    else
        unix_conn_ready(c);
    vsock_unlock(u->ctx);
    if (c)
        c->request = *h;
}

void unix_conn_step(struct unix_conn *c)
{
    enum unix_more more = UNIX_IDLE;
    int rc = 0;

    if (c->state == UNIX_CALL)
        rc = call(c);
    if (!rc && c->state == UNIX_HELLO)
        rc = hello(c);
    if (!rc && c->state == UNIX_DIAL)
        rc = dial(c);
    if (!rc && c->state == UNIX_GREET)
        rc = greet(c);
    if (!rc && c->state == UNIX_OPEN)
        more = unix_carry(c);
    if (rc || more == UNIX_ABORT) {
        unix_conn_free(c);
    } else if (more == UNIX_OVER) {
        conn_close(c);
    } else if (more == UNIX_MORE) {
        vsock_lock(c->u->ctx);
        unix_conn_ready(c);
        vsock_unlock(c->u->ctx);
    }
}
