// SPDX-License-Identifier: MIT
// Sockets over loopback: addresses, connecting, data, records, shutdown, options, poll.
#include "pair.h"

#include <sys/ioctl.h>

static u8 big[600000], back[600000];

static void test_bind(struct uvirt_vsock *v)
{
    sock *a = new_sock(v, SOCK_STREAM), *b = new_sock(v, SOCK_STREAM);
    struct sockaddr_vm addr;

    is_u64(do_bind(a, VMADDR_CID_ANY, 80), -EACCES, "ports below 1024 need privilege");
    is_u64(do_bind(a, 77, 5000), -EADDRNOTAVAIL, "a CID that is not ours");
    is_u64(do_bind(a, VMADDR_CID_ANY, 5000), 0, "bind");
    is_u64(do_bind(a, VMADDR_CID_ANY, 5001), -EINVAL, "bind twice");
    is_u64(do_bind(b, VMADDR_CID_LOCAL, 5000), -EADDRINUSE, "CID_ANY conflicts with any CID");
    is_u64(do_bind(b, VMADDR_CID_ANY, VMADDR_PORT_ANY), 0, "bind to any port");
    uvirt_vsock_getsockname(b, &addr);
    ok(addr.svm_port > 1023 && addr.svm_port != VMADDR_PORT_ANY, "getsockname tells which");
    uvirt_vsock_close(b);
    b = new_sock(v, SOCK_STREAM);
    addr = address(VMADDR_CID_ANY, 6000);
    addr.svm_flags = 2;
    ok(uvirt_vsock_bind(b, &addr, sizeof(addr)) && errno == EINVAL, "unknown svm_flags");
    addr = address(VMADDR_CID_ANY, 6000);
    addr.svm_family = AF_UNIX;
    ok(uvirt_vsock_bind(b, &addr, sizeof(addr)) && errno == EAFNOSUPPORT, "another family");
    ok(uvirt_vsock_listen(b, 1) && errno == EINVAL, "listen unbound");
    uvirt_vsock_close(a);
    is_u64(do_bind(b, VMADDR_CID_ANY, 5000), 0, "a closed socket's port is free");
    uvirt_vsock_close(b);
}

static void test_connect(struct uvirt_vsock *v)
{
    sock *c = new_sock(v, SOCK_STREAM), *l, *s;
    struct sockaddr_vm addr;

    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, false), -ECONNRESET, "nobody listens: RST");
    is_u64(do_connect(c, 99, PORT, false), -ENODEV, "no transport");
    ok(uvirt_vsock_getpeername(c, &addr) && errno == ENOTCONN, "getpeername unconnected");
    is_u64(do_send(c, "x", 1, 0), -ENOTCONN, "send unconnected");
    is_u64(do_recv(c, back, 1, 0, NULL), -ENOTCONN, "recv unconnected");
    l = listener(v, SOCK_STREAM, PORT, 1);
    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, false), 0, "retry after failure");
    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, false), -EISCONN, "EISCONN");
    s = do_accept(l);
    ok(s && !uvirt_vsock_getpeername(s, &addr) && addr.svm_cid == VMADDR_CID_LOCAL, "accept");
    ok(!do_accept(l) && errno == EAGAIN, "no more to accept");
    ok(uvirt_vsock_accept(c, true, &s) && errno == EINVAL, "accept on what does not listen");
    uvirt_vsock_close(c);
    uvirt_vsock_close(s);
    c = new_sock(v, SOCK_SEQPACKET);
    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, false), -ECONNRESET, "type mismatch: RST");
    uvirt_vsock_close(c);
    uvirt_vsock_close(l);
}

