// SPDX-License-Identifier: MIT
// Fuzzes a vsock device over vhost-user: messages with descriptors, the rings and packets behind them, host sockets.

/*
 * The input is a list of operations (enum op). Most inputs get nowhere near a packet by
 * chance, so one operation is a proper front end's whole start-up, in a layout of the input's
 * choice; what comes before and after is up to the input. Invariants: no sanitizer report; no
 * hang; once the front end has gone, no descriptor of it is left, and a proper one gets a
 * packet through to a socket.
 */
#include "fuzz.h"
#include "vhost/backend_priv.h"
#include "virtio/driver_queue.h"
#include "virtio/vsock.h"
#include "vsock/sock.h"

#include <dirent.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUEST    3
#define PORT     5000 /* STREAM, and one more for SEQPACKET */
#define OPS_MAX  100
#define MEMORY   0x40000
#define GPA      0x10000
#define DATA     0x20000 /* offset of the buffers */
#define NR_SOCKS 4

enum op {
    OP_RAW,     /* bytes as they are, with descriptors */
    OP_MESSAGE, /* request, payload in the right size, descriptors */
    OP_START,   /* a proper start-up */
    OP_POKE,    /* guest memory */
    OP_PACKET,  /* a header in short form and payload, on the tx ring, and a kick */
    OP_POST,    /* rx buffers, and a kick */
    OP_KICK,
    OP_HOST, /* a call on the host's sockets */
    OP_HANG_UP,
    OP_COUNT,
};

struct state {
    struct uvirt_vsock *host;
    struct vhost_backend *b;
    struct uvirt_vsock_socket *listeners[2], *socks[NR_SOCKS];
    int fd; /* our end, -1: none */
    int memory, event;
    u8 *ram;
    struct virtq_driver q[3];
    bool started;
    u64 arrived; /* requests that became connections */
};

static struct state s;

static void must(bool good)
{
    if (!good)
        abort();
}

