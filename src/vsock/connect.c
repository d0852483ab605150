// SPDX-License-Identifier: MIT
// connect(): the client's half of making a connection.
#include "vsock/sock.h"

#include <errno.h>

/* Everything that a failed attempt before this one may have left behind. */
static void fresh(struct vsock_sock *sk)
{
    vsock_credit_init(&sk->credit, sk->buffer_size);
    sk->marker = (struct vsock_marker){0};
    vsock_queue_init(&sk->marker.part);
    sk->shutdown = sk->peer_shutdown = 0;
    sk->err = 0;
}

static int begin(struct vsock_sock *sk, u32 cid, u32 port, u8 flags)
{
    struct vsock_transport *t = vsock_route(sk->ctx, cid, flags);
    u32 src_cid;
    int rc;

    if (!t)
        return -ENODEV;
    if (!vsock_transport_allows(t, sk->type, cid))
        return sk->type == VIRTIO_VSOCK_TYPE_STREAM ? -ENETUNREACH : -ESOCKTNOSUPPORT;
    if (sk->local.port == VMADDR_PORT_ANY && (rc = vsock_bind(sk, VMADDR_CID_ANY, VMADDR_PORT_ANY)))
        return rc;
    src_cid = sk->local.cid == VMADDR_CID_ANY ? t->local_cid : sk->local.cid;
    if (vsock_find_connected(sk->ctx, cid, port, src_cid, sk->local.port))
        return -EADDRINUSE;
    vsock_assign(sk, t);
    fresh(sk);
    sk->src_cid = src_cid;
    sk->remote = (struct vsock_addr){cid, port};
    sk->state = VSOCK_SYN_SENT;
    sk->connecting = true;
    vsock_insert_connected(sk);
    vsock_timer_set(sk, VSOCK_TIMER_CONNECT, vsock_deadline(sk->ctx, sk->connect_timeout));
    vsock_sock_control(sk, VIRTIO_VSOCK_OP_REQUEST, 0);
    return 0;
}

int vsock_connect(struct vsock_sock *sk, u32 cid, u32 port, u8 flags, bool nonblock)
{
    int rc;

    if (sk->connected)
        return sk->shutdown ? -EINVAL : -EISCONN;
    if (sk->state == VSOCK_LISTEN)
        return -EINVAL;
    if (sk->connecting) {
        if (nonblock)
            return -EALREADY;
    } else {
        rc = begin(sk, cid, port, flags);
        if (rc)
            return rc;
        if (nonblock)
            return -EINPROGRESS;
    }
    while (sk->connecting)
        vsock_wait(sk, &sk->tx_wait, VSOCK_FOREVER); /* the timer ends it */
    if (sk->connected)
        return 0;
    rc = -sk->err;
    sk->err = 0;
    return rc ? rc : -ECONNRESET; /* another waiter has taken the error */
}

void vsock_connect_failed(struct vsock_sock *sk, int err)
{
    if (!sk->connecting)
        return;
    vsock_timer_set(sk, VSOCK_TIMER_CONNECT, VSOCK_FOREVER);
    sk->transport->ops->cancel(sk->transport, sk);
    vsock_remove_connected(sk);
    sk->connecting = false;
    sk->state = VSOCK_CLOSE;
    sk->err = err;
    vsock_wake(sk, POLLIN | POLLOUT | POLLHUP | POLLERR);
}
