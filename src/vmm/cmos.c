// SPDX-License-Identifier: MIT
// The real-time clock's registers, from the host's clock.
#include "vmm/cmos.h"
#include "base/state.h"

#include <time.h>

#define STATUS_A 0x0a
#define STATUS_B 0x0b
#define STATUS_C 0x0c
#define STATUS_D 0x0d
#define CENTURY  0x32

#define STATUS_A_DIVIDER 0x26 /* 32.768 kHz; update-in-progress is never seen */
#define STATUS_B_24H     0x02
#define STATUS_D_VALID   0x80

static u8 bcd(int v)
{
    return (u8)((v / 10 % 10) << 4 | v % 10);
}

void cmos_select(struct cmos *c, u8 index)
{
    c->index = index & 0x7f;
}

u8 cmos_read(struct cmos *c)
{
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    switch (c->index) {
    case 0x00:
        return bcd(tm.tm_sec);
    case 0x02:
        return bcd(tm.tm_min);
    case 0x04:
        return bcd(tm.tm_hour);
    case 0x06:
        return bcd(tm.tm_wday + 1);
    case 0x07:
        return bcd(tm.tm_mday);
    case 0x08:
        return bcd(tm.tm_mon + 1);
    case 0x09:
        return bcd(tm.tm_year % 100);
    case CENTURY:
        return bcd(19 + tm.tm_year / 100);
    case STATUS_A:
        return STATUS_A_DIVIDER;
    case STATUS_B:
        return (u8)((c->ram[STATUS_B] & 0x70) | STATUS_B_24H);
    case STATUS_C:
        return 0;
    case STATUS_D:
        return STATUS_D_VALID;
    default:
        return c->ram[c->index];
    }
}

void cmos_write(struct cmos *c, u8 v)
{
    c->ram[c->index] = v;
}

void cmos_state(struct cmos *c, struct state *s)
{
    STATE(s, c->index);
    STATE_CHECK(s, c->index < sizeof(c->ram), c->index);
    STATE(s, c->ram);
}
