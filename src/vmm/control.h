// SPDX-License-Identifier: MIT
// What `uvirt run` and the init in its guest say to each other over virtio-console ports.
#pragma once

#include <stdint.h>

/*
 * Four ports of one virtio-console device, known by these names. The control port carries
 * messages of fixed size, both ways; the others are the command's streams.
 */
#define CONTROL_PORT        "uvirt.control"
#define CONTROL_PORT_STDIN  "uvirt.stdin"
#define CONTROL_PORT_STDOUT "uvirt.stdout"
#define CONTROL_PORT_STDERR "uvirt.stderr"

enum control_type {
    /* host to guest */
    CONTROL_SIGNAL = 1,  /* a: signal number, for the command's process group */
    CONTROL_WINSIZE = 2, /* a: columns, b: rows */
    CONTROL_HANGUP = 3,  /* a: 1 or 2: nobody reads this stream any more */
    /* guest to host */
    CONTROL_STARTED = 16, /* the command runs */
    CONTROL_EXITED = 17,  /* a: exit status as a shell has it (128 + signal); all output was sent */
    CONTROL_FAILED = 18,  /* the command could not be executed; a: errno */
};

struct control_message {
    uint32_t type, a, b;
};
_Static_assert(sizeof(struct control_message) == 12, "the same on both sides");
