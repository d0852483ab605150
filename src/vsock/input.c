// SPDX-License-Identifier: MIT
// What a packet that comes in does to the socket it is for.
#include "vsock/relay.h"

#include <errno.h>

static void established(struct vsock_sock *sk)
{
    vsock_timer_set(sk, VSOCK_TIMER_CONNECT, VSOCK_FOREVER);
    sk->connecting = false;
    sk->connected = true;
    sk->state = VSOCK_ESTABLISHED;
    vsock_wake(sk, POLLOUT);
}

static void receive_connecting(struct vsock_sock *sk, const struct vsock_hdr *h)
{
    switch (h->op) {
    case VIRTIO_VSOCK_OP_RESPONSE:
        established(sk);
        break;
    case VIRTIO_VSOCK_OP_RST:
        vsock_connect_failed(sk, ECONNRESET);
        break;
    case VIRTIO_VSOCK_OP_INVALID:
        break;
    default:
        vsock_sock_control(sk, VIRTIO_VSOCK_OP_RST, 0);
        vsock_connect_failed(sk, EPROTO);
        break;
    }
}

/* Takes (p). */
static void receive_data(struct vsock_sock *sk, struct vsock_pkt *p)
{
    u32 len = p->len;
    int rc;

    sk->counts.rx_bytes += len;
    sk->counts.rx_pkts += len > 0;
    if (!vsock_credit_receive(&sk->credit, len)) {
        vsock_pkt_free(p);
        vsock_sock_reset(sk, ENOBUFS);
        return;
    }
    if (sk->orphan || sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV ||
        sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) {
        /* On its way while one side said that it would not be read, or not come. */
        vsock_credit_consume(&sk->credit, len);
        vsock_pkt_free(p);
        return;
    }
    if (sk->type == VIRTIO_VSOCK_TYPE_SEQPACKET) {
        rc = vsock_sock_framing(sk)->receive(sk, p);
    } else if (p->hdr.op == VIRTIO_VSOCK_OP_RW) {
        p->hdr.flags = 0;
        rc = vsock_queue_add(&sk->rx, &sk->credit, p);
    } else {
        vsock_pkt_free(p);
        rc = -EPROTO;
    }
    if (rc) {
        vsock_sock_reset(sk, -rc);
        return;
    }
    vsock_sock_report(sk); /* more may be missing than the peer knows that it may send */
    if (vsock_data_ready(sk, sk->rcvlowat))
        vsock_wake(sk, POLLIN);
}

static void receive_shutdown(struct vsock_sock *sk, u32 flags)
{
    sk->peer_shutdown |= flags & VSOCK_SHUTDOWN_BOTH;
    if (sk->peer_shutdown == VSOCK_SHUTDOWN_BOTH) {
        if (sk->orphan || TAILQ_EMPTY(&sk->rx.pkts)) {
            vsock_sock_reset(sk, 0);
            return;
        }
        /* The RST waits for close(); the pair of ports does not. */
        vsock_remove_connected(sk);
    }
    vsock_wake(sk, POLLIN | POLLOUT | POLLHUP);
}

/* Takes (p). */
static void receive_established(struct vsock_sock *sk, struct vsock_pkt *p)
{
    struct vsock_hdr h = p->hdr;

    switch (h.op) {
    case VIRTIO_VSOCK_OP_RW:
    case VSOCK_OP_SEQ_BEGIN:
    case VSOCK_OP_SEQ_END:
        receive_data(sk, p);
        return;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        receive_shutdown(sk, h.flags);
        break;
    case VIRTIO_VSOCK_OP_RST:
        vsock_sock_over(sk, 0);
        break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        vsock_sock_control(sk, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
        vsock_credit_asked(&sk->credit);
        break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        vsock_sock_report(sk); /* its own buffer, which caps it too, may be smaller now */
        break;
    case VIRTIO_VSOCK_OP_RESPONSE:
    case VIRTIO_VSOCK_OP_INVALID:
        break;
    case VIRTIO_VSOCK_OP_REQUEST:
        /* The peer has forgotten this connection and wants another between the same ports. */
        vsock_sock_reset(sk, ECONNRESET);
        break;
    default:
        vsock_sock_reset(sk, EPROTO);
        break;
    }
    vsock_pkt_free(p);
}

static void receive_listen(struct vsock_sock *sk, struct vsock_transport *t,
                           const struct vsock_hdr *h)
{
    if (h->op == VIRTIO_VSOCK_OP_REQUEST)
        vsock_listen_request(sk, t, h);
    else
        vsock_reset_reply(t, h);
}

static struct vsock_sock *find(struct vsock_ctx *ctx, const struct vsock_hdr *h)
{
    struct vsock_addr local = {h->dst_cid, h->dst_port};
    struct vsock_sock *sk;

    if (h->src_cid >> 32 || h->dst_cid >> 32)
        return NULL;
    sk = vsock_find_connected(ctx, h->src_cid, h->src_port, h->dst_cid, h->dst_port);
    if (sk)
        return sk;
    if (h->dst_cid != ctx->cid && h->dst_cid != VMADDR_CID_LOCAL)
        return NULL; /* a relay's business */
    sk = vsock_find_bound(ctx, &local);
    return sk && sk->state == VSOCK_LISTEN ? sk : NULL;
}

void vsock_peer_credit(struct vsock_sock *sk, const struct vsock_hdr *h)
{
    if (vsock_credit_peer(&sk->credit, h) && sk->state == VSOCK_ESTABLISHED) {
        vsock_timer_set(sk, VSOCK_TIMER_CREDIT, VSOCK_FOREVER);
        vsock_wake(sk, POLLOUT);
    }
}

void vsock_receive(struct vsock_transport *t, struct vsock_pkt *p)
{
    struct vsock_sock *sk = vsock_type_known(p->hdr.type) ? find(t->ctx, &p->hdr) : NULL;

    if (!sk && p->hdr.op == VIRTIO_VSOCK_OP_REQUEST && vsock_type_known(p->hdr.type) &&
        vsock_relay_request(t, &p->hdr)) {
        vsock_pkt_free(p);
        return;
    }
    if (!sk || sk->type != p->hdr.type || (sk->state != VSOCK_LISTEN && sk->transport != t)) {
        vsock_reset_reply(t, &p->hdr);
        vsock_pkt_free(p);
        return;
    }
    if (sk->state == VSOCK_LISTEN) {
        receive_listen(sk, t, &p->hdr);
        vsock_pkt_free(p);
        return;
    }
    vsock_sock_get(sk);
    vsock_peer_credit(sk, &p->hdr);
    if (sk->state == VSOCK_SYN_SENT) {
        receive_connecting(sk, &p->hdr);
        vsock_pkt_free(p);
    } else {
        receive_established(sk, p);
    }
    vsock_sock_put(sk);
}
