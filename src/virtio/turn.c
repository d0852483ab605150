// SPDX-License-Identifier: MIT
// Turns: a lock that is tried, and a count of calls that tells its holder to go round again.
#include "virtio/turn.h"

#include <stdatomic.h>

void virtio_turn_init(struct virtio_turn *t, void (*work)(void *opaque), void *opaque)
{
    pthread_mutex_init(&t->lock, NULL);
    t->wanted = 0;
    t->work = work;
    t->opaque = opaque;
}

void virtio_turn_fini(struct virtio_turn *t)
{
    pthread_mutex_destroy(&t->lock);
}

void virtio_turn_run(struct virtio_turn *t)
{
    u32 seen = atomic_fetch_add(&t->wanted, 1) + 1;

    do {
        if (pthread_mutex_trylock(&t->lock))
            return; /* its holder looks at (wanted) after it has let go */
        do {
            seen = atomic_load(&t->wanted);
            t->work(t->opaque);
        } while (atomic_load(&t->wanted) != seen);
        pthread_mutex_unlock(&t->lock);
    } while (atomic_load(&t->wanted) != seen);
}
