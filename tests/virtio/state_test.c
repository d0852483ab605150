// SPDX-License-Identifier: MIT
// Devices saved in the middle of things and loaded elsewhere: they go on where they were.
#include "driver.h"
#include "virtio/blk.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/state.h"
#include "virtio/vsock.h"

#include "../tap.h"

#include <linux/virtio_vsock.h>
#include <sys/mman.h>
#include <unistd.h>

#define V1        BIT(VIRTIO_F_VERSION_1)
#define EVENT_IDX BIT(VIRTIO_RING_F_EVENT_IDX)
#define PACKED    BIT(VIRTIO_F_RING_PACKED)
#define CID       42
#define PORT      5000

enum {
    RX,
    TX,
    EVENT,
};

/* (to) becomes (from) on another machine, with device (d). The saved bytes stay in (s). */
static int move(struct driver *from, struct driver *to, struct virtio_device *d, struct state *s)
{
    struct state l;

    *s = state_saver();
    virtio_mmio_state(from->t, s);
    driver_open(to, d);
    memcpy(to->ram, from->ram, DRIVER_RAM_SIZE);
    memcpy(to->q, from->q, sizeof(to->q));
    l = state_loader(s->data, s->size);
    virtio_mmio_state(to->t, &l);
    state_end(&l);
    if (l.error)
        printf("# %s\n", l.field);
    return l.error;
}

