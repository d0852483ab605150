// SPDX-License-Identifier: MIT
// Copies to and from addresses that a caller gave us and that may be bad.

/*
 * The kernel does the copy (process_vm_readv on ourselves), so a bad address is EFAULT and not a signal.
 * Where a sandbox forbids the call, a pipe serves: write() and read() look at addresses as well.
 */

#include "kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Not read() and write() by name: in a program that we are preloaded into they may lead back to us. */
static int through_pipe(void *dst, const void *src, size_t n)
{
    size_t step;
    int fd[2], rc = 0;

    if (syscall(SYS_pipe2, fd, O_CLOEXEC))
        return -errno;
    for (size_t at = 0; at < n && !rc; at += step) {
        step = n - at < PIPE_BUF ? n - at : PIPE_BUF;
        if (syscall(SYS_write, fd[1], (const u8 *)src + at, step) != (long)step ||
            syscall(SYS_read, fd[0], (u8 *)dst + at, step) != (long)step)
            rc = -EFAULT;
    }
    syscall(SYS_close, fd[0]);
    syscall(SYS_close, fd[1]);
    return rc;
}

static int result(ssize_t got, size_t want)
{
    if (got == (ssize_t)want)
        return 0;
    return got < 0 && (errno == ENOSYS || errno == EPERM) ? -ENOSYS : -EFAULT;
}

int kvm_copy_in(void *dst, unsigned long src, size_t n)
{
    struct iovec to = {.iov_base = dst, .iov_len = n};
    struct iovec from = {.iov_base = (void *)src, .iov_len = n};
    int rc;

    if (!n)
        return 0;
    rc = result(process_vm_readv(getpid(), &to, 1, &from, 1, 0), n);
    return rc == -ENOSYS ? through_pipe(dst, (const void *)src, n) : rc;
}

int kvm_copy_out(unsigned long dst, const void *src, size_t n)
{
    struct iovec from = {.iov_base = (void *)src, .iov_len = n};
    struct iovec to = {.iov_base = (void *)dst, .iov_len = n};
    int rc;

    if (!n)
        return 0;
    rc = result(process_vm_writev(getpid(), &from, 1, &to, 1, 0), n);
    return rc == -ENOSYS ? through_pipe((void *)dst, src, n) : rc;
}
