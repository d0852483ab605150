// SPDX-License-Identifier: MIT
// A device that breaks the rules, at the driver's seat: its driver believes nothing that it has not checked.
#include "pair.h"

#include "virtio/virtq.h"
#include "virtio/vsock_driver.h"
#include "vsock/sock.h"

#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>

#define GUEST_CID 3
#define BUFFERS   8
#define RX_SIZE   200

/* The device's side, played by the test: rings in the driver's memory, and nothing behind them. */
struct device {
    struct vsock_bus bus;
    struct mem *mem;
    u8 *hva;
    gpa_t gpa;
    struct virtq q[VSOCK_DRIVER_QUEUES];
    u64 cid;
    bool packed;
};

static struct device d;
static struct uvirt_vsock *guest;
static struct virtio_vsock_driver *driver;
static struct virtq_chain chain;

static int bus_open(struct vsock_bus *b, u64 *ret_features)
{
    *ret_features = BIT(VIRTIO_F_VERSION_1) | (d.packed ? BIT(VIRTIO_F_RING_PACKED) : 0);
    return 0;
}

static int bus_setup(struct vsock_bus *b, u64 features, int fd, u8 *hva, gpa_t gpa, u64 size)
{
    d.hva = hva;
    d.gpa = gpa;
    return mem_slot_set(d.mem, 0, gpa, size, hva, 0);
}

static int bus_cid(struct vsock_bus *b, u64 *ret)
{
    *ret = d.cid;
    return 0;
}

static int bus_queue(struct vsock_bus *b, unsigned i, const struct virtq_driver *q)
{
    d.q[i] = (struct virtq){.mem = d.mem,
                            .size_max = VIRTQ_SIZE_MAX,
                            .size = q->config.size,
                            .packed = d.packed,
                            .desc = q->desc,
                            .avail = q->avail,
                            .used = q->used};
    return virtq_start(&d.q[i]);
}

static int bus_start(struct vsock_bus *b)
{
    return 0;
}

static void bus_kick(struct vsock_bus *b, unsigned i)
{
}

static const struct vsock_bus_ops ops = {bus_open,  bus_setup, bus_cid,
                                         bus_queue, bus_start, bus_kick};

static void flush(void *opaque)
{
    if (driver)
        virtio_vsock_driver_pump(driver);
}

static int open_driver(bool packed, u64 cid)
{
    struct vsock_driver_options o = {.features = BIT(VIRTIO_F_RING_PACKED),
                                     .queue_size = BUFFERS,
                                     .rx_size = RX_SIZE,
                                     .flush = flush};
    int rc;

    d = (struct device){.bus.ops = &ops, .cid = cid, .packed = packed};
    guest = context(GUEST_CID, true, false);
    if (mem_create(&d.mem))
        exit(99);
    rc = virtio_vsock_driver_create(guest, &d.bus, &o, &driver);
    if (rc)
        driver = NULL;
    return rc;
}

static void close_driver(const char *what)
{
    virtio_vsock_driver_free(driver);
    driver = NULL;
    is_u64(((struct vsock_ctx *)guest)->nr_socks, 0, "%s: nothing is left", what);
    uvirt_vsock_free(guest);
    mem_free(d.mem);
}

/* The guest's packet that comes next; op 0: none. */
static struct vsock_hdr sent(void)
{
    struct vsock_hdr h = {0};
    u8 wire[VSOCK_HDR_SIZE];

    if (virtq_pop(&d.q[1], &chain) == 1 && !virtq_out(&chain, wire, sizeof(wire))) {
        vsock_hdr_decode(&h, wire);
        virtq_push(&d.q[1], &chain);
    }
    return h;
}

/* A packet for (h)'s sender into the buffer that stands next; (claim): its length, it says. */
static void answer(const struct vsock_hdr *h, u16 op, u32 claim, const void *data, u32 n)
{
    struct vsock_hdr a = {.src_cid = h->dst_cid,
                          .dst_cid = h->src_cid,
                          .src_port = h->dst_port,
                          .dst_port = h->src_port,
                          .type = h->type,
                          .op = op,
                          .len = claim,
                          .buf_alloc = 65536};
    u8 wire[VSOCK_HDR_SIZE];

    vsock_hdr_encode(wire, &a);
    if (virtq_pop(&d.q[0], &chain) != 1 || virtq_in(&chain, wire, sizeof(wire)) ||
        virtq_in(&chain, data, n))
        exit(99);
}

