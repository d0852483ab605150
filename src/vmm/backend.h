// SPDX-License-Identifier: MIT
// The four calls through which the VMM reaches a CPU: Linux's KVM ABI, from the kernel or from src/kvm.
#pragma once

#include <stddef.h>
#include <sys/types.h>

/*
 * Results are the system calls' own (-1 and errno). The descriptors are real ones in both
 * cases: poll, dup and close behave, and mmap of a vCPU gives struct kvm_run.
 */
struct kvm_backend {
    const char *name;
    int (*open)(void); /* the system descriptor, as open("/dev/kvm") */
    int (*ioctl)(int fd, unsigned long request, unsigned long arg);
    void *(*mmap)(size_t len, int fd);
    int (*munmap)(void *addr, size_t len);
    int (*close)(int fd);
};

extern const struct kvm_backend kvm_backend_linux; /* /dev/kvm */
extern const struct kvm_backend kvm_backend_soft;  /* src/kvm */
