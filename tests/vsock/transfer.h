// SPDX-License-Identifier: MIT
// Thread bodies that send and receive with blocking calls, and sum up what went through.
#pragma once

#include "pair.h"

#include <pthread.h>

struct job {
    sock *s;
    unsigned seed;
    u64 most; /* bytes to send */
    u64 bytes, sum;
    bool good;
};

static inline u64 mix(u64 sum, const u8 *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * 0x100000001b3ull;
    return sum;
}

static inline void *writer(void *arg)
{
    static _Thread_local u8 buf[100000];
    struct job *j = arg;

    j->good = true;
    while (j->bytes < j->most && j->good) {
        size_t n = 1 + rand_r(&j->seed) % (rand_r(&j->seed) % 4 ? sizeof(buf) : 300);

        for (size_t i = 0; i < n; i += 64)
            buf[i] = rand_r(&j->seed);
        j->sum = mix(j->sum, buf, n);
        j->good = do_send(j->s, buf, n, 0) == (ssize_t)n;
        j->bytes += n;
    }
    uvirt_vsock_shutdown(j->s, SHUT_WR);
    return NULL;
}

static inline void *reader(void *arg)
{
    static _Thread_local u8 buf[100000];
    struct job *j = arg;
    ssize_t n;

    while ((n = do_recv(j->s, buf, sizeof(buf), 0, NULL)) > 0) {
        j->sum = mix(j->sum, buf, n);
        j->bytes += n;
    }
    j->good = !n;
    return NULL;
}

/* Both ways at once over (p)[0] and (p)[1], (most) bytes each. */
static inline void transfer(sock *p[2], u64 most, const char *name)
{
    struct job jobs[4] = {{.seed = 1, .most = most}, {.seed = 2, .most = most}};
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        jobs[i].s = p[i % 2];
        pthread_create(&threads[i], NULL, i < 2 ? writer : reader, &jobs[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++)
        ok(jobs[i].good && jobs[3 - i].good && jobs[i].bytes == jobs[3 - i].bytes &&
               jobs[i].sum == jobs[3 - i].sum,
           "%s: %llu bytes, way %d", name, (unsigned long long)jobs[i].bytes, i);
}
