// SPDX-License-Identifier: MIT
// listen() and accept(): the server's half of making a connection.
#include "vsock/sock.h"

#include <errno.h>

int vsock_listen(struct vsock_sock *sk, int backlog)
{
    if (sk->state != VSOCK_LISTEN && (sk->connected || sk->connecting || !sk->in_bound))
        return -EINVAL;
    if (backlog < 0 || backlog > VSOCK_BACKLOG_MAX)
        backlog = VSOCK_BACKLOG_MAX;
    sk->state = VSOCK_LISTEN;
    sk->backlog = backlog;
    return 0;
}

static void detach(struct vsock_sock *child)
{
    TAILQ_REMOVE(&child->listener->children, child, child_link);
    child->listener->nr_children--;
    child->listener = NULL;
}

int vsock_accept(struct vsock_sock *sk, bool nonblock, struct vsock_sock **ret)
{
    u64 deadline = nonblock ? 0 : vsock_deadline(sk->ctx, sk->rcvtimeo);
    int rc;

    if (sk->state != VSOCK_LISTEN)
        return -EINVAL;
    while (TAILQ_EMPTY(&sk->children)) {
        rc = vsock_wait(sk, &sk->rx_wait, deadline);
        if (rc)
            return rc;
    }
    *ret = TAILQ_FIRST(&sk->children); /* its reference was the list's */
    detach(*ret);
    return 0;
}

void vsock_listen_request(struct vsock_sock *sk, struct vsock_transport *t,
                          const struct vsock_hdr *h)
{
    struct vsock_sock *child = NULL;

    /* One more than (backlog) may wait, as everywhere in Linux. */
    if (sk->nr_children <= sk->backlog && vsock_transport_allows(t, sk->type, h->src_cid))
        child = vsock_sock_new(sk->ctx, sk->type, sk);
    if (!child) {
        vsock_reset_reply(t, h);
        return;
    }
    child->listener = sk;
    TAILQ_INSERT_TAIL(&sk->children, child, child_link);
    sk->nr_children++;
    vsock_sock_answer(child, t, h);
    vsock_wake(sk, POLLIN);
}

void vsock_listen_stop(struct vsock_sock *sk)
{
    struct vsock_sock *child;

    while ((child = TAILQ_FIRST(&sk->children))) {
        detach(child);
        vsock_close(child, false);
    }
}
