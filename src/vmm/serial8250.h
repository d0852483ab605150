// SPDX-License-Identifier: MIT
// A 16550A serial port: registers, receive FIFO, interrupts.
#pragma once

#include "base/types.h"

#define SERIAL8250_FIFO 16

struct serial8250 {
    u8 ier, lcr, mcr, scr, fcr;
    u8 divisor[2];
    u8 rx[SERIAL8250_FIFO];
    unsigned rx_head, rx_count;
    bool thri_pending; /* "transmitter empty" not yet seen by a read of IIR */
    bool overrun;
    bool line; /* level of the interrupt line */

    void (*irq)(void *opaque, bool level);
    void (*output)(void *opaque, const void *data, size_t len);
    void *opaque;
};

/* Power-on state. Call everything here with the device lock held. */
void serial8250_init(struct serial8250 *s, void (*irq)(void *opaque, bool level),
                     void (*output)(void *opaque, const void *data, size_t len), void *opaque);

/* A guest access to register (reg), 0 … 7. */
u8 serial8250_read(struct serial8250 *s, unsigned reg);
void serial8250_write(struct serial8250 *s, unsigned reg, u8 v);

/* Save or load all of it; raises no interrupt (base/state.h). */
struct state;
void serial8250_state(struct serial8250 *s, struct state *st);

/* Bytes from outside: returns how many the FIFO took, none while RTS is off; the rest must be offered again. */
size_t serial8250_input(struct serial8250 *s, const void *data, size_t len);
