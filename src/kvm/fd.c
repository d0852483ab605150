// SPDX-License-Identifier: MIT
// Descriptors: real ones, and the objects they stand for.

/*
 * Theory of operation
 *
 * Every descriptor is a memfd of its own, so it can be polled, dup'ed, inherited and passed around,
 * and mmap() of a vCPU's is the real call. The memfd's inode names the object: a number that is not in
 * the table yet (from dup() or SCM_RIGHTS) is looked up by inode and entered.
 *
 * References: one per table entry, one per ioctl under way, one per vCPU on its VM. When the last entry of an
 * object goes, /proc/self/fd is asked whether a duplicate is still open.
 *
 * fork() copies objects but not the threads that serve them. A child sees its parent's
 * objects as foreign: ioctls on them fail with EIO as in KVM, and closing them destroys nothing.
 *
 * A descriptor that came through exec() or SCM_RIGHTS has no object here. The memfd's name and seals tell
 * what it is: a system descriptor gets an object of this process, any other a foreign one.
 */

#include "kvm/kvm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    /* protected by (lock) */
    struct kvm_object **at; /* by descriptor */
    int size;
    struct kvm_object *all;
    unsigned generation; /* forks behind us */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

static void fork_prepare(void) { pthread_mutex_lock(&table.lock); }
static void fork_parent(void) { pthread_mutex_unlock(&table.lock); }

static void fork_child(void)
{
    table.generation++;
    pthread_mutex_unlock(&table.lock);
}

static void first_use(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void kvm_object_init(struct kvm_object *o, enum kvm_class class, void (*destroy)(struct kvm_object *))
{
    pthread_once(&table.once, first_use);
    *o = (struct kvm_object){.class = class, .destroy = destroy, .refs = 1, .generation = table.generation};
}

void kvm_object_get(struct kvm_object *o)
{
    pthread_mutex_lock(&table.lock);
    o->refs++;
    pthread_mutex_unlock(&table.lock);
}

static void unlink_locked(struct kvm_object *o)
{
    for (struct kvm_object **p = &table.all; *p; p = &(*p)->next) {
        if (*p == o) {
            *p = o->next;
            return;
        }
    }
}

void kvm_object_put(struct kvm_object *o)
{
    bool last;

    pthread_mutex_lock(&table.lock);
    last = --o->refs == 0;
    if (last)
        unlink_locked(o);
    pthread_mutex_unlock(&table.lock);
    if (last && (o->stray || !kvm_object_foreign(o)))
        o->destroy(o);
}

bool kvm_object_foreign(const struct kvm_object *o)
{
    return o->class != KVM_CLASS_SYSTEM && (o->stray || o->generation != table.generation);
}

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

int kvm_fd_make(const char *name, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, SEALS)) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int reserve_locked(int fd)
{
    int size = fd + 64;
    struct kvm_object **at;

    if (fd < table.size)
        return 0;
    at = realloc(table.at, (size_t)size * sizeof(*at));
    if (!at)
        return -ENOMEM;
    memset(at + table.size, 0, (size_t)(size - table.size) * sizeof(*at));
    table.at = at;
    table.size = size;
    return 0;
}

/* Empty entry (fd). Returns the object whose reference is now the caller's to drop, or NULL. */
static struct kvm_object *evict_locked(int fd)
{
    struct kvm_object *o = fd < table.size ? table.at[fd] : NULL;

    if (o) {
        table.at[fd] = NULL;
        o->fds--;
    }
    return o;
}

int kvm_fd_bind(int fd, struct kvm_object *o)
{
    struct kvm_object *stale = NULL;
    struct stat st;
    int rc;

    if (fstat(fd, &st))
        return -errno;
    pthread_mutex_lock(&table.lock);
    rc = reserve_locked(fd);
    if (!rc) {
        stale = evict_locked(fd); /* closed behind our back, and the number was given out again */
        o->dev = st.st_dev;
        o->ino = st.st_ino;
        o->fds = 1;
        o->next = table.all;
        table.all = o;
        table.at[fd] = o;
    }
    pthread_mutex_unlock(&table.lock);
    if (stale)
        kvm_object_put(stale);
    return rc;
}

static bool same_inode(const struct kvm_object *o, const struct stat *st)
{
    return o->ino == st->st_ino && o->dev == st->st_dev;
}

/* Enter (fd) for the object with its inode, if there is one. */
static struct kvm_object *adopt_locked(int fd, const struct stat *st)
{
    struct kvm_object *o = table.all;

