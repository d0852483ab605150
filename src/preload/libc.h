// SPDX-License-Identifier: MIT
// The two ends of an interposed call: libc's own function, and -errno turned into what libc returns.
#pragma once

#include <dlfcn.h>
#include <errno.h>

/* libc's own (name), found once. */
#define LIBC(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(name) *_Atomic found_;                                                   \
        __typeof__(name) *f_ = found_;                                                             \
        if (!f_)                                                                                   \
            found_ = f_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                             \
        f_;                                                                                        \
    })

static inline long libc_done(long rc)
{
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}