static void test_backlog(struct uvirt_vsock *v)
{
    sock *l = listener(v, SOCK_STREAM, PORT, 1), *c[3], *s;
    int rc[3];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            c[i] = new_sock(v, SOCK_STREAM);
            rc[i] = do_connect(c[i], VMADDR_CID_LOCAL, PORT, false);
        }
        ok(!rc[0] && !rc[1] && rc[2] == -ECONNRESET, "a full backlog refuses, round %d", round);
        for (int i = 0; i < 3; i++)
            uvirt_vsock_close(c[i]);
        while ((s = do_accept(l)))
            uvirt_vsock_close(s);
    }
    c[0] = new_sock(v, SOCK_STREAM);
    do_connect(c[0], VMADDR_CID_LOCAL, PORT, false);
    uvirt_vsock_close(l);
    is_u64(do_recv(c[0], back, 1, 0, NULL), 0,
           "the listener's end is the end of what it never accepted");
    uvirt_vsock_close(c[0]);
}

static void test_nonblocking(struct uvirt_vsock *v)
{
    sock *l = listener(v, SOCK_STREAM, PORT, 1), *c = new_sock(v, SOCK_STREAM), *s;

    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, true), -EINPROGRESS, "EINPROGRESS");
    ok(uvirt_vsock_poll(c) & POLLOUT && !get_int(c, SO_ERROR), "then writable without error");
    is_u64(uvirt_vsock_poll(l), POLLIN | POLLRDNORM, "the listener is readable");
    s = do_accept(l);
    is_u64(do_recv(s, back, 1, MSG_DONTWAIT, NULL), -EAGAIN, "nothing there: EAGAIN");
    uvirt_vsock_close(s);
    uvirt_vsock_close(c);
    uvirt_vsock_close(l);
    c = new_sock(v, SOCK_STREAM);
    is_u64(do_connect(c, VMADDR_CID_LOCAL, PORT, true), -EINPROGRESS, "EINPROGRESS to nobody");
    ok(uvirt_vsock_poll(c) & POLLERR, "then POLLERR");
    is_u64(get_int(c, SO_ERROR), ECONNRESET, "SO_ERROR says why");
    is_u64(get_int(c, SO_ERROR), 0, "once");
    uvirt_vsock_close(c);
}

static void test_stream(struct uvirt_vsock *v)
{
    sock *p[2];
    int n;

    connect_pair(v, SOCK_STREAM, p);
    is_u64(do_send(p[0], "hello ", 6, 0), 6, "send");
    is_u64(do_send(p[0], "world", 5, 0), 5, "and more");
    ok(!uvirt_vsock_ioctl(p[1], FIONREAD, &n) && n == 11, "SIOCINQ");
    ok(!uvirt_vsock_ioctl(p[0], TIOCOUTQ, &n) && n == 0, "SIOCOUTQ");
    ok(uvirt_vsock_ioctl(p[0], 1, &n) && errno == ENOTTY, "another ioctl");
    ok(do_recv(p[1], back, 3, MSG_PEEK, NULL) == 3 && !memcmp(back, "hel", 3), "peek");
    ok(do_recv(p[1], back, 4, 0, NULL) == 4 && !memcmp(back, "hell", 4), "a part");
    ok(do_recv(p[1], back, 99, MSG_PEEK, NULL) == 7 && !memcmp(back, "o world", 7),
       "peek after a part was read");
    ok(do_recv(p[1], back, 99, 0, NULL) == 7 && !memcmp(back, "o world", 7), "the rest, merged");
    is_u64(do_send(p[0], big, 500000, MSG_DONTWAIT), 262144 - 11,
           "a send takes what credit allows; a few bytes that were read are no news");
    ok(!(uvirt_vsock_poll(p[0]) & POLLOUT), "then it is not writable");
    is_u64(do_send(p[0], big, 1, MSG_DONTWAIT), -EAGAIN, "and EAGAIN");
    is_u64(do_recv(p[1], back, 300000, MSG_WAITALL, NULL), -ENOMEM, "a target beyond the buffer");
    is_u64(do_recv(p[1], back, 262132, MSG_WAITALL, NULL), 262132, "MSG_WAITALL");
    ok(!memcmp(back, big, 262132), "the bytes are right");
    ok(uvirt_vsock_poll(p[0]) & POLLOUT, "writable again");
    is_u64(do_recv(p[1], back, 5, MSG_OOB, NULL), -EOPNOTSUPP, "MSG_OOB");
    close_pair(p);
}

