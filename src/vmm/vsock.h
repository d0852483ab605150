// SPDX-License-Identifier: MIT
// A VM's vsock device with its host: the AF_VSOCK context, the bridge to Unix sockets, and their thread.
#pragma once

#include "vmm/vm.h"
#include "vsock/transport/unix.h"

struct vm_vsock;

struct vm_vsock_options {
    u32 cid;
    const char *path; /* see vsock/transport/unix.h; NULL: nothing in the file system */
    bool marker;      /* records in marker framing, but for those of CONTROL_PORT */
    const char *dump; /* a file for vsock_capture_start(); NULL: none */
};

/*
 * A vsock device for vm_add_virtio(), which is the caller's until then; the context behind it
 * and the thread that moves packets to it. 0, or -errno and a sentence: as
 * vsock_unix_create().
 */
int vm_vsock_create(struct vm *vm, const struct vm_vsock_options *o, struct virtio_device **ret_dev,
                    struct vm_vsock **ret, struct vmm_error *err);

/* After a snapshot was loaded and the VM runs: tell the guest, which may be idle, that its connections are gone. */
void vm_vsock_restored(struct vm_vsock *v);

/* The host's context, for sockets of this process. */
struct uvirt_vsock *vm_vsock_context(struct vm_vsock *v);

/*
 * In this order: stop after vm_stop(), close all sockets of the context, vm_free(), free. NULL is
 * fine.
 */
void vm_vsock_stop(struct vm_vsock *v);
void vm_vsock_free(struct vm_vsock *v);
