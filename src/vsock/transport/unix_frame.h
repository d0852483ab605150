// SPDX-License-Identifier: MIT
// Framed mode: records over a SOCK_STREAM Unix socket, with MSG_EOR and without a limit on their size.
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

/*
 * After the handshake, which is the same as on a plain socket, each direction is a run of
 * fragments: a header of four bytes, little endian, then the payload.
 *
 *     31  30  29       17 16            0
 *    +---+---+-----------+---------------+
 *    |EOM|EOR| 0         | length        |   length: 0 ... 65536 bytes
 *    +---+---+-----------+---------------+
 *
 * EOM is on the last fragment of a record; EOR, which needs EOM, says that it was sent with
 * MSG_EOR. A record of no bytes is one fragment of length 0 with EOM. A fragment without EOM
 * has at least one byte. The end of a direction is shutdown(); in the middle of a record, or
 * after a header that is not of this form, the connection is at fault and is reset.
 */
#define VSOCK_FRAME_HDR        4
#define VSOCK_FRAME_EOM        0x80000000u
#define VSOCK_FRAME_EOR        0x40000000u
#define VSOCK_FRAME_LENGTH     0x0001ffffu
#define VSOCK_FRAME_LENGTH_MAX 65536u

struct vsock_frame {
    uint32_t len;
    int eom, eor;
};

static inline void vsock_frame_encode(uint8_t wire[VSOCK_FRAME_HDR], const struct vsock_frame *f)
{
    uint32_t v = htole32(f->len | (f->eom ? VSOCK_FRAME_EOM : 0) | (f->eor ? VSOCK_FRAME_EOR : 0));

    memcpy(wire, &v, sizeof(v));
}

/* 0, or -1: no header. */
static inline int vsock_frame_decode(const uint8_t wire[VSOCK_FRAME_HDR], struct vsock_frame *f)
{
    uint32_t v;

    memcpy(&v, wire, sizeof(v));
    v = le32toh(v);
    f->len = v & VSOCK_FRAME_LENGTH;
    f->eom = !!(v & VSOCK_FRAME_EOM);
    f->eor = !!(v & VSOCK_FRAME_EOR);
    if (v & ~(VSOCK_FRAME_EOM | VSOCK_FRAME_EOR | VSOCK_FRAME_LENGTH) ||
        f->len > VSOCK_FRAME_LENGTH_MAX || (f->eor && !f->eom) || (!f->len && !f->eom))
        return -1;
    return 0;
}
