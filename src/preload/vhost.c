// SPDX-License-Identifier: MIT
// /dev/vhost-vsock for the program: descriptors that stand for devices of ours.

/*
 * A device's descriptor is a memfd of its own, known by its inode, so dup, fork and SCM_RIGHTS
 * leave it what it is. The device ends with the descriptor that opened it. Its guest's ports
 * on the host are below UVIRT_VSOCK_DIR (uvirt exec --vsock DIR).
 */
#include "preload/vhost.h"
#include "base/types.h"
#include "preload/preload.h"
#include "preload/raw.h"
#include "vhost/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE      "/dev/vhost-vsock"
#define DEVICES     16
#define VHOST_IOCTL 0xaf

/* Protected by (lock): which slot is whose. A device that is in use has its ioctls' own lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned nr_open;
static struct {
    struct vhost_vsock *device; /* NULL: free */
    int fd;
    dev_t dev;
    ino_t ino;
} devices[DEVICES];

/* The slot of (fd), or -1. Lock held. */
static int find(int fd)
{
    struct stat st;

    if (RAW(SYS_fstat, fd, &st))
        return -1;
    for (int i = 0; i < DEVICES; i++) {
        if (devices[i].device && devices[i].ino == st.st_ino && devices[i].dev == st.st_dev)
            return i;
    }
    return -1;
}

static int open_device(int flags)
{
    const char *dir = getenv("UVIRT_VSOCK_DIR");
    struct vhost_vsock *device;
    struct stat st;
    int i = 0, rc, fd;

    while (i < DEVICES && devices[i].device)
        i++;
    if (i == DEVICES)
        return -ENFILE;
    rc = vhost_vsock_create(dir && *dir == '/' ? dir : NULL, &device);
    if (rc)
        return rc;
    fd = memfd_create("vhost-vsock", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
    if (fd < 0 || RAW(SYS_fstat, fd, &st)) {
        rc = -errno;
        vhost_vsock_free(device);
        return rc;
    }
    devices[i].device = device;
    devices[i].fd = fd;
    devices[i].dev = st.st_dev;
    devices[i].ino = st.st_ino;
    nr_open++;
    return fd;
}

bool preload_vhost_open(const char *path, int flags, int *fd)
{
    int rc;

    if (strcmp(path, DEVICE) || !preload_has_kvm())
        return false;
    preload_inside++;
    pthread_mutex_lock(&lock);
    rc = open_device(flags);
    pthread_mutex_unlock(&lock);
    preload_inside--;
    if (rc < 0)
        errno = -rc;
    *fd = rc < 0 ? -1 : rc;
    return true;
}

bool preload_vhost_ioctl(int fd, unsigned long request, unsigned long arg, int *rc)
{
    struct vhost_vsock *device;
    long n;
    int i;

    if (!nr_open || (request >> 8 & 0xff) != VHOST_IOCTL)
        return false;
    pthread_mutex_lock(&lock);
    i = find(fd);
    device = i < 0 ? NULL : devices[i].device;
    pthread_mutex_unlock(&lock);
    if (!device)
        return false;
    preload_inside++;
    n = vhost_vsock_ioctl(device, (u32)request, arg);
    preload_inside--;
    if (n < 0)
        errno = (int)-n;
    *rc = n < 0 ? -1 : (int)n;
    return true;
}

void preload_vhost_close(int fd)
{
    struct vhost_vsock *device = NULL;
    int i;

    if (!nr_open)
        return;
    preload_inside++;
    pthread_mutex_lock(&lock);
    i = find(fd);
    if (i >= 0 && devices[i].fd == fd) {
        device = devices[i].device;
        devices[i].device = NULL;
        nr_open--;
    }
    pthread_mutex_unlock(&lock);
    vhost_vsock_free(device);
    preload_inside--;
}
