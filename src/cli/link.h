// SPDX-License-Identifier: MIT
// The connection between a session and the init in its guest: accepted on vsock, lost, accepted again.
#pragma once

#include "uvirt/vsock.h"
#include "vmm/channel.h"

/*
 * Everything but (wake) happens in the thread that calls: it owns the channel. One connection at a time is served; it
 * must come from a port that only root may bind.
 */
struct link;

/*
 * Listen on CONTROL_PORT of (v) for (ch)'s other end. (wake) is called from any thread with the context's lock held
 * whenever link_run() has something to do: it may only signal. 0, -EADDRINUSE or -ENOMEM.
 */
int link_create(struct uvirt_vsock *v, struct channel *ch, void (*wake)(void *opaque), void *opaque,
                struct link **ret);

/* Accept, receive and send what there is, without waiting. True: there may be more to receive at once. */
bool link_run(struct link *l);

/* NULL is fine. */
void link_free(struct link *l);
