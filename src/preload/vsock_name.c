// SPDX-License-Identifier: MIT
// The addresses of AF_VSOCK sockets as Unix addresses: ports, paths, and who is at the other end.
#include "preload/raw.h"
#include "preload/vsock.h"
#include "vsock/transport/unix.h"
#include "vsock/transport/unix_name.h"
#include "vsock/transport/unix_record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LAST_RESERVED_PORT 1023
#define PORT_RETRIES       24 /* as many as Linux tries */

/* A Unix address of ours, read. */
struct name {
    enum { NAME_NONE, NAME_OTHER, NAME_PATH, NAME_ABSTRACT } kind;
    u32 cid, port;       /* of the path's last part, <cid>[_<port>], or of who connects */
    u32 to_cid, to_port; /* NAME_ABSTRACT of uvirt exec: what was dialled; else ANY */
    bool marks;
};

/* A decimal number at *p, which moves behind it. */
static bool decimal(const char **p, u32 *ret)
{
    u64 v = 0;
    const char *at = *p;

    while (*at >= '0' && *at <= '9' && v <= UINT32_MAX)
        v = v * 10 + (u64)(*at++ - '0');
    if (at == *p || v > UINT32_MAX)
        return false;
    *p = at;
    *ret = (u32)v;
    return true;
}

