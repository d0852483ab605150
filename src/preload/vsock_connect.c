// SPDX-License-Identifier: MIT
// Making connections: socket, connect with the handshake of guests, listen, accept, shutdown.
#include "preload/raw.h"
#include "preload/vsock.h"
#include "vsock/transport/unix_name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* As much as the kernel lets us have: what is sent and not read waits in the sender's buffer. */
#define SEND_BUFFER (1 << 20)

static void set_buffer(int fd)
{
    const int size = SEND_BUFFER;

    RAW(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static bool nonblocking(int fd)
{
    long flags = RAW(SYS_fcntl, fd, F_GETFL);

    return flags >= 0 && flags & O_NONBLOCK;
}

int vsk_socket(int type, int protocol)
{
    int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), fd;

    if (protocol && protocol != AF_VSOCK)
        return -EPROTONOSUPPORT;
    if (kind == SOCK_DGRAM)
        return -ENODEV; /* only VMware's transport has it */
    if (kind != SOCK_STREAM && kind != SOCK_SEQPACKET)
        return -ESOCKTNOSUPPORT;
    fd = (int)RAW(SYS_socket, AF_UNIX, type, 0);
    if (fd < 0)
        return fd;
    set_buffer(fd);
    vsk_put(fd, VSK_MAGIC | (kind == SOCK_SEQPACKET ? VSK_SEQ : 0) | VSK_BUFFER_SIZE);
    return fd;
}

/* The socket options that a new socket takes over from (from). */
static void copy_options(int from, int to)
{
    static const int names[] = {SO_RCVTIMEO, SO_SNDTIMEO,  SO_RCVLOWAT,
                                SO_LINGER,   SO_REUSEADDR, SO_KEEPALIVE};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char value[16];
        socklen_t len = sizeof(value);

        if (!RAW(SYS_getsockopt, from, SOL_SOCKET, names[i], value, &len))
            RAW(SYS_setsockopt, to, SOL_SOCKET, names[i], value, len);
    }
}

/*
 * A Unix socket connects only once. After a guest has refused, put a new one in the place of
 * (fd), so that the program can try again; duplicates of (fd) keep the old one.
 */
static void replace(int fd, u64 *tag)
{
    int type = *tag & VSK_SEQ ? SOCK_SEQPACKET : SOCK_STREAM;
    long cloexec = RAW(SYS_fcntl, fd, F_GETFD), flags = RAW(SYS_fcntl, fd, F_GETFL);
    int new = (int)RAW(SYS_socket, AF_UNIX, type | SOCK_CLOEXEC, 0);
    struct vsk_local *l, *old;
    struct sockaddr_un addr;
    socklen_t len = sizeof(addr);
    vsk_saved saved;

    *tag &= ~(VSK_CONNECTING | VSK_CONNECTED | VSK_VM | VSK_MARKS);
    vsk_put(fd, *tag);
    if (new < 0)
        return;
    copy_options(fd, new);
    set_buffer(new);
    vsk_put(new, *tag);
    RAW(SYS_fcntl, new, F_SETFL, flags);
    vsk_lock(&saved);
    old = vsk_local(fd, false);
    l = old ? vsk_local(new, true) : NULL;
    if (l && l != old) {
        u64 cookie = l->cookie;

        *l = *old;
        l->cookie = cookie;
        old->stale = true;
    }
    vsk_unlock(&saved);
    RAW(SYS_getsockname, fd, &addr, &len);
    RAW(SYS_dup3, new, fd, cloexec > 0 ? O_CLOEXEC : 0);
    RAW(SYS_close, new);
    vsk_forget(new);
    if (*tag & VSK_BOUND)
        vsk_rebind(fd, &addr);
}

u64 vsk_deadline(int fd)
{
    struct vsk_local *l;
    vsk_saved saved;
    u64 deadline;

    vsk_lock(&saved);
    l = vsk_local(fd, false);
    deadline = l ? l->deadline : 0;
    vsk_unlock(&saved);
    return deadline;
}

/* 0: the guest's OK has been read, -EAGAIN: not yet, else: it will not come. */
static int read_ok(int fd, u64 tag)
{
    char line[VSOCK_UNIX_LINE], *end;
    u32 port;
    long n =
        RAW(SYS_recvfrom, fd, line, sizeof(line), MSG_DONTWAIT | (tag & VSK_SEQ ? 0 : MSG_PEEK));

    if (n == -EAGAIN || n == -EINTR)
        return -EAGAIN;
    if (n <= 0)
        return -ECONNRESET;
    end = memchr(line, '\n', (size_t)n);
    if (!end && !(tag & VSK_SEQ))
        return n == sizeof(line) ? -EPROTO : -EAGAIN;
    if (!(tag & VSK_SEQ))
        RAW(SYS_recvfrom, fd, line, end + 1 - line, MSG_DONTWAIT);
    n = end ? end - line : n;
    return vsock_unix_parse_ok(line, (size_t)n, &port) ? -EPROTO : 0;
}

