// SPDX-License-Identifier: MIT
// Sending and receiving: bytes as they are, records with the marks of transport/unix_record.h.
#include "preload/raw.h"
#include "preload/vsock.h"
#include "vsock/transport/unix_record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define MARKS_MAX VSOCK_RECORD_FILE_EOR
#define TICK_NS   1000000ull

union control {
    struct cmsghdr hdr;
    char space[CMSG_SPACE(MARKS_MAX * sizeof(int))];
};

static size_t length(const struct msghdr *msg)
{
    size_t len = 0;

    for (size_t i = 0; i < msg->msg_iovlen; i++)
        len += msg->msg_iov[i].iov_len;
    return len;
}

static void nap(void)
{
    const struct timespec t = {.tv_nsec = TICK_NS};

    RAW(SYS_nanosleep, &t, NULL);
}

/* Does a call on (fd) with (flags) wait? */
static bool waits(int fd, int flags)
{
    long fl = flags & MSG_DONTWAIT ? O_NONBLOCK : RAW(SYS_fcntl, fd, F_GETFL);

    return fl >= 0 && !(fl & O_NONBLOCK);
}

/* SO_SNDTIMEO in ns; UINT64_MAX: none. */
static u64 send_timeout(int fd)
{
    struct timeval tv = {0};
    socklen_t len = sizeof(tv);

    RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len);
    if (!tv.tv_sec && !tv.tv_usec)
        return UINT64_MAX;
    return (u64)tv.tv_sec * 1000000000ull + (u64)tv.tv_usec * 1000ull;
}

/* --- sending --- */

/*
 * One message. What a Unix socket says of a peer that has closed with data unread, once, is
 * ECONNRESET; vsock says EPIPE.
 */
static ssize_t send_one(int fd, const struct msghdr *msg, int flags)
{
    ssize_t n = RAW(SYS_sendmsg, fd, msg, flags);

    if (n == -ECONNRESET)
        n = RAW(SYS_sendmsg, fd, msg, flags);
    return n;
}

/* (msg) with (count) copies of (mark) beside it. */
static ssize_t send_marked(int fd, const struct msghdr *msg, int flags, int mark, int count)
{
    union control control = {0};
    struct msghdr m = {
        .msg_iov = msg->msg_iov,
        .msg_iovlen = msg->msg_iovlen,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int)),
    };
    bool wait = waits(fd, flags);
    ssize_t n;

    control.hdr.cmsg_level = SOL_SOCKET;
    control.hdr.cmsg_type = SCM_RIGHTS;
    control.hdr.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(&control.hdr) + (size_t)i * sizeof(int), &mark, sizeof(int));
    for (;;) {
        n = send_one(fd, &m, flags);
        if (n != -ETOOMANYREFS) /* the user's descriptors under way, RLIMIT_NOFILE of them */
            return n;
        if (!wait)
            return -EAGAIN;
        nap();
    }
}

/* The queue is empty, so no record is in a file any more. */
static void all_read(int fd)
{
    struct vsk_local *l;
    vsk_saved saved;

    vsk_lock(&saved);
    l = vsk_local(fd, false);
    if (l)
        l->in_files = 0;
    vsk_unlock(&saved);
}

/* Count (len) bytes more in files if they are within the buffer's size. */
static bool take_room(int fd, u64 size, size_t len)
{
    struct vsk_local *l;
    vsk_saved saved;
    bool room = true;
    int queued = 0;

    vsk_lock(&saved);
    l = vsk_local(fd, true);
    if (l) {
        if (l->in_files && !RAW(SYS_ioctl, fd, SIOCOUTQ, &queued) && !queued)
            l->in_files = 0; /* all has been read */
        room = !l->in_files || l->in_files + len <= size;
        if (room)
            l->in_files += len;
    }
    vsk_unlock(&saved);
    return room;
}