    while (o && !same_inode(o, st))
        o = o->next;
    if (!o || reserve_locked(fd))
        return NULL;
    table.at[fd] = o;
    o->fds++;
    o->refs++;
    return o;
}

static void stray_destroy(struct kvm_object *o) { free(o); }

/* What (fd) is by the name of its memfd, or KVM_CLASS_COUNT. */
static enum kvm_class class_of(int fd)
{
    static const char prefix[] = "/memfd:kvm";
    char link[32], name[64];
    const char *rest = name + sizeof(prefix) - 1;
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, name, sizeof(name) - 1);
    if (n < (ssize_t)sizeof(prefix) - 1 || fcntl(fd, F_GET_SEALS) != SEALS)
        return KVM_CLASS_COUNT;
    name[n] = 0;
    if (memcmp(name, prefix, sizeof(prefix) - 1))
        return KVM_CLASS_COUNT;
    if (!strcmp(rest, " (deleted)"))
        return KVM_CLASS_SYSTEM;
    if (!strcmp(rest, "-vm (deleted)"))
        return KVM_CLASS_VM;
    return !strncmp(rest, "-vcpu:", 6) ? KVM_CLASS_VCPU : KVM_CLASS_COUNT;
}

/* Enter (fd), which came from another process, with an object of its own. NULL: it is nothing of KVM's. */
static struct kvm_object *take_in_locked(int fd, const struct stat *st)
{
    enum kvm_class class = st->st_nlink ? KVM_CLASS_COUNT : class_of(fd);
    struct kvm_object *o = class == KVM_CLASS_COUNT || reserve_locked(fd) ? NULL : malloc(sizeof(*o));

    if (!o)
        return NULL;
    pthread_once(&table.once, first_use);
    *o = (struct kvm_object){.class = class, .destroy = stray_destroy, .refs = 1, .fds = 1, .stray = true,
                             .generation = table.generation, .dev = st->st_dev, .ino = st->st_ino, .next = table.all};
    table.all = o;
    table.at[fd] = o;
    return o;
}

/* The object behind (fd), no reference taken; *stale is one to drop after unlocking. */
static struct kvm_object *lookup_locked(int fd, bool take_in, struct kvm_object **stale)
{
    struct kvm_object *o = fd < table.size ? table.at[fd] : NULL;
    struct stat st;
    bool open = !fstat(fd, &st);

    *stale = NULL;
    if (o && open && same_inode(o, &st))
        return o;
    if (o)
        *stale = evict_locked(fd);
    if (!open)
        return NULL;
    o = adopt_locked(fd, &st);
    return o || !take_in ? o : take_in_locked(fd, &st);
}

struct kvm_object *kvm_fd_get(int fd, bool hot)
{
    struct kvm_object *o, *stale = NULL;

    if (fd < 0)
        return NULL;
    pthread_mutex_lock(&table.lock);
    o = hot && fd < table.size ? table.at[fd] : NULL;
    if (!o)
        o = lookup_locked(fd, true, &stale);
    if (o)
        o->refs++;
    pthread_mutex_unlock(&table.lock);
    if (stale)
        kvm_object_put(stale);
    return o;
}

/* An open duplicate of a descriptor of (o) that the table does not know, or -1. */
static int find_dup_locked(const struct kvm_object *o)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    struct stat st;
    int fd = -1;

    if (!d)
        return -1;
    while (fd < 0 && (e = readdir(d))) {
        int n = atoi(e->d_name);

        if (e->d_name[0] != '.' && n != dirfd(d) && !fstat(n, &st) && same_inode(o, &st))
            fd = n;
    }
    closedir(d);
    return fd;
}

int kvm_fd_close(int fd)
{
    struct kvm_object *o, *stale = NULL;
    int dup;

    if (fd < 0)
        return -EBADF;
    pthread_mutex_lock(&table.lock);
    o = lookup_locked(fd, false, &stale);
    if (o) {
        syscall(SYS_close, fd); /* close() may be what brought us here, in a program that we are preloaded into */
        evict_locked(fd);
        dup = o->fds ? -1 : find_dup_locked(o);
        if (dup >= 0 && !reserve_locked(dup)) {
            table.at[dup] = o; /* keeps the reference */
            o->fds++;
            pthread_mutex_unlock(&table.lock);
            return 0;
        }
    }
    pthread_mutex_unlock(&table.lock);
    if (stale)
        kvm_object_put(stale);
    if (!o)
        return -EBADF;
    kvm_object_put(o);
    return 0;
}
