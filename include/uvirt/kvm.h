// SPDX-License-Identifier: MIT
// The KVM API on a software CPU: open, ioctl, mmap and close with the meaning that <linux/kvm.h> gives them.
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UVIRT_PUBLIC __attribute__((visibility("default")))

/*
 * Open the system descriptor, as open("/dev/kvm", O_RDWR | O_CLOEXEC) would. It is a real
 * descriptor; KVM_CREATE_VM and KVM_CREATE_VCPU on it give more real descriptors.
 * Returns the descriptor, or -1 with errno.
 */
UVIRT_PUBLIC int uvirt_kvm_open(void);

/*
 * ioctl() on a system, VM, vCPU or device descriptor. Returns what KVM returns, or -1 with
 * errno: ENOTTY for an unknown request, EFAULT for a bad (arg), EBADF when (fd) is not one of ours.
 */
UVIRT_PUBLIC int uvirt_kvm_ioctl(int fd, unsigned long request, unsigned long arg);

/* Map struct kvm_run of a vCPU: (len) as KVM_GET_VCPU_MMAP_SIZE says. MAP_FAILED with errno on failure. */
UVIRT_PUBLIC void *uvirt_kvm_mmap(size_t len, int fd);

/* Close one descriptor. What it stands for lives until the last reference goes, as in KVM. */
UVIRT_PUBLIC int uvirt_kvm_close(int fd);

/*
 * arch_prctl()'s calls for guests: ARCH_GET_XCOMP_SUPP, ARCH_GET_XCOMP_GUEST_PERM,
 * ARCH_REQ_XCOMP_GUEST_PERM (arg 18: tile data). Without the last, guests have no AMX; after
 * the process's first vCPU it fails with EBUSY. Returns 0, or -1 with errno: EINVAL (no such
 * component or option), EOPNOTSUPP (none that needs permission).
 */
UVIRT_PUBLIC int uvirt_kvm_arch_prctl(int option, unsigned long arg);

#ifdef __cplusplus
}
#endif
