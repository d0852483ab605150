// SPDX-License-Identifier: MIT
// What init's files share: complaints, and the end.
#pragma once

/* To the console: the host shows it when the guest ends without having run the command. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Say what did not work, with errno, and power off. */
void fail(const char *what) __attribute__((noreturn));

void sleep_ms(long ms);
