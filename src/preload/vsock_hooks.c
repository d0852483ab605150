// SPDX-License-Identifier: MIT
// AF_VSOCK's part of interposed calls that have several owners: open, close, ioctl, access, syscall.

#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "preload/libc.h"
#include "preload/preload.h"
#include "preload/raw.h"
#include "preload/vsock.h"

#include <fcntl.h>
#include <string.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <unistd.h>

#define DEVICE "/dev/vsock"

bool preload_has_kvm(void)
{
    return !vsk_dir || vsk_with_kvm;
}

void preload_vsock_opened(int fd)
{
    vsk_forget(fd);
}

bool preload_vsock_is_device(const char *path)
{
    return vsk_dir && path && !strcmp(path, DEVICE);
}

bool preload_vsock_open(const char *path, int flags, int *fd)
{
    if (!preload_vsock_is_device(path))
        return false;
    *fd = (int)libc_done(RAW(SYS_openat, AT_FDCWD, "/dev/null", flags & ~(O_CREAT | O_TRUNC)));
    return true;
}

bool preload_vsock_access(const char *path, int mode, int *rc)
{
    if (!preload_vsock_is_device(path))
        return false;
    *rc = (int)libc_done(mode & X_OK ? -EACCES : 0);
    return true;
}

bool preload_vsock_close(int fd, int *rc)
{
    u64 tag;

    if (!vsk_dir || fd < 0)
        return false;
    vsk_epoll_forget(fd, fd);
    if (!vsk_get(fd, &tag))
        return false;
    *rc = (int)libc_done(vsk_close(fd));
    return true;
}

bool preload_vsock_ioctl(int fd, unsigned long request, unsigned long arg, int *rc)
{
    if (!vsk_ioctl(fd, request, arg, rc))
        return false;
    *rc = (int)libc_done(*rc);
    return true;
}

#define FD(n)     ((int)a[n])
#define INT(n)    ((int)a[n])
#define SIZE(n)   ((size_t)a[n])
#define PTR(n)    ((void *)a[n])
#define LENGTH(n) ((socklen_t)a[n])

/* Calls of programs that go round libc's wrappers, but not round libc. */
bool preload_vsock_syscall(long number, const unsigned long a[6], long *rc)
{
    u64 tag;

    if (!vsk_dir)
        return false;
    if (number == SYS_socket && INT(0) == AF_VSOCK) {
        *rc = socket(INT(0), INT(1), INT(2));
        return true;
    }
    if (number == SYS_socketpair && INT(0) == AF_VSOCK) {
        *rc = socketpair(INT(0), INT(1), INT(2), PTR(3));
        return true;
    }
    if (number == SYS_close_range) {
        *rc = close_range((unsigned)a[0], (unsigned)a[1], INT(2));
        return true;
    }
    if (!vsk_get(FD(0), &tag))
        return false;
    switch (number) {
    case SYS_bind:
        *rc = bind(FD(0), PTR(1), LENGTH(2));
        return true;
    case SYS_listen:
        *rc = listen(FD(0), INT(1));
        return true;
    case SYS_accept:
        *rc = accept(FD(0), PTR(1), PTR(2));
        return true;
    case SYS_accept4:
        *rc = accept4(FD(0), PTR(1), PTR(2), INT(3));
        return true;
    case SYS_connect:
        *rc = connect(FD(0), PTR(1), LENGTH(2));
        return true;
    case SYS_shutdown:
        *rc = shutdown(FD(0), INT(1));
        return true;
    case SYS_getsockname:
        *rc = getsockname(FD(0), PTR(1), PTR(2));
        return true;
    case SYS_getpeername:
        *rc = getpeername(FD(0), PTR(1), PTR(2));
        return true;
    case SYS_setsockopt:
        *rc = setsockopt(FD(0), INT(1), INT(2), PTR(3), LENGTH(4));
        return true;
    case SYS_getsockopt:
        *rc = getsockopt(FD(0), INT(1), INT(2), PTR(3), PTR(4));
        return true;
    case SYS_sendto:
        *rc = sendto(FD(0), PTR(1), SIZE(2), INT(3), PTR(4), LENGTH(5));
        return true;
    case SYS_recvfrom:
        *rc = recvfrom(FD(0), PTR(1), SIZE(2), INT(3), PTR(4), PTR(5));
        return true;
    case SYS_sendmsg:
        *rc = sendmsg(FD(0), PTR(1), INT(2));
        return true;
    case SYS_recvmsg:
        *rc = recvmsg(FD(0), PTR(1), INT(2));
        return true;
    case SYS_read:
        *rc = read(FD(0), PTR(1), SIZE(2));
        return true;
    case SYS_write:
        *rc = write(FD(0), PTR(1), SIZE(2));
        return true;
    case SYS_readv:
        *rc = readv(FD(0), PTR(1), INT(2));
        return true;
    case SYS_writev:
        *rc = writev(FD(0), PTR(1), INT(2));
        return true;
    case SYS_dup:
        *rc = dup(FD(0));
        return true;
    case SYS_dup2:
        *rc = dup2(FD(0), INT(1));
        return true;
    case SYS_dup3:
        *rc = dup3(FD(0), INT(1), INT(2));
        return true;
    case SYS_fcntl:
        *rc = fcntl(FD(0), INT(1), a[2]);
        return true;
    default:
        return false;
    }
}
