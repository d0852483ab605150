// SPDX-License-Identifier: MIT
// Names for translated code that perf understands.
#pragma once

#include "cpu/jit/code.h"

/*
 * With UVIRT_PERF=1 in the environment every translation is added to /tmp/perf-PID.map, where `perf report`
 * looks, as guest_ and its guest-linear address. Cold parts are not named. Any thread.
 */
void perfmap_add(const struct cpu *c, const struct jit_code *k);
