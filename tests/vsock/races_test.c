// SPDX-License-Identifier: MIT
// Races that kernels lost: sockets in use from several threads while their device comes and goes.

/*
 * Every thread does its share of steps, whatever the others are at. What counts is what the
 * sanitizers say, and that nothing is left: a socket that kept its transport, a transport that kept
 * its socket, a count of the backlog that went wrong.
 */
#include "pair.h"
#include "vsock/sock.h"
#include "vsock/transport/device.h"

#include <pthread.h>

#define GUEST   3
#define STEPS   4000
#define SHARED  4
#define THREADS 7

static struct uvirt_vsock *v;
static sock *shared[SHARED]; /* used by everybody, closed by nobody */
static sock *l;
static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER; /* the owner's, of (dev) itself */
static struct vsock_device *dev;

static void make_device(void)
{
    struct vsock_device_config config = {.guest_cid = GUEST};

    if (vsock_device_create(v, &config, &dev))
        exit(99);
    vsock_device_start(dev, true, true);
}

/* The device is reset, stopped, started, and made anew. */
static void *device(void *arg)
{
    unsigned seed = 1;

    for (unsigned i = 0; i < STEPS; i++) {
        pthread_mutex_lock(&device_lock);
        switch (rand_r(&seed) % 4) {
        case 0:
            vsock_device_reset(dev);
            break;
        case 1:
            vsock_device_stop(dev);
            vsock_device_start(dev, rand_r(&seed) % 2, true);
            break;
        case 2:
            vsock_device_free(dev);
            make_device();
            break;
        default:
            vsock_device_stop(dev);
            vsock_device_start(dev, true, true);
            break;
        }
        pthread_mutex_unlock(&device_lock);
        sched_yield();
    }
    return arg;
}

/* The guest: requests of its own, answers to some of ours, and bytes where there may be nobody. */
static void *guest(void *arg)
{
    static const u16 ops[] = {VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RST, VIRTIO_VSOCK_OP_RW,
                              VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_OP_CREDIT_UPDATE};
    unsigned seed = 2;

    for (unsigned i = 0; i < STEPS * 8; i++) {
        struct vsock_pkt *p, *q;

        pthread_mutex_lock(&device_lock);
        p = rand_r(&seed) % 2 ? vsock_device_next(dev, NULL) : NULL;
        q = vsock_pkt_alloc(0);
        q->hdr = (struct vsock_hdr){.src_cid = GUEST,
                                    .dst_cid = VMADDR_CID_HOST,
                                    .src_port = 1 + rand_r(&seed) % 8,
                                    .dst_port = PORT,
                                    .type = 1,
                                    .flags = 3,
                                    .op = ops[rand_r(&seed) % ARRAY_SIZE(ops)],
                                    .buf_alloc = 65536};
        if (p) {
            q->hdr.src_port = p->hdr.dst_port;
            q->hdr.dst_port = p->hdr.src_port;
            q->hdr.op = p->hdr.op == VIRTIO_VSOCK_OP_REQUEST ? VIRTIO_VSOCK_OP_RESPONSE : q->hdr.op;
        }
        vsock_device_done(dev, p);
        vsock_device_input(dev, q);
        pthread_mutex_unlock(&device_lock);
    }
    return arg;
}

/* One of the shared sockets: connect over one transport and the other, options, poll, data. */
static void *user(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    char byte = 0;

    for (unsigned i = 0; i < STEPS; i++) {
        sock *s = shared[rand_r(&seed) % SHARED];

        switch (rand_r(&seed) % 8) {
        case 0:
        case 1:
            do_connect(s, rand_r(&seed) % 3 ? GUEST : VMADDR_CID_LOCAL, PORT, true);
            break;
        case 2:
            set_size(s, SO_VM_SOCKETS_BUFFER_SIZE, 128 + rand_r(&seed) % 100000);
            break;
        case 3:
            do_send(s, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
            break;
        case 4:
            do_recv(s, &byte, 1, MSG_DONTWAIT, NULL);
            break;
        case 5:
            uvirt_vsock_shutdown(s, rand_r(&seed) % 3);
            break;
        case 6:
            get_int(s, SO_ERROR);
            break;
        default:
            uvirt_vsock_poll(s);
            break;
        }
    }
    return arg;
}

/* Sockets of its own: connects that are given up, blocking ones that end with the device. */
static void *owner(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < STEPS / 4; i++) {
        sock *s = new_sock(v, rand_r(&seed) % 2 ? SOCK_STREAM : SOCK_SEQPACKET);

        set_ms(s, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, 1);
        do_connect(s, GUEST, PORT, rand_r(&seed) % 4);
        if (rand_r(&seed) % 2)
            do_connect(s, VMADDR_CID_LOCAL, PORT, true);
        uvirt_vsock_close(s);
    }
    return arg;
}

static void *acceptor(void *arg)
{
    for (unsigned i = 0; i < STEPS * 4; i++) {
        sock *s = do_accept(l);

        if (s)
            uvirt_vsock_close(s);
        else
            sched_yield();
    }
    return arg;
}

int main(void)
{
    static void *(*const bodies[THREADS])(void *) = {device, guest,    user, user,
                                                     owner,  acceptor, owner};
    pthread_t threads[THREADS];
    sock *s, *p[2] = {NULL};

    v = context(VMADDR_CID_HOST, false, false);
    make_device();
    l = listener(v, SOCK_STREAM, PORT, 4);
    for (unsigned i = 0; i < SHARED; i++)
        shared[i] = new_sock(v, SOCK_STREAM);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, bodies[i], (void *)(i + 10));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ok(true, "CVE-2018-14625, CVE-2025-38461: packets and connects while the device goes");
    ok(true,
       "CVE-2021-26708, CVE-2025-21756: options, connects and binds while the transport changes");
    while ((s = do_accept(l)))
        uvirt_vsock_close(s);
    vsock_device_stop(dev);
    for (unsigned i = 0; i < 3; i++) {
        p[0] = new_sock(v, SOCK_STREAM);
        ok(!do_connect(p[0], VMADDR_CID_LOCAL, PORT, false) && (p[1] = do_accept(l)),
           "CVE-2026-46214: the backlog has its room back");
        if (p[1])
            close_pair(p);
    }
    for (unsigned i = 0; i < SHARED; i++)
        uvirt_vsock_close(shared[i]);
    uvirt_vsock_close(l);
    vsock_device_free(dev);
    is_u64(((struct vsock_ctx *)v)->nr_socks, 0,
           "CVE-2022-48786, CVE-2024-50264: no socket stays in a table");
    uvirt_vsock_free(v);
    return tap_done();
}
