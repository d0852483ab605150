// SPDX-License-Identifier: MIT
// virtio-net: frames out of and into the rings, with the checksum offloads that cost us nothing.

/*
 * Everything runs with the device lock held. A frame from the guest is copied out of its chain
 * before anybody looks at it. Frames for the guest that find no buffer wait in a list of at most
 * WAITING_MAX bytes; what comes beyond that is lost. A frame that is too long, too short
 * or asks for what was not agreed is lost too: that is what wires do. A broken ring, a chain
 * of the wrong direction or without room for a header fails the device.
 */
#include "virtio/net.h"
#include "virtio/state.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE  256
#define WAITING_MAX (1u << 20)
#define BUFFERS_MAX 64 /* that one frame is spread over; 44 of Linux's hold the largest */

enum {
    QUEUE_RX,
    QUEUE_TX,
    NR_QUEUES,
};

/* The header is this long in both directions, mergeable buffers or not (virtio 5.1.6.1). */
typedef struct virtio_net_hdr_v1 net_hdr;
_Static_assert(sizeof(net_hdr) == 12, "the standard's layout");

struct frame {
    struct frame *next;
    size_t len;
    u8 data[];
};

struct net {
    struct virtio_device dev;
    struct virtio_net_options o;
    struct frame *waiting, **waiting_end;
    size_t waiting_bytes;
    struct virtq_chain chain;                /* a frame from the guest */
    struct virtq_chain buffers[BUFFERS_MAX]; /* for one frame to the guest */
    u8 out[VIRTIO_NET_FRAME_MAX];            /* the frame from the guest that is being looked at */
};

static struct net *of(struct virtio_device *d)
{
    return container_of(d, struct net, dev);
}

/* --- from the guest --- */

