// SPDX-License-Identifier: MIT
// Shorthands for tests of AF_VSOCK sockets: contexts with a clock of their own, pairs, transfers.
#pragma once

#include "base/types.h"
#include "uvirt/vsock.h"

#include "../tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct uvirt_vsock_socket sock;

#define PORT 1234

static u64 test_clock = 1000000000;

static inline u64 test_now(void *opaque)
{
    return test_clock;
}

static inline void advance_ms(u64 ms)
{
    test_clock += ms * 1000000;
}

/* A context; (fake) clock or the system's. */
static inline struct uvirt_vsock *context(u32 cid, bool fake, bool marker)
{
    struct uvirt_vsock_config config = {
        .size = sizeof(config), .cid = cid, .marker = marker, .now = fake ? test_now : NULL};
    struct uvirt_vsock *v;

    if (uvirt_vsock_create(&config, &v))
        exit(99);
    return v;
}

static inline struct sockaddr_vm address(u32 cid, u32 port)
{
    return (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
}

static inline sock *new_sock(struct uvirt_vsock *v, int type)
{
    sock *s;

    if (uvirt_vsock_socket(v, type, &s))
        exit(99);
    return s;
}

/* The calls with plain arguments; 0, or -errno. */
static inline int do_bind(sock *s, u32 cid, u32 port)
{
    struct sockaddr_vm a = address(cid, port);

    return uvirt_vsock_bind(s, &a, sizeof(a)) ? -errno : 0;
}

static inline int do_connect(sock *s, u32 cid, u32 port, bool nonblock)
{
    struct sockaddr_vm a = address(cid, port);

    return uvirt_vsock_connect(s, &a, sizeof(a), nonblock) ? -errno : 0;
}

static inline ssize_t do_send(sock *s, const void *buf, size_t len, int flags)
{
    struct iovec v = {(void *)buf, len};
    ssize_t n = uvirt_vsock_send(s, &v, 1, flags);

    return n < 0 ? -errno : n;
}

/* (flags) in; what comes back in *out unless that is NULL. */
static inline ssize_t do_recv(sock *s, void *buf, size_t len, int flags, int *out)
{
    struct iovec v = {buf, len};
    ssize_t n = uvirt_vsock_recv(s, &v, 1, &flags);

    if (out)
        *out = flags;
    return n < 0 ? -errno : n;
}

static inline sock *do_accept(sock *l)
{
    sock *s;

    return uvirt_vsock_accept(l, true, &s) ? NULL : s;
}

static inline int set_size(sock *s, int name, u64 v)
{
    return uvirt_vsock_setsockopt(s, AF_VSOCK, name, &v, sizeof(v)) ? -errno : 0;
}

static inline int set_int(sock *s, int name, int v)
{
    return uvirt_vsock_setsockopt(s, SOL_SOCKET, name, &v, sizeof(v)) ? -errno : 0;
}

static inline int set_ms(sock *s, int level, int name, long ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};

    return uvirt_vsock_setsockopt(s, level, name, &tv, sizeof(tv)) ? -errno : 0;
}

static inline int get_int(sock *s, int name)
{
    int v = -1;
    socklen_t len = sizeof(v);

    return uvirt_vsock_getsockopt(s, SOL_SOCKET, name, &v, &len) ? -errno : v;
}

static inline sock *listener(struct uvirt_vsock *v, int type, u32 port, int backlog)
{
    sock *l = new_sock(v, type);

    if (do_bind(l, VMADDR_CID_ANY, port) || uvirt_vsock_listen(l, backlog))
        exit(99);
    return l;
}

/* A connection over loopback: pair[0] connected, pair[1] was accepted. */
static inline void connect_pair(struct uvirt_vsock *v, int type, sock *pair[2])
{
    sock *l = listener(v, type, PORT, 8);

    pair[0] = new_sock(v, type);
    if (do_connect(pair[0], VMADDR_CID_LOCAL, PORT, false) || !(pair[1] = do_accept(l)))
        exit(99);
    uvirt_vsock_close(l);
}

static inline void close_pair(sock *pair[2])
{
    uvirt_vsock_close(pair[0]);
    uvirt_vsock_close(pair[1]);
}
