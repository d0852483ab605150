// SPDX-License-Identifier: MIT
// Running VMs and how to reach them: the runtime directory, one socket a VM, messages over it.
#pragma once

#include "base/types.h"

#include <limits.h>

/*
 * The directory is $XDG_RUNTIME_DIR/uvirt, or /tmp/uvirt-UID; mode 0700 and its user's own. A VM called ID listens on
 * ID.sock there, SOCK_SEQPACKET; each message is a line of text of at most RUNTIME_MESSAGE_MAX bytes, one of them with
 * a descriptor. A socket whose VM is gone refuses connections; whoever finds it removes it.
 *
 *   info                          -> "pid N", "cpus N", … one a line
 *   snapshot [stop] [compress]    with the file's descriptor -> "saved BYTES"; with stop, the VM stands
 *                                 still until "commit", and then ends, or goes on if the caller goes away
 *   stop SECONDS                  -> "stopping"; the VM keeps the connection until it has ended
 *   dump SNAPLEN                  -> packets (cli/dump.h), until the caller goes away
 *   anything that fails           -> "error SENTENCE"
 */
#define RUNTIME_MESSAGE_MAX 4096
#define RUNTIME_ID_MAX      32

/* The directory's path, made if (create). 0, or -errno with a sentence in (why). */
int runtime_dir(bool create, char path[PATH_MAX], char why[256]);

/* May this be the ID of a VM? */
bool runtime_id_ok(const char *id);

/*
 * Listen as (id), or as this process's number if (id) is NULL. The socket's path goes to (path), for unlink() at the
 * end. The descriptor, or -errno with a sentence: -EEXIST: another VM has it.
 */
int runtime_listen(const char *id, char path[PATH_MAX], char why[256]);

/* Connect to VM (id): the descriptor, or -errno; -ENOENT and -ECONNREFUSED: there is none. */
int runtime_connect(const char *id);

/*
 * Call (each) with every ID there is, running or not, in order. 0, or -errno: -ENOENT: there is no directory, so none
 * runs.
 */
int runtime_each(void (*each)(void *opaque, const char *id), void *opaque);

/* Remove the socket of a VM that is gone. */
void runtime_forget(const char *id);

/* One message; (fd) goes with it unless it is -1. 0 or -errno. */
int runtime_send(int conn, int fd, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * The next message into (text), and the descriptor that came with it, or -1, into (fd) (NULL: none is wanted). (ms): how
 * long to wait for it, -1 for ever. Its length, 0 at the other's end, -errno; -ETIMEDOUT.
 */
int runtime_receive(int conn, int ms, char text[RUNTIME_MESSAGE_MAX], int *fd);
