// SPDX-License-Identifier: MIT
// Init's connection to uvirt: made at the start, and again whenever it is lost.
#pragma once

#include "vmm/channel.h"

/* Connect, or power off after 20 s of trying. */
void link_open(struct channel *c);

/* For poll(): readable when link_exchange() would receive something. It changes with every new connection. */
int link_fd(void);

/*
 * Receive what has come and send all that there is. May wait for the host to take it, which it always does at once: what
 * its readers do not want is bounded by the flows' windows. A connection that is lost is made anew.
 */
void link_exchange(struct channel *c);
