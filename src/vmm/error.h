// SPDX-License-Identifier: MIT
// How the VMM says what went wrong: a negative errno for the program, one sentence for the user.
#pragma once

#include "base/types.h"

struct vmm_error {
    char text[320]; /* without a final full stop or newline; empty when nothing was said */
};

/* Say (fmt ...) in (e), which may be NULL, and return (rc). */
__attribute__((format(printf, 3, 4))) int vmm_fail(struct vmm_error *e, int rc, const char *fmt,
                                                   ...);
