// SPDX-License-Identifier: MIT
// A small model of streams and records: random operations on a connection, every byte and boundary checked.
#pragma once

#include "pair.h"

/*
 * The model of one direction is what has been sent and not read: a range of positions for
 * STREAM, whose byte at position (i) is pattern(i), and a list of records for SEQPACKET. It
 * does not say how much a non-blocking send takes, but that it takes something once all has
 * been read.
 */
#define RECORDS 4096
#define LEN_MAX 40000

struct record {
    u64 at;
    u32 len;
    bool eor;
};

struct way {
    sock *from, *to;
    u64 sent, read; /* positions */
    struct record records[RECORDS];
    unsigned head, tail;
    bool shut;
};

static struct way ways[2];
static bool is_stream;
static void (*model_run)(void); /* moves what is under way until nothing moves; NULL: loopback */
static u8 data[300000];

/* A number below (n): the includer's choice. */
static u32 rnd(u32 n);

static u8 pattern(u64 at)
{
    return (at * 0x9e3779b97f4a7c15ull) >> 37;
}

static u32 random_len(void)
{
    static const u32 most[] = {4, 100, 600, 5000, LEN_MAX};

    return 1 + rnd(most[rnd(5)]);
}

static bool holds(u64 at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != pattern(at + i))
            return false;
    }
    return true;
}

static bool empty(const struct way *w)
{
    return is_stream ? w->sent == w->read : w->head == w->tail;
}

static bool step_send(struct way *w)
{
    u32 len = random_len();
    bool eor = rnd(2), was_empty = empty(w);
    ssize_t n;

    if (w->shut || w->head - w->tail == RECORDS)
        return true;
    for (u32 i = 0; i < len; i++)
        data[i] = pattern(w->sent + i);
    n = do_send(w->from, data, len, MSG_DONTWAIT | (eor ? MSG_EOR : 0));
    if (n == -EAGAIN && was_empty && (model_run || !is_stream)) {
        if (model_run)
            model_run(); /* the news that all was read may have been on its way */
        /* or the sender of a large record had to ask for it */
        n = do_send(w->from, data, len, MSG_DONTWAIT | (eor ? MSG_EOR : 0));
    }
    if (n == -EAGAIN || n == -EMSGSIZE)
        return n == -EMSGSIZE ? !is_stream && len > 100 : !was_empty;
    if (n <= 0 || n > len || (!is_stream && n != len))
        return false;
    if (!is_stream)
        w->records[w->head++ % RECORDS] = (struct record){w->sent, len, eor};
    w->sent += n;
    return true;
}

static bool recv_stream(struct way *w, u32 len, int flags)
{
    u64 have = w->sent - w->read;
    ssize_t n = do_recv(w->to, data, len, flags, NULL);

    if (n == -EAGAIN)
        return !have || flags & MSG_WAITALL || flags & MSG_PEEK;
    if (n == 0)
        return w->shut && !have;
    if (n < 0 || (u64)n > have || n > len || !holds(w->read, n))
        return false;
    if (!(flags & MSG_PEEK))
        w->read += n;
    return true;
}

static bool recv_record(struct way *w, u32 len, int flags)
{
    struct record *r = &w->records[w->tail % RECORDS];
    int out;
    ssize_t n = do_recv(w->to, data, len, flags, &out);

    if (w->head == w->tail)
        return w->shut ? n == 0 : n == -EAGAIN;
    if (n != (flags & MSG_TRUNC ? r->len : r->len < len ? r->len : len))
        return false;
    if (out != ((r->len > len ? MSG_TRUNC : 0) | (r->eor ? MSG_EOR : 0)))
        return false;
    if (!holds(r->at, r->len < len ? r->len : len))
        return false;
    if (!(flags & MSG_PEEK))
        w->tail++;
    return true;
}

static bool step_recv(struct way *w)
{
    u32 len = rnd(4) ? random_len() : LEN_MAX;
    int flags = MSG_DONTWAIT | (rnd(4) ? 0 : MSG_PEEK);

    if (is_stream)
        return recv_stream(w, len, flags);
    return recv_record(w, len, flags | (rnd(4) ? 0 : MSG_TRUNC));
}

static void carry_on(void)
{
    if (model_run && rnd(3))
        model_run();
}

static bool settle(struct way *w)
{
    for (unsigned i = 0; i < 100000; i++) {
        if (model_run)
            model_run();
        if (!(is_stream ? recv_stream(w, 30000, MSG_DONTWAIT)
                        : recv_record(w, LEN_MAX, MSG_DONTWAIT)))
            return false;
        if (empty(w))
            return true;
    }
    return false;
}

static bool play(unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        struct way *w = &ways[rnd(2)];
        bool good = true;

        switch (rnd(40)) {
        case 0:
            set_int(w->to, SO_RCVLOWAT, is_stream ? 1 : 1 + rnd(300));
            break;
        case 1:
            set_size(w->to, SO_VM_SOCKETS_BUFFER_SIZE, 2000 + rnd(260000));
            break;
        case 2:
            if (model_run)
                model_run();
            good = settle(w);
            break;
        default:
            if (model_run && i / 50 % 2 == 0)
                model_run(); /* what is on its way is not there to read */
            good = i / 50 % 2 ? step_send(w) : step_recv(w);
            break;
        }
        carry_on();
        if (!good) {
            printf("# step %u\n", i);
            return false;
        }
    }
    return true;
}
