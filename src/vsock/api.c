// SPDX-License-Identifier: MIT
// The public functions: lock, call, unlock, and errors in errno.
#include "vsock/sock.h"

#include <errno.h>

static struct vsock_sock *sock_of(struct uvirt_vsock_socket *s)
{
    return (struct vsock_sock *)s;
}

static struct vsock_sock *enter(struct uvirt_vsock_socket *s)
{
    vsock_lock(sock_of(s)->ctx);
    return sock_of(s);
}

static ssize_t leave(struct vsock_sock *sk, ssize_t rc)
{
    vsock_leave(sk->ctx);
    if (rc >= 0)
        return rc;
    errno = -rc;
    return -1;
}

uint32_t uvirt_vsock_local_cid(const struct uvirt_vsock *v)
{
    return ((const struct vsock_ctx *)v)->cid;
}

int uvirt_vsock_socket(struct uvirt_vsock *v, int type, struct uvirt_vsock_socket **ret)
{
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    struct vsock_sock *sk;

    if (type != SOCK_STREAM && type != SOCK_SEQPACKET) {
        errno = ESOCKTNOSUPPORT;
        return -1;
    }
    vsock_lock(ctx);
    sk = vsock_sock_new(
        ctx, type == SOCK_STREAM ? VIRTIO_VSOCK_TYPE_STREAM : VIRTIO_VSOCK_TYPE_SEQPACKET, NULL);
    vsock_unlock(ctx);
    if (!sk) {
        errno = ENOMEM;
        return -1;
    }
    *ret = (struct uvirt_vsock_socket *)sk;
    return 0;
}

int uvirt_vsock_bind(struct uvirt_vsock_socket *s, const struct sockaddr_vm *addr, socklen_t len)
{
    struct vsock_sock *sk = enter(s);
    int rc = vsock_addr_check(addr, len);

    return leave(sk, rc ? rc : vsock_bind(sk, addr->svm_cid, addr->svm_port));
}

int uvirt_vsock_connect(struct uvirt_vsock_socket *s, const struct sockaddr_vm *addr, socklen_t len,
                        bool nonblock)
{
    struct vsock_sock *sk = enter(s);
    int rc = vsock_addr_check(addr, len);

    if (!rc)
        rc = vsock_connect(sk, addr->svm_cid, addr->svm_port, addr->svm_flags, nonblock);
    return leave(sk, rc);
}

int uvirt_vsock_listen(struct uvirt_vsock_socket *s, int backlog)
{
    struct vsock_sock *sk = enter(s);

    return leave(sk, vsock_listen(sk, backlog));
}

int uvirt_vsock_accept(struct uvirt_vsock_socket *s, bool nonblock, struct uvirt_vsock_socket **ret)
{
    struct vsock_sock *sk = enter(s), *child;
    int rc = vsock_accept(sk, nonblock, &child);

    if (!rc)
        *ret = (struct uvirt_vsock_socket *)child;
    return leave(sk, rc);
}

ssize_t uvirt_vsock_send(struct uvirt_vsock_socket *s, const struct iovec *iov, size_t nr,
                         int flags)
{
    struct vsock_sock *sk = enter(s);
    struct vsock_iter it;
    ssize_t n = vsock_iter_init(&it, iov, nr);

    return leave(sk, n ? n : vsock_send(sk, &it, flags));
}

ssize_t uvirt_vsock_recv(struct uvirt_vsock_socket *s, const struct iovec *iov, size_t nr,
                         int *flags)
{
    struct vsock_sock *sk = enter(s);
    struct vsock_iter it;
    ssize_t n = vsock_iter_init(&it, iov, nr);

    return leave(sk, n ? n : vsock_recv(sk, &it, flags));
}

int uvirt_vsock_shutdown(struct uvirt_vsock_socket *s, int how)
{
    struct vsock_sock *sk = enter(s);

    return leave(sk, vsock_shutdown(sk, how));
}

int uvirt_vsock_close(struct uvirt_vsock_socket *s)
{
    struct vsock_ctx *ctx = sock_of(s)->ctx;

    vsock_close(enter(s), true);
    vsock_leave(ctx);
    return 0;
}

static void to_sockaddr(struct sockaddr_vm *addr, const struct vsock_addr *a)
{
    *addr = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_port = a->port, .svm_cid = a->cid};
}

int uvirt_vsock_getsockname(struct uvirt_vsock_socket *s, struct sockaddr_vm *addr)
{
    struct vsock_sock *sk = enter(s);

    to_sockaddr(addr, &sk->local);
    return leave(sk, 0);
}

int uvirt_vsock_getpeername(struct uvirt_vsock_socket *s, struct sockaddr_vm *addr)
{
    struct vsock_sock *sk = enter(s);

    if (sk->connected)
        to_sockaddr(addr, &sk->remote);
    return leave(sk, sk->connected ? 0 : -ENOTCONN);
}

int uvirt_vsock_setsockopt(struct uvirt_vsock_socket *s, int level, int name, const void *val,
                           socklen_t len)
{
    struct vsock_sock *sk = enter(s);

    return leave(sk, vsock_setsockopt(sk, level, name, val, len));
}

int uvirt_vsock_getsockopt(struct uvirt_vsock_socket *s, int level, int name, void *val,
                           socklen_t *len)
{
    struct vsock_sock *sk = enter(s);

    return leave(sk, vsock_getsockopt(sk, level, name, val, len));
}

int uvirt_vsock_ioctl(struct uvirt_vsock_socket *s, unsigned long request, int *value)
{
    struct vsock_sock *sk = enter(s);

    return leave(sk, vsock_ioctl(sk, request, value));
}

short uvirt_vsock_poll(struct uvirt_vsock_socket *s)
{
    struct vsock_sock *sk = enter(s);
    short mask;

    vsock_loopback_run(&sk->ctx->loopback);
    mask = vsock_poll(sk);
    return leave(sk, mask & 0x7fff);
}

void uvirt_vsock_set_event(struct uvirt_vsock_socket *s, uvirt_vsock_event_fn *fn, void *opaque)
{
    struct vsock_sock *sk = enter(s);

    sk->event = fn;
    sk->event_opaque = opaque;
    leave(sk, 0);
}
