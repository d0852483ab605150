// SPDX-License-Identifier: MIT
// The network of `--net user`: libslirp's router between a virtio-net device and this host's sockets.
#pragma once

#include "virtio/device.h"
#include "vmm/error.h"

#include <netinet/in.h>
#include <pthread.h>

/*
 * What the guest sees, the same numbers that QEMU's user network has:
 *
 *   10.0.2.0/24   guest 10.0.2.15 (DHCP), router and this host 10.0.2.2, DNS 10.0.2.3
 *   fec0::/64     guest fec0::5054:ff:fe12:3456 (from its MAC), router and this host fec0::2,
 *                 DNS fec0::3
 *
 * TCP and UDP to 10.0.2.2 and fec0::2 go to this host's 127.0.0.1 and ::1; everything else goes
 * where this host's sockets can reach.
 */
#define USERNET_GUEST6 "fec0::5054:ff:fe12:3456"

struct usernet_forward {
    bool udp;
    union usernet_address {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } host, guest; /* of one family; guest address 0: the one above */
};

struct usernet_options {
    bool restricted; /* the guest reaches nothing but what comes in through (forwards) */
    const struct usernet_forward *forwards;
    unsigned nr_forwards;
};

struct usernet;

/* A network and the device for vm_add_virtio(). 0, or -ENOMEM or the like, with a sentence. */
int usernet_create(const struct usernet_options *o, struct usernet **ret,
                   struct virtio_device **ret_dev, struct vmm_error *err);

/*
 * Listen on the forwarded ports and start to carry frames, in a thread that takes (lock), the
 * device lock. 0; or -errno with a sentence, and (ret_bad) is the forward it is about, or nr_forwards.
 */
int usernet_start(struct usernet *u, pthread_mutex_t *lock, unsigned *ret_bad,
                  struct vmm_error *err);

/* After vm_stop(), before vm_free(): the device must not be used any more. NULL is fine. */
void usernet_free(struct usernet *u);
