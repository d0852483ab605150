// SPDX-License-Identifier: MIT
// Names and first words of vsock on Unix sockets: paths, listeners, peer identity, CONNECT and OK.
#pragma once

#include "base/types.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* A listening socket and the file that it has. */
struct vsock_unix_listener {
    int fd; /* -1: none */
    dev_t dev;
    ino_t ino;
    struct sockaddr_un addr;
};

/*
 * Listen at (path), which fits into sun_path, non-blocking. 0 or -errno with a sentence in
 * (why), as vsock_unix_create().
 */
int vsock_unix_listen(const char *path, int type, struct vsock_unix_listener *l, char *why,
                      size_t why_size);

/* Close it and remove its file, if that is still its own. */
void vsock_unix_unlisten(struct vsock_unix_listener *l);

/*
 * Connect to (path) without waiting, from a socket that says that it is (cid):(port) and
 * takes marked records. 0 with
 * the descriptor, or -errno; -EAGAIN: the listener's backlog is full, try again later.
 */
int vsock_unix_dial(const char *path, int type, u32 cid, u32 port, int *ret);

/*
 * What a connected socket needs: room for large records, and credentials beside what it
 * receives, which tell an empty record from the end.
 */
void vsock_unix_prepare(int fd);

/*
 * Who the address of an accepted socket says it is: an abstract name, or the path DIR/./2_<port> of a program that
 * called bind() before connect(). 0, or -ENOENT: it does not say.
 */
int vsock_unix_peer(const struct sockaddr_un *addr, socklen_t len, u32 *cid, u32 *port);

/* Does an end with this address take marked records (unix_record.h)? */
bool vsock_unix_takes_marks(const struct sockaddr_un *addr, socklen_t len);

/* The longest first line: "CONNECT " in any case, blanks, a port, "\n". */
#define VSOCK_UNIX_LINE 32

/* The port of "CONNECT <port>" or "OK <port>"; without the "\n". 0 or -EINVAL. */
int vsock_unix_parse_connect(const char *line, size_t len, u32 *port);
int vsock_unix_parse_ok(const char *line, size_t len, u32 *port);
