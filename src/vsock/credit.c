// SPDX-License-Identifier: MIT
// Credit arithmetic; pure functions on struct vsock_credit.
#include "vsock/credit.h"

#define PKT_COST       (sizeof(struct vsock_pkt) + 16) /* with malloc's own overhead */
#define UNREPORTED_MAX 128 /* packets consumed without an update, at most */

static u32 clamp_buf(u64 size)
{
    return size < VSOCK_BUF_MAX ? size : VSOCK_BUF_MAX;
}

void vsock_credit_init(struct vsock_credit *c, u64 buf_alloc)
{
    *c = (struct vsock_credit){.buf_alloc = clamp_buf(buf_alloc)};
}

void vsock_credit_resize(struct vsock_credit *c, u64 buf_alloc)
{
    c->buf_alloc = clamp_buf(buf_alloc);
}

u32 vsock_credit_window(const struct vsock_credit *c)
{
    return c->peer_buf_alloc < c->buf_alloc ? c->peer_buf_alloc : c->buf_alloc;
}

u32 vsock_credit_space(const struct vsock_credit *c)
{
    u32 window = vsock_credit_window(c), out = c->tx_cnt - c->peer_fwd_cnt;

    return out >= window ? 0 : window - out; /* either buffer may have shrunk below (out) */
}

static u32 pkts_room(const struct vsock_credit *c)
{
    u32 most = vsock_credit_window(c) / VSOCK_PKT_BUDGET;

    return most > c->tx_pkts ? most - c->tx_pkts : 0;
}

bool vsock_credit_can_send(const struct vsock_credit *c, u32 bytes, u32 pkts)
{
    if (bytes > vsock_credit_space(c) || c->head - c->tail == VSOCK_CREDIT_ENDS)
        return false;
    return !c->tx_pkts || pkts <= pkts_room(c);
}

u32 vsock_credit_pkts(u32 bytes)
{
    return 1 + bytes / VSOCK_RX_PIECE;
}

u32 vsock_credit_fit(const struct vsock_credit *c)
{
    u32 n = vsock_credit_space(c), room;

    if (!vsock_credit_can_send(c, 1, 1))
        return 0;
    n = n < VSOCK_PAYLOAD_MAX ? n : VSOCK_PAYLOAD_MAX;
    room = pkts_room(c);
    if (c->tx_pkts && room < vsock_credit_pkts(n))
        n = room * VSOCK_RX_PIECE - 1;
    return n;
}

void vsock_credit_take(struct vsock_credit *c, u32 bytes, u32 pkts)
{
    c->tx_cnt += bytes;
    c->tx_pkts += pkts;
    c->ends[c->head % VSOCK_CREDIT_ENDS].end = c->tx_cnt;
    c->ends[c->head++ % VSOCK_CREDIT_ENDS].pkts = pkts;
}

bool vsock_credit_peer(struct vsock_credit *c, const struct vsock_hdr *h)
{
    u32 space = vsock_credit_space(c), pkts = c->tx_pkts;

    c->peer_buf_alloc = h->buf_alloc;
    if (h->fwd_cnt - c->peer_fwd_cnt > c->tx_cnt - c->peer_fwd_cnt)
        return vsock_credit_space(c) > space; /* invariant (1) */
    c->peer_fwd_cnt = h->fwd_cnt;
    while (c->tail != c->head) {
        u32 out = c->tx_cnt - c->ends[c->tail % VSOCK_CREDIT_ENDS].end;

        if (out < c->tx_cnt - c->peer_fwd_cnt)
            break;
        c->tx_pkts -= c->ends[c->tail++ % VSOCK_CREDIT_ENDS].pkts;
    }
    return vsock_credit_space(c) > space || c->tx_pkts < pkts;
}

bool vsock_credit_receive(struct vsock_credit *c, u32 len)
{
    if (len > c->rx_edge - (c->fwd_cnt + c->rx_held))
        return false;
    c->rx_held += len;
    return true;
}

bool vsock_credit_hold(struct vsock_credit *c)
{
    u64 most = c->buf_alloc < 4096 ? 4096 : c->buf_alloc;

    if ((c->rx_pkts + 1ull) * PKT_COST > 4 * most)
        return false;
    c->rx_pkts++;
    return true;
}

void vsock_credit_drop(struct vsock_credit *c, const struct vsock_pkt *p)
{
    c->rx_pkts--;
    c->rx_unreported_pkts += 1 + p->merged;
}

void vsock_credit_consume(struct vsock_credit *c, u32 bytes)
{
    c->rx_held -= bytes;
    c->fwd_cnt += bytes;
}

void vsock_credit_pass(struct vsock_credit *c, u32 bytes)
{
    vsock_credit_consume(c, bytes);
    c->rx_unreported_pkts++;
}

void vsock_credit_stamp(struct vsock_credit *c, struct vsock_hdr *h)
{
    u32 pos = c->fwd_cnt + c->rx_held;
    u32 edge = c->fwd_cnt + c->buf_alloc;

    h->buf_alloc = c->buf_alloc;
    h->fwd_cnt = c->fwd_cnt;
    c->rx_asked = c->rx_asked && c->fwd_cnt == c->last_fwd_cnt;
    c->last_fwd_cnt = c->fwd_cnt;
    c->rx_unreported_pkts = 0;
    /* Both edges as distances from the rx position; a shrunken buffer may lie behind it. */
    if (edge - pos <= VSOCK_BUF_MAX && edge - pos > c->rx_edge - pos)
        c->rx_edge = edge;
}

/* Bytes that the peer believes it may send. */
static u32 peer_left(const struct vsock_credit *c)
{
    u32 window = vsock_credit_window(c), out = c->fwd_cnt + c->rx_held - c->last_fwd_cnt;

    return out >= window ? 0 : window - out;
}

void vsock_credit_asked(struct vsock_credit *c)
{
    c->rx_asked = true;
}

bool vsock_credit_update_due(const struct vsock_credit *c, u32 wanted)
{
    u32 news = c->fwd_cnt - c->last_fwd_cnt, window = vsock_credit_window(c);
    u32 pkts = window / VSOCK_PKT_BUDGET / 4; /* a sender counts packets, too */

    if (!news)
        return false;
    return news >= window - window / 4 ||
           c->rx_unreported_pkts >= (pkts < UNREPORTED_MAX ? pkts : UNREPORTED_MAX) ||
           (wanted && (c->rx_asked || peer_left(c) < wanted));
}
