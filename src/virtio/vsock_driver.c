// SPDX-License-Identifier: MIT
// virtio-vsock's rings from the guest's side: buffers posted, packets sent and received, events.

/*
 * All shared memory is one memfd: the rings, the event buffers, then slots of one receive
 * buffer or one transmitted packet each. Slots have no other owner than the ring they are on,
 * or the free list, so nothing is allocated while packets move.
 *
 * A device that breaks the rules is cut off: (broken), and its connections end.
 */
#include "virtio/vsock_driver.h"
#include "virtio/vsock.h"
#include "vsock/transport/driver.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DRIVER_GPA 0x100000000ul /* where the device finds our memory: anywhere but 0 */
#define QUEUE_SIZE 128
#define RX_LINUX   3776 /* what Linux's driver posts */
#define PKT_MAX    (VSOCK_HDR_SIZE + VSOCK_PAYLOAD_MAX)
#define NR_EVENTS  8
#define EVENT_SIZE 16
#define NR_TX      16 /* packets on the ring at a time */
#define DESCS_MAX  16
#define RING_BITS                                                                                  \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |   \
     BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER))

enum {
    QUEUE_RX,
    QUEUE_TX,
    QUEUE_EVENT,
};

struct slot {
    u8 *at;
    struct slot *next;
};

struct virtio_vsock_driver {
    struct vsock_bus *bus;
    struct vsock_driver *seat;
    struct vsock_driver_options options;
    u64 features;
    bool broken, up;

    int fd;
    u8 *memory;
    u64 size;
    u32 rx_stride, tx_stride;
    unsigned nr_rx, nr_tx; /* no more slots than the ring has room for */
    struct slot slots[VIRTQ_SIZE_MAX + NR_TX], *free_rx, *free_tx;
    u8 *events;

    struct virtq_driver q[VSOCK_DRIVER_QUEUES];
};

static gpa_t gpa_of(struct virtio_vsock_driver *d, const u8 *at)
{
    return DRIVER_GPA + (at - d->memory);
}

/* (len) bytes at (at) in at most (n) pieces, the first ones small and odd. */
static unsigned pieces(struct virtio_vsock_driver *d, struct virtq_seg *segs, const u8 *at, u32 len,
                       unsigned n)
{
    static const u32 sizes[] = {VSOCK_HDR_SIZE, 1, 17, 300};
    gpa_t gpa = gpa_of(d, at);
    unsigned i;

    for (i = 0; i + 1 < n && len > sizes[i % 4]; i++) {
        segs[i] = (struct virtq_seg){gpa, sizes[i % 4]};
        gpa += sizes[i % 4];
        len -= sizes[i % 4];
    }
    segs[i] = (struct virtq_seg){gpa, len};
    return i + 1;
}

static void kick(struct virtio_vsock_driver *d, unsigned i)
{
    if (virtq_driver_should_kick(&d->q[i]))
        d->bus->ops->kick(d->bus, i);
}

/* Post free receive buffers as far as the ring has room. */
static void post_rx(struct virtio_vsock_driver *d)
{
    struct virtq_seg segs[DESCS_MAX];
    struct slot *s;

    while ((s = d->free_rx)) {
        unsigned n = pieces(d, segs, s->at, d->options.rx_size, d->options.rx_descs);

        if (virtq_driver_add(&d->q[QUEUE_RX], segs, 0, n, s))
            break;
        d->free_rx = s->next;
    }
}

static void post_event(struct virtio_vsock_driver *d, u8 *at)
{
    struct virtq_seg s = {gpa_of(d, at), sizeof(struct virtio_vsock_event)};

    virtq_driver_add(&d->q[QUEUE_EVENT], &s, 0, 1, at);
}

/* One buffer that the device has filled: into a packet, which goes to its socket. */
static int receive(struct virtio_vsock_driver *d, const u8 *at, u32 len)
{
    u8 wire[VSOCK_HDR_SIZE];
    struct vsock_hdr h;
    struct vsock_pkt *p;

    if (len < sizeof(wire))
        return -EPROTO;
    memcpy(wire, at, sizeof(wire));
    vsock_hdr_decode(&h, wire);
    if (h.len > len - sizeof(wire))
        return -EPROTO;
    p = vsock_driver_alloc(d->seat, h.len);
    if (!p)
        return -ENOMEM;
    p->hdr = h;
    p->len = h.len;
    memcpy(p->data, at + sizeof(wire), h.len);
    vsock_driver_input(d->seat, p);
    return 0;
}

static int pump_rx(struct virtio_vsock_driver *d)
{
    int rc = 0, moved = 0;
    struct slot *s;
    void *token;
    u32 len;

    while (!vsock_driver_congested(d->seat) &&
           (rc = virtq_driver_used(&d->q[QUEUE_RX], &token, &len)) > 0) {
        s = token;
        rc = receive(d, s->at, len);
        if (rc)
            return rc;
        s->next = d->free_rx;
        d->free_rx = s;
        post_rx(d);
        moved = 1;
    }
    if (rc < 0)
        return rc;
    kick(d, QUEUE_RX);
    return moved;
}