static void round_trip(void)
{
    u8 buf[4096];

    for (int i = 0; i < 4; i++)
        must(vhost_backend_round(s.b, -1, 0) >= 0);
    while (s.fd >= 0 && recv(s.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        ;
}

static void connect_front(void)
{
    int fds[2];

    if (s.fd >= 0 && s.b->fd < 0) {
        close(s.fd); /* it was thrown out */
        s.fd = -1;
    }
    if (s.fd >= 0)
        return;
    must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
    must(!vhost_backend_adopt(s.b, fds[1]));
    s.fd = fds[0];
    s.started = false;
}

static void hang_up(void)
{
    if (s.fd >= 0)
        close(s.fd);
    s.fd = -1;
    s.started = false;
    round_trip();
}

static int pick_fd(u8 kind)
{
    return kind % 4 == 0 ? s.memory : kind % 4 == 1 ? s.event : kind % 4 == 2 ? 0 : s.fd;
}

static void send_msg(struct vhost_user_msg *m)
{
    connect_front();
    vhost_user_send(s.fd, m);
    round_trip();
}

static void op_raw(struct fuzz_input *in)
{
    u8 bytes[64];
    u8 n = fuzz_u8(in) % sizeof(bytes);

    fuzz_bytes(in, bytes, n);
    connect_front();
    if (n && send(s.fd, bytes, n, MSG_NOSIGNAL) < 0)
        hang_up();
    round_trip();
}

static void op_message(struct fuzz_input *in)
{
    static const u8 sizes[] = {0, 8, 40, 24, 12, 16, 72, 4};
    struct vhost_user_msg m = {.hdr = {.request = fuzz_u8(in) % (VHOST_USER_NR_REQUESTS + 1)}};
    u8 shape = fuzz_u8(in), k;

    m.hdr.flags = VHOST_USER_VERSION | (shape & 0x80 ? VHOST_USER_NEED_REPLY : 0);
    m.hdr.size = sizes[shape & 7];
    m.nr_fds = (shape >> 3) % 4;
    k = fuzz_u8(in);
    for (unsigned i = 0; i < m.nr_fds; i++) {
        m.fds[i] = pick_fd(k >> (2 * i));
        if (m.fds[i] < 0)
            m.fds[i] = s.event;
    }
    fuzz_bytes(in, m.payload.bytes, m.hdr.size);
    send_msg(&m);
}

static void number(u32 request, u64 n, int fd)
{
    struct vhost_user_msg m = {.hdr = {.request = request, .flags = VHOST_USER_VERSION, .size = 8}};

    m.payload.number = n;
    m.nr_fds = fd >= 0;
    m.fds[0] = fd;
    send_msg(&m);
}

static void state_msg(u32 request, u32 index, u32 num)
{
    number(request, index | (u64)num << 32, -1);
}

static void start_queue(unsigned i, u64 features, u16 size)
{
    struct virtq_driver_config c = {.size = size,
                                    .packed = features & BIT(VIRTIO_F_RING_PACKED),
                                    .event_idx = features & BIT(VIRTIO_RING_F_EVENT_IDX),
                                    .indirect = features & BIT(VIRTIO_RING_F_INDIRECT_DESC),
                                    .in_order = features & BIT(VIRTIO_F_IN_ORDER)};
    struct vhost_user_msg m = {.hdr = {.request = VHOST_USER_SET_VRING_ADDR,
                                       .flags = VHOST_USER_VERSION,
                                       .size = sizeof(m.payload.addr)}};

    c.memory = s.ram + i * 0x8000;
    c.gpa = GPA + i * 0x8000;
    must(!virtq_driver_init(&s.q[i], &c));
    state_msg(VHOST_USER_SET_VRING_NUM, i, size);
    state_msg(VHOST_USER_SET_VRING_BASE, i, c.packed ? 0x80008000 : 0);
    m.payload.addr = (struct vhost_user_vring_addr){
        .index = i, .desc = s.q[i].desc, .used = s.q[i].used, .avail = s.q[i].avail};
    send_msg(&m);
    number(VHOST_USER_SET_VRING_CALL, i, s.event);
    number(VHOST_USER_SET_VRING_KICK, i, s.event);
    state_msg(VHOST_USER_SET_VRING_ENABLE, i, 1);
}

/* A front end that does everything right. */
static void start(u8 bits, u16 size)
{
    u64 features = BIT(VIRTIO_F_VERSION_1) | BIT(VHOST_USER_F_PROTOCOL_FEATURES) | (bits & 7) |
                   (u64)(bits >> 3 & 3) << VIRTIO_RING_F_INDIRECT_DESC |
                   (u64)(bits >> 5 & 3) << VIRTIO_F_RING_PACKED;
    struct vhost_user_msg m = {.hdr = {.request = VHOST_USER_SET_MEM_TABLE,
                                       .flags = VHOST_USER_VERSION,
                                       .size = 8 + sizeof(struct vhost_user_region)}};

    hang_up();
    memset(s.ram, 0, MEMORY);
    number(VHOST_USER_SET_FEATURES, features, -1);
    m.payload.table.nr = 1;
    m.payload.table.regions[0] =
        (struct vhost_user_region){.gpa = GPA, .size = MEMORY, .address = GPA};
    m.nr_fds = 1;
    m.fds[0] = s.memory;
    send_msg(&m);
    for (unsigned i = 0; i < 2u + (bits >> 7); i++)
        start_queue(i, features, size);
    s.started = true;
}

static void kick(void)
{
    (void)eventfd_write(s.event, 1);
    round_trip();
}

static void add(unsigned q, u32 off, u32 len, bool in, unsigned pieces)
{
    struct virtq_seg segs[4];
    unsigned n = 0;

    while (n + 1 < pieces && len > 20) {
        segs[n++] = (struct virtq_seg){GPA + off, 20};
        off += 20;
        len -= 20;
    }
    segs[n++] = (struct virtq_seg){GPA + off, len};
    virtq_driver_add(&s.q[q], segs, in ? 0 : n, in ? n : 0, &s);
}

static void collect(unsigned q)
{
    void *token;
    u32 len;

    while (virtq_driver_used(&s.q[q], &token, &len) > 0)
        ;
}

static void packet(const struct vsock_hdr *h, unsigned pieces)
{
    u8 wire[VSOCK_HDR_SIZE];

    vsock_hdr_encode(wire, h);
    memcpy(s.ram + DATA, wire, sizeof(wire));
    add(1, DATA, sizeof(wire) + h->len % 8192, false, pieces);
    kick();
    collect(1);
}

static void op_packet(struct fuzz_input *in)
{
    struct vsock_hdr h = {.src_cid = GUEST, .dst_cid = 2, .buf_alloc = 65536};
    u8 shape = fuzz_u8(in);

    h.op = fuzz_u8(in) % 11;
    h.type = 1 + (shape & 1);
    h.dst_port = PORT + (shape & 1);
    h.src_port = fuzz_u8(in) % 8;
    h.flags = fuzz_u8(in) & 3;
    h.len = shape & 2 ? fuzz_u16(in) : 0;
    if (shape & 4)
        h.fwd_cnt = fuzz_u32(in);
    if (shape & 8)
        h.buf_alloc = fuzz_u32(in);
    if (shape & 16)
        h.dst_port = fuzz_u32(in);
    if (s.started)
        packet(&h, 1 + (shape >> 5) % 4);
}

static void op_post(struct fuzz_input *in)
{
    u8 n = fuzz_u8(in) % 8, pieces = 1 + fuzz_u8(in) % 4;
    u16 len = fuzz_u16(in) % 0x4000;

    if (!s.started)
        return;
    while (n--)
        add(0, DATA + 0x8000, len + 1u, true, pieces);
    kick();
    collect(0);
}

static void op_poke(struct fuzz_input *in)
{
    u32 at = fuzz_u32(in) % (MEMORY - 256);

    fuzz_bytes(in, s.ram + at, fuzz_u8(in));
    if (s.started)
        kick();
}

static void accept_all(void)
{
    for (unsigned i = 0; i < NR_SOCKS; i++) {
        if (!s.socks[i] && !uvirt_vsock_accept(s.listeners[i & 1], true, &s.socks[i]))
            s.arrived++;
    }
}

static void op_host(struct fuzz_input *in)
{
    static u8 buf[9000];
    u8 what = fuzz_u8(in);
    struct uvirt_vsock_socket **p = &s.socks[what % NR_SOCKS];
    struct iovec v = {buf, fuzz_u16(in) % sizeof(buf)};
    int flags = MSG_DONTWAIT;

    accept_all();
    if (*p && what & 0x40)
        uvirt_vsock_send(*p, &v, 1, flags);
    else if (*p && what & 0x80)
        uvirt_vsock_recv(*p, &v, 1, &flags);
    else if (*p && !uvirt_vsock_close(*p))
        *p = NULL;
    round_trip();
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    must(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void run_pump(void *opaque)
{
    if (s.b)
        vhost_backend_run(s.b);
}

static void set_up(void)
{
    struct uvirt_vsock_config config = {.size = sizeof(config), .cid = 2};
    struct virtio_vsock_options o = {.guest_cid = GUEST, .flush = run_pump};
    struct vhost_backend_config c = {.pump = virtio_vsock_pump, .mem_slots = true};

    s.memory = memfd_create("guest", MFD_CLOEXEC);
    s.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(s.memory >= 0 && s.event >= 0 && !ftruncate(s.memory, MEMORY));
    s.ram = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, s.memory, 0);
    must(s.ram != MAP_FAILED && !uvirt_vsock_create(&config, &s.host) &&
         !virtio_vsock_create(s.host, &o, &c.dev) && !vhost_backend_create(&c, &s.b));
    for (unsigned i = 0; i < 2; i++) {
        struct sockaddr_vm a = {
            .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT + i};

        must(!uvirt_vsock_socket(s.host, i ? SOCK_SEQPACKET : SOCK_STREAM, &s.listeners[i]) &&
             !uvirt_vsock_bind(s.listeners[i], &a, sizeof(a)) &&
             !uvirt_vsock_listen(s.listeners[i], 4));
    }
    s.fd = -1;
}

/* Nobody is left on the host's side. */
static void close_all(void)
{
    accept_all();
    for (unsigned i = 0; i < NR_SOCKS; i++) {
        if (s.socks[i])
            uvirt_vsock_close(s.socks[i]);
        s.socks[i] = NULL;
    }
}

static void step(struct fuzz_input *in)
{
    u8 bits;

    switch ((enum op)(fuzz_u8(in) % OP_COUNT)) {
    case OP_RAW:
        op_raw(in);
        break;
    case OP_MESSAGE:
        op_message(in);
        break;
    case OP_START:
        bits = fuzz_u8(in);
        start(bits, 1 << fuzz_u8(in) % 7);
        break;
    case OP_POKE:
        op_poke(in);
        break;
    case OP_PACKET:
        op_packet(in);
        break;
    case OP_POST:
        op_post(in);
        break;
    case OP_KICK:
        kick();
        break;
    case OP_HOST:
        op_host(in);
        break;
    default:
        hang_up();
        break;
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    const struct vsock_hdr request = {.src_cid = GUEST,
                                      .dst_cid = 2,
                                      .src_port = 99,
                                      .dst_port = PORT,
                                      .type = VIRTIO_VSOCK_TYPE_STREAM,
                                      .op = VIRTIO_VSOCK_OP_REQUEST,
                                      .buf_alloc = 65536};
    struct fuzz_input in = {data, size};
    unsigned before;
    u64 arrived;

    if (!s.b)
        set_up();
    before = open_fds();
    for (unsigned i = 0; i < OPS_MAX && in.size; i++)
        step(&in);
    hang_up();
    must(open_fds() == before);
    for (int i = 0; i < 4; i++)
        close_all();
    arrived = s.arrived;
    start(0, 16);
    packet(&request, 1);
    accept_all();
    must(s.arrived == arrived + 1);
    close_all();
    hang_up();
    return 0;
}
