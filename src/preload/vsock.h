// SPDX-License-Identifier: MIT
// AF_VSOCK for the program that the library is loaded into: what the files vsock_*.c share.
#pragma once

#include "base/types.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <linux/vm_sockets.h>

/*
 * Theory of operation
 *
 * An AF_VSOCK socket of the program is an AF_UNIX socket of the same type below the directory
 * of --vsock; so poll, dup, fork, exec and SCM_RIGHTS are the kernel's own, and a connection
 * lives as long as some process holds a descriptor. Nothing is kept beside it that it needs
 * to work:
 *
 *  - that it is one of ours, its state and its buffer size are a tag of 64 bits in the socket
 *    itself (SO_MAX_PACING_RATE, which no Unix socket has a use for);
 *  - its addresses are its Unix addresses: DIR/./2_<port>[_seqpacket] where it was bound,
 *    \0uvirt-vsock/... (transport/unix_record.h) where connect() chose a port;
 *  - a port is taken as long as a live socket is bound to its path. A socket that nobody
 *    holds any more leaves a dead file behind, which the next bind() removes.
 *
 * A process remembers the rest for itself, by the socket's cookie (struct vsk_local): buffer
 * limits, timeouts, zerocopy completions, a pending error. exec() and passing the socket to
 * another process lose that, and nothing else.
 *
 * cache[] in vsock_tag.c says which descriptors may be ours, so that other descriptors cost
 * no system call. It is filled where descriptors come from: socket, accept, dup, SCM_RIGHTS,
 * exec. Functions here return -errno and leave errno alone; vsock_calls.c, the interposed
 * names, sets it. The lock is never held across a call that waits, and signals are blocked
 * while it is, so that handlers may use sockets.
 */

/* The tag. Its low half is SO_VM_SOCKETS_BUFFER_SIZE. */
#define VSK_MAGIC      (0x7576ull << 48)
#define VSK_MAGIC_MASK (0xffffull << 48)
#define VSK_SIZE       0xffffffffull
#define VSK_SEQ        BIT(32) /* SOCK_SEQPACKET */
#define VSK_MARKS      BIT(33) /* the peer takes marked records (transport/unix_record.h) */
#define VSK_CONNECTING BIT(34) /* CONNECT is sent, OK has not come */
#define VSK_CONNECTED  BIT(35)
#define VSK_BOUND      BIT(36) /* has a path of its own */
#define VSK_LISTEN     BIT(37)
#define VSK_VM         BIT(38) /* the peer is a guest */
#define VSK_ACCEPTED   BIT(39)
#define VSK_LOWAT      BIT(40) /* SO_RCVLOWAT above 1 */
#define VSK_ZEROCOPY   BIT(41) /* SO_ZEROCOPY */
#define VSK_SHUT_RD    BIT(42)
#define VSK_SHUT_WR    BIT(43)
#define VSK_CID_SHIFT  44 /* of the local address: 0 for VMADDR_CID_ANY, or 1, or 2 */
#define VSK_CID        (3ull << VSK_CID_SHIFT)

#define VSK_BUFFER_SIZE 262144u /* Linux's default and default maximum */
#define VSK_BUFFER_MIN  128u
#define VSK_TIMEOUT_NS  2000000000ull

/* Zerocopy completions that nobody has read: sends (lo) to (hi). */
#define VSK_ZC_RANGES 8

struct vsk_zc {
    u32 lo, hi;
    bool copied;
};

struct vsk_local {
    u64 cookie;
    bool stale; /* a descriptor of it was closed: the first to be reused */
    u64 buffer_min, buffer_max;
    u64 timeout, deadline; /* of connect(), in ns; monotonic */
    int error;             /* what getsockopt(SO_ERROR) says next */
    u32 peer_port;         /* VMADDR_PORT_ANY: as the Unix address says */
    u64 in_files;          /* bytes of records that travel in files, at most */
    u32 zc_next;           /* number of the next send with MSG_ZEROCOPY */
    unsigned zc_count;
    struct vsk_zc zc[VSK_ZC_RANGES];
};

extern const char *vsk_dir; /* NULL: the program has no AF_VSOCK of ours */
extern bool vsk_with_kvm;   /* with it: it is to have a /dev/kvm too */

/* vsock_tag.c */

#define VSK_CACHED 65536 /* descriptors that are remembered; those beyond are asked every time */

/* Is (fd) one of ours? Asks the socket. */
bool vsk_get(int fd, u64 *tag);

/* The same, from memory: for data, where a system call would cost too much. */
bool vsk_peek(int fd, u64 *tag);

/* Set the tag of (fd). */
void vsk_put(int fd, u64 tag);

/* (fd) is new here: remember whether it is one of ours, or that it may not be. */
void vsk_note(int fd);
void vsk_forget(int fd);

/* Begin: sockets are below (dir), and there may be some among the descriptors that exec() has left. */
void vsk_start(const char *dir);

/*
 * Is this the child of a vfork(), which shares its parent's memory but not its descriptors?
 * Then what happens to descriptors is not to be remembered.
 */
bool vsk_in_vfork(void);

