// SPDX-License-Identifier: MIT
// What poll() reports, and the ioctls that count bytes.
#include "vsock/sock.h"

#include <errno.h>
#include <sys/ioctl.h>

#define IN  (POLLIN | POLLRDNORM)
#define OUT (POLLOUT | POLLWRNORM)

short vsock_poll(struct vsock_sock *sk)
{
    bool no_more_in =
        sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV || sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND;
    short mask = 0;

    if (sk->err)
        mask |= POLLERR;
    if (sk->shutdown == VSOCK_SHUTDOWN_BOTH || (sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND &&
                                                sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND))
        mask |= POLLHUP;
    if (no_more_in)
        mask |= IN | POLLRDHUP;
    if (sk->state == VSOCK_LISTEN)
        return TAILQ_EMPTY(&sk->children) ? mask : mask | IN;
    if (sk->connected && vsock_data_ready(sk, sk->rcvlowat))
        mask |= IN;
    if (sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND || sk->state == VSOCK_SYN_SENT)
        return mask;
    /* A send on a connection that is over fails at once: that counts as writable. */
    if (sk->state != VSOCK_ESTABLISHED || sk->done)
        return mask | OUT;
    if (vsock_credit_can_send(&sk->credit, 1, 1))
        return mask | OUT | POLLWRBAND;
    if (sk->timer[VSOCK_TIMER_CREDIT] == VSOCK_FOREVER)
        vsock_timer_set(sk, VSOCK_TIMER_CREDIT, vsock_deadline(sk->ctx, VSOCK_CREDIT_ASK_NS));
    return mask;
}

int vsock_ioctl(struct vsock_sock *sk, unsigned long request, int *value)
{
    switch (request) {
    case FIONREAD:
    case TIOCOUTQ:
        if (sk->state == VSOCK_LISTEN)
            return -EINVAL;
        if (!sk->connected)
            return -EOPNOTSUPP;
        *value = request == FIONREAD ? sk->rx.bytes : sk->bytes_unsent;
        return 0;
    default:
        return -ENOTTY;
    }
}