/* Wait for (fd) to be readable until (until), in ns. 0 or -EINTR. */
static int wait_readable(int fd, u64 until)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    u64 now = vsk_now(), left = until > now ? until - now : 0;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000000),
                         .tv_nsec = (long)(left % 1000000000)};
    long rc = RAW(SYS_ppoll, &p, 1, &t, NULL, 0);

    return rc == -EINTR ? -EINTR : 0;
}

int vsk_finish(int fd, u64 *tag, u64 wait)
{
    u64 deadline = vsk_deadline(fd), start = vsk_now();
    int rc;

    for (;;) {
        u64 now, until;

        rc = read_ok(fd, *tag);
        if (rc != -EAGAIN)
            break;
        now = vsk_now();
        if (deadline && now >= deadline) {
            rc = -ETIMEDOUT;
            break;
        }
        if (now - start >= wait)
            return -EAGAIN;
        until = start + wait;
        if (deadline && (until < start || until > deadline))
            until = deadline;
        rc = wait_readable(fd, until);
        if (rc)
            break;
    }
    *tag &= ~VSK_CONNECTING;
    if (rc) {
        replace(fd, tag);
    } else {
        *tag |= VSK_CONNECTED;
        if (*tag & VSK_SEQ && vsk_peer_marks(fd))
            *tag |= VSK_MARKS;
        vsk_put(fd, *tag);
    }
    vsk_epoll_update(fd);
    return rc;
}

int vsk_finish_later(int fd, u64 *tag)
{
    int rc = vsk_finish(fd, tag, 0);
    struct vsk_local *l;
    vsk_saved saved;

    if (!rc || rc == -EAGAIN)
        return rc;
    vsk_lock(&saved);
    l = vsk_local(fd, true);
    if (l)
        l->error = -rc;
    vsk_unlock(&saved);
    return rc;
}

