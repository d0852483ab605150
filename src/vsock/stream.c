// SPDX-License-Identifier: MIT
// STREAM: bytes without boundaries.
#include "vsock/sock.h"

#include <errno.h>

static u32 min_u32(size_t a, u32 b)
{
    return a < b ? a : b;
}

ssize_t vsock_stream_send(struct vsock_sock *sk, struct vsock_iter *it, u64 deadline)
{
    ssize_t total = 0;
    u32 held = 0;
    int rc = 0;

    while (it->left) {
        struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
        struct vsock_pkt *p;
        u32 n;

        rc = vsock_wait_space(sk, 1, 1, deadline);
        if (rc)
            break;
        n = min_u32(it->left, vsock_credit_fit(&sk->credit));
        p = vsock_sock_pkt(sk, VIRTIO_VSOCK_OP_RW, n);
        if (!p) {
            rc = -ENOMEM;
            break;
        }
        vsock_credit_take(&sk->credit, n, vsock_credit_pkts(n));
        TAILQ_INSERT_TAIL(&list, p, link);
        vsock_transmit(sk, it, &list);
        total += n;
        held += n;
        if (held < vsock_credit_window(&sk->credit) / 2)
            continue;
        held = 0; /* let the reader start on it */
        if (sk->ctx->loopback.queue.tqh_first)
            vsock_loopback_run(&sk->ctx->loopback);
        vsock_flush(sk->ctx);
    }
    return total ? total : rc;
}

static ssize_t peek(struct vsock_sock *sk, struct vsock_iter *it)
{
    struct vsock_pkt *p;
    ssize_t total = 0;

    TAILQ_FOREACH(p, &sk->rx.pkts, link)
    {
        u32 n = min_u32(it->left, p->len - p->off);

        vsock_iter_copy(it, p->data + p->off, n, true);
        total += n;
    }
    return total;
}

/* Read from the first packet; returns the number of bytes. */
static u32 read_first(struct vsock_sock *sk, struct vsock_iter *it)
{
    struct vsock_pkt *p = TAILQ_FIRST(&sk->rx.pkts);
    u32 n = min_u32(it->left, p->len - p->off);
    bool let_go = n > VSOCK_MERGE_MAX; /* then nobody writes to this packet */

    if (let_go)
        vsock_lock_let_go(sk->ctx);
    vsock_iter_copy(it, p->data + p->off, n, true);
    if (let_go)
        vsock_lock_again(sk->ctx);
    vsock_queue_eat(&sk->rx, &sk->credit, n);
    return n;
}

ssize_t vsock_stream_recv(struct vsock_sock *sk, struct vsock_iter *it, int flags, u64 deadline)
{
    size_t target = flags & MSG_WAITALL ? it->left : min_u32(it->left, sk->rcvlowat);
    size_t total = 0;
    int rc;

    if (target >= sk->buffer_size)
        return -ENOMEM; /* it could never be there at once; Linux says so too */
    if (flags & MSG_PEEK) {
        rc = vsock_wait_data(sk, target, deadline);
        return rc < 0 && !sk->rx.bytes ? rc : peek(sk, it);
    }
    do {
        struct vsock_direct d = {.it = it};

        rc = vsock_wait_direct(sk, &d, deadline);
        if (rc <= 0)
            break;
        total += d.len;
        while (it->left && sk->rx.bytes)
            total += read_first(sk, it);
        vsock_sock_report(sk);
    } while (total < target);
    return total ? (ssize_t)total : rc;
}
