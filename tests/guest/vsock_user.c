// SPDX-License-Identifier: MIT
// One end of a vsock conversation, in a guest on AF_VSOCK or on the host on its Unix sockets.
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

/*
 * usage: vsock_user echo|talk stream|seqpacket vsock:CID:PORT|unix:PATH[:PORT]
 *
 * echo accepts one connection, returns what it gets until its end, then ends too. talk sends
 * a megabyte, or records of many sizes, ends its direction, and checks what comes back;
 * MSG_EOR too, where both ends are AF_VSOCK. A PORT behind a path means the CONNECT
 * handshake. talk tries for half a minute to get through. Both print one line.
 */
#define STREAM_BYTES (1 << 20)
#define RECORDS      200
#define RECORD_MAX   70000
#define TRIES        300

static int type;
static bool eor_matters;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static size_t record_len(unsigned i)
{
    return 1 + i * 7919u % (i % 10 == 0 ? RECORD_MAX : 600);
}

/* --- addresses --- */

struct end {
    union {
        struct sockaddr any;
        struct sockaddr_vm vm;
        struct sockaddr_un un;
    } addr;
    socklen_t len;
    char connect[32]; /* what to say first */
};

static struct end parse(const char *text)
{
    struct end e = {.len = 0};
    unsigned cid, port;
    const char *colon;

    if (sscanf(text, "vsock:%u:%u", &cid, &port) == 2) {
        e.addr.vm = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
        e.len = sizeof(e.addr.vm);
        return e;
    }
    if (strncmp(text, "unix:", 5))
        exit(2);
    text += 5;
    colon = strchr(text, ':');
    e.addr.un.sun_family = AF_UNIX;
    snprintf(e.addr.un.sun_path, sizeof(e.addr.un.sun_path), "%.*s",
             colon ? (int)(colon - text) : (int)strlen(text), text);
    if (colon)
        snprintf(e.connect, sizeof(e.connect), "CONNECT %s\n", colon + 1);
    e.len = sizeof(e.addr.un);
    return e;
}

static bool handshake(int fd, const char *line)
{
    char answer[32] = "";
    size_t n = 0;

    if (send(fd, line, strlen(line), 0) < 0)
        return false;
    if (type == SOCK_SEQPACKET)
        return recv(fd, answer, sizeof(answer) - 1, 0) > 0 && !strncmp(answer, "OK ", 3);
    while (n < sizeof(answer) - 1 && recv(fd, answer + n, 1, 0) == 1 && answer[n] != '\n')
        n++;
    return !strncmp(answer, "OK ", 3);
}

static int dial(const struct end *e)
{
    struct timespec ts = {0, 100000000};

    for (int i = 0; i < TRIES; i++) {
        int fd = socket(e->addr.any.sa_family, type, 0);

        if (fd < 0)
            die("socket");
        if (!connect(fd, &e->addr.any, e->len) && (!*e->connect || handshake(fd, e->connect)))
            return fd;
        close(fd);
        nanosleep(&ts, NULL);
    }
    die("connect");
    return -1;
}

static int answer(const struct end *e)
{
    int l = socket(e->addr.any.sa_family, type, 0), fd;

    if (l < 0 || bind(l, &e->addr.any, e->len) || listen(l, 4))
        die("listen");
    fd = accept(l, NULL, NULL);
    if (fd < 0)
        die("accept");
    close(l);
    return fd;
}

/* --- what is said --- */

static int echo(int fd)
{
    static uint8_t buf[RECORD_MAX];
    size_t sum = 0, reads = 0;
    ssize_t n;

    for (;;) {
        struct iovec v = {buf, sizeof(buf)};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

        n = recvmsg(fd, &m, 0);
        if (n <= 0)
            break;
        sum += (size_t)n;
        reads++;
        for (ssize_t at = 0, put; at < n; at += put) {
            put = send(fd, buf + at, (size_t)(n - at), m.msg_flags & MSG_EOR);
            if (put < 0)
                die("send");
        }
    }
    if (n < 0)
        die("recv");
    if (type == SOCK_SEQPACKET)
        printf("echoed %zu bytes in %zu records\n", sum, reads);
    else
        printf("echoed %zu bytes\n", sum);
    return 0;
}

static void send_all(int fd)
{
    static uint8_t buf[RECORD_MAX];
    size_t at = 0;

    if (type == SOCK_STREAM) {
        while (at < STREAM_BYTES) {
            size_t n = 1 + at * 31 % 65536;
            ssize_t put;

            n = n < STREAM_BYTES - at ? n : STREAM_BYTES - at;
            for (size_t i = 0; i < n; i++)
                buf[i] = byte_at(at + i);
            put = send(fd, buf, n, 0);
            if (put < 0)
                die("send");
            at += (size_t)put;
        }
    }
    for (unsigned r = 0; type == SOCK_SEQPACKET && r < RECORDS; r++) {
        size_t n = record_len(r);

        for (size_t i = 0; i < n; i++)
            buf[i] = byte_at(r + i);
        if (send(fd, buf, n, r % 3 ? 0 : MSG_EOR) != (ssize_t)n)
            die("send");
    }
    shutdown(fd, SHUT_WR);
}

static int check_stream(int fd)
{
    static uint8_t buf[65536];
    size_t at = 0;
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] != byte_at(at + (size_t)i)) {
                printf("byte %zu is wrong\n", at + (size_t)i);
                return 1;
            }
        }
        at += (size_t)n;
    }
    printf("%zu bytes came back\n", at);
    return n < 0 || at != STREAM_BYTES;
}

static int check_records(int fd)
{
    static uint8_t buf[RECORD_MAX + 1];
    unsigned r = 0;
    ssize_t n;

    for (;; r++) {
        struct iovec v = {buf, sizeof(buf)};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

        n = recvmsg(fd, &m, 0);
        if (n <= 0)
            break;
        if (r >= RECORDS || (size_t)n != record_len(r) ||
            (eor_matters && !(m.msg_flags & MSG_EOR) != !!(r % 3))) {
            printf("record %u has %zd bytes, flags %x\n", r, n, (unsigned)m.msg_flags);
            return 1;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] != byte_at(r + (size_t)i)) {
                printf("record %u is wrong\n", r);
                return 1;
            }
        }
    }
    printf("%u records came back\n", r);
    return n < 0 || r != RECORDS;
}

static int talk(int fd)
{
    pid_t pid = fork();
    int rc, status;

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        send_all(fd);
        _exit(0);
    }
    rc = type == SOCK_STREAM ? check_stream(fd) : check_records(fd);
    waitpid(pid, &status, 0);
    return rc || status;
}

int main(int argc, char **argv)
{
    struct end e;

    if (argc < 4)
        return 2;
    type = strcmp(argv[2], "stream") ? SOCK_SEQPACKET : SOCK_STREAM;
    eor_matters = argc > 4 && !strcmp(argv[4], "eor");
    e = parse(argv[3]);
    return strcmp(argv[1], "echo") ? talk(dial(&e)) : echo(answer(&e));
}
