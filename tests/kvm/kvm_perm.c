// SPDX-License-Identifier: MIT
// Guest permission for tile data: what a guest gets without it, how it is asked for, when it is too late.

#include "client.h"

#include <sys/wait.h>

#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_GUEST_PERM 0x1024
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#define XTILE_MASK (3ull << 17)

static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[256];
} table;

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table.head.nent; i++) {
        if (table.e[i].function == function && table.e[i].index == index)
            return &table.e[i];
    }
    return NULL;
}

static uint64_t perm(int option)
{
    uint64_t mask = 0;

    uvirt_kvm_arch_prctl(option, (unsigned long)&mask);
    return mask;
}

static void get_supported(int sys)
{
    table.head.nent = sizeof(table.e) / sizeof(table.e[0]);
    ok(!kv(sys, KVM_GET_SUPPORTED_CPUID, &table), "supported CPUID");
}

static void test_without(int sys, int vm)
{
    ok(perm(ARCH_GET_XCOMP_SUPP) & (1 << 18), "tile data is supported");
    is_u64(perm(ARCH_GET_XCOMP_GUEST_PERM) & XTILE_MASK, 1 << 17, "only the configuration is permitted");
    is_u64(kv(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), 4096, "XSAVE2 size");
    get_supported(sys);
    is_u64(leaf(0xd, 0)->eax & XTILE_MASK, 0, "0D.0 has neither component");
    ok(!leaf(0xd, 17) && !leaf(0xd, 18), "their subleaves are gone");
    ok(leaf(0xd, 0)->ecx <= 2752, "and not counted in the size");
}

static void test_errors(void)
{
    fails(uvirt_kvm_arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, 19), EINVAL, "no component 19");
    fails(uvirt_kvm_arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, 17), EOPNOTSUPP, "17 needs no permission");
    fails(uvirt_kvm_arch_prctl(ARCH_GET_XCOMP_GUEST_PERM, 8), EFAULT, "a bad pointer");
    fails(uvirt_kvm_arch_prctl(1, 0), EINVAL, "another option");
}

/* In a child: the first vCPU freezes the mask. */
static void test_too_late(int vm)
{
    int status = -1, fd;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        int sys = uvirt_kvm_open();

        vm = kvm_call(sys, KVM_CREATE_VM, 0);
        fd = kvm_call(vm, KVM_CREATE_VCPU, 0);
        table.head.nent = 1;
        table.e[0] = (struct kvm_cpuid_entry2){.function = 0xd, .flags = 1, .eax = 0x60003};
        _exit(fd >= 0 && kvm_call(fd, KVM_SET_CPUID2, (unsigned long)&table) == -1 && errno == EPERM &&
                      uvirt_kvm_arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, 18) == -1 && errno == EBUSY
                  ? 0
                  : 1);
    }
    waitpid(pid, &status, 0);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 0,
       "with a vCPU: EPERM for a table with tile data, EBUSY for asking");
}

static void test_with(int sys, int vm)
{
    int fd;

    ok(!uvirt_kvm_arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, 18), "asked for");
    is_u64(perm(ARCH_GET_XCOMP_GUEST_PERM) & XTILE_MASK, XTILE_MASK, "both are permitted");
    is_u64(kv(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), 11008, "XSAVE2 size with tile data");
    get_supported(sys);
    is_u64(leaf(0xd, 0)->eax & XTILE_MASK, XTILE_MASK, "0D.0 has both components");
    ok(leaf(0xd, 18) && leaf(0xd, 18)->eax == 8192, "0D.18 tells the size");
    fd = kv(vm, KVM_CREATE_VCPU, 0);
    ok(fd >= 0 && !kv(fd, KVM_SET_CPUID2, &table), "a vCPU takes the table");
    ok(!uvirt_kvm_arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, 18), "asking again is fine even now");
}

int main(void)
{
    int sys = uvirt_kvm_open(), vm = kv(sys, KVM_CREATE_VM, 0);

    if (!ok(sys >= 0 && vm >= 0, "a VM"))
        return tap_done();
    test_without(sys, vm);
    test_errors();
    test_too_late(vm);
    test_with(sys, vm);
    return tap_done();
}
