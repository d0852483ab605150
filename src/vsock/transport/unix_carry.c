// SPDX-License-Identifier: MIT
// Bytes and records of an open connection, both ways, until each way has ended.

/*
 * Towards the descriptor: packets leave the socket's queue as they are and are written from
 * where they lie. Their credit goes back as they are written, so what waits here is never
 * more than the guest was granted.
 *
 * Towards the guest: nothing is read that the guest has no room for; what was read is in a
 * packet. So the descriptor's own buffer is the only other place where bytes wait.
 *
 * Records of SOCK_SEQPACKET are whole in both directions. In framed mode they travel in
 * pieces, but a record that the guest could never hold breaks the connection.
 */
#include "vsock/transport/unix_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define TURN_BYTES 262144 /* each way; then it is another connection's turn */
#define TURN_READS 64

static void lock(struct unix_conn *c)
{
    vsock_lock(c->u->ctx);
}

static void unlock(struct unix_conn *c)
{
    vsock_unlock(c->u->ctx);
}

/* --- from the guest --- */

void unix_written(struct unix_conn *c, size_t n)
{
    struct vsock_pkts through = TAILQ_HEAD_INITIALIZER(through);
    struct vsock_pkt *p;
    u32 bytes = 0, part;
    bool last = false; /* records go one by one */

    while (!last && (p = TAILQ_FIRST(&c->out))) {
        if (c->kind == UNIX_FRAMED) {
            part = VSOCK_FRAME_HDR - c->out_hdr;
            part = n < part ? (u32)n : part;
            c->out_hdr += part;
            n -= part;
            if (c->out_hdr < VSOCK_FRAME_HDR)
                break;
        }
        part = n < p->len - p->off ? (u32)n : p->len - p->off;
        p->off += part;
        bytes += part;
        n -= part;
        if (p->off < p->len)
            break;
        c->out_hdr = 0;
        last = c->kind == UNIX_SEQPACKET && p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM;
        TAILQ_REMOVE(&c->out, p, link);
        TAILQ_INSERT_TAIL(&through, p, link);
    }
    lock(c);
    vsock_relay_done(c->sk, bytes, &through);
    unlock(c);
    vsock_pkts_free(&through);
}

/* Nobody reads the descriptor any more; (how): SHUT_RD, or SHUT_RDWR if nobody writes either. */
static void reader_gone(struct unix_conn *c, int how)
{
    struct vsock_pkt *p;
    u32 bytes = 0;

    c->out_done = true;
    TAILQ_FOREACH(p, &c->out, link)
    {
        bytes += p->len - p->off;
    }
    lock(c);
    vsock_relay_done(c->sk, bytes, &c->out);
    vsock_shutdown(c->sk, how);
    vsock_queue_purge(&c->sk->rx, &c->sk->credit);
    unlock(c);
    vsock_pkts_free(&c->out);
}

void unix_not_written(struct unix_conn *c, int err)
{
    if (err == EAGAIN || err == ENOBUFS)
        c->can_write = false;
    else
        reader_gone(c, SHUT_RD);
}

/* What is to be written next, in (iov). Returns the number of entries. */
static int gather(struct unix_conn *c, struct iovec iov[UNIX_IOVS],
                  u8 hdrs[UNIX_IOVS][VSOCK_FRAME_HDR], size_t *len)
{
    struct vsock_pkt *p;
    int n = 0;

    *len = 0;
    TAILQ_FOREACH(p, &c->out, link)
    {
        u32 skip = n ? 0 : c->out_hdr;

        if (n + 2 > UNIX_IOVS)
            break;
        if (c->kind == UNIX_FRAMED && skip < VSOCK_FRAME_HDR) {
            struct vsock_frame f = {.len = p->len,
                                    .eom = p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM,
                                    .eor = p->hdr.flags & VIRTIO_VSOCK_SEQ_EOR};

            vsock_frame_encode(hdrs[n], &f);
            iov[n] = (struct iovec){hdrs[n] + skip, VSOCK_FRAME_HDR - skip};
            *len += iov[n].iov_len;
            n++;
        }
        iov[n] = (struct iovec){p->data + p->off, p->len - p->off};
        *len += iov[n].iov_len;
        n++;
    }
    return n;
}

/* Write once. The number of bytes; 0: it would block, or the reader is gone. */
static ssize_t write_some(struct unix_conn *c)
{
    struct iovec iov[UNIX_IOVS];
    u8 hdrs[UNIX_IOVS][VSOCK_FRAME_HDR];
    struct msghdr m = {.msg_iov = iov};
    size_t len;
    ssize_t n;

    m.msg_iovlen = (size_t)gather(c, iov, hdrs, &len);
    n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
        unix_written(c, (size_t)n);
        return n;
    }
    unix_not_written(c, errno);
    return 0;
}

