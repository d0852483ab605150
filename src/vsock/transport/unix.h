// SPDX-License-Identifier: MIT
// The host's side of a guest's connections on Unix sockets: names, handshakes, bytes and records.
#pragma once

#include "base/types.h"
#include "uvirt/vsock.h"

/*
 * One of these stands beside each device (transport/device.h) whose guest is to be reached
 * through the file system. It has a thread of its own, with one epoll loop. docs/vsock.md has
 * the contract of names and handshakes. Order of things:
 *
 *     uvirt_vsock_create -> vsock_unix_create -> the device, with kick = vsock_unix_kick
 *         -> ... -> vsock_unix_stop -> the device's end -> vsock_unix_free -> uvirt_vsock_free
 *
 * Sockets that this process itself has bound in the context come first: a port with a
 * listener there is not looked for in the file system.
 *
 * Locks: the thread's own state has none; what it shares with the core is under the context's
 * lock, which it never holds while it reads or writes a file or calls (pump).
 */
struct vsock_unix;

#define VSOCK_UNIX_PATH_MAX   86 /* bytes of PATH: names built on it must fit into sun_path */
#define VSOCK_UNIX_WHY        320
#define VSOCK_UNIX_SEQPACKET  "_seqpacket"
#define VSOCK_UNIX_FRAMED     "_framed"
#define VSOCK_UNIX_PEER_NAME  "uvirt-vsock/" /* after a NUL: <cid>:<port>/<random hex> */
#define VSOCK_UNIX_HANDSHAKES 128            /* connections under way at a time, at most */

struct vsock_unix_config {
    u32 guest_cid;

    /*
     * The base of all names; a directory that exists stands for DIR/<guest_cid>, and the
     * guest then reaches the other guests of that directory. NULL: the guest reaches the
     * sockets of this process only.
     */
    const char *path;

    bool marker; /* the device speaks marker framing: there is no framed mode then */

    /*
     * Move packets between core and rings, if the caller has no thread for that. Called on
     * the bridge's thread, no lock held, after vsock_unix_kick(). May be NULL.
     */
    void (*pump)(void *opaque);

    /* The thread is about to wait, having called (pump). True: it is to be called again. May be NULL. */
    bool (*rest)(void *opaque);
    void *opaque;

    u32 handshake_ms; /* how long a client may take to say CONNECT, or a peer to answer; 0: 20 s */
};

/*
 * Bind the listeners and start the thread. 0, or -errno with a sentence in (why) that names
 * the path: -EINVAL (a CID no guest can have), -ENAMETOOLONG, -EADDRINUSE (somebody listens
 * there), -EEXIST (a file that is no socket), or what the system said. A socket file that
 * nobody listens at any more is replaced.
 */
int vsock_unix_create(struct uvirt_vsock *v, const struct vsock_unix_config *config,
                      char why[VSOCK_UNIX_WHY], struct vsock_unix **ret);

/*
 * End the thread, its connections (the guest gets RST) and its files: (pump) is not called
 * any more. Then free it; nobody may call vsock_unix_kick() any more. NULL is fine.
 */
void vsock_unix_stop(struct vsock_unix *u);
void vsock_unix_free(struct vsock_unix *u);

/*
 * For a device's kick, with the struct vsock_unix as (opaque): have (pump) called soon. From
 * any thread, with the context's lock held or not.
 */
void vsock_unix_kick(void *opaque);
