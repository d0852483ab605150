// SPDX-License-Identifier: MIT
// A channel's two ends face to face: every byte once, through lost connections and restored ends; records that break rules.
#include "vmm/channel.h"
#include "base/state.h"
#include "tap.h"

#include <errno.h>

#define STEPS   40000
#define WIRE    8          /* records under way in one direction */
#define BYTES   (1u << 20) /* of each flow, before it ends */
#define HASH(o) ((u8)((o)*2654435761u >> 13))

static u64 seed = 88172645463325252ull;

static u32 rnd(u32 n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 32) % n;
}

/* Records that have been sent and not received; they are lost with the connection. */
struct wire {
    unsigned n;
    struct {
        size_t len;
        u8 bytes[CHANNEL_RECORD_MAX];
    } r[WIRE];
};

/* What is to be and has been seen of one flow. */
struct flow {
    u64 put, got;
    bool ended, over;
};

struct side {
    struct channel c;
    struct wire to; /* to the other side */
    struct flow out[CHANNEL_FLOWS], in[CHANNEL_FLOWS];
};

/* A moment of both ends, with the bytes that were seen by then. */
struct moment {
    struct state s[2];
    struct side sides[2];
};

static struct side sides[2];
static unsigned bad, lost, restored;

static bool send_one(struct side *s)
{
    struct iovec v[3];
    unsigned n;
    size_t len = 0;

    if (s->to.n == WIRE)
        return false;
    n = channel_next(&s->c, v);
    if (!n)
        return false;
    for (unsigned i = 0; i < n; i++) {
        memcpy(s->to.r[s->to.n].bytes + len, v[i].iov_base, v[i].iov_len);
        len += v[i].iov_len;
    }
    s->to.r[s->to.n++].len = len;
    channel_sent(&s->c);
    return true;
}

static bool receive_one(struct side *s, struct wire *from)
{
    if (!from->n)
        return false;
    bad += channel_receive(&s->c, from->r[0].bytes, from->r[0].len) != 0;
    from->n--;
    memmove(&from->r[0], &from->r[1], from->n * sizeof(from->r[0]));
    return true;
}

static void produce(struct side *s, unsigned f)
{
    struct flow *o = &s->out[f];
    void *p;
    size_t room = channel_room(&s->c, f, &p), n = rnd(3) ? rnd(100) + 1 : rnd(CHANNEL_WINDOW) + 1;

    if (o->ended)
        return;
    n = n < room ? n : room;
    n = n < BYTES - o->put ? n : BYTES - o->put;
    for (size_t i = 0; i < n; i++)
        ((u8 *)p)[i] = HASH(o->put + i + f);
    channel_put(&s->c, f, n);
    o->put += n;
    if (o->put == BYTES) {
        channel_end(&s->c, f);
        o->ended = true;
    }
}

static void consume(struct side *s, unsigned f)
{
    struct flow *in = &s->in[f];
    const void *p;
    size_t have = channel_data(&s->c, f, &p), n = rnd(2) ? have : rnd((u32)have + 1);

    for (size_t i = 0; i < n; i++)
        bad += ((const u8 *)p)[i] != HASH(in->got + i + f);
    channel_take(&s->c, f, n);
    in->got += n;
    in->over = channel_over(&s->c, f);
}

static void reconnect(void)
{
    for (unsigned i = 0; i < 2; i++) {
        sides[i].to.n = 0;
        channel_disconnect(&sides[i].c);
        channel_connect(&sides[i].c);
    }
    lost++;
}

/* What a snapshot has of one end, side 1 say: all of its memory; of the other, its saved state. */
static void save(struct moment *m)
{
    state_free(&m->s[0]);
    m->s[0] = state_saver();
    channel_state(&sides[0].c, &m->s[0]);
    memcpy(m->sides, sides, sizeof(sides));
}

static void restore(const struct moment *m)
{
    struct state s = state_loader(m->s[0].data, m->s[0].size);

    memcpy(sides, m->sides, sizeof(sides));
    memset(&sides[0].c, 0, sizeof(sides[0].c));
    channel_state(&sides[0].c, &s);
    state_end(&s);
    bad += s.error != 0;
    reconnect();
    restored++;
}

