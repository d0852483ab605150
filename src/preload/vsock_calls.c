// SPDX-License-Identifier: MIT
// The interposed libc calls of AF_VSOCK sockets: what is ours goes to vsock_*.c, the rest to libc.

/* The headers would give fcntl() the name of fcntl64(), which is defined here too. */
#undef _FILE_OFFSET_BITS
/* Here are the definitions of what fortified programs call. */
#undef _FORTIFY_SOURCE

#include "preload/libc.h"
#include "preload/preload.h"
#include "preload/raw.h"
#include "preload/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

PRELOAD_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
PRELOAD_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags);
PRELOAD_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags,
                                      struct sockaddr *sa, socklen_t *len);

__attribute__((constructor)) static void start(void)
{
    const char *dir = getenv("UVIRT_VSOCK_DIR");

    vsk_with_kvm = getenv("UVIRT_EXEC_KVM");
    if (dir && *dir == '/')
        vsk_start(dir);
}

/* A program that ends holds the last descriptor of its listeners, as a rule: their files go. */
__attribute__((destructor)) static void end(void)
{
    int saved = errno;
    u64 tag;

    for (int fd = 0; vsk_dir && fd < VSK_CACHED; fd++) {
        if (vsk_peek(fd, &tag) && vsk_get(fd, &tag) && tag & VSK_LISTEN)
            vsk_close(fd);
    }
    errno = saved;
}

/* --- life --- */

PRELOAD_EXPORT int socket(int domain, int type, int protocol)
{
    int fd;

    if (vsk_dir && domain == AF_VSOCK)
        return (int)libc_done(vsk_socket(type, protocol));
    fd = LIBC(socket)(domain, type, protocol);
    vsk_forget(fd);
    return fd;
}

PRELOAD_EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
    int rc;

    if (vsk_dir && domain == AF_VSOCK)
        return (int)libc_done(-EOPNOTSUPP);
    rc = LIBC(socketpair)(domain, type, protocol, fds);
    if (!rc) {
        vsk_forget(fds[0]);
        vsk_forget(fds[1]);
    }
    return rc;
}

PRELOAD_EXPORT int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    u64 tag;

    return vsk_get(fd, &tag) ? (int)libc_done(vsk_bind(fd, tag, sa, len)) : LIBC(bind)(fd, sa, len);
}

PRELOAD_EXPORT int listen(int fd, int backlog)
{
    u64 tag;

    return vsk_get(fd, &tag) ? (int)libc_done(vsk_listen(fd, tag, backlog))
                             : LIBC(listen)(fd, backlog);
}

PRELOAD_EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    u64 tag;
    int rc;

    if (vsk_get(fd, &tag))
        return (int)libc_done(vsk_accept(fd, tag, sa, len, flags));
    rc = LIBC(accept4)(fd, sa, len, flags);
    vsk_forget(rc);
    return rc;
}

PRELOAD_EXPORT int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
    u64 tag;
    int rc;

    if (vsk_get(fd, &tag))
        return (int)libc_done(vsk_accept(fd, tag, sa, len, 0));
    rc = LIBC(accept)(fd, sa, len);
    vsk_forget(rc);
    return rc;
}

PRELOAD_EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    u64 tag;

    return vsk_get(fd, &tag) ? (int)libc_done(vsk_connect(fd, tag, sa, len))
                             : LIBC(connect)(fd, sa, len);
}

PRELOAD_EXPORT int shutdown(int fd, int how)
{
    u64 tag;

    return vsk_get(fd, &tag) ? (int)libc_done(vsk_shutdown(fd, tag, how)) : LIBC(shutdown)(fd, how);
}

PRELOAD_EXPORT int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    struct sockaddr_vm vm;
    u64 tag;
    int rc;

    if (!vsk_get(fd, &tag))
        return LIBC(getsockname)(fd, sa, len);
    rc = vsk_sockname(fd, tag, &vm);
    return (int)libc_done(rc ? rc : sa ? vsk_give_name(&vm, sa, len) : -EFAULT);
}

PRELOAD_EXPORT int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    struct sockaddr_vm vm;
    u64 tag;
    int rc;

    if (!vsk_get(fd, &tag))
        return LIBC(getpeername)(fd, sa, len);
    if (tag & VSK_CONNECTING)
        vsk_finish_later(fd, &tag);
    rc = vsk_peername(fd, tag, &vm);
    return (int)libc_done(rc ? rc : sa ? vsk_give_name(&vm, sa, len) : -EFAULT);
}

PRELOAD_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    u64 tag;

    return vsk_get(fd, &tag) ? (int)libc_done(vsk_setsockopt(fd, tag, level, name, value, len))
                             : LIBC(setsockopt)(fd, level, name, value, len);
}

PRELOAD_EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    u64 tag;

    return vsk_get(fd, &tag) ? (int)libc_done(vsk_getsockopt(fd, tag, level, name, value, len))
                             : LIBC(getsockopt)(fd, level, name, value, len);
}

/* --- data --- */

/*
 * Was (fd) what vsk_peek() took it for, when a call on it has given (rc)? Not if it was closed
 * and another took its number without a call that we see: then the call is libc's.
 */
static bool was_ours(int fd, ssize_t rc)
{
    if (rc != -ENOTSOCK)
        return true;
    vsk_forget(fd);
    return false;
}

static bool send_buffer(int fd, const void *buf, size_t n, int flags, socklen_t to, ssize_t *rc)
{
    struct iovec iov = {.iov_base = (void *)buf, .iov_len = n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = to};
    u64 tag;

    if (!vsk_peek(fd, &tag))
        return false;
    *rc = vsk_send(fd, tag, &msg, flags);
    return was_ours(fd, *rc);
}

