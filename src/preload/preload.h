// SPDX-License-Identifier: MIT
// What the interposed calls share: the way to the real ones, and the files of /sys that KVM clients read.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PRELOAD_EXPORT __attribute__((visibility("default")))

/*
 * A file that is ours: returns true if (path) is one, with *fd a new descriptor that reads its
 * contents, or -1 and errno where the file is to be absent.
 */
bool preload_sysfs_open(const char *path, int flags, int *fd);

/* True if (path) is ours and present (*present), for access() and stat(). */
bool preload_sysfs_find(const char *path, bool *present);
