// SPDX-License-Identifier: MIT
// The bridge between Unix sockets and a guest, as its own files see it.
#pragma once

#include "vsock/relay.h"
#include "vsock/transport/unix.h"
#include "vsock/transport/unix_frame.h"
#include "vsock/transport/unix_name.h"
#include "vsock/transport/unix_record.h"

#include <sys/epoll.h>

#define UNIX_CONNS_MAX 4096
#define UNIX_IOVS      512

enum unix_kind { UNIX_STREAM, UNIX_SEQPACKET, UNIX_FRAMED, UNIX_KINDS };

enum unix_state {
    UNIX_HELLO, /* a client has not said CONNECT yet */
    UNIX_DIAL,  /* it has, and the guest has not answered */
    UNIX_CALL,  /* a guest's request, and the listener's backlog is full */
    UNIX_GREET, /* it got through to a sibling, which has not said OK yet */
    UNIX_OPEN,
};

/* A connection. What is not said to be otherwise belongs to the bridge's thread. */
struct unix_conn {
    struct vsock_unix *u;
    enum unix_kind kind;
    enum unix_state state;
    int fd;                       /* non-blocking; in epoll, edge-triggered; -1 in UNIX_CALL */
    struct vsock_sock *sk;        /* from UNIX_DIAL on, and in UNIX_OPEN */
    TAILQ_ENTRY(unix_conn) link;  /* in (u->conns) */
    TAILQ_ENTRY(unix_conn) timed; /* in (u->hellos) or (u->calls) */
    u64 deadline;                 /* ns, in those states */

    /* Protected by the context's lock. */
    bool queued; /* in (u->ready) */
    TAILQ_ENTRY(unix_conn) ready_link;
    bool starved; /* wants to hear when there is room to send */

    /* What the descriptor can do, as far as we know. */
    bool can_read, can_write, hung_up;
    bool look; /* the descriptor was heard of: is there still a reader? */

    bool in_done;  /* nothing more goes to the guest */
    bool out_done; /* nothing more goes to the descriptor */

    /* The handshake. */
    char line[VSOCK_UNIX_LINE];
    u32 line_len;
    struct vsock_addr peer; /* of a client: who it says it is */
    struct vsock_hdr request;
    unsigned name; /* the one being tried, of those where the guest's request may go */

    /* To the descriptor: packets taken from (sk) that are not through. */
    struct vsock_pkts out;
    u32 out_hdr; /* bytes of the first one's frame header that are through */

    /* Marked records (unix_record.h). */
    bool marks; /* the other end takes them */
    int file;   /* the record that comes next; -1: none */
    u32 file_len;
    bool file_eor;

    /* From the descriptor, framed mode. */
    u8 hdr[VSOCK_FRAME_HDR];
    u32 hdr_len, left; /* bytes of the header that are here; of the fragment, to come */
    u32 record;        /* bytes of the record that the guest has got */
    struct vsock_frame frame;
};

TAILQ_HEAD(unix_conns, unix_conn);

/* A REQUEST that the thread has not looked at yet. */
struct unix_request {
    TAILQ_ENTRY(unix_request) link;
    struct vsock_hdr hdr;
};

struct unix_door {
    struct vsock_unix_listener l;
    enum unix_kind kind;
    bool open; /* there may be somebody to accept */
};

struct vsock_unix {
    struct vsock_ctx *ctx;
    struct vsock_unix_config config;
    char dir[VSOCK_UNIX_PATH_MAX + 1];  /* of the group; empty: there is none */
    char base[VSOCK_UNIX_PATH_MAX + 1]; /* PATH */
    int epoll, event;
    pthread_t thread;
    bool started;
    _Atomic bool stopping, signalled, kicked;
    struct unix_door doors[UNIX_KINDS];

    /* Protected by the context's lock. */
    struct vsock_relay relay;
    TAILQ_HEAD(, unix_request) requests;
    unsigned nr_requests;
    struct unix_conns ready;
    unsigned nr_ready;

    /* The thread's own. */
    bool self_kicked, pumping, restless; /* restless: pumped since the last rest */
    struct unix_conns conns, hellos, calls;
    unsigned nr_conns, nr_hellos, nr_calls;
    u64 retry; /* when to try again what had no room; VSOCK_FOREVER: nothing */
    struct vsock_pkt *spare;
    int mark; /* the descriptor that says MSG_EOR */
};

/* unix.c */

/* As vsock_unix_create(), without a thread: the caller makes the rounds. */
int unix_new(struct uvirt_vsock *v, const struct vsock_unix_config *config,
             char why[VSOCK_UNIX_WHY], struct vsock_unix **ret);

/* Wait at most (ms) for something to happen (-1: as long as it takes), and do all of it once. */
void unix_round(struct vsock_unix *u, int ms);

/* (c) is to be looked at. Context's lock held. */
void unix_conn_ready(struct unix_conn *c);

/* Try (c)'s names again in a while. */
void unix_retry(struct vsock_unix *u);

/* unix_conn.c: life of a connection. */

/*
 * A client's descriptor, which it takes; (marks): it takes marked records. NULL after it was closed: too many, or no memory. */
struct unix_conn *unix_conn_hello(struct vsock_unix *u, enum unix_kind kind, int fd,
                                  struct vsock_addr peer, bool marks);

/* A guest's request, which is answered now or later. */
void unix_conn_call(struct vsock_unix *u, const struct vsock_hdr *h);

/* Do what can be done. (c) may be gone after that. */
void unix_conn_step(struct unix_conn *c);

/* End it at once: close the descriptor; the guest gets RST, also instead of an answer. */
void unix_conn_free(struct unix_conn *c);

/* unix_dial.c: where a guest's request goes. */

/*
 * Try names from (c->name) on. 0: (c)'s descriptor and kind are set; -EAGAIN: one has no
 * room; -ECONNREFUSED: none of them is there.
 */
int unix_dial(struct unix_conn *c);

/* Is it another guest of the group that the request goes to? */
bool unix_to_sibling(const struct unix_conn *c);

/* unix_carry.c: bytes and records of an open connection. */

enum unix_more {
    UNIX_IDLE,  /* nothing to do until something happens */
    UNIX_MORE,  /* it was enough for one turn */
    UNIX_OVER,  /* both directions have ended in order */
    UNIX_ABORT, /* it broke: reset it */
};

enum unix_more unix_carry(struct unix_conn *c);

/* The first (n) bytes of (c->out), frame headers among them, are through; the first record is. */
void unix_written(struct unix_conn *c, size_t n);

/* A write failed with (err): wait for room, or take it that nobody reads any more. */
void unix_not_written(struct unix_conn *c, int err);

/* Nobody in the guest reads any more. */
void unix_guest_deaf(struct unix_conn *c);

/* How a read that brought nothing, (n) and errno, leads on. 0, or -errno: reset it. */
int unix_no_bytes(struct unix_conn *c, ssize_t n);

/* unix_record.c: records of SOCK_SEQPACKET sockets. */

/* Write the first record of (c->out). Bytes, at least 1; 0: it would block, or nobody reads; -errno. */
ssize_t unix_record_out(struct unix_conn *c);

/* Move one record to the guest. 1: did so, 0: did not, -errno: reset it. */
int unix_record_in(struct unix_conn *c);
