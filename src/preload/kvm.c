// SPDX-License-Identifier: MIT
// The interposed libc calls that give an unmodified program a /dev/kvm.

/*
 * Theory of operation
 *
 * The descriptors that uvirt_kvm_*() hands out are real ones, known by their inode; so mmap, poll, dup,
 * fcntl, fork and SCM_RIGHTS need nothing here. What does: opening the name, ioctl, close (which ends a
 * VM), the arch_prctl calls for guests, and what else clients do with the names: names.c, listing.c, sysfs.c.
 *
 * Our own library calls open, ioctl and close as well and would land here again, some of them with its
 * descriptor table locked. (preload_inside) tells those calls apart; it is the thread's own.
 */

/* The headers would give open() and openat() the names of open64() and openat64(), which are defined here too. */
#undef _FILE_OFFSET_BITS

#include "base/types.h"
#include "preload/preload.h"
#include "preload/vhost.h"
#include "uvirt/kvm.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KVM_IOCTL_TYPE 0xae

#define ARCH_XCOMP_FIRST 0x1021
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_GUEST_PERM 0x1024
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025

_Thread_local int preload_inside;

/* Declared here and not by <sys/ioctl.h> and the like, whose signatures differ among libcs. */
PRELOAD_EXPORT int open(const char *path, int flags, ...);
PRELOAD_EXPORT int open64(const char *path, int flags, ...);
PRELOAD_EXPORT int openat(int dir, const char *path, int flags, ...);
PRELOAD_EXPORT int openat64(int dir, const char *path, int flags, ...);
PRELOAD_EXPORT int __open_2(const char *path, int flags);
PRELOAD_EXPORT int __open64_2(const char *path, int flags);
PRELOAD_EXPORT int __openat_2(int dir, const char *path, int flags);
PRELOAD_EXPORT int __openat64_2(int dir, const char *path, int flags);
PRELOAD_EXPORT int ioctl(int fd, unsigned long request, ...);
PRELOAD_EXPORT int close(int fd);
PRELOAD_EXPORT long syscall(long number, ...);
PRELOAD_EXPORT int arch_prctl(int option, unsigned long arg);

static long raw(long number, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
                unsigned long e, unsigned long f)
{
    register unsigned long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (ret < 0 && ret > -4096) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

int preload_open(int dir, const char *path, int flags, unsigned mode)
{
    char buf[PATH_MAX];
    const char *name;
    int fd;

    if (!preload_inside && path && (preload_vsock_open(path, flags, &fd) || preload_vhost_open(path, flags, &fd)))
        return fd;
    if (!preload_inside && path && (name = preload_absolute(dir, path, buf))) {
        preload_inside++;
        if (!strcmp(name, PRELOAD_KVM_DEVICE)) {
            fd = uvirt_kvm_open();
            if (fd >= 0 && !(flags & O_CLOEXEC))
                fcntl(fd, F_SETFD, 0);
            preload_inside--;
            return fd;
        }
        if (preload_sysfs_open(name, flags, &fd)) {
            preload_inside--;
            return fd;
        }
        preload_inside--;
    }
    fd = (int)raw(SYS_openat, (unsigned long)(long)dir, (unsigned long)path, (unsigned long)(long)flags,
                  mode, 0, 0);
    preload_vsock_opened(fd);
    return fd;
}

/* The mode argument is there only when a file may be created. */
#define OPEN_MODE(flags)                                                                           \
    ({                                                                                             \
        unsigned mode_ = 0;                                                                        \
        if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                   \
            va_list ap_;                                                                           \
            va_start(ap_, flags);                                                                  \
            mode_ = va_arg(ap_, unsigned);                                                         \
            va_end(ap_);                                                                           \
        }                                                                                          \
        mode_;                                                                                     \
    })

