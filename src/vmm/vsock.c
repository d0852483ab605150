// SPDX-License-Identifier: MIT
// Puts the parts of a VM's vsock together; the bridge's thread moves packets under the device lock.
#include "vmm/vsock.h"
#include "virtio/vsock.h"
#include "vmm/control.h"
#include "vsock/capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct vm_vsock {
    struct vm *vm;
    struct uvirt_vsock *context;
    struct vsock_unix *bridge;
    struct virtio_device *dev;
};

/* struct vsock_unix_config's. */
static void pump(void *opaque)
{
    struct vm_vsock *v = opaque;
    struct board *b = vm_board(v->vm);

    pthread_mutex_lock(&b->lock);
    virtio_vsock_pump(v->dev);
    pthread_mutex_unlock(&b->lock);
}

static bool rest(void *opaque)
{
    struct vm_vsock *v = opaque;
    struct board *b = vm_board(v->vm);
    bool more;

    pthread_mutex_lock(&b->lock);
    more = virtio_vsock_rest(v->dev);
    pthread_mutex_unlock(&b->lock);
    return more;
}

int vm_vsock_create(struct vm *vm, const struct vm_vsock_options *o, struct virtio_device **ret_dev,
                    struct vm_vsock **ret, struct vmm_error *err)
{
    struct uvirt_vsock_config host = {
        .size = sizeof(host), .cid = VMADDR_CID_HOST, .privileged = true};
    struct vsock_unix_config bridge = {.guest_cid = o->cid, .path = o->path, .marker = o->marker};
    struct virtio_vsock_options device = {
        .guest_cid = o->cid, .marker = o->marker, .eom_port = CONTROL_PORT};
    struct vm_vsock *v = calloc(1, sizeof(*v));
    char why[VSOCK_UNIX_WHY];
    int rc;

    if (!v)
        return vmm_fail(err, -ENOMEM, "out of memory");
    v->vm = vm;
    if (uvirt_vsock_create(&host, &v->context)) {
        rc = vmm_fail(err, -errno, "out of memory");
        goto err_free;
    }
    rc = o->dump ? vsock_capture_start(v->context, o->dump) : 0;
    if (rc) {
        vmm_fail(err, rc, "dump=%s: %s", o->dump, strerror(-rc));
        goto err_free;
    }
    bridge.pump = pump;
    bridge.rest = rest;
    bridge.opaque = v;
    rc = vsock_unix_create(v->context, &bridge, why, &v->bridge);
    if (rc) {
        vmm_fail(err, rc, "%s", why);
        goto err_free;
    }
    device.kick = vsock_unix_kick;
    device.deferred = true;
    device.opaque = v->bridge;
    rc = virtio_vsock_create(v->context, &device, &v->dev);
    if (rc) {
        vmm_fail(err, rc, "%s", strerror(-rc));
        goto err_free;
    }
    *ret_dev = v->dev;
    *ret = v;
    return 0;

err_free:
    vm_vsock_stop(v);
    vm_vsock_free(v);
    return rc;
}

void vm_vsock_restored(struct vm_vsock *v)
{
    vsock_unix_kick(v->bridge);
}

struct uvirt_vsock *vm_vsock_context(struct vm_vsock *v)
{
    return v->context;
}

void vm_vsock_stop(struct vm_vsock *v)
{
    if (v)
        vsock_unix_stop(v->bridge);
}

void vm_vsock_free(struct vm_vsock *v)
{
    if (!v)
        return;
    vsock_unix_free(v->bridge);
    uvirt_vsock_free(v->context);
    free(v);
}
