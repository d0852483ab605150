// SPDX-License-Identifier: MIT
// The ioctls of /dev/vhost-vsock: a table, and a thread that waits for kicks as the kernel's would.

/*
 * The turn's lock protects everything here and is the device lock. Rings 0 and 1 are the
 * device's rx and tx; the event queue is the VMM's own. The device is made when its CID is
 * known. Descriptors are duplicated, as the kernel takes references to files.
 */
#include "vhost/kernel.h"
#include "vhost/memory.h"
#include "virtio/turn.h"
#include "virtio/vsock.h"
#include "vsock/transport/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define NR_RINGS 2
#define FEATURES                                                                                   \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |   \
     BIT(VIRTIO_VSOCK_F_SEQPACKET))

struct ring {
    int kick, call, err; /* -1: none */
    u32 num, base;
    struct vhost_vring_addr addr;
    bool addr_set;
};

struct vhost_vsock {
    char *dir;
    struct virtio_turn turn;
    struct uvirt_vsock *host;
    struct vsock_unix *bridge;
    struct virtio_device *dev; /* NULL: no CID yet */
    struct vhost_regions regions;
    u64 features;
    bool owner, running;
    struct ring rings[NR_RINGS];

    int wake; /* the thread is to look at the descriptors again, or (stop) */
    bool stop, has_thread;
    pthread_t thread;
};

/* --- the device --- */

static void signal_queue(struct virtio_device *d, unsigned q)
{
    struct vhost_vsock *v = d->transport;

    if (q < NR_RINGS && v->rings[q].call >= 0)
        (void)eventfd_write(v->rings[q].call, 1);
}

static void signal_config(struct virtio_device *d, u32 cause)
{
    struct vhost_vsock *v = d->transport;

    for (unsigned i = 0; i < NR_RINGS; i++) {
        if (v->rings[i].err >= 0)
            (void)eventfd_write(v->rings[i].err, 1);
    }
}

static void work(void *opaque)
{
    struct vhost_vsock *v = opaque;

    if (v->running)
        virtio_vsock_pump(v->dev);
}

static void flush(void *opaque)
{
    virtio_turn_run(&((struct vhost_vsock *)opaque)->turn);
}

static void drop_device(struct vhost_vsock *v)
{
    vsock_unix_stop(v->bridge);
    virtio_device_free(v->dev);
    vsock_unix_free(v->bridge);
    v->bridge = NULL;
    v->dev = NULL;
}

static int make_device(struct vhost_vsock *v, u64 cid)
{
    struct vsock_unix_config bridge = {.guest_cid = (u32)cid, .path = v->dir};
    struct virtio_vsock_options o = {.guest_cid = cid, .flush = flush, .opaque = v};
    char why[VSOCK_UNIX_WHY];
    int rc;

    drop_device(v);
    rc = vsock_unix_create(v->host, &bridge, why, &v->bridge);
    if (rc)
        return rc;
    rc = virtio_vsock_create(v->host, &o, &v->dev);
    if (rc) {
        drop_device(v);
        return rc;
    }
    v->dev->transport = v;
    v->dev->signal = signal_config;
    v->dev->signal_queue = signal_queue;
    virtio_device_attach(v->dev, v->regions.mem);
    return 0;
}

/* --- kicks --- */

static void *thread_main(void *arg)
{
    struct vhost_vsock *v = arg;
    struct pollfd p[NR_RINGS + 1];
    eventfd_t count;

    for (;;) {
        pthread_mutex_lock(&v->turn.lock);
        for (unsigned i = 0; i < NR_RINGS; i++)
            p[i] = (struct pollfd){.fd = v->running ? v->rings[i].kick : -1, .events = POLLIN};
        p[NR_RINGS] = (struct pollfd){.fd = v->wake, .events = POLLIN};
        if (v->stop)
            break;
        pthread_mutex_unlock(&v->turn.lock);
        if (poll(p, ARRAY_SIZE(p), -1) < 0)
            continue;
        if (p[NR_RINGS].revents)
            (void)eventfd_read(v->wake, &count);
        pthread_mutex_lock(&v->turn.lock);
        for (unsigned i = 0; i < NR_RINGS; i++) {
            if (p[i].revents && v->rings[i].kick == p[i].fd)
                (void)eventfd_read(v->rings[i].kick, &count);
        }
        pthread_mutex_unlock(&v->turn.lock);
        virtio_turn_run(&v->turn);
    }
    pthread_mutex_unlock(&v->turn.lock);
    return NULL;
}

