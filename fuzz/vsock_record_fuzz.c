// SPDX-License-Identifier: MIT
// Fuzzes both framings of records with packets of a guest, against a small reference of what arrives as a record.

/*
 * The input chooses a framing and is a list of operations (enum op): packets on one SEQPACKET
 * connection, whole records with one thing wrong, and reads. The reference keeps the packets of the
 * record under way and decides when its end comes. Invariants: what is read is what the reference
 * says, byte by byte, with its length, MSG_EOR and MSG_TRUNC; what is dropped gives its credit back;
 * what is no packet of the framing ends the connection, and nothing else does.
 */
#include "fuzz.h"
#include "vsock/sock.h"
#include "vsock/transport/device.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#define GUEST       3
#define PORT        5000
#define OPS_MAX     300
#define RECORDS_MAX 64
#define BYTES_MAX   150000 /* of the reference's, and so of the socket's */
#define PKTS_MAX    200    /* in the socket, far below its limit */

enum op {
    OP_DATA,  /* flags, length */
    OP_BEGIN, /* number, length */
    OP_END,   /* number */
    OP_WHOLE, /* a record in pieces; what is wrong with it */
    OP_ODD,   /* a marker of another size */
    OP_READ,  /* buffer, flags */
    OP_COUNT,
};

/* Of OP_WHOLE. */
enum wrong { NOTHING, NUMBER, SHORT, LONG, NO_END, TWICE, EOR_FIRST, EOR_ALL, WRONGS };

struct piece {
    u32 at, len; /* position of its bytes */
    bool eor;
};

struct record {
    u32 first, nr; /* pieces */
    u32 len;
    bool eor;
};

/* What the packets so far mean. */
static struct {
    struct piece pieces[RECORDS_MAX * 16];
    struct record records[RECORDS_MAX];
    u32 nr_pieces, nr_records, next; /* next: the one that is read next */
    u32 first;                       /* piece of the record under way */
    u32 pkts;                        /* at most so many are in the socket */
    bool marker, begun, open, dead;
    u32 cnt, len; /* of BEGIN */
} ref;

static struct uvirt_vsock *host;
static struct vsock_device *dev;
static struct uvirt_vsock_socket *k;
static u32 at, number; /* position of the next byte; a proper sender's next marker */
static u8 bytes[BYTES_MAX];

static void must(bool good)
{
    if (!good)
        abort();
}

static u8 pattern(u32 pos)
{
    return (u8)(pos * 2654435761u >> 23);
}

static u64 now(void *opaque)
{
    return 1000000000;
}

static void inject(u16 op, u32 flags, const void *data, u32 len)
{
    struct vsock_pkt *p = vsock_pkt_alloc(len);

    must(p);
    p->hdr = (struct vsock_hdr){.src_cid = GUEST,
                                .dst_cid = VMADDR_CID_HOST,
                                .src_port = 9,
                                .dst_port = PORT,
                                .len = len,
                                .type = VIRTIO_VSOCK_TYPE_SEQPACKET,
                                .op = op,
                                .flags = flags,
                                .buf_alloc = 65536};
    p->len = len;
    if (len)
        memcpy(p->data, data, len);
    vsock_device_input(dev, p);
    ref.pkts++;
}

/* --- the reference --- */

static u32 under_way(void)
{
    u32 sum = 0;

    for (u32 i = ref.first; i < ref.nr_pieces; i++)
        sum += ref.pieces[i].len;
    return sum;
}

static void complete(bool eor)
{
    struct record *r = &ref.records[ref.nr_records++];

    *r = (struct record){.first = ref.first, .nr = ref.nr_pieces - ref.first, .eor = eor};
    r->len = under_way();
    ref.first = ref.nr_pieces;
}

static void ref_data(u32 flags, u32 pos, u32 len)
{
    if (ref.marker && !ref.begun) {
        ref.dead = true;
        return;
    }
    if (ref.marker && !ref.open)
        return;
    ref.pieces[ref.nr_pieces++] = (struct piece){pos, len, flags & VSOCK_RW_EOR};
    if (!ref.marker && flags & VIRTIO_VSOCK_SEQ_EOM)
        complete(flags & VIRTIO_VSOCK_SEQ_EOR);
}

