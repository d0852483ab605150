// SPDX-License-Identifier: MIT
// System calls that the library cannot see get no AF_VSOCK socket of the kernel's under uvirt exec --vsock.
#include "under_exec.h"

/* Should uvirt not keep them from the kernel, then this does, with an error of its own. */
#define LEAKED ENOMEDIUM

int main(int argc, char **argv)
{
    int rc, fd[2];

    under_exec_with(SECCOMP_RET_ERRNO | LEAKED);
    rc = (int)kernel(SYS_socket, AF_VSOCK, SOCK_STREAM, 0, 0, 0);
    is_u64(-rc, EAFNOSUPPORT, "socket() round libc");
    rc = (int)kernel(SYS_socketpair, AF_VSOCK, SOCK_SEQPACKET, 0, (long)fd, 0);
    is_u64(-rc, EAFNOSUPPORT, "socketpair() round libc");
    rc = (int)kernel(SYS_socket | __X32_SYSCALL_BIT, AF_VSOCK, SOCK_STREAM, 0, 0, 0);
    is_u64(-rc, EAFNOSUPPORT, "socket() by its x32 number");
    rc = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(rc >= 0, "socket() of libc");
    ok(kernel(SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0) > rc, "other families are the kernel's");
    return tap_done();
}
