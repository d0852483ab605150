// SPDX-License-Identifier: MIT
// How records travel in packets: one table of operations, one file for each framing.
#pragma once

#include "vsock/queue.h"

struct vsock_sock;

/* What marker framing has to remember; eom needs nothing. */
struct vsock_marker {
    u32 tx_cnt; /* number of the next marker that we send */
    bool begun; /* a SEQ_BEGIN came since the connection was made */
    bool open;  /* between SEQ_BEGIN and SEQ_END */
    bool bad;   /* ... and more bytes came than announced */
    bool eor;   /* ... and one of its packets had RW_EOR, as all are to have */
    u32 cnt, len, got;
    struct vsock_queue part; /* what came of the record so far */
};

struct vsock_framing_ops {
    const char *name;

    /* Bytes of credit that a record costs beyond its payload. */
    u32 overhead;

    /* Packets that a record of (len) bytes may become. */
    u32 (*pkts)(u32 len);

    /*
     * Append to (list) the packets of a record of (len) bytes, payload not filled in but
     * for what belongs to the framing. 0 or -ENOMEM, and then (list) is freed.
     */
    int (*enqueue)(struct vsock_sock *sk, u32 len, bool eor, struct vsock_pkts *list);

    /*
     * Take a packet whose bytes are within credit; whole records end up in sk->rx, EOM at
     * their end. 0, -ENOBUFS (too many packets), or -EPROTO: the peer does not speak this.
     */
    int (*receive)(struct vsock_sock *sk, struct vsock_pkt *p);

    /* Forget what is incomplete. */
    void (*purge)(struct vsock_sock *sk);
};

extern const struct vsock_framing_ops vsock_framing_eom, vsock_framing_marker;
