// SPDX-License-Identifier: MIT
// System calls without libc: they return -errno, leave errno alone, and go round the interposed names.
#pragma once

#include <sys/syscall.h>

static inline long preload_raw(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#define RAW_PAD(n, a, b, c, d, e, f, ...)                                                          \
    preload_raw((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
/* RAW(SYS_name, arguments...): at most six. */
#define RAW(...) RAW_PAD(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