/* A thread of ours in somebody else's program: its signals are not for us. */
static int start_thread(struct vhost_vsock *v)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = -pthread_create(&v->thread, NULL, thread_main, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    v->has_thread = !rc;
    return rc;
}

/* --- running --- */

static void stop_rings(struct vhost_vsock *v)
{
    for (unsigned i = 0; i < NR_RINGS && v->running; i++) {
        v->rings[i].base = virtq_base(&v->dev->queues[i]);
        v->dev->queues[i].ready = false;
    }
    v->running = false;
}

static int start_ring(struct vhost_vsock *v, unsigned i)
{
    struct ring *r = &v->rings[i];
    struct virtq *q = &v->dev->queues[i];

    if (!r->addr_set || !r->num ||
        vhost_memory_gpa(&v->regions, r->addr.desc_user_addr, &q->desc) ||
        vhost_memory_gpa(&v->regions, r->addr.avail_user_addr, &q->avail) ||
        vhost_memory_gpa(&v->regions, r->addr.used_user_addr, &q->used))
        return -EFAULT;
    q->size = r->num;
    return virtq_resume(q, r->base) ? -EFAULT : 0;
}

static int start_rings(struct vhost_vsock *v)
{
    struct virtio_device *d = v->dev;
    int rc = 0;

    if (!d)
        return -EFAULT;
    if (!(v->rings[0].base | v->rings[1].base) || !virtio_device_live(d)) {
        /* A driver that begins anew. */
        virtio_device_set_status(d, 0);
        virtio_device_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
        d->acked = v->features | BIT(VIRTIO_F_VERSION_1);
        virtio_device_set_status(d, d->status | VIRTIO_CONFIG_S_FEATURES_OK);
        virtio_device_set_status(d, d->status | VIRTIO_CONFIG_S_DRIVER_OK);
    }
    for (unsigned i = 0; i < NR_RINGS && !rc; i++)
        rc = start_ring(v, i);
    v->running = !rc;
    for (unsigned i = 0; i < NR_RINGS && rc; i++)
        d->queues[i].ready = false;
    return rc;
}

/* --- the ioctls; arguments are copied before --- */

union argument {
    u64 number;
    int flag;
    struct vhost_vring_state state;
    struct vhost_vring_addr addr;
    struct vhost_vring_file file;
};

#define HANDLER(name) static long name(struct vhost_vsock *v, union argument *a, unsigned long arg)

HANDLER(set_owner)
{
    if (v->owner)
        return -EBUSY;
    v->owner = true;
    return 0;
}

HANDLER(get_features)
{
    a->number = FEATURES;
    return 0;
}

HANDLER(set_features)
{
    if (a->number & ~FEATURES)
        return -EOPNOTSUPP;
    v->features = a->number;
    return 0;
}

HANDLER(get_backend_features)
{
    a->number = 0;
    return 0;
}

HANDLER(set_backend_features)
{
    return a->number ? -EOPNOTSUPP : 0;
}

/* Read the program's memory as the kernel does: a bad pointer is an error. */
static int copy_user(void *own, unsigned long user, size_t size, bool in)
{
    struct iovec l = {own, size}, r = {(void *)user, size};
    ssize_t n = in ? process_vm_readv(getpid(), &l, 1, &r, 1, 0)
                   : process_vm_writev(getpid(), &l, 1, &r, 1, 0);

    return n == (ssize_t)size ? 0 : -EFAULT;
}