/*
 * shutdown(SHUT_RD) at the other end makes an event like any other. A send of no bytes tells it
 * from the rest; but to a SOCK_SEQPACKET that is a record, so there it is noticed when we write.
 */
static void look_for_reader(struct unix_conn *c)
{
    bool look = c->look && c->kind != UNIX_SEQPACKET;

    c->look = false;
    if (look && send(c->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE)
        reader_gone(c, SHUT_RD);
}

static enum unix_more carry_out(struct unix_conn *c)
{
    ssize_t n, sum = 0;

    while (!c->out_done && sum < TURN_BYTES) {
        if (TAILQ_EMPTY(&c->out)) {
            lock(c);
            vsock_relay_take(c->sk, c->kind == UNIX_SEQPACKET, TURN_BYTES, &c->out);
            unlock(c);
        }
        if (TAILQ_EMPTY(&c->out)) {
            look_for_reader(c);
            return UNIX_IDLE;
        }
        if (c->hung_up) {
            reader_gone(c, SHUT_RD);
            return UNIX_IDLE;
        }
        if (!c->can_write)
            return UNIX_IDLE;
        n = c->kind == UNIX_SEQPACKET ? unix_record_out(c) : write_some(c);
        if (n < 0)
            return UNIX_ABORT;
        sum += n;
    }
    return c->out_done ? UNIX_IDLE : UNIX_MORE;
}

/* --- to the guest --- */

/* Wait for nothing: may (bytes) in (pkts) packets be sent? As vsock_wait_space(). */
static int space(struct unix_conn *c, u32 bytes, u32 pkts, u32 *fit)
{
    int rc;

    lock(c);
    rc = vsock_wait_space(c->sk, bytes, pkts, 0);
    c->starved = rc == -EAGAIN;
    *fit = rc ? 0 : vsock_credit_fit(&c->sk->credit);
    unlock(c);
    return rc;
}

void unix_guest_deaf(struct unix_conn *c)
{
    c->in_done = true;
    shutdown(c->fd, SHUT_RD);
}

/*
 * The descriptor has ended. If it was closed, and not half of it shut down, the guest must hear of
 * both directions at once, as from a socket that was closed: it takes the end of one for
 * leave to go on sending. The event that tells us of it may not have come yet.
 */
static void at_end(struct unix_conn *c)
{
    struct pollfd p = {.fd = c->fd};

    c->in_done = true;
    if (!c->out_done && poll(&p, 1, 0) == 1 && p.revents & POLLHUP) {
        reader_gone(c, SHUT_RDWR);
        return;
    }
    lock(c);
    vsock_shutdown(c->sk, SHUT_WR);
    unlock(c);
}

int unix_no_bytes(struct unix_conn *c, ssize_t n)
{
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->can_read = errno == EINTR;
        return 0;
    }
    if (n < 0)
        return -errno;
    at_end(c);
    return 0;
}

/* Read up to (most) bytes and send them. 1: did so, 0: did not, -errno. */
static int move(struct unix_conn *c, u32 most, u32 flags)
{
    struct vsock_unix *u = c->u;
    struct vsock_pkt *p;
    ssize_t n;
    u32 len;

    if (!u->spare)
        u->spare = vsock_relay_alloc(u->ctx, VSOCK_PAYLOAD_MAX);
    if (!u->spare)
        return -ENOMEM;
    n = recv(c->fd, u->spare->data, most, MSG_DONTWAIT);
    if (n <= 0)
        return unix_no_bytes(c, n);
    len = (u32)n;
    if (len > VSOCK_PAYLOAD_MAX / 4) {
        p = u->spare;
        u->spare = NULL;
    } else {
        /* What waits for the guest is to take no more memory than it has bytes. */
        p = vsock_relay_alloc(u->ctx, len);
        if (!p)
            return -ENOMEM;
        memcpy(p->data, u->spare->data, len);
    }
    p->len = len;
    if (c->kind == UNIX_FRAMED) {
        c->left -= len;
        c->record += len;
        flags = c->left ? 0 : flags;
    }
    lock(c);
    vsock_relay_send(c->sk, p, flags);
    unlock(c);
    return 1;
}

static int stream_in(struct unix_conn *c)
{
    u32 fit;
    int rc = space(c, 1, 1, &fit);

    if (rc == -EAGAIN)
        return 0;
    if (rc) {
        unix_guest_deaf(c);
        return 0;
    }
    return move(c, fit, 0);
}

