// SPDX-License-Identifier: MIT
// A vCPU: its first registers, and the thread that runs it and serves its exits.

/*
 * Theory of operation
 *
 * The thread calls KVM_RUN until (stopping) is set. To make it leave the guest, vcpu_kick() sets
 * kvm_run.immediate_exit and sends KICK_SIGNAL, whose handler does nothing: whether the thread is
 * in the guest, about to enter, or asleep in HLT, KVM_RUN ends with EINTR.
 */
#include "vmm/vm_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KICK_SIGNAL (SIGRTMIN + 3)

#define MSR_IA32_MISC_ENABLE    0x1a0
#define MISC_ENABLE_FAST_STRING BIT(0)
#define MSR_MTRR_DEF_TYPE       0x2ff
#define MSR_HWCR                0xc0010015
#define HWCR_TSC_FREQ_SEL       BIT(24)
#define MTRR_ENABLE_WRITE_BACK  (BIT(11) | 6)

int vcpu_ioctl(struct vcpu *v, unsigned long request, void *arg, const char *name,
               struct vmm_error *err)
{
    int e;

    if (v->vm->be->ioctl(v->fd, request, (unsigned long)arg) >= 0)
        return 0;
    e = errno;
    return vmm_fail(err, -e, "%s: %s failed on CPU %u: %s", v->vm->be->name, name, v->index,
                    strerror(e));
}

