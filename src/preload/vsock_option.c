// SPDX-License-Identifier: MIT
// Socket options and ioctls of AF_VSOCK sockets, and /dev/vsock's.
#include "preload/raw.h"
#include "preload/vsock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

/* Below the limit where a larger queue is asked of the kernel; it asks for the double itself. */
#define QUEUE_MAX (64u << 20)

static int set_size(int fd, u64 tag, int name, u64 value)
{
    u64 size = tag & VSK_SIZE, min = VSK_BUFFER_MIN, max = VSK_BUFFER_SIZE;
    struct vsk_local *l;
    vsk_saved saved;
    int queue;

    vsk_lock(&saved);
    l = vsk_local(fd, true);
    if (l) {
        if (name == SO_VM_SOCKETS_BUFFER_MIN_SIZE)
            l->buffer_min = value;
        else if (name == SO_VM_SOCKETS_BUFFER_MAX_SIZE)
            l->buffer_max = value;
        min = l->buffer_min;
        max = l->buffer_max;
    }
    vsk_unlock(&saved);
    if (name == SO_VM_SOCKETS_BUFFER_SIZE)
        size = value;
    size = size < min ? min : size;
    size = size > max ? max : size;
    size = size > VSK_SIZE ? VSK_SIZE : size;
    vsk_put(fd, (tag & ~VSK_SIZE) | size);
    if (size > VSK_BUFFER_SIZE) { /* with the privilege, more fits into the queue */
        queue = (int)(size > QUEUE_MAX ? QUEUE_MAX : size);
        RAW(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUFFORCE, &queue, sizeof(queue));
    }
    return 0;
}

static int set_timeout(int fd, const void *value, socklen_t len)
{
    struct timeval tv;
    struct vsk_local *l;
    vsk_saved saved;

    if (len < sizeof(tv))
        return -EINVAL;
    memcpy(&tv, value, sizeof(tv));
    if (tv.tv_sec < 0 || tv.tv_usec < 0 || tv.tv_usec >= 1000000 ||
        tv.tv_sec > INT64_MAX / 1000000000)
        return -ERANGE;
    vsk_lock(&saved);
    l = vsk_local(fd, true);
    if (l)
        l->timeout = (u64)tv.tv_sec * 1000000000ull + (u64)tv.tv_usec * 1000ull;
    if (l && !l->timeout)
        l->timeout = VSK_TIMEOUT_NS;
    vsk_unlock(&saved);
    return l ? 0 : -ENOMEM;
}

static int set_vsock(int fd, u64 tag, int name, const void *value, socklen_t len)
{
    u64 v;

    switch (name) {
    case SO_VM_SOCKETS_BUFFER_SIZE:
    case SO_VM_SOCKETS_BUFFER_MIN_SIZE:
    case SO_VM_SOCKETS_BUFFER_MAX_SIZE:
        if (len < sizeof(v))
            return -EINVAL;
        if (!value)
            return -EFAULT;
        memcpy(&v, value, sizeof(v));
        return set_size(fd, tag, name, v);
    case SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD:
    case SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW:
        return value ? set_timeout(fd, value, len) : -EFAULT;
    default:
        return -ENOPROTOOPT;
    }
}

int vsk_setsockopt(int fd, u64 tag, int level, int name, const void *value, socklen_t len)
{
    int v = 0, rc;

    if (level == AF_VSOCK)
        return set_vsock(fd, tag, name, value, len);
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    if (value && len >= sizeof(v))
        memcpy(&v, value, sizeof(v));
    switch (name) {
    case SO_ZEROCOPY:
        if (len < sizeof(v) || v < 0 || v > 1)
            return -EINVAL;
        vsk_put(fd, v ? tag | VSK_ZEROCOPY : tag & ~VSK_ZEROCOPY);
        return 0;
    case SO_RCVLOWAT:
        if (!(tag & VSK_SEQ) && v > 0 && (u64)v > (tag & VSK_SIZE))
            return -EINVAL;
        rc = (int)RAW(SYS_setsockopt, fd, level, name, value, len);
        if (!rc && !(tag & VSK_SEQ))
            vsk_put(fd, v > 1 || v < 0 ? tag | VSK_LOWAT : tag & ~VSK_LOWAT);
        return rc;
    case SO_SNDBUF: /* these do nothing to a vsock; to what is beneath it they would */
    case SO_RCVBUF:
    case SO_PASSCRED:
    case SO_MAX_PACING_RATE:
        return len < sizeof(v) ? -EINVAL : 0;
    default:
        return (int)RAW(SYS_setsockopt, fd, level, name, value, len);
    }
}

static int give(const void *from, socklen_t size, void *value, socklen_t *len)
{
    if (!len || !value)
        return -EFAULT;
    if (*len < size)
        return -EINVAL;
    memcpy(value, from, size);
    *len = size;
    return 0;
}

