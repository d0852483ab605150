// SPDX-License-Identifier: MIT
// Records over SOCK_SEQPACKET Unix sockets: one message each, marked where the other end takes marks.
#include "vsock/transport/unix_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MARKS_MAX VSOCK_RECORD_FILE_EOR

/* Room for marks and, beside them, credentials. */
union control {
    char bytes[CMSG_SPACE(MARKS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
};

/* --- to the descriptor --- */

static bool ends_record(const struct vsock_pkt *p)
{
    return p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM;
}

/* Send with (count) times the descriptor (fd). */
static ssize_t send_marked(struct unix_conn *c, struct msghdr *m, int fd, unsigned count)
{
    union control control = {{0}};
    struct cmsghdr *cmsg;

    if (count) {
        m->msg_control = &control;
        m->msg_controllen = CMSG_SPACE(count * sizeof(int));
        cmsg = CMSG_FIRSTHDR(m);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (unsigned i = 0; i < count; i++)
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(fd));
    }
    return sendmsg(c->fd, m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The first record in a file of its own. The descriptor or -errno. */
static int make_file(struct unix_conn *c)
{
    struct vsock_pkt *p;
    int fd = memfd_create("vsock-record", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    TAILQ_FOREACH(p, &c->out, link)
    {
        if (write(fd, p->data, p->len) != (ssize_t)p->len) {
            close(fd);
            return -ENOSPC;
        }
        if (ends_record(p))
            break;
    }
    return fd;
}

/* As sendmsg(), the first record in a file. */
static ssize_t send_file(struct unix_conn *c, bool eor)
{
    char nothing = 0;
    struct iovec v = {&nothing, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    int fd = make_file(c), e;
    ssize_t n;

    if (fd < 0) {
        errno = -fd;
        return -1;
    }
    n = send_marked(c, &m, fd, eor ? VSOCK_RECORD_FILE_EOR : VSOCK_RECORD_FILE);
    e = errno;
    close(fd);
    errno = e;
    return n;
}

ssize_t unix_record_out(struct unix_conn *c)
{
    struct iovec iov[UNIX_IOVS];
    struct msghdr m = {.msg_iov = iov};
    struct vsock_pkt *p;
    size_t len = 0;
    bool eor = false, fits = true;
    ssize_t n = -1;

    TAILQ_FOREACH(p, &c->out, link)
    {
        fits = m.msg_iovlen < UNIX_IOVS;
        if (fits)
            iov[m.msg_iovlen++] = (struct iovec){p->data, p->len};
        len += p->len;
        eor = p->hdr.flags & VIRTIO_VSOCK_SEQ_EOR;
        if (ends_record(p))
            break;
    }
    errno = EMSGSIZE;
    if (fits)
        n = send_marked(c, &m, c->u->mark, c->marks && eor ? VSOCK_RECORD_EOR : 0);
    if (n < 0 && errno == EMSGSIZE && c->marks)
        n = send_file(c, eor);
    if (n < 0 && errno == EMSGSIZE)
        return -EMSGSIZE;
    if (n < 0) {
        unix_not_written(c, errno);
        return 0;
    }
    unix_written(c, len);
    return len ? (ssize_t)len : 1; /* an empty record is progress too */
}

/* --- from the descriptor --- */

/* Take the record's file, which is to hold still: a memfd. 0 or -errno; closes (fd) then. */
static int take_file(struct unix_conn *c, int fd, bool eor)
{
    struct stat st;
    int rc = 0;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fcntl(fd, F_GET_SEALS) < 0)
        rc = -EPROTO;
    else if (st.st_size > VSOCK_BUF_MAX)
        rc = -EMSGSIZE;
    if (rc || !st.st_size) {
        close(fd);
        return rc; /* as with an empty send() on a vsock socket, nothing is transmitted */
    }
    c->file = fd;
    c->file_len = (u32)st.st_size;
    c->file_eor = eor;
    return 0;
}

/*
 * Receive the message at the front into (m). (*marks): how many descriptors came with it, and
 * (fd) the first of them, -1; the others are closed. (*any): it was a message, not the end.
 */
static ssize_t receive(struct unix_conn *c, struct msghdr *m, unsigned *marks, int *fd, bool *any)
{
    union control control;
    struct cmsghdr *cmsg;
    ssize_t n;

    m->msg_control = &control;
    m->msg_controllen = sizeof(control);
    n = recvmsg(c->fd, m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    *marks = 0;
    *fd = -1;
    *any = n > 0 || (n == 0 && m->msg_controllen);
    for (cmsg = n >= 0 ? CMSG_FIRSTHDR(m) : NULL; cmsg; cmsg = CMSG_NXTHDR(m, cmsg)) {
        int fds[sizeof(control) / sizeof(int)]; /* of too many, some more than asked for may come */

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        *marks = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(cmsg), *marks * sizeof(int));
        *fd = fds[0];
        for (unsigned i = 1; i < *marks; i++)
            close(fds[i]);
    }
    return n;
}

/* What was received into the packets of (list), (len) bytes, goes to the guest, or into c->file. */
static int pass_on(struct unix_conn *c, struct vsock_pkts *list, u32 len, struct msghdr *m)
{
    bool any, bad = false, eor;
    unsigned marks;
    int fd, rc = 0;
    ssize_t n = receive(c, m, &marks, &fd, &any);

    eor = marks & 1;
    if (n != (ssize_t)len || m->msg_flags & (MSG_TRUNC | MSG_CTRUNC) || marks > MARKS_MAX)
        bad = true;
    if (marks >= VSOCK_RECORD_FILE && !bad)
        rc = take_file(c, fd, eor);
    else if (fd >= 0)
        close(fd);
    if (bad || marks >= VSOCK_RECORD_FILE) {
        vsock_pkts_free(list);
        return bad ? -EIO : rc ? rc : 1;
    }
    vsock_lock(c->u->ctx);
    if (eor)
        vsock_relay_set_eor(c->sk, list);
    vsock_relay_send_record(c->sk, len, list);
    vsock_unlock(c->u->ctx);
    return 1;
}

/* The packets that a record of (len) bytes needs, when the guest has room. 1, 0: not now, -errno. */
static int make_room(struct unix_conn *c, u32 len, bool eor, struct vsock_pkts *list)
{
    const struct vsock_framing_ops *framing;
    int rc = -ENOTCONN;

    vsock_lock(c->u->ctx);
    framing = c->sk->transport ? vsock_sock_framing(c->sk) : NULL;
    if (framing)
        rc = vsock_wait_space(c->sk, len + framing->overhead, framing->pkts(len), 0);
    c->starved = rc == -EAGAIN;
    if (!rc && framing->enqueue(c->sk, len, eor, list))
        rc = -ENOMEM;
    vsock_unlock(c->u->ctx);
    if (!rc)
        return 1;
    if (rc == -EMSGSIZE || rc == -ENOMEM)
        return rc; /* the first: the guest has no buffer that could ever hold it */
    if (rc != -EAGAIN)
        unix_guest_deaf(c);
    return 0;
}

static int file_in(struct unix_conn *c)
{
    struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
    struct vsock_pkt *p;
    off_t at = 0;
    int rc = make_room(c, c->file_len, c->file_eor, &list);

    if (rc <= 0)
        return rc;
    TAILQ_FOREACH(p, &list, link)
    {
        if (p->hdr.op != VIRTIO_VSOCK_OP_RW)
            continue;
        if (pread(c->file, p->data, p->len, at) != (ssize_t)p->len) {
            vsock_pkts_free(&list);
            return -EIO;
        }
        at += p->len;
    }
    vsock_lock(c->u->ctx);
    vsock_relay_send_record(c->sk, c->file_len, &list);
    vsock_unlock(c->u->ctx);
    close(c->file);
    c->file = -1;
    return 1;
}

/* Is what is at the front a record of no bytes, or the end? It is taken off. */
static int empty_in(struct unix_conn *c)
{
    char byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    unsigned marks;
    bool any;
    int fd;
    ssize_t n = receive(c, &m, &marks, &fd, &any);

    if (n == 0 && any && marks >= VSOCK_RECORD_FILE && marks <= MARKS_MAX)
        return take_file(c, fd, marks & 1) ?: 1;
    if (fd >= 0)
        close(fd);
    if (n == 0 && any)
        return 1; /* as with an empty send() on a vsock socket, nothing is transmitted */
    return n > 0 ? -EIO : unix_no_bytes(c, n);
}

int unix_record_in(struct unix_conn *c)
{
    struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
    struct iovec iov[UNIX_IOVS];
    struct msghdr m = {.msg_iov = iov};
    struct vsock_pkt *p;
    ssize_t len;
    int rc;

    if (c->file >= 0)
        return file_in(c);
    len = recv(c->fd, NULL, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
    if (len < 0)
        return unix_no_bytes(c, len);
    if (len == 0)
        return empty_in(c);
    if (len > VSOCK_BUF_MAX)
        return -EMSGSIZE;
    rc = make_room(c, (u32)len, false, &list);
    if (rc <= 0)
        return rc;
    TAILQ_FOREACH(p, &list, link)
    {
        if (p->hdr.op == VIRTIO_VSOCK_OP_RW && m.msg_iovlen < UNIX_IOVS)
            iov[m.msg_iovlen++] = (struct iovec){p->data, p->len};
    }
    return pass_on(c, &list, (u32)len, &m);
}
