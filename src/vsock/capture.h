// SPDX-License-Identifier: MIT
// Captures of the packets between host and guests, as Linux's vsockmon devices give it, in pcap's format.
#pragma once

#include "uvirt/vsock.h"
#include "vsock/packet.h"

/* Link type 271 (LINKTYPE_VSOCK): tcpdump and Wireshark read it. */

#define VSOCK_CAPTURE_HEADERS 76u /* vsockmon's and virtio-vsock's, of each packet */
#define VSOCK_CAPTURE_WHOLE   (VSOCK_CAPTURE_HEADERS + VSOCK_PAYLOAD_MAX)

struct vsock_capture;

/*
 * Write every packet that devices of (v) send or receive from now on to the file (path), which
 * is made anew. 0 or -errno; -EBUSY: there is one already. It ends with the context; what could not be written is lost.
 */
int vsock_capture_start(struct uvirt_vsock *v, const char *path);

/*
 * Send them, up to (snaplen) bytes of each (VSOCK_CAPTURE_HEADERS to VSOCK_CAPTURE_WHOLE), to a SOCK_SEQPACKET socket:
 * first a record with pcap's file header, then one for each packet: a u64, how many had to be dropped before it because the
 * socket was full, and pcap's record. It ends when the other end is closed. 0, and then (fd) is taken, or -errno; -EBUSY:
 * too many.
 */
int vsock_capture_attach(struct uvirt_vsock *v, int fd, u32 snaplen);

/* Called by the core, with the context's lock: a packet passes; the end of all captures. NULL is fine. */
void vsock_capture_packet(struct vsock_capture *list, const struct vsock_pkt *p);
void vsock_capture_free(struct vsock_capture *list);
