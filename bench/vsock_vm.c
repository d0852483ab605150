// SPDX-License-Identifier: MIT
// Throughput between a guest's AF_VSOCK sockets and the host's Unix sockets; bench/vsock.sh runs one end in a VM.

/*
 * usage: vsock_vm guest | vsock_vm host PATH. The guest connects to the host for each case in
 * turn; who sends does so for a second. The host prints a row a case.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PORT   7000
#define SIZES  2
#define CASES  (SIZES * 4)
#define SECOND 1.0

static const size_t sizes[SIZES] = {4096, 65536};
static char buf[262144];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int type_of(unsigned k)
{
    return k / SIZES & 1 ? SOCK_SEQPACKET : SOCK_STREAM;
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void send_all(int fd, size_t size)
{
    double until = now() + SECOND;

    while (now() < until)
        for (size_t i = 0, n; i < size; i += n) {
            ssize_t put = send(fd, buf, size - i, MSG_NOSIGNAL);

            if (put <= 0)
                die("send");
            n = (size_t)put;
        }
    shutdown(fd, SHUT_WR);
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

static void guest(unsigned k)
{
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PORT + k};
    int fd = -1;

    for (int i = 0; i < 100; i++) {
        fd = socket(AF_VSOCK, type_of(k), 0);
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
    if (k / SIZES < 2)
        send_all(fd, sizes[k % SIZES]);
    else
        receive_all(fd);
    recv(fd, buf, 1, 0); /* until the host has done */
    close(fd);
}

static void host(unsigned k, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int l = socket(AF_UNIX, type_of(k), 0), fd;
    double start, bytes = 0;

    snprintf(a.sun_path, sizeof(a.sun_path), "%s_%u", path, PORT + k);
    if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 1))
        die(a.sun_path);
    fd = accept(l, NULL, NULL);
    if (fd < 0)
        die("accept");
    start = now();
    if (k / SIZES < 2) {
        bytes = receive_all(fd);
    } else {
        double until = now() + SECOND;

        for (; now() < until; bytes += (double)sizes[k % SIZES])
            if (send(fd, buf, sizes[k % SIZES], MSG_NOSIGNAL) < 0)
                die("send");
        shutdown(fd, SHUT_WR);
        recv(fd, buf, 1, 0);
    }
    printf("%-9s  %-13s  %7zu  %9.1f MB/s\n", type_of(k) == SOCK_STREAM ? "stream" : "seqpacket",
           k / SIZES < 2 ? "guest to host" : "host to guest", sizes[k % SIZES],
           bytes / (now() - start) / 1e6);
    fflush(stdout);
    close(fd);
    close(l);
    unlink(a.sun_path);
}

int main(int argc, char **argv)
{
    if (argc < 2 || (!strcmp(argv[1], "host") && argc < 3))
        return 2;
    for (unsigned k = 0; k < CASES; k++) {
        if (argc < 3)
            guest(k);
        else
            host(k, argv[2]);
    }
    return 0;
}
