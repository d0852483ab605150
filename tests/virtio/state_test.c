// SPDX-License-Identifier: MIT
// Devices saved in the middle of things and loaded elsewhere: they go on where they were.
#include "driver.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/rng.h"
#include "virtio/state.h"
#include "virtio/vsock.h"

#include "../tap.h"

#include <linux/virtio_console.h>
#include <sys/mman.h>
#include <unistd.h>

#define V1         BIT(VIRTIO_F_VERSION_1)
#define EVENT_IDX  BIT(VIRTIO_RING_F_EVENT_IDX)
#define PACKED     BIT(VIRTIO_F_RING_PACKED)
#define MULTI      BIT(VIRTIO_CONSOLE_F_MULTIPORT)
#define CONTROL_TX 3
#define PORT_RX    4
#define PORT_TX    5

static struct sink {
    char got[256];
    size_t len, take;
    unsigned calls;
} sinks[2];
static struct sink *sink = &sinks[0];

static size_t output(void *opaque, const void *data, size_t len)
{
    size_t n = len < sink->take ? len : sink->take;

    sink->calls++;
    memcpy(sink->got + sink->len, data, n);
    sink->len += n;
    sink->take -= n;
    return n;
}

static void called(void *opaque, bool open)
{
    sink->calls++;
}

static struct virtio_device *make_console(unsigned ports)
{
    static const struct virtio_console_port_ops ops = {.output = output, .guest_open = called};
    static const struct virtio_console_port_config config[] = {{NULL, true, &ops, NULL},
                                                               {"stream", false, &ops, NULL}};
    struct virtio_device *d;

    if (virtio_console_create(config, ports, &d))
        exit(99);
    return d;
}

/* A driver's control message. */
static void control(struct driver *v, u32 port, u16 event, u16 value)
{
    struct virtio_console_control m = {.id = port, .event = event, .value = value};
    struct virtq_seg seg = {DRIVER_DATA, sizeof(m)};

    memcpy(driver_at(v, DRIVER_DATA), &m, sizeof(m));
    driver_add(v, CONTROL_TX, &seg, 1, 0);
    driver_kick(v, CONTROL_TX);
}

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

