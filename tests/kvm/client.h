// SPDX-License-Identifier: MIT
// A small KVM client for the tests: the calls, a VM with memory and code, a vCPU with its kvm_run.
#pragma once

#include "kvm/uapi.h"
#include "../tap.h"
#include "uvirt/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* With UVIRT_TEST_KVM set the same tests go through /dev/kvm: the host's ("host"), or uvirt exec's ("exec"). */
static inline int by_device(void)
{
    return getenv("UVIRT_TEST_KVM") != NULL;
}

static inline int on_host(void)
{
    return by_device() && !strcmp(getenv("UVIRT_TEST_KVM"), "host");
}

static inline int kvm_open(void)
{
    const int req_guest_perm = 0x1025; /* ARCH_REQ_XCOMP_GUEST_PERM, for tile data */

    if (by_device()) {
        syscall(SYS_arch_prctl, req_guest_perm, 18);
        return open("/dev/kvm", O_RDWR | O_CLOEXEC);
    }
    uvirt_kvm_arch_prctl(req_guest_perm, 18);
    return uvirt_kvm_open();
}

static inline int kvm_close(int fd)
{
    return by_device() ? close(fd) : uvirt_kvm_close(fd);
}

static inline int kvm_call(int fd, unsigned long request, unsigned long arg)
{
    return by_device() ? ioctl(fd, request, arg) : uvirt_kvm_ioctl(fd, request, arg);
}

/* An ioctl whose argument is a pointer, or a number. */
#define kv(fd, request, arg) kvm_call(fd, request, (unsigned long)(arg))

/* The call fails with errno (want). */
#define fails(call, want, ...)                                                                     \
    ({                                                                                             \
        errno = 0;                                                                                 \
        int rc_ = (call);                                                                          \
        int err_ = errno;                                                                          \
        int ok_ = ok(rc_ == -1 && err_ == (want), __VA_ARGS__);                                    \
        if (!ok_)                                                                                  \
            printf("#   got %d, errno %d (%s)\n", rc_, err_, strerror(err_));                      \
        ok_;                                                                                       \
    })

struct vm {
    int sys, fd;
    uint8_t *ram;
    size_t size;
};

struct vcpu {
    int fd;
    struct kvm_run *run;
    size_t map;
};

static inline void *ram_alloc(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static inline int slot(const struct vm *m, uint32_t id, uint64_t gpa, uint64_t size, void *hva, uint32_t flags)
{
    struct kvm_userspace_memory_region r = {
        .slot = id, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
        .userspace_addr = (uintptr_t)hva};

    return kv(m->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

/* A VM with (size) bytes at 0. */
static inline struct vm vm_new(size_t size)
{
    struct vm m = {.size = size};

    m.sys = kvm_open();
    m.fd = kv(m.sys, KVM_CREATE_VM, 0);
    m.ram = ram_alloc(size);
    if (m.fd < 0 || !m.ram || slot(&m, 0, 0, size, m.ram, 0)) {
        printf("Bail out! no VM: %s\n", strerror(errno));
        exit(1);
    }
    return m;
}

static inline void vm_free(struct vm *m)
{
    kvm_close(m->fd);
    kvm_close(m->sys);
    munmap(m->ram, m->size);
}

static inline struct vcpu vcpu_new(const struct vm *m, unsigned id)
{
    struct vcpu v = {.map = (size_t)kv(m->sys, KVM_GET_VCPU_MMAP_SIZE, 0)};

    v.fd = kv(m->fd, KVM_CREATE_VCPU, id);
    v.run = v.fd < 0 ? MAP_FAILED : mmap(NULL, v.map, PROT_READ | PROT_WRITE, MAP_SHARED, v.fd, 0);
    if (v.run == MAP_FAILED) {
        printf("Bail out! no vCPU: %s\n", strerror(errno));
        exit(1);
    }
    return v;
}

static inline void vcpu_free(struct vcpu *v)
{
    munmap(v->run, v->map);
    kvm_close(v->fd);
}

/* Real mode at 0:(ip). */
static inline void vcpu_real_mode(const struct vcpu *v, uint64_t ip)
{
    struct kvm_regs r = {.rip = ip, .rflags = 2, .rsp = 0x8000};
    struct kvm_sregs s;

    kv(v->fd, KVM_GET_SREGS, &s);
    s.cs.base = s.cs.selector = 0;
    kv(v->fd, KVM_SET_SREGS, &s);
    kv(v->fd, KVM_SET_REGS, &r);
}

/* 16-bit guest code between two labels of a top-level asm. */
#define GUEST16(name, code)                                                                        \
    asm(".pushsection .rodata\n.code16\n" #name ":\n" code "\n" #name "_end:\n.code64\n.popsection"); \
    extern const uint8_t name[], name##_end[];

static inline void load_code(const struct vm *m, uint64_t at, const uint8_t *from, const uint8_t *end)
{
    memcpy(m->ram + at, from, (size_t)(end - from));
}

#define CODE_AT 0x1000

/* A VM and a vCPU about to run 16-bit code. */
#define BOOT16(m, v, name)                                                                         \
    struct vm m = vm_new(0x100000);                                                                \
    struct vcpu v = vcpu_new(&m, 0);                                                               \
    load_code(&m, CODE_AT, name, name##_end);                                                      \
    vcpu_real_mode(&v, CODE_AT)

static inline int vcpu_run(const struct vcpu *v)
{
    return kv(v->fd, KVM_RUN, 0);
}

/* Run, and expect to come back with (reason). */
#define runs_to(v, reason, ...)                                                                    \
    ({                                                                                             \
        int rc_ = vcpu_run(v);                                                                     \
        int ok_ = ok(rc_ == 0 && (v)->run->exit_reason == (reason), __VA_ARGS__);                  \
        if (!ok_)                                                                                  \
            printf("#   KVM_RUN %d (%s), exit reason %u\n", rc_, rc_ ? strerror(errno) : "ok",     \
                   (v)->run->exit_reason);                                                         \
        ok_;                                                                                       \
    })

static inline uint8_t *pio_data(const struct vcpu *v)
{
    return (uint8_t *)v->run + v->run->io.data_offset;
}

static inline struct kvm_regs regs_of(const struct vcpu *v)
{
    struct kvm_regs r;

    kv(v->fd, KVM_GET_REGS, &r);
    return r;
}
