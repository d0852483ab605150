// SPDX-License-Identifier: MIT
// Records as the standard has them: EOM, and EOR, on the packet that ends one (virtio 5.10.6.4).
#include "vsock/framing/framing.h"
#include "vsock/sock.h"

#include <errno.h>

static u32 eom_pkts(u32 len)
{
    return vsock_credit_pkts(len) + len / VSOCK_PAYLOAD_MAX;
}

static int eom_enqueue(struct vsock_sock *sk, u32 len, bool eor, struct vsock_pkts *list)
{
    struct vsock_pkt *p;

    while (len) {
        u32 n = len < VSOCK_PAYLOAD_MAX ? len : VSOCK_PAYLOAD_MAX;

        p = vsock_sock_pkt(sk, VIRTIO_VSOCK_OP_RW, n);
        if (!p) {
            vsock_pkts_free(list);
            return -ENOMEM;
        }
        len -= n;
        if (!len)
            p->hdr.flags = VIRTIO_VSOCK_SEQ_EOM | (eor ? VIRTIO_VSOCK_SEQ_EOR : 0);
        TAILQ_INSERT_TAIL(list, p, link);
    }
    return 0;
}

static int eom_receive(struct vsock_sock *sk, struct vsock_pkt *p)
{
    if (p->hdr.op != VIRTIO_VSOCK_OP_RW) {
        vsock_pkt_free(p);
        return -EPROTO;
    }
    if (!(p->hdr.flags & VIRTIO_VSOCK_SEQ_EOM))
        p->hdr.flags = 0; /* EOR counts where the message ends */
    return vsock_queue_add(&sk->rx, &sk->credit, p);
}

static void eom_purge(struct vsock_sock *sk)
{
}

const struct vsock_framing_ops vsock_framing_eom = {
    .name = "eom",
    .pkts = eom_pkts,
    .enqueue = eom_enqueue,
    .receive = eom_receive,
    .purge = eom_purge,
};
