// SPDX-License-Identifier: MIT
// Fuzzes the AF_VSOCK core with packets from a guest, and host sockets in use meanwhile.

/*
 * The input is a framing and a list of operations (see enum op): packets with any header,
 * biased to ports and addresses that exist, and calls on a few host sockets. Invariants: no
 * sanitizer report; what a socket holds stays within what it granted; at the end, with all
 * sockets closed and the device gone, no socket is left in memory.
 */
#include "fuzz.h"
#include "vsock/sock.h"
#include "vsock/transport/device.h"

#include <stdlib.h>

#define GUEST     3
#define NR_SOCKS  6
#define OPS_MAX   300
#define FIRST     5000 /* ports of the host's listeners: STREAM, SEQPACKET */
#define CHUNK_MAX 9000

enum op {
    OP_PACKET, /* header in short form, payload length */
    OP_RAW,    /* 44 bytes of header as they are */
    OP_PROPER, /* what a well-behaved guest would send on an existing connection */
    OP_SOCKET, /* new socket and connect */
    OP_ACCEPT,
    OP_SEND,
    OP_RECV,
    OP_SHUTDOWN,
    OP_CLOSE,
    OP_OPTION,
    OP_TAKE, /* the guest receives */
    OP_TIME,
    OP_RESET,
    OP_COUNT,
};

struct state {
    struct uvirt_vsock *v;
    struct vsock_device *d;
    struct uvirt_vsock_socket *listeners[2], *socks[NR_SOCKS];
};

static u64 clock_now;
static u8 chunk[CHUNK_MAX];

static u64 now(void *opaque)
{
    return clock_now;
}

static void packet(struct state *s, struct vsock_hdr h)
{
    struct vsock_pkt *p = vsock_pkt_alloc(h.len);

    if (!p)
        return;
    p->hdr = h;
    p->len = h.len;
    memset(p->data, h.flags, h.len);
    vsock_device_input(s->d, p);
}

/* A port of ours, or any. */
static u32 some_port(struct state *s, struct fuzz_input *in)
{
    u8 k = fuzz_u8(in);

    if (k < 128)
        return FIRST + k % 2;
    if (k < 240 && s->socks[k % NR_SOCKS])
        return ((struct vsock_sock *)s->socks[k % NR_SOCKS])->local.port;
    return fuzz_u32(in);
}

static void op_packet(struct state *s, struct fuzz_input *in)
{
    struct vsock_hdr h = {.src_cid = GUEST, .dst_cid = 2};

    h.op = fuzz_u8(in) % 11;
    h.type = 1 + (fuzz_u8(in) & 1);
    h.flags = fuzz_u8(in) & 3;
    h.src_port = fuzz_u8(in) % 8;
    h.dst_port = some_port(s, in);
    h.len = h.op == 5 || h.op > 7 ? fuzz_u16(in) % CHUNK_MAX : 0;
    h.buf_alloc = fuzz_u8(in) & 1 ? fuzz_u32(in) : 65536;
    h.fwd_cnt = fuzz_u8(in) & 1 ? fuzz_u32(in) : 0;
    packet(s, h);
}

static void op_raw(struct state *s, struct fuzz_input *in)
{
    u8 wire[VSOCK_HDR_SIZE], back[VSOCK_HDR_SIZE];
    struct vsock_hdr h;

    fuzz_bytes(in, wire, sizeof(wire));
    vsock_hdr_decode(&h, wire);
    vsock_hdr_encode(back, &h);
    if (memcmp(wire, back, sizeof(wire)))
        abort();
    h.len %= CHUNK_MAX;
    packet(s, h);
}

static void op_proper(struct state *s, struct fuzz_input *in)
{
    static const u8 ops[] = {VIRTIO_VSOCK_OP_RW,
                             VIRTIO_VSOCK_OP_RW,
                             VSOCK_OP_SEQ_BEGIN,
                             VSOCK_OP_SEQ_END,
                             VIRTIO_VSOCK_OP_RESPONSE,
                             VIRTIO_VSOCK_OP_CREDIT_UPDATE,
                             VIRTIO_VSOCK_OP_CREDIT_REQUEST,
                             VIRTIO_VSOCK_OP_SHUTDOWN};
    struct vsock_sock *sk = (struct vsock_sock *)s->socks[fuzz_u8(in) % NR_SOCKS];
    struct vsock_hdr h = {.src_cid = GUEST, .dst_cid = 2};

    h.op = ops[fuzz_u8(in) % sizeof(ops)];
    h.flags = fuzz_u8(in) & 3;
    h.len = h.op > 7 ? 8 : h.op == VIRTIO_VSOCK_OP_RW ? fuzz_u16(in) % CHUNK_MAX : 0;
    if (!sk)
        return;
    h.src_port = sk->remote.port;
    h.dst_port = sk->local.port;
    h.type = sk->type;
    h.buf_alloc = 65536;
    h.fwd_cnt = sk->credit.tx_cnt - fuzz_u8(in);
    packet(s, h);
}

static void op_socket(struct state *s, struct fuzz_input *in)
{
    u8 k = fuzz_u8(in);
    struct sockaddr_vm a = {.svm_family = AF_VSOCK,
                            .svm_cid = k & 64 ? GUEST : 1,
                            .svm_port = k & 32 ? fuzz_u8(in) % 8 : FIRST + (k & 1)};
    struct uvirt_vsock_socket **p = &s->socks[k % NR_SOCKS];

    if (!*p && uvirt_vsock_socket(s->v, k & 128 ? SOCK_STREAM : SOCK_SEQPACKET, p))
        abort();
    uvirt_vsock_connect(*p, &a, sizeof(a), true);
}

