// SPDX-License-Identifier: MIT
// Messages and their descriptors through a Unix socket.
#include "vhost/user.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Keep descriptors that came along; too many, and all that were cut off, are an error. */
static int take_fds(struct vhost_user_msg *m, struct msghdr *h)
{
    int rc = h->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        size_t nr = c->cmsg_len < CMSG_LEN(0) ? 0 : (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < nr; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            if (m->nr_fds < VHOST_USER_FDS_MAX) {
                m->fds[m->nr_fds++] = fd;
            } else {
                close(fd);
                rc = -EPROTO;
            }
        }
    }
    return rc;
}

/* Receive up to (want) bytes at (to). Number of bytes, 0: none there now, or -errno. */
static int receive(int fd, struct vhost_user_msg *m, u8 *to, u32 want)
{
    _Alignas(struct cmsghdr) u8 control[CMSG_SPACE((VHOST_USER_FDS_MAX + 1) * sizeof(int))];
    struct iovec v = {to, want};
    struct msghdr h = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int rc;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    rc = take_fds(m, &h);
    if (rc)
        return rc;
    return n ? n : -ECONNRESET;
}

int vhost_user_recv(int fd, struct vhost_user_rx *rx)
{
    const u32 head = sizeof(rx->msg.hdr);
    struct vhost_user_msg *m = &rx->msg;
    int n;

    for (;;) {
        if (rx->have < head) {
            n = receive(fd, m, (u8 *)&m->hdr + rx->have, head - rx->have);
        } else {
            if ((m->hdr.flags & 3) != VHOST_USER_VERSION || m->hdr.size > sizeof(m->payload))
                return -EPROTO;
            if (rx->have == head + m->hdr.size)
                return 1;
            n = receive(fd, m, m->payload.bytes + (rx->have - head), head + m->hdr.size - rx->have);
        }
        if (n <= 0)
            return n;
        rx->have += n;
    }
}

void vhost_user_done_fds(struct vhost_user_msg *m)
{
    for (unsigned i = 0; i < m->nr_fds; i++) {
        if (m->fds[i] >= 0)
            close(m->fds[i]);
    }
    m->nr_fds = 0;
}

void vhost_user_done(struct vhost_user_rx *rx)
{
    vhost_user_done_fds(&rx->msg);
    memset(rx, 0, sizeof(*rx));
}

int vhost_user_send(int fd, const struct vhost_user_msg *m)
{
    _Alignas(struct cmsghdr) u8 control[CMSG_SPACE(VHOST_USER_FDS_MAX * sizeof(int))] = {0};
    struct iovec v[] = {{(void *)&m->hdr, sizeof(m->hdr)}, {(void *)&m->payload, m->hdr.size}};
    struct msghdr h = {.msg_iov = v, .msg_iovlen = 2};
    ssize_t n;

    if (m->nr_fds) {
        struct cmsghdr *c = (struct cmsghdr *)control;

        h.msg_control = control;
        h.msg_controllen = CMSG_SPACE(m->nr_fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(m->nr_fds * sizeof(int));
        memcpy(CMSG_DATA(c), m->fds, m->nr_fds * sizeof(int));
    }
    n = sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return -errno;
    return (size_t)n == sizeof(m->hdr) + m->hdr.size ? 0 : -EAGAIN;
}
