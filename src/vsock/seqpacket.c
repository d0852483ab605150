// SPDX-License-Identifier: MIT
// SEQPACKET: records, sent whole and read whole.
#include "vsock/sock.h"

#include <errno.h>

ssize_t vsock_seqpacket_send(struct vsock_sock *sk, struct vsock_iter *it, bool eor, u64 deadline)
{
    const struct vsock_framing_ops *framing = vsock_sock_framing(sk);
    struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
    u32 len = it->left, cost = len + framing->overhead;
    u32 pkts = framing->pkts(len);
    int rc;

    /*
     * All of the record's credit at once: else a sender that gives up half way leaves a
     * piece behind, which its next record would be taken to continue.
     */
    rc = vsock_wait_space(sk, cost, pkts, deadline);
    if (rc)
        return rc;
    rc = framing->enqueue(sk, len, eor, &list);
    if (rc)
        return rc;
    vsock_credit_take(&sk->credit, cost, pkts);
    vsock_transmit(sk, it, &list);
    return len;
}

/* Copy a record's packets as far as the buffers go; returns its length. */
static size_t copy_record(struct vsock_iter *it, struct vsock_pkt *p)
{
    size_t len = 0;

    for (; p; p = TAILQ_NEXT(p, link)) {
        u32 have = p->len - p->off;

        vsock_iter_copy(it, p->data + p->off, have < it->left ? have : it->left, true);
        len += have;
        if (p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM)
            break;
    }
    return len;
}

/* MSG_EOR of the record that begins at (p). */
static int record_eor(struct vsock_pkt *p)
{
    while (!(p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM))
        p = TAILQ_NEXT(p, link);
    return p->hdr.flags & VIRTIO_VSOCK_SEQ_EOR ? MSG_EOR : 0;
}

/* Take the first record off the queue and copy it; returns its length. */
static size_t read_record(struct vsock_sock *sk, struct vsock_iter *it)
{
    struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
    u32 before = sk->rx.bytes;
    size_t len;
    bool let_go;

    vsock_queue_take_record(&sk->rx, &sk->credit, &list);
    vsock_sock_report(sk);
    let_go = before - sk->rx.bytes > VSOCK_MERGE_MAX;
    if (let_go)
        vsock_unlock(sk->ctx); /* delivers the report */
    len = copy_record(it, TAILQ_FIRST(&list));
    vsock_pkts_free(&list);
    if (let_go)
        vsock_lock(sk->ctx);
    return len;
}

ssize_t vsock_seqpacket_recv(struct vsock_sock *sk, struct vsock_iter *it, int *flags, u64 deadline)
{
    struct vsock_direct d = {.it = it};
    int in = *flags, rc;
    size_t room = it->left, len;

    if (in & MSG_PEEK)
        rc = vsock_wait_data(sk, 1, deadline);
    else
        rc = vsock_wait_direct(sk, &d, deadline);
    if (rc <= 0 || d.done) {
        *flags = d.flags & VIRTIO_VSOCK_SEQ_EOR ? MSG_EOR : 0;
        return d.done ? (ssize_t)d.len : rc;
    }
    *flags = record_eor(TAILQ_FIRST(&sk->rx.pkts));
    if (in & MSG_PEEK)
        len = copy_record(it, TAILQ_FIRST(&sk->rx.pkts));
    else
        len = read_record(sk, it);
    if (len > room)
        *flags |= MSG_TRUNC;
    return in & MSG_TRUNC || len < room ? len : room;
}