static void test_records(struct uvirt_vsock *v, const char *framing, u32 overhead)
{
    sock *p[2];
    int f;

    connect_pair(v, SOCK_SEQPACKET, p);
    do_send(p[0], "one", 3, 0);
    do_send(p[0], "twotwo", 6, MSG_EOR);
    is_u64(do_send(p[0], "", 0, 0), 0, "%s: an empty send returns 0", framing);
    do_send(p[0], "three", 5, 0);
    ok(do_recv(p[1], back, 99, MSG_PEEK, &f) == 3 && !f, "%s: peek", framing);
    ok(do_recv(p[1], back, 99, 0, &f) == 3 && !f && !memcmp(back, "one", 3), "%s: a record",
       framing);
    ok(do_recv(p[1], back, 2, MSG_PEEK | MSG_TRUNC, &f) == 6 && f == (MSG_TRUNC | MSG_EOR),
       "%s: peek with MSG_TRUNC", framing);
    ok(do_recv(p[1], back, 4, 0, &f) == 4 && f == (MSG_TRUNC | MSG_EOR) && !memcmp(back, "twot", 4),
       "%s: MSG_TRUNC and MSG_EOR come back", framing);
    ok(do_recv(p[1], back, 1, MSG_TRUNC, &f) == 5 && f == MSG_TRUNC,
       "%s: the rest of a record is gone; its length on request", framing);
    is_u64(do_recv(p[1], back, 9, MSG_DONTWAIT, &f), -EAGAIN, "%s: no more", framing);
    is_u64(do_send(p[0], big, 262145 - overhead, 0), -EMSGSIZE, "%s: a record above the window",
           framing);
    is_u64(do_send(p[0], big, 262144 - overhead, MSG_EOR), 262144 - overhead,
           "%s: one that fills it", framing);
    is_u64(do_send(p[0], big, 1, MSG_DONTWAIT), -EAGAIN, "%s: then there is no room", framing);
    is_u64(do_recv(p[1], back, sizeof(back), 0, &f), 262144 - overhead, "%s: it comes whole",
           framing);
    ok(f == MSG_EOR && !memcmp(back, big, 262144 - overhead), "%s: with its bytes and EOR",
       framing);
    do_send(p[0], big, 200000, 0);
    is_u64(do_send(p[0], big, 100000, MSG_DONTWAIT), -EAGAIN, "%s: no part of a record is sent",
           framing);
    do_recv(p[1], back, sizeof(back), 0, &f);
    do_send(p[0], "next", 4, 0);
    ok(do_recv(p[1], back, 99, 0, &f) == 4 && !memcmp(back, "next", 4),
       "%s: and the next is not glued to it", framing);
    close_pair(p);
}