/* Unix connect(), without waiting for room in a full backlog: vsock refuses then. */
static int connect_now(int fd, const struct sockaddr_un *addr, bool blocks)
{
    long flags = blocks ? RAW(SYS_fcntl, fd, F_GETFL) : 0;
    int rc;

    if (blocks)
        RAW(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
    rc = (int)RAW(SYS_connect, fd, addr, sizeof(*addr));
    if (blocks)
        RAW(SYS_fcntl, fd, F_SETFL, flags);
    return rc;
}

static int connect_guest(int fd, u64 tag, const struct sockaddr_un *addr, u32 port, bool blocks)
{
    struct vsk_local *l;
    char line[VSOCK_UNIX_LINE];
    vsk_saved saved;
    int rc = connect_now(fd, addr, blocks), n;

    if (rc == -ENOENT || rc == -ECONNREFUSED)
        return -ENODEV;
    if (rc)
        return rc == -EAGAIN ? -ECONNRESET : rc;
    vsk_lock(&saved);
    l = vsk_local(fd, true);
    if (l) {
        l->deadline = vsk_now() + l->timeout;
        l->peer_port = port;
    }
    vsk_unlock(&saved);
    tag |= VSK_CONNECTING | VSK_VM;
    vsk_put(fd, tag);
    n = snprintf(line, sizeof(line), "CONNECT %u\n", port);
    /* What goes wrong here is found again by read_ok(). */
    RAW(SYS_sendto, fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (blocks)
        return vsk_finish(fd, &tag, UINT64_MAX);
    rc = vsk_finish(fd, &tag, 0);
    if (rc == -EAGAIN) {
        vsk_epoll_update(fd);
        return -EINPROGRESS;
    }
    return rc;
}

static int connect_host(int fd, u64 tag, const struct sockaddr_un *addr, bool blocks)
{
    int rc = connect_now(fd, addr, blocks);

    if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -EAGAIN || rc == -EPROTOTYPE)
        return -ECONNRESET;
    if (rc)
        return rc;
    if (tag & VSK_SEQ && vsk_peer_marks(fd))
        tag |= VSK_MARKS;
    vsk_put(fd, tag | VSK_CONNECTED);
    return 0;
}

static void clear_error(int fd)
{
    struct vsk_local *l;
    vsk_saved saved;

    vsk_lock(&saved);
    l = vsk_local(fd, false);
    if (l)
        l->error = 0;
    vsk_unlock(&saved);
}

int vsk_connect(int fd, u64 tag, const struct sockaddr *sa, socklen_t len)
{
    bool blocks = !nonblocking(fd);
    struct sockaddr_un addr;
    struct sockaddr_vm vm;
    int rc;

    if (tag & VSK_CONNECTING) {
        rc = vsk_finish(fd, &tag, blocks ? UINT64_MAX : 0);
        return rc == -EAGAIN ? -EALREADY : rc;
    }
    if (tag & VSK_CONNECTED)
        return tag & (VSK_SHUT_RD | VSK_SHUT_WR) ? -EINVAL : -EISCONN;
    if (tag & VSK_LISTEN || len < sizeof(vm))
        return -EINVAL;
    memcpy(&vm, sa, sizeof(vm));
    if (vm.svm_family != AF_VSOCK || vm.svm_flags & ~VMADDR_FLAG_TO_HOST)
        return -EINVAL;
    /* There is no host of the host. */
    if (vm.svm_cid == VMADDR_CID_HYPERVISOR || vm.svm_cid == VMADDR_CID_ANY ||
        (vm.svm_flags && vm.svm_cid > VMADDR_CID_HOST))
        return -ENODEV;
    rc = vsk_path(&addr, vm.svm_cid, vm.svm_port, tag & VSK_SEQ);
    if (!rc)
        rc = vsk_autobind(fd, tag, vm.svm_cid, vm.svm_port);
    if (rc)
        return rc;
    clear_error(fd);
    if (vm.svm_cid > VMADDR_CID_HOST)
        return connect_guest(fd, tag, &addr, vm.svm_port, blocks);
    return connect_host(fd, tag, &addr, blocks);
}

int vsk_listen(int fd, u64 tag, int backlog)
{
    int rc;

    if (tag & (VSK_CONNECTED | VSK_CONNECTING) || !(tag & VSK_BOUND))
        return -EINVAL;
    rc = (int)RAW(SYS_listen, fd, backlog);
    if (!rc)
        vsk_put(fd, tag | VSK_LISTEN);
    return rc;
}

int vsk_give_name(const struct sockaddr_vm *vm, struct sockaddr *sa, socklen_t *len)
{
    socklen_t room;

    if (!sa)
        return 0;
    if (!len)
        return -EFAULT;
    room = *len;
    if ((int)room < 0)
        return -EINVAL;
    memcpy(sa, vm, room < sizeof(*vm) ? room : sizeof(*vm));
    *len = sizeof(*vm);
    return 0;
}

/* What a child has of its listener that the tag does not hold. */
static void inherit(int listener, int child)
{
    struct vsk_local *from, *to, copy;
    vsk_saved saved;

    vsk_lock(&saved);
    from = vsk_local(listener, false);
    if (from) {
        copy = *from;
        to = vsk_local(child, true);
        if (to) {
            to->buffer_min = copy.buffer_min;
            to->buffer_max = copy.buffer_max;
            to->timeout = copy.timeout;
        }
    }
    vsk_unlock(&saved);
}

int vsk_accept(int fd, u64 tag, struct sockaddr *sa, socklen_t *len, int flags)
{
    struct sockaddr_un addr;
    socklen_t size = sizeof(addr);
    struct sockaddr_vm vm;
    int child, rc;

    child = (int)RAW(SYS_accept4, fd, &addr, &size, flags);
    if (child < 0)
        return child;
    set_buffer(child);
    tag = vsk_accepted(tag, &addr, size < sizeof(addr) ? size : sizeof(addr));
    vsk_put(child, tag);
    inherit(fd, child);
    vsk_peername(child, tag, &vm);
    rc = vsk_give_name(&vm, sa, len);
    if (rc) {
        RAW(SYS_close, child);
        vsk_forget(child);
        return rc;
    }
    return child;
}

int vsk_shutdown(int fd, u64 tag, int how)
{
    int rc;

    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    if (!(tag & (VSK_CONNECTED | VSK_CONNECTING)))
        return -ENOTCONN;
    rc = (int)RAW(SYS_shutdown, fd, how);
    if (rc)
        return rc;
    if (how != SHUT_WR)
        tag |= VSK_SHUT_RD;
    if (how != SHUT_RD)
        tag |= VSK_SHUT_WR;
    vsk_put(fd, tag);
    return 0;
}
