// SPDX-License-Identifier: MIT
// The host's side in tests of vsock on Unix sockets: clients, listeners, frames, waiting.
#pragma once

#include "vsock/transport/unix_frame.h"
#include "vsock/transport/unix_name.h"
#include "wire.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>

#define HANG_S 120 /* a test that takes longer hangs */

static char directory[64];

static inline void begin(void)
{
    snprintf(directory, sizeof(directory), "/tmp/uvirt-unix-XXXXXX");
    if (!mkdtemp(directory))
        exit(99);
    signal(SIGPIPE, SIG_IGN);
    alarm(HANG_S);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static inline void end(void)
{
    nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path in the test's directory; one of four that are good at a time. */
static inline const char *path_of(const char *name, const char *suffix)
{
    static char paths[4][128];
    static unsigned next;
    char *p = paths[next++ % 4];

    snprintf(p, sizeof(paths[0]), "%s/%s%s", directory, name, suffix);
    return p;
}

/* A message without the test's own directory. */
static inline const char *base_name(const char *text)
{
    const char *p = strrchr(text, '/');

    return p ? p + 1 : text;
}

static inline void pause_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static inline struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    return a;
}

/* A connected socket, no word said; -1. */
static inline int dial_raw(const char *path, int type)
{
    struct sockaddr_un a = unix_address(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline ssize_t read_all(int fd, void *buf, size_t len)
{
    return recv(fd, buf, len, MSG_WAITALL);
}

/* The line that comes, byte by byte. */
static inline bool read_line(int fd, char buf[64])
{
    for (int i = 0; i < 63; i++) {
        if (recv(fd, buf + i, 1, 0) != 1)
            return false;
        if (buf[i] == '\n') {
            buf[i] = 0;
            return true;
        }
    }
    return false;
}

/* A connection that is through CONNECT and OK; -1. */
static inline int dial(const char *path, int type, u32 port)
{
    char line[64] = "";
    int fd = dial_raw(path, type), n = snprintf(line, sizeof(line), "CONNECT %u\n", port);
    bool good = fd >= 0 && send(fd, line, (size_t)n, 0) == n;

    if (good && type == SOCK_SEQPACKET)
        good = recv(fd, line, sizeof(line), 0) > 3;
    else if (good)
        good = read_line(fd, line);
    if (good && !strncmp(line, "OK ", 3))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static inline int listen_at(const char *path, int type, int backlog)
{
    struct sockaddr_un a = unix_address(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, backlog))
        exit(99);
    return fd;
}

static inline int accept_who(int l, u32 *cid, u32 *port)
{
    struct sockaddr_un a;
    socklen_t len = sizeof(a);
    int fd = accept(l, (struct sockaddr *)&a, &len);

    *cid = *port = 0;
    vsock_unix_peer(&a, len, cid, port);
    return fd;
}

/* The guest's end; its REQUEST has been answered, or is about to be. */
static inline sock *accept_soon(sock *l)
{
    sock *s;

    return uvirt_vsock_accept(l, false, &s) ? NULL : s;
}

static inline void wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    poll(&p, 1, -1);
}

static inline void wait_readable(int fd)
{
    wait_for(fd, POLLIN);
}

static inline bool is_closed(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* The other side closes, having sent nothing more. */
static inline bool wait_closed(int fd)
{
    wait_readable(fd);
    return is_closed(fd);
}

/* Writing comes to fail. */
static inline bool wait_write_fails(int fd)
{
    while (send(fd, "x", 1, 0) == 1)
        pause_ms(1);
    return errno == EPIPE || errno == ECONNRESET;
}

static inline bool guest_write_fails(sock *g)
{
    ssize_t n;

    while ((n = do_send(g, "x", 1, MSG_NOSIGNAL)) == 1)
        pause_ms(1);
    return n < 0;
}

/* Write until nothing fits for a while: -1. */
static inline ssize_t send_soon(int fd, const void *buf, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return poll(&p, 1, 300) == 1 ? send(fd, buf, len, MSG_DONTWAIT) : -1;
}

static inline bool guest_writable_soon(sock *g)
{
    for (unsigned i = 0; i < 300; i++) {
        if (uvirt_vsock_poll(g) & POLLOUT)
            return true;
        pause_ms(1);
    }
    return false;
}

static inline u8 *pattern(size_t len)
{
    u8 *p = malloc(len);
    u32 v = 1;

    for (size_t i = 0; i < len; i++) {
        v = v * 1664525 + 1013904223;
        p[i] = (u8)(v >> 24);
    }
    return p;
}

static inline void send_frame(int fd, const void *data, u32 len, u32 flags)
{
    u8 *buf = malloc(VSOCK_FRAME_HDR + len);
    u32 hdr = htole32(len | flags);

    memcpy(buf, &hdr, sizeof(hdr));
    memcpy(buf + VSOCK_FRAME_HDR, data, len);
    for (size_t at = 0; at < VSOCK_FRAME_HDR + len;) {
        ssize_t n = send(fd, buf + at, VSOCK_FRAME_HDR + len - at, 0);

        if (n <= 0)
            break;
        at += (size_t)n;
    }
    free(buf);
}

/* One record from its fragments; its length, -1; (*eor): it had MSG_EOR. */
static inline ssize_t recv_frames(int fd, u8 *buf, size_t size, int *eor)
{
    size_t at = 0;
    struct vsock_frame f;
    u8 hdr[VSOCK_FRAME_HDR];

    do {
        if (read_all(fd, hdr, sizeof(hdr)) != sizeof(hdr) || vsock_frame_decode(hdr, &f) ||
            f.len > size - at || (f.len && read_all(fd, buf + at, f.len) != (ssize_t)f.len))
            return -1;
        at += f.len;
    } while (!f.eom);
    *eor = f.eor;
    return (ssize_t)at;
}