static void test_shutdown(struct uvirt_vsock *v, int type)
{
    const char *name = type == SOCK_STREAM ? "STREAM" : "SEQPACKET";
    sock *p[2];

    connect_pair(v, type, p);
    do_send(p[0], "last", 4, 0);
    ok(uvirt_vsock_shutdown(p[0], 7) && errno == EINVAL, "%s: a bad way to shut down", name);
    uvirt_vsock_shutdown(p[0], SHUT_WR);
    is_u64(do_send(p[0], "x", 1, 0), -EPIPE, "%s: send after SHUT_WR", name);
    is_u64(do_recv(p[1], back, 9, 0, NULL), 4, "%s: what was sent before arrives", name);
    is_u64(do_recv(p[1], back, 9, 0, NULL), 0, "%s: then the end", name);
    ok(uvirt_vsock_poll(p[1]) & POLLRDHUP, "%s: POLLRDHUP", name);
    is_u64(do_send(p[1], "back", 4, 0), 4, "%s: the other half still works", name);
    is_u64(do_recv(p[0], back, 9, 0, NULL), 4, "%s: both ways", name);
    close_pair(p);

    connect_pair(v, type, p);
    uvirt_vsock_shutdown(p[1], SHUT_RD);
    is_u64(do_send(p[0], "x", 1, MSG_NOSIGNAL), -EPIPE, "%s: send to a peer after SHUT_RD", name);
    is_u64(do_recv(p[1], back, 9, 0, NULL), 0, "%s: recv after SHUT_RD", name);
    is_u64(do_send(p[1], "x", 1, 0), 1, "%s: send after SHUT_RD", name);
    close_pair(p);

    connect_pair(v, type, p);
    do_send(p[0], "data", 4, 0);
    uvirt_vsock_close(p[0]);
    is_u64(do_recv(p[1], back, 9, 0, NULL), 4, "%s: data outlives its sender", name);
    is_u64(do_recv(p[1], back, 9, 0, NULL), 0, "%s: the end after it", name);
    is_u64(do_send(p[1], "x", 1, 0), -EPIPE, "%s: EPIPE to a closed peer", name);
    uvirt_vsock_close(p[1]);
}

static void test_options(struct uvirt_vsock *v)
{
    sock *s = new_sock(v, SOCK_STREAM), *p[2];
    u64 size;
    socklen_t len = sizeof(size);
    struct linger l = {1, 3};

    is_u64(set_size(s, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 20), 0, "a buffer above its maximum");
    ok(!uvirt_vsock_getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &len) &&
           size == 262144 && len == 8,
       "is cut to it");
    set_size(s, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 4 << 20);
    set_size(s, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 20);
    uvirt_vsock_getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &len);
    is_u64(size, 1 << 20, "unless the maximum is raised");
    set_size(s, SO_VM_SOCKETS_BUFFER_SIZE, 1);
    uvirt_vsock_getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &len);
    is_u64(size, 128, "and the minimum holds");
    is_u64(set_size(s, 3, 1), -ENOPROTOOPT, "PEER_HOST_VM_ID");
    is_u64(set_size(s, 7, 1), -ENOPROTOOPT, "NONBLOCK_TXRX");
    is_u64(set_ms(s, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, -1000), -ERANGE, "a bad timeout");
    is_u64(set_int(s, SO_RCVLOWAT, 129), -EINVAL, "SO_RCVLOWAT above the buffer");
    ok(!uvirt_vsock_setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), "SO_LINGER");
    is_u64(get_int(s, SO_TYPE), SOCK_STREAM, "SO_TYPE");
    is_u64(get_int(s, SO_DOMAIN), AF_VSOCK, "SO_DOMAIN");
    uvirt_vsock_close(s);

    connect_pair(v, SOCK_STREAM, p);
    set_int(p[1], SO_RCVLOWAT, 10);
    do_send(p[0], big, 9, 0);
    ok(!(uvirt_vsock_poll(p[1]) & POLLIN), "SO_RCVLOWAT: not yet readable");
    do_send(p[0], big, 1, 0);
    is_u64(uvirt_vsock_poll(p[1]), POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLWRBAND,
           "readable");
    is_u64(do_recv(p[1], back, 99, 0, NULL), 10, "and read");
    close_pair(p);
}

