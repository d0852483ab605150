// SPDX-License-Identifier: MIT
// Work that any thread may do, one at a time: who finds it under way leaves it to whoever does it.
#pragma once

#include "base/types.h"

#include <pthread.h>

/*
 * virtio_turn_run() sees to it that (work) is begun after the call was made, by this thread
 * or by the one at it, and never waits for it. So a thread that has put something into a
 * queue need not know who empties it, and nothing wakes up for work that another thread is
 * about to do anyway. (work) may call virtio_turn_run() again; that means once more.
 */
struct virtio_turn {
    pthread_mutex_t lock; /* held during (work); take it to keep work out */
    _Atomic u32 wanted;
    void (*work)(void *opaque);
    void *opaque;
};

void virtio_turn_init(struct virtio_turn *t, void (*work)(void *opaque), void *opaque);
void virtio_turn_fini(struct virtio_turn *t);
void virtio_turn_run(struct virtio_turn *t);
