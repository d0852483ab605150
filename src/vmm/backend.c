// SPDX-License-Identifier: MIT
// The two CPUs that the VMM can run on: the kernel's KVM, and ours.
#include "uvirt/kvm.h"
#include "vmm/backend.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#define XFEATURE_XTILEDATA        18

/*
 * The kernel gives guests AMX tile data only if the process asked before its first vCPU. Where
 * the host has no AMX the request fails, and the CPUID that KVM supports does not have it.
 */
static int linux_open(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XFEATURE_XTILEDATA);
    return fd;
}

static int linux_ioctl(int fd, unsigned long request, unsigned long arg)
{
    return ioctl(fd, request, arg);
}

static void *linux_mmap(size_t len, int fd)
{
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

const struct kvm_backend kvm_backend_linux = {
    .name = "kvm",
    .open = linux_open,
    .ioctl = linux_ioctl,
    .mmap = linux_mmap,
    .munmap = munmap,
    .close = close,
};

static int soft_open(void)
{
    int fd = uvirt_kvm_open();

    if (fd >= 0)
        uvirt_kvm_arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, XFEATURE_XTILEDATA);
    return fd;
}

const struct kvm_backend kvm_backend_soft = {
    .name = "soft",
    .open = soft_open,
    .ioctl = uvirt_kvm_ioctl,
    .mmap = uvirt_kvm_mmap,
    .munmap = munmap,
    .close = uvirt_kvm_close,
};