static bool recv_buffer(int fd, void *buf, size_t n, int flags, ssize_t *rc)
{
    struct iovec iov = {.iov_base = buf, .iov_len = n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    u64 tag;

    if (!vsk_peek(fd, &tag))
        return false;
    *rc = vsk_recv(fd, tag, &msg, flags);
    return was_ours(fd, *rc);
}

PRELOAD_EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    ssize_t rc;

    return send_buffer(fd, buf, n, flags, 0, &rc) ? libc_done(rc) : LIBC(send)(fd, buf, n, flags);
}

PRELOAD_EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags,
                              const struct sockaddr *sa, socklen_t len)
{
    ssize_t rc;

    return send_buffer(fd, buf, n, flags, sa ? len : 0, &rc)
               ? libc_done(rc)
               : LIBC(sendto)(fd, buf, n, flags, sa, len);
}

PRELOAD_EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
    ssize_t rc;

    return send_buffer(fd, buf, n, 0, 0, &rc) ? libc_done(rc) : LIBC(write)(fd, buf, n);
}

PRELOAD_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t rc;
    u64 tag;

    if (vsk_peek(fd, &tag)) {
        rc = vsk_send(fd, tag, msg, flags);
        if (was_ours(fd, rc))
            return libc_done(rc);
    }
    return LIBC(sendmsg)(fd, msg, flags);
}

PRELOAD_EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    ssize_t rc;
    u64 tag;

    if (count >= 0 && vsk_peek(fd, &tag)) {
        rc = vsk_send(fd, tag, &msg, 0);
        if (was_ours(fd, rc))
            return libc_done(rc);
    }
    return LIBC(writev)(fd, iov, count);
}

PRELOAD_EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    ssize_t rc = 0;
    unsigned i;
    u64 tag;

    if (!vsk_get(fd, &tag))
        return LIBC(sendmmsg)(fd, msgs, n, flags);
    for (i = 0; i < n; i++) {
        rc = vsk_send(fd, tag, &msgs[i].msg_hdr, flags);
        if (rc < 0)
            break;
        msgs[i].msg_len = (unsigned)rc;
    }
    return (int)libc_done(i ? (long)i : rc);
}

PRELOAD_EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    ssize_t rc;

    return recv_buffer(fd, buf, n, flags, &rc) ? libc_done(rc) : LIBC(recv)(fd, buf, n, flags);
}

PRELOAD_EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *sa,
                                socklen_t *len)
{
    ssize_t rc;

    if (!recv_buffer(fd, buf, n, flags, &rc))
        return LIBC(recvfrom)(fd, buf, n, flags, sa, len);
    if (rc >= 0 && sa && len)
        *len = 0;
    return libc_done(rc);
}

PRELOAD_EXPORT ssize_t read(int fd, void *buf, size_t n)
{
    ssize_t rc;

    return recv_buffer(fd, buf, n, 0, &rc) ? libc_done(rc) : LIBC(read)(fd, buf, n);
}

PRELOAD_EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    ssize_t rc;
    u64 tag;

    if (count >= 0 && vsk_peek(fd, &tag)) {
        rc = vsk_recv(fd, tag, &msg, 0);
        if (was_ours(fd, rc))
            return libc_done(rc);
    }
    return LIBC(readv)(fd, iov, count);
}

/* Descriptors that another process has sent may be ours. */
static void note_received(const struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
            vsk_note(fd);
        }
    }
}

PRELOAD_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t rc;
    u64 tag;

    if (vsk_peek(fd, &tag)) {
        rc = vsk_recv(fd, tag, msg, flags);
        if (was_ours(fd, rc))
            return libc_done(rc);
    }
    rc = LIBC(recvmsg)(fd, msg, flags);
    if (rc >= 0 && vsk_dir)
        note_received(msg);
    return rc;
}

PRELOAD_EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags,
                            struct timespec *timeout)
{
    u64 tag, until = UINT64_MAX;
    ssize_t rc = 0;
    unsigned i;

    if (!vsk_get(fd, &tag)) {
        rc = LIBC(recvmmsg)(fd, msgs, n, flags, timeout);
        for (ssize_t k = 0; vsk_dir && k < rc; k++)
            note_received(&msgs[k].msg_hdr);
        return (int)rc;
    }
    if (timeout)
        until = vsk_now() + (u64)timeout->tv_sec * 1000000000ull + (u64)timeout->tv_nsec;
    for (i = 0; i < n && (!i || vsk_now() < until); i++) {
        int more = i && flags & MSG_WAITFORONE ? MSG_DONTWAIT : 0;

        rc = vsk_recv(fd, tag, &msgs[i].msg_hdr, (flags & ~MSG_WAITFORONE) | more);
        if (rc < 0)
            break;
        msgs[i].msg_len = (unsigned)rc;
    }
    return (int)libc_done(i ? (long)i : rc);
}

/* What a fortified program calls; a length beyond its buffer is libc's to complain about. */
ssize_t __read_chk(int fd, void *buf, size_t n, size_t size)
{
    return n > size ? LIBC(__read_chk)(fd, buf, n, size) : read(fd, buf, n);
}

ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags)
{
    return n > size ? LIBC(__recv_chk)(fd, buf, n, size, flags) : recv(fd, buf, n, flags);
}

ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags, struct sockaddr *sa,
                       socklen_t *len)
{
    return n > size ? LIBC(__recvfrom_chk)(fd, buf, n, size, flags, sa, len)
                    : recvfrom(fd, buf, n, flags, sa, len);
}
