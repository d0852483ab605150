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

/* Is the program to have a /dev/kvm? (uvirt exec --kvm; without --vsock always.) */
bool preload_has_kvm(void);

/*
 * AF_VSOCK's part of calls that have several owners. Each returns true if the call was
 * vsock's, with what libc returns in the last argument, errno included.
 */
bool preload_vsock_open(const char *path, int flags, int *fd);
bool preload_vsock_close(int fd, int *rc);
bool preload_vsock_ioctl(int fd, unsigned long request, unsigned long arg, int *rc);
bool preload_vsock_access(const char *path, int mode, int *rc);
bool preload_vsock_syscall(long number, const unsigned long a[6], long *rc);

/* (fd) is a new descriptor that is nothing of vsock's. */
void preload_vsock_opened(int fd);
