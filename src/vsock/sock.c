// SPDX-License-Identifier: MIT
// Life of a socket: creation, sending packets, shutdown, close, and the ways a connection ends.
#include "vsock/sock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define BUFFER_SIZE 262144
#define BUFFER_MIN  128

struct vsock_sock *vsock_sock_new(struct vsock_ctx *ctx, u16 type, struct vsock_sock *parent)
{
    struct vsock_sock *sk = calloc(1, sizeof(*sk));

    if (!sk)
        return NULL;
    sk->ctx = ctx;
    sk->refs = 1;
    sk->type = type;
    sk->local = sk->remote = (struct vsock_addr){VMADDR_CID_ANY, VMADDR_PORT_ANY};
    sk->buffer_size = parent ? parent->buffer_size : BUFFER_SIZE;
    sk->buffer_min = parent ? parent->buffer_min : BUFFER_MIN;
    sk->buffer_max = parent ? parent->buffer_max : BUFFER_SIZE;
    sk->connect_timeout = parent ? parent->connect_timeout : VSOCK_CONNECT_NS;
    sk->rcvtimeo = sk->sndtimeo = VSOCK_FOREVER;
    sk->rcvlowat = 1;
    vsock_credit_init(&sk->credit, sk->buffer_size);
    vsock_queue_init(&sk->rx);
    vsock_queue_init(&sk->marker.part);
    TAILQ_INIT(&sk->children);
    sk->rx_wait.futex = &ctx->futexes[ctx->next_futex++ % VSOCK_FUTEXES];
    sk->tx_wait.futex = &ctx->futexes[ctx->next_futex++ % VSOCK_FUTEXES];
    for (unsigned i = 0; i < VSOCK_NR_TIMERS; i++)
        sk->timer[i] = VSOCK_FOREVER;
    ctx->nr_socks++;
    return sk;
}

struct vsock_sock *vsock_sock_get(struct vsock_sock *sk)
{
    sk->refs++;
    return sk;
}

void vsock_sock_put(struct vsock_sock *sk)
{
    if (--sk->refs)
        return;
    vsock_stats_ended(sk);
    for (unsigned i = 0; i < VSOCK_NR_TIMERS; i++)
        vsock_timer_set(sk, i, VSOCK_FOREVER);
    vsock_remove(sk);
    vsock_assign(sk, NULL);
    vsock_pkts_free(&sk->rx.pkts);
    vsock_pkts_free(&sk->marker.part.pkts);
    sk->ctx->nr_socks--;
    free(sk);
}

void vsock_assign(struct vsock_sock *sk, struct vsock_transport *t)
{
    if (sk->transport)
        LIST_REMOVE(sk, transport_link);
    sk->transport = t;
    if (t)
        LIST_INSERT_HEAD(&t->socks, sk, transport_link);
}

void vsock_sock_head(const struct vsock_sock *sk, struct vsock_pkt *p, u16 op)
{
    p->hdr = (struct vsock_hdr){
        .src_cid = sk->src_cid,
        .dst_cid = sk->remote.cid,
        .src_port = sk->local.port,
        .dst_port = sk->remote.port,
        .len = p->len,
        .type = sk->type,
        .op = op,
    };
}

struct vsock_pkt *vsock_sock_pkt(struct vsock_sock *sk, u16 op, u32 len)
{
    struct vsock_pkt *p = NULL;

    if (sk->transport && sk->transport->ops->alloc)
        p = sk->transport->ops->alloc(sk->transport, len);
    if (!p)
        p = vsock_pool_alloc(&sk->ctx->pool, len);
    if (!p)
        return NULL;
    p->len = len;
    vsock_sock_head(sk, p, op);
    return p;
}

void vsock_sock_answer(struct vsock_sock *sk, struct vsock_transport *t, const struct vsock_hdr *h)
{
    sk->local = (struct vsock_addr){h->dst_cid, h->dst_port};
    sk->remote = (struct vsock_addr){h->src_cid, h->src_port};
    sk->src_cid = h->dst_cid;
    sk->state = VSOCK_ESTABLISHED;
    sk->connected = true;
    vsock_assign(sk, t);
    vsock_credit_peer(&sk->credit, h);
    vsock_insert_connected(sk);
    vsock_sock_control(sk, VIRTIO_VSOCK_OP_RESPONSE, 0);
}

void vsock_sock_send(struct vsock_sock *sk, struct vsock_pkt *p)
{
    if (!sk->transport) {
        vsock_pkt_free(p);
        return;
    }
    vsock_credit_stamp(&sk->credit, &p->hdr);
    p->owner = vsock_sock_get(sk);
    sk->bytes_unsent += p->len;
    sk->counts.tx_bytes += p->len;
    sk->counts.tx_pkts += p->len > 0;
    sk->pkts_unsent++;
    sk->transport->ops->send(sk->transport, p);
}

void vsock_sock_control(struct vsock_sock *sk, u16 op, u32 flags)
{
    struct vsock_pkt *p = vsock_sock_pkt(sk, op, 0);

    if (!p)
        return; /* as good as lost: timeouts on both sides cover it */
    p->hdr.flags = flags;
    vsock_sock_send(sk, p);
}

