// SPDX-License-Identifier: MIT
// One attempt at delivering an event, for instructions that are events: INT n, INT3, INTO, INT1.
#pragma once

#include "cpu/cpu.h"

/*
 * Deliver (ev) with return address (rip). OP_END; or negative with nothing changed: OP_FAULT
 * is a fault on the way, for the caller to combine or deliver.
 */
int event_deliver_once(struct cpu *c, const struct cpu_event *ev, u64 rip);
