// SPDX-License-Identifier: MIT
// What `uvirt run` and the init in its guest say to each other: who calls where, and messages of flow CHANNEL_CONTROL.
#pragma once

#include <stdint.h>

/*
 * Init connects a vsock SEQPACKET socket to this port of CID 2, from a port that only root may bind, and both sides
 * speak channel.h's records over it. The ports from here on are uvirt's own: they are answered in its process, never
 * looked for in the file system, and their records travel in the standard's framing whatever `framing=` says.
 */
#define CONTROL_PORT            0xffffff00u
#define CONTROL_GUEST_PORTS_END 1024

enum control_type {
    /* host to guest */
    CONTROL_SIGNAL = 1,  /* a: signal number, for the command's process group */
    CONTROL_WINSIZE = 2, /* a: columns, b: rows */
    /* guest to host */
    CONTROL_STARTED = 16, /* the command runs */
    CONTROL_EXITED =
        17, /* a: exit status as a shell has it (128 + signal); flows with its output have ended, too */
    CONTROL_FAILED = 18,    /* the command could not be executed; a: errno */
    CONTROL_SIGNALLED = 19, /* it was sent the signal of a CONTROL_SIGNAL; a: which */
};

struct control_message {
    uint32_t type, a, b;
};
_Static_assert(sizeof(struct control_message) == 12, "the same on both sides");
