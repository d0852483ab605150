// SPDX-License-Identifier: MIT
// Building a virtual machine: memory, interrupt chips, boot data.

/*
 * Theory of operation
 *
 * vm_create() makes the KVM objects and maps RAM; nothing is touched there until the kernel is
 * copied in. RAM is one anonymous mapping: guest-physical 0 … ram_low, then 4 GiB … . The VMM's
 * own view of it, (mem), is for boot data and for devices.
 *
 * vm_start() writes the boot data and starts one thread per vCPU. vCPUs other than 0 wait inside
 * KVM for INIT and SIPI. Whoever first sees the guest end (a vCPU thread: power off, reset, triple
 * fault, failure) records it in (end), makes (end_fd) readable, and sets (stopping); the owner
 * then calls vm_stop().
 */
#include "vmm/vm_internal.h"
#include "vmm/acpi.h"
#include "vmm/bzimage.h"
#include "vmm/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* What lies behind a kernel and below its initrd, at least: page tables and per-CPU data of early boot. */
#define KERNEL_SLACK (16ull << 20)

static int check_config(const struct vm_config *cfg, struct vmm_error *err)
{
    if (cfg->cpus < 1 || cfg->cpus > VM_CPUS_MAX)
        return vmm_fail(err, -EINVAL, "%u CPUs are not possible (accepted: 1 to %u)", cfg->cpus,
                        VM_CPUS_MAX);
    if (cfg->memory < VM_MEMORY_MIN || cfg->memory > VM_MEMORY_MAX)
        return vmm_fail(err, -EINVAL,
                        "%llu MiB of memory are not possible (accepted: %llu MiB to "
                        "%llu GiB)",
                        (unsigned long long)(cfg->memory >> 20), VM_MEMORY_MIN >> 20,
                        VM_MEMORY_MAX >> 30);
    return 0;
}

int vm_ioctl(struct vm *vm, unsigned long request, unsigned long arg, const char *name,
             struct vmm_error *err)
{
    int e;

    if (vm->be->ioctl(vm->fd, request, arg) >= 0)
        return 0;
    e = errno;
    return vmm_fail(err, -e, "%s: %s failed: %s", vm->be->name, name, strerror(e));
}

static int add_memory(struct vm *vm, u32 slot, gpa_t gpa, u64 size, u8 *hva, struct vmm_error *err)
{
    struct kvm_userspace_memory_region r = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (u64)(uintptr_t)hva,
    };
    int rc = mem_slot_set(vm->mem, slot, gpa, size, hva, MEM_OWNER);

    if (rc)
        return vmm_fail(err, rc, "no memory for the guest's %llu MiB",
                        (unsigned long long)size >> 20);
    return vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&r, "KVM_SET_USER_MEMORY_REGION",
                    err);
}

static int create_memory(struct vm *vm, u64 size, struct vmm_error *err)
{
    int rc;

    vm->ram_low = size < BOARD_RAM_HOLE ? size : BOARD_RAM_HOLE;
    vm->ram_high = size - vm->ram_low;
    rc = blob_alloc(size, &vm->ram);
    if (rc)
        return vmm_fail(err, rc, "no address space for %llu MiB of guest memory",
                        (unsigned long long)size >> 20);
    rc = mem_create(&vm->mem);
    if (rc)
        return vmm_fail(err, rc, "out of memory");
    rc = add_memory(vm, 0, 0, vm->ram_low, vm->ram.data, err);
    if (rc == 0 && vm->ram_high)
        rc = add_memory(vm, 1, BOARD_RAM_ABOVE, vm->ram_high, vm->ram.data + vm->ram_low, err);
    return rc;
}

static void set_irq(void *opaque, unsigned gsi, bool level)
{
    struct vm *vm = opaque;
    struct kvm_irq_level l = {.irq = gsi, .level = level};

    vm->be->ioctl(vm->fd, KVM_IRQ_LINE, (unsigned long)&l);
}

