// SPDX-License-Identifier: MIT
// virtio-console: port management, byte streams both ways with back-pressure, a rude driver.
#include "driver.h"
#include "virtio/console.h"

#include "../tap.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>

#define V1         BIT(VIRTIO_F_VERSION_1)
#define MULTI      (V1 | BIT(VIRTIO_CONSOLE_F_MULTIPORT))
#define PORTS      3
#define NR_QUEUES  (2 * PORTS + 2)
#define CONTROL_RX 2
#define CONTROL_TX 3
#define MESSAGE    (DRIVER_DATA + 0x2000) /* the driver's own message */

static struct driver v;
static struct virtio_device *dev;

/* The host's side of a port. */
static struct sink {
    char got[256];
    size_t len, take; /* (take): bytes to accept before saying stop */
    unsigned rooms, opens, closes;
} sinks[PORTS];

static size_t output(void *opaque, const void *data, size_t len)
{
    struct sink *s = opaque;

    if (len > s->take)
        len = s->take;
    if (len > sizeof(s->got) - s->len)
        len = sizeof(s->got) - s->len;
    memcpy(s->got + s->len, data, len);
    s->len += len;
    s->take -= len;
    return len;
}

static void writable(void *opaque)
{
    ((struct sink *)opaque)->rooms++;
}

static void guest_open(void *opaque, bool open)
{
    struct sink *s = opaque;

    s->opens += open;
    s->closes += !open;
}

static const struct virtio_console_port_ops ops = {output, writable, guest_open};
static const struct virtio_console_port_config config[PORTS] = {
    {NULL, true, &ops, &sinks[0]},
    {"org.example.in", false, &ops, &sinks[1]},
    {"org.example.ctl", false, &ops, &sinks[2]},
};

static unsigned rx_of(unsigned port)
{
    return port ? 2 * port + 2 : 0;
}

static gpa_t buffer(unsigned q, unsigned i)
{
    return DRIVER_DATA + 0x4000 + (q * 16 + i) * 0x100;
}

/* Give queue (q) (nr) buffers of (len) bytes, as a driver does at start-up. */
static void give(unsigned q, unsigned nr, u32 len)
{
    for (unsigned i = 0; i < nr; i++) {
        struct virtq_seg seg = {buffer(q, v.q[q].next_desc % 16), len};

        driver_add(&v, q, &seg, 0, 1);
    }
    driver_kick(&v, q);
}

static void send(unsigned port, const char *text)
{
    struct virtq_seg seg = {buffer(rx_of(port) + 1, v.q[rx_of(port) + 1].next_desc % 16),
                            strlen(text)};

    memcpy(driver_at(&v, seg.gpa), text, seg.len);
    driver_add(&v, rx_of(port) + 1, &seg, 1, 0);
    driver_kick(&v, rx_of(port) + 1);
}

/* What the host sent to queue (q), as text; "-" if nothing. */
static const char *received(unsigned q)
{
    static char text[256];
    u32 id, len;

    if (!driver_used(&v, q, &id, &len))
        return "-";
    snprintf(text, sizeof(text), "%.*s", (int)len, (char *)driver_at(&v, buffer(q, id)));
    return text;
}

/* The next control message as "id event value [extra]". */
static const char *control(void)
{
    static char text[256];
    struct virtio_console_control m;
    u32 id, len;
    char *at;

    if (!driver_used(&v, CONTROL_RX, &id, &len))
        return "-";
    at = driver_at(&v, buffer(CONTROL_RX, id));
    memcpy(&m, at, sizeof(m));
    if (m.event == VIRTIO_CONSOLE_RESIZE) {
        u16 size[2];

        memcpy(size, at + sizeof(m), sizeof(size));
        snprintf(text, sizeof(text), "%u size %ux%u", m.id, size[0], size[1]);
    } else {
        snprintf(text, sizeof(text), "%u %u %u %.*s", m.id, m.event, m.value,
                 (int)(len - sizeof(m)), at + sizeof(m));
    }
    return text;
}

static void tell(u32 id, u16 event, u16 value)
{
    struct virtio_console_control m = {id, event, value};
    struct virtq_seg seg = {MESSAGE, sizeof(m)};

    memcpy(driver_at(&v, MESSAGE), &m, sizeof(m));
    driver_add(&v, CONTROL_TX, &seg, 1, 0);
    driver_kick(&v, CONTROL_TX);
}

static void expect(const char *want, const char *got, const char *what)
{
    if (!ok(!strcmp(want, got), "%s", what))
        printf("#   got '%s', want '%s'\n", got, want);
}

static void start(u64 features)
{
    driver_start(&v, features, features == V1 ? 2 : NR_QUEUES);
    memset(sinks, 0, sizeof(sinks));
    for (unsigned i = 0; i < PORTS; i++)
        sinks[i].take = SIZE_MAX;
}

