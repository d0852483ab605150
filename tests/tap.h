// SPDX-License-Identifier: MIT
// The test harness: a program prints TAP, exits 0 when all passed, 1 when not, 77 when skipped whole.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count, tap_failed;

/* One test point. Evaluates to (cond), so that a caller can stop on failure. */
#define ok(cond, ...)                                                                              \
    ({                                                                                             \
        int tap_ok_ = !!(cond);                                                                    \
        printf("%sok %d - ", tap_ok_ ? "" : "not ", ++tap_count);                                  \
        printf(__VA_ARGS__);                                                                       \
        putchar('\n');                                                                             \
        if (!tap_ok_) {                                                                            \
            tap_failed++;                                                                          \
            printf("# failed at %s:%d: %s\n", __FILE__, __LINE__, #cond);                          \
        }                                                                                          \
        tap_ok_;                                                                                   \
    })

/* Equality of two integers, both printed when they differ. */
#define is_u64(got, want, ...)                                                                     \
    ({                                                                                             \
        unsigned long long tap_g_ = (unsigned long long)(got);                                     \
        unsigned long long tap_w_ = (unsigned long long)(want);                                    \
        int tap_eq_ = ok(tap_g_ == tap_w_, __VA_ARGS__);                                           \
        if (!tap_eq_)                                                                              \
            printf("#   got 0x%llx, want 0x%llx\n", tap_g_, tap_w_);                               \
        tap_eq_;                                                                                   \
    })

/* A test point that cannot run here, with the reason. */
#define skip(why, ...)                                                                             \
    do {                                                                                           \
        printf("ok %d - ", ++tap_count);                                                           \
        printf(__VA_ARGS__);                                                                       \
        printf(" # SKIP %s\n", why);                                                               \
    } while (0)

/* End of the program: prints the plan and gives the exit status for main(). */
static inline int tap_done(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed ? 1 : 0;
}

/* The whole program cannot run here. */
static inline int tap_skip_all(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    return 0;
}
