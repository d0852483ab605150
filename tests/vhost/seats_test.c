// SPDX-License-Identifier: MIT
// A guest's seat and a device that know each other through a vhost-user socket alone; the device goes and comes back.
#include "pair.h"

#include "vhost/frontend.h"

#define BYTES (3u << 20)
#define TYPES                                                                                      \
    (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |                                  \
     BIT(VIRTIO_VSOCK_F_NO_IMPLIED_STREAM))
#define ALL                                                                                        \
    (TYPES | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                     \
     BIT(VIRTIO_F_IN_ORDER))

static char path[] = "/tmp/uvirt-vhost-XXXXXX/device";

/* (p)[0] in the guest, (p)[1] on the host. */
static int join(struct uvirt_vsock *guest, struct uvirt_vsock *host, int type, sock *p[2])
{
    sock *l = listener(host, type, PORT, 4);
    int rc;

    p[0] = new_sock(guest, type);
    rc = do_connect(p[0], VMADDR_CID_HOST, PORT, false);
    if (!rc && uvirt_vsock_accept(l, false, &p[1]))
        rc = -errno;
    uvirt_vsock_close(l);
    return rc;
}

static void test_transfer(const char *name, u64 features, unsigned tx_descs, u32 rx_size)
{
    struct vsock_driver_options o = {
        .features = features, .tx_descs = tx_descs, .rx_size = rx_size};
    struct uvirt_vsock *guest = context(77, false, false);
    struct device d = {0};
    struct vhost_frontend *f;
    sock *p[2];
    int rc;

    device_open(&d, path);
    rc = vhost_frontend_create(guest, path, &o, &f);
    if (!is_u64(rc, 0, "%s: a front end", name))
        exit(1);
    is_u64(uvirt_vsock_local_cid(guest), GUEST_CID, "%s: the device gives the CID", name);
    if (is_u64(join(guest, d.host, SOCK_STREAM, p), 0, "%s: connect", name))
        transfer(p, BYTES, name);
    close_pair(p);
    if (is_u64(join(guest, d.host, SOCK_SEQPACKET, p), 0, "%s: connect", name))
        transfer(p, BYTES, name);
    close_pair(p);
    vhost_frontend_free(f);
    uvirt_vsock_free(guest);
    device_close(&d);
    uvirt_vsock_free(d.host);
}

static void wait_generation(struct vhost_frontend *f, unsigned n)
{
    for (int i = 0; i < 1000 && vhost_frontend_generation(f) < n; i++)
        usleep(10000);
    is_u64(vhost_frontend_generation(f), n, "the seat has found the device again");
}

static void test_reconnect(void)
{
    struct vsock_driver_options o = {.features = ALL | BIT(VIRTIO_F_RING_PACKED)};
    struct uvirt_vsock *guest = context(77, false, false);
    struct device d = {0};
    struct vhost_frontend *f;
    sock *p[2], *old[2];
    char c;

    device_open(&d, path);
    if (vhost_frontend_create(guest, path, &o, &f) || join(guest, d.host, SOCK_STREAM, old))
        exit(1);
    for (unsigned n = 2; n < 5; n++) {
        device_close(&d);
        is_u64(do_recv(old[0], &c, 1, 0, NULL), -ECONNRESET, "the device went: the guest's end");
        is_u64(do_recv(old[1], &c, 1, 0, NULL), -ECONNRESET, "... and the host's");
        close_pair(old);
        device_open(&d, path);
        wait_generation(f, n);
        is_u64(join(guest, d.host, SOCK_SEQPACKET, p), 0, "connections can be made again");
        transfer(p, 100000, "after it came back");
        close_pair(p);
        is_u64(join(guest, d.host, SOCK_STREAM, old), 0, "one more");
    }
    close_pair(old);
    vhost_frontend_free(f);
    uvirt_vsock_free(guest);
    device_close(&d);
    uvirt_vsock_free(d.host);
}

int main(void)
{
    struct vsock_driver_options o = {.features = ALL};
    struct uvirt_vsock *guest;
    struct vhost_frontend *f;

    *strrchr(path, '/') = 0;
    if (!mkdtemp(path))
        return 99;
    path[strlen(path)] = '/';
    guest = context(77, false, false);
    is_u64(vhost_frontend_create(guest, path, &o, &f), -ENOENT, "no device there");
    uvirt_vsock_free(guest);
    test_transfer("split", TYPES, 1, 0);
    test_transfer("split, all features", ALL, 3, 65580);
    test_transfer("packed, all features", ALL | BIT(VIRTIO_F_RING_PACKED), 2, 0);
    test_reconnect();
    *strrchr(path, '/') = 0;
    rmdir(path);
    return tap_done();
}
