// SPDX-License-Identifier: MIT
// Threads of our own inside somebody else's program.
#pragma once

#include <pthread.h>

/* Start a thread that takes no signals: those are for the program's own threads. 0 or -errno. */
int kvm_thread_create(pthread_t *ret, const char *name, void *(*fn)(void *arg), void *arg);
