// SPDX-License-Identifier: MIT
// Permission for guests to use dynamic XSAVE components (tile data): one mask for the process, as Linux keeps it.

/*
 * Theory of operation
 *
 * A process asks with arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM) before it makes its first vCPU; from then
 * on the mask is frozen (arch/x86/xstate.rst, "Dynamic features for virtual machines"). Both are
 * atomics: a request that races with a first vCPU is ordered before or after it.
 */

#include "kvm/kvm.h"
#include "uvirt/kvm.h"

#include <errno.h>

/* <asm/prctl.h> of Debian 12 has them, but in a header that does not go along with ours. */
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_GUEST_PERM 0x1024
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025

#define XFEATURE_XTILEDATA 18
#define XFEATURE_MAX 19

static _Atomic u64 asked; /* XCR0 bits */
static _Atomic bool frozen;

u64 kvm_xcomp_guest_perm(void)
{
    return cpu_xcr0_supported() & (~XCR0_AMX | atomic_load(&asked));
}

void kvm_xcomp_freeze(void)
{
    atomic_store(&frozen, true);
}

static int request(unsigned long component)
{
    if (component >= XFEATURE_MAX)
        return -EINVAL;
    if (component != XFEATURE_XTILEDATA || !(cpu_xcr0_supported() & XCR0_XTILEDATA))
        return -EOPNOTSUPP;
    if (atomic_load(&asked) & XCR0_XTILEDATA)
        return 0;
    if (atomic_load(&frozen))
        return -EBUSY;
    atomic_fetch_or(&asked, XCR0_AMX);
    return 0;
}

int uvirt_kvm_arch_prctl(int option, unsigned long arg)
{
    u64 mask;
    int rc;

    switch (option) {
    case ARCH_GET_XCOMP_SUPP:
        mask = cpu_xcr0_supported();
        rc = kvm_copy_out(arg, &mask, sizeof(mask));
        break;
    case ARCH_GET_XCOMP_GUEST_PERM:
        /* Linux grants the small tile configuration to everybody. */
        mask = kvm_xcomp_guest_perm() | (cpu_xcr0_supported() & XCR0_XTILECFG);
        rc = kvm_copy_out(arg, &mask, sizeof(mask));
        break;
    case ARCH_REQ_XCOMP_GUEST_PERM:
        rc = request(arg);
        break;
    default:
        rc = -EINVAL;
        break;
    }
    if (rc < 0) {
        errno = -rc;
        return -1;
    }
    return 0;
}