/* A connection, and the header of its REQUEST. */
static sock *connected(struct vsock_hdr *h)
{
    sock *c = new_sock(guest, SOCK_STREAM);

    do_connect(c, VMADDR_CID_HOST, PORT, true);
    *h = sent();
    answer(h, VIRTIO_VSOCK_OP_RESPONSE, 0, "", 0);
    virtq_push(&d.q[0], &chain);
    flush(NULL);
    if (!(uvirt_vsock_poll(c) & POLLOUT) || get_int(c, SO_ERROR))
        exit(99);
    return c;
}

/* What the device says of a buffer in place of the truth. */
struct lie {
    const char *what;
    u32 claim;   /* the packet's length */
    u32 written; /* the buffer's */
    int head;    /* the buffer's number; -1: the right one */
};

static const struct lie lies[] = {
    {"MigTD #943: a packet longer than its buffer", 157, 200, -1},
    {"MigTD #943: a packet of 4 GiB", UINT32_MAX, 200, -1},
    {"a packet longer than what was written", 100, VSOCK_HDR_SIZE + 99, -1},
    {"fewer bytes than a header", 0, VSOCK_HDR_SIZE - 1, -1},
    {"more bytes than the buffer has", 10, 201, -1},
    {"4 GiB in a buffer", 10, UINT32_MAX, -1},
    {"a buffer that does not exist", 10, VSOCK_HDR_SIZE + 10, 8},
    {"a buffer far out", 10, VSOCK_HDR_SIZE + 10, 0xffff},
};

static void test_lie(const struct lie *l, bool packed)
{
    struct vsock_hdr h;
    char byte;
    sock *c;

    if (open_driver(packed, GUEST_CID))
        exit(99);
    c = connected(&h);
    answer(&h, VIRTIO_VSOCK_OP_RW, l->claim, "0123456789", 10);
    chain.written = l->written;
    if (l->head >= 0)
        chain.head = (u16)l->head;
    virtq_push(&d.q[0], &chain);
    is_u64(virtio_vsock_driver_pump(driver), -EPROTO, "%s, %s", packed ? "packed" : "split",
           l->what);
    is_u64(do_recv(c, &byte, 1, MSG_DONTWAIT, NULL), -ECONNRESET, "the connection ends");
    is_u64(virtio_vsock_driver_pump(driver), 0, "and nothing more is read");
    uvirt_vsock_close(c);
    close_driver(l->what);
}

/* The device takes all buffers, then writes to the descriptors: that moves none of the driver's memory. */
static void test_forged(void)
{
    static struct virtq_chain taken[BUFFERS];
    struct vsock_hdr h;
    unsigned got = 0;
    char byte;
    sock *c;

    if (open_driver(false, GUEST_CID))
        exit(99);
    c = connected(&h);
    for (unsigned i = 0; i < BUFFERS; i++) {
        answer(&h, VIRTIO_VSOCK_OP_RW, 1, &(char){'a' + (char)i}, 1);
        taken[i] = chain;
    }
    for (unsigned i = 0; i < BUFFERS; i++)
        ((struct vring_desc *)(void *)(d.hva + (d.q[0].desc - d.gpa)))[i] =
            (struct vring_desc){.addr = d.gpa, .len = 4096, .flags = 3, .next = 77};
    for (unsigned i = 0; i < BUFFERS; i++)
        virtq_push(&d.q[0], &taken[i]);
    ok(virtio_vsock_driver_pump(driver) >= 0, "MigTD #989: descriptors with forged addresses");
    while (do_recv(c, &byte, 1, MSG_DONTWAIT, NULL) == 1 && byte == 'a' + (char)got)
        got++;
    is_u64(got, BUFFERS, "the buffers are those that the driver has");
    for (got = 0; virtq_pop(&d.q[0], &chain) == 1; got++) {
        if (chain.in.left != RX_SIZE || chain.segs[0].gpa == d.gpa)
            break;
    }
    is_u64(got, BUFFERS, "and are posted again as they were");
    uvirt_vsock_close(c);
    close_driver("forged addresses");
}

static void test_cids(void)
{
    static const u64 bad[] = {0, 1, 2, VMADDR_CID_ANY, 1ull << 32};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        is_u64(open_driver(false, bad[i]), -EPROTO, "a guest CID of 0x%llx",
               (unsigned long long)bad[i]);
        close_driver("it");
    }
}

int main(void)
{
    for (unsigned packed = 0; packed < 2; packed++)
        for (unsigned i = 0; i < ARRAY_SIZE(lies); i++)
            test_lie(&lies[i], packed);
    test_forged();
    test_cids();
    return tap_done();
}