static int get_vsock(int fd, u64 tag, int name, void *value, socklen_t *len)
{
    u64 size = tag & VSK_SIZE, min = VSK_BUFFER_MIN, max = VSK_BUFFER_SIZE, ns = VSK_TIMEOUT_NS;
    struct vsk_local *l;
    struct timeval tv;
    vsk_saved saved;

    vsk_lock(&saved);
    l = vsk_local(fd, false);
    if (l) {
        min = l->buffer_min;
        max = l->buffer_max;
        ns = l->timeout;
    }
    vsk_unlock(&saved);
    switch (name) {
    case SO_VM_SOCKETS_BUFFER_SIZE:
        return give(&size, sizeof(size), value, len);
    case SO_VM_SOCKETS_BUFFER_MIN_SIZE:
        return give(&min, sizeof(min), value, len);
    case SO_VM_SOCKETS_BUFFER_MAX_SIZE:
        return give(&max, sizeof(max), value, len);
    case SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD:
    case SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW:
        tv = (struct timeval){.tv_sec = (time_t)(ns / 1000000000),
                              .tv_usec = (suseconds_t)(ns / 1000 % 1000000)};
        return give(&tv, sizeof(tv), value, len);
    default:
        return -ENOPROTOOPT;
    }
}

/* SO_ERROR: how a connect() that did not wait has ended. */
static int take_error(int fd, u64 tag)
{
    struct vsk_local *l;
    vsk_saved saved;
    int rc = 0;

    if (tag & VSK_CONNECTING) {
        rc = vsk_finish(fd, &tag, 0);
        if (rc)
            return rc == -EAGAIN ? 0 : -rc;
    }
    vsk_lock(&saved);
    l = vsk_local(fd, false);
    if (l) {
        rc = l->error;
        l->error = 0;
    }
    vsk_unlock(&saved);
    return rc;
}

int vsk_getsockopt(int fd, u64 tag, int level, int name, void *value, socklen_t *len)
{
    int v;

    if (level == AF_VSOCK)
        return get_vsock(fd, tag, name, value, len);
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    switch (name) {
    case SO_DOMAIN:
        v = AF_VSOCK;
        break;
    case SO_ZEROCOPY:
        v = !!(tag & VSK_ZEROCOPY);
        break;
    case SO_ERROR:
        v = take_error(fd, tag);
        break;
    default:
        return (int)RAW(SYS_getsockopt, fd, level, name, value, len);
    }
    if (!value || !len)
        return -EFAULT;
    if (*len > sizeof(v))
        *len = sizeof(v);
    memcpy(value, &v, *len);
    return 0;
}

int vsk_readable(int fd)
{
    int n = 0;

    return RAW(SYS_ioctl, fd, SIOCINQ, &n) < 0 ? 0 : n;
}

/*
 * Bytes that the other end does not have. A program under the same directory has them as soon
 * as they are in its queue; of a guest, those that its device has not taken yet (the kernel
 * counts them with its own overhead).
 */
static int unsent(int fd, u64 tag, int *ret)
{
    if (tag & VSK_LISTEN)
        return -EINVAL;
    if (!(tag & VSK_CONNECTED))
        return -EOPNOTSUPP;
    if (tag & VSK_VM)
        return (int)RAW(SYS_ioctl, fd, SIOCOUTQ, ret);
    *ret = 0;
    return 0;
}

/* An open /dev/vsock is a /dev/null: a descriptor that is nothing else. */
static bool is_dev_vsock(int fd)
{
    struct stat st;

    return !RAW(SYS_fstat, fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

bool vsk_ioctl(int fd, unsigned long request, unsigned long arg, int *rc)
{
    u32 cid = VMADDR_CID_HOST;
    int n = 0;
    u64 tag;

    if (!vsk_dir)
        return false;
    if (request == IOCTL_VM_SOCKETS_GET_LOCAL_CID && is_dev_vsock(fd)) {
        *rc = arg ? 0 : -EFAULT;
        if (arg)
            memcpy((void *)arg, &cid, sizeof(cid));
        return true;
    }
    if ((request != SIOCOUTQ && request != SIOCINQ) || !vsk_get(fd, &tag))
        return false;
    if (request == SIOCINQ && tag & VSK_CONNECTED)
        return false; /* the kernel's */
    if (request == SIOCINQ)
        *rc = tag & VSK_LISTEN ? -EINVAL : -EOPNOTSUPP;
    else
        *rc = unsent(fd, tag, &n);
    if (!*rc && arg)
        memcpy((void *)arg, &n, sizeof(n));
    else if (!*rc)
        *rc = -EFAULT;
    return true;
}
