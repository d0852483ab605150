// SPDX-License-Identifier: MIT
// Reproducible random numbers for tests: splitmix64.
#pragma once

#include "base/types.h"

static u64 rnd_state = 0x9e3779b97f4a7c15;

static inline u64 rnd(void)
{
    u64 z = rnd_state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline void rnd_fill(void *p, size_t len)
{
    u8 *b = p;

    while (len--)
        *b++ = (u8)rnd();
}
