// SPDX-License-Identifier: MIT
// MC146818 real-time clock: the time of day, read through ports 0x70 and 0x71.
#pragma once

#include "base/types.h"

struct cmos {
    u8 index;
    u8 ram[128]; /* what the guest wrote to registers that are not the clock's */
};

/* Save or load it (base/state.h). The time of day is the host's, wherever that is. */
struct state;
void cmos_state(struct cmos *c, struct state *s);

/* Port 0x70: choose a register; bit 7 (NMI mask) is ignored. */
void cmos_select(struct cmos *c, u8 index);

/* Port 0x71. The clock runs in UTC, BCD, 24 hours, and cannot be set. */
u8 cmos_read(struct cmos *c);
void cmos_write(struct cmos *c, u8 v);