int open(const char *path, int flags, ...) { return preload_open(AT_FDCWD, path, flags, OPEN_MODE(flags)); }
int open64(const char *path, int flags, ...) { return preload_open(AT_FDCWD, path, flags, OPEN_MODE(flags)); }
int openat(int dir, const char *path, int flags, ...) { return preload_open(dir, path, flags, OPEN_MODE(flags)); }
int openat64(int dir, const char *path, int flags, ...)
{
    return preload_open(dir, path, flags, OPEN_MODE(flags));
}
int __open_2(const char *path, int flags) { return preload_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return preload_open(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return preload_open(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return preload_open(dir, path, flags, 0); }

int ioctl(int fd, unsigned long request, ...)
{
    unsigned long arg;
    va_list ap;
    int rc;

    va_start(ap, request);
    arg = va_arg(ap, unsigned long);
    va_end(ap);
    if (!preload_inside && (preload_vsock_ioctl(fd, request, arg, &rc) || preload_vhost_ioctl(fd, request, arg, &rc)))
        return rc;
    if (!preload_inside && (request >> 8 & 0xff) == KVM_IOCTL_TYPE) {
        preload_inside++;
        rc = uvirt_kvm_ioctl(fd, (u32)request, arg);
        preload_inside--;
        if (rc != -1 || errno != EBADF)
            return rc;
    }
    return (int)raw(SYS_ioctl, (unsigned long)(long)fd, request, arg, 0, 0, 0);
}

int close(int fd)
{
    int rc;

    if (!preload_inside && preload_vsock_close(fd, &rc))
        return rc;
    if (!preload_inside) {
        int saved = errno;

        preload_vhost_close(fd);
        preload_inside++;
        rc = uvirt_kvm_close(fd);
        preload_inside--;
        if (rc == 0 || errno != EBADF)
            return rc;
        errno = saved;
    }
    return (int)raw(SYS_close, (unsigned long)(long)fd, 0, 0, 0, 0, 0);
}

static bool is_guest_prctl(int option)
{
    return option == ARCH_GET_XCOMP_SUPP || option == ARCH_GET_XCOMP_GUEST_PERM ||
           option == ARCH_REQ_XCOMP_GUEST_PERM;
}

int arch_prctl(int option, unsigned long arg)
{
    if (!preload_inside && preload_has_kvm() && is_guest_prctl(option))
        return uvirt_kvm_arch_prctl(option, arg);
    return (int)raw(SYS_arch_prctl, (unsigned long)(long)option, arg, 0, 0, 0, 0);
}

/* glibc has no openat2(). Names of ours are opened without a look at (how->resolve): no link leads to them. */
static long preload_openat2(int dir, const char *path, const struct open_how *how, size_t size)
{
    if (!preload_inside && size >= sizeof(*how) && preload_kind(dir, path) != PRELOAD_NOT_OURS)
        return preload_open(dir, path, (int)how->flags, (unsigned)how->mode);
    return raw(SYS_openat2, (unsigned long)(long)dir, (unsigned long)path, (unsigned long)how, size, 0, 0);
}

/* The sixth argument is on the caller's stack, whether there is one or not: no matter for ASan. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    unsigned long a[6];
    va_list ap;
    long rc;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, unsigned long);
    va_end(ap);
    if (!preload_inside && preload_vsock_syscall(number, a, &rc))
        return rc;
    switch (number) {
    case SYS_arch_prctl:
        return arch_prctl((int)a[0], a[1]);
    case SYS_open:
        return preload_open(AT_FDCWD, (const char *)a[0], (int)a[1], (unsigned)a[2]);
    case SYS_openat:
        return preload_open((int)a[0], (const char *)a[1], (int)a[2], (unsigned)a[3]);
    case SYS_openat2:
        return preload_openat2((int)a[0], (const char *)a[1], (const struct open_how *)a[2], a[3]);
    case SYS_ioctl:
        return ioctl((int)a[0], a[1], a[2]);
    case SYS_close:
        return close((int)a[0]);
    default:
        return raw(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}