static int wait_for_room(int fd, u64 size, size_t len, int flags)
{
    u64 start = vsk_now(), timeout = 0;

    while (!take_room(fd, size, len)) {
        struct pollfd p = {.fd = fd};

        if (!timeout)
            timeout = send_timeout(fd);
        if (!waits(fd, flags) || vsk_now() - start >= timeout)
            return -EAGAIN;
        if (RAW(SYS_poll, &p, 1, 0) > 0)
            return 0; /* closed: the send says how */
        nap();
    }
    return 0;
}

/* A record that is too long for the socket, or that its queue has no room for: in a file. */
static ssize_t send_file(int fd, u64 tag, const struct msghdr *msg, size_t len, int flags)
{
    char nothing = 0;
    struct iovec iov = {.iov_base = &nothing, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int file = wait_for_room(fd, tag & VSK_SIZE, len, flags), count;
    ssize_t n;

    if (file)
        return file;
    file = (int)RAW(SYS_memfd_create, "vsock-record", MFD_CLOEXEC);
    if (file < 0)
        return file;
    n = RAW(SYS_writev, file, msg->msg_iov, msg->msg_iovlen);
    if (n == (ssize_t)len) {
        count = flags & MSG_EOR ? VSOCK_RECORD_FILE_EOR : VSOCK_RECORD_FILE;
        n = send_marked(fd, &m, flags & ~MSG_EOR, file, count);
        n = n < 0 ? n : (ssize_t)len;
    } else if (n >= 0) {
        n = -EFAULT;
    }
    RAW(SYS_close, file);
    return n;
}

/* Half the queue is kept for records in files, once the program has asked for a larger buffer. */
static bool queue_is_half_full(int fd, size_t len)
{
    int queued = 0, size = 0;
    socklen_t n = sizeof(size);

    if (!RAW(SYS_ioctl, fd, SIOCOUTQ, &queued) && !queued)
        all_read(fd);
    RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_SNDBUF, &size, &n);
    return (u64)queued + len > (u64)size / 2;
}

static ssize_t send_record(int fd, u64 tag, const struct msghdr *msg, size_t len, int flags)
{
    struct msghdr m = {.msg_iov = msg->msg_iov, .msg_iovlen = msg->msg_iovlen};
    bool marks = tag & VSK_MARKS;
    ssize_t n;

    if (!len)
        return tag & VSK_SHUT_WR ? -EPIPE : 0;
    if (len > (tag & VSK_SIZE))
        return -EMSGSIZE;
    if (marks && (tag & VSK_SIZE) > VSK_BUFFER_SIZE && queue_is_half_full(fd, len))
        return send_file(fd, tag, msg, len, flags);
    if (marks && flags & MSG_EOR) {
        int mark = (int)RAW(SYS_eventfd2, 0, EFD_CLOEXEC);

        if (mark < 0)
            return mark;
        n = send_marked(fd, &m, flags & ~MSG_EOR, mark, VSOCK_RECORD_EOR);
        RAW(SYS_close, mark);
    } else {
        n = send_one(fd, &m, flags & ~MSG_EOR);
    }
    if (marks && (n == -EMSGSIZE || n == -ENOBUFS))
        n = send_file(fd, tag, msg, len, flags);
    return n;
}

/* 0 with the tag of a connected socket, or what the call ends with. */
static ssize_t connected(int fd, u64 *tag, int flags)
{
    int rc = 0;

    if (*tag & VSK_CONNECTING)
        rc = vsk_finish(fd, tag, waits(fd, flags) ? UINT64_MAX : 0);
    if (rc)
        return rc;
    if (!(*tag & VSK_CONNECTED) && !vsk_get(fd, tag))
        return -ENOTSOCK;
    return *tag & VSK_CONNECTED ? 0 : -ENOTCONN;
}