/* The line is not raised by loading, but by virtio_mmio_redrive(). */
static void test_interrupt(void)
{
    struct virtq_seg seg = {DRIVER_DATA, 64};
    struct virtio_device *old, *fresh;
    struct driver a, b;
    struct state s;
    u32 id, len;

    if (virtio_rng_create(&old) || virtio_rng_create(&fresh))
        exit(99);
    driver_open(&a, old);
    driver_start(&a, V1, 1);
    driver_add(&a, 0, &seg, 0, 1);
    driver_kick(&a, 0);
    ok(a.irq, "rng: an interrupt stands");
    ok(move(&a, &b, fresh, &s) == 0 && !b.irq, "it moves without a sound");
    virtio_mmio_redrive(b.t);
    ok(b.irq, "and then stands there");
    driver_set(&b, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    ok(!b.irq, "until the driver has seen it");
    driver_used(&b, 0, &id, &len);
    driver_add(&b, 0, &seg, 0, 1);
    driver_kick(&b, 0);
    ok(driver_used(&b, 0, &id, &len) && len == 64 && b.irq, "the queue goes on");
    state_free(&s);
    driver_close(&a);
    driver_close(&b);
}

static struct uvirt_vsock *make_host(void)
{
    struct uvirt_vsock_config config = {.size = sizeof(config), .cid = VMADDR_CID_HOST};
    struct uvirt_vsock *v;

    if (uvirt_vsock_create(&config, &v))
        exit(99);
    return v;
}

static struct virtio_device *make_vsock(struct uvirt_vsock *v)
{
    struct virtio_device *d;

    if (virtio_vsock_create(v, &(struct virtio_vsock_options){.guest_cid = CID}, &d))
        exit(99);
    return d;
}

/* Each byte of a saved device at each value of a few: loaded or refused, never worse. */
static void test_damage(void)
{
    struct uvirt_vsock *host[2] = {make_host(), make_host()};
    struct virtq_seg seg = {DRIVER_DATA + 0x100, 44};
    static const u8 values[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    unsigned loaded = 0, refused = 0;
    struct driver a, b;
    struct state s = state_saver(), l;

    driver_open(&a, make_vsock(host[0]));
    driver_start(&a, V1 | PACKED, 3);
    driver_start(&a, V1 | EVENT_IDX, 3);
    driver_add(&a, TX, &seg, 1, 0);
    driver_kick(&a, TX);
    virtio_mmio_state(a.t, &s);
    for (size_t at = 0; at < s.size; at++) {
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            u8 was = s.data[at];

            s.data[at] = values[i];
            driver_open(&b, make_vsock(host[1]));
            l = state_loader(s.data, s.size);
            virtio_mmio_state(b.t, &l);
            state_end(&l);
            *(l.error ? &refused : &loaded) += 1;
            if (!l.error)
                virtio_mmio_redrive(b.t);
            driver_close(&b);
            s.data[at] = was;
        }
    }
    ok(loaded > 100 && refused > 100, "damage: %u loaded, %u refused, none did harm", loaded,
       refused);
    state_free(&s);
    driver_close(&a);
    uvirt_vsock_free(host[0]);
    uvirt_vsock_free(host[1]);
}

static struct virtio_device *make_blk(u64 size, bool readonly)
{
    struct virtio_blk_backend cfg = {.fd = memfd_create("disk", MFD_CLOEXEC), .readonly = readonly};
    struct virtio_device *d;

    if (cfg.fd < 0 || ftruncate(cfg.fd, (off_t)size) || virtio_blk_create(&cfg, &d))
        exit(99);
    return d;
}

static void refuse(struct driver *a, struct virtio_device *d, const char *field, const char *what)
{
    struct driver b;
    struct state s = state_saver(), l;

    virtio_mmio_state(a->t, &s);
    driver_open(&b, d);
    l = state_loader(s.data, s.size);
    virtio_mmio_state(b.t, &l);
    ok(l.error == -EBADMSG && !strcmp(l.field, field), "%s: %s", what, l.error ? l.field : "taken");
    state_free(&s);
    driver_close(&b);
}

static struct virtio_device *make_net(u8 last)
{
    struct virtio_device *d;

    if (virtio_net_create(&(struct virtio_net_options){.mac = {2, 0, 0, 0, 0, last}}, &d))
        exit(99);
    return d;
}

static void test_refusals(void)
{
    struct virtio_device *rng, *net = make_net(1);
    struct driver a;

    if (virtio_rng_create(&rng))
        exit(99);
    driver_open(&a, make_blk(65536, false));
    driver_start(&a, V1, 1);
    refuse(&a, rng, "id", "a device of another type");
    refuse(&a, make_blk(65536 - 512, false), "sectors", "a disk of another size");
    refuse(&a, make_blk(65536, true), "readonly", "a disk that is read-only now");
    driver_close(&a);
    net->nr_queues = 1;
    driver_open(&a, make_net(1));
    driver_start(&a, V1, 2);
    refuse(&a, net, "nr_queues", "another number of queues");
    refuse(&a, make_net(2), "mac", "another address");
    driver_close(&a);
}

/* A packed ring's positions and wrap bits move with it. */
static void test_packed(void)
{
    struct virtio_device *old, *fresh;
    struct driver a, b;
    struct state s;

    if (virtio_rng_create(&old) || virtio_rng_create(&fresh))
        exit(99);
    old->features |= PACKED;
    fresh->features |= PACKED;
    driver_open(&a, old);
    driver_start(&a, V1 | PACKED, 1);
    old->queues[0].last_avail = 5;
    old->queues[0].used_idx = 3;
    old->queues[0].last_nr = 2;
    old->queues[0].avail_wrap = false;
    old->queues[0].used_wrap = true;
    ok(move(&a, &b, fresh, &s) == 0 && fresh->queues[0].packed && fresh->queues[0].ready &&
           fresh->queues[0].last_avail == 5 && fresh->queues[0].used_idx == 3 &&
           fresh->queues[0].last_nr == 2 && !fresh->queues[0].avail_wrap &&
           fresh->queues[0].used_wrap,
       "a packed ring's positions and wrap bits");
    state_free(&s);
    old->queues[0].last_avail = DRIVER_QUEUE_SIZE;
    driver_close(&b);
    if (virtio_rng_create(&fresh))
        exit(99);
    fresh->features |= PACKED;
    refuse(&a, fresh, "q->last_avail", "a position outside a packed ring");
    driver_close(&a);
}

/* --- vsock --- */

/* A packet from the guest's port 9, on the ring and not announced. */
static void add_packet(struct driver *v, u16 op)
{
    struct virtq_seg seg = {DRIVER_DATA, sizeof(struct virtio_vsock_hdr)};
    struct virtio_vsock_hdr h = {.src_cid = CID,
                                 .dst_cid = VMADDR_CID_HOST,
                                 .src_port = 9,
                                 .dst_port = PORT,
                                 .type = VIRTIO_VSOCK_TYPE_STREAM,
                                 .op = op,
                                 .buf_alloc = 65536};

    memcpy(driver_at(v, seg.gpa), &h, sizeof(h));
    driver_add(v, TX, &seg, 1, 0);
}

/* The operation of the packet in the next filled rx buffer, of one that is posted anew; 0: none. */
static u16 received(struct driver *v)
{
    struct virtq_seg seg = {DRIVER_DATA + 0x1000, 256};
    struct virtio_vsock_hdr h = {0};
    u32 id, len;

    if (driver_used(v, RX, &id, &len)) {
        memcpy(&h, driver_at(v, seg.gpa), sizeof(h));
        driver_add(v, RX, &seg, 0, 1);
    }
    return h.op;
}

static struct uvirt_vsock_socket *listener(struct uvirt_vsock *v)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
    struct uvirt_vsock_socket *l;

    if (uvirt_vsock_socket(v, SOCK_STREAM, &l) || uvirt_vsock_bind(l, &a, sizeof(a)) ||
        uvirt_vsock_listen(l, 4))
        exit(99);
    return l;
}

