// SPDX-License-Identifier: MIT
// Records between SEQ_BEGIN and SEQ_END packets, as in the SEQPACKET series before virtio 1.2 (v4).

/*
 * A marker is a packet with eight bytes of payload {le32 msg_cnt, le32 msg_len}, paid for
 * with credit. msg_cnt counts markers, so that a record's END has its BEGIN's plus one.
 * The receiver checks END's number and the record's length; what does not fit is dropped
 * and reading goes on with the next BEGIN. A whole record leaves here in the form that eom
 * gives records, so that everything behind the framing knows one form only.
 */
#include "vsock/framing/framing.h"
#include "vsock/sock.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define MARKER_SIZE 8

struct marker {
    u32 msg_cnt, msg_len; /* little endian */
};

_Static_assert(sizeof(struct marker) == MARKER_SIZE, "marker payload");

static u32 marker_pkts(u32 len)
{
    return 2 + vsock_credit_pkts(len) + len / VSOCK_PAYLOAD_MAX;
}

static int add_marker(struct vsock_sock *sk, u16 op, u32 cnt, u32 len, struct vsock_pkts *list)
{
    struct marker m = {htole32(cnt), htole32(len)};
    struct vsock_pkt *p = vsock_sock_pkt(sk, op, MARKER_SIZE);

    if (!p)
        return -ENOMEM;
    memcpy(p->data, &m, sizeof(m));
    TAILQ_INSERT_TAIL(list, p, link);
    return 0;
}

static int marker_enqueue(struct vsock_sock *sk, u32 len, bool eor, struct vsock_pkts *list)
{
    u32 cnt = sk->marker.tx_cnt, left = len;
    int rc = add_marker(sk, VSOCK_OP_SEQ_BEGIN, cnt, len, list);

    while (!rc && left) {
        u32 n = left < VSOCK_PAYLOAD_MAX ? left : VSOCK_PAYLOAD_MAX;
        struct vsock_pkt *p = vsock_sock_pkt(sk, VIRTIO_VSOCK_OP_RW, n);

        if (!p) {
            rc = -ENOMEM;
            break;
        }
        p->hdr.flags = eor ? VSOCK_RW_EOR : 0;
        TAILQ_INSERT_TAIL(list, p, link);
        left -= n;
    }
    if (!rc)
        rc = add_marker(sk, VSOCK_OP_SEQ_END, cnt + 1, 0, list);
    if (rc) {
        vsock_pkts_free(list);
        return rc;
    }
    sk->marker.tx_cnt = cnt + 2;
    return 0;
}

/* Give up the record under way. */
static void marker_purge(struct vsock_sock *sk)
{
    vsock_queue_purge(&sk->marker.part, &sk->credit);
    sk->marker.open = false;
}

/* A record that passed its check becomes one that ends in EOM. */
static int finish(struct vsock_sock *sk)
{
    struct vsock_marker *m = &sk->marker;
    struct vsock_pkt *last = TAILQ_LAST(&m->part.pkts, vsock_pkts);
    u32 flags = VIRTIO_VSOCK_SEQ_EOM | (m->eor ? VIRTIO_VSOCK_SEQ_EOR : 0);

    m->open = false;
    if (last) {
        last->hdr.flags = flags;
        m->part.msgs = 1;
        vsock_queue_splice(&sk->rx, &m->part);
        return 0;
    }
    last = vsock_pkt_alloc(0);
    if (!last)
        return -ENOBUFS;
    last->hdr.flags = flags;
    return vsock_queue_add(&sk->rx, &sk->credit, last);
}

static int take_marker(struct vsock_sock *sk, struct vsock_pkt *p)
{
    struct vsock_marker *m = &sk->marker;
    struct marker mark;

    if (p->len != MARKER_SIZE)
        return -EPROTO;
    memcpy(&mark, p->data, sizeof(mark));
    vsock_credit_consume(&sk->credit, MARKER_SIZE);
    if (p->hdr.op == VSOCK_OP_SEQ_BEGIN) {
        marker_purge(sk);
        m->begun = m->open = true;
        m->bad = m->eor = false;
        m->cnt = le32toh(mark.msg_cnt);
        m->len = le32toh(mark.msg_len);
        m->got = 0;
        return 0;
    }
    if (!m->begun)
        return -EPROTO;
    if (m->open && !m->bad && m->got == m->len && le32toh(mark.msg_cnt) - m->cnt == 1)
        return finish(sk);
    marker_purge(sk);
    return 0;
}

static int take_data(struct vsock_sock *sk, struct vsock_pkt *p)
{
    struct vsock_marker *m = &sk->marker;
    u32 len = p->len;

    if (!m->begun) {
        /* A peer that begins without a marker speaks eom. */
        vsock_pkt_free(p);
        return -EPROTO;
    }
    if (!m->open || m->bad || len > m->len - m->got) {
        vsock_queue_purge(&m->part, &sk->credit);
        m->bad = true;
        vsock_credit_consume(&sk->credit, len);
        vsock_pkt_free(p);
        return 0;
    }
    m->got += len;
    m->eor |= p->hdr.flags & VSOCK_RW_EOR;
    p->hdr.flags = 0;
    return vsock_queue_add(&m->part, &sk->credit, p);
}

static int marker_receive(struct vsock_sock *sk, struct vsock_pkt *p)
{
    int rc;

    if (p->hdr.op == VIRTIO_VSOCK_OP_RW)
        return take_data(sk, p);
    rc = take_marker(sk, p);
    vsock_pkt_free(p);
    return rc;
}

const struct vsock_framing_ops vsock_framing_marker = {
    .name = "marker",
    .overhead = 2 * MARKER_SIZE,
    .pkts = marker_pkts,
    .enqueue = marker_enqueue,
    .receive = marker_receive,
    .purge = marker_purge,
};
