// SPDX-License-Identifier: MIT
// Fuzzes connections between a driver's and a device's seat, or over loopback, against the model of streams and records.

/*
 * The input chooses a layout of rings, a type and a framing, then the operations of
 * tests/vsock/model.h. Nobody is hostile here, so every byte and boundary must be right.
 */
#include "fuzz.h"
#include "model.h"
#include "virtio/vsock.h"
#include "virtio/vsock_local.h"
#include "vsock/sock.h"

#define GUEST_CID 3
#define STEPS_MAX 400
#define TYPES     (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET))

static struct fuzz_input input;

static u32 rnd(u32 n)
{
    return (n <= 256 ? fuzz_u8(&input) : n <= 65536 ? fuzz_u16(&input) : fuzz_u32(&input)) % n;
}

static void must(bool good)
{
    if (!good)
        abort();
}

static void nothing(void)
{
    /* Whoever sends moves packets on through both seats. */
}

static struct virtio_vsock_local *join(struct uvirt_vsock *host, struct uvirt_vsock *guest,
                                       bool marker)
{
    static const u16 sizes[] = {1, 2, 4, 8, 16, 64, 128, 256};
    static const u32 rx_sizes[] = {VSOCK_HDR_SIZE + 8, 100, 500, 3776, 4140, 65580};
    struct vsock_driver_options o = {.marker = marker};
    struct virtio_vsock_local *l;
    u8 bits = fuzz_u8(&input);

    o.features = TYPES | (u64)(bits & 3) << VIRTIO_RING_F_INDIRECT_DESC |
                 (u64)(bits >> 2 & 3) << VIRTIO_F_RING_PACKED; /* and IN_ORDER */
    o.queue_size = sizes[rnd(ARRAY_SIZE(sizes))];
    o.rx_size = rx_sizes[rnd(ARRAY_SIZE(rx_sizes))];
    o.rx_descs = 1 + rnd(o.queue_size < 8 ? o.queue_size : 8);
    o.tx_descs = 1 + rnd(o.queue_size < 8 ? o.queue_size : 8);
    must(!virtio_vsock_local_create(host, guest, &o, &l));
    return l;
}

/* A connection from (from) to (to), whose CID is (cid), into (ways). */
static void connect_ways(struct uvirt_vsock *from, struct uvirt_vsock *to, u32 cid)
{
    int type = is_stream ? SOCK_STREAM : SOCK_SEQPACKET;
    sock *l = listener(to, type, PORT, 4), *p[2] = {new_sock(from, type)};

    do_connect(p[0], cid, PORT, true);
    p[1] = do_accept(l);
    must(p[1] && !get_int(p[0], SO_ERROR));
    uvirt_vsock_close(l);
    memset(ways, 0, sizeof(ways));
    ways[0].from = ways[1].to = p[0];
    ways[1].from = ways[0].to = p[1];
}

static void end(struct uvirt_vsock *v)
{
    uvirt_vsock_run_timers(v);
    must(!((struct vsock_ctx *)v)->nr_socks);
    uvirt_vsock_free(v);
}

int LLVMFuzzerTestOneInput(const u8 *data_in, size_t size)
{
    struct uvirt_vsock *host, *guest;
    struct virtio_vsock_local *l = NULL;
    bool marker, loopback, from_guest;
    u8 bits;

    input = (struct fuzz_input){data_in, size};
    bits = fuzz_u8(&input);
    marker = bits & 1;
    loopback = (bits & 6) == 6;
    from_guest = bits & 8;
    is_stream = bits & 16;
    test_clock = 1000000000;
    host = context(VMADDR_CID_HOST, true, marker);
    guest = context(GUEST_CID, true, marker);
    if (!loopback)
        l = join(host, guest, marker);
    model_run = loopback ? NULL : nothing;
    if (loopback)
        connect_ways(host, host, VMADDR_CID_LOCAL);
    else
        connect_ways(from_guest ? guest : host, from_guest ? host : guest,
                     from_guest ? VMADDR_CID_HOST : GUEST_CID);
    must(play(size < STEPS_MAX ? (unsigned)size : STEPS_MAX) && settle(&ways[0]) &&
         settle(&ways[1]));
    ways[0].shut = true;
    uvirt_vsock_shutdown(ways[0].from, SHUT_WR);
    must(settle(&ways[0]) && play(10) && settle(&ways[1]));
    uvirt_vsock_close(ways[0].from);
    uvirt_vsock_close(ways[1].from);
    advance_ms(10000);
    uvirt_vsock_run_timers(guest);
    uvirt_vsock_run_timers(host);
    virtio_vsock_local_free(l);
    end(guest);
    end(host);
    return 0;
}
