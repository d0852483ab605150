// SPDX-License-Identifier: MIT
// The sentence that goes with an error code.
#include "vmm/error.h"

#include <stdarg.h>
#include <stdio.h>

int vmm_fail(struct vmm_error *e, int rc, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return rc;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    return rc;
}
