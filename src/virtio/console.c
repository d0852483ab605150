// SPDX-License-Identifier: MIT
// virtio-console: the byte streams of its ports, and the device as a whole.

/*
 * Theory of operation
 *
 * Guest → host: pump() offers the chains of the transmit queue to (output) in order. A
 * chain that is not taken whole stays in (tx) with its position, and the queue stands
 * still until virtio_console_resume(). Host → guest: virtio_console_write() fills chains
 * of the receive queue; if they run out it remembers so in (want_room), and the next kick
 * of that queue, or the port becoming usable, calls (writable) once.
 *
 * Callbacks may call back into the device, for the same port too: no chain is open in
 * (scratch) while one runs, and pump() does not nest.
 */
#include "virtio/console.h"
#include "virtio/console_priv.h"
#include "virtio/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 128

struct console_port *console_port(struct console *c, unsigned n)
{
    return n < c->nr_ports ? &c->ports[n] : NULL;
}

static bool multiport(const struct console *c)
{
    return virtio_device_has(&c->dev, VIRTIO_CONSOLE_F_MULTIPORT);
}

struct virtq *console_rx(struct console *c, const struct console_port *p)
{
    unsigned n = p - c->ports;

    return &c->dev.queues[n ? 2 * n + 2 : 0];
}

struct virtq *console_tx(struct console *c, const struct console_port *p)
{
    return console_rx(c, p) + 1;
}

/* The driver knows the port. */
static bool usable(const struct console *c, const struct console_port *p)
{
    return virtio_device_live(&c->dev) && (multiport(c) ? p->guest_ready : p == &c->ports[0]);
}

void console_room(struct console_port *p)
{
    if (!p->want_room)
        return;
    p->want_room = false;
    if (p->ops->writable)
        p->ops->writable(p->opaque);
}

void console_guest_open(struct console *c, struct console_port *p, bool open)
{
    if (p->guest_open == open)
        return;
    p->guest_open = open;
    if (p->ops->guest_open)
        p->ops->guest_open(p->opaque, open);
    if (open)
        console_room(p);
}

/* Offer the rest of p->tx. True if (output) took it all. */
static bool offer(struct console_port *p)
{
    struct iovec v;

    while (virtq_out_iov(&p->tx, UINT64_MAX, &v, 1)) {
        size_t took = p->ops->output(p->opaque, v.iov_base, v.iov_len);

        if (took > v.iov_len)
            took = v.iov_len;
        virtq_out_skip(&p->tx, took);
        if (took < v.iov_len)
            return false;
    }
    return true;
}

static void pump(struct console *c, struct console_port *p)
{
    struct virtq *q = console_tx(c, p);
    bool used = false;
    int rc = 0;

    if (p->pumping || !usable(c, p))
        return;
    p->pumping = true;
    do {
        while (p->tx_held || (rc = virtq_pop(q, &p->tx)) > 0) {
            p->tx_held = true;
            if (!offer(p))
                goto stalled;
            p->tx_held = false;
            rc = virtq_push(q, &p->tx);
            if (rc)
                break;
            used = true;
        }
    } while (!rc && virtq_enable_notify(q));
    if (rc)
        virtio_device_fail(&c->dev);
stalled:
    p->pumping = false;
    if (used)
        virtio_device_used(&c->dev, q);
}

static void console_notify(struct virtio_device *d, unsigned q)
{
    struct console *c = console_of(d);
    struct console_port *p;

    if (multiport(c) && q == CONSOLE_CONTROL_RX) {
        console_control_rx(c);
    } else if (multiport(c) && q == CONSOLE_CONTROL_TX) {
        console_control_tx(c);
    } else {
        p = console_port(c, q < 2 ? 0 : q / 2 - 1);
        if (!p || !usable(c, p))
            return;
        if (q & 1)
            pump(c, p);
        else
            console_room(p);
    }
}

size_t virtio_console_write(struct virtio_device *d, unsigned port, const void *data, size_t len)
{
    struct console *c = console_of(d);
    struct console_port *p = console_port(c, port);
    const u8 *from = data;
    struct virtq *q;
    size_t done = 0;
    int rc = 0;

    if (!p || !len)
        return 0;
    q = console_rx(c, p);
    while (usable(c, p) && (p->guest_open || !multiport(c)) && done < len) {
        size_t n = len - done;

        rc = virtq_pop(q, &c->scratch);
        if (!rc && virtq_enable_notify(q))
            continue;
        if (rc <= 0)
            break;
        if (n > c->scratch.in.left)
            n = c->scratch.in.left;
        rc = virtq_in(&c->scratch, from + done, n);
        if (!rc)
            rc = virtq_push(q, &c->scratch);
        if (rc)
            break;
        done += n;
    }
    if (rc < 0)
        virtio_device_fail(d);
    p->want_room = done < len;
    if (done)
        virtio_device_used(d, q);
    return done;
}

void virtio_console_resume(struct virtio_device *d, unsigned port)
{
    struct console *c = console_of(d);
    struct console_port *p = console_port(c, port);

    if (p)
        pump(c, p);
}

bool virtio_console_stalled(struct virtio_device *d, unsigned port)
{
    struct console_port *p = console_port(console_of(d), port);

    return p && p->tx_held && !p->pumping;
}

