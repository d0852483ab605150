// SPDX-License-Identifier: MIT
// virtio-vsock's rings from the guest's side: buffers posted, packets sent and received, events.

/*
 * All shared memory is one memfd: the rings, the event buffers, then slots of one receive
 * buffer or one transmitted packet each. A slot is on a ring, on a free list, or on loan: a
 * large packet is written by its sender, and read by its receiver, where the device reads and
 * writes it, which saves a copy. Half of the slots are never lent, so that packets move
 * however slow readers are. What is on loan keeps the memory, not the driver.
 *
 * A device that breaks the rules is cut off: (broken), and its connections end.
 */
#include "virtio/vsock_driver.h"
#include "virtio/vsock.h"
#include "vsock/queue.h"
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
#define RX_MOST    (1u << 20) /* bytes of receive buffers, which are to stay in the caches */
#define RX_MIN     16
#define NR_EVENTS  8
#define EVENT_SIZE 16
#define NR_TX      16 /* packets on the ring at a time */
#define DESCS_MAX  16
#define BATCH      16 /* packets that are received before their sockets get them */

enum {
    QUEUE_RX,
    QUEUE_TX,
    QUEUE_EVENT,
};

struct slot {
    struct shared *shared;
    u8 *at;
    struct slot *next;
    bool lent, tx;
};

/* The memory, its slots, and what is free: the part that a loan keeps. */
struct shared {
    int fd;
    u8 *memory;
    u64 size;
    pthread_mutex_t lock; /* taken last; protects what follows */
    unsigned refs;
    unsigned lent_rx, lent_tx;
    struct slot *free_rx, *free_tx;
    struct slot slots[VIRTQ_SIZE_MAX + NR_TX];
};

struct virtio_vsock_driver {
    struct vsock_bus *bus;
    struct vsock_driver *seat;
    struct vsock_driver_options options;
    u64 features;
    bool broken, tx_full;
    _Atomic bool up;

    struct shared *m;
    u64 size;
    u32 rx_stride, tx_stride;
    unsigned nr_rx, nr_tx; /* no more slots than the ring has room for */
    u8 *events;

    struct virtq_driver q[VSOCK_DRIVER_QUEUES];
};

static gpa_t gpa_of(struct virtio_vsock_driver *d, const u8 *at)
{
    return DRIVER_GPA + (at - d->m->memory);
}

/* --- slots --- */

static struct slot *take_slot(struct shared *m, struct slot **list)
{
    struct slot *s;

    pthread_mutex_lock(&m->lock);
    s = *list;
    if (s)
        *list = s->next;
    pthread_mutex_unlock(&m->lock);
    return s;
}

static void put_slot(struct slot *s)
{
    struct shared *m = s->shared;
    struct slot **list = s->tx ? &m->free_tx : &m->free_rx;

    pthread_mutex_lock(&m->lock);
    s->next = *list;
    *list = s;
    pthread_mutex_unlock(&m->lock);
}

