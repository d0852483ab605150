// SPDX-License-Identifier: MIT
// Keeps and lists the counters of connections.
#include "vsock/stats.h"
#include "vsock/sock.h"

static struct vsock_connection describe(const struct vsock_sock *sk, bool open)
{
    return (struct vsock_connection){.local_cid = sk->src_cid,
                                     .local_port = sk->local.port,
                                     .remote_cid = sk->remote.cid,
                                     .remote_port = sk->remote.port,
                                     .type = sk->type,
                                     .open = open,
                                     .counts = sk->counts};
}

static void add(struct vsock_counts *sum, const struct vsock_counts *c)
{
    sum->tx_bytes += c->tx_bytes;
    sum->rx_bytes += c->rx_bytes;
    sum->tx_pkts += c->tx_pkts;
    sum->rx_pkts += c->rx_pkts;
    sum->waits += c->waits;
}

/* Loopback has both ends here, and no guest. */
static bool counts(const struct vsock_sock *sk)
{
    return sk->connected && sk->transport && sk->transport != &sk->ctx->loopback.t;
}

void vsock_stats_ended(struct vsock_sock *sk)
{
    struct vsock_stats *s = &sk->ctx->stats;

    if (!counts(sk))
        return;
    s->last[s->nr_last++ % VSOCK_STATS_KEPT] = describe(sk, false);
    s->connections++;
    add(&s->sum, &sk->counts);
}

size_t vsock_stats_get(struct uvirt_vsock *v, struct vsock_connection *list, size_t max,
                       struct vsock_counts *sum, u64 *ever)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    struct vsock_stats *s = &ctx->stats;
    struct vsock_transport *t;
    struct vsock_sock *sk;
    size_t n = 0;

    vsock_lock(ctx);
    *sum = s->sum;
    *ever = s->connections;
    for (unsigned i = s->nr_last < VSOCK_STATS_KEPT ? 0 : s->nr_last - VSOCK_STATS_KEPT;
         i < s->nr_last && n < max; i++)
        list[n++] = s->last[i % VSOCK_STATS_KEPT];
    LIST_FOREACH(t, &ctx->transports, link)
    {
        LIST_FOREACH(sk, &t->socks, transport_link)
        {
            if (!counts(sk))
                continue;
            add(sum, &sk->counts);
            ++*ever;
            if (n < max)
                list[n++] = describe(sk, true);
        }
    }
    vsock_unlock(ctx);
    return n;
}
