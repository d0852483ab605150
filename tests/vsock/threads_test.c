// SPDX-License-Identifier: MIT
// Blocking sockets used from several threads at once: transfers both ways, and connections that come and go.
#include "transfer.h"

#define BYTES (24u << 20)
#define CHURN 300

static struct uvirt_vsock *v;

static void *server(void *arg)
{
    sock *l = arg, *s;
    char c;

    for (int i = 0; i < CHURN; i++) {
        if (uvirt_vsock_accept(l, false, &s))
            return arg;
        if (do_recv(s, &c, 1, 0, NULL) == 1)
            do_send(s, &c, 1, 0);
        uvirt_vsock_close(s);
    }
    return NULL;
}

static void *client(void *arg)
{
    u64 failed = 0;

    for (int i = 0; i < CHURN; i++) {
        sock *s = new_sock(v, SOCK_STREAM);
        char c = i;

        if (do_connect(s, VMADDR_CID_LOCAL, PORT + 1, false) || do_send(s, &c, 1, 0) != 1 ||
            do_recv(s, &c, 1, 0, NULL) != 1 || c != (char)i)
            failed++;
        uvirt_vsock_close(s);
    }
    return (void *)failed;
}

static void test_transfer(int type)
{
    pthread_t serve, call;
    sock *p[2], *l = listener(v, SOCK_STREAM, PORT + 1, 4);
    void *rc[2];

    connect_pair(v, type, p);
    pthread_create(&serve, NULL, server, l);
    pthread_create(&call, NULL, client, NULL);
    transfer(p, BYTES, type == SOCK_STREAM ? "STREAM" : "SEQPACKET");
    pthread_join(call, &rc[0]);
    pthread_join(serve, &rc[1]);
    ok(!rc[0] && !rc[1], "connections came and went meanwhile");
    close_pair(p);
    uvirt_vsock_close(l);
}

static void test_timeouts(void)
{
    struct timespec a, b;
    sock *p[2];
    char c;
    long ms;

    connect_pair(v, SOCK_SEQPACKET, p);
    set_ms(p[0], SOL_SOCKET, SO_RCVTIMEO, 100);
    clock_gettime(CLOCK_MONOTONIC, &a);
    is_u64(do_recv(p[0], &c, 1, 0, NULL), -EAGAIN, "SO_RCVTIMEO");
    clock_gettime(CLOCK_MONOTONIC, &b);
    ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
    ok(ms >= 99 && ms < 2000, "after %ld ms", ms);
    set_ms(p[0], SOL_SOCKET, SO_SNDTIMEO, 50);
    while (do_send(p[0], (u8[1000]){0}, 1000, 0) > 0)
        ;
    is_u64(do_send(p[0], (u8[1000]){0}, 1000, 0), -EAGAIN, "SO_SNDTIMEO");
    close_pair(p);
}

int main(void)
{
    v = context(VMADDR_CID_HOST, false, false);
    test_timeouts();
    test_transfer(SOCK_STREAM);
    test_transfer(SOCK_SEQPACKET);
    uvirt_vsock_free(v);
    return tap_done();
}