HANDLER(set_mem_table)
{
    struct vhost_memory head;
    struct vhost_memory_region regions[VHOST_USER_SLOTS_MAX];
    int rc = copy_user(&head, arg, sizeof(head), true);

    if (rc)
        return rc;
    if (head.padding)
        return -EOPNOTSUPP;
    if (head.nregions > VHOST_USER_SLOTS_MAX)
        return -E2BIG;
    rc = copy_user(regions, arg + sizeof(head), head.nregions * sizeof(regions[0]), true);
    if (rc && head.nregions)
        return rc;
    vhost_memory_clear(&v->regions);
    rc = 0;
    for (u32 i = 0; i < head.nregions && !rc; i++) {
        struct vhost_user_region r = {.gpa = regions[i].guest_phys_addr,
                                      .size = regions[i].memory_size,
                                      .address = regions[i].userspace_addr};

        rc = vhost_memory_add_own(&v->regions, &r);
    }
    return rc;
}

HANDLER(set_vring_num)
{
    u32 n = a->state.num;

    if (v->running)
        return -EBUSY;
    if (!n || n > VIRTQ_SIZE_MAX || (n & (n - 1)))
        return -EINVAL;
    v->rings[a->state.index].num = n;
    return 0;
}

HANDLER(set_vring_base)
{
    if (v->running)
        return -EBUSY;
    if (a->state.num > UINT16_MAX)
        return -EINVAL;
    v->rings[a->state.index].base = a->state.num;
    return 0;
}

HANDLER(get_vring_base)
{
    a->state.num =
        v->running ? virtq_base(&v->dev->queues[a->state.index]) : v->rings[a->state.index].base;
    return 0;
}

HANDLER(set_vring_addr)
{
    if (a->addr.flags & ~BIT(VHOST_VRING_F_LOG))
        return -EOPNOTSUPP;
    if (!IS_ALIGNED(a->addr.desc_user_addr, 16) || !IS_ALIGNED(a->addr.avail_user_addr, 2) ||
        !IS_ALIGNED(a->addr.used_user_addr, 4))
        return -EINVAL;
    v->rings[a->addr.index].addr = a->addr;
    v->rings[a->addr.index].addr_set = true;
    return 0;
}

/* Put a duplicate of the program's descriptor, -1 for none, at (at). */
static long set_fd(struct vhost_vsock *v, int *at, int fd)
{
    int copy = -1;

    if (fd != VHOST_FILE_UNBIND) {
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (copy < 0)
            return -EBADF;
    }
    if (*at >= 0)
        close(*at);
    *at = copy;
    (void)eventfd_write(v->wake, 1);
    return 0;
}

HANDLER(set_vring_kick)
{
    return set_fd(v, &v->rings[a->file.index].kick, a->file.fd);
}

HANDLER(set_vring_call)
{
    return set_fd(v, &v->rings[a->file.index].call, a->file.fd);
}

HANDLER(set_vring_err)
{
    return set_fd(v, &v->rings[a->file.index].err, a->file.fd);
}

HANDLER(set_guest_cid)
{
    if (a->number <= VMADDR_CID_HOST || a->number >= VMADDR_CID_ANY)
        return -EINVAL;
    if (v->running)
        return -EBUSY;
    return make_device(v, a->number);
}

HANDLER(set_running)
{
    int rc = 0;

    if (a->flag && !v->running) {
        if (!v->has_thread)
            rc = start_thread(v);
        if (!rc)
            rc = start_rings(v);
    } else if (!a->flag) {
        stop_rings(v);
    }
    (void)eventfd_write(v->wake, 1);
    return rc;
}