static int create_chips(struct vm *vm, struct vmm_error *err)
{
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    u64 identity = BOARD_IDENTITY_MAP;
    int rc;

    /* Intel's VMX needs these two before the first vCPU; elsewhere they do nothing. */
    rc = vm_ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, (unsigned long)&identity,
                  "KVM_SET_IDENTITY_MAP_ADDR", err);
    if (rc == 0)
        rc = vm_ioctl(vm, KVM_SET_TSS_ADDR, BOARD_TSS, "KVM_SET_TSS_ADDR", err);
    if (rc == 0)
        rc = vm_ioctl(vm, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP", err);
    if (rc == 0)
        rc = vm_ioctl(vm, KVM_CREATE_PIT2, (unsigned long)&pit, "KVM_CREATE_PIT2", err);
    return rc;
}

static int open_kvm(struct vm *vm, struct vmm_error *err)
{
    int e;

    vm->sys_fd = vm->be->open();
    if (vm->sys_fd < 0) {
        e = errno;
        return vmm_fail(err, -e, "engine %s cannot be opened: %s", vm->be->name, strerror(e));
    }
    if (vm->be->ioctl(vm->sys_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return vmm_fail(err, -EINVAL, "engine %s speaks another version of KVM", vm->be->name);
    vm->fd = vm->be->ioctl(vm->sys_fd, KVM_CREATE_VM, 0);
    if (vm->fd < 0) {
        e = errno;
        return vmm_fail(err, -e, "%s: KVM_CREATE_VM failed: %s", vm->be->name, strerror(e));
    }
    e = vm->be->ioctl(vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (e < (int)sizeof(struct kvm_run))
        return vmm_fail(err, -EINVAL, "%s: KVM_GET_VCPU_MMAP_SIZE failed", vm->be->name);
    vm->run_size = (size_t)e;
    return 0;
}

static int create_vcpus(struct vm *vm, const struct vm_config *cfg, struct vmm_error *err)
{
    size_t size = sizeof(struct kvm_cpuid2) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2);
    bool deadline = vm->be->ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    struct kvm_cpuid2 *base = NULL, *t = calloc(1, size);
    int rc = t ? 0 : -ENOMEM;

    if (rc == 0 && !cfg->cpuid && !cfg->cpu_cpuid)
        rc = cpuid_supported(vm->be, vm->sys_fd, &base);
    if (rc) {
        free(t);
        return vmm_fail(err, rc, "%s: KVM_GET_SUPPORTED_CPUID failed: %s", vm->be->name,
                        strerror(-rc));
    }
    for (unsigned i = 0; i < cfg->cpus && rc == 0; i++) {
        const struct kvm_cpuid2 *from = cfg->cpu_cpuid ? cfg->cpu_cpuid[i]
                                        : cfg->cpuid   ? cfg->cpuid
                                                       : base;
        struct vcpu *v = &vm->vcpus[i];

        t->nent = from->nent < CPUID_ENTRIES_MAX ? from->nent : CPUID_ENTRIES_MAX;
        memcpy(t->entries, from->entries, t->nent * sizeof(t->entries[0]));
        if (!cfg->cpu_cpuid)
            cpuid_patch(t, i, cfg->cpus, deadline);
        v->vm = vm;
        v->index = i;
        rc = vcpu_create(v, t, err);
        vm->nr_vcpus = i + 1;
    }
    free(base);
    free(t);
    return rc;
}

int vm_create(const struct vm_config *cfg, struct vm **ret, struct vmm_error *err)
{
    struct vm *vm;
    int rc = check_config(cfg, err);

    if (rc)
        return rc;
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return vmm_fail(err, -ENOMEM, "out of memory");
    vm->be = cfg->backend;
    vm->sys_fd = vm->fd = vm->end_fd = -1;
    pthread_mutex_init(&vm->end_lock, NULL);
    pthread_mutex_init(&vm->pause_lock, NULL);
    pthread_cond_init(&vm->pause_cond, NULL);
    vm->end_fd = eventfd(0, EFD_CLOEXEC);
    rc = vm->end_fd < 0 ? vmm_fail(err, -errno, "eventfd: %s", strerror(errno)) : 0;
    if (rc == 0)
        rc = open_kvm(vm, err);
    if (rc == 0)
        rc = create_memory(vm, cfg->memory, err);
    if (rc == 0)
        rc = create_chips(vm, err);
    if (rc == 0) {
        struct board_config board = {
            .mem = vm->mem,
            .irq = set_irq,
            .irq_opaque = vm,
            .serial_output = cfg->serial_output,
            .serial_opaque = cfg->serial_opaque,
        };
        board_init(&vm->board, &board);
        vm->board_ready = true;
        rc = create_vcpus(vm, cfg, err);
    }
    if (rc) {
        vm_free(vm);
        return rc;
    }
    *ret = vm;
    return 0;
}

int vm_add_virtio(struct vm *vm, struct virtio_device *d)
{
    return board_add_virtio(&vm->board, d);
}

static int load_vmlinux(struct vm *vm, const struct blob *vmlinux, struct vmm_error *err)
{
    struct elf_kernel k;
    int rc = elf_parse(vmlinux, &k, err);

    if (rc)
        return rc;
    if (k.start < BOARD_HIGH_RAM)
        return vmm_fail(err, -EINVAL, "the kernel wants to be loaded below 1 MiB");
    if (k.end > vm->ram_low)
        return vmm_fail(err, -ENOSPC, "the kernel needs %llu MiB of memory, the guest has %llu MiB",
                        (unsigned long long)((k.end + 0xfffff) >> 20),
                        (unsigned long long)vm->ram_low >> 20);
    rc = elf_load(vmlinux, vm->mem, err);
    if (rc == 0)
        vm->kernel = k;
    return rc;
}

int vm_load_kernel(struct vm *vm, const struct blob *image, struct vmm_error *err)
{
    struct blob vmlinux = {0};
    int rc;

    if (elf_is(image))
        return load_vmlinux(vm, image, err);
    if (!bzimage_is(image))
        return vmm_fail(err, -EINVAL, "it is not a kernel (accepted: bzImage, or ELF vmlinux)");
    rc = bzimage_unpack(image, &vmlinux, err);
    if (rc)
        return rc;
    rc = elf_is(&vmlinux)
             ? load_vmlinux(vm, &vmlinux, err)
             : vmm_fail(err, -EINVAL, "the bzImage does not have an ELF kernel inside");
    blob_free(&vmlinux);
    return rc;
}

int vm_load_initrd(struct vm *vm, const struct blob *parts, unsigned n, struct vmm_error *err)
{
    gpa_t at;
    u64 size = 0;

    for (unsigned i = 0; i < n; i++)
        size += ALIGN_UP(parts[i].size, 4);
    if (!size)
        return 0;
    if (vm->kernel.end + KERNEL_SLACK > vm->ram_low ||
        size > vm->ram_low - vm->kernel.end - KERNEL_SLACK)
        return vmm_fail(err, -ENOSPC, "the initrd of %llu MiB does not fit into %llu MiB of memory",
                        (unsigned long long)((size + 0xfffff) >> 20),
                        (unsigned long long)vm->ram_low >> 20);
    at = (vm->ram_low - size) & PAGE_MASK;
    vm->initrd = at;
    vm->initrd_size = size;
    for (unsigned i = 0; i < n; i++) {
        if (parts[i].size && mem_write(vm->mem, at, parts[i].data, parts[i].size))
            return vmm_fail(err, -ENOSPC, "the initrd does not fit into memory");
        at += ALIGN_UP(parts[i].size, 4);
    }
    return 0;
}

static int write_boot_data(struct vm *vm, const char *cmdline, struct vmm_error *err)
{
    struct acpi_config acpi = {.cpus = vm->nr_vcpus, .virtio = vm->board.nr_virtio};
    struct boot_config boot = {
        .kernel = vm->kernel,
        .cmdline = cmdline,
        .initrd = vm->initrd,
        .initrd_size = vm->initrd_size,
        .rsdp = BOARD_ACPI,
        .ram_low = vm->ram_low,
        .ram_high = vm->ram_high,
    };
    u8 *tables = mem_span(vm->mem, BOARD_ACPI, BOARD_ACPI_SIZE, true);
    long rc = tables ? acpi_build(&acpi, tables, BOARD_ACPI_SIZE, BOARD_ACPI) : -ENOSPC;

    if (rc < 0)
        return vmm_fail(err, (int)rc, "no room for the ACPI tables");
    mem_written(vm->mem, BOARD_ACPI, BOARD_ACPI_SIZE);
    return vcpu_set_boot_state(&vm->vcpus[0], &boot, err);
}

int vm_start(struct vm *vm, const char *cmdline, struct vmm_error *err)
{
    int rc;

    if (strlen(cmdline) >= BOARD_CMDLINE_SIZE)
        return vmm_fail(err, -EINVAL,
                        "the kernel command line has %zu bytes, at most %u are possible",
                        strlen(cmdline), BOARD_CMDLINE_SIZE - 1);
    rc = write_boot_data(vm, cmdline, err);
    return rc ? rc : vm_run(vm, err);
}

int vm_run(struct vm *vm, struct vmm_error *err)
{
    int rc = 0;

    for (unsigned i = 0; i < vm->nr_vcpus && rc == 0; i++)
        rc = vcpu_start(&vm->vcpus[i], err);
    return rc;
}

int vm_end_fd(const struct vm *vm)
{
    return vm->end_fd;
}

void vm_finish(struct vm *vm, enum vm_end how, const char *why)
{
    u64 one = 1;
    ssize_t n;

    pthread_mutex_lock(&vm->end_lock);
    if (vm->end == VM_RUNNING) {
        vm->end = how;
        vmm_fail(&vm->why, 0, "%s", why ? why : "");
    }
    pthread_mutex_unlock(&vm->end_lock);
    atomic_store(&vm->stopping, true);
    n = write(vm->end_fd, &one, sizeof(one));
    (void)n; /* an eventfd fails only when it is readable already */
}

enum vm_end vm_ended(struct vm *vm, struct vmm_error *why)
{
    enum vm_end end;

    pthread_mutex_lock(&vm->end_lock);
    end = vm->end;
    if (why)
        *why = vm->why;
    pthread_mutex_unlock(&vm->end_lock);
    return end;
}

void vm_stop(struct vm *vm)
{
    vm_finish(vm, VM_STOPPED, NULL);
    vm_resume(vm); /* parked threads must see it */
    for (unsigned i = 0; i < vm->nr_vcpus; i++)
        vcpu_kick(&vm->vcpus[i]);
    for (unsigned i = 0; i < vm->nr_vcpus; i++)
        vcpu_join(&vm->vcpus[i]);
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    vm_stop(vm);
    for (unsigned i = 0; i < vm->nr_vcpus; i++)
        vcpu_free(&vm->vcpus[i]);
    if (vm->board_ready)
        board_fini(&vm->board);
    if (vm->fd >= 0)
        vm->be->close(vm->fd);
    if (vm->sys_fd >= 0)
        vm->be->close(vm->sys_fd);
    if (vm->end_fd >= 0)
        close(vm->end_fd);
    mem_free(vm->mem);
    blob_free(&vm->ram);
    pthread_mutex_destroy(&vm->end_lock);
    pthread_mutex_destroy(&vm->pause_lock);
    pthread_cond_destroy(&vm->pause_cond);
    free(vm);
}

struct board *vm_board(struct vm *vm)
{
    return &vm->board;
}

void vm_get_stats(struct vm *vm, struct vm_stats *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < vm->nr_vcpus; i++) {
        ret->exits += vm->vcpus[i].stats.exits;
        for (unsigned r = 0; r < ARRAY_SIZE(ret->by_reason); r++)
            ret->by_reason[r] += vm->vcpus[i].stats.by_reason[r];
    }
}

int vm_kvm_fd(const struct vm *vm, int index)
{
    return index < 0 ? vm->fd : index < (int)vm->nr_vcpus ? vm->vcpus[index].fd : -1;
}
