// SPDX-License-Identifier: MIT
// The front end's half of vhost-user as a bus for the vsock driver, and its thread.

/*
 * The turn's lock protects the driver and the socket: requests are made by whoever holds it,
 * which is create() and then the thread, on its way up again; only they close the socket. Kicks go straight to eventfds.
 */
#include "vhost/frontend.h"
#include "vhost/user.h"
#include "virtio/turn.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS    5000
#define RETRY_MS     100
#define PACKED_BEGIN 0x80008000u

struct vhost_frontend {
    struct vsock_bus bus;
    struct virtio_turn turn;
    struct virtio_vsock_driver *driver;
    struct sockaddr_un path;
    int fd; /* -1: not connected */
    int kick[VSOCK_DRIVER_QUEUES], call[VSOCK_DRIVER_QUEUES];
    u64 address; /* of our memory, as the back end is told */
    u64 protocol_features;
    bool packed;
    _Atomic unsigned generation;
    int stop; /* eventfd */
    pthread_t thread;
};

static struct vhost_frontend *of(struct vsock_bus *b)
{
    return container_of(b, struct vhost_frontend, bus);
}

/* Wait for the answer to (request) and put it in (ret). */
static int wait_answer(struct vhost_frontend *f, u32 request, struct vhost_user_msg *ret)
{
    struct vhost_user_rx rx = {0};
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    int rc;

    while (!(rc = vhost_user_recv(f->fd, &rx))) {
        rc = poll(&p, 1, ANSWER_MS);
        if (rc == 0 || (rc < 0 && errno != EINTR)) {
            rc = rc ? -errno : -ETIMEDOUT;
            break;
        }
    }
    if (rc > 0)
        rc = rx.msg.hdr.request == request && rx.msg.hdr.flags & VHOST_USER_REPLY ? 0 : -EPROTO;
    if (!rc)
        *ret = rx.msg;
    vhost_user_done(&rx);
    return rc;
}

/*
 * Send (m) and, if it has one or REPLY_ACK gives it one, wait for its answer, which replaces
 * it. 0 or -errno; -EPROTO if the back end refuses.
 */
static int ask(struct vhost_frontend *f, struct vhost_user_msg *m, bool has_answer)
{
    bool ack = !has_answer && f->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    u32 request = m->hdr.request;
    int rc;

    m->hdr.flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
    rc = vhost_user_send(f->fd, m);
    m->nr_fds = 0;
    if (rc || !(has_answer || ack))
        return rc;
    rc = wait_answer(f, request, m);
    if (!rc && ack)
        rc = m->hdr.size == sizeof(u64) && !m->payload.number ? 0 : -EPROTO;
    return rc;
}

static int get_number(struct vhost_frontend *f, u32 request, u64 *ret)
{
    struct vhost_user_msg m = {.hdr.request = request};
    int rc = ask(f, &m, true);

    if (!rc && m.hdr.size != sizeof(u64))
        rc = -EPROTO;
    if (!rc)
        *ret = m.payload.number;
    return rc;
}

static int set_number(struct vhost_frontend *f, u32 request, u64 number, int fd)
{
    struct vhost_user_msg m = {.hdr = {.request = request, .size = sizeof(u64)}};

    m.payload.number = number;
    m.nr_fds = fd >= 0;
    m.fds[0] = fd;
    return ask(f, &m, false);
}

static int set_state(struct vhost_frontend *f, u32 request, u32 index, u32 num)
{
    struct vhost_user_msg m = {
        .hdr = {.request = request, .size = sizeof(struct vhost_user_vring_state)}};

    m.payload.state = (struct vhost_user_vring_state){index, num};
    return ask(f, &m, request == VHOST_USER_GET_VRING_BASE);
}

static int dial(struct vhost_frontend *f)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&f->path, sizeof(f->path))) {
        rc = -errno;
        close(fd);
        return rc;
    }
    f->fd = fd;
    f->protocol_features = 0;
    return 0;
}

