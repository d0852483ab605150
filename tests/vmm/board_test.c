// SPDX-License-Identifier: MIT
// The board's own devices at their registers: serial port, clock, reset, power off; and holes.
#include "tap.h"
#include "vmm/board.h"

#include <time.h>

static struct board b;
static bool line[24];
static unsigned edges[24];
static char text[256];
static size_t text_len;

static void irq(void *opaque, unsigned gsi, bool level)
{
    line[gsi] = level;
    edges[gsi]++;
}

static void output(void *opaque, const void *data, size_t len)
{
    memcpy(text + text_len, data, len);
    text_len += len;
}

static enum board_request out8(u16 port, u8 v)
{
    return board_port(&b, port, &v, 1, true);
}

static u8 in8(u16 port)
{
    u8 v = 0;

    board_port(&b, port, &v, 1, false);
    return v;
}

static void test_serial(void)
{
    size_t taken;

    out8(0x3fb, 0x80);
    out8(0x3f8, 0x0c);
    is_u64(in8(0x3f8), 0x0c, "divisor latch");
    out8(0x3fb, 0x03);
    out8(0x3f8, 'A');
    ok(text_len == 1 && text[0] == 'A', "a byte goes out");
    is_u64(in8(0x3fd), 0x60, "transmitter empty");
    is_u64(in8(0x3fa) & 0x0f, 0x01, "no interrupt pending");
    out8(0x3fa, 0x01);
    is_u64(in8(0x3fa) & 0xc0, 0xc0, "FIFOs are on: a 16550A");

    out8(0x3f9, 0x02);
    ok(line[4], "THRE interrupt as soon as it is enabled");
    is_u64(in8(0x3fa) & 0x0f, 0x02, "IIR says THRE");
    ok(!line[4], "reading IIR takes it back");
    out8(0x3f8, 'B');
    ok(line[4], "and again after a byte");

    out8(0x3f9, 0x01);
    ok(!line[4], "receive interrupt only: quiet");
    is_u64(serial8250_input(&b.com1, "early", 5), 0, "nothing comes in before RTS");
    out8(0x3fc, 0x0b);
    taken = serial8250_input(&b.com1, "0123456789abcdefXYZ", 19);
    is_u64(taken, 16, "the FIFO takes 16 bytes");
    ok(line[4] && (in8(0x3fa) & 0x0f) == 0x04, "receive interrupt");
    is_u64(in8(0x3f8), '0', "first in, first out");
    is_u64(serial8250_input(&b.com1, "XY", 2), 1, "room for one more");
    for (int i = 0; i < 15; i++)
        in8(0x3f8);
    ok(line[4] && in8(0x3f8) == 'X' && !line[4], "the line falls with the last byte");
    is_u64(in8(0x3fd) & 1, 0, "no data ready");

    out8(0x3fc, 0x1f);
    is_u64(in8(0x3fe) & 0xf0, 0xf0, "loopback: modem outputs are modem inputs");
    text_len = 0;
    out8(0x3f8, 'L');
    ok(text_len == 0 && in8(0x3f8) == 'L', "loopback: the byte comes back");
    for (int i = 0; i < 17; i++)
        out8(0x3f8, 'o');
    ok(in8(0x3fd) & 2, "loopback: overrun");
    out8(0x3fc, 0x0b);
    is_u64(in8(0x3fe), 0xb0, "carrier, DSR and CTS are there");
    out8(0x3ff, 0x5a);
    is_u64(in8(0x3ff), 0x5a, "scratch register");
}

static unsigned cmos(u8 reg)
{
    u8 v;

    out8(0x70, reg);
    v = in8(0x71);
    return (v >> 4) * 10u + (v & 15);
}

static void test_clock(void)
{
    time_t before = time(NULL), seen;
    struct tm tm = {0};

    tm.tm_sec = (int)cmos(0);
    tm.tm_min = (int)cmos(2);
    tm.tm_hour = (int)cmos(4);
    tm.tm_mday = (int)cmos(7);
    tm.tm_mon = (int)cmos(8) - 1;
    tm.tm_year = (int)(cmos(0x32) * 100 + cmos(9)) - 1900;
    seen = timegm(&tm);
    ok(seen >= before - 1 && seen <= time(NULL) + 1, "the time of day");
    out8(0x70, 0x0a);
    is_u64(in8(0x71) & 0x80, 0, "no update in progress");
    out8(0x70, 0x0d);
    is_u64(in8(0x71), 0x80, "valid");
    out8(0x70, 0x80 | 0x40);
    out8(0x71, 0x77);
    is_u64(in8(0x71), 0x77, "CMOS RAM, NMI bit or not");
}

static void test_ends(void)
{
    u16 v = 0;

    is_u64(out8(0x64, 0xfe), BOARD_RESET_ALL, "keyboard controller: reset");
    is_u64(out8(0x64, 0xd1), BOARD_NOTHING, "keyboard controller: anything else");
    is_u64(in8(0x64), 0, "no keyboard");
    is_u64(out8(0xcf9, 0x02), BOARD_NOTHING, "0xcf9 without the reset bit");
    is_u64(out8(0xcf9, 0x06), BOARD_RESET_ALL, "0xcf9: reset");
    board_port(&b, 0x604, &v, 2, false);
    is_u64(v, 1, "PM1 control: SCI_EN");
    v = BOARD_S5 << 10;
    is_u64(board_port(&b, 0x604, &v, 2, true), BOARD_NOTHING, "sleep type alone");
    v = 3 << 10 | 1 << 13;
    is_u64(board_port(&b, 0x604, &v, 2, true), BOARD_NOTHING, "another sleep state");
    v = BOARD_S5 << 10 | 1 << 13;
    is_u64(board_port(&b, 0x604, &v, 2, true), BOARD_POWER_OFF, "S5: power off");
    v = 0x0120;
    board_port(&b, 0x602, &v, 2, true);
    v = 0;
    board_port(&b, 0x602, &v, 2, false);
    is_u64(v, 0x0120, "PM1 enable bits");
}

static void test_holes(void)
{
    u64 v = 0;

    board_port(&b, 0xcf8, &v, 4, false);
    is_u64(v, 0xffffffff, "no PCI");
    board_mmio(&b, BOARD_VIRTIO, &v, 8, false);
    is_u64(v, UINT64_MAX, "no device at the first virtio window");
    board_mmio(&b, 0, &v, 8, true);
    board_mmio(&b, UINT64_MAX, &v, 8, false);
    is_u64(v, UINT64_MAX, "nothing at the end of the address space");
    for (unsigned port = 0; port < 0x10000; port++)
        for (unsigned len = 1; len <= 4; len *= 2) {
            v = 0;
            board_port(&b, (u16)port, &v, len, port & 1);
        }
    ok(true, "every port, every width");
}

int main(void)
{
    struct board_config cfg = {.irq = irq, .serial_output = output};

    board_init(&b, &cfg);
    test_serial();
    test_clock();
    test_ends();
    text_len = 0;
    test_holes();
    board_fini(&b);
    return tap_done();
}
