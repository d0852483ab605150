// SPDX-License-Identifier: MIT
// AF_VSOCK in user space: STREAM and SEQPACKET sockets with Linux's meaning, and no kernel socket.
#pragma once

#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef UVIRT_PUBLIC
#define UVIRT_PUBLIC __attribute__((visibility("default")))
#endif

/*
 * A context is one address space of CIDs and ports: its own CID, loopback (CID 1) and the
 * peers that transports reach. Sockets in it behave as Linux's do; what differs is named at
 * the call. Functions return what the system call returns, or -1 with errno. All may be
 * called from any thread; a socket may be used by several until it is closed.
 *
 * Blocking calls wait inside; those with MSG_DONTWAIT or (nonblock) never do. Signals do not
 * interrupt them: who needs EINTR, or poll(), uses the non-blocking forms and the event
 * callback. No SIGPIPE is ever raised: after EPIPE on a STREAM socket without MSG_NOSIGNAL
 * the caller raises it if that is wanted.
 */
struct uvirt_vsock;
struct uvirt_vsock_socket;

struct uvirt_vsock_config {
    uint32_t size;   /* sizeof(struct uvirt_vsock_config) */
    uint32_t cid;    /* ours; VMADDR_CID_HOST for a host, > 2 for a guest */
    bool privileged; /* may bind ports below 1024 */
    bool marker;     /* loopback uses marker framing for records, not the standard's */

    /* Monotonic nanoseconds; NULL: the system's clock. Tests bring their own. */
    uint64_t (*now)(void *opaque);
    void *opaque;
};

/* Fails with EINVAL (size, CID reserved) or ENOMEM. Free a context after its sockets. */
UVIRT_PUBLIC int uvirt_vsock_create(const struct uvirt_vsock_config *config,
                                    struct uvirt_vsock **ret);
UVIRT_PUBLIC void uvirt_vsock_free(struct uvirt_vsock *v);

/* /dev/vsock's IOCTL_VM_SOCKETS_GET_LOCAL_CID. */
UVIRT_PUBLIC uint32_t uvirt_vsock_local_cid(const struct uvirt_vsock *v);

/*
 * Timeouts (of non-blocking connects, of closing) happen during any call on the context once
 * they are due. With none to be expected, call this: it runs them and returns milliseconds
 * until the next, -1 if there is none, as a timeout for poll().
 */
UVIRT_PUBLIC int uvirt_vsock_run_timers(struct uvirt_vsock *v);

/* (type) is SOCK_STREAM or SOCK_SEQPACKET; others fail with ESOCKTNOSUPPORT. */
UVIRT_PUBLIC int uvirt_vsock_socket(struct uvirt_vsock *v, int type,
                                    struct uvirt_vsock_socket **ret);
UVIRT_PUBLIC int uvirt_vsock_bind(struct uvirt_vsock_socket *s, const struct sockaddr_vm *addr,
                                  socklen_t len);
UVIRT_PUBLIC int uvirt_vsock_connect(struct uvirt_vsock_socket *s, const struct sockaddr_vm *addr,
                                     socklen_t len, bool nonblock);
UVIRT_PUBLIC int uvirt_vsock_listen(struct uvirt_vsock_socket *s, int backlog);
UVIRT_PUBLIC int uvirt_vsock_accept(struct uvirt_vsock_socket *s, bool nonblock,
                                    struct uvirt_vsock_socket **ret);

/*
 * MSG_DONTWAIT, MSG_NOSIGNAL and, on SEQPACKET, MSG_EOR. A SEQPACKET send is whole or not at
 * all: it waits for room for the record, and a timeout or MSG_DONTWAIT sends nothing of it
 * (Linux may send a part, which the next record is then glued to).
 */
UVIRT_PUBLIC ssize_t uvirt_vsock_send(struct uvirt_vsock_socket *s, const struct iovec *iov,
                                      size_t nr, int flags);

/*
 * MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL (STREAM), MSG_TRUNC. (flags) also brings back MSG_EOR
 * and MSG_TRUNC, as msg_flags does.
 */
UVIRT_PUBLIC ssize_t uvirt_vsock_recv(struct uvirt_vsock_socket *s, const struct iovec *iov,
                                      size_t nr, int *flags);

UVIRT_PUBLIC int uvirt_vsock_shutdown(struct uvirt_vsock_socket *s, int how);

/* Close the socket and forget it, lingering as SO_LINGER says. Nobody may be using it. */
UVIRT_PUBLIC int uvirt_vsock_close(struct uvirt_vsock_socket *s);

UVIRT_PUBLIC int uvirt_vsock_getsockname(struct uvirt_vsock_socket *s, struct sockaddr_vm *addr);
UVIRT_PUBLIC int uvirt_vsock_getpeername(struct uvirt_vsock_socket *s, struct sockaddr_vm *addr);

/*
 * Level AF_VSOCK: SO_VM_SOCKETS_BUFFER_{,MIN_,MAX_}SIZE, SO_VM_SOCKETS_CONNECT_TIMEOUT. Level
 * SOL_SOCKET: SO_RCVLOWAT, SO_RCVTIMEO, SO_SNDTIMEO, SO_LINGER and, to get, SO_ERROR, SO_TYPE,
 * SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN.
 */
UVIRT_PUBLIC int uvirt_vsock_setsockopt(struct uvirt_vsock_socket *s, int level, int name,
                                        const void *val, socklen_t len);
UVIRT_PUBLIC int uvirt_vsock_getsockopt(struct uvirt_vsock_socket *s, int level, int name,
                                        void *val, socklen_t *len);

/* FIONREAD (SIOCINQ) and TIOCOUTQ (SIOCOUTQ). */
UVIRT_PUBLIC int uvirt_vsock_ioctl(struct uvirt_vsock_socket *s, unsigned long request, int *value);

/* What poll() would report, of all events. POLLIN on SEQPACKET means a whole record. */
UVIRT_PUBLIC short uvirt_vsock_poll(struct uvirt_vsock_socket *s);

/*
 * Call (fn) whenever poll's answer may have changed, with the events to look at. It is called
 * with the context's lock held and must not call back: write an eventfd, say. NULL: none.
 */
typedef void uvirt_vsock_event_fn(void *opaque, short events);
UVIRT_PUBLIC void uvirt_vsock_set_event(struct uvirt_vsock_socket *s, uvirt_vsock_event_fn *fn,
                                        void *opaque);

#ifdef __cplusplus
}
#endif
