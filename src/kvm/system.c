// SPDX-License-Identifier: MIT
// The system descriptor: version, capabilities, VM creation.

#include "kvm/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MCG_CTL_P BIT(8)
#define MCG_SER_P BIT(24)
#define MCE_CAP_SUPPORTED (MCG_CTL_P | MCG_SER_P)

static void system_destroy(struct kvm_object *o) { free(o); }

int kvm_system_open(void)
{
    struct kvm_object *o = malloc(sizeof(*o));
    int fd, rc;

    if (!o)
        return -ENOMEM;
    kvm_object_init(o, KVM_CLASS_SYSTEM, system_destroy);
    fd = kvm_fd_make("kvm", 0);
    if (fd < 0) {
        free(o);
        return fd;
    }
    rc = kvm_fd_bind(fd, o);
    if (rc) {
        close(fd);
        free(o);
        return rc;
    }
    return fd;
}

int kvm_system_get_api_version(void *arg, unsigned long raw) { return KVM_API_VERSION; }
int kvm_system_create_vm(void *arg, unsigned long raw) { return kvm_vm_create(raw); }
int kvm_system_check_extension(void *arg, unsigned long raw) { return kvm_cap_check(NULL, raw); }
int kvm_system_get_vcpu_mmap_size(void *arg, unsigned long raw) { return KVM_MMAP_SIZE; }

int kvm_system_get_mce_cap(void *arg, unsigned long raw)
{
    *(u64 *)arg = MCE_CAP_SUPPORTED;
    return 0;
}

int kvm_system_has_device_attr(void *arg, unsigned long raw)
{
    const struct kvm_device_attr *a = arg;

    return a->group == KVM_X86_GRP_SYSTEM && a->attr == KVM_X86_XCOMP_GUEST_SUPP ? 0 : -ENXIO;
}

int kvm_system_get_device_attr(void *arg, unsigned long raw)
{
    const struct kvm_device_attr *a = arg;
    u64 xcr0 = cpu_xcr0_supported();
    int rc = kvm_system_has_device_attr(arg, raw);

    return rc ? rc : kvm_copy_out(a->addr, &xcr0, sizeof(xcr0));
}