static void test_console(void)
{
    static const char text[] = "a text that is longer than the host takes at once, in two buffers";
    struct virtq_seg segs[] = {{DRIVER_DATA + 0x100, 40}, {DRIVER_DATA + 0x200, sizeof(text) - 40}};
    struct virtq_seg in = {DRIVER_DATA + 0x300, 32};
    struct virtio_device *old = make_console(2), *fresh = make_console(2);
    struct driver a, b;
    struct state s, again = state_saver();
    u32 id, len;

    driver_open(&a, old);
    is_u64(driver_start(&a, V1 | EVENT_IDX | MULTI, 6), 15, "console: it is set up");
    control(&a, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    control(&a, 1, VIRTIO_CONSOLE_PORT_READY, 1);
    control(&a, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    memcpy(driver_at(&a, segs[0].gpa), text, 40);
    memcpy(driver_at(&a, segs[1].gpa), text + 40, sizeof(text) - 40);
    sink->take = 43;
    driver_add(&a, PORT_TX, segs, 2, 0);
    driver_kick(&a, PORT_TX);
    ok(virtio_console_stalled(old, 1), "a chain is taken in part");
    virtio_console_write(old, 1, "no room", 7);

    sink = &sinks[1];
    ok(move(&a, &b, fresh, &s) == 0, "it moves");
    is_u64(sink->calls, 0, "and calls nobody on the way");
    virtio_mmio_state(b.t, &again);
    ok(again.size == s.size && !memcmp(again.data, s.data, s.size), "saved again it is the same");
    ok(virtio_console_guest_open(fresh, 1) && virtio_console_stalled(fresh, 1),
       "it knows what it did");
    sink->take = 100;
    virtio_console_resume(fresh, 1);
    driver_set(&b, VIRTIO_MMIO_INTERRUPT_ACK, 3);
    ok(sink->len == sizeof(text) - 43 && !memcmp(sink->got, text + 43, sink->len),
       "the rest of the chain comes, and no more");
    ok(driver_used(&b, PORT_TX, &id, &len), "the chain is given back");
    driver_add(&b, PORT_RX, &in, 0, 1);
    driver_kick(&b, PORT_RX);
    is_u64(virtio_console_write(fresh, 1, "hello", 5), 5, "the other way works too");
    ok(driver_used(&b, PORT_RX, &id, &len) && len == 5 && b.irq, "with an interrupt");
    state_free(&s);
    state_free(&again);
    driver_close(&a);
    driver_close(&b);
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

/* Each byte of a saved device at each value of a few: loaded or refused, never worse. */
static void test_damage(void)
{
    struct virtio_device *old = make_console(2);
    struct virtq_seg seg = {DRIVER_DATA + 0x100, 40};
    static const u8 values[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    unsigned loaded = 0, refused = 0;
    struct driver a, b;
    struct state s = state_saver(), l;

    driver_open(&a, old);
    driver_start(&a, V1 | MULTI, 6);
    control(&a, 1, VIRTIO_CONSOLE_PORT_READY, 1);
    sink->take = 3;
    driver_add(&a, PORT_TX, &seg, 1, 0);
    driver_kick(&a, PORT_TX);
    virtio_mmio_state(a.t, &s);
    for (size_t at = 0; at < s.size; at++) {
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            u8 was = s.data[at];

            s.data[at] = values[i];
            driver_open(&b, make_console(2));
            l = state_loader(s.data, s.size);
            virtio_mmio_state(b.t, &l);
            state_end(&l);
            *(l.error ? &refused : &loaded) += 1;
            sink->take = sizeof(sink->got) - sink->len > 100 ? 100 : 0;
            sink->len = 0;
            for (unsigned q = 0; q < 6 && !l.error; q++)
                driver_kick(&b, q);
            driver_close(&b);
            s.data[at] = was;
        }
    }
    ok(loaded > 100 && refused > 100, "damage: %u loaded, %u refused, none did harm", loaded,
       refused);
    state_free(&s);
    driver_close(&a);
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

static void test_refusals(void)
{
    struct virtio_device *rng;
    struct driver a;

    if (virtio_rng_create(&rng))
        exit(99);
    driver_open(&a, make_blk(65536, false));
    driver_start(&a, V1, 1);
    refuse(&a, rng, "id", "a device of another type");
    refuse(&a, make_blk(65536 - 512, false), "sectors", "a disk of another size");
    refuse(&a, make_blk(65536, true), "readonly", "a disk that is read-only now");
    driver_close(&a);
    driver_open(&a, make_console(2));
    driver_start(&a, V1, 1);
    refuse(&a, make_console(1), "nr_queues", "another number of ports");
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

static void nothing(void *opaque)
{
}

/* Connections are gone after a move, and the guest is told so. */
static void test_vsock(void)
{
    struct virtio_vsock_options o = {.guest_cid = 42, .kick = nothing};
    struct uvirt_vsock_config host = {.size = sizeof(host), .cid = 2};
    struct virtq_seg seg = {DRIVER_DATA, 8};
    struct uvirt_vsock *v[2];
    struct virtio_device *d[2];
    struct driver a, b;
    struct state s;
    u32 id, len, event = 99;

    for (unsigned i = 0; i < 2; i++)
        if (uvirt_vsock_create(&host, &v[i]) || virtio_vsock_create(v[i], &o, &d[i]))
            exit(99);
    driver_open(&a, d[0]);
    driver_start(&a, V1, 3);
    driver_add(&a, 2, &seg, 0, 1);
    driver_kick(&a, 2);
    ok(!driver_used(&a, 2, &id, &len), "vsock: nothing happens");
    ok(move(&a, &b, d[1], &s) == 0, "it moves");
    for (unsigned q = 0; q < 3; q++)
        driver_kick(&b, q);
    ok(driver_used(&b, 2, &id, &len), "an event comes");
    memcpy(&event, driver_at(&b, DRIVER_DATA), sizeof(event));
    is_u64(event, 0, "TRANSPORT_RESET");
    state_free(&s);
    driver_close(&a);
    driver_close(&b);
    for (unsigned i = 0; i < 2; i++)
        uvirt_vsock_free(v[i]);
}

int main(void)
{
    test_console();
    test_interrupt();
    test_damage();
    test_refusals();
    test_packed();
    test_vsock();
    return tap_done();
}