void vsock_pkt_disown(struct vsock_pkt *p)
{
    struct vsock_sock *sk = p->owner;

    if (!sk)
        return;
    p->owner = NULL;
    if (p->borrowed)
        vsock_wake_waiters(sk, &sk->tx_wait);
    sk->bytes_unsent -= p->hdr.len;
    sk->pkts_unsent--;
    if (p->hdr.len && !sk->bytes_unsent)
        vsock_wake_waiters(sk, &sk->tx_wait); /* for close() with SO_LINGER */
    vsock_sock_put(sk);
}

void vsock_pkt_sent(struct vsock_pkt *p)
{
    vsock_pkt_disown(p);
    vsock_pkt_free(p);
}

void vsock_reset_reply(struct vsock_transport *t, const struct vsock_hdr *h)
{
    struct vsock_pkt *p;

    if (h->op == VIRTIO_VSOCK_OP_RST)
        return;
    p = vsock_pkt_alloc(0);
    if (!p)
        return;
    p->hdr = (struct vsock_hdr){
        .src_cid = h->dst_cid,
        .dst_cid = h->src_cid,
        .src_port = h->dst_port,
        .dst_port = h->src_port,
        .type = h->type,
        .op = VIRTIO_VSOCK_OP_RST,
    };
    t->ops->send(t, p);
}

void vsock_sock_over(struct vsock_sock *sk, int err)
{
    if (sk->done)
        return;
    sk->done = true;
    sk->peer_shutdown = VSOCK_SHUTDOWN_BOTH;
    if (err)
        sk->err = err;
    if (TAILQ_EMPTY(&sk->rx.pkts))
        sk->state = VSOCK_CLOSING;
    vsock_timer_set(sk, VSOCK_TIMER_CLOSE, VSOCK_FOREVER);
    vsock_timer_set(sk, VSOCK_TIMER_CREDIT, VSOCK_FOREVER);
    if (sk->type == VIRTIO_VSOCK_TYPE_SEQPACKET && sk->transport)
        vsock_sock_framing(sk)->purge(sk);
    /* The peer may use its port for a new connection to ours at once. */
    vsock_remove_connected(sk);
    vsock_wake(sk, POLLIN | POLLOUT | POLLHUP | (err ? POLLERR : 0));
    if (sk->orphan)
        vsock_sock_put(sk);
}

void vsock_sock_reset(struct vsock_sock *sk, int err)
{
    if (sk->done)
        return;
    vsock_sock_control(sk, VIRTIO_VSOCK_OP_RST, 0);
    vsock_sock_over(sk, err);
}

void vsock_sock_report(struct vsock_sock *sk)
{
    u32 wanted = !sk->rx.msgs; /* a sender of records may be half through one */

    if (sk->type == VIRTIO_VSOCK_TYPE_STREAM)
        wanted = sk->rx.bytes < sk->rcvlowat ? sk->rcvlowat - sk->rx.bytes : 0;
    if (sk->state == VSOCK_ESTABLISHED && !sk->done && vsock_credit_update_due(&sk->credit, wanted))
        vsock_sock_control(sk, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
}

int vsock_shutdown(struct vsock_sock *sk, int how)
{
    u8 mode = how + 1; /* SHUT_RD, _WR, _RDWR to RCV, SEND, both */

    if (how < SHUT_RD || how > SHUT_RDWR)
        return -EINVAL;
    if (!sk->connected)
        return -ENOTCONN;
    sk->shutdown |= mode;
    if (sk->state == VSOCK_ESTABLISHED && !sk->done)
        vsock_sock_control(sk, VIRTIO_VSOCK_OP_SHUTDOWN, mode);
    vsock_wake(sk, POLLIN | POLLOUT | POLLHUP);
    return 0;
}

/* SO_LINGER: until the transport has taken everything, as Linux since 6.17. */
static void linger_close(struct vsock_sock *sk)
{
    u64 deadline = vsock_deadline(sk->ctx, sk->linger_ns);

    while (sk->bytes_unsent && !sk->done && !vsock_wait(sk, &sk->tx_wait, deadline))
        ;
}

void vsock_close(struct vsock_sock *sk, bool linger)
{
    sk->event = NULL;
    if (sk->state == VSOCK_LISTEN)
        vsock_listen_stop(sk);
    if (sk->state == VSOCK_ESTABLISHED && !sk->done) {
        if (sk->peer_shutdown == VSOCK_SHUTDOWN_BOTH) {
            vsock_sock_reset(sk, 0);
        } else if (sk->shutdown != VSOCK_SHUTDOWN_BOTH) {
            sk->shutdown = VSOCK_SHUTDOWN_BOTH;
            vsock_sock_control(sk, VIRTIO_VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH);
        }
        if (linger && sk->linger)
            linger_close(sk);
        if (!sk->done) {
            sk->orphan = true;
            vsock_queue_purge(&sk->rx, &sk->credit);
            vsock_timer_set(sk, VSOCK_TIMER_CLOSE, vsock_deadline(sk->ctx, VSOCK_CLOSE_NS));
            return;
        }
    }
    if (sk->state == VSOCK_SYN_SENT && sk->transport)
        sk->transport->ops->cancel(sk->transport, sk);
    vsock_remove(sk);
    vsock_sock_put(sk);
}