/* What firmware would leave in MSRs. A KVM without one of them stops there, which does no harm. */
static void set_msrs(struct vcpu *v)
{
    struct {
        struct kvm_msrs h;
        struct kvm_msr_entry e[3];
    } m = {
        .h.nmsrs = 3,
        .e = {{.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
              {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WRITE_BACK},
              {.index = MSR_HWCR,
               .data = HWCR_TSC_FREQ_SEL}}, /* AMD's: the TSC is P0's, which Linux checks */
    };

    v->vm->be->ioctl(v->fd, KVM_SET_MSRS, (unsigned long)&m);
}

int vcpu_create(struct vcpu *v, const struct kvm_cpuid2 *cpuid, struct vmm_error *err)
{
    struct vm *vm = v->vm;
    int e;

    v->run = MAP_FAILED;
    v->fd = vm->be->ioctl(vm->fd, KVM_CREATE_VCPU, v->index);
    if (v->fd < 0) {
        e = errno;
        return vmm_fail(err, -e, "%s: KVM_CREATE_VCPU failed for CPU %u: %s", vm->be->name,
                        v->index, strerror(e));
    }
    v->run = vm->be->mmap(vm->run_size, v->fd);
    if (v->run == MAP_FAILED) {
        e = errno;
        return vmm_fail(err, -e, "%s: mmap of CPU %u failed: %s", vm->be->name, v->index,
                        strerror(e));
    }
    e = vcpu_ioctl(v, KVM_SET_CPUID2, (void *)(uintptr_t)cpuid, "KVM_SET_CPUID2", err);
    if (e == 0)
        set_msrs(v);
    return e;
}

int vcpu_set_boot_state(struct vcpu *v, const struct boot_config *cfg, struct vmm_error *err)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    int rc = vcpu_ioctl(v, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS", err);

    if (rc)
        return rc;
    rc = cfg->kernel.pvh_entry ? boot_pvh(cfg, v->vm->mem, &sregs, &regs)
                               : boot_linux64(cfg, v->vm->mem, &sregs, &regs);
    if (rc)
        return vmm_fail(err, rc, "guest memory has no room for the boot data");
    rc = vcpu_ioctl(v, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS", err);
    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_REGS, &regs, "KVM_SET_REGS", err);
    return rc;
}

static void fail(struct vcpu *v, const char *what, u64 detail)
{
    struct kvm_regs regs = {0};
    char text[160];

    v->vm->be->ioctl(v->fd, KVM_GET_REGS, (unsigned long)&regs);
    snprintf(text, sizeof(text), "CPU %u stopped: %s 0x%llx at rip 0x%llx", v->index, what,
             (unsigned long long)detail, (unsigned long long)regs.rip);
    vm_finish(v->vm, VM_FAILED, text);
}

static void serve_io(struct vcpu *v)
{
    struct kvm_run *r = v->run;
    u8 *data = (u8 *)r + r->io.data_offset;
    enum board_request req = BOARD_NOTHING;

    for (u32 i = 0; i < r->io.count && req == BOARD_NOTHING; i++)
        req = board_port(&v->vm->board, r->io.port, data + i * r->io.size, r->io.size,
                         r->io.direction == KVM_EXIT_IO_OUT);
    if (req == BOARD_POWER_OFF)
        vm_finish(v->vm, VM_POWERED_OFF, NULL);
    else if (req == BOARD_RESET_ALL)
        vm_finish(v->vm, VM_RESET, NULL);
}

static void serve_system_event(struct vcpu *v)
{
    switch (v->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vm_finish(v->vm, VM_POWERED_OFF, NULL);
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vm_finish(v->vm, VM_RESET, NULL);
        break;
    default:
        fail(v, "system event", v->run->system_event.type);
        break;
    }
}

static void serve(struct vcpu *v)
{
    struct kvm_run *r = v->run;

    switch (r->exit_reason) {
    case KVM_EXIT_IO:
        serve_io(v);
        break;
    case KVM_EXIT_MMIO:
        board_mmio(&v->vm->board, r->mmio.phys_addr, r->mmio.data, r->mmio.len, r->mmio.is_write);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        break;
    case KVM_EXIT_SHUTDOWN:
        vm_finish(v->vm, VM_TRIPLE_FAULT, NULL);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        serve_system_event(v);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        fail(v, "KVM cannot enter the guest, hardware reason",
             r->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        fail(v, "an instruction is not supported, internal error", r->internal.suberror);
        break;
    default:
        fail(v, "unexpected exit", r->exit_reason);
        break;
    }
}

static void *run(void *arg)
{
    struct vcpu *v = arg;
    struct vm *vm = v->vm;

    while (!atomic_load(&vm->stopping)) {
        int rc = vm->be->ioctl(v->fd, KVM_RUN, 0);
        u32 reason;

        if (rc < 0 && (errno == EINTR || errno == EAGAIN)) {
            if (atomic_load(&vm->pausing))
                vcpu_park(v);
            continue;
        }
        if (rc < 0) {
            fail(v, "KVM_RUN failed with errno", (u64)errno);
            break;
        }
        reason = v->run->exit_reason;
        v->stats.exits++;
        v->stats.by_reason[reason < 63 ? reason : 63]++;
        serve(v);
    }
    return NULL;
}

static void kicked(int sig)
{
    (void)sig;
}

int vcpu_start(struct vcpu *v, struct vmm_error *err)
{
    struct sigaction sa = {.sa_handler = kicked};
    sigset_t block, old;
    int rc;

    sigaction(KICK_SIGNAL, &sa, NULL);
    sigfillset(&block);
    sigdelset(&block, KICK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &block, &old);
    rc = pthread_create(&v->thread, NULL, run, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return vmm_fail(err, -rc, "no thread for CPU %u: %s", v->index, strerror(rc));
    v->started = true;
    return 0;
}

void vcpu_kick(struct vcpu *v)
{
    if (!v->started)
        return;
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(v->thread, KICK_SIGNAL);
}

void vcpu_join(struct vcpu *v)
{
    if (!v->started)
        return;
    pthread_join(v->thread, NULL);
    v->started = false;
}

void vcpu_free(struct vcpu *v)
{
    if (v->run && v->run != MAP_FAILED)
        v->vm->be->munmap(v->run, v->vm->run_size);
    if (v->fd >= 0)
        v->vm->be->close(v->fd);
}