static void step(struct moment *m, bool losses)
{
    struct side *s = &sides[rnd(2)], *o = s == &sides[0] ? &sides[1] : &sides[0];
    unsigned f = rnd(CHANNEL_FLOWS);

    switch (rnd(6)) {
    case 0:
        produce(s, f);
        break;
    case 1:
        consume(s, f);
        break;
    case 2:
    case 3:
        send_one(s);
        break;
    default:
        receive_one(s, &o->to);
        break;
    }
    if (!losses)
        return;
    if (!rnd(300))
        reconnect();
    if (!rnd(900))
        save(m);
    else if (!rnd(2700) && m->s[0].data)
        restore(m);
}

/* All that is still to come, in order. */
static void drain(void)
{
    bool moved;

    do {
        moved = false;
        for (unsigned i = 0; i < 2; i++) {
            for (unsigned f = 0; f < CHANNEL_FLOWS; f++) {
                produce(&sides[i], f);
                consume(&sides[i], f);
                moved |= !sides[i].in[f].over;
            }
            while (send_one(&sides[i]))
                ;
            while (receive_one(&sides[i], &sides[!i].to))
                ;
        }
    } while (moved && !bad);
}

static void flows(bool losses)
{
    static struct moment m;
    unsigned complete = 0;

    memset(sides, 0, sizeof(sides));
    bad = lost = restored = 0;
    reconnect();
    for (unsigned i = 0; i < STEPS && !bad; i++)
        step(&m, losses);
    drain();
    for (unsigned i = 0; i < 2; i++)
        for (unsigned f = 0; f < CHANNEL_FLOWS; f++)
            complete += sides[i].in[f].got == BYTES && sides[i].in[f].over;
    is_u64(bad, 0, "every byte is where it belongs%s",
           losses ? ", whatever is lost and restored" : "");
    is_u64(complete, 2 * CHANNEL_FLOWS, "all flows came to their ends");
    ok(!losses || (lost > 20 && restored > 2), "%u connections, %u restored", lost, restored);
    ok(channel_all_sent(&sides[0].c), "nothing is left to be sent");
    state_free(&m.s[0]);
}

/* --- one flow that stalls, and one that nobody wants --- */

static void exchange(void)
{
    bool moved;

    do {
        moved = false;
        for (unsigned i = 0; i < 2; i++) {
            moved |= send_one(&sides[i]);
            moved |= receive_one(&sides[i], &sides[!i].to);
        }
    } while (moved);
}

static void stalls(void)
{
    static u8 bytes[CHANNEL_WINDOW];
    const void *p;
    void *room;

    memset(sides, 0, sizeof(sides));
    reconnect();
    ok(channel_write(&sides[1].c, CHANNEL_STDOUT, bytes, sizeof(bytes)), "a window's worth");
    ok(!channel_write(&sides[1].c, CHANNEL_STDOUT, bytes, 1), "and not one byte more");
    exchange();
    is_u64(channel_room(&sides[1].c, CHANNEL_STDOUT, &room), 0, "its reader stalls, so does it");
    ok(channel_write(&sides[1].c, CHANNEL_STDERR, "err", 3), "another flow does not");
    exchange();
    is_u64(channel_data(&sides[0].c, CHANNEL_STDERR, &p), 3, "and arrives");
    channel_close(&sides[0].c, CHANNEL_STDOUT);
    exchange();
    ok(channel_deaf(&sides[1].c, CHANNEL_STDOUT), "the writer hears that nobody reads");
    ok(channel_write(&sides[1].c, CHANNEL_STDOUT, bytes, sizeof(bytes)), "and may go on writing");
    reconnect();
    exchange();
    ok(sides[0].c.up && sides[1].c.up && !bad, "over a new connection too");
    ok(channel_over(&sides[0].c, CHANNEL_STDOUT), "for the reader it is over");
}

