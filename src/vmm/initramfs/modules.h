// SPDX-License-Identifier: MIT
// Kernel modules that a guest needs: found by name below lib/modules/VERSION, with what they depend on.
#pragma once

#include "vmm/blob.h"
#include "vmm/error.h"
#include "vmm/initramfs/strv.h"

#define MODULES_MAX 64

struct module {
    char *name;     /* with underscores */
    struct blob ko; /* unpacked */
};

/* In the order in which they must be loaded. */
struct modules {
    struct module m[MODULES_MAX];
    unsigned n;
};

/*
 * Find (names) below (dir), the directory lib/modules/VERSION of a kernel, and read them with
 * their dependencies. A name that is built in, or not there at all, is passed over: whether the
 * guest can do without is for the guest to see. 0, -E2BIG, -ENOMEM or a file's error, with a
 * sentence. Free with modules_free(), also after failure.
 */
int modules_load(const char *dir, const char *const *names, unsigned n, struct modules *ret,
                 struct vmm_error *err);
void modules_free(struct modules *m);

/* The value of (key) in the .modinfo section of an unpacked module; NULL if it has none. */
const char *module_info(const struct blob *ko, const char *key);
