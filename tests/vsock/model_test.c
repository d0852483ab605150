// SPDX-License-Identifier: MIT
// Random operations against a small model of streams and records: every byte and boundary is checked.

/*
 * The model of one direction is what has been sent and not read: a range of positions for
 * STREAM, whose byte at position (i) is pattern(i), and a list of records for SEQPACKET. It
 * does not say how much a non-blocking send takes, but that it takes something once all has
 * been read.
 */
#include "seat.h"

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
static unsigned seed;
static bool is_stream;
static u8 data[300000];

static u32 rnd(u32 n)
{
    return (u32)rand_r(&seed) % n;
}

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

static bool step_send(struct seat *s, struct way *w)
{
    u32 len = random_len();
    bool eor = rnd(2), was_empty = empty(w);
    ssize_t n;

    if (w->shut || w->head - w->tail == RECORDS)
        return true;
    for (u32 i = 0; i < len; i++)
        data[i] = pattern(w->sent + i);
    n = do_send(w->from, data, len, MSG_DONTWAIT | (eor ? MSG_EOR : 0));
    if (n == -EAGAIN && was_empty && (s || !is_stream)) {
        if (s)
            seat_run(s); /* the news that all was read may have been on its way */
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

static void carry_on(struct seat *s)
{
    if (s && rnd(3))
        seat_run(s);
}

static bool settle(struct seat *s, struct way *w)
{
    for (unsigned i = 0; i < 100000; i++) {
        if (s)
            seat_run(s);
        if (!(is_stream ? recv_stream(w, 30000, MSG_DONTWAIT)
                        : recv_record(w, LEN_MAX, MSG_DONTWAIT)))
            return false;
        if (empty(w))
            return true;
    }
    return false;
}

static bool play(struct seat *s, unsigned steps)
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
            if (s)
                seat_run(s);
            good = settle(s, w);
            break;
        default:
            if (s && i / 50 % 2 == 0)
                seat_run(s); /* what is on its way is not there to read */
            good = i / 50 % 2 ? step_send(s, w) : step_recv(w);
            break;
        }
        carry_on(s);
        if (!good) {
            printf("# step %u\n", i);
            return false;
        }
    }
    return true;
}

/* Over loopback of (v), or over the rings of (s). */
static void run(struct uvirt_vsock *v, struct seat *s, int type, unsigned with, const char *name)
{
    sock *l = listener(s ? s->host : v, type, PORT, 4), *p[2];
    bool good;

    seed = with;
    is_stream = type == SOCK_STREAM;
    memset(ways, 0, sizeof(ways));
    p[0] = new_sock(s ? s->guest : v, type);
    do_connect(p[0], s ? VMADDR_CID_HOST : VMADDR_CID_LOCAL, PORT, true);
    if (s)
        seat_run(s);
    p[1] = do_accept(l);
    uvirt_vsock_close(l);
    ways[0].from = ways[1].to = p[0];
    ways[1].from = ways[0].to = p[1];
    good = play(s, 4000) && settle(s, &ways[0]) && settle(s, &ways[1]);
    ways[0].shut = true;
    uvirt_vsock_shutdown(p[0], SHUT_WR);
    good =
        good && settle(s, &ways[0]) && play(s, 1000) && settle(s, &ways[0]) && settle(s, &ways[1]);
    ok(good, "%s, %s, seed %u: %llu and %llu bytes", name, is_stream ? "STREAM" : "SEQPACKET", with,
       (unsigned long long)ways[0].sent, (unsigned long long)ways[1].sent);
    close_pair(p);
    if (s)
        seat_run(s);
}

int main(void)
{
    static const u64 features = BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET);

    for (unsigned marker = 0; marker < 2; marker++) {
        struct uvirt_vsock *v = context(VMADDR_CID_HOST, true, marker);
        struct seat s;

        seat_open(&s, marker, true, features);
        for (unsigned i = 1; i <= 6; i++) {
            int type = i % 2 ? SOCK_SEQPACKET : SOCK_STREAM;

            run(v, NULL, type, i, marker ? "marker, loopback" : "eom, loopback");
            seat_start(&s, features, 1 + i % 3, 1 + i % 2, i % 2 ? 3776 : 200);
            run(NULL, &s, type, i, marker ? "marker, device" : "eom, device");
        }
        seat_close(&s);
        uvirt_vsock_free(v);
    }
    return tap_done();
}