/* Read on in the next fragment's header. 1: did so, 0: there was nothing, -errno. */
static int frame_header(struct unix_conn *c)
{
    ssize_t n = recv(c->fd, c->hdr + c->hdr_len, VSOCK_FRAME_HDR - c->hdr_len, MSG_DONTWAIT);

    if (n == 0 && (c->hdr_len || c->record))
        return -EPROTO; /* in the middle of a record */
    if (n <= 0)
        return unix_no_bytes(c, n);
    c->hdr_len += (u32)n;
    if (c->hdr_len < VSOCK_FRAME_HDR)
        return 1;
    if (vsock_frame_decode(c->hdr, &c->frame))
        return -EPROTO;
    c->left = c->frame.len;
    if (!c->left && !c->record)
        c->hdr_len = 0; /* an empty record: nothing is transmitted */
    return 1;
}

/* The fragment that ends a record, and has no bytes of its own. */
static int empty_fragment(struct unix_conn *c, u32 flags)
{
    struct vsock_pkt *p = vsock_relay_alloc(c->u->ctx, 0);

    if (!p)
        return -ENOMEM;
    lock(c);
    vsock_relay_send(c->sk, p, flags);
    unlock(c);
    return 1;
}

static int framed_in(struct unix_conn *c)
{
    u32 flags, fit, window;
    int rc;

    if (c->hdr_len < VSOCK_FRAME_HDR)
        return frame_header(c);
    rc = space(c, c->left ? 1 : 0, 1, &fit);
    if (rc == -EAGAIN)
        return 0;
    if (rc) {
        unix_guest_deaf(c);
        return 0;
    }
    lock(c);
    window = vsock_credit_window(&c->sk->credit);
    unlock(c);
    if ((u64)c->record + c->left > window)
        return -EMSGSIZE;
    flags = (c->frame.eom ? VIRTIO_VSOCK_SEQ_EOM : 0) | (c->frame.eor ? VIRTIO_VSOCK_SEQ_EOR : 0);
    rc = c->left ? move(c, fit < c->left ? fit : c->left, flags) : empty_fragment(c, flags);
    if (rc == 0 && c->in_done)
        return -EPROTO; /* it ended in the middle of a fragment */
    if (rc == 1 && !c->left) {
        c->hdr_len = 0;
        c->record = c->frame.eom ? 0 : c->record;
    }
    return rc;
}

static enum unix_more carry_in(struct unix_conn *c)
{
    static int (*const in[UNIX_KINDS])(struct unix_conn *) = {
        [UNIX_STREAM] = stream_in, [UNIX_SEQPACKET] = unix_record_in, [UNIX_FRAMED] = framed_in};

    for (unsigned i = 0; i < TURN_READS; i++) {
        int rc;

        if (c->in_done || !c->can_read)
            return UNIX_IDLE;
        rc = in[c->kind](c);
        if (rc < 0)
            return UNIX_ABORT;
        if (rc == 0 && c->can_read)
            return UNIX_IDLE; /* no room in the guest: its credit wakes us up */
    }
    return UNIX_MORE;
}

/* --- the end --- */

static enum unix_more ends(struct unix_conn *c)
{
    struct vsock_sock *sk = c->sk;
    bool drained, silent, deaf, over;

    lock(c);
    drained = TAILQ_EMPTY(&c->out) &&
              (c->kind == UNIX_SEQPACKET ? !sk->rx.msgs : TAILQ_EMPTY(&sk->rx.pkts));
    silent = sk->done || sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND;
    deaf = sk->done || sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV;
    over = sk->done || sk->peer_shutdown == VSOCK_SHUTDOWN_BOTH;
    unlock(c);
    if (c->out_done)
        drained = true;
    if (over && drained)
        return UNIX_OVER; /* unread bytes in the descriptor tell its peer that it was cut off */
    if (silent && drained && !c->out_done) {
        c->out_done = true;
        shutdown(c->fd, SHUT_WR);
    }
    if (deaf && !c->in_done)
        unix_guest_deaf(c);
    if (c->hung_up && !c->out_done)
        reader_gone(c, SHUT_RD);
    return c->in_done && c->out_done ? UNIX_OVER : UNIX_IDLE;
}

enum unix_more unix_carry(struct unix_conn *c)
{
    enum unix_more out = carry_out(c), in = UNIX_IDLE, end;

    if (out != UNIX_ABORT)
        in = carry_in(c);
    if (out == UNIX_ABORT || in == UNIX_ABORT)
        return UNIX_ABORT;
    end = ends(c);
    if (end != UNIX_IDLE)
        return end;
    return out == UNIX_MORE || in == UNIX_MORE ? UNIX_MORE : UNIX_IDLE;
}
