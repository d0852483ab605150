// SPDX-License-Identifier: MIT
// The API's surface: descriptors, capabilities, and the errors of ioctls that are wrong.

#include "client.h"

#include <sys/stat.h>
#include <sys/wait.h>

#define BAD ((void *)8)

static void test_system(void)
{
    int sys = kvm_open();

    ok(sys >= 0, "open");
    ok(fcntl(sys, F_GETFD) & FD_CLOEXEC, "the descriptor closes on exec");
    is_u64(kv(sys, KVM_GET_API_VERSION, 0), 12, "API version");
    ok(kv(sys, KVM_GET_VCPU_MMAP_SIZE, 0) >= 4096, "mmap size");
    is_u64(kv(sys, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1, "KVM_CAP_USER_MEMORY");
    is_u64(kv(sys, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT), 1, "KVM_CAP_IMMEDIATE_EXIT");
    ok(kv(sys, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) >= 4096, "KVM_CAP_XSAVE2 is a size");
    ok(kv(sys, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS) >= 2, "KVM_CAP_MAX_VCPUS");
    is_u64(kv(sys, KVM_CHECK_EXTENSION, 100000), 0, "an unknown capability is 0");
    is_u64(kv(sys, KVM_CHECK_EXTENSION, ~0ul), 0, "so is the biggest number");
    fails(kv(sys, KVM_CREATE_VM, 77), EINVAL, "unknown VM type");
    fails(kv(sys, KVM_GET_REGS, BAD), on_host() ? EINVAL : ENOTTY, "a vCPU ioctl on the system descriptor");
    if (!on_host())
        fails(kv(sys, _IO(KVMIO, 0xfe), 0), ENOTTY, "an unknown ioctl");
    kvm_close(sys);
}

static void test_descriptors(void)
{
    int sys = kvm_open(), vm = kv(sys, KVM_CREATE_VM, 0), copy, other;

    fails(kv(-1, KVM_GET_API_VERSION, 0), EBADF, "ioctl on -1");
    fails(kv(9999, KVM_GET_API_VERSION, 0), EBADF, "ioctl on a closed descriptor");
    ok(vm >= 0, "KVM_CREATE_VM");
    copy = dup(vm);
    is_u64(kv(copy, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1, "a dup is the same VM");
    ok(!kvm_close(vm), "close the original");
    fails(kv(vm, KVM_CREATE_VCPU, 1), EBADF, "the original is gone");
    ok(kv(copy, KVM_CREATE_VCPU, 0) >= 0, "the dup keeps the VM");
    other = dup(copy);
    kvm_close(copy);
    ok(kv(other, KVM_CREATE_VCPU, 1) >= 0, "a dup that no ioctl has seen keeps it too");
    kvm_close(other);
    if (!by_device()) {
        other = open("/dev/null", O_RDONLY);
        fails(kv(other, KVM_GET_API_VERSION, 0), EBADF, "a descriptor that is not ours");
        fails(kvm_close(other), EBADF, "closing it is refused");
        close(other);
    }
    vm = kv(sys, KVM_CREATE_VM, 0);
    close(vm);
    other = kv(sys, KVM_CREATE_VM, 0);
    ok(other == vm && kv(other, KVM_CREATE_VCPU, 0) >= 0, "a number that was closed behind our back is reused");
    kvm_close(other);
    kvm_close(sys);
}

static void test_lifetime(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_regs r;

    kvm_close(m.fd);
    ok(!kv(v.fd, KVM_GET_REGS, &r), "a vCPU outlives its VM's descriptor");
    vcpu_free(&v);
    fails(kv(v.fd, KVM_GET_REGS, &r), EBADF, "and not its own");
    kvm_close(m.sys);
}

static void test_fork(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_regs r;
    int status = -1;
    pid_t pid = fork();

    if (!pid) {
        int bad = kv(v.fd, KVM_GET_REGS, &r) != -1 || errno != EIO;

        bad |= kv(m.sys, KVM_GET_API_VERSION, 0) != 12;
        bad |= kvm_close(v.fd) || kvm_close(m.fd);
        _exit(bad);
    }
    waitpid(pid, &status, 0);
    is_u64(status, 0, "a child may use the system descriptor, not its parent's VM");
    ok(!kv(v.fd, KVM_GET_REGS, &r), "the parent's works on");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_vcpu_creation(void)
{
    struct vm m = vm_new(0x100000);
    int max = kv(m.sys, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
    struct vcpu v = vcpu_new(&m, 3);

    fails(kv(m.fd, KVM_CREATE_VCPU, 3), EEXIST, "vCPU ID taken");
    fails(kv(m.fd, KVM_CREATE_VCPU, max), EINVAL, "vCPU ID too big");
    fails(kv(m.fd, KVM_CREATE_IRQCHIP, 0), EINVAL, "irqchip after the first vCPU");
    fails(kv(m.fd, KVM_SET_BOOT_CPU_ID, 1), EBUSY, "boot CPU after the first vCPU");
    fails(kv(v.fd, KVM_RUN, 1), EINVAL, "KVM_RUN with an argument");
    vcpu_free(&v);
    fails(kv(m.fd, KVM_CREATE_VCPU, 3), EEXIST, "a closed vCPU keeps its ID");
    vm_free(&m);
}

static void test_faults(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_msrs none = {.nmsrs = 0}, many = {.nmsrs = 100000};
    struct kvm_signal_mask mask = {.len = 3};

    fails(kv(v.fd, KVM_GET_REGS, BAD), EFAULT, "KVM_GET_REGS to a bad address");
    fails(kv(v.fd, KVM_SET_REGS, BAD), EFAULT, "KVM_SET_REGS from one");
    fails(kv(v.fd, KVM_SET_SREGS, NULL), EFAULT, "KVM_SET_SREGS from NULL");
    fails(kv(v.fd, KVM_GET_MSRS, BAD), EFAULT, "KVM_GET_MSRS");
    fails(kv(v.fd, KVM_GET_MSRS, &many), E2BIG, "KVM_GET_MSRS of too many");
    is_u64(kv(v.fd, KVM_GET_MSRS, &none), 0, "KVM_GET_MSRS of none");
    fails(kv(v.fd, KVM_SET_CPUID2, BAD), EFAULT, "KVM_SET_CPUID2");
    fails(kv(v.fd, KVM_GET_XSAVE, BAD), EFAULT, "KVM_GET_XSAVE");
    fails(kv(v.fd, KVM_SET_SIGNAL_MASK, BAD), EFAULT, "KVM_SET_SIGNAL_MASK");
    fails(kv(v.fd, KVM_SET_SIGNAL_MASK, &mask), EINVAL, "KVM_SET_SIGNAL_MASK of a wrong length");
    ok(!kv(v.fd, KVM_SET_SIGNAL_MASK, NULL), "KVM_SET_SIGNAL_MASK off");
    fails(kv(m.fd, KVM_SET_USER_MEMORY_REGION, BAD), EFAULT, "KVM_SET_USER_MEMORY_REGION");
    fails(kv(m.fd, KVM_SET_GSI_ROUTING, BAD), EFAULT, "KVM_SET_GSI_ROUTING");
    fails(kv(v.fd, KVM_GET_LAPIC, BAD), EINVAL, "KVM_GET_LAPIC without irqchip comes before the address");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_lists(void)
{
    int sys = kvm_open();
    struct {
        struct kvm_msr_list head;
        uint32_t index[1000];
    } list = {.head.nmsrs = 0};
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[8];
    } msrs = {.head.nmsrs = 1};
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
    int tsc = 0, star = 0, signature = 0;
    uint32_t need;

    fails(kv(sys, KVM_GET_MSR_INDEX_LIST, &list), E2BIG, "MSR list without room");
    need = list.head.nmsrs;
    ok(need > 10 && need < 1000, "says how much it needs: %u", need);
    ok(!kv(sys, KVM_GET_MSR_INDEX_LIST, &list), "MSR list");
    for (uint32_t i = 0; i < list.head.nmsrs; i++) {
        tsc |= list.head.indices[i] == 0x10;
        star |= list.head.indices[i] == 0xc0000081;
    }
    ok(tsc && star, "TSC and STAR are in it");
    list.head.nmsrs = 1000;
    ok(!kv(sys, KVM_GET_MSR_FEATURE_INDEX_LIST, &list) && list.head.nmsrs, "feature MSR list");
    msrs.e[0].index = list.head.indices[0];
    is_u64(kv(sys, KVM_GET_MSRS, &msrs), 1, "and its first can be read");
    msrs.e[0].index = 0x10;
    is_u64(kv(sys, KVM_GET_MSRS, &msrs), 0, "the TSC is no feature");
    fails(kv(sys, KVM_GET_SUPPORTED_CPUID, cpuid), E2BIG, "CPUID without room");
    cpuid->nent = 256;
    ok(!kv(sys, KVM_GET_SUPPORTED_CPUID, cpuid) && cpuid->nent > 10, "supported CPUID: %u entries", cpuid->nent);
    for (uint32_t i = 0; i < cpuid->nent; i++)
        signature |= cpuid->entries[i].function == 0x40000000 && !memcmp(&cpuid->entries[i].ebx, "KVMKVMKVM\0\0", 12);
    ok(signature, "KVM's signature");
    free(cpuid);
    kvm_close(sys);
}

static void test_attributes(void)
{
    int sys = kvm_open();
    uint64_t xcr0 = 0;
    struct kvm_device_attr a = {.group = 0, .attr = 0, .addr = (uintptr_t)&xcr0};

    ok(!kv(sys, KVM_HAS_DEVICE_ATTR, &a), "XCOMP_GUEST_SUPP is there");
    ok(!kv(sys, KVM_GET_DEVICE_ATTR, &a) && (xcr0 & 3) == 3, "and readable: %#llx", (unsigned long long)xcr0);
    a.addr = 8;
    fails(kv(sys, KVM_GET_DEVICE_ATTR, &a), EFAULT, "to a bad address");
    a.attr = 5;
    fails(kv(sys, KVM_HAS_DEVICE_ATTR, &a), ENXIO, "an unknown attribute");
    kvm_close(sys);
}

static void test_caps(void)
{
    struct vm m = vm_new(0x100000);
    struct kvm_enable_cap c = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};

    ok(!kv(m.fd, KVM_ENABLE_CAP, &c), "KVM_CAP_EXCEPTION_PAYLOAD can be turned on");
    c.flags = 1;
    fails(kv(m.fd, KVM_ENABLE_CAP, &c), EINVAL, "not with flags");
    c = (struct kvm_enable_cap){.cap = KVM_CAP_USER_MEMORY};
    fails(kv(m.fd, KVM_ENABLE_CAP, &c), EINVAL, "nor what is always on");
    c = (struct kvm_enable_cap){.cap = KVM_CAP_MAX_VCPU_ID, .args = {4}};
    ok(!kv(m.fd, KVM_ENABLE_CAP, &c), "KVM_CAP_MAX_VCPU_ID");
    fails(kv(m.fd, KVM_CREATE_VCPU, 4), EINVAL, "limits the IDs");
    fails(kv(m.fd, KVM_ENABLE_CAP, &c), EINVAL, "once");
    fails(kv(m.fd, KVM_SET_TSS_ADDR, ~0ul), EINVAL, "a TSS address past 4 GiB");
    ok(!kv(m.fd, KVM_SET_TSS_ADDR, 0xfffbd000), "a TSS address");
    vm_free(&m);
}

static void test_stats(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_stats_header h = {0};
    int fd = kv(v.fd, KVM_GET_STATS_FD, 0);
    uint64_t value = 0;

    ok(fd >= 0 && read(fd, &h, sizeof(h)) == sizeof(h), "a statistics descriptor");
    ok(h.num_desc > 3 && h.name_size >= 8 && h.data_offset > h.desc_offset, "with a sane header");
    ok(pread(fd, &value, 8, h.data_offset) == 8, "and values");
    is_u64(write(fd, &value, 8), -1, "that nobody else can write");
    close(fd);
    fd = kv(m.fd, KVM_GET_STATS_FD, 0);
    ok(fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h), "the VM has one too");
    close(fd);
    vcpu_free(&v);
    vm_free(&m);
}

int main(void)
{
    test_system();
    test_descriptors();
    test_lifetime();
    test_fork();
    test_vcpu_creation();
    test_faults();
    test_lists();
    test_attributes();
    test_caps();
    test_stats();
    return tap_done();
}
