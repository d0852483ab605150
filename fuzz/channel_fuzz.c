// SPDX-License-Identifier: MIT
// Fuzzes the flows between uvirt and its guest's init: records, breaks and saved states are the input's.

/*
 * The input is a list of operations (see enum op) on the host's end. Invariants: no sanitizer report; the offsets
 * of every flow keep their order and stay within a window; a record that was not in order changes no offset; what is
 * saved loads again.
 */
#include "base/state.h"
#include "fuzz.h"
#include "vmm/channel.h"

#include <stdlib.h>

#define OPS_MAX 400

enum op {
    OP_RECORD, /* type, flow, offset relative to what is due, length; bytes but for DATA */
    OP_RAW,    /* length, bytes */
    OP_BREAK,  /* the connection, and make a new one */
    OP_SEND,   /* how many records */
    OP_WRITE,  /* flow, length */
    OP_READ,   /* flow, length */
    OP_END,    /* flow */
    OP_CLOSE,  /* flow */
    OP_MOVE,   /* save, and load elsewhere */
    OP_LOAD,   /* length, a saved state */
    OP_COUNT,
};

static void check(const struct channel *c)
{
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        const struct channel_out *o = &c->out[i];
        const struct channel_in *in = &c->in[i];

        if (o->acked > o->next || o->next > o->end || o->end - o->acked > CHANNEL_WINDOW ||
            in->consumed > in->received || in->received - in->consumed > CHANNEL_WINDOW)
            abort();
    }
}

static void receive(struct channel *c, const void *record, size_t len)
{
    u64 before[CHANNEL_FLOWS][2];

    for (unsigned i = 0; i < CHANNEL_FLOWS; i++)
        memcpy(before[i], (u64[]){c->out[i].acked, c->in[i].received}, sizeof(before[i]));
    if (!channel_receive(c, record, len))
        return;
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        if (before[i][0] != c->out[i].acked || before[i][1] != c->in[i].received)
            abort();
    }
    channel_disconnect(c); /* as its owner does */
}

static void record(struct channel *c, struct fuzz_input *in)
{
    static u8 buf[CHANNEL_RECORD_MAX + 64];
    struct channel_head h = {.type = fuzz_u8(in) % 7, .flow = fuzz_u8(in) % 5};
    u8 delta = fuzz_u8(in);

    h.len = fuzz_u16(in) % (sizeof(buf) - sizeof(h));
    h.offset = h.type == CHANNEL_HELLO    ? CHANNEL_VERSION
               : h.flow >= CHANNEL_FLOWS  ? 0
               : h.type == CHANNEL_ACK    ? c->out[h.flow].next
               : h.type == CHANNEL_CLOSED ? 0
                                          : c->in[h.flow].received;
    if (delta & 1)
        h.offset += (u64)(s64)(s8)delta;
    if (h.type == CHANNEL_HELLO)
        h.len = sizeof(struct channel_hello);
    else if (h.type != CHANNEL_DATA && !(delta & 2))
        h.len = 0;
    memcpy(buf, &h, sizeof(h));
    if (h.type == CHANNEL_HELLO && !(delta & 2)) {
        struct channel_hello hello;

        for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
            hello.consumed[i] = c->out[i].acked;
            hello.received[i] = c->out[i].next;
        }
        memcpy(buf + sizeof(h), &hello, sizeof(hello));
    } else if (h.type == CHANNEL_DATA) { /* what the bytes are does not matter */
        memset(buf + sizeof(h), 0x3c, h.len);
    } else {
        fuzz_bytes(in, buf + sizeof(h), h.len);
    }
    receive(c, buf, sizeof(h) + h.len);
}

static void raw(struct channel *c, struct fuzz_input *in)
{
    u8 buf[256];
    size_t n = fuzz_u8(in);

    fuzz_bytes(in, buf, n);
    receive(c, buf, n);
}

static void send_some(struct channel *c, unsigned n)
{
    struct iovec v[3];
    unsigned pieces;

    while (n-- && (pieces = channel_next(c, v))) {
        volatile u8 sum = 0;
        size_t len = 0;

        for (unsigned i = 0; i < pieces; i++) {
            len += v[i].iov_len;
            sum += ((const u8 *)v[i].iov_base)[v[i].iov_len - 1];
        }
        if (len > CHANNEL_RECORD_MAX || len != sizeof(c->head) + c->head.len)
            abort();
        channel_sent(c);
    }
}

static void write_some(struct channel *c, unsigned flow, size_t n)
{
    void *p;
    size_t room = channel_room(c, flow, &p);

    if (n > room)
        n = room;
    memset(p, 0x5a, n);
    channel_put(c, flow, n);
}

static void read_some(struct channel *c, unsigned flow, size_t n)
{
    const void *p;
    size_t there = channel_data(c, flow, &p);

    channel_take(c, flow, n < there ? n : there);
}

/* Load (s) into a fresh channel, which takes the place of (c) if that goes well. */
static int load(struct channel *c, struct state *s)
{
    struct channel *fresh = calloc(1, sizeof(*fresh));

    if (!fresh)
        return -ENOMEM;
    channel_state(fresh, s);
    if (!s->error) {
        memcpy(c, fresh, sizeof(*c));
        channel_connect(c);
    }
    free(fresh);
    return s->error;
}

static void move(struct channel *c)
{
    struct state saved = state_saver(), loading;

    channel_state(c, &saved);
    loading = state_loader(saved.data, saved.size);
    if (!saved.error && load(c, &loading) == -EBADMSG)
        abort();
    state_free(&saved);
}

static void load_input(struct channel *c, struct fuzz_input *in)
{
    size_t n = fuzz_u16(in);
    u8 *buf = malloc(n + 1);
    struct state s = state_loader(buf, n);

    if (!buf)
        return;
    fuzz_bytes(in, buf, n);
    load(c, &s);
    free(buf);
}

static void operation(struct channel *c, struct fuzz_input *in)
{
    enum op op = fuzz_u8(in) % OP_COUNT;

    switch (op) {
    case OP_RECORD:
        record(c, in);
        break;
    case OP_RAW:
        raw(c, in);
        break;
    case OP_BREAK:
        channel_disconnect(c);
        channel_connect(c);
        break;
    case OP_SEND:
        send_some(c, fuzz_u8(in));
        break;
    case OP_WRITE:
        write_some(c, fuzz_u8(in) % CHANNEL_FLOWS, fuzz_u16(in));
        break;
    case OP_READ:
        read_some(c, fuzz_u8(in) % CHANNEL_FLOWS, fuzz_u16(in));
        break;
    case OP_END:
        channel_end(c, fuzz_u8(in) % CHANNEL_FLOWS);
        break;
    case OP_CLOSE:
        channel_close(c, fuzz_u8(in) % CHANNEL_FLOWS);
        break;
    case OP_MOVE:
        move(c);
        break;
    case OP_LOAD:
        load_input(c, in);
        break;
    case OP_COUNT:
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct channel *c = calloc(1, sizeof(*c));

    if (!c)
        return 0;
    channel_connect(c);
    for (unsigned i = 0; i < OPS_MAX && in.size; i++) {
        operation(c, &in);
        check(c);
    }
    free(c);
    return 0;
}