static bool hex8(const char *p, u32 *ret)
{
    u32 v = 0;

    for (int i = 0; i < 8; i++) {
        if (p[i] >= '0' && p[i] <= '9')
            v = v << 4 | (u32)(p[i] - '0');
        else if (p[i] >= 'a' && p[i] <= 'f')
            v = v << 4 | (u32)(p[i] - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

/* An address as the kernel gave it, with room for the NUL that it may lack. */
static void read_name(const struct sockaddr_un *addr, socklen_t len, struct name *n)
{
    char text[sizeof(addr->sun_path) + 1] = {0};
    size_t size = len > offsetof(struct sockaddr_un, sun_path)
                      ? len - offsetof(struct sockaddr_un, sun_path)
                      : 0;
    const char *p;

    *n = (struct name){.kind = size ? NAME_OTHER : NAME_NONE,
                       .to_cid = VMADDR_CID_ANY,
                       .to_port = VMADDR_PORT_ANY};
    if (!size)
        return;
    if (size > sizeof(addr->sun_path))
        size = sizeof(addr->sun_path);
    memcpy(text, addr->sun_path, size);
    if (!text[0]) {
        if (vsock_unix_peer(addr, len, &n->cid, &n->port))
            return;
        n->kind = NAME_ABSTRACT;
        n->marks = text[size - 1] == VSOCK_UNIX_MARKS_NAME;
        p = strchr(text + 1 + strlen(VSOCK_UNIX_PEER_NAME), '/');
        if (p && strlen(p + 1) >= 25 && (!hex8(p + 1, &n->to_cid) || !hex8(p + 9, &n->to_port)))
            n->to_cid = n->to_port = VMADDR_CID_ANY;
        return;
    }
    p = strrchr(text, '/');
    if (!p)
        return;
    n->marks = p - text >= 2 && !memcmp(p - 2, VSOCK_UNIX_MARKS_PATH, 3);
    n->port = VMADDR_PORT_ANY;
    p++;
    if (decimal(&p, &n->cid) && (*p != '_' || !(p++, decimal(&p, &n->port)) || true))
        n->kind = NAME_PATH;
}

static void own_name(int fd, long call, struct sockaddr_un *addr, struct name *n)
{
    socklen_t len = sizeof(*addr);

    if (RAW(call, fd, addr, &len) < 0)
        len = 0;
    if (len > sizeof(*addr))
        len = sizeof(*addr);
    read_name(addr, len, n);
}

int vsk_path(struct sockaddr_un *ret, u32 cid, u32 port, bool seq)
{
    const char *type = seq ? VSOCK_UNIX_SEQPACKET : "";
    int n;

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (cid > VMADDR_CID_HOST)
        n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%u%s", vsk_dir, cid, type);
    else
        n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s" VSOCK_UNIX_MARKS_PATH "%u_%u%s",
                     vsk_dir, VMADDR_CID_HOST, port, type);
    return n < (int)sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

/* Ports are taken and given back one process at a time. The descriptor, or -errno. */
static int lock_dir(void)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int fd, rc;

    snprintf(path, sizeof(path), "%s/.lock", vsk_dir);
    fd = (int)RAW(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return fd;
    do
        rc = (int)RAW(SYS_flock, fd, LOCK_EX);
    while (rc == -EINTR);
    return fd;
}

enum life { FREE, DEAD, ALIVE };

/*
 * Is a socket bound to the path of (addr)? A datagram socket cannot connect to any of ours,
 * but what it is told differs: a live socket is of another type, a dead one refuses.
 */
static enum life probe(const struct sockaddr_un *addr)
{
    int fd = (int)RAW(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    long rc;

    if (fd < 0)
        return ALIVE;
    rc = RAW(SYS_connect, fd, addr, sizeof(*addr));
    RAW(SYS_close, fd);
    return rc == -ENOENT ? FREE : rc == -ECONNREFUSED ? DEAD : ALIVE;
}

/* Is (port) free for a bind? The types share ports. Removes what dead sockets have left. */
static bool port_free(u32 port)
{
    for (int seq = 0; seq < 2; seq++) {
        struct sockaddr_un addr;
        enum life life;

        if (vsk_path(&addr, VMADDR_CID_HOST, port, seq))
            return false;
        life = probe(&addr);
        if (life == ALIVE)
            return false;
        if (life == DEAD)
            RAW(SYS_unlink, addr.sun_path);
    }
    return true;
}

static bool may_bind_reserved(void)
{
    struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    return RAW(SYS_capget, &hdr, data) == 0 && data[0].effective & BIT(CAP_NET_BIND_SERVICE);
}

static u32 random_u32(void)
{
    u32 v = 0;

    if (RAW(SYS_getrandom, &v, sizeof(v), 1 /* GRND_NONBLOCK */) != sizeof(v))
        v = (u32)vsk_now() * 2654435761u;
    return v;
}

static u32 random_port(void)
{
    u32 v;

    do
        v = random_u32();
    while (v <= LAST_RESERVED_PORT || v == VMADDR_PORT_ANY);
    return v;
}

static int choose_port(u32 wanted, u32 *ret)
{
    u32 port = wanted;

    if (wanted != VMADDR_PORT_ANY) {
        if (wanted <= LAST_RESERVED_PORT && !may_bind_reserved())
            return -EACCES;
        if (!port_free(wanted))
            return -EADDRINUSE;
    } else {
        int i;

        port = random_port();
        for (i = 0; i < PORT_RETRIES && !port_free(port); i++)
            port = random_port();
        if (i == PORT_RETRIES)
            return -EADDRNOTAVAIL;
    }
    *ret = port;
    return 0;
}

int vsk_bind(int fd, u64 tag, const struct sockaddr *sa, socklen_t len)
{
    struct sockaddr_un addr;
    struct sockaddr_vm vm;
    struct name n;
    int lock, rc;
    u32 port;

    if (len < sizeof(vm))
        return -EINVAL;
    memcpy(&vm, sa, sizeof(vm));
    if (vm.svm_family != AF_VSOCK || vm.svm_flags & ~VMADDR_FLAG_TO_HOST)
        return -EINVAL;
    own_name(fd, SYS_getsockname, &addr, &n);
    if (n.kind != NAME_NONE)
        return -EINVAL;
    if (vm.svm_cid != VMADDR_CID_ANY && vm.svm_cid != VMADDR_CID_LOCAL &&
        vm.svm_cid != VMADDR_CID_HOST)
        return -EADDRNOTAVAIL;
    lock = lock_dir();
    if (lock < 0)
        return lock;
    rc = choose_port(vm.svm_port, &port);
    if (!rc)
        rc = vsk_path(&addr, VMADDR_CID_HOST, port, tag & VSK_SEQ);
    if (!rc)
        rc = (int)RAW(SYS_bind, fd, &addr, sizeof(addr));
    RAW(SYS_close, lock);
    if (rc)
        return rc;
    tag |= VSK_BOUND;
    if (vm.svm_cid != VMADDR_CID_ANY)
        tag |= (u64)vm.svm_cid << VSK_CID_SHIFT;
    vsk_put(fd, tag);
    return 0;
}

void vsk_rebind(int fd, const struct sockaddr_un *addr)
{
    int lock = lock_dir();

    if (lock < 0)
        return;
    if (probe(addr) == DEAD)
        RAW(SYS_unlink, addr->sun_path);
    RAW(SYS_bind, fd, addr, sizeof(*addr));
    RAW(SYS_close, lock);
}

int vsk_autobind(int fd, u64 tag, u32 cid, u32 port)
{
    struct sockaddr_un addr;
    struct name n;
    size_t len;
    u32 own;

    own_name(fd, SYS_getsockname, &addr, &n);
    if (n.kind != NAME_NONE)
        return 0;
    do
        own = random_port();
    while (!port_free(own));
    addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    len = (size_t)snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1,
                           VSOCK_UNIX_PEER_NAME "%u:%u/%08x%08x%08x%c", VMADDR_CID_HOST, own, cid,
                           port, random_u32(), VSOCK_UNIX_MARKS_NAME);
    return (int)RAW(SYS_bind, fd, &addr, offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

int vsk_sockname(int fd, u64 tag, struct sockaddr_vm *ret)
{
    struct sockaddr_vm vm = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    u32 cid = (u32)((tag & VSK_CID) >> VSK_CID_SHIFT);
    struct sockaddr_un addr;
    struct name n;

    own_name(fd, SYS_getsockname, &addr, &n);
    if (n.kind == NAME_PATH || n.kind == NAME_ABSTRACT)
        vm.svm_port = n.port;
    if (cid)
        vm.svm_cid = cid;
    *ret = vm;
    return 0;
}

/* Who called us. A host program's own CID is 1 when it calls another one, as in Linux. */
static void caller(const struct name *n, struct sockaddr_vm *vm)
{
    vm->svm_cid = n->kind == NAME_ABSTRACT && n->cid > VMADDR_CID_HOST ? n->cid : VMADDR_CID_LOCAL;
    vm->svm_port = n->kind == NAME_PATH || n->kind == NAME_ABSTRACT ? n->port : VMADDR_PORT_ANY;
}

int vsk_peername(int fd, u64 tag, struct sockaddr_vm *ret)
{
    struct sockaddr_vm vm = {.svm_family = AF_VSOCK};
    struct sockaddr_un addr;
    struct vsk_local *l;
    struct name peer, own;
    vsk_saved saved;

    if (!(tag & VSK_CONNECTED))
        return -ENOTCONN;
    own_name(fd, SYS_getpeername, &addr, &peer);
    if (tag & VSK_ACCEPTED) {
        caller(&peer, &vm);
        *ret = vm;
        return 0;
    }
    own_name(fd, SYS_getsockname, &addr, &own);
    vm.svm_cid = tag & VSK_VM ? peer.cid : own.to_cid;
    if (vm.svm_cid == VMADDR_CID_ANY)
        vm.svm_cid = VMADDR_CID_HOST;
    vm.svm_port = tag & VSK_VM ? own.to_port : peer.port;
    vsk_lock(&saved);
    l = tag & VSK_VM ? vsk_local(fd, false) : NULL;
    if (l && l->peer_port != VMADDR_PORT_ANY)
        vm.svm_port = l->peer_port;
    vsk_unlock(&saved);
    *ret = vm;
    return 0;
}

u64 vsk_accepted(u64 listener, const struct sockaddr_un *addr, socklen_t len)
{
    u64 tag = (listener & (VSK_MAGIC_MASK | VSK_SEQ | VSK_SIZE)) | VSK_CONNECTED | VSK_ACCEPTED;
    u32 cid = VMADDR_CID_HOST;
    struct name n;

    read_name(addr, len, &n);
    if (n.marks && tag & VSK_SEQ)
        tag |= VSK_MARKS;
    if (n.kind == NAME_PATH || n.to_cid == VMADDR_CID_LOCAL)
        cid = VMADDR_CID_LOCAL;
    else if (n.kind == NAME_ABSTRACT && n.cid > VMADDR_CID_HOST)
        tag |= VSK_VM;
    return tag | (u64)cid << VSK_CID_SHIFT;
}

bool vsk_peer_marks(int fd)
{
    struct sockaddr_un addr;
    struct name n;

    own_name(fd, SYS_getpeername, &addr, &n);
    return n.marks;
}

bool vsk_own_path(int fd, struct sockaddr_un *ret)
{
    struct name n = {0};
    u64 tag;

    if (!vsk_get(fd, &tag) || !(tag & VSK_BOUND))
        return false;
    own_name(fd, SYS_getsockname, ret, &n);
    return n.kind == NAME_PATH;
}

void vsk_remove_dead(const struct sockaddr_un *addr)
{
    int lock = lock_dir();

    if (lock >= 0 && probe(addr) == DEAD)
        RAW(SYS_unlink, addr->sun_path);
    if (lock >= 0)
        RAW(SYS_close, lock);
}

int vsk_close(int fd)
{
    struct sockaddr_un addr;
    bool bound = vsk_own_path(fd, &addr);
    int rc;

    vsk_stale(fd);
    vsk_forget(fd); /* before another thread is given the number */
    rc = (int)RAW(SYS_close, fd);
    if (bound)
        vsk_remove_dead(&addr);
    return rc;
}