static void ref_begin(u32 cnt, u32 len)
{
    ref.dead |= !ref.marker;
    ref.nr_pieces = ref.first; /* what was under way is given up */
    ref.begun = ref.open = true;
    ref.cnt = cnt;
    ref.len = len;
}

static void ref_end(u32 cnt)
{
    bool eor = false;

    if (!ref.marker || !ref.begun) {
        ref.dead = true;
        return;
    }
    for (u32 i = ref.first; i < ref.nr_pieces; i++)
        eor |= ref.pieces[i].eor;
    if (ref.open && under_way() == ref.len && cnt == ref.cnt + 1)
        complete(eor);
    ref.nr_pieces = ref.first;
    for (u32 i = 0; i < ref.nr_records; i++)
        ref.nr_pieces = ref.records[i].first + ref.records[i].nr;
    ref.first = ref.nr_pieces;
    ref.open = false;
}

/* Bytes that the socket must hold: whole records, and what may still become one. */
static u32 ref_held(void)
{
    u32 sum = 0, part = under_way();

    for (u32 i = ref.next; i < ref.nr_records; i++)
        sum += ref.records[i].len;
    return sum + (ref.marker && part > ref.len ? 0 : part);
}

/* --- operations --- */

static void data(u32 flags, u32 len)
{
    if (ref.nr_pieces + 1 >= ARRAY_SIZE(ref.pieces) || ref_held() + under_way() + len > BYTES_MAX)
        return;
    for (u32 i = 0; i < len; i++)
        bytes[i] = pattern(at + i);
    inject(VIRTIO_VSOCK_OP_RW, flags, bytes, len);
    ref_data(flags, at, len);
    at += len;
}

static void mark(u16 op, u32 cnt, u32 len)
{
    u32 m[2] = {htole32(cnt), htole32(len)};

    inject(op, 0, m, sizeof(m));
    if (op == VSOCK_OP_SEQ_BEGIN)
        ref_begin(cnt, len);
    else
        ref_end(cnt);
}

static u32 some_length(struct fuzz_input *in)
{
    static const u32 lens[] = {0, 1, 5, 100, 4096, 4097, 9000, 65536};

    return lens[fuzz_u8(in) % ARRAY_SIZE(lens)];
}

static void op_whole(struct fuzz_input *in)
{
    u8 bits = fuzz_u8(in);
    enum wrong wrong = bits % WRONGS;
    u32 lens[4], n = 1 + (bits >> 4) % 4, sum = 0;

    for (u32 i = 0; i < n; i++)
        sum += lens[i] = some_length(in);
    if (ref_held() + sum > BYTES_MAX / 2)
        return;
    if (ref.marker)
        mark(VSOCK_OP_SEQ_BEGIN, number++, sum + (wrong == SHORT) - (wrong == LONG && sum));
    for (u32 i = 0; i < n; i++) {
        bool eor = wrong == EOR_ALL || (wrong == EOR_FIRST && i == 0), last = i + 1 == n;
        u32 eom = last && wrong != NO_END ? VIRTIO_VSOCK_SEQ_EOM : 0;

        data(ref.marker ? (eor ? VSOCK_RW_EOR : 0) : eom | (eor ? VIRTIO_VSOCK_SEQ_EOR : 0),
             lens[i]);
    }
    for (u32 i = 0; ref.marker && i < 1u + (wrong == TWICE) && wrong != NO_END; i++)
        mark(VSOCK_OP_SEQ_END, number + (wrong == NUMBER), 0);
    number++;
}

/* Is (buf) what the record (r) begins with? */
static bool holds(const struct record *r, const u8 *buf, u32 len)
{
    u32 done = 0;

    for (u32 i = r->first; i < r->first + r->nr; i++)
        for (u32 j = 0; j < ref.pieces[i].len && done < len; j++)
            if (buf[done++] != pattern(ref.pieces[i].at + j))
                return false;
    return done == len;
}

static void read_one(u32 room, int in)
{
    struct record *r = ref.next < ref.nr_records ? &ref.records[ref.next] : NULL;
    struct iovec v = {bytes, room};
    int flags = in | MSG_DONTWAIT;
    ssize_t n = uvirt_vsock_recv(k, &v, 1, &flags);
    u32 want;

    if (!r) {
        must(n < 0 && errno == EAGAIN);
        return;
    }
    want = r->len < room ? r->len : room;
    must(n == (ssize_t)(in & MSG_TRUNC ? r->len : want) && holds(r, bytes, want));
    must(flags == ((r->eor ? MSG_EOR : 0) | (r->len > room ? MSG_TRUNC : 0)));
    if (!(in & MSG_PEEK))
        ref.next++;
}