/* The start-up of all ports, as Linux does it. */
static void start_ports(void)
{
    start(MULTI);
    for (unsigned i = 0; i < PORTS; i++)
        give(rx_of(i), 2, 8);
    give(CONTROL_RX, 16, 128);
    tell(~0u, VIRTIO_CONSOLE_DEVICE_READY, 1);
    for (unsigned i = 0; i < PORTS; i++)
        tell(i, VIRTIO_CONSOLE_PORT_READY, 1);
    while (strcmp(control(), "-"))
        ;
    for (unsigned i = 0; i < PORTS; i++)
        tell(i, VIRTIO_CONSOLE_PORT_OPEN, 1);
}

static void test_create(void)
{
    struct virtio_console_port_config bad = config[1];
    char name[65];

    memset(name, 'n', 64);
    name[64] = 0;
    is_u64(virtio_console_create(config, 0, &dev), -EINVAL, "no ports");
    is_u64(virtio_console_create(config, 17, &dev), -EINVAL, "too many ports");
    bad.name = name;
    is_u64(virtio_console_create(&bad, 1, &dev), -EINVAL, "a name too long");
    bad = (struct virtio_console_port_config){"x", false, NULL, NULL};
    is_u64(virtio_console_create(&bad, 1, &dev), -EINVAL, "no ops");
    is_u64(virtio_console_create(config, PORTS, &dev), 0, "three ports");
}

static void test_management(void)
{
    start(MULTI);
    is_u64(driver_reg(&v, VIRTIO_MMIO_CONFIG + 4), PORTS, "max_nr_ports");
    give(CONTROL_RX, 2, 128);
    tell(~0u, VIRTIO_CONSOLE_DEVICE_READY, 1);
    expect("0 1 1 ", control(), "port 0 is added");
    expect("1 1 1 ", control(), "port 1 is added");
    expect("-", control(), "then the buffers are used up");
    give(CONTROL_RX, 14, 128);
    expect("2 1 1 ", control(), "port 2 is added when there are more");
    expect("-", control(), "and that is all");

    virtio_console_resize(dev, 0, 80, 25);
    expect("-", control(), "no size for a port that is not ready");
    tell(0, VIRTIO_CONSOLE_PORT_READY, 1);
    expect("0 4 1 ", control(), "port 0 is a console");
    expect("0 size 25x80", control(), "its rows and columns, in the order drivers read them");
    expect("0 6 1 ", control(), "it is open");
    tell(1, VIRTIO_CONSOLE_PORT_READY, 1);
    expect("1 7 1 org.example.in", control(), "port 1 has a name");
    expect("1 6 1 ", control(), "it is open");
    virtio_console_set_open(dev, 2, false);
    tell(2, VIRTIO_CONSOLE_PORT_READY, 1);
    expect("2 7 1 org.example.ctl", control(), "port 2 has a name");
    expect("-", control(), "it is not open");
    virtio_console_set_open(dev, 2, true);
    expect("2 6 1 ", control(), "until the host opens it");
    virtio_console_set_open(dev, 2, true);
    expect("-", control(), "once");
    virtio_console_set_open(dev, 1, false);
    expect("1 6 0 ", control(), "the host closes a port");
    virtio_console_set_open(dev, 1, true);
    control();
    virtio_console_resize(dev, 0, 132, 50);
    expect("0 size 50x132", control(), "a new size");
    virtio_console_resize(dev, 1, 1, 1);
    expect("-", control(), "a plain port has none");

    ok(!virtio_console_guest_open(dev, 1), "the guest has not opened it");
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    ok(virtio_console_guest_open(dev, 1) && sinks[1].opens == 1, "now it has");
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    ok(!virtio_console_guest_open(dev, 1) && sinks[1].opens == 1 && sinks[1].closes == 1,
       "and closed it");
}

static void test_guest_to_host(void)
{
    u32 id, len;

    start_ports();
    send(0, "console");
    send(2, "control");
    ok(sinks[0].len == 7 && !memcmp(sinks[0].got, "console", 7) && sinks[2].len == 7 &&
           !memcmp(sinks[2].got, "control", 7) && !sinks[1].len,
       "bytes arrive at their port");
    ok(driver_used(&v, rx_of(2) + 1, &id, &len) && len == 0, "the buffer comes back");

    sinks[2].take = 3;
    send(2, "abcdef");
    send(2, "ghi");
    ok(sinks[2].len == 10 && virtio_console_stalled(dev, 2), "the host takes a part");
    ok(!driver_used(&v, rx_of(2) + 1, &id, &len), "the guest's buffer stays with the device");
    virtio_console_resume(dev, 2);
    ok(sinks[2].len == 10, "resuming without room takes nothing");
    sinks[2].take = 4;
    virtio_console_resume(dev, 2);
    ok(sinks[2].len == 14 && !memcmp(sinks[2].got + 7, "abcdefg", 7), "then the next bytes");
    ok(driver_used(&v, rx_of(2) + 1, &id, &len) && !driver_used(&v, rx_of(2) + 1, &id, &len),
       "one buffer comes back");
    sinks[2].take = SIZE_MAX;
    virtio_console_resume(dev, 2);
    ok(sinks[2].len == 16 && !memcmp(sinks[2].got + 14, "hi", 2) && !virtio_console_stalled(dev, 2),
       "then the rest");
    send(0, "");
    ok(sinks[0].len == 7 && driver_used(&v, 1, &id, &len), "an empty buffer is no bytes");
}

