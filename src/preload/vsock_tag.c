// SPDX-License-Identifier: MIT
// Which descriptors are AF_VSOCK sockets of ours, and what this process remembers of them.
#include "preload/raw.h"
#include "preload/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCALS 1024

const char *vsk_dir;
bool vsk_with_kvm;
_Atomic bool vsk_had_connecting, vsk_had_lowat, vsk_had_zerocopy;

/* 0: not ours. */
static _Atomic u64 cache[VSK_CACHED];

static struct vsk_local locals[LOCALS]; /* protected by the lock */
static unsigned nr_locals;
static _Atomic int locked;
static int own_pid;

static bool read_tag(int fd, u64 *tag)
{
    socklen_t len = sizeof(*tag);
    u64 v = 0;

    if (RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_MAX_PACING_RATE, &v, &len) < 0 ||
        (v & VSK_MAGIC_MASK) != VSK_MAGIC)
        return false;
    *tag = v;
    return true;
}

bool vsk_in_vfork(void)
{
    return own_pid && RAW(SYS_getpid) != own_pid;
}

static void remember(int fd, u64 tag)
{
    if (fd < VSK_CACHED && cache[fd] != tag && (cache[fd] || !vsk_in_vfork()))
        cache[fd] = tag;
    if (tag & VSK_CONNECTING)
        vsk_had_connecting = true;
    if (tag & VSK_LOWAT)
        vsk_had_lowat = true;
}

bool vsk_get(int fd, u64 *tag)
{
    if (!vsk_dir || fd < 0 || (fd < VSK_CACHED && !cache[fd]))
        return false;
    if (!read_tag(fd, tag)) {
        vsk_forget(fd);
        return false;
    }
    remember(fd, *tag);
    return true;
}

bool vsk_peek(int fd, u64 *tag)
{
    u64 v;

    if (!vsk_dir || fd < 0)
        return false;
    if (fd >= VSK_CACHED)
        return read_tag(fd, tag);
    v = cache[fd];
    if (v & VSK_CONNECTING) /* another process may have ended that */
        return vsk_get(fd, tag);
    *tag = v;
    return v;
}

void vsk_put(int fd, u64 tag)
{
    RAW(SYS_setsockopt, fd, SOL_SOCKET, SO_MAX_PACING_RATE, &tag, sizeof(tag));
    remember(fd, tag);
}

void vsk_note(int fd)
{
    u64 tag;

    if (!vsk_dir || fd < 0)
        return;
    if (read_tag(fd, &tag))
        remember(fd, tag);
    else
        vsk_forget(fd);
}

void vsk_forget(int fd)
{
    if (fd >= 0 && fd < VSK_CACHED && cache[fd] && !vsk_in_vfork())
        cache[fd] = 0;
}

static void note_all(void)
{
    struct {
        u64 ino, off;
        u16 len;
        u8 type;
        char name[];
    } __attribute__((packed)) * d;
    char buffer[4096];
    long dir = RAW(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n;

    if (dir < 0) {
        for (int fd = 0; fd < 1024; fd++)
            vsk_note(fd);
        return;
    }
    while ((n = RAW(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0) {
        for (char *p = buffer; p < buffer + n; p += d->len) {
            d = (void *)p;
            if (d->name[0] != '.')
                vsk_note(atoi(d->name));
        }
    }
    RAW(SYS_close, dir);
}

static void in_child(void)
{
    locked = 0;
    own_pid = (int)RAW(SYS_getpid);
}

void vsk_start(const char *dir)
{
    static char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];

    if (strlen(dir) >= sizeof(copy))
        return;
    strcpy(copy, dir);
    own_pid = (int)RAW(SYS_getpid);
    pthread_atfork(NULL, NULL, in_child);
    vsk_dir = copy;
    note_all();
}

void vsk_lock(vsk_saved *saved)
{
    sigset_t all;

    sigfillset(&all);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, &all, saved, 8);
    while (atomic_exchange_explicit(&locked, 1, memory_order_acquire)) /* pairs with vsk_unlock() */
        RAW(SYS_sched_yield);
}

void vsk_unlock(const vsk_saved *saved)
{
    atomic_store_explicit(&locked, 0, memory_order_release); /* pairs with vsk_lock() */
    RAW(SYS_rt_sigprocmask, SIG_SETMASK, saved, NULL, 8);
}

struct vsk_local *vsk_local(int fd, bool create)
{
    struct vsk_local *l, *free = NULL;
    socklen_t len = sizeof(u64);
    u64 cookie = 0;

    if ((!create && !nr_locals) ||
        RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
        return NULL;
    for (l = locals; l < locals + nr_locals; l++) {
        if (l->cookie == cookie)
            return l;
        if (l->stale && !free)
            free = l;
    }
    if (!create)
        return NULL;
    if (nr_locals < LOCALS)
        free = &locals[nr_locals++];
    if (free)
        *free = (struct vsk_local){
            .cookie = cookie,
            .buffer_min = VSK_BUFFER_MIN,
            .buffer_max = VSK_BUFFER_SIZE,
            .timeout = VSK_TIMEOUT_NS,
            .peer_port = VMADDR_PORT_ANY,
        };
    return free;
}

void vsk_stale(int fd)
{
    struct vsk_local *l;
    vsk_saved saved;

    if (!nr_locals || vsk_in_vfork())
        return;
    vsk_lock(&saved);
    l = vsk_local(fd, false);
    if (l)
        l->stale = true;
    vsk_unlock(&saved);
}

u64 vsk_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}
