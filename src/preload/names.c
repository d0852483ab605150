// SPDX-License-Identifier: MIT
// /dev/kvm and /sys/module/kvm by name: stat and its kin, access, readlink.

/*
 * What is ours looks as it does on a machine with KVM: a character device 10:232 that everybody may open,
 * directories, files of 4096 bytes. The files' descriptors are memfds, and fstat() tells of them what stat() does:
 * clients take the size for the length of their buffer.
 */

/* The headers would give stat() and its kin the names of their 64-bit forms, which are defined here too. */
#undef _FILE_OFFSET_BITS

#include "base/types.h"
#include "preload/preload.h"
#include "preload/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define KVM_MAJOR 10 /* Documentation/admin-guide/devices.txt */
#define KVM_MINOR 232
#define FILE_SIZE 4096 /* what sysfs says of each attribute */

static int done(long rc)
{
    if (rc >= 0)
        return (int)rc;
    errno = (int)-rc;
    return -1;
}

/* Is there a name at all? The headers promise the compiler that there is; a kernel would just say EFAULT. */
static bool named(const char *path)
{
    __asm__("" : "+r"(path));
    return path && *path;
}

const char *preload_absolute(int dir, const char *path, char *buf)
{
    char link[32];
    ssize_t n;

    if (!preload_has_kvm() || (!strstr(path, "kvm") && !strstr(path, "clocksource")))
        return NULL;
    if (*path == '/')
        return path;
    snprintf(link, sizeof(link), dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
    n = RAW(SYS_readlink, link, buf, PATH_MAX);
    if (n <= 0 || n + 1 + strlen(path) >= PATH_MAX)
        return NULL;
    if (buf[n - 1] != '/')
        buf[n++] = '/';
    strcpy(buf + n, !strncmp(path, "./", 2) ? path + 2 : path);
    return buf;
}

enum preload_kind preload_kind(int dir, const char *path)
{
    char buf[PATH_MAX];
    const char *name = named(path) ? preload_absolute(dir, path, buf) : NULL;

    if (!name || preload_inside)
        return PRELOAD_NOT_OURS;
    return strcmp(name, PRELOAD_KVM_DEVICE) ? preload_sysfs_kind(name) : PRELOAD_DEVICE;
}

/* --- what stat tells --- */

static void fill(enum preload_kind kind, struct stat *st)
{
    static const u32 modes[] = {[PRELOAD_FILE] = S_IFREG | 0444,
                                [PRELOAD_DIRECTORY] = S_IFDIR | 0755,
                                [PRELOAD_DEVICE] = S_IFCHR | 0666};

    *st = (struct stat){
        .st_mode = modes[kind], .st_nlink = 1, .st_blksize = 4096, .st_ino = 0x6b766d00u + kind};
    if (kind == PRELOAD_FILE)
        st->st_size = FILE_SIZE;
    else if (kind == PRELOAD_DEVICE)
        st->st_rdev = makedev(KVM_MAJOR, KVM_MINOR);
}

static int stat_any(int dir, const char *path, struct stat *st, int flags)
{
    enum preload_kind kind = preload_kind(dir, path);

    if (kind == PRELOAD_ABSENT)
        return done(-ENOENT);
    if (kind == PRELOAD_NOT_OURS)
        return done(RAW(SYS_newfstatat, dir, path, st, flags));
    fill(kind, st);
    return 0;
}

/* Does (fd) stand for a file of ours? */
static bool is_our_file(int fd, const struct stat *st)
{
    static const char want[] = "/memfd:" PRELOAD_FILE_NAME;
    char link[32], name[sizeof(want)];

    if (preload_inside || st->st_nlink || !S_ISREG(st->st_mode) || !preload_has_kvm())
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return RAW(SYS_readlink, link, name, sizeof(name) - 1) == sizeof(want) - 1 &&
           !memcmp(name, want, sizeof(want) - 1);
}

static int fstat_any(int fd, struct stat *st)
{
    long rc = RAW(SYS_fstat, fd, st);

    if (!rc && is_our_file(fd, st))
        fill(PRELOAD_FILE, st);
    return done(rc);
}

PRELOAD_EXPORT int stat(const char *path, struct stat *st)
{
    return stat_any(AT_FDCWD, path, st, 0);
}
PRELOAD_EXPORT int lstat(const char *path, struct stat *st)
{
    return stat_any(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}
PRELOAD_EXPORT int fstat(int fd, struct stat *st)
{
    return fstat_any(fd, st);
}
PRELOAD_EXPORT int fstatat(int dir, const char *path, struct stat *st, int flags)
{
    return stat_any(dir, path, st, flags);
}

/* The same struct, by the names that large-file programs use. */
PRELOAD_EXPORT int stat64(const char *path, struct stat64 *st)
{
    return stat(path, (struct stat *)st);
}
PRELOAD_EXPORT int lstat64(const char *path, struct stat64 *st)
{
    return lstat(path, (struct stat *)st);
}
PRELOAD_EXPORT int fstat64(int fd, struct stat64 *st)
{
    return fstat_any(fd, (struct stat *)st);
}
PRELOAD_EXPORT int fstatat64(int dir, const char *path, struct stat64 *st, int flags)
{
    return stat_any(dir, path, (struct stat *)st, flags);
}

/* What programs built with a glibc before 2.33 call. (version) is 0 or 1, the kernel's struct in both cases. */
PRELOAD_EXPORT int __xstat(int version, const char *path, struct stat *st);
PRELOAD_EXPORT int __lxstat(int version, const char *path, struct stat *st);
PRELOAD_EXPORT int __fxstat(int version, int fd, struct stat *st);
PRELOAD_EXPORT int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags);
PRELOAD_EXPORT int __xstat64(int version, const char *path, struct stat *st);
PRELOAD_EXPORT int __lxstat64(int version, const char *path, struct stat *st);
PRELOAD_EXPORT int __fxstat64(int version, int fd, struct stat *st);
PRELOAD_EXPORT int __fxstatat64(int version, int dir, const char *path, struct stat *st, int flags);

int __xstat(int version, const char *path, struct stat *st)
{
    return stat(path, st);
}
int __lxstat(int version, const char *path, struct stat *st)
{
    return lstat(path, st);
}
int __fxstat(int version, int fd, struct stat *st)
{
    return fstat_any(fd, st);
}
int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags)
{
    return stat_any(dir, path, st, flags);
}
int __xstat64(int version, const char *path, struct stat *st)
{
    return stat(path, st);
}
int __lxstat64(int version, const char *path, struct stat *st)
{
    return lstat(path, st);
}
int __fxstat64(int version, int fd, struct stat *st)
{
    return fstat_any(fd, st);
}
int __fxstatat64(int version, int dir, const char *path, struct stat *st, int flags)
{
    return stat_any(dir, path, st, flags);
}