/* What was saved and goes on where it is hears nothing of that (Firecracker #6074, #6100). */
static void save_and_go_on(struct driver *v, struct uvirt_vsock_socket *s)
{
    struct iovec data = {(char *)"data", 4};
    struct state saved = state_saver();
    u32 id, len;

    virtio_mmio_state(v->t, &saved);
    ok(uvirt_vsock_send(s, &data, 1, MSG_DONTWAIT) == 4, "vsock: saved, and not gone");
    driver_kick(v, RX);
    ok(received(v) == VIRTIO_VSOCK_OP_RW && !driver_used(v, EVENT, &id, &len),
       "Firecracker #6074, #6100: a device that only was paused has no reset for its guest");
    state_free(&saved);
}

/* Connections are gone after a move, and the guest is told so. */
static void test_vsock(void)
{
    struct virtq_seg event = {DRIVER_DATA + 0x800, 8}, rx = {DRIVER_DATA + 0x1000, 256};
    struct uvirt_vsock *host[2] = {make_host(), make_host()};
    struct uvirt_vsock_socket *l = listener(host[0]), *s;
    struct virtio_device *fresh = make_vsock(host[1]);
    struct state saved, again = state_saver();
    struct driver a, b;
    u32 id, len, what = 99;

    driver_open(&a, make_vsock(host[0]));
    driver_start(&a, V1 | EVENT_IDX, 3);
    driver_add(&a, EVENT, &event, 0, 1);
    driver_kick(&a, EVENT);
    driver_add(&a, RX, &rx, 0, 1);
    add_packet(&a, VIRTIO_VSOCK_OP_REQUEST);
    driver_kick(&a, TX);
    ok(received(&a) == VIRTIO_VSOCK_OP_RESPONSE && !uvirt_vsock_accept(l, true, &s),
       "vsock: a connection");
    driver_used(&a, TX, &id, &len);
    save_and_go_on(&a, s);

    /* The driver's notification is lost on the way; it will send no other. */
    add_packet(&a, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    ok(move(&a, &b, fresh, &saved) == 0, "it moves");
    virtio_mmio_state(b.t, &again);
    ok(again.size == saved.size && !memcmp(again.data, saved.data, saved.size),
       "saved again it is the same");
    ok(!driver_used(&b, EVENT, &id, &len) && !b.irq, "without a sound");
    virtio_mmio_redrive(b.t);
    ok(driver_used(&b, EVENT, &id, &len), "then an event comes");
    memcpy(&what, driver_at(&b, event.gpa), sizeof(what));
    is_u64(what, 0, "TRANSPORT_RESET");
    ok(driver_used(&b, TX, &id, &len) && received(&b) == VIRTIO_VSOCK_OP_RST,
       "Firecracker #5958: a packet that was on its way is taken, with EVENT_IDX, without a kick");
    state_free(&saved);
    state_free(&again);
    uvirt_vsock_close(s);
    uvirt_vsock_close(l);
    driver_close(&a);
    driver_close(&b);
    uvirt_vsock_free(host[0]);
    uvirt_vsock_free(host[1]);
}

int main(void)
{
    test_interrupt();
    test_damage();
    test_refusals();
    test_packed();
    test_vsock();
    return tap_done();
}