static const struct rule {
    u32 request;
    bool owner, ring; /* needs an owner; the argument begins with a ring's index */
    long (*handle)(struct vhost_vsock *v, union argument *a, unsigned long arg);
} rules[] = {
    {VHOST_SET_OWNER, false, false, set_owner},
    {VHOST_GET_FEATURES, false, false, get_features},
    {VHOST_SET_FEATURES, false, false, set_features},
    {VHOST_GET_BACKEND_FEATURES, false, false, get_backend_features},
    {VHOST_SET_BACKEND_FEATURES, false, false, set_backend_features},
    {VHOST_SET_MEM_TABLE, true, false, set_mem_table},
    {VHOST_SET_VRING_NUM, true, true, set_vring_num},
    {VHOST_SET_VRING_BASE, true, true, set_vring_base},
    {VHOST_GET_VRING_BASE, true, true, get_vring_base},
    {VHOST_SET_VRING_ADDR, true, true, set_vring_addr},
    {VHOST_SET_VRING_KICK, true, true, set_vring_kick},
    {VHOST_SET_VRING_CALL, true, true, set_vring_call},
    {VHOST_SET_VRING_ERR, true, true, set_vring_err},
    {VHOST_VSOCK_SET_GUEST_CID, false, false, set_guest_cid},
    {VHOST_VSOCK_SET_RUNNING, true, false, set_running},
};

static long run_rule(struct vhost_vsock *v, const struct rule *r, unsigned long arg)
{
    union argument a = {0};
    size_t size = r->handle == set_mem_table ? 0 : _IOC_SIZE(r->request);
    long rc = 0;

    if (r->owner && !v->owner)
        return -EPERM;
    if (size && _IOC_DIR(r->request) & _IOC_WRITE)
        rc = copy_user(&a, arg, size, true);
    if (!rc && r->ring && a.state.index >= NR_RINGS)
        rc = -ENOBUFS;
    if (!rc)
        rc = r->handle(v, &a, arg);
    if (!rc && size && _IOC_DIR(r->request) & _IOC_READ)
        rc = copy_user(&a, arg, size, false);
    return rc;
}

long vhost_vsock_ioctl(struct vhost_vsock *v, u32 request, unsigned long arg)
{
    long rc = -ENOTTY;

    pthread_mutex_lock(&v->turn.lock);
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        if (rules[i].request == request)
            rc = run_rule(v, &rules[i], arg);
    }
    pthread_mutex_unlock(&v->turn.lock);
    virtio_turn_run(&v->turn);
    return rc;
}

int vhost_vsock_create(const char *dir, struct vhost_vsock **ret)
{
    struct uvirt_vsock_config config = {
        .size = sizeof(config), .cid = VMADDR_CID_HOST, .privileged = true};
    struct vhost_vsock *v = calloc(1, sizeof(*v));
    int rc = -ENOMEM;

    if (!v)
        return rc;
    virtio_turn_init(&v->turn, work, v);
    for (unsigned i = 0; i < NR_RINGS; i++)
        v->rings[i] = (struct ring){.kick = -1, .call = -1, .err = -1};
    v->dir = dir ? strdup(dir) : NULL;
    if (dir && !v->dir)
        goto err_free;
    v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (v->wake < 0) {
        rc = -errno;
        goto err_free;
    }
    rc = vhost_memory_init(&v->regions);
    if (rc)
        goto err_wake;
    if (uvirt_vsock_create(&config, &v->host)) {
        rc = -errno;
        goto err_regions;
    }
    *ret = v;
    return 0;

err_regions:
    vhost_memory_fini(&v->regions);
err_wake:
    close(v->wake);
err_free:
    virtio_turn_fini(&v->turn);
    free(v->dir);
    free(v);
    return rc;
}

void vhost_vsock_free(struct vhost_vsock *v)
{
    if (!v)
        return;
    pthread_mutex_lock(&v->turn.lock);
    v->stop = true;
    if (v->dev)
        stop_rings(v);
    pthread_mutex_unlock(&v->turn.lock);
    (void)eventfd_write(v->wake, 1);
    if (v->has_thread)
        pthread_join(v->thread, NULL);
    drop_device(v);
    for (unsigned i = 0; i < NR_RINGS; i++) {
        set_fd(v, &v->rings[i].kick, VHOST_FILE_UNBIND);
        set_fd(v, &v->rings[i].call, VHOST_FILE_UNBIND);
        set_fd(v, &v->rings[i].err, VHOST_FILE_UNBIND);
    }
    vhost_memory_fini(&v->regions);
    uvirt_vsock_free(v->host);
    close(v->wake);
    virtio_turn_fini(&v->turn);
    free(v->dir);
    free(v);
}
