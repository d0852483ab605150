// SPDX-License-Identifier: MIT
// The value of `--vsock`: the guest's CID, where the host's side of its connections is, and the framing.
#pragma once

#include "base/types.h"

#define RUN_VSOCK_FORM "cid=N[,path=P][,framing=eom|marker][,dump=F]"

struct run_vsock {
    u32 cid; /* 0: no --vsock was given */
    char *path;
    bool marker;
    char *dump; /* file for a capture of all packets, or NULL */
};

/* What (value) says. 0, -ENOMEM, or -EINVAL with a reason in (why) or none. */
int run_vsock_parse(struct run_vsock *v, const char *value, const char **why);
void run_vsock_free(struct run_vsock *v);

struct uvirt_vsock;

/* For --stats: what passed over each connection, and over all. NULL: nothing. */
void run_vsock_print_stats(struct uvirt_vsock *v);
