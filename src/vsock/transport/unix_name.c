// SPDX-License-Identifier: MIT
// Binding, dialling and naming of Unix sockets that stand for vsock addresses.
#include "vsock/transport/unix_name.h"
#include "vsock/transport/unix.h"
#include "vsock/transport/unix_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 128

/* As large as the kernel lets us: it is what limits a record. */
#define SEND_BUFFER (1 << 20)

static int complain(char *why, size_t size, int rc, const char *path, const char *text)
{
    snprintf(why, size, "%s: %s", path, text);
    return rc;
}

static int make_address(const char *path, struct sockaddr_un *addr)
{
    size_t len = strlen(path);

    if (len >= sizeof(addr->sun_path))
        return -ENAMETOOLONG;
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(addr->sun_path, path, len + 1);
    return 0;
}

/* Does somebody listen at (addr), with any type of socket? */
static bool alive(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool yes;

    if (fd < 0)
        return true;
    yes = !connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) || errno != ECONNREFUSED;
    close(fd);
    return yes;
}

/* What bars the way at (addr): remove it if it is a socket that nobody listens at. */
static int clear_way(const struct sockaddr_un *addr, char *why, size_t size)
{
    struct stat st;

    if (lstat(addr->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : complain(why, size, -errno, addr->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return complain(why, size, -EEXIST, addr->sun_path, "it exists and is not a socket");
    if (alive(addr))
        return complain(why, size, -EADDRINUSE, addr->sun_path, "somebody listens there already");
    if (unlink(addr->sun_path) < 0 && errno != ENOENT)
        return complain(why, size, -errno, addr->sun_path, strerror(errno));
    return 0;
}

int vsock_unix_listen(const char *path, int type, struct vsock_unix_listener *l, char *why,
                      size_t why_size)
{
    struct sockaddr_un addr;
    struct stat st;
    int fd, rc;

    if (make_address(path, &addr))
        return complain(why, why_size, -ENAMETOOLONG, path, "longer than a socket's name can be");
    rc = clear_way(&addr, why, why_size);
    if (rc)
        return rc;
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return complain(why, why_size, -errno, path, strerror(errno));
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0 ||
        lstat(path, &st) < 0) {
        rc = complain(why, why_size, -errno, path, strerror(errno));
        close(fd);
        return rc;
    }
    *l = (struct vsock_unix_listener){.fd = fd, .dev = st.st_dev, .ino = st.st_ino, .addr = addr};
    return 0;
}

void vsock_unix_unlisten(struct vsock_unix_listener *l)
{
    struct stat st;

    if (l->fd < 0)
        return;
    if (!lstat(l->addr.sun_path, &st) && st.st_dev == l->dev && st.st_ino == l->ino)
        unlink(l->addr.sun_path);
    close(l->fd);
    l->fd = -1;
}

/* A failure costs the peer our name, no more. */
static void say_who(int fd, u32 cid, u32 port)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    u64 random = 0;
    int n;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = (uintptr_t)&addr ^ (u64)fd << 48;
    n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1,
                 VSOCK_UNIX_PEER_NAME "%u:%u/%016llx%c", cid, port, (unsigned long long)random,
                 VSOCK_UNIX_MARKS_NAME);
    n = bind(fd, (struct sockaddr *)&addr, offsetof(struct sockaddr_un, sun_path) + 1 + n);
    (void)n;
}

void vsock_unix_prepare(int fd)
{
    const int big = SEND_BUFFER, one = 1;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
}

int vsock_unix_dial(const char *path, int type, u32 cid, u32 port, int *ret)
{
    struct sockaddr_un addr;
    int fd, rc = make_address(path, &addr);

    if (rc)
        return rc;
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    say_who(fd, cid, port);
    vsock_unix_prepare(fd);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    *ret = fd;
    return 0;
}

/* A decimal u32 at *p, which moves behind it. 0 or -EINVAL. */
static int take_number(const char **p, const char *end, u32 *ret)
{
    u64 v = 0;
    const char *at = *p;

    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        v = v * 10 + (u64)(*at - '0');
        if (v > UINT32_MAX)
            return -EINVAL;
    }
    if (at == *p)
        return -EINVAL;
    *p = at;
    *ret = (u32)v;
    return 0;
}

/*
 * Copy the path or name of (addr) to (text), with a NUL. The last part of a path with
 * VSOCK_UNIX_MARKS_PATH before it, or NULL.
 */
static const char *marked_path(const struct sockaddr_un *addr, socklen_t len,
                               char text[sizeof(addr->sun_path) + 1])
{
    const char *last;

    memset(text, 0, sizeof(addr->sun_path) + 1);
    if (len <= offsetof(struct sockaddr_un, sun_path) || len > sizeof(*addr))
        return NULL;
    memcpy(text, addr->sun_path, len - offsetof(struct sockaddr_un, sun_path));
    last = strrchr(text, '/');
    if (!last || last - text < 2 || memcmp(last - 2, VSOCK_UNIX_MARKS_PATH, 3))
        return NULL;
    return last + 1;
}

int vsock_unix_peer(const struct sockaddr_un *addr, socklen_t len, u32 *cid, u32 *port)
{
    const size_t prefix = sizeof(VSOCK_UNIX_PEER_NAME) - 1;
    char text[sizeof(addr->sun_path) + 1];
    const char *p = marked_path(addr, len, text), *end;
    bool is_path = p;
    u32 c, n;

    if (is_path) {
        end = p + strlen(p);
    } else {
        if (len < offsetof(struct sockaddr_un, sun_path) + 1 + prefix || len > sizeof(*addr) ||
            text[0] || memcmp(text + 1, VSOCK_UNIX_PEER_NAME, prefix))
            return -ENOENT;
        p = text + 1 + prefix;
        end = text + (len - offsetof(struct sockaddr_un, sun_path));
    }
    if (take_number(&p, end, &c) || p == end || *p++ != (is_path ? '_' : ':') ||
        take_number(&p, end, &n) || (!is_path && (p == end || *p != '/')))
        return -ENOENT;
    *cid = c;
    *port = n;
    return 0;
}

bool vsock_unix_takes_marks(const struct sockaddr_un *addr, socklen_t len)
{
    char text[sizeof(addr->sun_path) + 1];
    u32 cid, port;

    if (marked_path(addr, len, text))
        return true;
    return !text[0] && !vsock_unix_peer(addr, len, &cid, &port) &&
           ((const char *)addr)[len - 1] == VSOCK_UNIX_MARKS_NAME;
}

static int parse(const char *word, const char *line, size_t len, u32 *port)
{
    const char *p = line, *end = line + len;
    size_t n = strlen(word);
    u32 v;

    if (len <= n || strncasecmp(p, word, n) || p[n] != ' ')
        return -EINVAL;
    for (p += n; p < end && *p == ' '; p++)
        ;
    if (take_number(&p, end, &v) || p != end)
        return -EINVAL;
    *port = v;
    return 0;
}

int vsock_unix_parse_connect(const char *line, size_t len, u32 *port)
{
    return parse("connect", line, len, port);
}

int vsock_unix_parse_ok(const char *line, size_t len, u32 *port)
{
    return parse("ok", line, len, port);
}
