// SPDX-License-Identifier: MIT
// The state of a channel: what is to be sent, what may come, and going on after a lost connection.
#include "vmm/channel.h"
#include "base/state.h"

#include <errno.h>
#include <string.h>

#define ACK_EVERY                                                                                  \
    (CHANNEL_WINDOW / 2) /* each costs the guest an interrupt; the other half is under way meanwhile */

void channel_connect(struct channel *c)
{
    c->connected = true;
    c->hello_sent = c->up = false;
}

void channel_disconnect(struct channel *c)
{
    c->connected = c->up = false;
}

static u32 at(u64 offset)
{
    return offset & (CHANNEL_WINDOW - 1);
}

/* The piece of a ring from (from) on, up to (end) or where it wraps. */
static size_t piece(u64 from, u64 end)
{
    size_t left = end - from, straight = CHANNEL_WINDOW - at(from);

    return left < straight ? left : straight;
}

/* --- sending --- */

static void set_head(struct channel *c, enum channel_type type, unsigned flow, u32 len, u64 offset)
{
    c->head = (struct channel_head){.type = type, .flow = flow, .len = len, .offset = offset};
}

static bool next_hello(struct channel *c)
{
    if (c->hello_sent)
        return false;
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        c->hello.received[i] = c->in[i].received;
        c->hello.consumed[i] = c->in[i].consumed;
    }
    set_head(c, CHANNEL_HELLO, 0, sizeof(c->hello), CHANNEL_VERSION);
    return true;
}

/* News for the sender of flow (i). */
static bool next_news(struct channel *c, unsigned i)
{
    const struct channel_in *in = &c->in[i];

    if (in->closed && !in->closed_sent)
        set_head(c, CHANNEL_CLOSED, i, 0, 0);
    else if (!in->closed && !in->ended && in->consumed - in->told >= ACK_EVERY)
        set_head(c, CHANNEL_ACK, i, 0, in->consumed);
    else
        return false;
    return true;
}

/* Bytes, or the end, of flow (i). */
static bool next_data(struct channel *c, unsigned i)
{
    const struct channel_out *o = &c->out[i];
    u64 left = o->end - o->next;

    if (o->deaf)
        return false;
    if (left)
        set_head(c, CHANNEL_DATA, i, left < CHANNEL_DATA_MAX ? left : CHANNEL_DATA_MAX, o->next);
    else if (o->ended && !o->end_sent)
        set_head(c, CHANNEL_END, i, 0, o->end);
    else
        return false;
    return true;
}

/* Set (head): news and messages first, then data of one flow after the other. */
static bool find_next(struct channel *c)
{
    if (!c->connected)
        return false;
    if (next_hello(c))
        return true;
    if (!c->up)
        return false;
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++)
        if (next_news(c, i))
            return true;
    if (next_data(c, CHANNEL_CONTROL))
        return true;
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++)
        if (next_data(c, (c->turn + i) % CHANNEL_FLOWS))
            return true;
    return false;
}

unsigned channel_next(struct channel *c, struct iovec v[3])
{
    struct channel_out *o;
    size_t first;

    if (!find_next(c))
        return 0;
    v[0] = (struct iovec){&c->head, sizeof(c->head)};
    if (!c->head.len)
        return 1;
    if (c->head.type == CHANNEL_HELLO) {
        v[1] = (struct iovec){&c->hello, sizeof(c->hello)};
        return 2;
    }
    o = &c->out[c->head.flow];
    first = piece(o->next, o->next + c->head.len);
    v[1] = (struct iovec){o->ring + at(o->next), first};
    v[2] = (struct iovec){o->ring, c->head.len - first};
    return v[2].iov_len ? 3 : 2;
}

void channel_sent(struct channel *c)
{
    unsigned f = c->head.flow;

    switch (c->head.type) {
    case CHANNEL_HELLO:
        c->hello_sent = true;
        for (unsigned i = 0; i < CHANNEL_FLOWS; i++)
            c->in[i].told = c->hello.consumed[i];
        break;
    case CHANNEL_DATA:
        c->out[f].next += c->head.len;
        c->turn = f + 1;
        break;
    case CHANNEL_END:
        c->out[f].end_sent = true;
        break;
    case CHANNEL_ACK:
        c->in[f].told = c->head.offset;
        break;
    default:
        c->in[f].closed_sent = true;
        break;
    }
}

/* --- receiving --- */

static int receive_hello(struct channel *c, const struct channel_head *h, const void *data)
{
    struct channel_hello his;

    if (h->offset != CHANNEL_VERSION || h->len != sizeof(his))
        return -EBADMSG;
    memcpy(&his, data, sizeof(his));
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        const struct channel_out *o = &c->out[i];

        if (!o->deaf && (his.consumed[i] < o->acked || his.received[i] < his.consumed[i] ||
                         his.received[i] > o->end))
            return -EBADMSG;
    }
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        c->in[i].closed_sent = false;
        if (c->out[i].deaf)
            continue;
        c->out[i].acked = his.consumed[i];
        c->out[i].next = his.received[i];
        c->out[i].end_sent = false;
    }
    c->up = true;
    return 0;
}

static int receive_data(struct channel_in *in, const struct channel_head *h, const u8 *data)
{
    size_t first;

    if (!h->len || h->offset != in->received || in->ended)
        return -EBADMSG;
    if (in->closed) {
        in->consumed = in->received += h->len;
        return 0;
    }
    if (h->len > CHANNEL_WINDOW - (in->received - in->consumed))
        return -EBADMSG;
    first = piece(in->received, in->received + h->len);
    memcpy(in->ring + at(in->received), data, first);
    memcpy(in->ring, data + first, h->len - first);
    in->received += h->len;
    return 0;
}

