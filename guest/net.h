// SPDX-License-Identifier: MIT
// The guest's network: loopback, and the interface of `uvirt run --net user`.
#pragma once

/* Bring loopback up; a kernel without networks has none. */
void net_loopback_up(void);

/*
 * Give the first network card the addresses of src/vmm/usernet.h, routes, and, if there is no
 * /etc/resolv.conf, a name server. Returns what could not be done, with errno, or NULL.
 */
const char *net_user_up(void);
