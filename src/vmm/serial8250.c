// SPDX-License-Identifier: MIT
// The 16550A's registers (TI TL16C550 data sheet); the line is infinitely fast.
#include "vmm/serial8250.h"
#include "base/state.h"

#include <string.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDI  BIT(0)
#define IER_THRI BIT(1)
#define IER_RLSI BIT(2)

#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_RDI  0x04
#define IIR_RLSI 0x06
#define IIR_FIFO 0xc0

#define FCR_ENABLE   BIT(0)
#define FCR_CLEAR_RX BIT(1)

#define LCR_DLAB BIT(7)

#define MCR_DTR  BIT(0)
#define MCR_RTS  BIT(1)
#define MCR_OUT1 BIT(2)
#define MCR_OUT2 BIT(3)
#define MCR_LOOP BIT(4)

#define LSR_DR   BIT(0)
#define LSR_OE   BIT(1)
#define LSR_THRE BIT(5)
#define LSR_TEMT BIT(6)

#define MSR_CTS BIT(4)
#define MSR_DSR BIT(5)
#define MSR_RI  BIT(6)
#define MSR_DCD BIT(7)

void serial8250_init(struct serial8250 *s, void (*irq)(void *opaque, bool level),
                     void (*output)(void *opaque, const void *data, size_t len), void *opaque)
{
    memset(s, 0, sizeof(*s));
    s->mcr = MCR_OUT2;
    s->divisor[0] = 1; /* 115200 */
    s->irq = irq;
    s->output = output;
    s->opaque = opaque;
}

static u8 interrupt_cause(const struct serial8250 *s)
{
    if ((s->ier & IER_RLSI) && s->overrun)
        return IIR_RLSI;
    if ((s->ier & IER_RDI) && s->rx_count)
        return IIR_RDI;
    if ((s->ier & IER_THRI) && s->thri_pending)
        return IIR_THRI;
    return IIR_NONE;
}

/* OUT2 gates the interrupt on a PC. */
static void update_line(struct serial8250 *s)
{
    bool level = interrupt_cause(s) != IIR_NONE && (s->mcr & MCR_OUT2) && !(s->mcr & MCR_LOOP);

    if (level == s->line)
        return;
    s->line = level;
    s->irq(s->opaque, level);
}

static void push(struct serial8250 *s, u8 v)
{
    if (s->rx_count == SERIAL8250_FIFO) {
        s->overrun = true;
        return;
    }
    s->rx[(s->rx_head + s->rx_count++) % SERIAL8250_FIFO] = v;
}

static u8 pop(struct serial8250 *s)
{
    u8 v;

    if (!s->rx_count)
        return 0;
    v = s->rx[s->rx_head];
    s->rx_head = (s->rx_head + 1) % SERIAL8250_FIFO;
    s->rx_count--;
    return v;
}

static u8 modem_status(const struct serial8250 *s)
{
    u8 v = 0;

    if (!(s->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    if (s->mcr & MCR_RTS)
        v |= MSR_CTS;
    if (s->mcr & MCR_DTR)
        v |= MSR_DSR;
    if (s->mcr & MCR_OUT1)
        v |= MSR_RI;
    if (s->mcr & MCR_OUT2)
        v |= MSR_DCD;
    return v;
}

u8 serial8250_read(struct serial8250 *s, unsigned reg)
{
    u8 v = 0;

    switch (reg) {
    case REG_DATA:
        v = (s->lcr & LCR_DLAB) ? s->divisor[0] : pop(s);
        break;
    case REG_IER:
        v = (s->lcr & LCR_DLAB) ? s->divisor[1] : s->ier;
        break;
    case REG_IIR_FCR:
        v = interrupt_cause(s);
        if (v == IIR_THRI)
            s->thri_pending = false;
        if (s->fcr & FCR_ENABLE)
            v |= IIR_FIFO;
        break;
    case REG_LCR:
        v = s->lcr;
        break;
    case REG_MCR:
        v = s->mcr;
        break;
    case REG_LSR:
        v = LSR_THRE | LSR_TEMT | (s->rx_count ? LSR_DR : 0) | (s->overrun ? LSR_OE : 0);
        s->overrun = false;
        break;
    case REG_MSR:
        v = modem_status(s);
        break;
    case REG_SCR:
        v = s->scr;
        break;
    default:
        break;
    }
    update_line(s);
    return v;
}

static void transmit(struct serial8250 *s, u8 v)
{
    if (s->mcr & MCR_LOOP)
        push(s, v);
    else
        s->output(s->opaque, &v, 1);
    s->thri_pending = true;
}

void serial8250_write(struct serial8250 *s, unsigned reg, u8 v)
{
    switch (reg) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB)
            s->divisor[0] = v;
        else
            transmit(s, v);
        break;
    case REG_IER:
        if (s->lcr & LCR_DLAB) {
            s->divisor[1] = v;
            break;
        }
        if ((v & IER_THRI) && !(s->ier & IER_THRI))
            s->thri_pending = true;
        s->ier = v & 0x0f;
        break;
    case REG_IIR_FCR:
        if ((v & FCR_CLEAR_RX) || ((v ^ s->fcr) & FCR_ENABLE))
            s->rx_count = 0;
        s->fcr = v & FCR_ENABLE;
        break;
    case REG_LCR:
        s->lcr = v;
        break;
    case REG_MCR:
        s->mcr = v & 0x1f;
        break;
    case REG_SCR:
        s->scr = v;
        break;
    default:
        break;
    }
    update_line(s);
}

size_t serial8250_input(struct serial8250 *s, const void *data, size_t len)
{
    size_t room = SERIAL8250_FIFO - s->rx_count;
    const u8 *p = data;

    /*
     * The other end honours RTS: a driver raises it once it is ready, and what came earlier would
     * die in the FIFO when the driver resets it.
     */
    if ((s->mcr & MCR_LOOP) || !(s->mcr & MCR_RTS))
        return 0;
    if (len > room)
        len = room;
    for (size_t i = 0; i < len; i++)
        push(s, p[i]);
    update_line(s);
    return len;
}

void serial8250_state(struct serial8250 *s, struct state *st)
{
    u32 head = s->rx_head, count = s->rx_count;

    STATE(st, s->ier);
    STATE(st, s->lcr);
    STATE(st, s->mcr);
    STATE(st, s->scr);
    STATE(st, s->fcr);
    STATE(st, s->divisor);
    STATE(st, s->rx);
    STATE(st, head);
    STATE(st, count);
    STATE_CHECK(st, head < SERIAL8250_FIFO, head);
    STATE_CHECK(st, count <= SERIAL8250_FIFO, count);
    STATE_BOOL(st, s->thri_pending);
    STATE_BOOL(st, s->overrun);
    STATE_BOOL(st, s->line);
    if (st->error)
        return;
    s->rx_head = head;
    s->rx_count = count;
}
