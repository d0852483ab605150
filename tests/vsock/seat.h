// SPDX-License-Identifier: MIT
// A guest for tests: an AF_VSOCK context whose transport drives a virtio-vsock device's rings.
#pragma once

#include "driver.h"
#include "pair.h"
#include "virtio/vsock.h"
#include "vsock/sock.h"

#define GUEST_CID 3
#define RX_SLOTS  4
#define SLOT_SIZE 0x11000 /* one of the largest packets */

struct seat {
    struct vsock_transport t; /* in (guest) */
    struct vsock_pkts queue;
    struct uvirt_vsock *host, *guest;
    struct virtio_device *dev;
    struct driver v;
    _Atomic bool kicked;
    unsigned tx_descs, rx_descs; /* descriptors of a packet */
    u32 rx_size;                 /* bytes of a buffer */
    unsigned rx_next, rx_posted, rx_slots;
};

/* Host and guest contexts, a device between them, its driver up with (features). (fake): clock. */
void seat_open(struct seat *s, bool marker, bool fake, u64 features);
void seat_close(struct seat *s);

/* Start the driver again, with this layout of descriptors. */
void seat_start(struct seat *s, u64 features, unsigned tx_descs, unsigned rx_descs, u32 rx_size);

/* Move packets between guest and device until nothing moves. */
void seat_run(struct seat *s);

/* Post rx buffers up to rx_slots. */
void seat_post(struct seat *s);

/* Send one packet's bytes as they are, split over (descs) descriptors. */
void seat_tx(struct seat *s, const void *bytes, size_t len, unsigned descs);
