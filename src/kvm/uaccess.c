// SPDX-License-Identifier: MIT
// Copies to and from addresses that a caller gave us and that may be bad.

/*
 * The kernel does the copy (process_vm_readv on ourselves), so a bad address is EFAULT and not a signal.
 * Where a sandbox forbids the call, a plain copy is all there is.
 */

#include "kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

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
    if (rc != -ENOSYS)
        return rc;
    memcpy(dst, (const void *)src, n);
    return 0;
}

int kvm_copy_out(unsigned long dst, const void *src, size_t n)
{
    struct iovec from = {.iov_base = (void *)src, .iov_len = n};
    struct iovec to = {.iov_base = (void *)dst, .iov_len = n};
    int rc;

    if (!n)
        return 0;
    rc = result(process_vm_writev(getpid(), &from, 1, &to, 1, 0), n);
    if (rc != -ENOSYS)
        return rc;
    memcpy((void *)dst, src, n);
    return 0;
}
