// SPDX-License-Identifier: MIT
// virtio-console (virtio 5.3): a console and named byte streams between guest and host.
#pragma once

#include "virtio/device.h"

/*
 * A device has 1 … VIRTIO_CONSOLE_PORTS_MAX ports. In the guest a port is /dev/hvcN
 * (is_console) or /dev/vportNpM with its name in /sys/class/virtio-ports/vportNpM/name.
 * Each port is a byte stream each way, with back-pressure in both directions:
 *
 *   guest → host: (output) is called with what the guest wrote and returns how much of it
 *       was taken. If less than all, the rest stays in the guest's ring until
 *       virtio_console_resume(); a guest that goes on writing blocks.
 *   host → guest: virtio_console_write() takes as much as the guest has room for. After it
 *       took less than all, (writable) is called once there is room again.
 *
 * A driver without VIRTIO_CONSOLE_F_MULTIPORT sees port 0 alone.
 * Both calls and callbacks happen with the device lock held. A callback may call the
 * functions below for any port.
 */

#define VIRTIO_CONSOLE_PORTS_MAX 16

struct virtio_console_port_ops {
    /* The guest wrote (data): return how many bytes were taken, 0 … len. Required. */
    size_t (*output)(void *opaque, const void *data, size_t len);
    /* There is room for virtio_console_write() again; may be NULL. */
    void (*writable)(void *opaque);
    /* A program in the guest opened or closed the port; may be NULL. */
    void (*guest_open)(void *opaque, bool open);
};

struct virtio_console_port_config {
    const char *name; /* at most 63 bytes, copied; NULL for none */
    bool is_console;  /* a terminal (/dev/hvcN), not a plain stream */
    const struct virtio_console_port_ops *ops;
    void *opaque; /* passed to (ops) */
};

/*
 * Make a console with (nr_ports) ports; port numbers are indices into (ports). The host's
 * end of every port is open at first. 0, -EINVAL or -ENOMEM.
 */
int virtio_console_create(const struct virtio_console_port_config *ports, unsigned nr_ports,
                          struct virtio_device **ret);

/*
 * Bytes from the host for port (port): returns how many were taken. 0 while the driver has
 * no port or no buffers; bytes for a plain port that no program has open are not taken
 * either. (writable) follows if it was less than (len).
 */
size_t virtio_console_write(struct virtio_device *d, unsigned port, const void *data, size_t len);

/* (output) can take bytes again: offer what waits in the guest's ring. */
void virtio_console_resume(struct virtio_device *d, unsigned port);

/* True if bytes of the guest wait for virtio_console_resume(). */
bool virtio_console_stalled(struct virtio_device *d, unsigned port);

/*
 * Open or close the host's end. A guest program reading a closed port gets what was written
 * before and then end of file; one writing to it blocks (Linux).
 */
void virtio_console_set_open(struct virtio_device *d, unsigned port, bool open);

/* True if a program in the guest has the port open (always for a console port that is ready). */
bool virtio_console_guest_open(struct virtio_device *d, unsigned port);

/* The terminal behind console port (port) has this size now. */
void virtio_console_resize(struct virtio_device *d, unsigned port, u16 cols, u16 rows);
