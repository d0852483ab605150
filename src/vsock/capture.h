// SPDX-License-Identifier: MIT
// A capture of the packets between host and guests, as Linux's vsockmon devices give it, in a pcap file.
#pragma once

#include "uvirt/vsock.h"
#include "vsock/packet.h"

struct vsock_capture;

/*
 * Write every packet that devices of (v) send or receive from now on to the file (path), which
 * is made anew. Link type 271 (LINKTYPE_VSOCK): tcpdump and Wireshark read it. 0 or -errno;
 * -EBUSY: there is one already. It ends with the context; what could not be written is lost.
 */
int vsock_capture_start(struct uvirt_vsock *v, const char *path);

/* Called by the core, with the context's lock: a packet passes; the end. NULL is fine. */
void vsock_capture_packet(struct vsock_capture *c, const struct vsock_pkt *p);
void vsock_capture_free(struct vsock_capture *c);
