// SPDX-License-Identifier: MIT
// The AF_VSOCK core's own view: the context, sockets, and what its files offer each other.
#pragma once

#include "uvirt/vsock.h"
#include "vsock/credit.h"
#include "vsock/framing/framing.h"
#include "vsock/iter.h"
#include "vsock/queue.h"
#include "vsock/stats.h"
#include "vsock/transport/transport.h"

#include <linux/vm_sockets.h>
#include <pthread.h>
#include <sys/socket.h>

#define VSOCK_HASH          256
#define VSOCK_FUTEXES       256
#define VSOCK_WAKES         8
#define VSOCK_BACKLOG_MAX   4096
#define VSOCK_RESERVED_PORT 1023          /* the last one that needs privilege */
#define VSOCK_CONNECT_NS    2000000000ull /* default connect timeout */
#define VSOCK_CLOSE_NS      8000000000ull /* how long close() waits for the peer's RST */
#define VSOCK_CREDIT_ASK_NS 20000000ull   /* between CREDIT_REQUESTs of a starved sender */
#define VSOCK_SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
#define VSOCK_FOREVER       UINT64_MAX

/* Linux's states of a connectible socket, under the names of what they mean here. */
enum vsock_state {
    VSOCK_CLOSE,       /* TCP_CLOSE: not connected, or not any more */
    VSOCK_LISTEN,      /* TCP_LISTEN */
    VSOCK_SYN_SENT,    /* TCP_SYN_SENT: REQUEST sent */
    VSOCK_ESTABLISHED, /* TCP_ESTABLISHED */
    VSOCK_CLOSING,     /* TCP_CLOSING: the peer is gone */
};

struct vsock_addr {
    u32 cid, port;
};

/* Threads that wait for a socket. */
struct vsock_waiters {
    _Atomic u32 *futex; /* the context's, shared with other sockets */
    unsigned nr;        /* asleep, or about to be, and not woken up yet */
    u32 wakes;          /* how often they were */
};

LIST_HEAD(vsock_list, vsock_sock);
TAILQ_HEAD(vsock_tailq, vsock_sock);

/* A reader that waits, nothing being queued: what comes may go straight to (it). See direct.c. */
struct vsock_direct {
    struct vsock_iter *it;
    u32 len, flags;  /* of the packet that did, once (done) */
    bool busy, done; /* being copied; copied */
};

struct vsock_ctx {
    pthread_mutex_t lock;
    u32 cid;
    bool privileged;
    uint64_t (*now)(void *opaque); /* NULL: CLOCK_MONOTONIC */
    void *opaque;

    /* Protected by (lock). */
    u32 next_port;
    unsigned nr_socks;                       /* in memory */
    struct vsock_list bound[VSOCK_HASH];     /* by local port */
    struct vsock_list connected[VSOCK_HASH]; /* by local port, remote port and CID */
    struct vsock_list timers;
    u64 next_timer; /* no timer is due earlier */
    LIST_HEAD(, vsock_transport) transports;
    bool flush_due;      /* some transport's is set */
    pthread_cond_t idle; /* a transport's (flushing) has become 0 */

    /*
     * Threads are woken up when the lock is let go, not before: else they would run into it.
     * A socket may be gone by then, so the futexes are the context's. A condition variable
     * would do as well, but for a system call more at each turn: who returns from it takes the
     * lock as if others waited for that, too.
     */
    _Atomic u32 futexes[VSOCK_FUTEXES]; /* each changes with a wake */
    unsigned next_futex;
    _Atomic u32 *wakes[VSOCK_WAKES]; /* to be woken up */
    unsigned nr_wakes;
    LIST_HEAD(, vsock_relay) relays;
    struct vsock_capture *capture; /* NULL: none */
    struct vsock_stats stats;
    struct vsock_loopback loopback;
    struct vsock_pool pool; /* has its own lock */
};

enum vsock_timer {
    VSOCK_TIMER_CONNECT,
    VSOCK_TIMER_CLOSE,
    VSOCK_TIMER_CREDIT,
    VSOCK_NR_TIMERS,
};

