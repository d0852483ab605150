// SPDX-License-Identifier: MIT
// virtio-console's control queues (virtio 5.3.6.2): adding, naming, opening and resizing ports.

/*
 * Theory of operation
 *
 * What is to be told to the driver is kept as one bit per port and kind, not as a list of
 * messages: a driver that gives no buffers, or that asks again and again, costs no memory.
 * The value of an OPEN or RESIZE message is read when it is sent, so the last state wins.
 *
 * Start-up: DEVICE_READY from the driver → ADD for every port; PORT_READY of a port →
 * CONSOLE if it is one, RESIZE if known, NAME, OPEN if the host's end is open.
 */
#include "virtio/console_priv.h"

#include <errno.h>
#include <string.h>

/*
 * A RESIZE message as drivers read it: rows first, though the standard's text has cols
 * first; Linux and other devices agree on this order.
 */
struct resize {
    u16 rows, cols;
};

/* Put message (event) of port (p) into (ch). 0 or -EPROTO (the buffer is too small). */
static int put_message(struct console *c, struct console_port *p, enum console_event event,
                       struct virtq_chain *ch)
{
    struct virtio_console_control m = {.id = p - c->ports, .value = 1};
    struct resize size = {.rows = p->rows, .cols = p->cols};
    const void *extra = NULL;
    size_t extra_len = 0;
    int rc;

    switch (event) {
    case CONSOLE_EVENT_ADD:
        m.event = VIRTIO_CONSOLE_PORT_ADD;
        break;
    case CONSOLE_EVENT_CONSOLE:
        m.event = VIRTIO_CONSOLE_CONSOLE_PORT;
        break;
    case CONSOLE_EVENT_RESIZE:
        m.event = VIRTIO_CONSOLE_RESIZE;
        extra = &size;
        extra_len = sizeof(size);
        break;
    case CONSOLE_EVENT_NAME:
        m.event = VIRTIO_CONSOLE_PORT_NAME;
        extra = p->name;
        extra_len = strlen(p->name);
        break;
    default:
        m.event = VIRTIO_CONSOLE_PORT_OPEN;
        m.value = p->host_open;
        break;
    }
    rc = virtq_in(ch, &m, sizeof(m));
    return rc ? rc : virtq_in(ch, extra, extra_len);
}

/* Send what waits of one port. 1: all sent; 0: no buffers; -EPROTO. */
static int flush_port(struct console *c, struct console_port *p, struct virtq *q, bool *sent)
{
    for (unsigned e = 0; e < CONSOLE_EVENT_COUNT; e++) {
        int rc;

        if (!(p->events & BIT(e)))
            continue;
        rc = virtq_pop(q, &c->scratch);
        if (rc <= 0)
            return rc;
        p->events &= ~BIT(e);
        rc = put_message(c, p, e, &c->scratch);
        if (!rc)
            rc = virtq_push(q, &c->scratch);
        if (rc)
            return rc;
        *sent = true;
    }
    return 1;
}

static bool anything_to_send(const struct console *c)
{
    for (unsigned i = 0; i < c->nr_ports; i++) {
        if (c->ports[i].events)
            return true;
    }
    return false;
}

void console_control_rx(struct console *c)
{
    struct virtq *q = &c->dev.queues[CONSOLE_CONTROL_RX];
    bool sent = false;
    int rc = 1;

    if (!virtio_device_live(&c->dev))
        return;
    do {
        for (unsigned i = 0; i < c->nr_ports && rc > 0; i++)
            rc = flush_port(c, &c->ports[i], q, &sent);
        if (rc < 0) {
            virtio_device_fail(&c->dev);
            return;
        }
        rc = 1;
    } while (anything_to_send(c) && virtq_enable_notify(q));
    if (sent)
        virtio_device_used(&c->dev, q);
}

void console_send(struct console *c, struct console_port *p, enum console_event event)
{
    if (!virtio_device_has(&c->dev, VIRTIO_CONSOLE_F_MULTIPORT))
        return;
    p->events |= BIT(event);
    console_control_rx(c);
}

static void port_ready(struct console *c, struct console_port *p)
{
    p->guest_ready = true;
    if (p->is_console)
        p->events |= BIT(CONSOLE_EVENT_CONSOLE) | (p->sized ? BIT(CONSOLE_EVENT_RESIZE) : 0);
    if (p->name[0])
        p->events |= BIT(CONSOLE_EVENT_NAME);
    if (p->host_open)
        p->events |= BIT(CONSOLE_EVENT_OPEN);
    console_control_rx(c);
    console_room(p);
}

/* A message of the driver's; one that makes no sense is ignored. */
static void message(struct console *c, const struct virtio_console_control *m)
{
    struct console_port *p = console_port(c, m->id);

    switch (m->event) {
    case VIRTIO_CONSOLE_DEVICE_READY:
        for (unsigned i = 0; m->value && i < c->nr_ports; i++)
            c->ports[i].events |= BIT(CONSOLE_EVENT_ADD);
        console_control_rx(c);
        break;
    case VIRTIO_CONSOLE_PORT_READY:
        if (p && m->value)
            port_ready(c, p);
        break;
    case VIRTIO_CONSOLE_PORT_OPEN:
        if (p)
            console_guest_open(c, p, m->value);
        break;
    default:
        break;
    }
}

void console_control_tx(struct console *c)
{
    struct virtq *q = &c->dev.queues[CONSOLE_CONTROL_TX];
    struct virtio_console_control m;
    int rc;

    do {
        while ((rc = virtq_pop(q, &c->scratch)) > 0) {
            bool whole = !virtq_out(&c->scratch, &m, sizeof(m));

            rc = virtq_push(q, &c->scratch);
            if (rc)
                break;
            if (whole)
                message(c, &m); /* uses (scratch) itself */
            if (!virtio_device_live(&c->dev))
                return;
        }
        if (rc) {
            virtio_device_fail(&c->dev);
            return;
        }
    } while (virtq_enable_notify(q));
    virtio_device_used(&c->dev, q);
}
