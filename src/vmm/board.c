// SPDX-License-Identifier: MIT
// Which device a port or an address belongs to.
#include "vmm/board.h"
#include "base/state.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * vCPU threads come in through board_port() and board_mmio(), the program's own thread
 * through the virtio devices (console input). All of them hold the device lock, so a device
 * never sees two callers. A device raises interrupts with the lock held; the interrupt
 * chips of KVM never call back.
 */

#define PM1_SCI_ENABLE    BIT(0)
#define PM1_SLEEP_ENABLE  BIT(13)
#define PM1_SLEEP_TYPE(v) (((v) >> 10) & 7)
#define KBD_PULSE_RESET   0xfe
#define RESET_CPU         BIT(2) /* port 0xcf9 */

static void com1_irq(void *opaque, bool level)
{
    struct board *b = opaque;

    b->cfg.irq(b->cfg.irq_opaque, BOARD_IRQ_COM1, level);
}

static void com1_output(void *opaque, const void *data, size_t len)
{
    struct board *b = opaque;

    if (b->cfg.serial_output)
        b->cfg.serial_output(b->cfg.serial_opaque, data, len);
}

void board_init(struct board *b, const struct board_config *cfg)
{
    memset(b, 0, sizeof(*b));
    b->cfg = *cfg;
    b->pm1_control[0] = PM1_SCI_ENABLE; /* there is no legacy mode */
    pthread_mutex_init(&b->lock, NULL);
    serial8250_init(&b->com1, com1_irq, com1_output, b);
}

void board_fini(struct board *b)
{
    for (unsigned i = 0; i < b->nr_virtio; i++)
        virtio_mmio_free(b->virtio[i].transport);
    b->nr_virtio = 0;
    pthread_mutex_destroy(&b->lock);
}

static void virtio_irq(void *opaque, bool level)
{
    struct board_virtio *v = opaque;

    v->board->cfg.irq(v->board->cfg.irq_opaque, v->gsi, level);
}

int board_add_virtio(struct board *b, struct virtio_device *d)
{
    struct board_virtio *v = &b->virtio[b->nr_virtio];
    int rc;

    if (b->nr_virtio == BOARD_VIRTIO_MAX)
        return -ENOSPC;
    v->board = b;
    v->gsi = BOARD_IRQ_VIRTIO + b->nr_virtio;
    rc = virtio_mmio_create(d, b->cfg.mem, virtio_irq, v, &v->transport);
    if (rc)
        return rc;
    b->nr_virtio++;
    return 0;
}

/* PM1a: status and enable bits are plain storage (no event ever happens), status clears on 1. */
static void pm1_event_access(struct board *b, unsigned off, u8 *data, unsigned len, bool write)
{
    for (unsigned i = 0; i < len && off + i < sizeof(b->pm1_event); i++) {
        if (!write)
            data[i] = b->pm1_event[off + i];
        else if (off + i >= 2)
            b->pm1_event[off + i] = data[i];
    }
}

static enum board_request pm1_control_access(struct board *b, unsigned off, u8 *data, unsigned len,
                                             bool write)
{
    u16 v;

    for (unsigned i = 0; i < len && off + i < sizeof(b->pm1_control); i++) {
        if (write)
            b->pm1_control[off + i] = data[i];
        else
            data[i] = b->pm1_control[off + i];
    }
    memcpy(&v, b->pm1_control, sizeof(v));
    b->pm1_control[1] &= (u8) ~(PM1_SLEEP_ENABLE >> 8); /* write-only */
    b->pm1_control[0] |= PM1_SCI_ENABLE;
    if (write && (v & PM1_SLEEP_ENABLE) && PM1_SLEEP_TYPE(v) == BOARD_S5)
        return BOARD_POWER_OFF;
    return BOARD_NOTHING;
}

static enum board_request port_locked(struct board *b, u16 port, u8 *data, unsigned len, bool write)
{
    if (!write)
        memset(data, 0xff, len);
    if (port >= BOARD_COM1 && port < BOARD_COM1 + 8) {
        if (write)
            serial8250_write(&b->com1, port - BOARD_COM1, data[0]);
        else
            data[0] = serial8250_read(&b->com1, port - BOARD_COM1);
        return BOARD_NOTHING;
    }
    if (port >= BOARD_PM1A_EVENT && port < BOARD_PM1A_EVENT + 4) {
        pm1_event_access(b, port - BOARD_PM1A_EVENT, data, len, write);
        return BOARD_NOTHING;
    }
    if (port >= BOARD_PM1A_CTRL && port < BOARD_PM1A_CTRL + 2)
        return pm1_control_access(b, port - BOARD_PM1A_CTRL, data, len, write);

    switch (port) {
    case 0x60:
    case 0x64: /* no keyboard: status 0, so that nobody waits for one */
        if (!write)
            memset(data, 0, len);
        else if (port == 0x64 && data[0] == KBD_PULSE_RESET)
            return BOARD_RESET_ALL;
        break;
    case 0x70:
        if (write)
            cmos_select(&b->cmos, data[0]);
        break;
    case 0x71:
        if (write)
            cmos_write(&b->cmos, data[0]);
        else
            data[0] = cmos_read(&b->cmos);
        break;
    case 0xe9: /* reads 0xe9 where it exists, as in Bochs */
        if (write)
            com1_output(b, data, len);
        else
            data[0] = 0xe9;
        break;
    case BOARD_RESET:
        if (write && (data[0] & RESET_CPU))
            return BOARD_RESET_ALL;
        break;
    default:
        break;
    }
    return BOARD_NOTHING;
}

enum board_request board_port(struct board *b, u16 port, void *data, unsigned len, bool write)
{
    enum board_request r;

    pthread_mutex_lock(&b->lock);
    r = port_locked(b, port, data, len, write);
    pthread_mutex_unlock(&b->lock);
    return r;
}

void board_mmio(struct board *b, gpa_t gpa, void *data, unsigned len, bool write)
{
    u64 index = (gpa - BOARD_VIRTIO) / BOARD_VIRTIO_STEP;
    u64 off = (gpa - BOARD_VIRTIO) % BOARD_VIRTIO_STEP;

    if (!write)
        memset(data, 0xff, len);
    if (gpa < BOARD_VIRTIO || index >= b->nr_virtio || off >= VIRTIO_MMIO_WINDOW)
        return;
    pthread_mutex_lock(&b->lock);
    if (write)
        virtio_mmio_write(b->virtio[index].transport, off, data, len);
    else
        virtio_mmio_read(b->virtio[index].transport, off, data, len);
    pthread_mutex_unlock(&b->lock);
}

void board_state(struct board *b, struct state *s)
{
    u32 nr_virtio = b->nr_virtio;

    STATE(s, nr_virtio);
    STATE_CHECK(s, nr_virtio == b->nr_virtio, nr_virtio);
    STATE(s, b->pm1_event);
    STATE(s, b->pm1_control);
    cmos_state(&b->cmos, s);
    serial8250_state(&b->com1, s);
}

void board_virtio_state(struct board *b, unsigned i, struct state *s)
{
    virtio_mmio_state(b->virtio[i].transport, s);
}

void board_redrive(struct board *b)
{
    if (b->com1.line)
        com1_irq(b, true);
    for (unsigned i = 0; i < b->nr_virtio; i++)
        virtio_mmio_redrive(b->virtio[i].transport);
}
