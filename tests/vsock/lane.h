// SPDX-License-Identifier: MIT
// One direction of a connection: a sender whose every byte, boundary and mark the receiver knows beforehand.
#pragma once

#include "base/types.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Streams are pieces, records messages, of sizes from one byte up that both ends draw from the
 * same seed. The bytes are those of a table of random ones: of a stream, byte n is the table's
 * byte n, round and round; a record begins at a place that depends on its number. So a byte that
 * is lost, doubled, out of order or another's is seen where it happens.
 */
#define LANE_TABLE  1048573 /* a prime: no size of buffers goes into it */
#define LANE_RECORD 600000  /* a record is no longer */

struct lane {
    /* One end's calls; (end) is theirs. As send() and recv(), but -errno. */
    ssize_t (*send)(void *end, const void *buf, size_t len, int flags);
    ssize_t (*recv)(void *end, void *buf, size_t len, int *flags);
    void (*shut)(void *end);
    void *end;

    bool records, eor; /* eor: the way carries MSG_EOR */
    unsigned seed;
    size_t longest;
    u64 most;

    u64 bytes; /* done */
    bool good;
};

static u8 lane_table[LANE_TABLE + LANE_RECORD];

static inline void lane_begin(void)
{
    u64 v = 88172645463325252ull;

    for (size_t i = 0; i < LANE_TABLE; i++) {
        v ^= v << 13;
        v ^= v >> 7;
        v ^= v << 17;
        lane_table[i] = (u8)v;
    }
    memcpy(lane_table + LANE_TABLE, lane_table, LANE_RECORD);
}

static inline size_t lane_size(struct lane *l)
{
    size_t kind = (size_t)rand_r(&l->seed) % 8, n = (size_t)rand_r(&l->seed);

    return 1 + n % (kind ? l->longest : 300);
}

static inline const u8 *lane_record(u64 number)
{
    return lane_table + number * 7919 % LANE_TABLE;
}

static inline int lane_flags(const struct lane *l, u64 number)
{
    return l->eor && number % 3 == 0 ? MSG_EOR : 0;
}

static void *lane_send(void *arg)
{
    struct lane *l = arg;
    u64 number = 0;

    l->good = true;
    while (l->bytes < l->most && l->good) {
        size_t n = lane_size(l);
        const u8 *from = l->records ? lane_record(number) : lane_table + l->bytes % LANE_TABLE;
        ssize_t sent = l->send(l->end, from, n, l->records ? lane_flags(l, number) : 0);

        l->good = l->records ? sent == (ssize_t)n : sent > 0 && sent <= (ssize_t)n;
        l->bytes += sent > 0 ? (u64)sent : 0;
        number++;
    }
    l->shut(l->end);
    return NULL;
}

/* Is what came, (n) bytes with (flags), what comes next? */
static bool lane_is_next(struct lane *l, u64 number, const u8 *buf, size_t n, int flags)
{
    if (!l->records)
        return !memcmp(buf, lane_table + l->bytes % LANE_TABLE, n);
    return n == lane_size(l) && !memcmp(buf, lane_record(number), n) &&
           (!l->eor || (flags & MSG_EOR) == lane_flags(l, number));
}

static void *lane_receive(void *arg)
{
    struct lane *l = arg;
    u8 *buf = malloc(LANE_RECORD);
    u64 number = 0;
    ssize_t n;

    l->good = true;
    do { /* on to the end even if something is wrong, or the sender would wait for ever */
        int flags = 0;

        n = l->recv(l->end, buf, LANE_RECORD, &flags);
        l->good &= n >= 0 && (!n || lane_is_next(l, number++, buf, (size_t)n, flags));
        l->bytes += n > 0 ? (u64)n : 0;
    } while (n > 0);
    l->good &= l->bytes >= l->most;
    free(buf);
    return NULL;
}

/* One end of a connection with traffic both ways: lane[0] sends, lane[1] receives, each in a thread. */
struct lane_end {
    struct lane lane[2];
    pthread_t thread[2];
};

/* Begin; (what) has the calls and all else but seed and results. Ends of a connection have its (number). */
static void lane_start(struct lane_end *e, const struct lane *what, unsigned number, bool accepted)
{
    for (unsigned i = 0; i < 2; i++) {
        e->lane[i] = *what;
        e->lane[i].seed = 2 * number + 1 + (i ^ accepted);
        if (pthread_create(&e->thread[i], NULL, i ? lane_receive : lane_send, &e->lane[i]))
            exit(99);
    }
}

/* Bytes that were sent and came in as they had to be; 0: something was wrong. */
static u64 lane_join(struct lane_end *e)
{
    pthread_join(e->thread[0], NULL);
    pthread_join(e->thread[1], NULL);
    return e->lane[0].good && e->lane[1].good ? e->lane[0].bytes + e->lane[1].bytes : 0;
}
