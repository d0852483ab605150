// SPDX-License-Identifier: MIT
// AF_VSOCK under uvirt exec: many threads that connect, talk and close at random; nothing may be left.
#include "under_exec.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#define CLIENTS 6
#define ROUNDS  60
#define PORT    6000 /* STREAM; the next one is SEQPACKET */

static atomic_int failures, echoed;

/* One thread serves all: an epoll loop that sends back what it gets. */
static void *server(void *opaque)
{
    int ep = epoll_create1(0), l[2], live = 1;
    char b[4096];

    for (int i = 0; i < 2; i++) {
        struct epoll_event e = {.events = EPOLLIN};

        l[i] = socket(AF_VSOCK, (i ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK, 0);
        e.data.fd = l[i];
        if (vm_bind(l[i], VMADDR_CID_ANY, PORT + (u32)i) || listen(l[i], 128) ||
            epoll_ctl(ep, EPOLL_CTL_ADD, l[i], &e))
            exit(1);
    }
    pthread_barrier_wait(opaque);
    while (live) {
        struct epoll_event e[16];
        int n = epoll_wait(ep, e, 16, -1);

        for (int i = 0; i < n; i++) {
            int fd = e[i].data.fd;
            ssize_t len;

            if (fd == l[0] || fd == l[1]) {
                struct epoll_event new = {.events = EPOLLIN,
                                          .data.fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK)};

                if (new.data.fd >= 0)
                    epoll_ctl(ep, EPOLL_CTL_ADD, new.data.fd, &new);
                continue;
            }
            len = read(fd, b, sizeof(b));
            if (len > 0 && b[0] == 'Q')
                live = 0;
            if (len > 0 && write(fd, b, (size_t)len) != len && errno != EPIPE)
                failures++;
            if (len == 0 || (len < 0 && errno != EAGAIN))
                close(fd);
        }
    }
    close2(l);
    close(ep);
    return NULL;
}

static void round_of(unsigned *seed)
{
    int type = rand_r(seed) & 1, fd = socket(AF_VSOCK, type ? SOCK_SEQPACKET : SOCK_STREAM, 0);
    size_t len = 1 + (size_t)rand_r(seed) % 2000, got = 0;
    char out[2000], in[2000];

    if (vm_connect(fd, 1 + rand_r(seed) % 2, PORT + (u32)type)) {
        failures++;
        close(fd);
        return;
    }
    memset(out, 'a' + rand_r(seed) % 26, len);
    if (rand_r(seed) % 4 == 0) { /* goes without a word, or without listening */
        if (rand_r(seed) & 1)
            send(fd, out, len, MSG_NOSIGNAL);
        close(fd);
        return;
    }
    if (send(fd, out, len, 0) != (ssize_t)len)
        failures++;
    while (got < len) {
        ssize_t n = recv(fd, in + got, len - got, 0);

        if (n <= 0)
            break;
        got += (size_t)n;
    }
    if (got != len || memcmp(in, out, len))
        failures++;
    echoed++;
    close(fd);
}

static void *client(void *seed)
{
    for (int i = 0; i < ROUNDS; i++)
        round_of(seed);
    return NULL;
}

static int descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

int main(int argc, char **argv)
{
    const char *dir = under_exec(argv);
    pthread_barrier_t ready;
    pthread_t s, c[CLIENTS];
    unsigned seed[CLIENTS];
    int before = descriptors(), fd;
    char b;

    signal(SIGPIPE, SIG_IGN);
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&s, NULL, server, &ready);
    pthread_barrier_wait(&ready);
    for (int i = 0; i < CLIENTS; i++) {
        seed[i] = 12345u + (unsigned)i;
        pthread_create(&c[i], NULL, client, &seed[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(c[i], NULL);
    is_u64(failures, 0, "%d of %d connections got their bytes back, none failed", (int)echoed,
           CLIENTS * ROUNDS);
    fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(fd, 1, PORT) && write(fd, "Q", 1) == 1 && read(fd, &b, 1) == 1,
       "the server hears the last one");
    close(fd);
    pthread_join(s, NULL);
    ok(descriptors() <= before + 1, "no descriptor is left but of the last");
    is_u64(names_in(dir), 0, "and no name");
    return tap_done();
}
