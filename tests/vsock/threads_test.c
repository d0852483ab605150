// SPDX-License-Identifier: MIT
// Blocking sockets used from several threads at once: transfers both ways, and connections that come and go.
#include "pair.h"

#include <pthread.h>

#define BYTES (24u << 20)
#define CHURN 300

static struct uvirt_vsock *v;

struct job {
    sock *s;
    int type;
    unsigned seed;
    u64 bytes, sum;
    bool good;
};

static u64 mix(u64 sum, const u8 *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * 0x100000001b3ull;
    return sum;
}

static void *writer(void *arg)
{
    static _Thread_local u8 buf[100000];
    struct job *j = arg;

    j->good = true;
    while (j->bytes < BYTES && j->good) {
        size_t n = 1 + rand_r(&j->seed) % (rand_r(&j->seed) % 4 ? sizeof(buf) : 300);

        for (size_t i = 0; i < n; i += 64)
            buf[i] = rand_r(&j->seed);
        j->sum = mix(j->sum, buf, n);
        j->good = do_send(j->s, buf, n, 0) == (ssize_t)n;
        j->bytes += n;
    }
    uvirt_vsock_shutdown(j->s, SHUT_WR);
    return NULL;
}

static void *reader(void *arg)
{
    static _Thread_local u8 buf[100000];
    struct job *j = arg;
    ssize_t n;

    while ((n = do_recv(j->s, buf, sizeof(buf), 0, NULL)) > 0) {
        j->sum = mix(j->sum, buf, n);
        j->bytes += n;
    }
    j->good = !n;
    return NULL;
}

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
    struct job jobs[4] = {{.seed = 1}, {.seed = 2}};
    pthread_t threads[4], serve, call;
    sock *p[2], *l = listener(v, SOCK_STREAM, PORT + 1, 4);
    void *rc[2];

    connect_pair(v, type, p);
    for (int i = 0; i < 4; i++) {
        jobs[i].s = p[i % 2];
        pthread_create(&threads[i], NULL, i < 2 ? writer : reader, &jobs[i]);
    }
    pthread_create(&serve, NULL, server, l);
    pthread_create(&call, NULL, client, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pthread_join(call, &rc[0]);
    pthread_join(serve, &rc[1]);
    for (int i = 0; i < 2; i++)
        ok(jobs[i].good && jobs[3 - i].good && jobs[i].bytes == jobs[3 - i].bytes &&
               jobs[i].sum == jobs[3 - i].sum,
           "%llu bytes, type %d, way %d", (unsigned long long)jobs[i].bytes, type, i);
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
