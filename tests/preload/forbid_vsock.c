// SPDX-License-Identifier: MIT
// Runs a program that the kernel kills when it, or what it starts, asks it for an AF_VSOCK socket.
#include "under_exec.h"

int main(int argc, char **argv)
{
    if (argc < 2 || forbid_kernel_vsock()) {
        fprintf(stderr, "usage: forbid_vsock PROGRAM [ARG...], on a kernel with seccomp\n");
        return 125;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