/* The last reference unmaps. */
static void put_shared(struct shared *m)
{
    unsigned refs;

    pthread_mutex_lock(&m->lock);
    refs = --m->refs;
    pthread_mutex_unlock(&m->lock);
    if (refs)
        return;
    munmap(m->memory, m->size);
    close(m->fd);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* A loan ends; (keep): the slot goes onto a ring, not back. */
static void end_loan(struct slot *s, bool keep)
{
    struct shared *m = s->shared;

    pthread_mutex_lock(&m->lock);
    s->lent = false;
    m->lent_tx -= s->tx;
    m->lent_rx -= !s->tx;
    pthread_mutex_unlock(&m->lock);
    if (!keep)
        put_slot(s);
    put_shared(m);
}

static void release(struct vsock_pkt *p)
{
    end_loan(p->loan, false);
}

/*
 * A packet whose payload is in the first slot of (list), which is taken off; NULL if there is none,
 * or half of the slots are lent already.
 */
static struct vsock_pkt *lend(struct shared *m, struct slot **list, unsigned slots, u32 len)
{
    struct vsock_pkt *p = vsock_pkt_alloc(0);
    struct slot *s;
    unsigned *lent;

    if (!p)
        return NULL;
    pthread_mutex_lock(&m->lock);
    s = *list;
    lent = s && s->tx ? &m->lent_tx : &m->lent_rx;
    if (s && *lent < slots / 2) {
        *list = s->next;
        s->lent = true;
        ++*lent;
        m->refs++;
    } else {
        s = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    if (!s) {
        vsock_pkt_free(p);
        return NULL;
    }
    p->data = s->at + VSOCK_HDR_SIZE;
    p->cap = len;
    p->release = release;
    p->loan = s;
    return p;
}

/* For a sender: see struct vsock_driver_config. */
static struct vsock_pkt *alloc_tx(void *opaque, u32 len)
{
    struct virtio_vsock_driver *d = opaque;

    return len > VSOCK_MERGE_MAX && d->up ? lend(d->m, &d->m->free_tx, d->nr_tx, len) : NULL;
}

/* --- packets --- */

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

    while ((s = take_slot(d->m, &d->m->free_rx))) {
        unsigned n = pieces(d, segs, s->at, d->options.rx_size, d->options.rx_descs);

        if (virtq_driver_add(&d->q[QUEUE_RX], segs, 0, n, s)) {
            put_slot(s);
            break;
        }
    }
}

static void post_event(struct virtio_vsock_driver *d, u8 *at)
{
    struct virtq_seg s = {gpa_of(d, at), sizeof(struct virtio_vsock_event)};

    virtq_driver_add(&d->q[QUEUE_EVENT], &s, 0, 1, at);
}

/* The device has filled (s), which is the caller's no more: into a packet at the end of (list). */
static int receive(struct virtio_vsock_driver *d, struct slot *s, u32 len, struct vsock_pkts *list)
{
    struct vsock_pkt *p = NULL;
    u8 wire[VSOCK_HDR_SIZE];
    struct vsock_hdr h;

    if (len < sizeof(wire))
        return -EPROTO;
    memcpy(wire, s->at, sizeof(wire));
    vsock_hdr_decode(&h, wire);
    if (h.len > len - sizeof(wire))
        return -EPROTO;
    s->next = NULL;
    if (h.len > VSOCK_MERGE_MAX)
        p = lend(d->m, &(struct slot *){s}, d->nr_rx, h.len);
    if (!p) {
        p = vsock_driver_alloc(d->seat, h.len);
        if (!p)
            return -ENOMEM;
        memcpy(p->data, s->at + sizeof(wire), h.len);
        put_slot(s);
    }
    p->hdr = h;
    p->len = h.len;
    TAILQ_INSERT_TAIL(list, p, link);
    return 0;
}

static int pump_rx(struct virtio_vsock_driver *d)
{
    struct vsock_pkts list = TAILQ_HEAD_INITIALIZER(list);
    int rc = 0, moved = 0;
    void *token;
    u32 len;

    while (moved < BATCH && !vsock_driver_congested(d->seat) &&
           (rc = virtq_driver_used(&d->q[QUEUE_RX], &token, &len)) > 0) {
        rc = receive(d, token, len, &list);
        if (rc)
            break;
        moved++;
    }
    if (!TAILQ_EMPTY(&list))
        vsock_driver_input_all(d->seat, &list);
    if (rc < 0)
        return rc;
    post_rx(d); /* and what readers have given back meanwhile */
    kick(d, QUEUE_RX);
    return moved;
}

/* Packets that the device has taken: their slots are free. */
static int reclaim_tx(struct virtio_vsock_driver *d)
{
    void *token;
    u32 len;
    int rc;

    while ((rc = virtq_driver_used(&d->q[QUEUE_TX], &token, &len)) > 0)
        put_slot(token);
    return rc;
}

/* Put (p) into its own slot, or into (spare), which is then used up (NULL). */
static struct slot *fill_slot(struct vsock_pkt *p, struct slot **spare)
{
    struct slot *s = p->loan;

    if (p->release == release) {
        p->release = NULL;
        end_loan(s, true);
    } else {
        s = *spare;
        *spare = NULL;
        memcpy(s->at + VSOCK_HDR_SIZE, p->data, p->len);
    }
    vsock_hdr_encode(s->at, &p->hdr);
    return s;
}

static int pump_tx(struct virtio_vsock_driver *d)
{
    struct virtq_seg segs[DESCS_MAX];
    int rc = reclaim_tx(d), moved = 0;
    struct slot *s, *spare = NULL;
    struct vsock_pkt *p = NULL;

    d->tx_full = false;
    while (!rc && vsock_driver_waiting(d->seat)) {
        if (!spare)
            spare = take_slot(d->m, &d->m->free_tx);
        d->tx_full = !spare;
        if (!spare)
            break;
        p = vsock_driver_next(d->seat, p);
        if (!p)
            break;
        s = fill_slot(p, &spare);
        rc = virtq_driver_add(&d->q[QUEUE_TX], segs,
                              pieces(d, segs, s->at, VSOCK_HDR_SIZE + p->len, d->options.tx_descs),
                              0, s);
        if (!rc && !spare)
            rc = reclaim_tx(d);
        moved = 1;
    }
    vsock_driver_done(d->seat, p);
    kick(d, QUEUE_TX);
    if (spare)
        put_slot(spare);
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
    if (d->tx_full)
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
    if (d->nr_rx > RX_MIN && (u64)d->nr_rx * d->rx_stride > RX_MOST)
        d->nr_rx = RX_MOST / d->rx_stride > RX_MIN ? RX_MOST / d->rx_stride : RX_MIN;
    d->nr_tx = d->options.queue_size / d->options.tx_descs;
    d->nr_tx = d->nr_tx < NR_TX ? d->nr_tx : NR_TX;
    at += (u64)d->nr_rx * d->rx_stride + (u64)d->nr_tx * d->tx_stride;
    d->size = ALIGN_UP(at, PAGE_SIZE);
}

/* All slots are free, whatever rings they were on, but for those on loan. */
static void free_slots(struct virtio_vsock_driver *d)
{
    u8 *at = d->m->memory + VSOCK_DRIVER_QUEUES * virtq_driver_bytes(d->options.queue_size);
    struct shared *m = d->m;

    d->events = at;
    at += ALIGN_UP(NR_EVENTS * EVENT_SIZE, 64);
    pthread_mutex_lock(&m->lock);
    m->free_rx = m->free_tx = NULL;
    for (unsigned i = 0; i < d->nr_rx + d->nr_tx; i++) {
        bool tx = i >= d->nr_rx;
        struct slot **list = tx ? &m->free_tx : &m->free_rx, *s = &m->slots[i];

        if (!s->lent) {
            *s = (struct slot){m, at, *list, false, tx};
            *list = s;
        }
        at += tx ? d->tx_stride : d->rx_stride;
    }
    pthread_mutex_unlock(&m->lock);
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
        c.memory = d->m->memory + i * bytes;
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
    rc = bus->setup(d->bus, d->features, d->m->fd, d->m->memory, DRIVER_GPA, d->size);
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
    struct shared *m = calloc(1, sizeof(*m));
    int rc;

    if (!m)
        return -ENOMEM;
    m->size = d->size;
    m->refs = 1;
    pthread_mutex_init(&m->lock, NULL);
    m->fd = memfd_create("vsock-driver", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (m->fd < 0) {
        rc = -errno;
        goto err_free;
    }
    m->memory = ftruncate(m->fd, (off_t)m->size)
                    ? MAP_FAILED
                    : mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    if (m->memory == MAP_FAILED) {
        rc = -errno;
        goto err_close;
    }
    d->m = m;
    return 0;

err_close:
    close(m->fd);
err_free:
    pthread_mutex_destroy(&m->lock);
    free(m);
    return rc;
}

static void seat_flush(void *opaque)
{
    struct virtio_vsock_driver *d = opaque;

    d->options.flush(d->options.opaque);
}

int virtio_vsock_driver_create(struct uvirt_vsock *v, struct vsock_bus *bus,
                               const struct vsock_driver_options *o,
                               struct virtio_vsock_driver **ret)
{
    struct virtio_vsock_driver *d = calloc(1, sizeof(*d));
    struct vsock_driver_config seat = {
        .marker = o->marker, .flush = seat_flush, .alloc = alloc_tx, .opaque = d};
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
    put_shared(d->m);
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
    put_shared(d->m);
    free(d);
}