/* The Internet checksum's sum (RFC 1071), folded to 16 bits, in the bytes' own order. */
static u16 sum16(const u8 *p, size_t len)
{
    u64 sum = 0;

    for (; len >= 2; p += 2, len -= 2) {
        u16 word;

        memcpy(&word, p, sizeof(word));
        sum += word;
    }
    if (len)
        sum += *p;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

/* VIRTIO_NET_HDR_F_NEEDS_CSUM: the field holds the pseudo-header's sum. False: no such field. */
static bool fill_checksum(u8 *frame, size_t len, const net_hdr *h)
{
    size_t at = (size_t)h->csum_start + h->csum_offset;
    u16 sum;

    if (h->csum_start > len || at + sizeof(sum) > len)
        return false;
    sum = (u16)~sum16(frame + h->csum_start, len - h->csum_start);
    if (!sum)
        sum = 0xffff; /* the same number, and UDP's zero means "none" */
    memcpy(frame + at, &sum, sizeof(sum));
    return true;
}

/* The chain's frame in n->out: its length, 0 if it is to be dropped, or -EPROTO. */
static ssize_t read_frame(struct net *n)
{
    struct virtq_chain *c = &n->chain;
    net_hdr h;
    size_t len;

    if (c->in.left || virtq_out(c, &h, sizeof(h)))
        return -EPROTO;
    len = c->out.left;
    if (len < ETH_HLEN || len > sizeof(n->out) || h.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return 0;
    if (virtq_out(c, n->out, len))
        return -EPROTO;
    if (!(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return (ssize_t)len;
    if (!virtio_device_has(&n->dev, VIRTIO_NET_F_CSUM) || !fill_checksum(n->out, len, &h))
        return 0;
    return (ssize_t)len;
}

/* 0 or -EPROTO. */
static int pump_tx(struct net *n)
{
    struct virtq *q = &n->dev.queues[QUEUE_TX];
    int rc = 0;

    do {
        virtq_disable_notify(q);
        while (virtio_device_live(&n->dev) && (rc = virtq_pop(q, &n->chain)) > 0) {
            ssize_t len = read_frame(n);

            if (len < 0 || virtq_push(q, &n->chain))
                return -EPROTO;
            if (len)
                n->o.transmit(n->o.opaque, n->out, (size_t)len);
        }
        if (rc < 0)
            return rc;
    } while (virtio_device_live(&n->dev) && virtq_enable_notify(q));
    return 0;
}

/* --- to the guest --- */

static bool mergeable(const struct net *n)
{
    return virtio_device_has(&n->dev, VIRTIO_NET_F_MRG_RXBUF);
}

/*
 * Take buffers until they hold (len) bytes; their number goes to (ret). 1: they are in
 * n->buffers; 0: there are not enough now; -EMSGSIZE: there never will be; -EPROTO.
 */
static int take_buffers(struct net *n, size_t len, unsigned *ret)
{
    struct virtq *q = &n->dev.queues[QUEUE_RX];
    unsigned i = 0, max = mergeable(n) ? BUFFERS_MAX : 1;
    u64 room = 0;
    int rc = 1;

    while (rc > 0 && room < len) {
        rc = i == max ? -EMSGSIZE : virtq_pop(q, &n->buffers[i]);
        if (rc == 0 && virtq_enable_notify(q)) /* asks for a kick behind what was taken so far */
            rc = 1;
        else if (rc > 0)
            room += n->buffers[i++].in.left;
        if (i && (n->buffers[i - 1].out.left || n->buffers[0].in.left < sizeof(net_hdr)))
            rc = -EPROTO;
    }
    *ret = i;
    while (rc <= 0 && i)
        virtq_return(q, &n->buffers[--i]);
    return rc;
}

/* Spread header and frame over the buffers, and give all of them to the driver at once. */
static int fill_buffers(struct net *n, unsigned nr, const net_hdr *h, const u8 *data, size_t len)
{
    struct virtq *q = &n->dev.queues[QUEUE_RX];
    int rc = virtq_in(&n->buffers[0], h, sizeof(*h));

    for (unsigned i = 0; i < nr && !rc; i++) {
        struct virtq_chain *c = &n->buffers[i];
        size_t part = c->in.left < len ? c->in.left : len;

        rc = virtq_in(c, data, part);
        if (!rc)
            rc = virtq_stage(q, c);
        data += part;
        len -= part;
    }
    return rc ? rc : virtq_publish(q);
}

/* Put the frame into buffers of the driver's. 1: done with it; 0: there are too few; -EPROTO. */
static int deliver(struct net *n, const u8 *data, size_t len)
{
    net_hdr h = {0};
    unsigned nr;
    int rc = take_buffers(n, sizeof(h) + len, &nr);

    if (rc == -EMSGSIZE)
        return 1; /* lost */
    if (rc <= 0)
        return rc;
    h.num_buffers = (u16)nr;
    if (virtio_device_has(&n->dev, VIRTIO_NET_F_GUEST_CSUM))
        h.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    return fill_buffers(n, nr, &h, data, len) ? -EPROTO : 1;
}

static bool wait_for_buffer(struct net *n, const void *data, size_t len)
{
    struct frame *f;

    if (len > WAITING_MAX - n->waiting_bytes)
        return false;
    f = malloc(sizeof(*f) + len);
    if (!f)
        return false;
    f->next = NULL;
    f->len = len;
    memcpy(f->data, data, len);
    *n->waiting_end = f;
    n->waiting_end = &f->next;
    n->waiting_bytes += len;
    return true;
}

static void drop_first(struct net *n)
{
    struct frame *f = n->waiting;

    n->waiting = f->next;
    if (!n->waiting)
        n->waiting_end = &n->waiting;
    n->waiting_bytes -= f->len;
    free(f);
}

/* Frames that wait, into buffers that came in. 0 or -EPROTO. */
static int pump_rx(struct net *n)
{
    struct virtq *q = &n->dev.queues[QUEUE_RX];

    virtq_disable_notify(q);
    while (n->waiting) {
        int rc = deliver(n, n->waiting->data, n->waiting->len);

        if (rc < 0)
            return rc;
        if (!rc)
            break;
        drop_first(n);
    }
    return 0;
}

static void drop_all(struct net *n)
{
    while (n->waiting)
        drop_first(n);
}

static void fail(struct net *n)
{
    drop_all(n);
    virtio_device_fail(&n->dev);
}

/* The wire may answer from within (transmit): the chain and (out) are free again by then. */
bool virtio_net_receive(struct virtio_device *d, const void *frame, size_t len)
{
    struct net *n = of(d);
    int rc = 0;

    if (len < ETH_HLEN || len > VIRTIO_NET_FRAME_MAX || !virtio_device_live(d))
        return false;
    if (!n->waiting)
        rc = deliver(n, frame, len);
    if (rc < 0)
        fail(n);
    return rc > 0 || (rc == 0 && wait_for_buffer(n, frame, len));
}

void virtio_net_pump(struct virtio_device *d)
{
    struct net *n = of(d);

    if (!virtio_device_live(d))
        return;
    if (pump_tx(n) || pump_rx(n)) {
        fail(n);
        return;
    }
    virtio_device_used(d, &d->queues[QUEUE_TX]);
    virtio_device_used(d, &d->queues[QUEUE_RX]);
}

/* No more kicks are wanted until the pump has run; none at all for buffers nobody waits for. */
static void notify(struct virtio_device *d, unsigned q)
{
    struct net *n = of(d);

    virtq_disable_notify(&d->queues[q]);
    if (q == QUEUE_TX || n->waiting)
        n->o.kick(n->o.opaque);
}

static void reset(struct virtio_device *d)
{
    drop_all(of(d));
}

static void config_read(struct virtio_device *d, u32 off, void *buf, u32 len)
{
    struct virtio_net_config config = {.status = VIRTIO_NET_S_LINK_UP, .mtu = of(d)->o.mtu};

    memcpy(config.mac, of(d)->o.mac, sizeof(config.mac));
    virtio_config_copy(buf, off, len, &config, sizeof(config));
}

static void dev_free(struct virtio_device *d)
{
    struct net *n = of(d);

    drop_all(n);
    virtio_device_fini(d);
    free(n);
}

/* Frames that wait for a buffer are not saved: they are lost, as on a wire that was pulled. */
static void net_state(struct virtio_device *d, struct state *s)
{
    struct net *n = of(d);
    u8 mac[6];

    memcpy(mac, n->o.mac, sizeof(mac));
    STATE(s, mac);
    STATE_CHECK(s, !memcmp(mac, n->o.mac, sizeof(mac)), mac);
}

static const struct virtio_device_ops net_ops = {
    .id = VIRTIO_ID_NET,
    .reset = reset,
    .notify = notify,
    .config_read = config_read,
    .state = net_state,
    .free = dev_free,
};

int virtio_net_create(const struct virtio_net_options *o, struct virtio_device **ret)
{
    u64 features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CSUM) |
                   BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_MRG_RXBUF);
    struct net *n = calloc(1, sizeof(*n));
    int rc;

    if (!n)
        return -ENOMEM;
    n->o = *o;
    n->waiting_end = &n->waiting;
    if (o->mtu)
        features |= BIT(VIRTIO_NET_F_MTU);
    rc = virtio_device_init(&n->dev, &net_ops, NR_QUEUES, QUEUE_SIZE, features);
    if (rc) {
        free(n);
        return rc;
    }
    *ret = &n->dev;
    return 0;
}
