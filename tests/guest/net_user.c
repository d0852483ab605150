// SPDX-License-Identifier: MIT
// One end of a TCP connection that carries one file, in a guest or on the host.
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * usage: net_user connect|listen ADDR PORT send|recv
 *
 * send: what stdin has, then wait for the other end; recv: to stdout, until the other end is done. A
 * listener says "up PORT" on stderr and takes one connection. Exit status 1: it could not connect.
 */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_end(const char *how, const char *addr, const char *port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM},
                    *a;
    int fd, l, one = 1;

    if (getaddrinfo(addr, port, &hints, &a))
        fail(addr);
    fd = socket(a->ai_family, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    if (!strcmp(how, "connect")) {
        if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
            fail("connect");
        return fd;
    }
    l = fd;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(l, a->ai_addr, a->ai_addrlen) < 0 || listen(l, 1) < 0)
        fail("listen");
    fprintf(stderr, "up %s\n", port);
    fd = accept(l, NULL, NULL);
    if (fd < 0)
        fail("accept");
    close(l);
    return fd;
}

static void copy(int from, int to)
{
    static char buf[65536];
    ssize_t n, done, w;

    while ((n = read(from, buf, sizeof(buf))) > 0)
        for (done = 0; done < n; done += w) {
            w = write(to, buf + done, (size_t)(n - done));
            if (w < 0)
                fail("write");
        }
    if (n < 0)
        fail("read");
}

int main(int argc, char **argv)
{
    char c;
    int fd;

    if (argc != 5)
        return 2;
    fd = open_end(argv[1], argv[2], argv[3]);
    if (!strcmp(argv[4], "recv")) {
        copy(fd, STDOUT_FILENO);
        return 0;
    }
    copy(STDIN_FILENO, fd);
    shutdown(fd, SHUT_WR);
    return read(fd, &c, 1) == 0 ? 0 : 1;
}
