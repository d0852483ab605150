// SPDX-License-Identifier: MIT
// What console.c (byte streams) and console_control.c (port management) share.
#pragma once

#include "virtio/console.h"

#include <linux/virtio_console.h>

#define CONSOLE_NAME_MAX 63

/* Queues (virtio 5.3.2): port 0 has 0 and 1, control has 2 and 3, port n has 2n+2 and 2n+3. */
#define CONSOLE_CONTROL_RX 2
#define CONSOLE_CONTROL_TX 3

/* Control messages that wait for a buffer of the driver's, one bit each, in sending order. */
enum console_event {
    CONSOLE_EVENT_ADD,
    CONSOLE_EVENT_CONSOLE,
    CONSOLE_EVENT_RESIZE,
    CONSOLE_EVENT_NAME,
    CONSOLE_EVENT_OPEN,
    CONSOLE_EVENT_COUNT,
};

struct console_port {
    const struct virtio_console_port_ops *ops;
    void *opaque;
    bool is_console;
    char name[CONSOLE_NAME_MAX + 1];

    bool host_open;
    bool sized; /* (cols) and (rows) are known */
    u16 cols, rows;

    /* Since the last reset of the device: */
    bool guest_ready, guest_open;
    u32 events;     /* BIT(enum console_event): to be sent */
    bool want_room; /* a virtio_console_write() was cut short */
    bool pumping;   /* inside (output) */
    bool tx_held;   /* (tx) is a chain that (output) has not taken whole */
    struct virtq_chain tx;
};

struct console {
    struct virtio_device dev;
    struct virtio_console_config config;
    unsigned nr_ports;
    struct virtq_chain scratch; /* for control messages and input */
    struct console_port ports[];
};

static inline struct console *console_of(struct virtio_device *d)
{
    return container_of(d, struct console, dev);
}

/* Port (n), or NULL. */
struct console_port *console_port(struct console *c, unsigned n);

/* The port's queues. */
struct virtq *console_rx(struct console *c, const struct console_port *p);
struct virtq *console_tx(struct console *c, const struct console_port *p);

/* The guest has (un)opened the port, or is ready for it: tell its owner. */
void console_guest_open(struct console *c, struct console_port *p, bool open);
void console_room(struct console_port *p);

/* Have (event) of port (p) sent, now or when the driver gives a buffer. */
void console_send(struct console *c, struct console_port *p, enum console_event event);

/* The control queues were kicked. */
void console_control_rx(struct console *c);
void console_control_tx(struct console *c);
