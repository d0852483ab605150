// SPDX-License-Identifier: MIT
// Host signals during KVM_RUN: they end it with EINTR, as they do in the kernel.

/*
 * Theory of operation
 *
 * In the kernel a signal pulls a vCPU out of guest code and its handler runs after KVM_RUN has
 * returned. Here guest code runs in user space, where a handler would run in the middle of it and
 * the vCPU would never know. So KVM_RUN blocks all signals but those that the thread itself
 * causes, the CPU's poll asks every few thousand blocks whether one is pending that the caller
 * would let through (the KVM_SET_SIGNAL_MASK set if there is one, else the thread's mask), and KVM_RUN
 * then returns. Unblocking delivers it. A sleeping vCPU waits in ppoll() with the caller's mask.
 *
 * Signals that would be ignored do not count: the kernel drops those without interrupting anybody.
 */

#include "kvm/kvm.h"

#include <signal.h>
#include <string.h>

static u64 mask_of(const sigset_t *set)
{
    u64 mask;

    memcpy(&mask, set, sizeof(mask));
    return mask;
}

static void set_of(u64 mask, sigset_t *set)
{
    sigemptyset(set);
    memcpy(set, &mask, sizeof(mask));
}

#define SIGBIT(n) BIT((n) - 1)
#define SYNCHRONOUS                                                                                \
    (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGFPE) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP) |        \
     SIGBIT(SIGSYS) | SIGBIT(SIGABRT))

void kvm_signals_hold(struct kvm_vcpu *v)
{
    sigset_t hold, old;

    set_of(~SYNCHRONOUS, &hold);
    pthread_sigmask(SIG_SETMASK, &hold, &old);
    v->saved_signals = mask_of(&old);
    v->blocked_signals = v->sigmask_active ? v->sigmask : v->saved_signals;
    v->signal_seen = v->sigmask_active && kvm_signals_pending(v);
}

void kvm_signals_release(struct kvm_vcpu *v)
{
    sigset_t old;

    set_of(v->saved_signals, &old);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
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