ssize_t vsk_send(int fd, u64 tag, const struct msghdr *msg, int flags)
{
    bool zerocopy = flags & MSG_ZEROCOPY && tag & VSK_ZEROCOPY;
    struct msghdr m = {.msg_iov = msg->msg_iov, .msg_iovlen = msg->msg_iovlen};
    size_t len = length(msg);
    ssize_t n;

    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    n = connected(fd, &tag, flags);
    if (msg->msg_namelen && (!n || n == -ENOTCONN))
        return n ? -EOPNOTSUPP : -EISCONN;
    if (n)
        return n;
    if (tag & VSK_SEQ)
        n = send_record(fd, tag, msg, len, (flags & (MSG_DONTWAIT | MSG_EOR)) | MSG_NOSIGNAL);
    else
        n = send_one(fd, &m, flags & (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE));
    if (n == -EFAULT)
        n = -ENOMEM; /* as Linux says it here */
    if (zerocopy && n > 0)
        vsk_zc_done(fd, len > (tag & VSK_SIZE));
    return n;
}

/* --- receiving --- */

static ssize_t recv_one(int fd, struct msghdr *msg, int flags)
{
    ssize_t n = RAW(SYS_recvmsg, fd, msg, flags);

    if (n == -ECONNRESET) /* the peer has left data of ours unread: vsock does not say */
        n = RAW(SYS_recvmsg, fd, msg, flags);
    return n;
}

/* Take a record out of its file. */
static ssize_t recv_file(int file, struct msghdr *msg, size_t len, int flags, int *out)
{
    struct stat st;
    ssize_t n = RAW(SYS_fstat, file, &st);

    if (n < 0)
        return n;
    n = RAW(SYS_preadv, file, msg->msg_iov, msg->msg_iovlen, 0, 0);
    if (n < 0)
        return n;
    if ((u64)st.st_size > len) {
        *out |= MSG_TRUNC;
        if (flags & MSG_TRUNC)
            n = (ssize_t)st.st_size;
    } else {
        *out &= ~MSG_TRUNC;
    }
    return n;
}

static ssize_t recv_marked(int fd, struct msghdr *msg, size_t len, int flags, int *out)
{
    union control control;
    struct msghdr m = {
        .msg_iov = msg->msg_iov,
        .msg_iovlen = msg->msg_iovlen,
        .msg_control = &control,
        .msg_controllen = CMSG_LEN(MARKS_MAX * sizeof(int)), /* and not one more */
    };
    ssize_t n = recv_one(fd, &m, flags | MSG_CMSG_CLOEXEC);
    int marks[MARKS_MAX], count = 0;
    struct cmsghdr *c;

    if (n < 0)
        return n;
    *out = m.msg_flags & MSG_TRUNC;
    c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        count = count < MARKS_MAX ? count : MARKS_MAX;
        memcpy(marks, CMSG_DATA(c), (size_t)count * sizeof(int));
    }
    if (m.msg_flags & MSG_CTRUNC)
        n = -EMFILE; /* the mark, or the record, could not be taken */
    else if (count >= VSOCK_RECORD_FILE)
        n = recv_file(marks[0], msg, len, flags, out);
    if (count & 1)
        *out |= MSG_EOR;
    for (int i = 0; i < count; i++)
        RAW(SYS_close, marks[i]);
    return n;
}

ssize_t vsk_recv(int fd, u64 tag, struct msghdr *msg, int flags)
{
    struct msghdr m = {.msg_iov = msg->msg_iov, .msg_iovlen = msg->msg_iovlen};
    int keep = flags & (MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL), out = 0;
    size_t len = length(msg);
    ssize_t n;

    if (flags & MSG_ERRQUEUE)
        return vsk_zc_recv(fd, msg);
    n = connected(fd, &tag, flags);
    if (n)
        return n;
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (tag & VSK_SHUT_RD || !len) {
        n = 0;
    } else if (!(tag & VSK_SEQ)) {
        n = recv_one(fd, &m, keep);
    } else if (tag & VSK_MARKS) {
        n = recv_marked(fd, msg, len, keep | (flags & MSG_TRUNC), &out);
    } else {
        n = recv_one(fd, &m, keep | (flags & MSG_TRUNC));
        out = m.msg_flags & MSG_TRUNC;
    }
    if (n < 0)
        return n;
    msg->msg_namelen = 0;
    msg->msg_controllen = 0;
    msg->msg_flags = out | (flags & MSG_CMSG_CLOEXEC);
    return n;
}
