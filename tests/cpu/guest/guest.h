// SPDX-License-Identifier: MIT
// What the guest test programs share: TAP over a port, and the ports of the machine they run on.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/*
 * The machine (sys_guest.c; QEMU has the first two as debugcon and isa-debug-exit): the program lies at
 * 0x8000 and starts there in real mode.
 */
#define PORT_CONSOLE 0xe9
#define PORT_EXIT 0xf4      /* 32 bits: 0 good */
#define PORT_IDENT 0xf2     /* reads IDENT on the test machine, which has all the rest too */
#define IDENT 0x42
#define PORT_INTR 0xf0      /* write a vector: interrupt now pending; read: how many were delivered */
#define PORT_NMI 0xf1       /* write: an NMI is pending */
#define PORT_SHUTDOWN 0xf3  /* write 32 bits: the shutdown that comes next is the last test point, of that number */
#define PORT_EXITING 0xf6   /* reads leave the CPU once and come back with 0x5a; writes leave after the insn */
#define PORT_SCRATCH 0xf8   /* 8 bytes that remember; element n of a string write goes to byte n of a log */

static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory"); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory"); }
static inline u8 inb(u16 port)
{
    u8 v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* guest_tap.c */
extern unsigned tap_count, tap_failed;

void print(const char *s);
void print_hex(u64 v);
void print_dec(unsigned v);

/* One test point: (got) should be (want). */
void is(u64 got, u64 want, const char *what);

/* A test point that cannot run here. */
void skip(const char *what, const char *why);

/* The end; or the end is what the machine makes of a shutdown. */
void tap_exit(void);
void tap_shutdown(void);