typedef sigset_t vsk_saved;
void vsk_lock(vsk_saved *saved);
void vsk_unlock(const vsk_saved *saved);

/* What this process knows of (fd); NULL: nothing, and not (create) or no room. Lock held. */
struct vsk_local *vsk_local(int fd, bool create);

/* A descriptor of (fd)'s socket is about to be closed: that is forgotten first. */
void vsk_stale(int fd);

u64 vsk_now(void);

/* True once a socket of this process had VSK_CONNECTING, VSK_LOWAT, zerocopy. */
extern _Atomic bool vsk_had_connecting, vsk_had_lowat, vsk_had_zerocopy;

/* vsock_name.c */

int vsk_bind(int fd, u64 tag, const struct sockaddr *sa, socklen_t len);

/* Give (fd) a port, if it has none, before it connects to (cid):(port). */
int vsk_autobind(int fd, u64 tag, u32 cid, u32 port);

/* Bind (fd), a new socket, to the path of (addr) again. */
void vsk_rebind(int fd, const struct sockaddr_un *addr);

int vsk_sockname(int fd, u64 tag, struct sockaddr_vm *ret);
int vsk_peername(int fd, u64 tag, struct sockaddr_vm *ret);

/* The path of (cid), or of (port) of ours where (cid) is not a guest's. */
int vsk_path(struct sockaddr_un *ret, u32 cid, u32 port, bool seq);

/* The tag of a connection that was accepted from (addr). */
u64 vsk_accepted(u64 listener, const struct sockaddr_un *addr, socklen_t len);

/* Does the listener that (fd) is connected to take marked records? */
bool vsk_peer_marks(int fd);

/* True, with its path: (fd) is a socket of ours that was bound to a port. */
bool vsk_own_path(int fd, struct sockaddr_un *ret);

/* Remove the file of a bound socket if nobody holds that any more. */
void vsk_remove_dead(const struct sockaddr_un *addr);

/* close() of a socket of ours, which removes that file too. */
int vsk_close(int fd);

/* vsock_connect.c */

/* A descriptor for a socket of (type), with its flags, or -errno. */
int vsk_socket(int type, int protocol);

int vsk_connect(int fd, u64 tag, const struct sockaddr *sa, socklen_t len);
int vsk_accept(int fd, u64 tag, struct sockaddr *sa, socklen_t *len, int flags);
int vsk_listen(int fd, u64 tag, int backlog);
int vsk_shutdown(int fd, u64 tag, int how);

/*
 * Go on with a connect() that has not ended, waiting for (wait) ns at most. 0 with the new
 * tag: connected; -EAGAIN: not yet; else it has failed, and (fd) may try again.
 */
int vsk_finish(int fd, u64 *tag, u64 wait);

/* The same without waiting, for poll(): an error is kept for getsockopt(SO_ERROR). */
int vsk_finish_later(int fd, u64 *tag);

/* When a connect() of (fd) times out, in ns; 0: it does not. */
u64 vsk_deadline(int fd);

/* Copy an address out as the kernel does. */
int vsk_give_name(const struct sockaddr_vm *vm, struct sockaddr *sa, socklen_t *len);

/* vsock_io.c */

ssize_t vsk_send(int fd, u64 tag, const struct msghdr *msg, int flags);
ssize_t vsk_recv(int fd, u64 tag, struct msghdr *msg, int flags);

/* vsock_zerocopy.c */

/* A send with MSG_ZEROCOPY of (bytes) has been done. */
void vsk_zc_done(int fd, bool copied);
bool vsk_zc_pending(int fd);
ssize_t vsk_zc_recv(int fd, struct msghdr *msg);

/* vsock_option.c */

int vsk_setsockopt(int fd, u64 tag, int level, int name, const void *value, socklen_t len);
int vsk_getsockopt(int fd, u64 tag, int level, int name, void *value, socklen_t *len);

/* True if it is an ioctl of vsock's, with the result in (rc). */
bool vsk_ioctl(int fd, unsigned long request, unsigned long arg, int *rc);

/* Bytes that can be read. */
int vsk_readable(int fd);

/* vsock_poll.c */

/* ppoll() over descriptors of which some are ours. */
int vsk_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);

/* What to ask the kernel for in the place of (events), to be able to put right what it says. */
short vsk_poll_ask(u64 tag, short events);

/*
 * Put right what the kernel says of (fd), asked as above. Ends a connect() that can end. True:
 * the kernel said something, and there is nothing to say; it would say so again at once.
 */
bool vsk_poll_fix(int fd, short events, short *revents);

/* What AF_VSOCK has to say that the kernel does not know of: an error, a completion. */
short vsk_poll_own(int fd);

/* vsock_epoll.c */

int vsk_epoll_ctl(int ep, int op, int fd, struct epoll_event *event);
int vsk_epoll_wait(int ep, struct epoll_event *events, int max, const struct timespec *timeout,
                   const sigset_t *mask);

/* Has this process put sockets of ours into sets? */
bool vsk_epoll_used(void);

/* (fd) has begun or ended a connect(): what the kernel watches changes. */
void vsk_epoll_update(int fd);

/* Descriptors (first) to (last) are about to be closed. */
void vsk_epoll_forget(int first, int last);
