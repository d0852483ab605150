// SPDX-License-Identifier: MIT
// What sending and receiving share, whatever the type: checks, waiting, copying out of the lock.
#include "vsock/sock.h"

#include <errno.h>

#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR | MSG_MORE | MSG_ZEROCOPY)

int vsock_take_error(struct vsock_sock *sk)
{
    int err = sk->err;

    sk->err = 0;
    return -err;
}

static int send_check(struct vsock_sock *sk)
{
    if (sk->err)
        return vsock_take_error(sk);
    if (sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND || sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)
        return -EPIPE;
    return sk->state == VSOCK_ESTABLISHED ? 0 : -ENOTCONN;
}

/*
 * A peer reports what it has read when it sees fit: ask, should that take long. It does not see
 * that a record of more than a quarter of its buffer waits: ask at once.
 */
static void ask(struct vsock_sock *sk, u32 bytes)
{
    if (sk->timer[VSOCK_TIMER_CREDIT] != VSOCK_FOREVER)
        return;
    vsock_timer_set(sk, VSOCK_TIMER_CREDIT, vsock_deadline(sk->ctx, VSOCK_CREDIT_ASK_NS));
    if (bytes > vsock_credit_window(&sk->credit) / 4)
        vsock_sock_control(sk, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
}

int vsock_wait_space(struct vsock_sock *sk, u32 bytes, u32 pkts, u64 deadline)
{
    int rc;

    for (;;) {
        rc = send_check(sk);
        if (!rc && sk->type == VIRTIO_VSOCK_TYPE_SEQPACKET &&
            bytes > vsock_credit_window(&sk->credit))
            return -EMSGSIZE; /* a record must fit at once */
        if (rc || vsock_credit_can_send(&sk->credit, bytes, pkts))
            return rc;
        sk->counts.waits++;
        ask(sk, bytes);
        rc = vsock_wait(sk, &sk->tx_wait, deadline);
        if (rc)
            return rc;
    }
}

bool vsock_data_ready(const struct vsock_sock *sk, u32 target)
{
    return sk->type == VIRTIO_VSOCK_TYPE_STREAM ? sk->rx.bytes >= target : sk->rx.msgs;
}

int vsock_wait_data(struct vsock_sock *sk, u32 target, u64 deadline)
{
    int rc;

    for (;;) {
        if (vsock_data_ready(sk, target))
            return 1;
        if (vsock_rx_ended(sk))
            return vsock_take_error(sk);
        rc = vsock_wait(sk, &sk->rx_wait, deadline);
        if (rc)
            return rc;
    }
}

/* Of a call's last packet the transport may read the payload where its sender has it, at once. */
static bool may_borrow(const struct vsock_sock *sk, const struct vsock_iter *it,
                       const struct vsock_pkt *p)
{
    return sk->transport->eager && p->len > VSOCK_MERGE_MAX && p->len == it->left &&
           p->hdr.op == VIRTIO_VSOCK_OP_RW && p->data == p->own && !TAILQ_NEXT(p, link) &&
           vsock_iter_span(it) == p->len;
}

/* Send (p) from the caller's memory, which it does not need any more when this returns. */
static void transmit_borrowed(struct vsock_sock *sk, struct vsock_iter *it, struct vsock_pkt *p)
{
    bool borrowed;

    vsock_pkt_borrow(p, vsock_iter_at(it), &borrowed);
    vsock_iter_skip(it, p->len);
    vsock_sock_send(sk, p);
    vsock_flush(sk->ctx);
    while (borrowed) {
        if (p->queued)
            vsock_pkt_keep(p);
        else
            vsock_wait(sk, &sk->tx_wait, VSOCK_FOREVER); /* another thread copies it right now */
    }
}

void vsock_transmit(struct vsock_sock *sk, struct vsock_iter *it, struct vsock_pkts *list)
{
    struct vsock_pkt *p = TAILQ_FIRST(list);
    u32 bytes = 0;

    if (may_borrow(sk, it, p)) {
        transmit_borrowed(sk, it, p);
        return;
    }
    TAILQ_FOREACH(p, list, link)
    {
        bytes += p->len;
    }
    if (bytes > VSOCK_MERGE_MAX)
        vsock_lock_let_go(sk->ctx);
    TAILQ_FOREACH(p, list, link)
    {
        if (p->hdr.op == VIRTIO_VSOCK_OP_RW)
            vsock_iter_copy(it, p->data, p->len, false);
    }
    if (bytes > VSOCK_MERGE_MAX)
        vsock_lock_again(sk->ctx);
    if (sk->state != VSOCK_ESTABLISHED || sk->done) {
        vsock_pkts_free(list); /* it ended meanwhile: as good as sent just before that */
        return;
    }
    while ((p = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, p, link);
        vsock_sock_send(sk, p);
    }
}

ssize_t vsock_send(struct vsock_sock *sk, struct vsock_iter *it, int flags)
{
    u64 deadline = flags & MSG_DONTWAIT ? 0 : vsock_deadline(sk->ctx, sk->sndtimeo);
    ssize_t n;
    int rc;

    if (flags & ~SEND_FLAGS)
        return -EOPNOTSUPP;
    while (sk->tx_busy) {
        rc = vsock_wait(sk, &sk->tx_wait, deadline);
        if (rc)
            return rc;
    }
    n = send_check(sk);
    if (n || !it->left)
        return n;
    sk->tx_busy = true;
    n = sk->type == VIRTIO_VSOCK_TYPE_STREAM
            ? vsock_stream_send(sk, it, deadline)
            : vsock_seqpacket_send(sk, it, flags & MSG_EOR, deadline);
    sk->tx_busy = false;
    vsock_wake_waiters(sk, &sk->tx_wait);
    return n;
}

static ssize_t recv_unconnected(struct vsock_sock *sk)
{
    if (sk->err)
        return vsock_take_error(sk);
    return sk->done ? 0 : -ENOTCONN;
}

ssize_t vsock_recv(struct vsock_sock *sk, struct vsock_iter *it, int *flags)
{
    u64 deadline = *flags & MSG_DONTWAIT ? 0 : vsock_deadline(sk->ctx, sk->rcvtimeo);
    int in = *flags, out = 0, rc;
    ssize_t n;

    if (in & MSG_OOB)
        return -EOPNOTSUPP;
    while (sk->rx_busy) {
        rc = vsock_wait(sk, &sk->rx_wait, deadline);
        if (rc)
            return rc;
    }
    if (sk->state != VSOCK_ESTABLISHED) {
        n = recv_unconnected(sk);
    } else if (sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV || !it->left) {
        n = 0;
    } else {
        out = in;
        sk->rx_busy = true;
        n = sk->type == VIRTIO_VSOCK_TYPE_STREAM ? vsock_stream_recv(sk, it, in, deadline)
                                                 : vsock_seqpacket_recv(sk, it, &out, deadline);
        sk->rx_busy = false;
        out = sk->type == VIRTIO_VSOCK_TYPE_STREAM ? 0 : out;
        vsock_wake_waiters(sk, &sk->rx_wait);
    }
    if (n >= 0)
        *flags = out;
    return n;
}