/* Everything that there is; then there is room for more. */
static void read_all(void)
{
    u32 part = ref.nr_pieces - ref.first;

    while (ref.next < ref.nr_records)
        read_one(BYTES_MAX, 0);
    read_one(BYTES_MAX, 0);
    memmove(ref.pieces, ref.pieces + ref.first, part * sizeof(ref.pieces[0]));
    ref.nr_pieces = part;
    ref.first = ref.nr_records = ref.next = ref.pkts = 0;
    if (part > PKTS_MAX / 2)
        ref.dead = true; /* a record in more pieces than this goes on with: enough */
}

static void step(struct fuzz_input *in)
{
    u8 bits;

    switch ((enum op)(fuzz_u8(in) % OP_COUNT)) {
    case OP_DATA:
        bits = fuzz_u8(in);
        data(bits & 3, some_length(in));
        break;
    case OP_BEGIN:
        bits = fuzz_u8(in);
        mark(VSOCK_OP_SEQ_BEGIN, bits & 1 ? number : fuzz_u32(in), some_length(in));
        break;
    case OP_END:
        mark(VSOCK_OP_SEQ_END, fuzz_u8(in) & 1 ? ref.cnt + 1 : fuzz_u32(in), 0);
        break;
    case OP_WHOLE:
        op_whole(in);
        break;
    case OP_ODD:
        if (fuzz_u8(in) < 250)
            break; /* it would be the end of most inputs */
        inject(VSOCK_OP_SEQ_BEGIN, 0, bytes, fuzz_u8(in) % 8);
        ref.dead = true;
        break;
    default:
        bits = fuzz_u8(in);
        read_one(1 + fuzz_u16(in) % 20000, (bits & 1 ? MSG_PEEK : 0) | (bits & 2 ? MSG_TRUNC : 0));
        break;
    }
}

static void take_answers(void)
{
    struct vsock_pkt *p;

    while ((p = vsock_device_next(dev, NULL)))
        vsock_device_done(dev, p);
}

static void set_up(bool marker)
{
    struct uvirt_vsock_config config = {
        .size = sizeof(config), .cid = VMADDR_CID_HOST, .now = now, .marker = marker};
    struct vsock_device_config device = {.guest_cid = GUEST, .marker = marker};
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
    struct uvirt_vsock_socket *l;

    memset(&ref, 0, sizeof(ref));
    ref.marker = marker;
    at = number = 0;
    must(!uvirt_vsock_create(&config, &host) && !vsock_device_create(host, &device, &dev));
    vsock_device_start(dev, true, true);
    must(!uvirt_vsock_socket(host, SOCK_SEQPACKET, &l) && !uvirt_vsock_bind(l, &a, sizeof(a)) &&
         !uvirt_vsock_listen(l, 4));
    inject(VIRTIO_VSOCK_OP_REQUEST, 0, "", 0);
    must(!uvirt_vsock_accept(l, true, &k));
    uvirt_vsock_close(l);
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
    struct fuzz_input in = {input, size};
    int err = -1;
    socklen_t len = sizeof(err);

    set_up(fuzz_u8(&in) & 1);
    for (unsigned i = 0; i < OPS_MAX && in.size && !ref.dead; i++) {
        struct vsock_sock *sk = (struct vsock_sock *)k;

        step(&in);
        take_answers();
        must(ref.dead || sk->credit.rx_held == ref_held());
        if (!ref.dead && (ref.pkts > PKTS_MAX || ref.nr_records > RECORDS_MAX / 2 ||
                          ref.nr_pieces > ARRAY_SIZE(ref.pieces) / 2))
            read_all();
        must(!ref.dead == (sk->state == VSOCK_ESTABLISHED && !sk->done) || ref.pkts == 0);
    }
    if (!ref.dead) {
        read_all();
        must(!uvirt_vsock_getsockopt(k, SOL_SOCKET, SO_ERROR, &err, &len) && !err);
    }
    uvirt_vsock_close(k);
    vsock_device_free(dev);
    must(!((struct vsock_ctx *)host)->nr_socks);
    uvirt_vsock_free(host);
    return 0;
}
