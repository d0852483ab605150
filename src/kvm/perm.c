// SPDX-License-Identifier: MIT
// Permission for guests to use dynamic XSAVE components (tile data), one mask for the process.

/*
 * In Linux a process asks with arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM) before it makes its first vCPU. That call
 * reaches the kernel and not us, so a program that links this library has the permission from the start.
 */

#include "kvm/kvm.h"

u64 kvm_xcomp_guest_perm(void)
{
    return cpu_xcr0_supported();
}