/* Everything here is protected by the context's lock. */
struct vsock_sock {
    struct vsock_ctx *ctx;
    unsigned refs;
    u16 type; /* VIRTIO_VSOCK_TYPE_* */

    enum vsock_state state;
    bool connecting;  /* SS_CONNECTING */
    bool connected;   /* SS_CONNECTED or SS_DISCONNECTING */
    bool done;        /* SOCK_DONE: the connection is over on both sides */
    bool orphan;      /* closed by its user */
    u8 shutdown;      /* VIRTIO_VSOCK_SHUTDOWN_* of ours */
    u8 peer_shutdown; /* ... of the peer */
    int err;          /* SO_ERROR, positive */

    struct vsock_addr local, remote;
    u32 src_cid; /* what packets say: local.cid, or the transport's if that is ANY */
    struct vsock_transport *transport;
    bool in_bound, in_connected;
    LIST_ENTRY(vsock_sock) bound_link, connected_link, transport_link;

    /* Options. */
    u64 buffer_size, buffer_min, buffer_max;
    u64 connect_timeout, rcvtimeo, sndtimeo; /* ns */
    u32 rcvlowat;
    bool linger;
    u64 linger_ns;

    /* Data. */
    struct vsock_credit credit;
    struct vsock_queue rx;
    struct vsock_marker marker;
    u32 bytes_unsent; /* given to the transport, not sent yet */
    u32 pkts_unsent;
    struct vsock_counts counts;

    /* A listener's, and a child's that waits for accept(). */
    struct vsock_tailq children;
    unsigned nr_children, backlog;
    struct vsock_sock *listener;
    TAILQ_ENTRY(vsock_sock) child_link;

    /* Waiting. One reader and one writer at a time copy without the lock. */
    struct vsock_waiters rx_wait, tx_wait;
    bool rx_busy, tx_busy;
    struct vsock_direct *direct; /* the reader's, while it waits */
    uvirt_vsock_event_fn *event;
    void *event_opaque;

    u64 timer[VSOCK_NR_TIMERS]; /* deadlines, VSOCK_FOREVER: off */
    bool in_timers;
    LIST_ENTRY(vsock_sock) timer_link;
};

/* core.c: the context, locking, waiting. */

/* Take the lock and run timers that are due. */
void vsock_lock(struct vsock_ctx *ctx);

/* Deliver what loopback holds, then let go of the lock. */
void vsock_unlock(struct vsock_ctx *ctx);

/* Have (t)'s flush() called before this call, or the one that sent, ends. Lock held. */
void vsock_flush_later(struct vsock_transport *t);

/* Call what is due, with the lock released meanwhile. True if anything was. */
bool vsock_flush(struct vsock_ctx *ctx);

/* vsock_unlock() for the end of a user's call: flushes as well. */
void vsock_leave(struct vsock_ctx *ctx);

u64 vsock_now(struct vsock_ctx *ctx);

/* The deadline that lies (ns) from now, and the one for "do not wait" (0). */
u64 vsock_deadline(struct vsock_ctx *ctx, u64 ns);

/* The lock alone, for one who copies meanwhile; who is to be woken up is. */
void vsock_lock_again(struct vsock_ctx *ctx);
void vsock_lock_let_go(struct vsock_ctx *ctx);

/*
 * Wait among (w), lock held and released meanwhile, until they are woken up, a timer is due
 * or (deadline). 0, or -EAGAIN once (deadline), which may be 0, has passed. Wakes up for
 * nothing now and then.
 */
int vsock_wait(struct vsock_sock *sk, struct vsock_waiters *w, u64 deadline);

/* Wake (w) up once the lock is let go. */
void vsock_wake_waiters(struct vsock_sock *sk, struct vsock_waiters *w);

/* Something that a reader, or a writer, or both may wait for has changed. */
void vsock_wake(struct vsock_sock *sk, unsigned events);

void vsock_timer_set(struct vsock_sock *sk, enum vsock_timer which, u64 deadline);
void vsock_timers_run(struct vsock_ctx *ctx);

