// SPDX-License-Identifier: MIT
// Exclusive sections among the vCPUs of one VM.

/*
 * Theory of operation
 *
 * A vCPU thread is *inside* from cpu_world_enter() to cpu_world_leave(). Two kinds of exclusivity:
 *
 *  - a vCPU in the middle of an instruction wants guest memory to itself (split LOCK, new code page).
 *    It needs the others parked at a block end, or waiting for the same thing in the middle of an
 *    instruction of theirs: either way they touch no guest memory.
 *  - an outsider (memslot change) needs every vCPU at a block end, because a vCPU in the middle of an
 *    instruction holds pointers into memslots.
 *
 * Hence two counts: (inside), and (running) = inside and not waiting for exclusivity. A vCPU becomes
 * (owner) when nobody is and running has dropped to itself; an outsider when nobody is and inside has
 * dropped to 0. vCPUs at a block end stay parked while there is an owner or somebody waits to be.
 *
 * One mutex protects all of it; nothing else is ever locked under it.
 */

#include "cpu/world.h"
#include "cpu/mmu/tlb.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct cpu_world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* protected by lock */
    unsigned inside, running;
    unsigned waiting, outsiders; /* vCPUs, others, that want to be owner */
    bool owned;
    struct cpu *cpu[CPU_WORLD_MAX];
};

int cpu_world_create(struct cpu_world **ret)
{
    struct cpu_world *w = calloc(1, sizeof(*w));

    if (!w)
        return -ENOMEM;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    *ret = w;
    return 0;
}

void cpu_world_free(struct cpu_world *w)
{
    if (!w)
        return;
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

int cpu_world_add(struct cpu_world *w, struct cpu *c)
{
    int rc = -ENOSPC;

    pthread_mutex_lock(&w->lock);
    for (unsigned i = 0; i < CPU_WORLD_MAX; i++) {
        if (w->cpu[i])
            continue;
        w->cpu[i] = c;
        c->index = i;
        rc = 0;
        break;
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

void cpu_world_remove(struct cpu_world *w, struct cpu *c)
{
    pthread_mutex_lock(&w->lock);
    if (w->cpu[c->index] == c)
        w->cpu[c->index] = NULL;
    pthread_mutex_unlock(&w->lock);
}

static void park_locked(struct cpu_world *w)
{
    while (w->owned || w->waiting || w->outsiders)
        pthread_cond_wait(&w->changed, &w->lock);
    w->inside++;
    w->running++;
}

static void unpark_locked(struct cpu_world *w)
{
    w->inside--;
    w->running--;
    pthread_cond_broadcast(&w->changed);
}

void cpu_world_enter(struct cpu *c)
{
    pthread_mutex_lock(&c->world->lock);
    park_locked(c->world);
    pthread_mutex_unlock(&c->world->lock);
}

void cpu_world_leave(struct cpu *c)
{
    pthread_mutex_lock(&c->world->lock);
    unpark_locked(c->world);
    pthread_mutex_unlock(&c->world->lock);
}

void cpu_world_pause(struct cpu *c)
{
    struct cpu_world *w = c->world;

    pthread_mutex_lock(&w->lock);
    atomic_fetch_and(&c->request, ~(u32)CPU_REQ_EXCLUSIVE);
    unpark_locked(w);
    park_locked(w);
    pthread_mutex_unlock(&w->lock);
}

static void request_locked(struct cpu_world *w, u32 bits, struct cpu *except)
{
    for (unsigned i = 0; i < CPU_WORLD_MAX; i++) {
        if (w->cpu[i] && w->cpu[i] != except)
            cpu_request(w->cpu[i], bits);
    }
}

void cpu_world_request(struct cpu_world *w, u32 bits, struct cpu *except)
{
    pthread_mutex_lock(&w->lock);
    request_locked(w, bits, except);
    pthread_mutex_unlock(&w->lock);
}

void cpu_world_exclusive(struct cpu_world *w, struct cpu *self)
{
    pthread_mutex_lock(&w->lock);
    if (self) {
        w->running--;
        w->waiting++;
        pthread_cond_broadcast(&w->changed);
        while (w->owned || w->running) {
            request_locked(w, CPU_REQ_EXCLUSIVE, self);
            pthread_cond_wait(&w->changed, &w->lock);
        }
        w->waiting--;
        w->running++;
    } else {
        w->outsiders++;
        while (w->owned || w->inside) {
            request_locked(w, CPU_REQ_EXCLUSIVE, NULL);
            pthread_cond_wait(&w->changed, &w->lock);
        }
        w->outsiders--;
    }
    w->owned = true;
    pthread_mutex_unlock(&w->lock);
}

void cpu_world_exclusive_end(struct cpu_world *w, struct cpu *self)
{
    pthread_mutex_lock(&w->lock);
    w->owned = false;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void cpu_world_drop_writes(struct cpu_world *w, gpa_t gpa)
{
    for (unsigned i = 0; i < CPU_WORLD_MAX; i++) {
        if (w->cpu[i])
            tlb_drop_write(w->cpu[i], gpa);
    }
}
