// SPDX-License-Identifier: MIT
// What the interposed calls share: the way to the real ones, and the files of /sys that KVM clients read.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PRELOAD_EXPORT __attribute__((visibility("default")))

/*
 * Calls of our own libraries land in the interposed names too; they, and what they call, are let
 * through. The thread's own; initial-exec, since the library is loaded with the program and nothing
 * may allocate in here.
 */
extern _Thread_local int preload_inside
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* open() and all its kin end here. -1 and errno. */
int preload_open(int dir, const char *path, int flags, unsigned mode);

/* --- what clients look for in /sys (sysfs.c) --- */

struct preload_file {
    const char *path, *text;
};

enum preload_kind {
    PRELOAD_NOT_OURS,
    PRELOAD_ABSENT,
    PRELOAD_FILE,
    PRELOAD_DIRECTORY,
    PRELOAD_DEVICE
};

#define PRELOAD_FILE_NAME "kvm-parameter" /* of the memfds that stand for files */

enum preload_kind preload_sysfs_kind(const char *path);
const struct preload_file *preload_sysfs_files(size_t *count);

/*
 * A file that is ours: returns true if (path) is one, with *fd a new descriptor that reads its
 * contents, or -1 and errno where the file is to be absent.
 */
bool preload_sysfs_open(const char *path, int flags, int *fd);

/* --- names (names.c) --- */

#define PRELOAD_KVM_DEVICE "/dev/kvm"

/* What (path), as seen from (dir), is: PRELOAD_NOT_OURS also where the program gets no /dev/kvm. */
enum preload_kind preload_kind(int dir, const char *path);

/* The absolute name of something that may be ours, in (buf) of PATH_MAX or (path) itself; NULL when it is not. */
const char *preload_absolute(int dir, const char *path, char *buf);

/* Is the program to have a /dev/kvm? (uvirt exec --kvm; without --vsock always.) */
bool preload_has_kvm(void);

/*
 * AF_VSOCK's part of calls that have several owners. Each returns true if the call was
 * vsock's, with what libc returns in the last argument, errno included.
 */
bool preload_vsock_is_device(const char *path);
bool preload_vsock_open(const char *path, int flags, int *fd);
bool preload_vsock_close(int fd, int *rc);
bool preload_vsock_ioctl(int fd, unsigned long request, unsigned long arg, int *rc);
bool preload_vsock_access(const char *path, int mode, int *rc);
bool preload_vsock_syscall(long number, const unsigned long a[6], long *rc);

/* (fd) is a new descriptor that is nothing of vsock's. */
void preload_vsock_opened(int fd);
