// SPDX-License-Identifier: MIT
// The guest's side of the rings, written from the standard.
#include "seat.h"

#define SLOT(i) (DRIVER_DATA + (gpa_t)(i)*SLOT_SIZE)
#define TX_SLOT SLOT(RX_SLOTS)

static struct seat *of(struct vsock_transport *t)
{
    return container_of(t, struct seat, t);
}

static bool seat_reaches(struct vsock_transport *t, u32 cid)
{
    return cid == VMADDR_CID_HOST;
}

static void seat_send(struct vsock_transport *t, struct vsock_pkt *p)
{
    TAILQ_INSERT_TAIL(&of(t)->queue, p, link);
}

static bool seat_allow(struct vsock_transport *t, u32 cid)
{
    return true;
}

static void seat_cancel(struct vsock_transport *t, struct vsock_sock *sk)
{
}

static const struct vsock_transport_ops seat_ops = {
    .name = "seat",
    .reaches = seat_reaches,
    .send = seat_send,
    .stream_allow = seat_allow,
    .seqpacket_allow = seat_allow,
    .cancel = seat_cancel,
};

static void on_kick(void *opaque)
{
    ((struct seat *)opaque)->kicked = true;
}

void seat_open(struct seat *s, bool marker, bool fake, u64 features)
{
    struct virtio_vsock_options o = {
        .guest_cid = GUEST_CID, .marker = marker, .kick = on_kick, .opaque = s};

    memset(s, 0, sizeof(*s));
    TAILQ_INIT(&s->queue);
    s->host = context(VMADDR_CID_HOST, fake, marker);
    s->guest = context(GUEST_CID, fake, marker);
    s->t.ops = &seat_ops;
    s->t.local_cid = GUEST_CID;
    s->t.seqpacket = marker ? &vsock_framing_marker : &vsock_framing_eom;
    vsock_transport_add((struct vsock_ctx *)s->guest, &s->t);
    if (virtio_vsock_create(s->host, &o, &s->dev))
        exit(99);
    driver_open(&s->v, s->dev);
    seat_start(s, features, 1, 1, 3776);
}

void seat_close(struct seat *s)
{
    struct vsock_pkt *p;

    vsock_lock(s->t.ctx);
    while ((p = TAILQ_FIRST(&s->queue))) {
        TAILQ_REMOVE(&s->queue, p, link);
        vsock_pkt_sent(p);
    }
    vsock_unlock(s->t.ctx);
    uvirt_vsock_free(s->guest);
    driver_close(&s->v);
    uvirt_vsock_free(s->host);
}

void seat_start(struct seat *s, u64 features, unsigned tx_descs, unsigned rx_descs, u32 rx_size)
{
    s->tx_descs = tx_descs;
    s->rx_descs = rx_descs;
    s->rx_size = rx_size;
    s->rx_next = s->rx_posted = 0;
    s->rx_slots = RX_SLOTS;
    if (driver_start(&s->v, features | BIT(VIRTIO_F_VERSION_1), 3) != 15)
        exit(99);
    seat_post(s);
}

/* (len) bytes at (gpa) as at most (n) pieces, the first ones small and odd. */
static unsigned pieces(struct virtq_seg *segs, gpa_t gpa, u32 len, unsigned n)
{
    static const u32 sizes[] = {44, 1, 17, 300};
    unsigned i;

    for (i = 0; i + 1 < n && len > sizes[i % 4]; i++) {
        segs[i] = (struct virtq_seg){gpa, sizes[i % 4]};
        gpa += sizes[i % 4];
        len -= sizes[i % 4];
    }
    segs[i] = (struct virtq_seg){gpa, len};
    return i + 1;
}

void seat_post(struct seat *s)
{
    struct virtq_seg segs[16];

    for (; s->rx_posted < s->rx_slots; s->rx_posted++) {
        gpa_t at = SLOT((s->rx_next + s->rx_posted) % RX_SLOTS);

        driver_add(&s->v, 0, segs, 0, pieces(segs, at, s->rx_size, s->rx_descs));
    }
    driver_kick(&s->v, 0);
}

void seat_tx(struct seat *s, const void *bytes, size_t len, unsigned descs)
{
    struct virtq_seg segs[16];

    memcpy(driver_at(&s->v, TX_SLOT), bytes, len);
    driver_add(&s->v, 1, segs, pieces(segs, TX_SLOT, len, descs), 0);
    driver_kick(&s->v, 1);
}

static bool send_one(struct seat *s)
{
    struct vsock_ctx *ctx = s->t.ctx;
    static u8 bytes[SLOT_SIZE];
    struct vsock_pkt *p;
    u32 id, len;

    vsock_lock(ctx);
    p = TAILQ_FIRST(&s->queue);
    if (p) {
        TAILQ_REMOVE(&s->queue, p, link);
        vsock_hdr_encode(bytes, &p->hdr);
        memcpy(bytes + VSOCK_HDR_SIZE, p->data, p->len);
        len = VSOCK_HDR_SIZE + p->len;
        vsock_pkt_sent(p);
    }
    vsock_unlock(ctx);
    if (!p)
        return false;
    seat_tx(s, bytes, len, s->tx_descs);
    if (!driver_used(&s->v, 1, &id, &len) || len)
        exit(98);
    return true;
}

static bool receive_one(struct seat *s)
{
    struct vsock_ctx *ctx = s->t.ctx;
    struct vsock_hdr h;
    struct vsock_pkt *p;
    u8 *at;
    u32 id, len;

    if (!driver_used(&s->v, 0, &id, &len))
        return false;
    at = driver_at(&s->v, SLOT(s->rx_next));
    s->rx_next = (s->rx_next + 1) % RX_SLOTS;
    s->rx_posted--;
    vsock_hdr_decode(&h, at);
    if (len < VSOCK_HDR_SIZE || h.len != len - VSOCK_HDR_SIZE || len > s->rx_size)
        exit(97);
    p = vsock_pkt_alloc(h.len);
    p->hdr = h;
    p->len = h.len;
    memcpy(p->data, at + VSOCK_HDR_SIZE, h.len);
    vsock_lock(ctx);
    vsock_receive(&s->t, p);
    vsock_unlock(ctx);
    seat_post(s);
    return true;
}

void seat_run(struct seat *s)
{
    bool moved;

    do {
        moved = s->kicked;
        s->kicked = false;
        if (moved)
            virtio_vsock_pump(s->dev);
        moved |= send_one(s);
        moved |= receive_one(s);
    } while (moved);
}