void virtio_console_set_open(struct virtio_device *d, unsigned port, bool open)
{
    struct console *c = console_of(d);
    struct console_port *p = console_port(c, port);

    if (!p || p->host_open == open)
        return;
    p->host_open = open;
    if (p->guest_ready)
        console_send(c, p, CONSOLE_EVENT_OPEN);
}

bool virtio_console_guest_open(struct virtio_device *d, unsigned port)
{
    struct console *c = console_of(d);
    struct console_port *p = console_port(c, port);

    return p && usable(c, p) && (p->guest_open || !multiport(c));
}

void virtio_console_resize(struct virtio_device *d, unsigned port, u16 cols, u16 rows)
{
    struct console *c = console_of(d);
    struct console_port *p = console_port(c, port);

    if (!p)
        return;
    p->sized = true;
    p->cols = cols;
    p->rows = rows;
    if (port == 0) {
        c->config.cols = cols;
        c->config.rows = rows;
        if (!multiport(c))
            virtio_device_config_changed(d);
    }
    if (p->guest_ready && p->is_console)
        console_send(c, p, CONSOLE_EVENT_RESIZE);
}

static void console_reset(struct virtio_device *d)
{
    struct console *c = console_of(d);

    for (unsigned i = 0; i < c->nr_ports; i++) {
        struct console_port *p = &c->ports[i];

        p->events = 0;
        p->guest_ready = false;
        p->tx_held = false;
        console_guest_open(c, p, false);
    }
}

static void console_config_read(struct virtio_device *d, u32 off, void *buf, u32 len)
{
    struct console *c = console_of(d);

    virtio_config_copy(buf, off, len, &c->config, sizeof(c->config));
}

/* emerg_wr: one character, from a guest whose driver may not be up (virtio 5.3.4). */
static void console_config_write(struct virtio_device *d, u32 off, const void *buf, u32 len)
{
    struct console_port *p = &console_of(d)->ports[0];

    if (off == offsetof(struct virtio_console_config, emerg_wr) && len && !p->pumping)
        p->ops->output(p->opaque, buf, 1); /* there is nowhere to keep what is not taken */
}

static void port_state(struct console *c, struct console_port *p, struct state *s)
{
    STATE_BOOL(s, p->host_open);
    STATE_BOOL(s, p->sized);
    STATE(s, p->cols);
    STATE(s, p->rows);
    STATE_BOOL(s, p->guest_ready);
    STATE_BOOL(s, p->guest_open);
    STATE(s, p->events);
    STATE_CHECK(s, p->events < BIT(CONSOLE_EVENT_COUNT), p->events);
    STATE_BOOL(s, p->want_room);
    STATE_BOOL(s, p->tx_held);
    if (p->tx_held)
        virtq_chain_state(&p->tx, console_tx(c, p), s);
}

static void console_state(struct virtio_device *d, struct state *s)
{
    struct console *c = console_of(d);
    u32 nr_ports = c->nr_ports;

    STATE(s, nr_ports);
    STATE_CHECK(s, nr_ports == c->nr_ports, nr_ports);
    STATE(s, c->config.cols);
    STATE(s, c->config.rows);
    for (unsigned i = 0; i < c->nr_ports && !s->error; i++)
        port_state(c, &c->ports[i], s);
}

static void console_free(struct virtio_device *d)
{
    virtio_device_fini(d);
    free(console_of(d));
}

static const struct virtio_device_ops console_ops = {
    .id = VIRTIO_ID_CONSOLE,
    .reset = console_reset,
    .notify = console_notify,
    .config_read = console_config_read,
    .config_write = console_config_write,
    .state = console_state,
    .free = console_free,
};

int virtio_console_create(const struct virtio_console_port_config *ports, unsigned nr_ports,
                          struct virtio_device **ret)
{
    u64 features = BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_MULTIPORT) |
                   BIT(VIRTIO_CONSOLE_F_EMERG_WRITE);
    struct console *c;
    int rc;

    if (!nr_ports || nr_ports > VIRTIO_CONSOLE_PORTS_MAX)
        return -EINVAL;
    c = calloc(1, sizeof(*c) + nr_ports * sizeof(c->ports[0]));
    if (!c)
        return -ENOMEM;
    rc = virtio_device_init(&c->dev, &console_ops, 2 * nr_ports + 2, QUEUE_SIZE, features);
    if (rc)
        goto err_free;
    c->config.max_nr_ports = nr_ports;
    c->nr_ports = nr_ports;
    for (unsigned i = 0; i < nr_ports; i++) {
        struct console_port *p = &c->ports[i];

        rc = -EINVAL;
        if (!ports[i].ops || !ports[i].ops->output ||
            (ports[i].name && strlen(ports[i].name) > CONSOLE_NAME_MAX))
            goto err_fini;
        p->ops = ports[i].ops;
        p->opaque = ports[i].opaque;
        p->is_console = ports[i].is_console;
        p->host_open = true;
        if (ports[i].name)
            strcpy(p->name, ports[i].name);
    }
    *ret = &c->dev;
    return 0;

err_fini:
    virtio_device_fini(&c->dev);
err_free:
    free(c);
    return rc;
}
