// SPDX-License-Identifier: MIT
// TAP from inside a guest.

#include "guest.h"

unsigned tap_count, tap_failed;

void print(const char *s)
{
    while (*s)
        outb(PORT_CONSOLE, (u8)*s++);
}

void print_hex(u64 v)
{
    print("0x");
    for (int i = 60; i >= 0; i -= 4)
        outb(PORT_CONSOLE, (u8)"0123456789abcdef"[(v >> i) & 15]);
}

void print_dec(unsigned v)
{
    char buf[12], *p = buf + sizeof(buf);

    *--p = 0;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    print(p);
}

void is(u64 got, u64 want, const char *what)
{
    print(got == want ? "ok " : "not ok ");
    print_dec(++tap_count);
    print(" - ");
    print(what);
    print("\n");
    if (got == want)
        return;
    tap_failed++;
    print("#   got ");
    print_hex(got);
    print(", want ");
    print_hex(want);
    print("\n");
}

void skip(const char *what, const char *why)
{
    print("ok ");
    print_dec(++tap_count);
    print(" - ");
    print(what);
    print(" # SKIP ");
    print(why);
    print("\n");
}

void tap_exit(void)
{
    print("1..");
    print_dec(tap_count);
    print("\n");
    outl(PORT_EXIT, tap_failed ? 1 : 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void tap_shutdown(void)
{
    outl(PORT_SHUTDOWN, tap_count + 1);
}
