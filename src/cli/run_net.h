// SPDX-License-Identifier: MIT
// The value of `--net`: the user network and its forwarded ports, written as QEMU's users write it.
#pragma once

#include "vmm/usernet.h"

#define RUN_NET_FORM     "user[,hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT]...[,restrict=on|off]"
#define RUN_FORWARDS_MAX 32

struct run_net {
    bool user; /* --net was given */
    bool restricted;
    struct usernet_forward forwards[RUN_FORWARDS_MAX];
    char *words[RUN_FORWARDS_MAX]; /* "hostfwd=..." as given, for error messages */
    unsigned nr_forwards;
};

/* Add what (value) says to (n). 0, -ENOMEM, or -EINVAL with a reason in (why) or none. */
int run_net_parse(struct run_net *n, const char *value, const char **why);
void run_net_free(struct run_net *n);