/* sock.c: life of a socket. */

/* A new socket with one reference; (parent)'s options if given. NULL: no memory. */
struct vsock_sock *vsock_sock_new(struct vsock_ctx *ctx, u16 type, struct vsock_sock *parent);
struct vsock_sock *vsock_sock_get(struct vsock_sock *sk);
void vsock_sock_put(struct vsock_sock *sk);

/* A packet from (sk) to its peer: addresses and type filled in. NULL: no memory. */
struct vsock_pkt *vsock_sock_pkt(struct vsock_sock *sk, u16 op, u32 len);

/* Fill in the header of (p), which has p->len bytes. */
void vsock_sock_head(const struct vsock_sock *sk, struct vsock_pkt *p, u16 op);

/* Make (sk) the established other end of what the REQUEST (h) asks for, and send the RESPONSE. */
void vsock_sock_answer(struct vsock_sock *sk, struct vsock_transport *t, const struct vsock_hdr *h);

/* Stamp and send a packet; or make and send one without payload. */
void vsock_sock_send(struct vsock_sock *sk, struct vsock_pkt *p);
void vsock_sock_control(struct vsock_sock *sk, u16 op, u32 flags);

/* Answer (h) with RST, unless it is one. */
void vsock_reset_reply(struct vsock_transport *t, const struct vsock_hdr *h);

/* The connection is over: an RST came, or is deemed to have come. (err) positive, or 0. */
void vsock_sock_over(struct vsock_sock *sk, int err);

/* Send RST and be over. */
void vsock_sock_reset(struct vsock_sock *sk, int err);

/* Send a CREDIT_UPDATE if one is due. */
void vsock_sock_report(struct vsock_sock *sk);

/*
 * The user is through with (sk), and its reference goes. Says goodbye to the peer, or waits
 * for that in the background; with (linger), waits here first as SO_LINGER says.
 */
void vsock_close(struct vsock_sock *sk, bool linger);
int vsock_shutdown(struct vsock_sock *sk, int how);

/* How records of the connections of our port (port) travel on (t). */
static inline const struct vsock_framing_ops *vsock_framing_at(const struct vsock_transport *t,
                                                               u32 port)
{
    return t->eom_port && port == t->eom_port ? &vsock_framing_eom : t->seqpacket;
}

/* ... those of (sk), which has a transport. */
static inline const struct vsock_framing_ops *vsock_sock_framing(const struct vsock_sock *sk)
{
    return vsock_framing_at(sk->transport, sk->local.port);
}

/* table.c: who has which address. */
int vsock_addr_check(const struct sockaddr_vm *addr, socklen_t len);
struct vsock_sock *vsock_find_bound(struct vsock_ctx *ctx, const struct vsock_addr *local);
struct vsock_sock *vsock_find_connected(struct vsock_ctx *ctx, u32 src_cid, u32 src_port,
                                        u32 dst_cid, u32 dst_port);
int vsock_bind(struct vsock_sock *sk, u32 cid, u32 port);
void vsock_insert_connected(struct vsock_sock *sk);
void vsock_remove_connected(struct vsock_sock *sk);
void vsock_remove(struct vsock_sock *sk); /* from both */
struct vsock_transport *vsock_route(struct vsock_ctx *ctx, u32 cid, u8 flags);

/* Bind (sk) to a transport, instead of the one it had; NULL: none. */
void vsock_assign(struct vsock_sock *sk, struct vsock_transport *t);

/* Does (t) offer sockets of (type) to (cid)? */
bool vsock_transport_allows(struct vsock_transport *t, u16 type, u32 cid);

/* connect.c, listen.c, input.c */
int vsock_connect(struct vsock_sock *sk, u32 cid, u32 port, u8 flags, bool nonblock);
void vsock_connect_failed(struct vsock_sock *sk, int err);
int vsock_listen(struct vsock_sock *sk, int backlog);
int vsock_accept(struct vsock_sock *sk, bool nonblock, struct vsock_sock **ret);
void vsock_listen_request(struct vsock_sock *sk, struct vsock_transport *t,
                          const struct vsock_hdr *h);