/* Small writes, 100 to 500 bytes, against the whole window: packets count, too. */
static void test_small_writes(struct uvirt_vsock *v, int type, bool peek_first)
{
    sock *p[2];
    u64 sent = 0, got = 0;
    ssize_t n = 0;

    connect_pair(v, type, p);
    while (sent < 2000000 && n >= 0) {
        n = do_send(p[0], big, 100 + sent % 401, MSG_DONTWAIT);
        if (n == -EAGAIN) {
            if (peek_first)
                do_recv(p[1], back, 1, MSG_PEEK, NULL);
            while ((n = do_recv(p[1], back, 200000, MSG_DONTWAIT, NULL)) > 0)
                got += n;
            n = 0;
        } else if (n > 0) {
            sent += n;
        }
    }
    while ((n = do_recv(p[1], back, 200000, MSG_DONTWAIT, NULL)) > 0)
        got += n;
    ok(sent >= 2000000 && got == sent, "small writes never stall nor overrun, type %d", type);
    close_pair(p);
}

static int events_seen;

static void on_event(void *opaque, short events)
{
    events_seen |= events;
    ++*(int *)opaque;
}

static void test_events(struct uvirt_vsock *v)
{
    sock *p[2];
    int n = 0;

    connect_pair(v, SOCK_SEQPACKET, p);
    uvirt_vsock_set_event(p[1], on_event, &n);
    do_send(p[0], "x", 1, 0);
    ok(n && events_seen & POLLIN, "an event when a record comes");
    while (do_send(p[1], big, 1000, MSG_DONTWAIT) > 0)
        ;
    events_seen = 0;
    while (do_recv(p[0], back, 1000, MSG_DONTWAIT, NULL) > 0)
        ;
    ok(events_seen & POLLOUT, "an event when there is room again");
    events_seen = 0;
    uvirt_vsock_close(p[0]);
    ok(events_seen & POLLHUP, "an event when the peer closes");
    uvirt_vsock_set_event(p[1], NULL, NULL);
    uvirt_vsock_close(p[1]);
}

static void test_free(void)
{
    struct uvirt_vsock *v = context(VMADDR_CID_HOST, true, false);
    sock *p[2];

    connect_pair(v, SOCK_STREAM, p);
    do_send(p[0], big, 70000, 0);
    uvirt_vsock_close(p[0]); /* waits for the peer, in the background */
    advance_ms(7999);
    uvirt_vsock_run_timers(v);
    ok(!(uvirt_vsock_poll(p[1]) & POLLERR), "a closing socket waits");
    is_u64(uvirt_vsock_run_timers(v), 1, "8 seconds");
    advance_ms(2);
    is_u64(uvirt_vsock_run_timers(v), -1, "and then ends by itself");
    is_u64(do_recv(p[1], back, 70000, 0, NULL), 70000, "what it sent is still there");
    uvirt_vsock_close(p[1]);
    connect_pair(v, SOCK_STREAM, p);
    do_send(p[0], big, 70000, 0);
    close_pair(p);
    uvirt_vsock_free(v);
    ok(true, "a context goes with sockets still closing");
}

int main(void)
{
    struct uvirt_vsock *v = context(VMADDR_CID_HOST, true, false);
    struct uvirt_vsock *m = context(VMADDR_CID_HOST, true, true);
    sock *s;

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = i * 2654435761u >> 13;
    ok(uvirt_vsock_socket(v, SOCK_DGRAM, &s) && errno == ESOCKTNOSUPPORT, "no datagrams");
    is_u64(uvirt_vsock_local_cid(v), VMADDR_CID_HOST, "our CID");
    test_bind(v);
    test_connect(v);
    test_backlog(v);
    test_nonblocking(v);
    test_stream(v);
    test_records(v, "eom", 0);
    test_records(m, "marker", 16);
    test_shutdown(v, SOCK_STREAM);
    test_shutdown(v, SOCK_SEQPACKET);
    test_shutdown(m, SOCK_SEQPACKET);
    test_options(v);
    test_small_writes(v, SOCK_STREAM, false);
    test_small_writes(v, SOCK_SEQPACKET, true);
    test_small_writes(m, SOCK_SEQPACKET, false);
    test_events(v);
    test_free();
    uvirt_vsock_free(v);
    uvirt_vsock_free(m);
    return tap_done();
}
