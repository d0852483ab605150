// SPDX-License-Identifier: MIT
// Threads of our own inside somebody else's program.
#include "kvm/thread.h"

#include <signal.h>

int kvm_thread_create(pthread_t *ret, const char *name, void *(*fn)(void *arg), void *arg)
{
    sigset_t all, old;
    pthread_t t;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&t, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return -rc;
    pthread_setname_np(t, name);
    *ret = t;
    return 0;
}