/* Packets that the device has taken: their slots are free. */
static int reclaim_tx(struct virtio_vsock_driver *d)
{
    struct slot *s;
    void *token;
    u32 len;
    int rc;

    while ((rc = virtq_driver_used(&d->q[QUEUE_TX], &token, &len)) > 0) {
        s = token;
        s->next = d->free_tx;
        d->free_tx = s;
    }
    return rc;
}

static int pump_tx(struct virtio_vsock_driver *d)
{
    struct virtq_seg segs[DESCS_MAX];
    int rc = reclaim_tx(d), moved = 0;
    struct vsock_pkt *p;
    struct slot *s;

    while (!rc && (s = d->free_tx) && (p = vsock_driver_take(d->seat))) {
        u32 len = VSOCK_HDR_SIZE + p->len;

        vsock_hdr_encode(s->at, &p->hdr);
        memcpy(s->at + VSOCK_HDR_SIZE, p->data, p->len);
        vsock_driver_done(d->seat, p);
        d->free_tx = s->next;
        rc = virtq_driver_add(&d->q[QUEUE_TX], segs,
                              pieces(d, segs, s->at, len, d->options.tx_descs), 0, s);
        kick(d, QUEUE_TX);
        if (!rc && !d->free_tx)
            rc = reclaim_tx(d);
        moved = 1;
    }
    return rc ? rc : moved;
}

/* The device's address for us, as it stands now. */
static int start_seat(struct virtio_vsock_driver *d)
{
    bool stream = d->features & BIT(VIRTIO_VSOCK_F_STREAM) ||
                  !(d->features & BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM));
    u64 cid;
    int rc = d->bus->ops->guest_cid(d->bus, &cid);

    if (rc)
        return rc;
    if (cid <= VMADDR_CID_HOST || cid >= VMADDR_CID_ANY)
        return -EPROTO;
    vsock_driver_start(d->seat, cid, stream, d->features & BIT(VIRTIO_VSOCK_F_SEQPACKET));
    return 0;
}

static int pump_event(struct virtio_vsock_driver *d)
{
    struct virtio_vsock_event e;
    void *token;
    u32 len;
    int rc;

    while ((rc = virtq_driver_used(&d->q[QUEUE_EVENT], &token, &len)) > 0) {
        memcpy(&e, token, sizeof(e));
        if (len == sizeof(e) && le32toh(e.id) == VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) {
            vsock_driver_stop(d->seat);
            rc = start_seat(d);
            if (rc)
                return rc;
        }
        post_event(d, token);
        kick(d, QUEUE_EVENT);
    }
    return rc;
}

static bool last_look(struct virtio_vsock_driver *d)
{
    bool again = virtq_driver_enable_signal(&d->q[QUEUE_EVENT]);

    if (!vsock_driver_congested(d->seat))
        again |= virtq_driver_enable_signal(&d->q[QUEUE_RX]);
    if (!d->free_tx)
        again |= virtq_driver_enable_signal(&d->q[QUEUE_TX]);
    else
        virtq_driver_disable_signal(&d->q[QUEUE_TX]);
    return again;
}

int virtio_vsock_driver_pump(struct virtio_vsock_driver *d)
{
    int rc = 0, tx, rx, moved = 0;

    if (d->broken || !d->up)
        return 0;
    do {
        tx = pump_tx(d);
        rx = tx < 0 ? tx : pump_rx(d);
        rc = rx < 0 ? rx : pump_event(d);
        moved |= tx || rx;
    } while (!rc && (tx || rx || last_look(d)));
    if (!rc)
        return moved;
    d->broken = true;
    vsock_driver_stop(d->seat);
    return rc;
}

/* Where everything is in memory, for options that were checked. */
static void lay_out(struct virtio_vsock_driver *d)
{
    u64 ring = virtq_driver_bytes(d->options.queue_size);
    u64 at = VSOCK_DRIVER_QUEUES * ring + ALIGN_UP(NR_EVENTS * EVENT_SIZE, 64);

    d->rx_stride = ALIGN_UP(d->options.rx_size, 64);
    d->tx_stride = ALIGN_UP((u32)PKT_MAX, 64);
    d->nr_rx = d->options.queue_size / d->options.rx_descs;
    d->nr_tx = d->options.queue_size / d->options.tx_descs;
    d->nr_tx = d->nr_tx < NR_TX ? d->nr_tx : NR_TX;
    at += (u64)d->nr_rx * d->rx_stride + (u64)d->nr_tx * d->tx_stride;
    d->size = ALIGN_UP(at, PAGE_SIZE);
}

/* All slots are free, whatever rings they were on. */
static void free_slots(struct virtio_vsock_driver *d)
{
    u8 *at = d->memory + VSOCK_DRIVER_QUEUES * virtq_driver_bytes(d->options.queue_size);

    d->events = at;
    at += ALIGN_UP(NR_EVENTS * EVENT_SIZE, 64);
    d->free_rx = d->free_tx = NULL;
    for (unsigned i = 0; i < d->nr_rx + d->nr_tx; i++) {
        struct slot **list = i < d->nr_rx ? &d->free_rx : &d->free_tx;

        d->slots[i] = (struct slot){at, *list};
        *list = &d->slots[i];
        at += i < d->nr_rx ? d->rx_stride : d->tx_stride;
    }
}

