// SPDX-License-Identifier: MIT
// Host signals during KVM_RUN: they end it with EINTR, as they do in the kernel.

/*
 * Theory of operation
 *
 * In the kernel a signal pulls a vCPU out of guest code and its handler runs after KVM_RUN has
 * returned. Here guest code runs in user space, where a handler would run in the middle of it and
 * the vCPU would never know. So KVM_RUN blocks all signals but those that the thread itself
 * causes, the CPU's poll asks every millisecond whether one is pending that the caller
 * would let through (the KVM_SET_SIGNAL_MASK set if there is one, else the thread's mask), and KVM_RUN
 * then returns. Unblocking delivers it. A sleeping vCPU waits in ppoll() with the caller's mask.
 *
 * Signals that would be ignored do not count: the kernel drops those without interrupting anybody.
 *
 * pthread_cancel() is a signal too. pthread_sigmask() would leave it unblocked, and a thread that is cancelled in the middle of guest
 * code would take the vCPU's locks with it; so the mask is set by the system call. A sleeper cleans up (run.c).
 */

#include "kvm/kvm.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static u64 mask_of(const sigset_t *set)
{
    u64 mask;

    memcpy(&mask, set, sizeof(mask));
    return mask;
}

#define SIGBIT(n) BIT((n) - 1)
#define SYNCHRONOUS                                                                                \
    (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGFPE) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP) |        \
     SIGBIT(SIGSYS) | SIGBIT(SIGABRT))
#define SIGSETXID 33 /* of the C library: setuid() waits for every thread's answer */

static u64 set_mask(u64 mask)
{
    u64 old = 0;

    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
    return old;
}

void kvm_signals_hold(struct kvm_vcpu *v)
{
    v->saved_signals = set_mask(~(SYNCHRONOUS | SIGBIT(SIGSETXID)));
    v->blocked_signals = v->sigmask_active ? v->sigmask : v->saved_signals;
    v->signal_seen = v->sigmask_active && kvm_signals_pending(v);
}

void kvm_signals_release(struct kvm_vcpu *v)
{
    set_mask(v->saved_signals);
}

static bool ignored(int sig)
{
    struct sigaction sa;

    if (sigaction(sig, NULL, &sa) || sa.sa_flags & SA_SIGINFO)
        return false;
    if (sa.sa_handler == SIG_DFL)
        return sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT;
    return sa.sa_handler == SIG_IGN;
}

bool kvm_signals_pending(const struct kvm_vcpu *v)
{
    sigset_t set;
    u64 mask;

    if (sigpending(&set))
        return false;
    for (mask = mask_of(&set) & ~v->blocked_signals; mask; mask &= mask - 1) {
        if (!ignored(__builtin_ctzll(mask) + 1))
            return true;
    }
    return false;
}