/* The end may be told once on each connection. */
static int receive_end(struct channel_in *in, const struct channel_head *h)
{
    if (h->len || h->offset != in->received)
        return -EBADMSG;
    in->ended = true;
    return 0;
}

static int receive_ack(struct channel_out *o, const struct channel_head *h)
{
    if (h->len)
        return -EBADMSG;
    if (o->deaf)
        return 0;
    if (h->offset < o->acked || h->offset > o->next)
        return -EBADMSG;
    o->acked = h->offset;
    return 0;
}

static int receive_closed(struct channel_out *o, const struct channel_head *h)
{
    if (h->len || h->offset)
        return -EBADMSG;
    o->deaf = true;
    o->acked = o->next = o->end;
    return 0;
}

int channel_receive(struct channel *c, const void *record, size_t len)
{
    struct channel_head h;
    const u8 *data = (const u8 *)record + sizeof(h);

    if (len < sizeof(h))
        return -EBADMSG;
    memcpy(&h, record, sizeof(h));
    if (h.len > CHANNEL_DATA_MAX || len != sizeof(h) + h.len || h.flow >= CHANNEL_FLOWS ||
        c->up == (h.type == CHANNEL_HELLO))
        return -EBADMSG;
    switch (h.type) {
    case CHANNEL_HELLO:
        return receive_hello(c, &h, data);
    case CHANNEL_DATA:
        return receive_data(&c->in[h.flow], &h, data);
    case CHANNEL_END:
        return receive_end(&c->in[h.flow], &h);
    case CHANNEL_ACK:
        return receive_ack(&c->out[h.flow], &h);
    case CHANNEL_CLOSED:
        return receive_closed(&c->out[h.flow], &h);
    default:
        return -EBADMSG;
    }
}

/* --- the user's side --- */

size_t channel_room(struct channel *c, enum channel_flow f, void **p)
{
    struct channel_out *o = &c->out[f];

    *p = o->ring + at(o->end);
    return piece(o->end, o->acked + CHANNEL_WINDOW);
}

void channel_put(struct channel *c, enum channel_flow f, size_t n)
{
    struct channel_out *o = &c->out[f];

    o->end += n;
    if (o->deaf)
        o->acked = o->next = o->end;
}

bool channel_write(struct channel *c, enum channel_flow f, const void *data, size_t len)
{
    struct channel_out *o = &c->out[f];
    size_t first = piece(o->end, o->end + len);

    if (len > CHANNEL_WINDOW - (o->end - o->acked))
        return false;
    memcpy(o->ring + at(o->end), data, first);
    memcpy(o->ring, (const u8 *)data + first, len - first);
    channel_put(c, f, len);
    return true;
}

void channel_end(struct channel *c, enum channel_flow f)
{
    c->out[f].ended = true;
}

bool channel_deaf(const struct channel *c, enum channel_flow f)
{
    return c->out[f].deaf;
}

bool channel_all_sent(const struct channel *c)
{
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        const struct channel_out *o = &c->out[i];

        if (!o->deaf && (o->next < o->end || (o->ended && !o->end_sent)))
            return false;
    }
    return true;
}

size_t channel_data(const struct channel *c, enum channel_flow f, const void **p)
{
    const struct channel_in *in = &c->in[f];

    *p = in->ring + at(in->consumed);
    return piece(in->consumed, in->received);
}

void channel_take(struct channel *c, enum channel_flow f, size_t n)
{
    c->in[f].consumed += n;
}

bool channel_read(struct channel *c, enum channel_flow f, void *data, size_t len)
{
    struct channel_in *in = &c->in[f];
    size_t first = piece(in->consumed, in->consumed + len);

    if (len > in->received - in->consumed)
        return false;
    memcpy(data, in->ring + at(in->consumed), first);
    memcpy((u8 *)data + first, in->ring, len - first);
    in->consumed += len;
    return true;
}

void channel_close(struct channel *c, enum channel_flow f)
{
    c->in[f].closed = true;
    c->in[f].consumed = c->in[f].received;
}

bool channel_over(const struct channel *c, enum channel_flow f)
{
    const struct channel_in *in = &c->in[f];

    return in->closed || (in->ended && in->consumed == in->received);
}

/* --- saved state --- */

/* The bytes from (from) to (end) of a ring. */
static void ring_state(struct state *s, u8 *ring, u64 from, u64 end)
{
    size_t first;

    if (s->error)
        return;
    first = piece(from, end);
    state_bytes(s, "bytes", ring + at(from), first);
    state_bytes(s, "bytes", ring, end - from - first);
}

void channel_state(struct channel *c, struct state *s)
{
    for (unsigned i = 0; i < CHANNEL_FLOWS; i++) {
        struct channel_out *o = &c->out[i];
        struct channel_in *in = &c->in[i];

        STATE(s, o->acked);
        STATE(s, o->end);
        STATE_CHECK(s, o->acked <= o->end && o->end - o->acked <= CHANNEL_WINDOW, o->end);
        STATE_BOOL(s, o->ended);
        STATE_BOOL(s, o->deaf);
        ring_state(s, o->ring, o->acked, o->end);
        STATE(s, in->consumed);
        STATE(s, in->received);
        STATE_CHECK(s,
                    in->consumed <= in->received && in->received - in->consumed <= CHANNEL_WINDOW,
                    in->received);
        STATE_BOOL(s, in->ended);
        STATE_BOOL(s, in->closed);
        ring_state(s, in->ring, in->consumed, in->received);
        if (s->loading && !s->error)
            o->next = o->acked;
    }
}