static int init_queues(struct virtio_vsock_driver *d)
{
    u64 bytes = virtq_driver_bytes(d->options.queue_size);
    struct virtq_driver_config c = {
        .size = d->options.queue_size,
        .packed = d->features & BIT(VIRTIO_F_RING_PACKED),
        .event_idx = d->features & BIT(VIRTIO_RING_F_EVENT_IDX),
        .indirect = d->features & BIT(VIRTIO_RING_F_INDIRECT_DESC),
        .in_order = d->features & BIT(VIRTIO_F_IN_ORDER),
    };
    int rc = 0;

    for (unsigned i = 0; i < VSOCK_DRIVER_QUEUES && !rc; i++) {
        c.memory = d->memory + i * bytes;
        c.gpa = gpa_of(d, c.memory);
        memset(c.memory, 0, bytes);
        rc = virtq_driver_init(&d->q[i], &c);
        if (!rc)
            rc = d->bus->ops->queue(d->bus, i, &d->q[i]);
    }
    return rc;
}

/* From reset to DRIVER_OK and posted buffers (virtio 3.1.1). */
static int bring_up(struct virtio_vsock_driver *d)
{
    const struct vsock_bus_ops *bus = d->bus->ops;
    u64 offered;
    int rc = bus->open(d->bus, &offered);

    if (rc)
        return rc;
    d->features = offered & (d->options.features | BIT(VIRTIO_F_VERSION_1));
    if (!(d->features & BIT(VIRTIO_F_VERSION_1)))
        return -EPROTO;
    rc = bus->setup(d->bus, d->features, d->fd, d->memory, DRIVER_GPA, d->size);
    if (!rc)
        rc = init_queues(d);
    if (!rc)
        rc = start_seat(d);
    if (!rc)
        rc = bus->start(d->bus);
    if (rc)
        return rc;
    free_slots(d);
    post_rx(d);
    for (unsigned i = 0; i < NR_EVENTS && i < d->options.queue_size; i++)
        post_event(d, d->events + i * EVENT_SIZE);
    d->broken = false;
    d->up = true;
    kick(d, QUEUE_EVENT);
    kick(d, QUEUE_RX);
    return 0;
}

static int check_options(struct vsock_driver_options *o)
{
    if (!o->queue_size)
        o->queue_size = QUEUE_SIZE;
    if (!o->rx_size)
        o->rx_size = RX_LINUX;
    if (!o->rx_descs)
        o->rx_descs = 1;
    if (!o->tx_descs)
        o->tx_descs = 1;
    if (o->queue_size > VIRTQ_SIZE_MAX || o->rx_size <= VSOCK_HDR_SIZE || o->rx_size > PKT_MAX ||
        o->rx_descs > DESCS_MAX || o->tx_descs > DESCS_MAX || o->rx_descs > o->queue_size ||
        o->tx_descs > o->queue_size || !o->flush)
        return -EINVAL;
    return 0;
}

static int map_memory(struct virtio_vsock_driver *d)
{
    int rc;

    d->fd = memfd_create("vsock-driver", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (d->fd < 0)
        return -errno;
    if (ftruncate(d->fd, (off_t)d->size)) {
        rc = -errno;
        goto err_close;
    }
    d->memory = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
    if (d->memory == MAP_FAILED) {
        rc = -errno;
        goto err_close;
    }
    return 0;

err_close:
    close(d->fd);
    return rc;
}

int virtio_vsock_driver_create(struct uvirt_vsock *v, struct vsock_bus *bus,
                               const struct vsock_driver_options *o,
                               struct virtio_vsock_driver **ret)
{
    struct vsock_driver_config seat = {.marker = o->marker, .flush = o->flush, .opaque = o->opaque};
    struct virtio_vsock_driver *d = calloc(1, sizeof(*d));
    int rc;

    if (!d)
        return -ENOMEM;
    d->bus = bus;
    d->options = *o;
    rc = check_options(&d->options);
    if (rc)
        goto err_free;
    lay_out(d);
    rc = map_memory(d);
    if (rc)
        goto err_free;
    rc = vsock_driver_create(v, &seat, &d->seat);
    if (rc)
        goto err_unmap;
    rc = bring_up(d);
    if (rc)
        goto err_seat;
    *ret = d;
    return 0;

err_seat:
    vsock_driver_free(d->seat);
err_unmap:
    munmap(d->memory, d->size);
    close(d->fd);
err_free:
    free(d);
    return rc;
}

int virtio_vsock_driver_restart(struct virtio_vsock_driver *d)
{
    d->up = false;
    vsock_driver_stop(d->seat);
    return bring_up(d);
}

void virtio_vsock_driver_free(struct virtio_vsock_driver *d)
{
    if (!d)
        return;
    vsock_driver_free(d->seat);
    munmap(d->memory, d->size);
    close(d->fd);
    free(d);
}
