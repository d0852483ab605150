// SPDX-License-Identifier: MIT
// The user's terminal in raw mode, and back, however the program ends.
#pragma once

#include "base/types.h"

/*
 * Put terminal (fd) into raw mode. It is restored by term_restore(), at exit(), and when a
 * fatal signal ends the program. (output): leave output processing on, for a terminal that
 * others print to as well. 0 or -errno. One terminal at a time.
 */
int term_raw(int fd, bool output);
void term_restore(void);

/* The size of terminal (fd); false if it has none. */
bool term_size(int fd, unsigned short *cols, unsigned short *rows);