static void test_host_to_guest(void)
{
    start_ports();
    is_u64(virtio_console_write(dev, 1, "hello", 5), 5, "bytes for the guest");
    expect("hello", received(rx_of(1)), "arrive");
    is_u64(virtio_console_write(dev, 1, "0123456789", 10), 8, "more than the guest has room for");
    expect("01234567", received(rx_of(1)), "the first part arrives");
    is_u64(sinks[1].rooms, 0, "no room");
    give(rx_of(1), 1, 8);
    is_u64(sinks[1].rooms, 1, "the host hears of new room");
    is_u64(virtio_console_write(dev, 1, "89", 2), 2, "and goes on");
    expect("89", received(rx_of(1)), "the second part arrives");
    give(rx_of(1), 1, 8);
    is_u64(sinks[1].rooms, 1, "room that nobody waits for is not announced");

    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    is_u64(virtio_console_write(dev, 1, "lost", 4), 0, "nothing goes to a port nobody has open");
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    is_u64(sinks[1].rooms, 2, "until somebody opens it");
    is_u64(virtio_console_write(dev, 9, "x", 1), 0, "a port that does not exist");
}

static void test_single(void)
{
    start(V1);
    give(0, 2, 8);
    is_u64(virtio_console_write(dev, 0, "hi", 2), 2, "a plain driver: bytes to port 0");
    expect("hi", received(0), "arrive");
    is_u64(virtio_console_write(dev, 1, "hi", 2), 0, "a plain driver has no port 1");
    send(0, "up");
    ok(sinks[0].len == 2, "bytes from port 0");
    v.irqs = 0;
    driver_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, 3);
    virtio_console_resize(dev, 0, 100, 40);
    is_u64(driver_reg(&v, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG,
           "a new size is a configuration change");
    is_u64(driver_reg(&v, VIRTIO_MMIO_CONFIG), 100 | 40 << 16, "columns and rows");
    driver_set(&v, VIRTIO_MMIO_CONFIG + 8, '!');
    ok(sinks[0].len == 3 && sinks[0].got[2] == '!', "emergency write");
    driver_set(&v, VIRTIO_MMIO_CONFIG + 4, 99);
    is_u64(driver_reg(&v, VIRTIO_MMIO_CONFIG + 4), PORTS, "the rest is read-only");
}

static bool failed(void)
{
    return driver_reg(&v, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void test_rude(void)
{
    struct virtq_seg seg = {MESSAGE, 3};

    start_ports();
    driver_add(&v, CONTROL_TX, &seg, 1, 0);
    driver_kick(&v, CONTROL_TX);
    tell(99, VIRTIO_CONSOLE_PORT_READY, 1);
    tell(0xffffffff, VIRTIO_CONSOLE_PORT_OPEN, 1);
    tell(0, 77, 1);
    ok(!failed(), "messages that make no sense are ignored");
    for (unsigned i = 0; i < 1000; i++)
        tell(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    give(CONTROL_RX, 16, 128);
    control();
    ok(!failed(), "asking a thousand times costs nothing");

    start(MULTI);
    give(CONTROL_RX, 1, 4);
    tell(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    ok(failed(), "a control buffer too small fails the device");
    is_u64(virtio_console_write(dev, 0, "x", 1), 0, "a failed device takes nothing");

    start_ports();
    sinks[2].take = 1;
    send(2, "abc");
    driver_set(&v, VIRTIO_MMIO_STATUS, 0);
    ok(!virtio_console_stalled(dev, 2) && sinks[2].closes == 1, "a reset drops what was stalled");
    virtio_console_resume(dev, 2);
    start_ports();
    send(2, "xyz");
    ok(sinks[2].len == 3 && !memcmp(sinks[2].got, "xyz", 3), "and starts afresh");

    driver_offer(&v, rx_of(1) + 1, 999);
    driver_kick(&v, rx_of(1) + 1);
    ok(failed(), "a malformed transmit ring fails the device");
    start_ports();
    driver_offer(&v, rx_of(1), 999);
    received(rx_of(1));
    virtio_console_write(dev, 1, "0123456789abcdefghi", 19);
    ok(failed(), "a malformed receive ring too");
}

int main(void)
{
    test_create();
    driver_open(&v, dev);
    test_management();
    test_guest_to_host();
    test_host_to_guest();
    test_single();
    test_rude();
    driver_close(&v);
    return tap_done();
}
