// SPDX-License-Identifier: MIT
// Throughput and round trips between a guest's AF_VSOCK sockets and the host's Unix sockets; bench/vsock.sh runs one end in a VM.

/*
 * usage: vsock_vm guest | vsock_vm host PATH. The guest connects to the host for each case in
 * turn; who sends does so for SECONDS. Round trips begin at the host, whose clock is right. The
 * host prints a row a case; CPU time is the virtual machine's, the program at the other end of
 * the Unix socket, with the guest in it.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PORT    7000
#define SECONDS 0.5
#define PINGS   1000
#define WARM    50

enum direction { TO_HOST, TO_GUEST, ROUND_TRIP };

struct job {
    int type;
    enum direction direction;
    size_t size;
};

static char buf[262144];

/* The (k)-th case. False: there are no more. */
static bool job_at(unsigned k, struct job *j)
{
    static const size_t sizes[] = {64, 512, 4096, 16384, 65536, 262144};
    unsigned n = 0;

    for (unsigned s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
        for (unsigned i = 0; i < 4; i++) {
            *j = (struct job){i / 2 ? SOCK_SEQPACKET : SOCK_STREAM, i % 2, sizes[s]};
            if (i / 2 && sizes[s] > 200000)
                continue; /* more than a record of AF_UNIX holds */
            if (n++ == k)
                return true;
        }
    }
    *j = (struct job){k - n ? SOCK_SEQPACKET : SOCK_STREAM, ROUND_TRIP, 64};
    return k - n < 2;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double clock_of(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double now(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

static double send_all(int fd, size_t size)
{
    double until = now() + SECONDS, bytes = 0;

    for (; now() < until; bytes += (double)size)
        for (size_t i = 0, n; i < size; i += n) {
            ssize_t put = send(fd, buf, size - i, MSG_NOSIGNAL);

            if (put <= 0)
                die("send");
            n = (size_t)put;
        }
    shutdown(fd, SHUT_WR);
    return bytes;
}

static double receive_all(int fd)
{
    double bytes = 0;
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
        bytes += (double)n;
    if (n < 0)
        die("recv");
    return bytes;
}

static void guest(unsigned k, const struct job *j)
{
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PORT + k};
    int fd = -1;
    ssize_t n;

    for (int i = 0; i < 100; i++) {
        fd = socket(AF_VSOCK, j->type, 0);
        if (fd < 0)
            die("socket");
        if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
            break;
        close(fd);
        fd = -1;
        usleep(50000);
    }
    if (fd < 0)
        die("connect");
    if (j->direction == TO_HOST)
        send_all(fd, j->size);
    else if (j->direction == TO_GUEST)
        receive_all(fd);
    else
        while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
            if (send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
                die("send");
    recv(fd, buf, 1, 0); /* until the host has done */
    close(fd);
}

static int by_value(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;

    return d < 0 ? -1 : d > 0;
}

static void round_trips(int fd, const struct job *j)
{
    static double t[PINGS];

    for (int i = -WARM; i < PINGS; i++) {
        double start = now();

        if (send(fd, buf, j->size, MSG_NOSIGNAL) < 0 ||
            recv(fd, buf, sizeof(buf), 0) != (ssize_t)j->size)
            die("round trip");
        if (i >= 0)
            t[i] = (now() - start) * 1e6;
    }
    shutdown(fd, SHUT_WR);
    qsort(t, PINGS, sizeof(*t), by_value);
    printf("%-9s  %-13s  %6zu  p50 %.0f us, p99 %.0f us\n",
           j->type == SOCK_STREAM ? "stream" : "seqpacket", "round trip", j->size, t[PINGS / 2],
           t[PINGS / 100 * 99]);
}

static void transfer(int fd, const struct job *j)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    double start = now(), cpu, bytes;
    clockid_t clock;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
        clock_getcpuclockid(peer.pid, &clock))
        die("peer");
    cpu = clock_of(clock);
    if (j->direction == TO_HOST) {
        bytes = receive_all(fd);
    } else {
        bytes = send_all(fd, j->size);
        recv(fd, buf, 1, 0);
    }
    printf("%-9s  %-13s  %6zu  %8.1f MB/s  %8.2f CPU s/GB\n",
           j->type == SOCK_STREAM ? "stream" : "seqpacket",
           j->direction == TO_HOST ? "guest to host" : "host to guest", j->size,
           bytes / (now() - start) / 1e6, (clock_of(clock) - cpu) / (bytes / 1e9));
}

static void host(unsigned k, const struct job *j, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int l = socket(AF_UNIX, j->type, 0), fd;

    snprintf(a.sun_path, sizeof(a.sun_path), "%s_%u", path, PORT + k);
    if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 1))
        die(a.sun_path);
    fd = accept(l, NULL, NULL);
    if (fd < 0)
        die("accept");
    if (j->direction == ROUND_TRIP)
        round_trips(fd, j);
    else
        transfer(fd, j);
    fflush(stdout);
    close(fd);
    close(l);
    unlink(a.sun_path);
}

int main(int argc, char **argv)
{
    struct job j;

    if (argc < 2 || (!strcmp(argv[1], "host") && argc < 3))
        return 2;
    for (unsigned k = 0; job_at(k, &j); k++) {
        if (argc < 3)
            guest(k, &j);
        else
            host(k, &j, argv[2]);
    }
    return 0;
}