/* --- rules --- */

static int tell(unsigned type, unsigned flow, u32 len, u64 offset)
{
    static u8 record[CHANNEL_RECORD_MAX];
    struct channel_head h = {.type = (u16)type, .flow = (u16)flow, .len = len, .offset = offset};

    memset(record, 0, sizeof(record));
    memcpy(record, &h, sizeof(h));
    return channel_receive(&sides[0].c, record, sizeof(h) + len);
}

static void rules(void)
{
    static const u8 nothing[64];
    const u32 hello = sizeof(struct channel_hello);

    memset(sides, 0, sizeof(sides));
    channel_connect(&sides[0].c);
    is_u64(tell(CHANNEL_DATA, 2, 5, 0), -EBADMSG, "data before HELLO");
    is_u64(tell(CHANNEL_HELLO, 0, hello - 8, CHANNEL_VERSION), -EBADMSG, "a short HELLO");
    is_u64(tell(CHANNEL_HELLO, 0, hello, CHANNEL_VERSION + 1), -EBADMSG, "another version");
    is_u64(tell(CHANNEL_HELLO, 0, hello, CHANNEL_VERSION), 0, "a good HELLO");
    is_u64(tell(CHANNEL_HELLO, 0, hello, CHANNEL_VERSION), -EBADMSG, "a second one");
    is_u64(tell(CHANNEL_DATA, 2, 5, 1), -EBADMSG, "a gap in a flow");
    is_u64(tell(CHANNEL_DATA, 2, 0, 0), -EBADMSG, "no bytes");
    is_u64(tell(CHANNEL_DATA, CHANNEL_FLOWS, 5, 0), -EBADMSG, "no such flow");
    is_u64(tell(99, 2, 0, 0), -EBADMSG, "no such type");
    is_u64(channel_receive(&sides[0].c, nothing, 15), -EBADMSG, "less than a head");
    is_u64(channel_receive(&sides[0].c, nothing, 64), -EBADMSG, "zeros");
    for (u64 at = 0, n; at < CHANNEL_WINDOW; at += n) {
        n = CHANNEL_WINDOW - at < CHANNEL_DATA_MAX ? CHANNEL_WINDOW - at : CHANNEL_DATA_MAX;
        is_u64(tell(CHANNEL_DATA, 2, (u32)n, at), 0, "data up to the window");
    }
    is_u64(tell(CHANNEL_DATA, 2, 1, CHANNEL_WINDOW), -EBADMSG, "and beyond");
    is_u64(tell(CHANNEL_END, 2, 0, 5), -EBADMSG, "an end that is not where the data ends");
    is_u64(tell(CHANNEL_END, 2, 0, CHANNEL_WINDOW), 0, "one that is");
    is_u64(tell(CHANNEL_ACK, 1, 0, 1), -EBADMSG, "an ACK of what was never sent");
    is_u64(tell(CHANNEL_ACK, 1, 4, 0), -EBADMSG, "an ACK with bytes");
    is_u64(tell(CHANNEL_CLOSED, 1, 0, 0), 0, "CLOSED");
    is_u64(tell(CHANNEL_CLOSED, 1, 0, 0), 0, "and again");
}

static void bad_state(void)
{
    struct state s = state_saver(), load;
    u64 far = CHANNEL_WINDOW + 1;

    memset(sides, 0, sizeof(sides));
    channel_state(&sides[0].c, &s);
    for (size_t at = 0; at < s.size; at += 5) {
        load = state_loader(s.data, at);
        channel_state(&sides[1].c, &load);
        if (!load.error)
            ok(false, "cut at %zu bytes", at);
    }
    memcpy(s.data + 8, &far, sizeof(far)); /* the first flow's end */
    load = state_loader(s.data, s.size);
    channel_state(&sides[1].c, &load);
    is_u64(load.error, -EBADMSG, "saved state with more than a window");
    state_free(&s);
}

int main(void)
{
    flows(false);
    flows(true);
    stalls();
    rules();
    bad_state();
    return tap_done();
}
