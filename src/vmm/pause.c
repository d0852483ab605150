// SPDX-License-Identifier: MIT
// Standing still: all vCPU threads outside the guest, each between two instructions, and going on.

/*
 * Theory of operation
 *
 * vm_pause() sets (pausing) and kicks every vCPU with kvm_run.immediate_exit set. A thread parks only after a KVM_RUN
 * that ended with EINTR or EAGAIN: an exit whose answer KVM has not taken in yet is served and entered again first,
 * which finishes the instruction and comes straight back (KVM's rule for immediate_exit). So what a paused vCPU's
 * registers say is all there is.
 *
 * (pause_lock) covers (parked); (pausing) is set and cleared under it and read without it, by threads that look again
 * under it before they park. The owner must not hold the device lock in vm_pause(): a vCPU may be waiting for it.
 */
#include "vmm/vm_internal.h"

#include <errno.h>
#include <time.h>

#define PAUSE_SECONDS 10 /* a vCPU may be in a write to a slow reader of the serial console */
#define LOOK_NS       20000000

void vcpu_park(struct vcpu *v)
{
    struct vm *vm = v->vm;

    pthread_mutex_lock(&vm->pause_lock);
    if (atomic_load(&vm->pausing)) {
        vm->parked++;
        pthread_cond_broadcast(&vm->pause_cond);
        while (atomic_load(&vm->pausing) && !atomic_load(&vm->stopping))
            pthread_cond_wait(&vm->pause_cond, &vm->pause_lock);
        vm->parked--;
    }
    pthread_mutex_unlock(&vm->pause_lock);
}

static unsigned threads(const struct vm *vm)
{
    unsigned n = 0;

    for (unsigned i = 0; i < vm->nr_vcpus; i++)
        n += vm->vcpus[i].started;
    return n;
}

/* With (pause_lock): wait until all are parked. 0, -ESHUTDOWN or -ETIMEDOUT. */
static int wait_parked(struct vm *vm)
{
    struct timespec end, until;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PAUSE_SECONDS;
    while (vm->parked < threads(vm)) {
        if (atomic_load(&vm->stopping))
            return -ESHUTDOWN;
        clock_gettime(CLOCK_REALTIME, &until);
        if (until.tv_sec > end.tv_sec)
            return -ETIMEDOUT;
        until.tv_nsec += LOOK_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&vm->pause_cond, &vm->pause_lock, &until);
    }
    return atomic_load(&vm->stopping) ? -ESHUTDOWN : 0;
}

int vm_pause(struct vm *vm, struct vmm_error *err)
{
    int rc;

    pthread_mutex_lock(&vm->pause_lock);
    atomic_store(&vm->pausing, true);
    for (unsigned i = 0; i < vm->nr_vcpus; i++)
        vcpu_kick(&vm->vcpus[i]);
    rc = wait_parked(vm);
    pthread_mutex_unlock(&vm->pause_lock);
    if (rc == 0)
        return 0;
    vm_resume(vm);
    return rc == -ESHUTDOWN ? vmm_fail(err, rc, "the guest has ended")
                            : vmm_fail(err, rc,
                                       "a CPU does not stop: is somebody reading the "
                                       "serial console?");
}

void vm_resume(struct vm *vm)
{
    pthread_mutex_lock(&vm->pause_lock);
    for (unsigned i = 0; i < vm->nr_vcpus && atomic_load(&vm->pausing); i++) {
        struct vcpu *v = &vm->vcpus[i];

        /* The guest's watchdogs must not take the pause for a lockup; one without kvmclock has nowhere to be told. */
        vm->be->ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
        if (!atomic_load(&vm->stopping))
            __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    }
    atomic_store(&vm->pausing, false);
    pthread_cond_broadcast(&vm->pause_cond);
    pthread_mutex_unlock(&vm->pause_lock);
}