static void op_option(struct uvirt_vsock_socket *k, struct fuzz_input *in)
{
    u64 size = fuzz_u32(in);
    int low = fuzz_u16(in);

    uvirt_vsock_setsockopt(k, AF_VSOCK, fuzz_u8(in) % 3, &size, sizeof(size));
    uvirt_vsock_setsockopt(k, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
}

static void on_socket(struct state *s, enum op op, struct fuzz_input *in)
{
    struct uvirt_vsock_socket **p = &s->socks[fuzz_u8(in) % NR_SOCKS];
    struct iovec v = {chunk, fuzz_u16(in) % CHUNK_MAX};
    u8 bits = fuzz_u8(in);
    int flags = MSG_DONTWAIT | (bits & 1 ? MSG_PEEK : 0) | (bits & 2 ? MSG_TRUNC : 0);

    if (op == OP_ACCEPT && !*p)
        uvirt_vsock_accept(s->listeners[bits & 1], true, p);
    if (!*p)
        return;
    if (op == OP_SEND)
        uvirt_vsock_send(*p, &v, 1, MSG_DONTWAIT | (bits & 1 ? MSG_EOR : 0));
    else if (op == OP_RECV)
        uvirt_vsock_recv(*p, &v, 1, &flags);
    else if (op == OP_SHUTDOWN)
        uvirt_vsock_shutdown(*p, bits % 4);
    else if (op == OP_OPTION)
        op_option(*p, in);
    else if (op == OP_CLOSE && !uvirt_vsock_close(*p))
        *p = NULL;
}

static void op_take(struct state *s, struct fuzz_input *in)
{
    for (unsigned n = fuzz_u8(in) % 32; n; n--) {
        struct vsock_pkt *p = vsock_device_next(s->d, NULL);
        u8 wire[VSOCK_HDR_SIZE];

        if (!p)
            return;
        do
            p->off += vsock_device_piece(s->d, p, 3732, wire);
        while (p->off < p->len);
        vsock_device_done(s->d, p);
    }
}

/* What sockets hold is within bounds. */
static void check(struct state *s)
{
    for (unsigned i = 0; i < NR_SOCKS; i++) {
        struct vsock_sock *sk = (struct vsock_sock *)s->socks[i];
        u64 bytes = 0, pkts = 0;
        struct vsock_pkt *p;

        if (!sk)
            continue;
        TAILQ_FOREACH(p, &sk->rx.pkts, link)
        {
            bytes += p->len - p->off;
            pkts++;
        }
        if (bytes != sk->rx.bytes || sk->rx.bytes + sk->marker.part.bytes > sk->credit.rx_held ||
            pkts > sk->credit.rx_pkts || sk->credit.rx_held > VSOCK_BUF_MAX ||
            sk->credit.tx_cnt - sk->credit.peer_fwd_cnt > VSOCK_BUF_MAX)
            abort();
    }
}

static void step(struct state *s, struct fuzz_input *in)
{
    enum op op = fuzz_u8(in) % OP_COUNT;

    switch (op) {
    case OP_PACKET:
        op_packet(s, in);
        break;
    case OP_RAW:
        op_raw(s, in);
        break;
    case OP_PROPER:
        op_proper(s, in);
        break;
    case OP_SOCKET:
        op_socket(s, in);
        break;
    case OP_TAKE:
        op_take(s, in);
        break;
    case OP_TIME:
        clock_now += fuzz_u16(in) * 1000000ull;
        uvirt_vsock_run_timers(s->v);
        break;
    case OP_RESET:
        vsock_device_stop(s->d);
        vsock_device_start(s->d, fuzz_u8(in) & 1, true);
        break;
    default:
        on_socket(s, op, in);
        break;
    }
}

static void set_up(struct state *s, bool marker)
{
    struct uvirt_vsock_config config = {
        .size = sizeof(config), .cid = 2, .now = now, .marker = marker};
    struct vsock_device_config device = {.guest_cid = GUEST, .marker = marker};

    clock_now = 1000000000;
    if (uvirt_vsock_create(&config, &s->v) || vsock_device_create(s->v, &device, &s->d))
        abort();
    vsock_device_start(s->d, true, true);
    for (unsigned i = 0; i < 2; i++) {
        struct sockaddr_vm a = {
            .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = FIRST + i};

        if (uvirt_vsock_socket(s->v, i ? SOCK_SEQPACKET : SOCK_STREAM, &s->listeners[i]) ||
            uvirt_vsock_bind(s->listeners[i], &a, sizeof(a)) ||
            uvirt_vsock_listen(s->listeners[i], 4))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct state s = {0};

    set_up(&s, fuzz_u8(&in) & 1);
    for (unsigned i = 0; i < OPS_MAX && in.size; i++) {
        step(&s, &in);
        check(&s);
    }
    for (unsigned i = 0; i < NR_SOCKS; i++) {
        if (s.socks[i])
            uvirt_vsock_close(s.socks[i]);
    }
    uvirt_vsock_close(s.listeners[0]);
    uvirt_vsock_close(s.listeners[1]);
    vsock_device_free(s.d);
    clock_now += 10000000000ull;
    uvirt_vsock_run_timers(s.v);
    if (((struct vsock_ctx *)s.v)->nr_socks)
        abort();
    uvirt_vsock_free(s.v);
    return 0;
}
