// SPDX-License-Identifier: MIT
// setsockopt() and getsockopt().
#include "vsock/sock.h"

#include <errno.h>
#include <string.h>
#include <sys/time.h>

#define NS_PER_S 1000000000ull

/* The buffer's size stays within [min, max]; the peer of a connection hears of a change. */
static void set_buffer(struct vsock_sock *sk, u64 size)
{
    if (size > sk->buffer_max)
        size = sk->buffer_max;
    if (size < sk->buffer_min)
        size = sk->buffer_min;
    if (size == sk->buffer_size)
        return;
    sk->buffer_size = size;
    vsock_credit_resize(&sk->credit, size);
    if (sk->state == VSOCK_ESTABLISHED && !sk->done)
        vsock_sock_control(sk, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
}

/* 0 and a time in ns; -EDOM if it is no time. */
static int get_time(const void *val, socklen_t len, u64 *ret)
{
    struct timeval tv;

    if (len < sizeof(tv))
        return -EINVAL;
    memcpy(&tv, val, sizeof(tv));
    if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
        return -EDOM;
    if (tv.tv_sec < 0)
        *ret = 0;
    else if ((u64)tv.tv_sec > INT64_MAX / NS_PER_S - 1)
        *ret = VSOCK_FOREVER;
    else
        *ret = tv.tv_sec * NS_PER_S + tv.tv_usec * 1000;
    return 0;
}

static int set_connect_timeout(struct vsock_sock *sk, const void *val, socklen_t len)
{
    struct timeval tv;
    u64 ns;

    if (len < sizeof(tv))
        return -EINVAL;
    memcpy(&tv, val, sizeof(tv));
    if (tv.tv_sec < 0 || get_time(val, len, &ns) || ns == VSOCK_FOREVER)
        return -ERANGE;
    sk->connect_timeout = ns ? ns : VSOCK_CONNECT_NS;
    return 0;
}

static int set_vsock(struct vsock_sock *sk, int name, const void *val, socklen_t len)
{
    u64 v;

    if (name == SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD || name == SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW)
        return set_connect_timeout(sk, val, len);
    if (name < SO_VM_SOCKETS_BUFFER_SIZE || name > SO_VM_SOCKETS_BUFFER_MAX_SIZE)
        return -ENOPROTOOPT;
    if (len < sizeof(v))
        return -EINVAL;
    memcpy(&v, val, sizeof(v));
    if (name == SO_VM_SOCKETS_BUFFER_MIN_SIZE)
        sk->buffer_min = v;
    else if (name == SO_VM_SOCKETS_BUFFER_MAX_SIZE)
        sk->buffer_max = v;
    set_buffer(sk, name == SO_VM_SOCKETS_BUFFER_SIZE ? v : sk->buffer_size);
    return 0;
}

static int set_rcvlowat(struct vsock_sock *sk, const void *val, socklen_t len)
{
    int v;

    if (len < sizeof(v))
        return -EINVAL;
    memcpy(&v, val, sizeof(v));
    if (v < 0)
        v = INT32_MAX;
    if (sk->type == VIRTIO_VSOCK_TYPE_STREAM && (u64)v > sk->buffer_size)
        return -EINVAL;
    sk->rcvlowat = v ? v : 1;
    vsock_sock_report(sk); /* the sender may be waiting with less than that sent */
    vsock_wake(sk, POLLIN);
    return 0;
}

static int set_timeo(u64 *timeo, const void *val, socklen_t len)
{
    struct timeval tv;
    u64 ns;
    int rc = get_time(val, len, &ns);

    if (rc)
        return rc;
    memcpy(&tv, val, sizeof(tv));
    *timeo = ns || tv.tv_sec < 0 ? ns : VSOCK_FOREVER; /* zero: none; negative: at once */
    return 0;
}

static int set_linger(struct vsock_sock *sk, const void *val, socklen_t len)
{
    struct linger l;

    if (len < sizeof(l))
        return -EINVAL;
    memcpy(&l, val, sizeof(l));
    sk->linger = l.l_onoff;
    sk->linger_ns = l.l_linger < 0 ? VSOCK_FOREVER : l.l_linger * NS_PER_S;
    return 0;
}

int vsock_setsockopt(struct vsock_sock *sk, int level, int name, const void *val, socklen_t len)
{
    if (level == AF_VSOCK)
        return set_vsock(sk, name, val, len);
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    switch (name) {
    case SO_RCVLOWAT:
        return set_rcvlowat(sk, val, len);
    case SO_RCVTIMEO:
        return set_timeo(&sk->rcvtimeo, val, len);
    case SO_SNDTIMEO:
        return set_timeo(&sk->sndtimeo, val, len);
    case SO_LINGER:
        return set_linger(sk, val, len);
    default:
        return -ENOPROTOOPT;
    }
}

static struct timeval to_timeval(u64 ns)
{
    if (ns == VSOCK_FOREVER)
        ns = 0;
    return (struct timeval){ns / NS_PER_S, ns % NS_PER_S / 1000};
}

union value {
    u64 size;
    int number;
    struct timeval time;
    struct linger linger;
};

/* The value's size, or -ENOPROTOOPT. */
static int get_vsock(const struct vsock_sock *sk, int name, union value *v)
{
    switch (name) {
    case SO_VM_SOCKETS_BUFFER_SIZE:
        v->size = sk->buffer_size;
        return sizeof(v->size);
    case SO_VM_SOCKETS_BUFFER_MIN_SIZE:
        v->size = sk->buffer_min;
        return sizeof(v->size);
    case SO_VM_SOCKETS_BUFFER_MAX_SIZE:
        v->size = sk->buffer_max;
        return sizeof(v->size);
    case SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD:
    case SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW:
        v->time = to_timeval(sk->connect_timeout);
        return sizeof(v->time);
    default:
        return -ENOPROTOOPT;
    }
}

static int get_socket(struct vsock_sock *sk, int name, union value *v)
{
    v->number = 0;
    switch (name) {
    case SO_ERROR:
        v->number = -vsock_take_error(sk);
        return sizeof(v->number);
    case SO_TYPE:
        v->number = sk->type == VIRTIO_VSOCK_TYPE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;
        return sizeof(v->number);
    case SO_DOMAIN:
        v->number = AF_VSOCK;
        return sizeof(v->number);
    case SO_PROTOCOL:
        return sizeof(v->number);
    case SO_ACCEPTCONN:
        v->number = sk->state == VSOCK_LISTEN;
        return sizeof(v->number);
    case SO_RCVLOWAT:
        v->number = sk->rcvlowat;
        return sizeof(v->number);
    case SO_RCVTIMEO:
        v->time = to_timeval(sk->rcvtimeo);
        return sizeof(v->time);
    case SO_SNDTIMEO:
        v->time = to_timeval(sk->sndtimeo);
        return sizeof(v->time);
    case SO_LINGER:
        v->linger.l_onoff = sk->linger;
        v->linger.l_linger = sk->linger_ns == VSOCK_FOREVER ? -1 : (int)(sk->linger_ns / NS_PER_S);
        return sizeof(v->linger);
    default:
        return -ENOPROTOOPT;
    }
}

int vsock_getsockopt(struct vsock_sock *sk, int level, int name, void *val, socklen_t *len)
{
    union value v;
    int size = level == AF_VSOCK     ? get_vsock(sk, name, &v)
               : level == SOL_SOCKET ? get_socket(sk, name, &v)
                                     : -ENOPROTOOPT;

    if (size < 0)
        return size;
    if (level == AF_VSOCK && *len < (socklen_t)size)
        return -EINVAL;
    if (*len > (socklen_t)size)
        *len = size;
    memcpy(val, &v, *len);
    return 0;
}