PRELOAD_EXPORT int statx(int dir, const char *restrict path, int flags, unsigned mask,
                         struct statx *restrict sx)
{
    enum preload_kind kind = preload_kind(dir, path);
    struct stat st;

    if (kind == PRELOAD_ABSENT)
        return done(-ENOENT);
    if (kind == PRELOAD_NOT_OURS)
        return done(RAW(SYS_statx, dir, path, flags, mask, sx));
    fill(kind, &st);
    *sx = (struct statx){.stx_mask = STATX_BASIC_STATS,
                         .stx_mode = (u16)st.st_mode,
                         .stx_nlink = 1,
                         .stx_blksize = 4096,
                         .stx_ino = st.st_ino,
                         .stx_size = (u64)st.st_size,
                         .stx_rdev_major = major(st.st_rdev),
                         .stx_rdev_minor = minor(st.st_rdev)};
    return 0;
}

/* --- may it be used, is it a link --- */

static int access_any(int dir, const char *path, int mode, int flags)
{
    int rc;

    if (!preload_inside && dir == AT_FDCWD && preload_vsock_access(path, mode, &rc))
        return rc;
    switch (preload_kind(dir, path)) {
    case PRELOAD_ABSENT:
        return done(-ENOENT);
    case PRELOAD_DEVICE:
        return done(mode & X_OK ? -EACCES : 0);
    case PRELOAD_FILE:
        return done(mode & (W_OK | X_OK) ? -EACCES : 0);
    case PRELOAD_DIRECTORY:
        return done(mode & W_OK ? -EACCES : 0);
    default:
        return done(flags ? RAW(SYS_faccessat2, dir, path, mode, flags)
                          : RAW(SYS_faccessat, dir, path, mode));
    }
}

PRELOAD_EXPORT int access(const char *path, int mode)
{
    return access_any(AT_FDCWD, path, mode, 0);
}
PRELOAD_EXPORT int eaccess(const char *path, int mode)
{
    return access_any(AT_FDCWD, path, mode, AT_EACCESS);
}
PRELOAD_EXPORT int euidaccess(const char *path, int mode)
{
    return access_any(AT_FDCWD, path, mode, AT_EACCESS);
}
PRELOAD_EXPORT int faccessat(int dir, const char *path, int mode, int flags)
{
    return access_any(dir, path, mode, flags);
}

PRELOAD_EXPORT ssize_t readlinkat(int dir, const char *restrict path, char *restrict buf,
                                  size_t size)
{
    enum preload_kind kind = preload_kind(dir, path);

    if (kind != PRELOAD_NOT_OURS)
        return done(kind == PRELOAD_ABSENT ? -ENOENT : -EINVAL);
    return done(RAW(SYS_readlinkat, dir, path, buf, size));
}

PRELOAD_EXPORT ssize_t readlink(const char *restrict path, char *restrict buf, size_t size)
{
    return readlinkat(AT_FDCWD, path, buf, size);
}
