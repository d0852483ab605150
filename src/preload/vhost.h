// SPDX-License-Identifier: MIT
// /dev/vhost-vsock's part of calls that have several owners.
#pragma once

#include <stdbool.h>

/* Each returns true if the call was for us, with what libc returns in the last argument, errno included. */
bool preload_vhost_open(const char *path, int flags, int *fd);
bool preload_vhost_ioctl(int fd, unsigned long request, unsigned long arg, int *rc);

/* (fd) is about to be closed. */
void preload_vhost_close(int fd);
