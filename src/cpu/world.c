// SPDX-License-Identifier: MIT
// Exclusive sections among the vCPUs of one VM, and the tick that makes them look up from guest code.

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
 *
 * Translated code runs on without looking at anything but cpu->request. A thread, started with the first
 * vCPU that goes inside, sets CPU_REQ_TICK on all of them every TICK_NS, for what no request announces (signals,
 * stop_flag). It sleeps while nobody has been inside for TICKS_IDLE. A child of fork() has no such thread, and
 * no vCPU that may run.
 */

#include "cpu/world.h"
#include "cpu/mmu/tlb.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 1000000
#define TICKS_IDLE 50

/* Pages whose code others have changed, for one vCPU; (n) above CPU_WORLD_CODES: too many to be told. */
struct code_queue {
    unsigned n;
    gpa_t gpa[CPU_WORLD_CODES];
};

struct cpu_world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* protected by lock */
    unsigned inside, running;
    unsigned waiting, outsiders; /* vCPUs, others, that want to be owner */
    bool owned;
    struct cpu *cpu[CPU_WORLD_MAX];
    struct code_queue code[CPU_WORLD_MAX];
    unsigned top; /* no entry from here on was ever used */
    pthread_t ticker;
    pid_t ticker_pid;           /* 0: there is none */
    pthread_cond_t tick_wake;
    bool entered;               /* somebody went inside since the last tick */
    bool tick_idle, tick_stop;
};

int cpu_world_create(struct cpu_world **ret)
{
    struct cpu_world *w = calloc(1, sizeof(*w));

    if (!w)
        return -ENOMEM;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    pthread_cond_init(&w->tick_wake, NULL);
    *ret = w;
    return 0;
}

static void request_locked(struct cpu_world *w, u32 bits, struct cpu *except)
{
    for (unsigned i = 0; i < w->top; i++) {
        if (w->cpu[i] && w->cpu[i] != except)
            cpu_request(w->cpu[i], bits);
    }
}

static void *tick(void *arg)
{
    const struct timespec ts = {.tv_nsec = TICK_NS};
    struct cpu_world *w = arg;
    unsigned idle = 0;

    pthread_mutex_lock(&w->lock);
    while (!w->tick_stop) {
        idle = w->entered || w->inside ? 0 : idle + 1;
        if (idle > TICKS_IDLE) {
            w->tick_idle = true;
            pthread_cond_wait(&w->tick_wake, &w->lock);
            w->tick_idle = false;
            idle = 0;
        }
        w->entered = false;
        request_locked(w, CPU_REQ_TICK, NULL);
        pthread_mutex_unlock(&w->lock);
        nanosleep(&ts, NULL);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Without the thread (no memory for one) the next vCPU to go inside tries again. */
static void ticker_start_locked(struct cpu_world *w)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pthread_create(&w->ticker, NULL, tick, w))
        w->ticker_pid = getpid();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void ticker_stop(struct cpu_world *w)
{
    if (w->ticker_pid != getpid())
        return;
    pthread_mutex_lock(&w->lock);
    w->tick_stop = true;
    pthread_cond_signal(&w->tick_wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->ticker, NULL);
}

void cpu_world_free(struct cpu_world *w)
{
    if (!w)
        return;
    ticker_stop(w);
    pthread_cond_destroy(&w->tick_wake);
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
        w->code[i].n = 0;
        w->top = i < w->top ? w->top : i + 1;
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
    struct cpu_world *w = c->world;

    pthread_mutex_lock(&w->lock);
    park_locked(w);
    w->entered = true;
    if (!w->ticker_pid)
        ticker_start_locked(w);
    else if (w->tick_idle)
        pthread_cond_signal(&w->tick_wake);
    pthread_mutex_unlock(&w->lock);
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

void cpu_world_request(struct cpu_world *w, u32 bits, struct cpu *except)
{
    pthread_mutex_lock(&w->lock);
    request_locked(w, bits, except);
    pthread_mutex_unlock(&w->lock);
}

static void code_add(struct code_queue *q, gpa_t gpa)
{
    for (unsigned i = 0; i < q->n && i < CPU_WORLD_CODES; i++) {
        if (q->gpa[i] == gpa)
            return;
    }
    if (q->n < CPU_WORLD_CODES)
        q->gpa[q->n] = gpa;
    if (q->n <= CPU_WORLD_CODES)
        q->n++;
}

void cpu_world_code_written(struct cpu_world *w, gpa_t gpa, struct cpu *writer)
{
    pthread_mutex_lock(&w->lock);
    for (unsigned i = 0; i < w->top; i++) {
        if (!w->cpu[i] || w->cpu[i] == writer)
            continue;
        code_add(&w->code[i], gpa & PAGE_MASK);
        cpu_request(w->cpu[i], CPU_REQ_CODE);
    }
    pthread_mutex_unlock(&w->lock);
}

unsigned cpu_world_code_take(struct cpu *c, gpa_t gpa[CPU_WORLD_CODES])
{
    struct code_queue *q = &c->world->code[c->index];
    unsigned n;

    pthread_mutex_lock(&c->world->lock);
    atomic_fetch_and(&c->request, ~(u32)CPU_REQ_CODE);
    n = q->n;
    memcpy(gpa, q->gpa, sizeof(q->gpa));
    q->n = 0;
    pthread_mutex_unlock(&c->world->lock);
    return n;
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
    for (unsigned i = 0; i < w->top; i++) {
        if (w->cpu[i])
            tlb_drop_write(w->cpu[i], gpa);
    }
}
