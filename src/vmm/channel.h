// SPDX-License-Identifier: MIT
// Byte flows between uvirt and its guest's init in records of one connection, which may break and be made anew.
#pragma once

#include "base/types.h"

#include <sys/uio.h>

/*
 * Both ends use this file's code, as state without any I/O: whoever owns a channel carries the records. A flow is a
 * sequence of bytes in one direction. Its sender keeps what the receiver has not consumed, CHANNEL_WINDOW bytes at most,
 * and its receiver has room for as much. So no flow ever waits for another, and after a lost connection, a restored
 * snapshot's for example, each end says how far it has got and the other goes on from there: no byte is lost or doubled.
 *
 * A record is a struct channel_head and (len) bytes:
 *
 *   HELLO   both ways, first on every connection; offset: CHANNEL_VERSION; bytes: struct channel_hello
 *   DATA    bytes of (flow) from (offset) on
 *   END     (flow) ends at (offset)
 *   ACK     the receiver has consumed (flow) up to (offset)
 *   CLOSED  the receiver wants no more of (flow)
 *
 * Numbers are little-endian, as on every machine that this runs on.
 */
enum channel_flow {
    CHANNEL_CONTROL, /* both ways: struct control_message */
    CHANNEL_STDIN,   /* to the guest */
    CHANNEL_STDOUT,  /* from it */
    CHANNEL_STDERR,
    CHANNEL_FLOWS,
};

#define CHANNEL_VERSION    2
#define CHANNEL_WINDOW     262144u
#define CHANNEL_DATA_MAX   61440u /* a record is one packet, and with the kernel's own overhead below 64 KiB */
#define CHANNEL_RECORD_MAX (sizeof(struct channel_head) + CHANNEL_DATA_MAX)

enum channel_type { CHANNEL_HELLO = 1, CHANNEL_DATA, CHANNEL_END, CHANNEL_ACK, CHANNEL_CLOSED };

struct channel_head {
    u16 type, flow;
    u32 len;
    u64 offset;
};
_Static_assert(sizeof(struct channel_head) == 16, "the same on both sides");

struct channel_hello {
    u64 received[CHANNEL_FLOWS], consumed[CHANNEL_FLOWS];
};

/* Offsets count a flow's bytes from its beginning; a ring's byte (o) is at o % CHANNEL_WINDOW. */
struct channel_out {
    u64 acked; /* the receiver has consumed up to here; acked <= next <= end <= acked + CHANNEL_WINDOW */
    u64 next; /* from here on it is to be sent */
    u64 end;  /* of what there is */
    bool ended, end_sent;
    bool deaf; /* the receiver wants no more */
    u8 ring[CHANNEL_WINDOW];
};

struct channel_in {
    u64 consumed; /* consumed <= received <= consumed + CHANNEL_WINDOW */
    u64 received;
    u64 told; /* what the sender knows of (consumed) */
    bool ended;
    bool closed, closed_sent; /* we want no more */
    u8 ring[CHANNEL_WINDOW];
};

struct channel {
    bool connected, hello_sent;
    bool up;                  /* the other end's HELLO has come */
    unsigned turn;            /* the flow whose data goes first */
    struct channel_head head; /* of the record that channel_next() gave out */
    struct channel_hello hello;
    struct channel_out out[CHANNEL_FLOWS];
    struct channel_in in[CHANNEL_FLOWS];
};

/* All zeros is a fresh channel, without a connection. */

/* There is a connection now, or there is none. */
void channel_connect(struct channel *c);
void channel_disconnect(struct channel *c);

/*
 * The next record to be sent, in at most three pieces; their number, 0: there is nothing to send. Once it is sent, and
 * before anything else happens to (c), call channel_sent(); or drop it and ask again later.
 */
unsigned channel_next(struct channel *c, struct iovec v[3]);
void channel_sent(struct channel *c);

/* A record has come. 0, or -EBADMSG: the other end does not keep to the rules, so end the connection. */
int channel_receive(struct channel *c, const void *record, size_t len);

/*
 * Room for more bytes of a flow of ours: (*p) and its size, 0 if there is none; it may be more on the next call. Then
 * say how many came to be there. The bytes of a flow that nobody wants are dropped.
 */
size_t channel_room(struct channel *c, enum channel_flow f, void **p);
void channel_put(struct channel *c, enum channel_flow f, size_t n);

/* (len) bytes at once, or none of them (false). */
bool channel_write(struct channel *c, enum channel_flow f, const void *data, size_t len);

/* No more bytes of this flow will come. */
void channel_end(struct channel *c, enum channel_flow f);

/* Does the other end not want any more of it? */
bool channel_deaf(const struct channel *c, enum channel_flow f);

/* Has everything that there is been sent, ends too? */
bool channel_all_sent(const struct channel *c);

/* What has come of a flow: (*p) and its size, as above. Then say how many were used up. */
size_t channel_data(const struct channel *c, enum channel_flow f, const void **p);
void channel_take(struct channel *c, enum channel_flow f, size_t n);

/* (len) bytes at once, or none of them (false). */
bool channel_read(struct channel *c, enum channel_flow f, void *data, size_t len);

/* Want no more of it. */
void channel_close(struct channel *c, enum channel_flow f);

/* Nothing more will come of it: it has ended and everything is used up, or it was closed. */
bool channel_over(const struct channel *c, enum channel_flow f);

/* Save it, or load it into a fresh channel (base/state.h). It comes back without a connection. */
struct state;
void channel_state(struct channel *c, struct state *s);
