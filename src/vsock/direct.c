// SPDX-License-Identifier: MIT
// A packet's payload straight into the buffers of a reader that waits for it.

/*
 * A reader that waits with nothing queued leaves its buffers in sk->direct. A transport that finds
 * them there, and room for the whole packet, copies once instead of twice, without the lock;
 * (busy) keeps the reader until that is done. Whatever does not fit takes the usual way.
 */
#include "vsock/sock.h"

/* Room for a packet's (len) bytes, or a record's? */
static bool fits(const struct vsock_sock *sk, const struct vsock_hdr *h)
{
    const struct vsock_direct *d = sk->direct;

    if (!d || d->busy || d->done || h->len > d->it->left || sk->type != h->type)
        return false;
    return h->type == VIRTIO_VSOCK_TYPE_STREAM ||
           (vsock_sock_framing(sk) == &vsock_framing_eom && h->flags & VIRTIO_VSOCK_SEQ_EOM);
}

static struct vsock_sock *begin(struct vsock_transport *t, const struct vsock_hdr *h)
{
    struct vsock_sock *sk =
        vsock_find_connected(t->ctx, h->src_cid, h->src_port, h->dst_cid, h->dst_port);

    if (!sk || sk->transport != t || sk->state != VSOCK_ESTABLISHED || sk->done ||
        vsock_rx_ended(sk) || !TAILQ_EMPTY(&sk->rx.pkts) || !fits(sk, h) ||
        !vsock_credit_receive(&sk->credit, h->len))
        return NULL;
    sk->counts.rx_bytes += h->len;
    sk->counts.rx_pkts++;
    vsock_peer_credit(sk, h);
    sk->direct->busy = true;
    return vsock_sock_get(sk);
}

static void end(struct vsock_sock *sk, const struct vsock_hdr *h)
{
    struct vsock_direct *d = sk->direct;

    d->len = h->len;
    d->flags = h->type == VIRTIO_VSOCK_TYPE_SEQPACKET ? h->flags : 0;
    d->busy = false;
    d->done = true;
    vsock_credit_pass(&sk->credit, h->len);
    vsock_sock_report(sk);
    vsock_wake_waiters(sk, &sk->rx_wait);
    vsock_sock_put(sk);
}

bool vsock_receive_direct(struct vsock_transport *t, const struct vsock_hdr *h,
                          const struct iovec *iov, unsigned nr)
{
    struct vsock_sock *sk = begin(t, h);

    if (!sk)
        return false;
    vsock_lock_let_go(t->ctx);
    for (unsigned i = 0; i < nr; i++)
        vsock_iter_copy(sk->direct->it, iov[i].iov_base, iov[i].iov_len, true);
    vsock_lock_again(t->ctx);
    end(sk, h);
    return true;
}

int vsock_wait_direct(struct vsock_sock *sk, struct vsock_direct *d, u64 deadline)
{
    int rc = 0;

    sk->direct = d;
    for (;;) {
        if (d->busy) {
            vsock_wait(sk, &sk->rx_wait, VSOCK_FOREVER);
            continue;
        }
        if (d->done || vsock_data_ready(sk, 1)) {
            rc = 1;
            break;
        }
        if (rc || vsock_rx_ended(sk))
            break;
        rc = vsock_wait(sk, &sk->rx_wait, deadline);
    }
    sk->direct = NULL;
    return rc ? rc : vsock_take_error(sk);
}