static void hang_up(struct vhost_frontend *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static int fe_open(struct vsock_bus *b, u64 *ret_features)
{
    const u64 wanted = BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_CONFIG);
    struct vhost_user_msg owner = {.hdr.request = VHOST_USER_SET_OWNER};
    struct vhost_frontend *f = of(b);
    u64 features, protocol;
    int rc;

    hang_up(f); /* a new connection finds a device as after power-on */
    rc = dial(f);
    if (!rc)
        rc = get_number(f, VHOST_USER_GET_FEATURES, &features);
    if (!rc && !(features & BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
        rc = -EPROTO; /* without them there is no configuration space */
    if (!rc)
        rc = get_number(f, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol);
    if (!rc && (protocol & wanted) != wanted)
        rc = -EPROTO;
    if (!rc)
        rc = set_number(f, VHOST_USER_SET_PROTOCOL_FEATURES, wanted, -1);
    if (!rc) {
        f->protocol_features = wanted;
        rc = ask(f, &owner, false);
    }
    if (!rc)
        *ret_features = features & ~BIT(VHOST_USER_F_PROTOCOL_FEATURES);
    return rc;
}

static int fe_setup(struct vsock_bus *b, u64 features, int fd, u8 *hva, gpa_t gpa, u64 size)
{
    struct vhost_user_msg m = {.hdr = {.request = VHOST_USER_SET_MEM_TABLE}, .nr_fds = 1};
    struct vhost_frontend *f = of(b);
    int rc =
        set_number(f, VHOST_USER_SET_FEATURES, features | BIT(VHOST_USER_F_PROTOCOL_FEATURES), -1);

    if (rc)
        return rc;
    f->packed = features & BIT(VIRTIO_F_RING_PACKED);
    f->address = (uintptr_t)hva - gpa;
    m.hdr.size = offsetof(struct vhost_user_table, regions) + sizeof(struct vhost_user_region);
    m.payload.table.nr = 1;
    m.payload.table.regions[0] =
        (struct vhost_user_region){.gpa = gpa, .size = size, .address = (uintptr_t)hva};
    m.fds[0] = fd;
    return ask(f, &m, false);
}

static int fe_guest_cid(struct vsock_bus *b, u64 *ret_cid)
{
    struct vhost_user_msg m = {.hdr = {.request = VHOST_USER_GET_CONFIG}};
    struct virtio_vsock_config c;
    const u32 size = offsetof(struct vhost_user_config, bytes) + sizeof(c);
    int rc;

    m.hdr.size = size;
    m.payload.config.size = sizeof(c);
    rc = ask(of(b), &m, true);
    if (rc || m.hdr.size != size)
        return rc ? rc : -EPROTO;
    memcpy(&c, m.payload.config.bytes, sizeof(c));
    *ret_cid = le64toh(c.guest_cid);
    return 0;
}

static int fe_queue(struct vsock_bus *b, unsigned i, const struct virtq_driver *q)
{
    struct vhost_user_msg m = {.hdr = {.request = VHOST_USER_SET_VRING_ADDR,
                                       .size = sizeof(struct vhost_user_vring_addr)}};
    struct vhost_frontend *f = of(b);
    int rc = set_state(f, VHOST_USER_SET_VRING_NUM, i, q->config.size);

    if (!rc)
        rc = set_state(f, VHOST_USER_SET_VRING_BASE, i, f->packed ? PACKED_BEGIN : 0);
    m.payload.addr = (struct vhost_user_vring_addr){
        .index = i,
        .desc = q->desc + f->address,
        .used = q->used + f->address,
        .avail = q->avail + f->address,
    };
    if (!rc)
        rc = ask(f, &m, false);
    if (!rc)
        rc = set_number(f, VHOST_USER_SET_VRING_CALL, i, f->call[i]);
    if (!rc)
        rc = set_number(f, VHOST_USER_SET_VRING_KICK, i, f->kick[i]);
    return rc;
}

static int fe_start(struct vsock_bus *b)
{
    int rc = 0;

    for (unsigned i = 0; i < VSOCK_DRIVER_QUEUES && !rc; i++)
        rc = set_state(of(b), VHOST_USER_SET_VRING_ENABLE, i, 1);
    return rc;
}

static void fe_kick(struct vsock_bus *b, unsigned i)
{
    (void)eventfd_write(of(b)->kick[i], 1); /* fails only when it is readable already */
}

static const struct vsock_bus_ops fe_ops = {
    .open = fe_open,
    .setup = fe_setup,
    .guest_cid = fe_guest_cid,
    .queue = fe_queue,
    .start = fe_start,
    .kick = fe_kick,
};

static void work(void *opaque)
{
    struct vhost_frontend *f = opaque;

    if (f->driver && virtio_vsock_driver_pump(f->driver) < 0)
        (void)shutdown(f->fd, SHUT_RDWR); /* the thread sees it and begins anew */
}

static void flush(void *opaque)
{
    virtio_turn_run(&((struct vhost_frontend *)opaque)->turn);
}

/* The back end has gone: try to get it back. */
static void restart(struct vhost_frontend *f)
{
    pthread_mutex_lock(&f->turn.lock);
    if (virtio_vsock_driver_restart(f->driver))
        hang_up(f);
    else
        f->generation++;
    pthread_mutex_unlock(&f->turn.lock);
    virtio_turn_run(&f->turn);
}

/* Wait for interrupts, the back end's end, or (stop): false. */
static bool wait_events(struct vhost_frontend *f)
{
    struct pollfd p[VSOCK_DRIVER_QUEUES + 2];
    u64 count;

    for (unsigned i = 0; i < VSOCK_DRIVER_QUEUES; i++)
        p[i] = (struct pollfd){.fd = f->call[i], .events = POLLIN};
    p[VSOCK_DRIVER_QUEUES] = (struct pollfd){.fd = f->fd, .events = POLLIN};
    p[VSOCK_DRIVER_QUEUES + 1] = (struct pollfd){.fd = f->stop, .events = POLLIN};
    if (poll(p, ARRAY_SIZE(p), f->fd < 0 ? RETRY_MS : -1) < 0)
        return true;
    for (unsigned i = 0; i < VSOCK_DRIVER_QUEUES; i++) {
        if (p[i].revents && read(f->call[i], &count, sizeof(count)) < 0)
            continue;
    }
    if (p[VSOCK_DRIVER_QUEUES].revents) {
        /* Nothing is asked for now, so whatever this is ends the connection. */
        pthread_mutex_lock(&f->turn.lock);
        hang_up(f);
        pthread_mutex_unlock(&f->turn.lock);
    }
    return !p[VSOCK_DRIVER_QUEUES + 1].revents;
}

static void *thread_main(void *arg)
{
    struct vhost_frontend *f = arg;

    while (wait_events(f)) {
        if (f->fd < 0)
            restart(f);
        else
            virtio_turn_run(&f->turn);
    }
    return NULL;
}

static void close_fds(struct vhost_frontend *f)
{
    hang_up(f);
    for (unsigned i = 0; i < VSOCK_DRIVER_QUEUES; i++) {
        if (f->kick[i] >= 0)
            close(f->kick[i]);
        if (f->call[i] >= 0)
            close(f->call[i]);
    }
    if (f->stop >= 0)
        close(f->stop);
}

static int open_fds(struct vhost_frontend *f)
{
    int rc = 0;

    f->fd = -1;
    f->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < VSOCK_DRIVER_QUEUES; i++) {
        f->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (f->kick[i] < 0 || f->call[i] < 0)
            rc = -EMFILE;
    }
    if (f->stop < 0)
        rc = -EMFILE;
    if (rc)
        close_fds(f);
    return rc;
}

int vhost_frontend_create(struct uvirt_vsock *guest, const char *path,
                          const struct vsock_driver_options *options, struct vhost_frontend **ret)
{
    struct vsock_driver_options o = *options;
    struct vhost_frontend *f;
    int rc;

    if (strlen(path) >= sizeof(f->path.sun_path))
        return -ENAMETOOLONG;
    f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->bus.ops = &fe_ops;
    f->path.sun_family = AF_UNIX;
    strcpy(f->path.sun_path, path);
    virtio_turn_init(&f->turn, work, f);
    rc = open_fds(f);
    if (rc)
        goto err_turn;
    o.flush = flush;
    o.opaque = f;
    pthread_mutex_lock(&f->turn.lock);
    rc = virtio_vsock_driver_create(guest, &f->bus, &o, &f->driver);
    pthread_mutex_unlock(&f->turn.lock);
    if (rc)
        goto err_fds;
    virtio_turn_run(&f->turn);
    f->generation = 1;
    rc = -pthread_create(&f->thread, NULL, thread_main, f);
    if (rc)
        goto err_driver;
    *ret = f;
    return 0;

err_driver:
    virtio_vsock_driver_free(f->driver);
err_fds:
    close_fds(f);
err_turn:
    virtio_turn_fini(&f->turn);
    free(f);
    return rc;
}

void vhost_frontend_free(struct vhost_frontend *f)
{
    if (!f)
        return;
    (void)eventfd_write(f->stop, 1); /* a fresh one takes it */
    pthread_join(f->thread, NULL);
    virtio_vsock_driver_free(f->driver);
    close_fds(f);
    virtio_turn_fini(&f->turn);
    free(f);
}

unsigned vhost_frontend_generation(struct vhost_frontend *f)
{
    return f->generation;
}
