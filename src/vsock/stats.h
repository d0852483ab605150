// SPDX-License-Identifier: MIT
// What passed over connections: counters in each socket, and those of the latest that have ended.
#pragma once

#include "base/types.h"
#include "uvirt/vsock.h"

#include <stddef.h>

struct vsock_counts {
    u64 tx_bytes, rx_bytes;
    u64 tx_pkts, rx_pkts; /* with payload */
    u64 waits;            /* times that the sender had no credit */
};

struct vsock_connection {
    u32 local_cid, local_port, remote_cid, remote_port;
    u16 type; /* VIRTIO_VSOCK_TYPE_* */
    bool open;
    struct vsock_counts counts;
};

/* How many ended ones are kept; older ones are in the sum only. */
#define VSOCK_STATS_KEPT 64

struct vsock_stats {
    u64 connections; /* that there ever were, over devices */
    struct vsock_counts sum;
    struct vsock_connection last[VSOCK_STATS_KEPT];
    unsigned nr_last; /* ended, ever; (last) is a ring */
};

struct vsock_sock;

/* Called by the core when a socket goes that had a connection. Lock held. */
void vsock_stats_ended(struct vsock_sock *sk);

/*
 * The connections over devices of (v), the oldest of the ended ones first and then those that
 * are open: up to (max) go into (list), their number is returned. (sum) gets the total of all
 * that there ever were, and (ever) their number.
 */
size_t vsock_stats_get(struct uvirt_vsock *v, struct vsock_connection *list, size_t max,
                       struct vsock_counts *sum, u64 *ever);