void vsock_listen_stop(struct vsock_sock *sk);

/*
 * A packet has come in through (t); takes it. Its addresses are those on the wire and
 * hdr.len == len. Lock held.
 */
void vsock_receive(struct vsock_transport *t, struct vsock_pkt *p);

/* What (h) says of the peer's buffer. */
void vsock_peer_credit(struct vsock_sock *sk, const struct vsock_hdr *h);

/*
 * As vsock_receive() for the RW packet (h) whose payload is in (iov), if a reader waits that it can
 * go to as a whole; false: nothing has happened. The lock is let go meanwhile.
 */
bool vsock_receive_direct(struct vsock_transport *t, const struct vsock_hdr *h,
                          const struct iovec *iov, unsigned nr);

/* As vsock_wait_data(), for whatever there is; d->done: it is d->len bytes and in d->it. */
int vsock_wait_direct(struct vsock_sock *sk, struct vsock_direct *d, u64 deadline);

/*
 * A transport is through with (p), which was sent or dropped: give back its owner and free
 * it. vsock_pkt_disown() does the first half, for a packet that goes on to a receiver. Lock
 * held.
 */
void vsock_pkt_sent(struct vsock_pkt *p);
void vsock_pkt_disown(struct vsock_pkt *p);

/* Transports come and go; sockets on one that goes get (err). Lock held. */
void vsock_transport_add(struct vsock_ctx *ctx, struct vsock_transport *t);
void vsock_transport_gone(struct vsock_transport *t, int err);
void vsock_transport_remove(struct vsock_transport *t);

/* transfer.c: what both kinds of socket share. Lock held, as everywhere. */
ssize_t vsock_send(struct vsock_sock *sk, struct vsock_iter *it, int flags);
ssize_t vsock_recv(struct vsock_sock *sk, struct vsock_iter *it, int *flags);

/* Wait until (bytes) in (pkts) packets may be sent. 0, -EAGAIN, or why nothing may ever be. */
int vsock_wait_space(struct vsock_sock *sk, u32 bytes, u32 pkts, u64 deadline);

/* Wait for (target) bytes, or a record. 1: there, 0: the end of all data; -EAGAIN, -error. */
int vsock_wait_data(struct vsock_sock *sk, u32 target, u64 deadline);

/*
 * Fill the RW packets of (list) from (it) and send them all; credit was taken. The lock is
 * not held while much is copied.
 */
void vsock_transmit(struct vsock_sock *sk, struct vsock_iter *it, struct vsock_pkts *list);

/* The error of the socket, negative, which is thereby reported; 0 if there is none. */
int vsock_take_error(struct vsock_sock *sk);

/* stream.c, seqpacket.c: one socket at a time has tx_busy, or rx_busy, around these. */
ssize_t vsock_stream_send(struct vsock_sock *sk, struct vsock_iter *it, u64 deadline);
ssize_t vsock_stream_recv(struct vsock_sock *sk, struct vsock_iter *it, int flags, u64 deadline);
ssize_t vsock_seqpacket_send(struct vsock_sock *sk, struct vsock_iter *it, bool eor, u64 deadline);
ssize_t vsock_seqpacket_recv(struct vsock_sock *sk, struct vsock_iter *it, int *flags,
                             u64 deadline);

/* Is there (target) bytes of STREAM data, or a record? */
bool vsock_data_ready(const struct vsock_sock *sk, u32 target);

/* Nothing more will come, but for what is queued. */
static inline bool vsock_rx_ended(const struct vsock_sock *sk)
{
    return sk->err || sk->shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV ||
           sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND;
}

/* options.c, poll.c */
int vsock_setsockopt(struct vsock_sock *sk, int level, int name, const void *val, socklen_t len);
int vsock_getsockopt(struct vsock_sock *sk, int level, int name, void *val, socklen_t *len);
short vsock_poll(struct vsock_sock *sk);
int vsock_ioctl(struct vsock_sock *sk, unsigned long request, int *value);
