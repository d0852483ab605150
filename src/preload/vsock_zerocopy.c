// SPDX-License-Identifier: MIT
// MSG_ZEROCOPY: the error queue of a socket, where a program looks for its buffers to come back.
#include "preload/vsock.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <string.h>

#ifndef SOL_VSOCK
#define SOL_VSOCK 287
#endif
#define RECVERR 1 /* VSOCK_RECVERR of <linux/vm_sockets.h> since Linux 6.7 */

/*
 * The bytes are always copied, so a buffer is free once the send returns. What a completion
 * says of it is what Linux would say: copied where the message is larger than the buffer.
 */
void vsk_zc_done(int fd, bool copied)
{
    struct vsk_local *l;
    struct vsk_zc *last;
    vsk_saved saved;

    vsk_lock(&saved);
    l = vsk_local(fd, true);
    if (l) {
        last = l->zc_count ? &l->zc[l->zc_count - 1] : NULL;
        if (last && (last->copied == copied || l->zc_count == VSK_ZC_RANGES)) {
            last->hi = l->zc_next++;
            last->copied |= copied;
        } else {
            l->zc[l->zc_count++] = (struct vsk_zc){l->zc_next, l->zc_next, copied};
            l->zc_next++;
        }
        vsk_had_zerocopy = true;
    }
    vsk_unlock(&saved);
}

bool vsk_zc_pending(int fd)
{
    struct vsk_local *l;
    vsk_saved saved;
    bool yes;

    if (!vsk_had_zerocopy)
        return false;
    vsk_lock(&saved);
    l = vsk_local(fd, false);
    yes = l && l->zc_count;
    vsk_unlock(&saved);
    return yes;
}

ssize_t vsk_zc_recv(int fd, struct msghdr *msg)
{
    struct sock_extended_err e = {.ee_origin = SO_EE_ORIGIN_ZEROCOPY};
    struct cmsghdr *c;
    struct vsk_local *l;
    struct vsk_zc zc = {0};
    vsk_saved saved;
    bool some;

    vsk_lock(&saved);
    l = vsk_local(fd, false);
    some = l && l->zc_count;
    if (some) {
        zc = l->zc[0];
        memmove(l->zc, l->zc + 1, --l->zc_count * sizeof(zc));
    }
    vsk_unlock(&saved);
    if (!some)
        return -EAGAIN;
    e.ee_info = zc.lo;
    e.ee_data = zc.hi;
    e.ee_code = zc.copied ? SO_EE_CODE_ZEROCOPY_COPIED : 0;
    msg->msg_flags = MSG_ERRQUEUE;
    msg->msg_namelen = 0;
    c = msg->msg_controllen >= CMSG_LEN(sizeof(e)) ? msg->msg_control : NULL;
    if (!c) {
        msg->msg_flags |= MSG_CTRUNC;
        msg->msg_controllen = 0;
        return 0;
    }
    c->cmsg_level = SOL_VSOCK;
    c->cmsg_type = RECVERR;
    c->cmsg_len = CMSG_LEN(sizeof(e));
    memcpy(CMSG_DATA(c), &e, sizeof(e));
    if (msg->msg_controllen > CMSG_SPACE(sizeof(e)))
        msg->msg_controllen = CMSG_SPACE(sizeof(e));
    return 0;
}
