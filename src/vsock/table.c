// SPDX-License-Identifier: MIT
// Addresses: checking them, the tables of bound and connected sockets, ports, routes.
#include "vsock/sock.h"

#include <errno.h>

#define AUTOBIND_TRIES 24

static unsigned bound_hash(u32 port)
{
    return port % VSOCK_HASH;
}

static unsigned connected_hash(u32 local_port, u32 remote_cid, u32 remote_port)
{
    u32 h = local_port * 0x9e3779b1u ^ remote_port * 0x85ebca6bu ^ remote_cid;

    return h >> 7 & (VSOCK_HASH - 1);
}

int vsock_addr_check(const struct sockaddr_vm *addr, socklen_t len)
{
    if (len < sizeof(*addr))
        return -EFAULT;
    if (addr->svm_family != AF_VSOCK)
        return -EAFNOSUPPORT;
    if (addr->svm_reserved1 || addr->svm_flags & ~VMADDR_FLAG_TO_HOST)
        return -EINVAL;
    return 0;
}

/* CID_ANY stands for all of ours. */
static bool overlap(const struct vsock_addr *a, const struct vsock_addr *b)
{
    return a->port == b->port &&
           (a->cid == b->cid || a->cid == VMADDR_CID_ANY || b->cid == VMADDR_CID_ANY);
}

struct vsock_sock *vsock_find_bound(struct vsock_ctx *ctx, const struct vsock_addr *local)
{
    struct vsock_sock *sk;

    LIST_FOREACH(sk, &ctx->bound[bound_hash(local->port)], bound_link)
    {
        if (overlap(&sk->local, local))
            return sk;
    }
    return NULL;
}

struct vsock_sock *vsock_find_connected(struct vsock_ctx *ctx, u32 src_cid, u32 src_port,
                                        u32 dst_cid, u32 dst_port)
{
    struct vsock_sock *sk;

    LIST_FOREACH(sk, &ctx->connected[connected_hash(dst_port, src_cid, src_port)], connected_link)
    {
        if (sk->remote.cid == src_cid && sk->remote.port == src_port && sk->src_cid == dst_cid &&
            sk->local.port == dst_port)
            return sk;
    }
    return NULL;
}

static void insert_bound(struct vsock_sock *sk, u32 cid, u32 port)
{
    sk->local = (struct vsock_addr){cid, port};
    sk->in_bound = true;
    LIST_INSERT_HEAD(&sk->ctx->bound[bound_hash(port)], sk, bound_link);
}

static int autobind(struct vsock_sock *sk, u32 cid)
{
    struct vsock_ctx *ctx = sk->ctx;

    for (unsigned i = 0; i < AUTOBIND_TRIES; i++) {
        struct vsock_addr a;

        if (ctx->next_port == VMADDR_PORT_ANY || ctx->next_port <= VSOCK_RESERVED_PORT)
            ctx->next_port = VSOCK_RESERVED_PORT + 1;
        a = (struct vsock_addr){cid, ctx->next_port++};
        if (!vsock_find_bound(ctx, &a)) {
            insert_bound(sk, a.cid, a.port);
            return 0;
        }
    }
    return -EADDRNOTAVAIL;
}

int vsock_bind(struct vsock_sock *sk, u32 cid, u32 port)
{
    struct vsock_addr a = {cid, port};

    if (sk->in_bound || sk->connected || sk->connecting)
        return -EINVAL;
    if (cid != VMADDR_CID_ANY && cid != VMADDR_CID_LOCAL && cid != sk->ctx->cid)
        return -EADDRNOTAVAIL;
    if (port == VMADDR_PORT_ANY)
        return autobind(sk, cid);
    if (port <= VSOCK_RESERVED_PORT && !sk->ctx->privileged)
        return -EACCES;
    if (vsock_find_bound(sk->ctx, &a))
        return -EADDRINUSE;
    insert_bound(sk, cid, port);
    return 0;
}

void vsock_insert_connected(struct vsock_sock *sk)
{
    unsigned h = connected_hash(sk->local.port, sk->remote.cid, sk->remote.port);

    sk->in_connected = true;
    LIST_INSERT_HEAD(&sk->ctx->connected[h], sk, connected_link);
}

void vsock_remove_connected(struct vsock_sock *sk)
{
    if (sk->in_connected)
        LIST_REMOVE(sk, connected_link);
    sk->in_connected = false;
}

void vsock_remove(struct vsock_sock *sk)
{
    if (sk->in_bound)
        LIST_REMOVE(sk, bound_link);
    sk->in_bound = false;
    vsock_remove_connected(sk);
}

struct vsock_transport *vsock_route(struct vsock_ctx *ctx, u32 cid, u8 flags)
{
    struct vsock_transport *t;

    LIST_FOREACH(t, &ctx->transports, link)
    {
        if (flags & VMADDR_FLAG_TO_HOST && t == &ctx->loopback.t)
            continue;
        if (t->ops->reaches(t, cid))
            return t;
    }
    return NULL;
}

bool vsock_transport_allows(struct vsock_transport *t, u16 type, u32 cid)
{
    return type == VIRTIO_VSOCK_TYPE_STREAM ? t->ops->stream_allow(t, cid)
                                            : t->ops->seqpacket_allow(t, cid);
}
